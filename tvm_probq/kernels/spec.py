"""What a layer kernel computes (`LayerSpec`) and what a generated kernel is (`Kernel`)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx

from tvm_probq.errors import KernelError

OUTPUTS = ("codes", "float32", "int32")
ACTIVATIONS = ("none", "clip(LOW,HIGH)", "hard_swish", "hard_sigmoid")
# |sum| <= 255 * 128 * taps must fit int32, and the zero-point's share of it as well.
MAX_TAPS = (2**31 - 1) // (255 * 128)


@dataclass(frozen=True)
class LayerSpec:
    """One quantized layer: its shape, its stored weights and what is fused behind it.

    Attributes
    ----------
    batch, height, width, in_channels, out_channels : int
        Input shape ``[N, H, W, IC]`` and output channels; a fully connected layer has
        ``height = width = 1`` and a (1, 1) kernel.
    kernel, strides, dilation : tuple of int
        Vertical, horizontal.
    pads : tuple of int
        Top, left, bottom, right; asymmetric pads are allowed.
    groups : int
        Channel groups; ``groups == in_channels == out_channels`` is a depthwise layer.
    weight_bits : int
        8 (also for codes of 5 to 7 bits) or 4 (two codes a byte).
    activation : str
        "none", "clip(LOW,HIGH)" (LOW and HIGH may be infinite), "hard_swish", "hard_sigmoid".
    output : str
        "codes" (uint8, requantized), "float32" (dequantized accumulator) or "int32" (raw sums, the
        zero-point not yet subtracted).
    correction, residual : bool
        Whether a bias correction per sample and a quantized residual are added.
    in_ranges, out_ranges : int
        Ranges of the input's and the output's parameters: 1, or the number of channels.
        ``in_ranges > 1`` only for a depthwise layer.
    flat : bool
        Input and output have rank 2, ``[N, IC]`` and ``[N, OC]``.
    """

    batch: int
    height: int
    width: int
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    weight_bits: int
    activation: str
    output: str
    correction: bool
    residual: bool
    in_ranges: int
    out_ranges: int
    flat: bool = False

    @property
    def out_height(self) -> int:
        """Rows of the output."""
        return self._out_size(0, self.height)

    @property
    def out_width(self) -> int:
        """Columns of the output."""
        return self._out_size(1, self.width)

    @property
    def group_inputs(self) -> int:
        """Input channels of one group."""
        return self.in_channels // self.groups

    @property
    def group_outputs(self) -> int:
        """Output channels of one group."""
        return self.out_channels // self.groups

    @property
    def depthwise(self) -> bool:
        """Whether output channel c depends on input channel c alone (and is the only one)."""
        return self.groups == self.in_channels == self.out_channels and self.groups > 1

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole batch."""
        taps = self.kernel[0] * self.kernel[1] * self.group_inputs
        return self.batch * self.out_height * self.out_width * self.out_channels * taps

    @property
    def linear(self) -> bool:
        """Whether the activation is done on the integer grid, by the bounds of the codes."""
        return self.activation == "none" or self.activation.startswith("clip(")

    @property
    def clip(self) -> tuple[float, float]:
        """Bounds of a clip, infinite without one."""
        if not self.activation.startswith("clip("):
            return -math.inf, math.inf
        low, high = self.activation[len("clip(") : -1].split(",")
        return float(low), float(high)

    @property
    def pointwise(self) -> bool:
        """Whether every output position is made from the same input position alone."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    def __str__(self) -> str:
        """Name the layer in messages: ``conv 3x3/2 1x224x224x3 -> 112x112x24``."""
        kind = "dense" if self.flat else "depthwise" if self.depthwise else "conv"
        taps = "x".join(map(str, self.kernel)) + "/" + "x".join(map(str, self.strides))
        shape = f"{self.batch}x{self.height}x{self.width}x{self.in_channels}"
        groups = f" groups {self.groups}" if self.groups > 1 and not self.depthwise else ""
        out = f"{self.out_height}x{self.out_width}x{self.out_channels}"
        return f"{kind} {taps} {shape} -> {out}{groups}"

    def _out_size(self, axis: int, size: int) -> int:
        extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return (size + self.pads[axis] + self.pads[axis + 2] - extent) // self.strides[axis] + 1


@dataclass(frozen=True)
class Kernel:
    """A generated kernel, ready for ``call_tir``.

    Attributes
    ----------
    func : tvm.tirx.PrimFunc
        Scheduled; ``global_symbol`` is unset, ``tirx.noalias`` and ``tirx.is_scheduled`` are set.
    instruction : str
        Mnemonic that must appear in the assembly, or "" when there is none.
    workspace_bytes : int
        Buffers of 16 bits and wider inside the kernel.
    scratch_bytes : int
        8-bit buffers inside the kernel.
    """

    func: tirx.PrimFunc
    instruction: str
    workspace_bytes: int
    scratch_bytes: int


def check_spec(spec: LayerSpec) -> None:
    """Raise `KernelError` for a specification that is not a layer or that no kernel can compute.

    Raises
    ------
    KernelError
        With the field, its value and what is possible.
    """
    for wrong, why, fix in _problems(spec):
        if wrong:
            raise KernelError("no kernel for this layer", where=repr(spec), why=why, fix=fix)


def _problems(spec: LayerSpec) -> list[tuple[bool, str, str]]:
    sizes = (spec.batch, spec.height, spec.width, spec.in_channels, spec.out_channels, spec.groups)
    positive = min(*sizes, *spec.kernel, *spec.strides, *spec.dilation) > 0 <= min(spec.pads)
    if not positive:
        return [(True, "a size is not positive", "correct the shape")]
    divides = not (spec.in_channels % spec.groups or spec.out_channels % spec.groups)
    taps = spec.kernel[0] * spec.kernel[1] * spec.group_inputs
    flat = (spec.height, spec.width, *spec.kernel) == (1, 1, 1, 1) and spec.pointwise
    out = spec.out_channels
    return [
        (not divides, f"{spec.groups} groups do not divide the channels", "correct the groups"),
        (min(spec.out_height, spec.out_width) < 1, "the output is empty", "pad the input"),
        (spec.weight_bits not in (4, 8), f"{spec.weight_bits}-bit weights", "store 4 or 8 bits"),
        (not _known(spec.activation), f"activation {spec.activation!r}", f"one of {ACTIVATIONS}"),
        (spec.output not in OUTPUTS, f"output {spec.output!r}", f"use one of {OUTPUTS}"),
        (spec.out_ranges not in (1, out), f"{spec.out_ranges} output ranges", "1 or every channel"),
        (
            spec.in_ranges != 1 and not (spec.depthwise and spec.in_ranges == spec.in_channels),
            f"{spec.in_ranges} input ranges, but a sum over channels needs one scale",
            "use one range for the tensor, or fold the channels' scales into the weights",
        ),
        (spec.flat and not flat, "a rank-2 layer has height = width = 1", "unset `flat`"),
        (taps > MAX_TAPS, f"{taps} products overflow int32", "split the reduction"),
        (
            spec.output == "int32"
            and (spec.residual or spec.correction or spec.activation != "none"),
            "raw sums have nothing fused behind them",
            "unset the residual, the correction and the activation",
        ),
    ]


def _known(activation: str) -> bool:
    if not activation.startswith("clip("):
        return activation in ACTIVATIONS and activation != ACTIVATIONS[1]
    try:
        low, high = map(float, activation[len("clip(") :].removesuffix(")").split(","))
    except ValueError:
        return False
    return activation.endswith(")") and low <= high
