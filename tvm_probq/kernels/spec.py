"""What a layer kernel computes (`LayerSpec`) and what a generated kernel is (`Kernel`)."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from tvm_probq.ops.activation import parse_activation
from tvm_probq.simulator.numerics import Activation


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
        What a code is stored in: 8, 6 (four codes in three bytes), 4 or 2; 8 or 4 in a depthwise
        layer (`tvm_probq.kernels.codes.stored_bits`).
    activation : str
        See :func:`tvm_probq.ops.activation.parse_activation`.
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
    small_weights : bool
        Whether weights of 8 bits are proven to be within -64..64
        (`tvm_probq.quantization.accumulator.AccumulatorProof.pairs_fit`).
    symmetric : bool
        Whether no weight of 8 bits is -128.
    weight_group : int
        0, or input channels that share a multiplier of each output channel's stored codes: 32, 64
        or 128, fewer than ``group_inputs``; at `weight_bits` of 6 and fewer.
    in_bits, out_bits, residual_bits : int
        What a code of the input, of an output of "codes" and of the residual is stored in: 8, 4
        (two channels in a byte) or 16 (`tvm_probq.kernels.storage`).
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
    small_weights: bool = False
    symmetric: bool = False
    in_bits: int = 8
    out_bits: int = 8
    residual_bits: int = 8
    weight_group: int = 0

    @property
    def pairs_fit(self) -> bool:
        """Whether every sum of two products fits 16 bits."""
        return self.small_weights or (self.weight_bits < 8 and not self.weight_group)

    @property
    def signed_pairs_fit(self) -> bool:
        """Whether every sum of two products of weights and signed codes fits 16 bits."""
        return self.symmetric or self.pairs_fit

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
    def runs(self) -> int:
        """Runs of input channels with a multiplier each; the last one may be shorter."""
        return -(-self.group_inputs // self.weight_group) if self.weight_group else 0

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
        return self.tail.linear

    @property
    def tail(self) -> Activation:
        """The activation, read from its text."""
        return parse_activation(self.activation)

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
        Buffers of 32 bits inside the kernel.
    scratch_bytes : int
        Buffers of 8 and 16 bits inside the kernel.
    """

    func: tirx.PrimFunc
    instruction: str
    workspace_bytes: int
    scratch_bytes: int
