"""Speed of single layers by target profile, on one thread and in warm caches.

    python benchmarks/layers.py x86-avx2 x86-avx-vnni x86-vnni --weight-bits 8

Layers of ResNet-50, MobileNet and EfficientNet; inputs and weights are random. Profiles that this
machine cannot run are named and left out.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tvm_probq.bench import timing
from tvm_probq.bench.machine import machine
from tvm_probq.bench.threads import use_threads

if TYPE_CHECKING:
    from collections.abc import Callable

    from tvm_probq.kernels.spec import LayerSpec
    from tvm_probq.target.profile import TargetProfile

# Height and width, input channels, output channels, kernel, stride; depthwise with 0 outputs.
SHAPES = (
    (56, 64, 64, 3, 1), (28, 128, 128, 3, 1), (14, 256, 256, 3, 1), (7, 512, 512, 3, 1),
    (56, 64, 256, 1, 1), (56, 256, 64, 1, 1), (14, 1024, 256, 1, 1), (7, 512, 2048, 1, 1),
    (224, 3, 64, 7, 2), (56, 24, 144, 1, 1), (14, 96, 576, 1, 1), (7, 960, 320, 1, 1),
    (56, 144, 0, 3, 1), (112, 96, 0, 3, 2), (14, 576, 0, 3, 1), (14, 672, 0, 5, 1),
)  # fmt: skip
TURN_NS = 2_000_000  # each turn repeats a layer for about so long


def main() -> None:
    """Measure and print."""
    args = _arguments()
    use_threads(1)
    # Imported here: TVM reads the number of threads once.
    from tvm_probq.report.tables import table
    from tvm_probq.target.profile import load_profile

    profiles = [p for p in map(load_profile, args.profiles) if _runs(p)]
    rows = []
    for shape in SHAPES:
        spec = _spec(*shape, args.weight_bits)
        calls = {p.name: repeated(caller(spec, p)) for p in profiles}
        times = timing.interleaved({n: call for n, (call, _) in calls.items()}, args.turns)
        ms = {n: times[n].ms("thread_cpu") / count for n, (_, count) in calls.items()}
        rows.append([str(spec), *(f"{spec.macs / t * 1e-6:.0f}" for t in ms.values())])
        print(f"{rows[-1][0]}: {', '.join(rows[-1][1:])} GMAC/s", flush=True)
    facts = ", ".join(f"{key} {value}" for key, value in machine().items())
    print("\n" + table(["GMAC/s", *(p.name for p in profiles)], rows) + f"\n{facts}")


def _runs(profile: TargetProfile) -> bool:
    if not profile.runs_here:
        print(f"{profile.name}: this machine lacks some of {', '.join(profile.features)}")
    return profile.runs_here


def _spec(size: int, inputs: int, outputs: int, kernel: int, stride: int, bits: int) -> LayerSpec:
    from tvm_probq.kernels.spec import LayerSpec

    spec = LayerSpec(
        batch=1, height=size, width=size, in_channels=inputs, out_channels=outputs or inputs,
        kernel=(kernel, kernel), strides=(stride, stride), pads=(kernel // 2,) * 4,
        dilation=(1, 1), groups=1 if outputs else inputs, weight_bits=_stored(bits, not outputs),
        activation="none", output="codes", correction=False, residual=False, in_ranges=1,
        out_ranges=1,
    )  # fmt: skip
    return replace(spec, small_weights=bits < 8)


def _stored(bits: int, depthwise: bool) -> int:
    """Bits that a weight of so many bits takes."""
    from tvm_probq.kernels.codes import DEPTHWISE_WIDTHS, WIDTHS

    return min(w for w in (DEPTHWISE_WIDTHS if depthwise else WIDTHS) if w >= bits)


def caller(spec: LayerSpec, profile: TargetProfile) -> Callable[[], object]:
    """One call of the layer's kernel on random arguments."""
    import numpy as np
    import tvm

    from tvm_probq.kernels.arguments import argument_shapes
    from tvm_probq.kernels.layer import layer_kernel, pack_weights, packed_shape
    from tvm_probq.tuning.example import random_arguments

    rng, target = np.random.default_rng(0), profile.target()
    weights = random_arguments(spec, 0)["weights"]
    given: dict[str, Any] = {
        "W": pack_weights(spec, weights, target),
        "WS": weights.sum((1, 2, 3), dtype=np.int32),
        "XQ": np.float32([0.02, 117, 255]),
        "YQ": np.float32([0.5, 128, 255]),
    }
    arguments = []
    for name, shape, dtype in argument_shapes(spec, packed_shape(spec, target)):
        value = given.get(name, rng.integers(0, 256, shape).astype(dtype))
        arguments.append(tvm.runtime.tensor(value.reshape(shape)))
    func = layer_kernel(spec, target).func.with_attr("global_symbol", "main")
    main = tvm.tirx.build(func, target=target)["main"]
    return lambda: main(*arguments)


def repeated(call: Callable[[], object]) -> tuple[Callable[[], None], int]:
    """A call repeated, so that the clock is read rarely; and how often."""
    once = timing.interleaved({"once": call}, 3)["once"].ms("thread_cpu") / timing.MS_PER_NS
    count = max(1, round(TURN_NS / once))

    def repeat() -> None:
        for _ in range(count):
            call()

    return repeat, count


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="+", help="target profiles, by name or by file")
    parser.add_argument("--weight-bits", type=int, default=8, choices=(2, 4, 6, 7, 8))
    parser.add_argument("--turns", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
