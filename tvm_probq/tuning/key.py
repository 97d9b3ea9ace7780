"""What a layer's speed depends on, as text: the key of a tuning database."""

from __future__ import annotations

from dataclasses import replace

from tvm_probq.kernels.spec import LayerSpec

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
    if spec.small_weights and (spec.weight_bits == 8 or spec.weight_group):
        parts.append("small")
    if not spec.linear:
        parts.append(spec.tail.kind)
    if spec.residual:
        parts.append("residual")
    return " ".join(parts)


def keys_like(spec: LayerSpec) -> list[str]:
    """Keys of layers of 8 bits whose products a layer of fewer bits has, behind its unpacking."""
    if spec.weight_bits == 8 or spec.depthwise or spec.group_inputs % WHOLE:
        return []
    like = replace(spec, weight_bits=8, weight_group=0)
    small = [spec.small_weights] if spec.weight_group else [True, False]
    return [layer_key(replace(like, small_weights=s)) for s in small]
