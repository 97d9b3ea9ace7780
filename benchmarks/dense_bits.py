"""Time of layers with weights of 8, 6, 4 and 2 bits, also in groups, on one thread.

    python benchmarks/dense_bits.py --target x86-vnni

Fully connected layers of one input, whose weights are larger than any cache or fit the second one,
and two convolutions, which read each weight many times. All widths take turns; ``4g64`` has a scale
for every 64 input channels.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from layers import caller, repeated

from tvm_probq.bench import timing
from tvm_probq.bench.machine import machine
from tvm_probq.bench.threads import use_threads

if TYPE_CHECKING:
    from tvm_probq.kernels.spec import LayerSpec
    from tvm_probq.target.profile import TargetProfile

FORMS = ((8, 0), (6, 0), (4, 0), (2, 0), (6, 64), (4, 128), (4, 64), (4, 32))  # bits, group
# Height and width, input channels, output channels, kernel.
SHAPES = ((1, 4096, 32768, 1), (1, 768, 1024, 1), (56, 64, 64, 3), (14, 256, 256, 3))


def main() -> None:
    """Measure and print."""
    args = _arguments()
    use_threads(1)
    # Imported here: TVM reads the number of threads once.
    from tvm_probq.report.tables import table
    from tvm_probq.target.profile import host_profile, load_profile

    profile = load_profile(args.target) if args.target else host_profile()
    rows = []
    for shape in SHAPES:
        spec = _spec(*shape)
        rows += [[str(spec), *row] for row in _rows(spec, profile, args.turns)]
    facts = ", ".join(f"{key} {value}" for key, value in machine().items())
    heads = ["layer", "bits", "MB", "us", "GB/s", "GMAC/s", "times as fast as 8 bits"]
    print(table(heads, rows) + f"\n{profile.name}; {facts}")


def _rows(spec: LayerSpec, profile: TargetProfile, turns: int) -> list[list[str]]:
    """Measure a layer in every width."""
    from tvm_probq.kernels.layer import packed_shape

    specs = {
        f"{bits}g{group}" if group else str(bits): replace(
            spec, weight_bits=bits, weight_group=group
        )
        for bits, group in FORMS
        if group < spec.group_inputs
    }
    calls = {form: repeated(caller(s, profile)) for form, s in specs.items()}
    times = timing.interleaved({n: call for n, (call, _) in calls.items()}, turns)
    rows, first = [], 0.0
    for form, each in specs.items():
        us = times[form].ms("thread_cpu") / calls[form][1] * 1e3
        first = first or us
        shape, _ = packed_shape(each, profile.target())
        mb = math.prod(shape) / 1e6
        cells = [f"{mb:.3f}", f"{us:.1f}", f"{mb / us * 1e3:.1f}", f"{spec.macs / us * 1e-3:.0f}"]
        rows.append([form, *cells, f"{first / us:.2f}"])
    return rows


def _spec(size: int, inputs: int, outputs: int, kernel: int) -> LayerSpec:
    from tvm_probq.kernels.spec import LayerSpec

    return LayerSpec(
        batch=1, height=size, width=size, in_channels=inputs, out_channels=outputs,
        kernel=(kernel, kernel), strides=(1, 1), pads=(kernel // 2,) * 4, dilation=(1, 1),
        groups=1, weight_bits=8, activation="none", output="codes", correction=False,
        residual=False, in_ranges=1, out_ranges=1, flat=size == 1,
    )  # fmt: skip


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", help="a target profile, by name or by file; or this machine's")
    parser.add_argument("--turns", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
