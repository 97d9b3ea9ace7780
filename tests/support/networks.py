"""Networks for tests from end to end, and comparing compiled code with the simulator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from tvm_probq.build.compile import compile_model
from tvm_probq.build.compiled import Compiled
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.ir.expressions import is_call
from tvm_probq.plan.plan import Plan
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

BEST = "x86-vnni"


def mixed(net: Any) -> tuple[str, ...]:
    """Convolutions with normalization, a residual, a depthwise layer, pooling, a dense layer."""
    stem = net("Relu", net.batch_norm(net.conv("x", 3, 16), 16))
    block = net("Relu", net("Add", net.conv(stem, 16, 16), stem))
    depthwise = net(
        "Clip", net.conv(block, 16, 16, group=16, strides=[2, 2]), np.float32(0), np.float32(6)
    )
    wide = net("Relu", net.conv(depthwise, 16, 24, 1))
    return (net.gemm(net("Flatten", net("GlobalAveragePool", wide)), 24, 10),)


def joined(net: Any) -> tuple[str, ...]:
    """A join of branches of different ranges."""
    parts = net("Relu", net.conv("x", 3, 8)), net("HardSwish", net.conv("x", 3, 4, 1))
    return (net.conv(net("Concat", *parts, axis=1), 12, 5),)


def own_residual(net: Any) -> tuple[str, ...]:
    """Layers whose residual is their input, or is read again, also through a reshape."""
    x = net("Relu", net.conv("x", 3, 8))
    y = net("Relu", net("Add", net.conv(x, 8, 8), x))
    z = net("Relu", net("Add", net.conv(net("Relu", net.conv(y, 8, 8)), 8, 8), y))
    last = net("Add", net.conv(z, 8, 8, 1), net("Relu", net.conv(y, 8, 8, 1)))
    return net.gemm(net("Flatten", last), 512, 4), net.gemm(net("Flatten", z), 512, 2)


def pooled(net: Any) -> tuple[str, ...]:
    """Maximum pooling with padding, then a flattened image."""
    x = net("MaxPool", net.conv("x", 3, 8), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    return (net.gemm(net("Flatten", net("Relu", x)), 128, 5),)


def swish(net: Any) -> tuple[str, ...]:
    """Hard-swish behind dense and depthwise layers, and a sum of two branches."""
    x = net("HardSwish", net.conv("x", 3, 8))
    y = net("HardSwish", net.conv(x, 8, 8, group=8))
    return (net.conv(net("Sum", net.conv(y, 8, 8, 1), x), 8, 4),)


def grouped(net: Any) -> tuple[str, ...]:
    """Groups, dilation, a padded and a sliced tensor."""
    x = net("Relu", net.conv("x", 3, 16))
    x = net("Relu", net.conv(x, 16, 16, group=2, dilations=[2, 2], pads=[2] * 4))
    x = net("Pad", x, [0, 0, 1, 2, 0, 0, 0, 1])
    return (net.conv(net("Slice", x, [0], [12], [1]), 12, 8, group=4, strides=[2, 1]),)


def two_outputs(net: Any) -> tuple[str, ...]:
    """An inner tensor is an output as well."""
    x = net("Relu", net.conv("x", 3, 8))
    return net.conv(x, 8, 4, 1), net.gemm(net("Flatten", net("GlobalAveragePool", x)), 8, 3)


def shuffled(net: Any) -> tuple[str, ...]:
    """Halves of channels that are joined and shuffled, a pyramid of two scales, several outputs."""
    x = net("LeakyRelu", net.conv("x", 3, 8), alpha=0.1)
    kept, changed = net("Slice", x, [0], [4], [1]), net("Slice", x, [4], [9999], [1])
    changed = net("LeakyRelu", net.conv(changed, 4, 4), alpha=0.1)
    split = net("Reshape", net("Concat", kept, changed, axis=1), [0, 2, 4, 8, 8])
    x = net("Reshape", net("Transpose", split, perm=[0, 2, 1, 3, 4]), [0, 8, 8, 8])
    small = net.conv(x, 8, 8, strides=[2, 2])
    large = net(
        "Add", net.conv(x, 8, 8, 1), net("Resize", small, "", [1.0, 1, 2, 2], mode="linear")
    )
    small = net("Add", small, net("Resize", large, "", [1.0, 1, 0.5, 0.5], mode="nearest"))
    heads = net.conv(large, 8, 6, 1), net.conv(net("LeakyRelu", small), 8, 6, 1)
    rows = (net("Reshape", net("Slice", h, [0], [5], [1]), [0, 5, -1]) for h in heads)
    return tuple(net("Transpose", r, perm=[0, 2, 1]) for r in rows)


def points(net: Any) -> tuple[str, ...]:
    """Images of one pixel."""
    x = net("Relu", net.conv("x", 3, 8))
    return (net.gemm(net("Flatten", net.conv(x, 8, 5, 1)), 5, 3),)


def vectors(net: Any) -> tuple[str, ...]:
    """Fully connected layers alone."""
    return (net.gemm(net("Relu", net.gemm("x", 24, 40)), 40, 7),)


def rows(net: Any, x: str, inputs: int, outputs: int) -> str:
    """A linear layer at every position."""
    return net("Add", net("MatMul", x, net.draw(inputs, outputs, scale=0.4)), net.draw(outputs))


def products_of_tensors(net: Any) -> tuple[str, ...]:
    """Attention without softmax, of two heads, with a residual and a feed-forward part."""
    heads = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        split = net("Reshape", rows(net, "x", 8, 8), [0, 6, 2, 4])
        heads.append(net("Transpose", split, perm=perm))
    scores = net("MatMul", *heads[:2])
    mixed = net("Transpose", net("MatMul", scores, heads[2]), perm=[0, 2, 1, 3])
    inner = net("Add", rows(net, net("Reshape", mixed, [0, 6, 8]), 8, 8), "x")
    wide = net("Relu", rows(net, inner, 8, 12))
    return (rows(net, net("Add", rows(net, wide, 12, 8), inner), 8, 3),)


def one_dimensional(net: Any) -> tuple[str, ...]:
    """Convolutions along one axis."""
    x = net("Relu", net("Conv", "x", net.draw(8, 3, 5, scale=0.3), net.draw(8), pads=[2, 2]))
    y = net("Conv", x, net.draw(8, 1, 3, scale=0.5), group=8, pads=[2, 2], dilations=[2])
    z = net("Conv", net("Add", y, x), net.draw(6, 8, 1, scale=0.3), strides=[2])
    return (net("Conv", net("Relu", z), net.draw(4, 6, 3, scale=0.3), net.draw(4)),)


def broad(net: Any) -> tuple[str, ...]:
    """Layers of more than 32 input channels, with groups of them and without, and few of some."""
    x = net("Relu", net.conv("x", 3, 40, 1))
    y = net("Relu", net.conv(x, 40, 72, strides=[2, 2]))
    y = net("Relu", net.conv(net.conv(y, 72, 72, group=72), 72, 72, 1))
    z = net("Relu", net("Add", net.conv(y, 72, 72, 1, group=2), y))
    return (net.gemm(net("Relu", net.gemm(net("Flatten", z), 648, 128)), 128, 10),)


NETS: dict[str, tuple[Callable[[Any], tuple[str, ...]], tuple[int, ...]]] = {
    "mixed": (mixed, (3, 9, 9)), "joined": (joined, (3, 8, 8)),
    "own_residual": (own_residual, (3, 8, 8)), "pooled": (pooled, (3, 8, 8)),
    "swish": (swish, (3, 8, 8)), "grouped": (grouped, (3, 8, 8)),
    "shuffled": (shuffled, (3, 8, 8)), "two_outputs": (two_outputs, (3, 8, 8)),
    "points": (points, (3, 1, 1)), "vectors": (vectors, (24,)),
    "products_of_tensors": (products_of_tensors, (6, 8)),
    "one_dimensional": (one_dimensional, (3, 21)), "broad": (broad, (3, 6, 6)),
}  # fmt: skip


class Case:
    """A network with its calibration, and inputs."""

    def __init__(self, path: Path, samples: Any) -> None:
        self.path = path
        self.samples = samples
        self.model = cache(lambda batch: load_model(path, batch=batch))
        empty = CalibrationRecord(self.model(1).sha256, "")
        self.record = collect(self.model(1).mod, (x[None] for x in samples), empty)
        self.compiled: dict[tuple[str, int, str], Compiled] = {}

    def compile(self, plan: Plan, batch: int = 1, target: str = BEST) -> Compiled:
        """Compile for a target, once; skips on an x86 CPU without its instructions."""
        profile = load_profile(target)
        if profile.architecture == "x86_64" and not profile.runs_here:
            pytest.skip(f"this CPU lacks instructions of {target}: {', '.join(profile.features)}")
        key = plan.to_toml(), batch, target
        if key not in self.compiled:
            model: Model = self.model(batch)
            self.compiled[key] = compile_model(model, plan, self.record, profile)
        return self.compiled[key]


def arrays(outputs: Any) -> list[Any]:
    """Outputs of the simulator or of compiled code."""
    several = outputs if isinstance(outputs, tuple | list | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]


def run(executable: Any, x: Any) -> list[Any]:
    """Outputs of compiled code."""
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return arrays(machine["main"](tvm.runtime.tensor(np.ascontiguousarray(x))))


def assert_same_bits(found: list[Any], wanted: list[Any]) -> None:
    """Bitwise equality, also of the signs of zeros and of NaN."""
    for a, b in zip(found, wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype) == (b.shape, np.float32)
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def check(compiled: Compiled, x: Any) -> list[Any]:
    """Run compiled code, compare with the simulator; gives the outputs."""
    found = run(compiled.executable, x)
    assert_same_bits(found, arrays(Simulator(compiled.integer_module)(x)))
    return found


def picked_widths(compiled: Compiled, x: Any) -> list[list[int]]:
    """Bits that the simulator's surrogates pick, in graph order, for each sample."""
    found: list[list[int]] = []

    def watch(call: Any, value: Any, _args: Any) -> None:
        if is_call(call, "probq.surrogate"):
            found.append([int(largest + 1).bit_length() - 1 for largest in value[:, 2, 0]])

    Simulator(compiled.integer_module)(x, watch=watch)
    return [list(widths) for widths in zip(*found, strict=True)]


def sqnr_db(found: Any, wanted: Any) -> float:
    """Signal-to-noise ratio."""
    return float(10 * np.log10((wanted**2).sum() / ((found - wanted) ** 2).sum()))


def case_of(name: str, onnx_net: Any, folder: Path) -> Case:
    """The case of one of `NETS`."""
    build, shape = NETS[name]
    net = onnx_net(*shape)
    path = net.save(folder, *build(net))
    samples = np.random.default_rng(5).normal(size=(8, *shape)).astype(np.float32)
    return Case(path, samples)
