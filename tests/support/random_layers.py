"""Layers at random, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from layer_cases import layer

from tvm_probq.kernels.spec import LayerSpec


def stored(channels: int) -> Any:
    """Bits that a tensor of this many channels may be stored in."""
    return st.sampled_from([8, 16] if channels % 8 else [4, 4, 8, 16])


@st.composite
def layers(draw: Callable[..., Any]) -> LayerSpec:
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    together = draw(st.sampled_from([1, 1, 8]))
    ic, oc = (groups * together * draw(st.integers(1, 35 // together)) for _ in range(2))
    if draw(st.booleans()):
        groups = oc = ic
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    height, width = (
        draw(st.integers((k - 1) * d + 1, 20)) for k, d in zip(kernel, dilation, strict=True)
    )
    output = draw(st.sampled_from(["codes", "codes", "float32", "int32"]))
    widths = [4, 8] if groups == ic == oc > 1 else [2, 4, 6, 8]
    plain = output == "int32"
    clips = [
        "none",
        "clip(0,inf)",
        "clip(-1,6)",
        "leaky(0.1)",
        "hard_swish",
        "hard_sigmoid",
        "sigmoid",
        "silu",
        "tanh",
        "gelu",
    ]
    return layer(
        height, width, ic, oc, kernel=kernel, dilation=dilation, groups=groups, output=output,
        batch=draw(st.integers(1, 2)), strides=draw(st.tuples(*[st.integers(1, 3)] * 2)),
        pads=draw(st.tuples(*[st.integers(0, 3)] * 4)), weight_bits=draw(st.sampled_from(widths)),
        activation="none" if plain else draw(st.sampled_from(clips)),
        residual=not plain and draw(st.booleans()), correction=not plain and draw(st.booleans()),
        out_ranges=draw(st.sampled_from([1, oc])),
        in_ranges=draw(st.sampled_from([1, ic])) if groups == ic == oc > 1 else 1,
        small_weights=draw(st.booleans()),
        symmetric=draw(st.booleans()),
        in_bits=draw(stored(ic)),
        out_bits=draw(stored(oc if groups in (1, ic) else 1)), residual_bits=draw(stored(oc)),
    )  # fmt: skip
