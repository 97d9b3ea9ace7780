"""What a layer's speed depends on, as text: the key of a tuning database."""

from __future__ import annotations

from tvm_probq.kernels.spec import LayerSpec


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
    parts += [f"w{spec.weight_bits}", spec.output]
    if spec.small_weights and spec.weight_bits == 8:
        parts.append("small")
    if not spec.linear:
        parts.append(spec.tail.kind)
    if spec.residual:
        parts.append("residual")
    return " ".join(parts)
