"""Kernels that predict, against the simulator."""

from typing import Any

import numpy as np
import pytest

from tvm_probq import ops
from tvm_probq.errors import KernelError
from tvm_probq.kernels.small import (
    CorrectionSpec,
    ResidualSpec,
    SurrogateSpec,
    predict_kernel,
)
from tvm_probq.simulator import numerics, surrogates
from tvm_probq.surrogate.sampling import Sampling

COUNT, RESIDUAL_COUNT = 49, 25
KINDS = {
    "moments_tensor": surrogates.MomentsTensor,
    "moments_channel": surrogates.MomentsChannel,
    "moments_diagonal": surrogates.MomentsDiagonal,
    "iid": surrogates.IidTable,
}
PREDICT = {
    "moments_tensor": surrogates.predict_tensor,
    "moments_channel": surrogates.predict_channel,
    "moments_diagonal": surrogates.predict_diagonal,
}


def _normal(rng: Any, *shape: int) -> Any:
    return rng.normal(size=shape).astype("float32")


def _codes(rng: Any, *shape: int) -> Any:
    return rng.integers(-127, 128, shape).astype("int8")


def _stat(rng: Any, batch: int, channels: int, count: int = COUNT) -> Any:
    q = rng.integers(0, 256, (batch, count, 1, channels)).astype("uint8")
    return numerics.sums(q, (1, 1))


def _constants(rng: Any, kind: str, channels: int, rank: int | None, outputs: int) -> list[Any]:
    if kind == "moments_tensor":
        r = rank or channels
        found = [_normal(rng, r, r), _normal(rng, 2, r), _normal(rng, 2)]
        basis = [_codes(rng, channels, r)] if rank else []
        return [*basis, *found, abs(_normal(rng, channels))]
    if kind == "iid":
        return [np.concatenate([_normal(rng, 2, channels), abs(_normal(rng, 4, channels))])]
    if kind == "add":
        return []
    if kind == "matmul":
        return [np.float32([37.0])]
    shape = (channels, outputs) if kind == "moments_channel" else (channels,)
    return [_normal(rng, *shape), abs(_normal(rng, *shape)), _normal(rng, shape[-1])]


def _fit(rng: Any, ranges: int, levels: int) -> surrogates.Fit:
    allowed = np.array([15, 63, 255][-levels:], "float32")
    return surrogates.Fit(abs(_normal(rng, 2, ranges)) * 3, np.float32([0.3, 0.2]), allowed)


def _wanted(
    kind: str, stat: Any, x: Any, constants: list[Any], fit: Any, act: Any, residual: Any,
    count: int = COUNT,
) -> Any:  # fmt: skip
    """The definition, put together as the operator's documentation says."""
    if kind == "iid":
        found = surrogates.predict_iid(KINDS[kind](*constants), stat, x[:, 0], count)
    else:
        found = surrogates.moments_of(stat, x, count)
    if kind in PREDICT:
        given = [None, *constants] if len(constants) == 4 else constants
        found = PREDICT[kind](KINDS[kind](*given), *found)
    if fit.spread.shape[1] == 1 and kind not in ("iid", "moments_tensor"):
        found = surrogates.tensor_moments(*found)
    if residual:
        other = surrogates.tensor_moments(*surrogates.moments_of(*residual, RESIDUAL_COUNT))
        if kind == "matmul":
            found = surrogates.product_moments(found, other, constants[0])
        else:
            found = surrogates.add_residual(*found, other, fit.rule[0])
    return surrogates.to_qparams(*found, fit, act)


