"""Random small networks of operators with integer forms: compiled code equals the simulator.

``PROBQ_NETWORKS=500 pytest tests/test_random_networks.py`` takes 500 new ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from tvm import relax

from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.profile import load_profile

SAMPLES = 4
MOST_STEPS = 8
TARGETS = ("x86-vnni", "x86-avx2", "x86-64")
SCHEMES = ("w8a8", "w8a8", "w4a8", "w8a4", "w6a5", "w8a16", "w4a10")
MODES = ("predicted", "predicted", "static", "dynamic")

DEFAULT = 25
NETWORKS = int(os.environ.get("PROBQ_NETWORKS", DEFAULT))
MOST_ELEMENTS = 2048
MOST_CHANNELS = 40
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
ACTIVATIONS = ("none", "relu", "relu6", "leaky", "hard_swish", "hard_sigmoid")


@dataclass(frozen=True)
class Tensor:
    """A tensor of the network: its name, and the shape of one sample."""

    name: str
    shape: tuple[int, ...]


class Grown:
    """A network that grows by drawn operators.

    Parameters
    ----------
    net : OnnxNet
        Where nodes go, with an input ``x``.
    shape : tuple of int
        Of one sample of the input.
    draw : callable
        Takes a strategy, gives a value.
    """

    def __init__(self, net: Any, shape: tuple[int, ...], draw: Callable[[Any], Any]) -> None:
        self.net = net
        self.draw = draw
        self.tensors = [Tensor("x", shape)]

    def grow(self, steps: int) -> None:
        """Add `steps` operators, each behind a drawn tensor."""
        for _ in range(steps):
            x = self.draw(st.sampled_from(self.tensors))
            choices = OF_IMAGES if len(x.shape) == 3 else OF_VECTORS
            y = self.draw(st.sampled_from(choices))(self, x)
            if y is not None and 0 < np.prod(y.shape) <= MOST_ELEMENTS:
                self.tensors.append(y)

    def outputs(self, count: int) -> list[str]:
        """Up to `count` layers, behind the last tensors: the network's outputs."""
        last = self.tensors[-count:]
        return [(conv if len(t.shape) == 3 else dense)(self, t).name for t in last]

    def number(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return int(self.draw(st.integers(low, high)))

    def activated(self, x: str) -> str:
        """A drawn activation, or none."""
        kind = self.draw(st.sampled_from(ACTIVATIONS))
        if kind == "relu6":
            return str(self.net("Clip", x, np.float32(0), np.float32(6)))
        if kind == "hard_sigmoid":
            return hard_sigmoid(self.net, x)
        if kind == "leaky":
            return str(self.net("LeakyRelu", x, alpha=self.draw(st.sampled_from([0.01, 0.1, 0.5]))))
        names = {"relu": "Relu", "hard_swish": "HardSwish"}
        return str(self.net(names[kind], x)) if kind in names else x

    def alike(self, x: Tensor, axis: int | None = None) -> Tensor:
        """A tensor of the shape of `x`, which may differ along `axis`; itself if there is none."""

        def others(shape: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(n for a, n in enumerate(shape) if a != axis)

        found = [
            t
            for t in self.tensors
            if len(t.shape) == len(x.shape) and others(t.shape) == others(x.shape)
        ]
        return self.draw(st.sampled_from(found))


def hard_sigmoid(net: Any, x: str) -> str:
    """ONNX's hard sigmoid as networks use it."""
    return str(net("HardSigmoid", x, alpha=1 / 6, beta=0.5))


def conv(grown: Grown, x: Tensor) -> Tensor:
    """A convolution of any kernel, stride, padding, dilation and groups, and an activation."""
    channels, height, width = x.shape
    groups = grown.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    outputs = groups * grown.number(1, max(1, min(3, MOST_CHANNELS // groups)))
    if groups == 1:
        outputs = grown.number(1, MOST_CHANNELS)
    sides = []
    for size in (height, width):
        dilation, stride = grown.number(1, 2), grown.number(1, 3)
        pads = grown.number(0, 3), grown.number(0, 3)
        kernel = grown.number(1, max(1, min(5, (size + sum(pads) - 1) // dilation + 1)))
        result = (size + sum(pads) - (kernel - 1) * dilation - 1) // stride + 1
        sides.append((kernel, stride, dilation, pads, result))
    (kh, sh, dh, ph, oh), (kw, sw, dw, pw, ow) = sides
    scale = (2 / (kh * kw * channels // groups)) ** 0.5
    constants = [grown.net.draw(outputs, channels // groups, kh, kw, scale=scale)]
    if grown.draw(st.booleans()):
        constants.append(grown.net.draw(outputs, scale=0.1))
    y = grown.net(
        "Conv", x.name, *constants, group=groups, strides=[sh, sw], dilations=[dh, dw],
        pads=[ph[0], pw[0], ph[1], pw[1]],
    )  # fmt: skip
    return Tensor(grown.activated(y), (outputs, oh, ow))


def transposed(grown: Grown, x: Tensor) -> Tensor:
    """A transposed convolution of any kernel, stride, padding, dilation and groups."""
    channels, height, width = x.shape
    groups = grown.draw(st.sampled_from([1, 1, channels]))
    outputs = groups * grown.number(1, max(1, 8 // groups))
    kernel, strides, dilations, ends = ([grown.number(1, n) for _ in "hw"] for n in (4, 3, 2, 3))
    pads = [grown.number(0, (k - 1) * d) for k, d in zip(kernel, dilations, strict=True)]
    after = [grown.number(0, s - 1) for s in strides]
    sizes = [
        (n - 1) * s + (k - 1) * d + 1 + more - p
        for n, s, k, d, more, p in zip(
            (height, width), strides, kernel, dilations, after, pads, strict=True
        )
    ]
    ends = [min(e - 1, n - 1) for e, n in zip(ends, sizes, strict=True)]
    weights = grown.net.draw(channels, outputs // groups, *kernel, scale=(2 / channels) ** 0.5)
    y = grown.net(
        "ConvTranspose", x.name, weights, grown.net.draw(outputs, scale=0.1), group=groups,
        strides=strides, dilations=dilations, pads=[*pads, *ends], output_padding=after,
    )  # fmt: skip
    shape = outputs, *(n - e for n, e in zip(sizes, ends, strict=True))
    return Tensor(grown.activated(y), shape)


def depthwise(grown: Grown, x: Tensor) -> Tensor:
    """A depthwise convolution that keeps the size, or halves it."""
    channels, height, width = x.shape
    kernel, stride = grown.draw(st.sampled_from([1, 3, 5])), grown.number(1, 2)
    weights = grown.net.draw(channels, 1, kernel, kernel, scale=1 / kernel)
    y = grown.net(
        "Conv", x.name, weights, group=channels, strides=[stride] * 2, pads=[kernel // 2] * 4
    )
    return Tensor(grown.activated(y), (channels, -(-height // stride), -(-width // stride)))


def dense(grown: Grown, x: Tensor) -> Tensor:
    """A fully connected layer and an activation."""
    outputs = grown.number(1, MOST_CHANNELS)
    return Tensor(grown.activated(grown.net.gemm(x.name, x.shape[0], outputs)), (outputs,))


def residual(grown: Grown, x: Tensor) -> Tensor:
    """A sum of two tensors and an activation."""
    y = grown.net("Add", x.name, grown.alike(x).name)
    return Tensor(grown.activated(y), x.shape)


def join(grown: Grown, x: Tensor) -> Tensor:
    """A concatenation of channels, or along another axis."""
    axis = grown.number(0, len(x.shape) - 1)
    other = grown.alike(x, axis)
    shape = [*x.shape]
    shape[axis] += other.shape[axis]
    return Tensor(grown.net("Concat", x.name, other.name, axis=axis + 1), tuple(shape))


def cut(grown: Grown, x: Tensor) -> Tensor:
    """A slice with a step."""
    axis = grown.number(0, len(x.shape) - 1)
    size = x.shape[axis]
    start = grown.number(0, size - 1)
    end, step = grown.number(start + 1, size), grown.number(1, 2)
    shape = [*x.shape]
    shape[axis] = -(-(end - start) // step)
    y = grown.net("Slice", x.name, [start], [end], [axis + 1], [step])
    return Tensor(y, tuple(shape))


def split(grown: Grown, x: Tensor) -> Tensor | None:
    """One of two parts of a split."""
    axis = grown.number(0, len(x.shape) - 1)
    if x.shape[axis] < 2:
        return None
    first = grown.number(1, x.shape[axis] - 1)
    sizes = [first, x.shape[axis] - first]
    grown.net("Split", x.name, sizes, axis=axis + 1, outputs=2)
    part = grown.number(0, 1)
    shape = [*x.shape]
    shape[axis] = sizes[part]
    return Tensor(grown.net.nodes[-1].output[part], tuple(shape))


def shuffle(grown: Grown, x: Tensor) -> Tensor:
    """Channels in groups, taken in turn from each."""
    channels, height, width = x.shape
    groups = grown.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
    parts = grown.net("Reshape", x.name, [0, groups, channels // groups, height, width])
    parts = grown.net("Transpose", parts, perm=[0, 2, 1, 3, 4])
    return Tensor(grown.net("Reshape", parts, [0, channels, height, width]), x.shape)


def resize(grown: Grown, x: Tensor) -> Tensor | None:
    """Rows and columns nearest to, or between, those of the image."""
    scales = [grown.draw(st.sampled_from([0.5, 1.0, 2.0, 3.0])) for _ in range(2)]
    height, width = (int(size * scale) for size, scale in zip(x.shape[1:], scales, strict=True))
    if not height * width:
        return None
    coordinates = grown.draw(st.sampled_from(COORDINATES))
    if coordinates == "align_corners" and 1 in (height, width):
        return None  # TVM's float code divides by zero
    modes = {
        "mode": grown.draw(st.sampled_from(["linear", "nearest"])),
        "coordinate_transformation_mode": coordinates,
        "nearest_mode": grown.draw(st.sampled_from(NEAREST)),
    }
    y = grown.net("Resize", x.name, "", [1.0, 1.0, *scales], **modes)
    return Tensor(y, (x.shape[0], height, width))


def max_pool(grown: Grown, x: Tensor) -> Tensor:
    """Maximum pooling."""
    channels, height, width = x.shape
    kernel = [grown.number(1, min(3, n)) for n in (height, width)]
    strides = [grown.number(1, 2) for _ in kernel]
    pads = [grown.number(0, k - 1) for k in kernel * 2]
    y = grown.net("MaxPool", x.name, kernel_shape=kernel, strides=strides, pads=pads)
    sizes = [
        (n + pads[a] + pads[a + 2] - k) // s + 1
        for a, (n, k, s) in enumerate(zip((height, width), kernel, strides, strict=True))
    ]
    return Tensor(y, (channels, *sizes))


def average_pool(grown: Grown, x: Tensor) -> Tensor:
    """Average pooling, with padding that counts or does not."""
    channels, height, width = x.shape
    kernel = [grown.number(1, min(3, n)) for n in (height, width)]
    strides = [grown.number(1, 2) for _ in kernel]
    pads = [grown.number(0, k - 1) for k in kernel * 2]
    counted = grown.number(0, 1)
    y = grown.net(
        "AveragePool", x.name, kernel_shape=kernel, strides=strides, pads=pads,
        count_include_pad=counted,
    )  # fmt: skip
    sizes = [
        (n + pads[a] + pads[a + 2] - k) // s + 1
        for a, (n, k, s) in enumerate(zip((height, width), kernel, strides, strict=True))
    ]
    return Tensor(y, (channels, *sizes))


def normalized(grown: Grown, x: Tensor) -> Tensor | None:
    """A batch normalization that may follow anything but the input, whose own stays float."""
    if x.name == "x":
        return None
    return Tensor(grown.activated(grown.net.batch_norm(x.name, x.shape[0])), x.shape)


def clipped(grown: Grown, x: Tensor) -> Tensor:
    """An activation of a tensor that may be read elsewhere."""
    return Tensor(grown.net("Relu", x.name), x.shape)


def to_space(grown: Grown, x: Tensor) -> Tensor | None:
    """Channels become pixels."""
    channels, height, width = x.shape
    if channels % 4:
        return None
    mode = grown.draw(st.sampled_from(["DCR", "CRD"]))
    y = grown.net("DepthToSpace", x.name, blocksize=2, mode=mode)
    return Tensor(y, (channels // 4, 2 * height, 2 * width))


def global_pool(grown: Grown, x: Tensor) -> Tensor:
    """Global average pooling."""
    return Tensor(grown.net("GlobalAveragePool", x.name), (x.shape[0], 1, 1))


def gated(grown: Grown, x: Tensor) -> Tensor:
    """Squeeze and excite."""
    net, channels = grown.net, x.shape[0]
    inner = grown.number(1, 8)
    gate = net("Relu", net.conv(net("GlobalAveragePool", x.name), channels, inner, 1))
    gate = hard_sigmoid(net, net.conv(gate, inner, channels, 1))
    return Tensor(net("Mul", x.name, gate), x.shape)


def reshape(grown: Grown, x: Tensor) -> Tensor:
    """Another order of the sizes, values as they lie."""
    shape = tuple(grown.draw(st.permutations(x.shape)))
    return Tensor(grown.net("Reshape", x.name, [0, *shape]), shape)


def transpose(grown: Grown, x: Tensor) -> Tensor:
    """Another order of the axes."""
    axes = grown.draw(st.permutations(range(len(x.shape))))
    perm = [0, *(a + 1 for a in axes)]
    return Tensor(grown.net("Transpose", x.name, perm=perm), tuple(x.shape[a] for a in axes))


def pad(grown: Grown, x: Tensor) -> Tensor:
    """Zeros around each axis."""
    widths = [grown.number(0, 2) for _ in range(2 * len(x.shape))]
    before, after = widths[: len(x.shape)], widths[len(x.shape) :]
    y = grown.net("Pad", x.name, [0, *before, 0, *after])
    return Tensor(y, tuple(map(sum, zip(x.shape, before, after, strict=True))))


def flatten(grown: Grown, x: Tensor) -> Tensor:
    """An image as a vector."""
    return Tensor(grown.net("Flatten", x.name), (int(np.prod(x.shape)),))


def image(grown: Grown, x: Tensor) -> Tensor:
    """A vector as an image of one position."""
    return Tensor(grown.net("Reshape", x.name, [0, x.shape[0], 1, 1]), (x.shape[0], 1, 1))


MOVES = (join, cut, split, reshape, transpose, pad)
OF_IMAGES: tuple[Any, ...] = (
    conv, conv, conv, depthwise, transposed, normalized, clipped, residual, max_pool, average_pool,
    to_space, global_pool, gated, flatten, shuffle,
    resize, *MOVES,
)  # fmt: skip
OF_VECTORS: tuple[Any, ...] = (dense, dense, residual, image, join, cut, split)


@pytest.mark.slow
@settings(
    max_examples=NETWORKS, deadline=None, suppress_health_check=list(HealthCheck),
    derandomize=NETWORKS == DEFAULT, print_blob=True,
)  # fmt: skip
@given(data=st.data())
def test_compiled_code_equals_the_simulator(
    data: Any, onnx_net: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    draw = data.draw
    is_image = draw(st.integers(0, 5)) > 0
    shape = tuple(draw(st.integers(1, 9)) for _ in range(3 if is_image else 1))
    net = onnx_net(*shape, seed=draw(st.integers(0, 1000)))
    grown = Grown(net, shape, draw)
    grown.grow(draw(st.integers(1, MOST_STEPS)))
    outputs = grown.outputs(draw(st.integers(1, 3)))
    batch, scheme, mode = (
        draw(st.integers(1, 3)), draw(st.sampled_from(SCHEMES)), draw(st.sampled_from(MODES))
    )  # fmt: skip
    for node in net.nodes:
        note(f"{node.op_type} {list(node.input)} -> {list(node.output)}")
    path = net.save(tmp_path_factory.mktemp("net"), *dict.fromkeys(outputs))
    samples = np.random.default_rng(3).normal(size=(SAMPLES, *shape)).astype(np.float32)
    single = load_model(path)
    record = collect(single.mod, (x[None] for x in samples), CalibrationRecord(single.sha256, ""))
    profile = next(p for p in map(load_profile, TARGETS) if p.runs_here)
    compiled = compile_model(load_model(path, batch=batch), plan_of(scheme, mode), record, profile)
    x = samples[:batch] * np.float32(1.5)
    wanted = arrays(Simulator(compiled.integer_module)(x))
    machine = relax.VirtualMachine(compiled.executable, tvm.cpu())
    for a, b in zip(arrays(machine["main"](tvm.runtime.tensor(x))), wanted, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


def arrays(outputs: Any) -> list[Any]:
    """Outputs of the simulator or of compiled code."""
    several = outputs if isinstance(outputs, tuple | list | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]
