"""What the maths of both surrogates promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvm_probq.calibration.features import Predictors, channel_moments, mixture, tap_means
from tvm_probq.ir.layers import Geometry
from tvm_probq.quantization.weights import round_weights
from tvm_probq.simulator.arithmetic import f32
from tvm_probq.simulator.convolution import conv2d
from tvm_probq.simulator.numerics import Activation, make_qparams, quantize, sums
from tvm_probq.simulator.surrogates import (
    Fit,
    moments_of,
    patch_sums,
    predict_channel,
    predict_diagonal,
    predict_iid,
    to_qparams,
)
from tvm_probq.surrogate.constants import (
    iid_table,
    moments_channel,
    moments_diagonal,
    moments_tensor,
)
from tvm_probq.surrogate.correction import predicted_correction, static_correction
from tvm_probq.surrogate.directions import (
    EIGHT_BIT_RANK,
    Directions,
    correction_directions,
    principal_basis,
)
from tvm_probq.surrogate.sampling import patch_gamma, sampling
from tvm_probq.surrogate.taps import expand_groups, tap_sums

FIT = Fit(f32([[3.0], [3.0]]), f32([0.0, 0.0]), f32([255.0]))


def geometry(
    channels: int = 8, outputs: int = 8, groups: int = 1, kernel: int = 3, size: int = 6
) -> Geometry:
    """A convolution that keeps the size."""
    pad = kernel // 2
    return Geometry(
        (1, size, size, channels), (1, size, size, outputs), (kernel, kernel), (1, 1), (pad,) * 4,
        (1, 1), groups,
    )  # fmt: skip


def layer(g: Geometry, rng: np.random.Generator, bias: float = 0.0) -> tuple[Any, Any]:
    """Random weights OHWI and a bias."""
    shape = (g.y_shape[-1], *g.kernel, g.x_shape[-1] // g.groups)
    return f32(rng.normal(size=shape)), f32(rng.normal(size=shape[0]) * bias)


def predictors(g: Geometry, rng: np.random.Generator, bias: float = 0.0) -> Predictors:
    """Both surrogates of a random layer."""
    w, b = layer(g, rng, bias)
    moments = moments_diagonal(w, b, g) if g.depthwise else moments_tensor(w, b, g, None)
    return Predictors(g, moments, iid_table(w, b, g), 0.0)


GEOMETRIES = {"dense": geometry(), "grouped": geometry(groups=2), "depthwise": geometry(groups=8)}


@pytest.mark.parametrize("kind", ["moments", "iid"])
@pytest.mark.parametrize("name", GEOMETRIES)
@given(st.integers(-12, 12), st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_scaling_the_input_scales_the_interval(name: str, kind: str, power: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = GEOMETRIES[name]
    p = predictors(g, rng)
    x = f32(rng.normal(size=g.x_shape))
    factor = np.float32(2.0**power)
    one = to_qparams(*p.predict(kind, x, None), FIT, Activation())
    scaled = to_qparams(*p.predict(kind, x * factor, None), FIT, Activation())
    np.testing.assert_allclose(scaled[:, 0], one[:, 0] * factor, rtol=1e-4)
    np.testing.assert_allclose(scaled[:, 1], one[:, 1], atol=1)


@pytest.mark.parametrize("name", GEOMETRIES)
@given(st.integers(0, 999))
@settings(max_examples=15, deadline=None)
def test_moments_do_not_see_the_order_of_positions(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    g = GEOMETRIES[name]
    p = predictors(g, rng, bias=1.0)
    qparams = make_qparams(f32([[-3.0]]), f32([[3.0]]), 255)
    q = quantize(f32(rng.normal(size=g.x_shape)), qparams)
    order = rng.permutation(36)
    mixed = q.reshape(1, 36, -1)[:, order].reshape(q.shape)
    a, b = (mixture(p.moments, *moments_of(sums(v, (1, 1)), qparams, 36)) for v in (q, mixed))
    np.testing.assert_array_equal(a, b)


@given(st.integers(0, 999), st.integers(0, 7))
@settings(max_examples=20, deadline=None)
def test_a_depthwise_channel_depends_on_itself_alone(seed: int, channel: int) -> None:
    rng = np.random.default_rng(seed)
    g = GEOMETRIES["depthwise"]
    constants = moments_diagonal(*layer(g, rng, 1.0), g)
    x = f32(rng.normal(size=g.x_shape))
    other = f32(rng.normal(size=g.x_shape) * 100)
    other[..., channel] = x[..., channel]
    a, b = (predict_diagonal(constants, *channel_moments(v)) for v in (x, other))
    assert a[0][0, channel] == b[0][0, channel]
    assert a[1][0, channel] == b[1][0, channel]


@pytest.mark.parametrize("name", GEOMETRIES)
@pytest.mark.parametrize("kind", ["moments", "iid"])
def test_a_batch_is_its_samples_one_by_one(name: str, kind: str) -> None:
    rng = np.random.default_rng(0)
    g = GEOMETRIES[name]
    p = predictors(g, rng, bias=1.0)
    qparams = make_qparams(f32([[-3.0]] * 3), f32([[3.0]] * 3), 255)
    q = quantize(f32(rng.normal(size=(3, *g.x_shape[1:]))), qparams)

    def predict(codes: Any, params: Any) -> Any:
        if kind == "moments":
            return mixture(p.moments, *moments_of(sums(codes, (1, 1)), params, 36))
        patches = patch_sums(codes, params, g.kernel, g.strides, g.pads, g.dilation, g.groups, 1)
        return predict_iid(p.iid, patches, params[:, 0], 36)

    together = predict(q, qparams)
    apart = [predict(q[i : i + 1], qparams[i : i + 1]) for i in range(3)]
    for a, b in zip(together, zip(*apart, strict=True), strict=True):
        np.testing.assert_array_equal(a, np.concatenate(b))


def test_moments_are_exact_for_pointwise_layers_of_independent_channels() -> None:
    """Mean is exact for a 1x1 layer; variance where the channels of the input do not correlate."""
    rng = np.random.default_rng(1)
    g = Geometry((1, 16, 16, 4), (1, 16, 16, 6), (1, 1), (1, 1), (0,) * 4, (1, 1), 1)
    w, b = layer(g, rng, 1.0)
    basis = np.linalg.qr(rng.normal(size=(256, 5)) - 0.0)[0]
    basis -= basis.mean(0)
    white = np.linalg.qr(basis)[0][:, :4] * 16  # columns of mean zero, orthogonal
    x = f32(white.reshape(1, 16, 16, 4) * rng.uniform(0.5, 2, 4) + rng.normal(size=4))
    y = conv2d(x, w, (1, 1), (0,) * 4, (1, 1), 1) + b
    mean, variance = predict_channel(moments_channel(w, b, g), *channel_moments(x))
    np.testing.assert_allclose(mean[0], y.mean((0, 1, 2)), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(variance[0], y.var((0, 1, 2)), rtol=1e-2)
    centre, whole = mixture(moments_tensor(w, b, g, None), *channel_moments(x))
    np.testing.assert_allclose(centre[0, 0], y.mean(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(whole[0, 0], y.var(), rtol=1e-2)


def test_iid_is_right_on_average_over_weights() -> None:
    rng = np.random.default_rng(2)
    g = Geometry((1, 6, 6, 8), (1, 6, 6, 4000), (3, 3), (1, 1), (1,) * 4, (1, 1), 1)
    w, b = f32(rng.normal(0.1, 1.0, size=(4000, 3, 3, 8))), np.zeros(4000, np.float32)
    x = f32(rng.normal(size=g.x_shape))
    y = conv2d(x, w, (1, 1), (1,) * 4, (1, 1), 1)
    p = Predictors(g, moments_tensor(w, b, g, None), iid_table(w, b, g), 0.0)
    centre, variance = p.predict("iid", x, None)
    assert centre[0, 0] == pytest.approx(y.mean(), abs=0.2)
    assert variance[0, 0] == pytest.approx(y.var(), rel=0.1)


@given(st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_groups_expand_to_blocks(groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(2 * groups, 3))
    block = expand_groups(rows, groups)
    x = rng.normal(size=3 * groups)
    wanted = [rows[o] @ x[3 * (o // 2) : 3 * (o // 2) + 3] for o in range(2 * groups)]
    np.testing.assert_allclose(block @ x, wanted)


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([3, 16, 40, 960]))
def test_sampling_reads_few_positions(height: int, width: int, channels: int) -> None:
    shape = (1, height, width, channels)
    found = sampling(shape)
    down, right = found.strides
    assert found.count(shape) == np.zeros(shape)[0, ::down, ::right, 0].size
    assert height * width / (down * right) <= 512 or right == 1
    assert found.count(shape) >= min(height * width, 24)
    assert found.count(shape) * channels <= 512 * 32 * 2 or found.count(shape) <= 512


@pytest.mark.parametrize("size", [1, 7, 8, 9, 33, 224])
def test_patches_are_few(size: int) -> None:
    gamma = patch_gamma(geometry(size=size))
    assert (-(-size // gamma)) ** 2 <= 64


def test_padding_counts_only_taps_inside() -> None:
    g = geometry(1, 1, size=2)
    w = np.ones((1, 3, 3, 1), np.float32)
    x = np.ones((1, 2, 2, 1), np.float32)
    y = conv2d(x, w, (1, 1), (1,) * 4, (1, 1), 1)
    assert tap_sums(w, g)[0][0, 0] == pytest.approx(y.mean())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_correction_restores_the_mean(name: str, bits: int) -> None:
    rng = np.random.default_rng(3)
    g = GEOMETRIES[name]
    w, _ = layer(g, rng)
    real = round_weights(w, bits).real()
    x = np.broadcast_to(f32(rng.normal(size=g.x_shape[-1])), g.x_shape)  # flat: taps count alone
    y, y_rounded = (conv2d(x, v, (1, 1), g.pads, (1, 1), g.groups) for v in (w, real))
    shift = (y - y_rounded).mean((0, 1, 2))
    mean = channel_moments(f32(x))[0]
    predicted = predicted_correction(w, real, g, None)
    assert predicted is not None
    np.testing.assert_allclose(predicted.shift(mean[0]), shift, atol=0.01 * np.abs(shift).max())
    assert predicted_correction(real, real, g, None) is None
    np.testing.assert_allclose(static_correction(w, real, g, tap_means(x, g)), shift, atol=1e-4)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_static_correction_is_exact(name: str) -> None:
    rng = np.random.default_rng(6)
    g = GEOMETRIES[name]
    w, _ = layer(g, rng)
    real = round_weights(w, 3).real()
    x = f32(rng.normal(size=g.x_shape) + np.arange(g.x_shape[1])[:, None, None])  # not flat
    y, y_rounded = (conv2d(x, v, (1, 1), g.pads, (1, 1), g.groups) for v in (w, real))
    shift = (y - y_rounded).astype(np.float64).mean((0, 1, 2))
    np.testing.assert_allclose(static_correction(w, real, g, tap_means(x, g)), shift, atol=1e-3)


@pytest.mark.parametrize(
    ("kernel", "strides", "dilation"), [((3, 3), (2, 2), (1, 1)), ((3, 2), (1, 2), (2, 1))]
)
def test_tap_means_are_what_a_convolution_averages(
    kernel: Any, strides: Any, dilation: Any
) -> None:
    rng = np.random.default_rng(7)
    x = rng.normal(size=(1, 9, 10, 4)).astype(np.float32)
    w = rng.normal(size=(5, *kernel, 4)).astype(np.float32)
    y = conv2d(x, w, strides, (1, 0, 2, 1), dilation, 1)
    g = Geometry(x.shape, y.shape, kernel, strides, (1, 0, 2, 1), dilation, 1)
    found = np.einsum("ohwi,hwi->o", w.astype(np.float64), tap_means(x, g))
    np.testing.assert_allclose(found, y.mean((0, 1, 2)), atol=1e-4)


def test_a_basis_holds_what_it_was_made_from() -> None:
    rng = np.random.default_rng(4)
    means = f32(rng.normal(size=(40, 3)) @ rng.normal(size=(3, 64)))
    basis = principal_basis(means)
    assert basis is not None
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-5)
    np.testing.assert_allclose(means @ basis @ basis.T, means, atol=1e-3)
    assert principal_basis(means[:, :8]) is None


def test_rounded_directions_lead_back_to_the_means_in_their_span() -> None:
    rng = np.random.default_rng(5)
    means = f32(rng.normal(size=(40, 3)) @ rng.normal(size=(3, 64)))
    basis = principal_basis(means)
    assert basis is not None
    found = Directions.of(basis[:, :3])
    assert found.codes.dtype == np.int8
    assert found.codes.shape == (64, 3)
    np.testing.assert_allclose((means @ found.codes) @ found.lift.T, means, atol=0.05)
    inside = found.lift @ rng.normal(size=3)
    np.testing.assert_allclose(found.lift @ (found.codes.T @ inside), inside, atol=1e-9)


def test_few_channels_are_corrected_one_by_one() -> None:
    basis = np.eye(32)
    assert correction_directions(None, fine=False) is None
    wide, coarse = correction_directions(basis, fine=False), correction_directions(basis, fine=True)
    assert wide is not None
    assert wide.codes.shape == (32, EIGHT_BIT_RANK)
    assert coarse is None
