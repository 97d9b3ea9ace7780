"""The operator that predicts a layer's output parameters from sums over its input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm.ir import Call
from tvm.relax import Expr

from tvm_probq.ops import checks
from tvm_probq.ops.activation import parse_activation
from tvm_probq.ops.predict_ops import expect_sums
from tvm_probq.ops.registry import make_call, register

KINDS = ("moments_tensor", "moments_channel", "moments_diagonal", "iid", "add", "matmul")
PER_CHANNEL_KINDS = ("moments_channel", "moments_diagonal")
_FIT = 3  # spread, rule, levels


@dataclass(frozen=True)
class SurrogateArgs:
    """Tensors and attributes of a call of `surrogate`, see :func:`surrogate`."""

    stat: Expr
    x_qparams: Expr
    constants: tuple[Expr, ...]
    spread: Expr
    rule: Expr
    levels: Expr
    residual: tuple[Expr, Expr] | None
    kind: str
    count: int
    residual_count: int
    activation: str


def surrogate_args(call: Call) -> SurrogateArgs:
    """Name the arguments of a call of `surrogate`.

    Raises
    ------
    KernelError
        When an attribute is missing or there are too few tensors.
    """
    has_residual = bool(checks.attribute(call, "has_residual"))
    args = list(call.args)
    if len(args) < 2 + _FIT + 2 * has_residual:
        raise checks.fail(call, f"{len(args)} tensors are too few")
    residual = (args[-2], args[-1]) if has_residual else None
    inner = args[: len(args) - 2 * has_residual]
    return SurrogateArgs(
        inner[0], inner[1], tuple(inner[2:-_FIT]), inner[-3], inner[-2], inner[-1], residual,
        str(checks.attribute(call, "kind")), int(checks.attribute(call, "count")),
        int(checks.attribute(call, "residual_count")), str(checks.attribute(call, "activation")),
    )  # fmt: skip


def surrogate(
    stat: Expr, x_qparams: Expr, constants: Sequence[Expr], spread: Expr, rule: Expr, levels: Expr,
    residual: tuple[Expr, Expr] | None = None, *, kind: str, count: int, residual_count: int = 1,
    activation: str = "none",
) -> Call:  # fmt: skip
    """Predict the output parameters of a layer before it runs.

    Parameters
    ----------
    stat : relax.Expr
        int32 ``[N, 2, IC]`` of `sums`; for ``"iid"`` float32 ``[N, 3, groups]`` of `patch_sums`.
    x_qparams : relax.Expr
        float32 ``[N, 3, G]`` of the layer's input.
    constants : sequence of relax.Expr
        The fields, in order, of the kind's class in :mod:`tvm_probq.simulator.surrogates`;
        ``"moments_tensor"`` may leave out the basis, ``"add"`` has none, ``"matmul"`` the length
        of its sums, float32 ``[1]``.
    spread : relax.Expr
        float32 ``[2, G]``: G = 1 gives one range, else one a channel (``"moments_channel"`` and
        ``"moments_diagonal"`` alone, without residual).
    rule, levels : relax.Expr
        float32 ``[2]`` and ``[B]``, see :class:`tvm_probq.simulator.surrogates.Fit`.
    residual : pair of relax.Expr, optional
        Sums and parameters of the residual; for ``"add"`` and ``"matmul"`` those of the second
        operand.
    kind : str
        One of `KINDS`.
    count, residual_count : int
        Positions summed in `stat` and in the residual's sums.
    activation : str
        See :mod:`tvm_probq.ops.activation`.

    Returns
    -------
    Call
        float32 ``[N, 3, G]``.
    """
    parse_activation(activation)
    return make_call(
        "surrogate",
        [stat, x_qparams, *constants, spread, rule, levels, *(residual or ())],
        kind=kind,
        count=count,
        residual_count=residual_count,
        activation=activation,
        has_residual=int(residual is not None),
    )


def _infer(call: Call) -> Any:
    args = surrogate_args(call)
    parse_activation(args.activation)
    checks.positive(call, "count", "residual_count")
    if args.kind not in KINDS:
        raise checks.fail(call, f"kind is {args.kind!r}", f"it must be one of {', '.join(KINDS)}")
    batch, channels = _infer_stat(call, args)
    outputs = _infer_constants(call, args, channels)
    after = 2 + len(args.constants)
    spread = checks.dims_of(call, after, "spread", "float32", 2)
    checks.expect_dims(call, "spread", spread, 2, spread[1])
    checks.expect_dims(call, "rule", checks.dims_of(call, after + 1, "rule", "float32", 1), 2)
    checks.dims_of(call, after + 2, "levels", "float32", 1)
    if args.residual is None and args.kind == "matmul":
        raise checks.fail(call, "there is no second operand", "a product has two")
    if args.residual is not None:
        r_batch, _ = expect_sums(
            call, after + _FIT, after + _FIT + 1, "residual", "residual_qparams"
        )
        if checks.differ(r_batch, batch):
            raise checks.fail(call, f"the residual has the batch {r_batch}", f"stat has {batch}")
    _expect_groups(call, args, spread[1], outputs)
    return checks.qparams_type(batch, spread[1])


def _infer_stat(call: Call, args: SurrogateArgs) -> Any:
    if args.kind != "iid":
        return expect_sums(call, 0, 1, "stat", "x_qparams")
    dims = checks.dims_of(call, 0, "stat", "float32", 3)
    checks.expect_dims(call, "stat", dims, dims[0], 3, dims[2])
    checks.expect_qparams(call, 1, "x_qparams", dims[0], dims[2])
    return dims[0], dims[2]


def _infer_constants(call: Call, args: SurrogateArgs, channels: Any) -> Any:
    """Check the constants of the kind; gives the number of output channels it predicts for."""
    names = {
        "moments_tensor": ("basis", "gram", "linear", "scalars", "power"),
        "iid": ("table",),
        "add": (),
        "matmul": ("length",),
    }.get(args.kind, ("weights", "power", "bias"))
    if args.kind == "moments_tensor" and len(args.constants) == len(names) - 1:
        names = names[1:]
    if len(args.constants) != len(names):
        why = f"{args.kind} takes {', '.join(names) or 'none'}"
        raise checks.fail(call, f"{len(args.constants)} constants were given", why)
    ranks = {"basis": 2, "gram": 2, "linear": 2, "table": 2}
    dtypes = {"basis": "int8"}
    if args.kind == "moments_channel":
        ranks |= {"weights": 2, "power": 2}
    dims = {
        name: checks.dims_of(call, 2 + i, name, dtypes.get(name, "float32"), ranks.get(name, 1))
        for i, name in enumerate(names)
    }
    rank = dims["basis"][1] if "basis" in dims else channels
    outputs = dims["bias"][0] if "bias" in dims else 1
    weights = [channels, outputs] if args.kind == "moments_channel" else [channels]
    wanted = {
        "basis": [channels, rank], "gram": [rank, rank], "linear": [2, rank], "scalars": [2],
        "length": [1], "table": [6, channels], "weights": weights, "bias": [outputs],
        "power": weights,
    }  # fmt: skip
    for name, have in dims.items():
        checks.expect_dims(call, name, have, *wanted[name])
    return outputs


def _expect_groups(call: Call, args: SurrogateArgs, groups: Any, outputs: Any) -> None:
    if not checks.differ(groups, 1):
        return
    if args.kind not in PER_CHANNEL_KINDS:
        raise checks.fail(call, f"spread holds {groups} ranges", f"{args.kind} predicts one")
    if args.residual is not None:
        raise checks.fail(call, "a residual with ranges per channel", "it is known per tensor only")
    if checks.differ(groups, outputs):
        raise checks.fail(call, f"spread holds {groups} ranges", f"there are {outputs} channels")


register("surrogate", _infer)
