"""Activations as text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvm_probq.errors import KernelError
from tvm_probq.ops import format_activation, parse_activation
from tvm_probq.simulator.numerics import Activation

ENDS = st.floats(allow_nan=False)


@given(ENDS, ENDS)
def test_clip_roundtrip_is_exact(a: float, b: float) -> None:
    activation = Activation("clip", min(a, b), max(a, b))
    assert parse_activation(format_activation(activation)) == activation


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_slope_roundtrip_is_exact(slope: float) -> None:
    activation = Activation("leaky", slope=slope)
    assert parse_activation(format_activation(activation)) == activation


@pytest.mark.parametrize(
    "kind", ["none", "hard_swish", "hard_sigmoid", "sigmoid", "silu", "tanh", "gelu"]
)
def test_plain_kinds(kind: str) -> None:
    assert format_activation(parse_activation(kind)) == kind


def test_infinite_ends_are_spelled_out() -> None:
    assert format_activation(Activation("clip", 0.0, math.inf)) == "clip(0.0,inf)"
    assert parse_activation("clip(-inf,6.0)") == Activation("clip", -math.inf, 6.0)


@pytest.mark.parametrize(
    "text",
    ["relu", "clip(1)", "clip(2,1)", "clip(a,b)", "clip(nan,1)", "leaky", "leaky(0)", "leaky(1)",
     "leaky(-0.1)", "leaky(nan)", "leaky(a)", "leaky(0.1,0.2)", ""],
)  # fmt: skip
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(KernelError, match="is no activation"):
        parse_activation(text)


def test_unknown_kind_cannot_be_written() -> None:
    with pytest.raises(KernelError, match="unknown activation"):
        format_activation(Activation("softsign"))
