"""Sums, surrogate and correction of one tensor in one kernel: each call costs 0.3 us by itself."""

from collections.abc import Callable
from typing import Any

from tvm import tirx

from tvm_probq.errors import KernelError
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.correction import (
    CorrectionSpec,
    Projection,
    emit_correction,
    emit_diagonal_correction,
)
from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import Argument, build_kernel, scratch
from tvm_probq.kernels.small.moments import ChannelMoments
from tvm_probq.kernels.small.parameters import Parameters
from tvm_probq.kernels.small.sums import Shape, Strides, emit_sums
from tvm_probq.kernels.small.surrogate import (
    SurrogateSpec,
    Tensors,
    basis_projection,
    emit_surrogate,
)
from tvm_probq.kernels.storage import codes_shape

# What emits the sums of sample `n` of `q`, maybe packed, by strides, also to `out` if there is one,
# and says in which buffer, as which sample of it, they are.
Summing = Callable[[Any, Strides, Any, Any, bool], tuple[Any, Any]]


def sums_by(
    q: Any, strides: Strides, n: Any, out: Any, packed: bool, emit: Any = emit_sums
) -> tuple[Any, Any]:  # fmt: skip
    """Sums where they are handed out, else in scratch memory: a `Summing`."""
    channels = q.shape[-1] * (2 if packed else 1)
    sums, at = (scratch("int32", 1, 2, channels), 0) if out is None else (out, n)
    emit(q, strides, n, sums, at, packed=packed)
    return sums, at


def predict_kernel(
    shape: Shape,
    strides: Strides | None,
    surrogate: SurrogateSpec,
    correction: CorrectionSpec | None = None,
    *,
    shared_basis: bool = False,
    with_sums: bool = False,
    summing: Summing = sums_by,
    packed: bool = False,
) -> tirx.PrimFunc:
    """Everything that is predicted from one tensor, bit for bit as by the single operators.

    The arguments of the kernel are, in this order:

    1. q uint8 of `shape`, maybe packed, or its sums if they are there, and x_qparams float32
       ``[N, 3, G]``;
    2. the surrogate's constants, then spread, rule and levels;
    3. with a residual, its sums and parameters;
    4. with a correction, its matrix, the scale of its rows unless it is diagonal, and its basis
       unless it has none or it is shared;
    5. outputs: sums int32 ``[N, 2, C]`` if asked for, parameters ``[N, 3, G]``, and float32
       ``[N, OC]`` with a correction.

    Parameters
    ----------
    shape : tuple
        ``[N, H, W, C]`` or ``[N, C]`` of the tensor.
    strides : tuple of int, optional
        Of the rows and columns that are read; None for sums that are there.
    surrogate : SurrogateSpec
        Any kind but ``"iid"``, whose sums are over patches.
    correction : CorrectionSpec, optional
        The correction, if the layer has one.
    shared_basis : bool
        Whether the correction uses the basis (or lack of one) among the surrogate's constants, of
        which the surrogate then reads the first columns.
    with_sums : bool
        Whether another operator reads the sums too.
    summing : Summing, optional
        What makes the sums, by default plain code.
    packed : bool
        Whether q holds two codes in a byte.

    Raises
    ------
    KernelError
        When the specifications do not fit each other.
    """
    _check(shape, surrogate, correction, shared_basis)
    first = len(surrogate.fit_arguments()) + len(surrogate.residual_arguments())

    def body(n: Any, q: Any, x_qparams: Any, *rest: Any) -> None:
        outputs = list(rest[len(rest) - 1 - with_sums - (correction is not None) :])
        handed_out = outputs.pop(0) if with_sums else None
        sums, at = (q, n) if strides is None else summing(q, strides, n, handed_out, packed)
        moments = ChannelMoments(sums, at, Parameters(x_qparams, n), surrogate.count, shape[-1])
        tensors = Tensors.of(surrogate, list(rest[:first]), outputs[0])
        z = basis_projection(surrogate, tensors, moments)
        if correction is not None:
            _correct(correction, moments, z if shared_basis else None, n, rest[first:])
        emit_surrogate(surrogate, tensors, n, moments, z)

    arguments = _inputs(shape, surrogate, correction, shared_basis)
    if strides is None:
        arguments[0] = Argument("stat", (shape[0], 2, shape[-1]), "int32")
    elif packed:
        arguments[0] = Argument("q", codes_shape(shape, HALF), "uint8")
    if with_sums:
        arguments.append(Argument("sums", (shape[0], 2, shape[-1]), "int32"))
    arguments.append(qparams_argument("qparams", shape[0], surrogate.ranges))
    if correction is not None:
        arguments.append(Argument("correction", (shape[0], correction.outputs)))
    return build_kernel("predict", arguments, shape[0], body)


def _correct(
    spec: CorrectionSpec, moments: ChannelMoments, z: Projection | None, n: Any, rest: Any
) -> None:
    """Emit the correction; `rest` starts with the matrix and ends with the output."""
    if spec.diagonal:
        emit_diagonal_correction(moments, rest[0], n, rest[-1])
        return
    if z is None:
        z = Projection(moments, rest[2] if spec.rank is not None else None)
    emit_correction(z, rest[0], rest[1], n, rest[-1])


def _inputs(
    shape: Shape, surrogate: SurrogateSpec, correction: CorrectionSpec | None, shared_basis: bool
) -> list[Argument]:
    found = [Argument("q", shape, "uint8")]
    found.append(qparams_argument("x_qparams", shape[0], surrogate.x_ranges))
    found += surrogate.fit_arguments() + surrogate.residual_arguments()
    if correction is not None:
        constants = correction.arguments(shape[-1])
        found += constants[:2] if shared_basis else constants
    return found


def _check(
    shape: Shape, surrogate: SurrogateSpec, correction: CorrectionSpec | None, shared_basis: bool
) -> None:
    why = ""
    if surrogate.kind == "iid":
        why = "iid reads sums over patches, not over positions"
    elif surrogate.channels != shape[-1]:
        why = f"the surrogate is for {surrogate.channels} channels, the tensor has {shape[-1]}"
    elif shared_basis and (correction is None or correction.diagonal):
        why = "without a matrix to multiply it, no basis is shared"
    elif shared_basis and surrogate.kind != "moments_tensor":
        why = f"{surrogate.kind} has no basis to share"
    if why:
        raise KernelError("these cannot be predicted by one kernel", where="predict", why=why)