CASES = {  # kind, input ranges, rank, outputs, predicted ranges, bit-widths, residual, activation
    "basis": ("moments_tensor", 1, 5, 0, 1, 3, 12, "clip(0.0,inf)"),
    "no basis": ("moments_tensor", -1, None, 0, 1, 1, 0, "hard_swish"),
    "channels": ("moments_channel", 1, None, 20, 20, 2, 0, "leaky(0.1)"),
    "channels mixed": ("moments_channel", 1, None, 20, 1, 1, 40, "none"),
    "diagonal": ("moments_diagonal", -1, None, 0, -1, 3, 0, "clip(0.0,6.0)"),
    "diagonal mixed": ("moments_diagonal", 1, None, 0, 1, 1, 10, "hard_sigmoid"),
    "iid": ("iid", -1, None, 0, 1, 2, 10, "none"),
    "iid one range": ("iid", 1, None, 0, 1, 1, 0, "hard_swish"),
    "add": ("add", 1, None, 0, 1, 2, 24, "clip(0.0,inf)"),
    "matmul": ("matmul", 1, None, 0, 1, 1, 24, "none"),
}


def _check_surrogate(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, case: str, batch: int, channels: int,
    mcpu: str = "", stat: Any = None,
) -> None:  # fmt: skip
    kind, x_ranges, rank, outputs, ranges, levels, other, text = CASES[case]
    x = qparams(batch, channels if x_ranges == -1 else x_ranges)
    constants = _constants(rng, kind, channels, rank, outputs)
    fit = _fit(rng, channels if ranges == -1 else ranges, levels)
    if stat is None:
        patches = (_normal(rng, batch, 3, channels) ** 2 * 1000).astype("float32")
        stat = patches if kind == "iid" else _stat(rng, batch, channels)
    residual = (_stat(rng, batch, other, RESIDUAL_COUNT), qparams(batch)) if other else None

    def make(stat: Any, x: Any, *rest: Any) -> Any:
        last = len(constants)
        pair = tuple(rest[last + 3 :]) or None
        return ops.surrogate(
            stat, x, rest[:last], *rest[last : last + 3], pair, kind=kind, count=COUNT,
            residual_count=RESIDUAL_COUNT, activation=text,
        )  # fmt: skip

    given = [stat, x, *constants, fit.spread, fit.rule, fit.levels, *(residual or ())]
    act = ops.parse_activation(text)
    [found] = evaluate(make, given, mcpu)
    same_bits(found, _wanted(kind, stat, x, constants, fit, act, residual))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("batch", "channels"), [(3, 10), (1, 24), (1, 40)])
def test_surrogate(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, case: str, batch: int, channels: int
) -> None:
    _check_surrogate(evaluate, same_bits, rng, qparams, case, batch, channels)


@pytest.mark.parametrize("mcpu", ["cascadelake", "x86-64", "cortex-a76"])
@pytest.mark.parametrize("case", ["basis", "diagonal", "diagonal mixed", "iid", "matmul"])
def test_surrogate_on_other_instruction_sets(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, case: str, mcpu: str
) -> None:
    _check_surrogate(evaluate, same_bits, rng, qparams, case, 2, 24, mcpu)


@pytest.mark.parametrize("case", ["basis", "diagonal mixed", "add"])
@pytest.mark.parametrize("code", [0, 255])
def test_surrogate_of_a_constant_input(
    evaluate: Any, same_bits: Any, rng: Any, qparams: Any, case: str, code: int
) -> None:
    stat = numerics.sums(np.full((1, COUNT, 1, 24), code, "uint8"), (1, 1))
    _check_surrogate(evaluate, same_bits, rng, qparams, case, 1, 24, stat=stat)


