"""What a layer's speed depends on, as text: the key of a tuning database."""

from __future__ import annotations

from dataclasses import replace

from tvm_probq.kernels.planes import BYTE, HALF
from tvm_probq.kernels.spec import LayerSpec

STORED = ("in_bits", "out_bits", "residual_bits")
WHOLE = 4  # input channels in multiples of which every unit sees a layer alike


def layer_key(spec: LayerSpec) -> str:
    """Name what decides a layer's speed.

    Left out is what costs a kernel next to nothing: the bounds of a clip, the slope of a leaky
    ReLU, the correction, and whether parameters are of the tensor or of a channel; and whether a
    weight is -128, which hardly one layer has.

    Parameters
    ----------
    spec : LayerSpec
        The layer.

    Returns
    -------
    str
        Such as ``conv 3x3/1x1 1x14x14x256 -> 14x14x256 pads 1,1,1,1 w8 codes residual``.
    """
    parts = [str(spec)]
    if any(spec.pads):
        parts.append("pads " + ",".join(map(str, spec.pads)))
    if spec.dilation != (1, 1):
        parts.append("dilation " + "x".join(map(str, spec.dilation)))
    group = f"g{spec.weight_group}" if spec.weight_group else ""
    parts += [f"w{spec.weight_bits}{group}", spec.output]
    stored = {"in": spec.in_bits, "out": spec.out_bits, "residual": spec.residual_bits}
    parts += [f"{name}{bits}" for name, bits in stored.items() if bits != BYTE]
    if spec.small_weights and (spec.weight_bits == BYTE or spec.weight_group):
        parts.append("small")
    if not spec.linear:
        parts.append(spec.tail.kind)
    if spec.residual:
        parts.append("residual")
    return " ".join(parts)


def keys_like(spec: LayerSpec) -> list[str]:
    """Keys of layers of 8 bits whose products a layer of fewer bits has, behind its unpacking."""
    found = []
    if HALF in (spec.in_bits, spec.out_bits, spec.residual_bits):
        spec = replace(spec, **{name: max(BYTE, getattr(spec, name)) for name in STORED})
        found.append(layer_key(spec))
    if spec.weight_bits == BYTE or spec.depthwise or spec.group_inputs % WHOLE:
        return found
    like = replace(spec, weight_bits=BYTE, weight_group=0)
    small = [spec.small_weights] if spec.weight_group else [True, False]
    return found + [layer_key(replace(like, small_weights=s)) for s in small]
