"""Refuse a layer specification that is not a layer or that no kernel can compute."""

from __future__ import annotations

from tvm_probq.errors import KernelError
from tvm_probq.kernels.codes import DEPTHWISE_WIDTHS, WIDTHS
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import PACKED_CHANNELS, STORED_BITS
from tvm_probq.ops.activation import FORMS, parse_activation
from tvm_probq.quantization.weights import WEIGHT_GROUPS

OUTPUTS = ("codes", "float32", "int32")
# |sum| <= 255 * 128 * taps must fit int32, and the zero-point's share of it as well.
MAX_TAPS = (2**31 - 1) // (255 * 128)


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
        (
            spec.weight_bits not in (widths := DEPTHWISE_WIDTHS if spec.depthwise else WIDTHS),
            f"{spec.weight_bits}-bit weights",
            f"store one of {widths} bits",
        ),
        (
            not {spec.in_bits, spec.out_bits, spec.residual_bits} <= set(STORED_BITS),
            f"codes stored in {spec.in_bits}, {spec.out_bits}, {spec.residual_bits} bits",
            f"store one of {STORED_BITS} bits",
        ),
        (
            bool(spec.weight_group) and not _groups_fit(spec),
            f"multipliers of every {spec.weight_group} of {spec.group_inputs} input channels",
            f"give groups of {WEIGHT_GROUPS} channels, fewer than all, and at most 6 bits",
        ),
        (
            not _in_words(spec),
            "codes of 4 bits of a number of channels that is no multiple of 8",
            "store them in 8 bits",
        ),
        (
            spec.out_bits == HALF and spec.groups % 2 > 0 and spec.groups > 1,
            "codes of 4 bits, of which a group would be cut in two halves",
            "store them in 8 bits",
        ),
        (not _known(spec.activation), f"activation {spec.activation!r}", f"one of {FORMS}"),
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


def _groups_fit(spec: LayerSpec) -> bool:
    known = spec.weight_group in WEIGHT_GROUPS and spec.weight_bits < max(WIDTHS)
    return known and spec.weight_group < spec.group_inputs


def _in_words(spec: LayerSpec) -> bool:
    """Whether the channels that share bytes do so in whole words."""
    packed = [spec.in_channels] if spec.in_bits == HALF else []
    if HALF in (spec.out_bits, spec.residual_bits):
        packed.append(spec.out_channels)
    return not any(channels % PACKED_CHANNELS for channels in packed)


def _known(activation: str) -> bool:
    try:
        parse_activation(activation)
    except KernelError:
        return False
    return True