@pytest.mark.parametrize(
    ("shape", "rank", "wide", "outputs", "shared", "with_sums", "other"),
    [
        ((3, 5, 5, 24), 8, 8, 10, True, True, 0),
        ((1, 8, 8, 32), 8, 16, 16, True, False, 24),
        ((2, 10), 4, 6, 40, False, True, 10),
        ((1, 6, 6, 40), None, None, 16, True, False, 0),
    ],
)
def test_predict_kernel(
    run_kernel: Any, same_bits: Any, rng: Any, qparams: Any,
    shape: Any, rank: int | None, wide: int | None, outputs: int, shared: bool, with_sums: bool,
    other: int,
) -> None:  # fmt: skip
    batch, channels = shape[0], shape[-1]
    count, act = Sampling((2, 3)).count(shape), ops.parse_activation("clip(0.0,6.0)")
    q, x = rng.integers(0, 256, shape).astype("uint8"), qparams(batch)
    constants, fit = _constants(rng, "moments_tensor", channels, rank, 0), _fit(rng, 1, 2)
    residual = (_stat(rng, batch, other, RESIDUAL_COUNT), qparams(batch)) if other else None
    rows = wide or channels
    matrix, scale = _codes(rng, rows, outputs), _normal(rng, rows)
    basis = _codes(rng, channels, wide) if wide else None
    given = list(constants)
    if shared and basis is not None:
        basis[:, :rank] = constants[0]
        given[0] = basis
    spec = SurrogateSpec(
        "moments_tensor", batch, channels, 1, count, tuple(c.shape for c in given), 1, 2, act,
        ResidualSpec(other, 1, RESIDUAL_COUNT) if other else None,
    )  # fmt: skip
    correction = CorrectionSpec(wide, outputs)
    func = lambda: predict_kernel(  # noqa: E731
        shape, (2, 3), spec, correction, shared_basis=shared, with_sums=with_sums
    )
    given = [q, x, *given, fit.spread, fit.rule, fit.levels, *(residual or ()), matrix, scale]
    given += [] if shared or basis is None else [basis]
    outs = [np.zeros((batch, 2, channels), "int32")] if with_sums else []
    outs += [np.zeros((batch, 3, 1), "float32"), np.zeros((batch, outputs), "float32")]
    *sums, predicted, corrected = run_kernel(func, given, outs)
    stat = numerics.sums(q, (2, 3))
    mean = surrogates.moments_of(stat, x, count)[0]
    wanted = _wanted("moments_tensor", stat, x, constants, fit, act, residual, count)
    same_bits(predicted, wanted)
    same_bits(corrected, surrogates.correct(mean, matrix, scale, basis))
    assert len(sums) == with_sums
    for found in sums:
        same_bits(found, stat)


def test_predict_kernel_of_a_depthwise_layer(
    run_kernel: Any, same_bits: Any, rng: Any, qparams: Any
) -> None:
    q, x, fit = rng.integers(0, 256, (1, 4, 4, 24)).astype("uint8"), qparams(1), _fit(rng, 24, 1)
    constants, matrix = _constants(rng, "moments_diagonal", 24, None, 0), _normal(rng, 24)
    shapes = tuple(c.shape for c in constants)
    spec = SurrogateSpec("moments_diagonal", 1, 24, 1, 16, shapes, 24, 1)
    func = lambda: predict_kernel(  # noqa: E731
        q.shape, (1, 1), spec, CorrectionSpec(None, 24, diagonal=True)
    )
    outs = [np.zeros((1, 3, 24), "float32"), np.zeros((1, 24), "float32")]
    given = [q, x, *constants, fit.spread, fit.rule, fit.levels, matrix]
    predicted, corrected = run_kernel(func, given, outs)
    stat, act = numerics.sums(q, (1, 1)), ops.parse_activation("none")
    same_bits(predicted, _wanted("moments_diagonal", stat, x, constants, fit, act, None, 16))
    same_bits(corrected, surrogates.moments_of(stat, x, 16)[0] * matrix)


def test_predict_kernel_refuses_what_does_not_fit() -> None:
    iid = SurrogateSpec("iid", 1, 8, 1, 16, ((6, 8),), 1, 1)
    with pytest.raises(KernelError, match="over patches"):
        predict_kernel((1, 4, 4, 8), (1, 1), iid)
    add = SurrogateSpec("add", 1, 8, 1, 16, (), 1, 1)
    with pytest.raises(KernelError, match="the tensor has 9"):
        predict_kernel((1, 4, 4, 9), (1, 1), add)
    with pytest.raises(KernelError, match="no basis to share"):
        predict_kernel((1, 4, 4, 8), (1, 1), add, CorrectionSpec(4, 8), shared_basis=True)
