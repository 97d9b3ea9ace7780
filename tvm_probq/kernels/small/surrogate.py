"""The surrogates: a layer's output parameters from sums over its input."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.correction import Projection
from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import Argument, build_kernel, load, shared, view, wide_blocks
from tvm_probq.kernels.small.interval import Fit, write_interval
from tvm_probq.kernels.small.moments import (
    ChannelMoments,
    Moments,
    add_residual,
    product_moments,
    tensor_moments,
)
from tvm_probq.kernels.small.parameters import NO_ACTIVATION, Parameters
from tvm_probq.kernels.small.predictors import (
    Mixture,
    predict_channels,
    predict_diagonal,
    predict_iid,
    predict_tensor,
)
from tvm_probq.simulator.numerics import Activation


@dataclass(frozen=True)
class ResidualSpec:
    """A residual's sums: number of channels, of ranges (1 or that), and of positions summed."""

    channels: int
    ranges: int
    count: int


@dataclass(frozen=True)
class SurrogateSpec:
    """Shapes and attributes of a call of `surrogate`.

    Attributes
    ----------
    kind : str
        One of :data:`tvm_probq.ops.surrogate_op.KINDS`.
    batch : int or tirx.Var
        Samples.
    channels : int
        Channels of `stat`; channel groups for ``"iid"``.
    x_ranges : int
        1 or the number of channels.
    count : int
        Positions summed in `stat`.
    constants : tuple of tuple of int
        Shapes of the constants.
    ranges : int
        Ranges predicted, the second dimension of `spread`.
    levels : int
        Number of allowed bit-widths.
    activation : Activation
        What follows the layer.
    residual : ResidualSpec, optional
        The residual, or the second operand of ``"add"`` or ``"matmul"``.
    """

    kind: str
    batch: Any
    channels: int
    x_ranges: int
    count: int
    constants: tuple[tuple[int, ...], ...]
    ranges: int
    levels: int
    activation: Activation = NO_ACTIVATION
    residual: ResidualSpec | None = None

    @property
    def has_basis(self) -> bool:
        """Whether the constants of ``"moments_tensor"`` begin with a basis."""
        return self.kind == "moments_tensor" and len(self.constants) == 5

    def fit_arguments(self) -> list[Argument]:
        """The constants and what calibration fitted."""
        found = [
            Argument(f"constant_{i}", shape, "int8" if self.has_basis and i == 0 else "float32")
            for i, shape in enumerate(self.constants)
        ]
        fit = {"spread": (2, self.ranges), "rule": (2,), "levels": (self.levels,)}
        return found + [Argument(name, shape) for name, shape in fit.items()]

    def residual_arguments(self) -> list[Argument]:
        """The residual's sums and parameters, if there is one."""
        if self.residual is None:
            return []
        stat = Argument("residual", (self.batch, 2, self.residual.channels), "int32")
        ranges = self.residual.ranges
        return [stat, qparams_argument("residual_qparams", self.batch, ranges)]


@dataclass(frozen=True)
class Tensors:
    """Buffers of one surrogate."""

    constants: tuple[Any, ...]
    fit: Fit
    residual: tuple[Any, Any] | None
    out: Any

    @staticmethod
    def of(spec: SurrogateSpec, buffers: list[Any], out: Any) -> "Tensors":
        """Sort the buffers of `fit_arguments` and `residual_arguments`."""
        first = len(spec.constants)
        rest = buffers[first + 3 :]
        residual = (rest[0], rest[1]) if rest else None
        return Tensors(tuple(buffers[:first]), Fit(*buffers[first : first + 3]), residual, out)


def surrogate_kernel(spec: SurrogateSpec) -> tirx.PrimFunc:
    """Kernel of `surrogate`: arguments in the operator's order, then parameters ``[N, 3, G]``."""
    rows, dtype = (3, "float32") if spec.kind == "iid" else (2, "int32")

    def body(n: Any, stat: Any, x_qparams: Any, *rest: Any) -> None:
        tensors, p = Tensors.of(spec, list(rest[:-1]), rest[-1]), Parameters(x_qparams, n)
        if spec.kind == "iid":
            table = tensors.constants[0]
            _write_mixture(spec, tensors, n, lambda: predict_iid(table, stat, n, p, spec.count))
            return
        moments = ChannelMoments(stat, n, p, spec.count, spec.channels)
        emit_surrogate(spec, tensors, n, moments, basis_projection(spec, tensors, moments))

    arguments = [Argument("stat", (spec.batch, rows, spec.channels), dtype)]
    arguments.append(qparams_argument("x_qparams", spec.batch, spec.x_ranges))
    arguments += spec.fit_arguments() + spec.residual_arguments()
    arguments.append(qparams_argument("out", spec.batch, spec.ranges))
    return build_kernel("surrogate", arguments, spec.batch, body)


def basis_projection(
    spec: SurrogateSpec, tensors: Tensors, moments: ChannelMoments
) -> Projection | None:
    """The input's means on the basis, for the kind that needs them."""
    if spec.kind != "moments_tensor":
        return None
    return Projection(moments, tensors.constants[0] if spec.has_basis else None)


def emit_surrogate(
    spec: SurrogateSpec, tensors: Tensors, n: Any, moments: ChannelMoments, z: Projection | None
) -> None:
    """Write the parameters of sample `n`, for every kind but ``"iid"``."""
    moments = moments.for_shared()
    if z is not None:
        mixture = predict_tensor(tensors.constants[-4:], moments, z)
        _write_mixture(spec, tensors, n, mixture)
        return
    per_channel, outputs = _channel_moments(spec, tensors.constants, moments)
    if spec.ranges == 1:
        _write_mixture(spec, tensors, n, lambda: tensor_moments(per_channel, outputs))
        return
    fit, out = tensors.fit.of_channels(outputs), tensors.out
    out = Parameters(view(out, out.shape[0], 3, outputs), n)

    def block(c: Any, lanes: int) -> None:
        write_interval(fit, spec.activation, per_channel(c, lanes), out, c, lanes)

    with shared("intervals"):
        wide_blocks(outputs, block)


def _channel_moments(
    spec: SurrogateSpec, constants: tuple[Any, ...], moments: ChannelMoments
) -> tuple[Moments, int]:
    """Moments of each output channel, and how many there are."""
    if spec.kind in ("add", "matmul"):
        return moments.both, moments.channels
    if spec.kind == "moments_channel":
        return predict_channels(constants, moments)
    return predict_diagonal(constants, moments), moments.channels


def _write_mixture(
    spec: SurrogateSpec, tensors: Tensors, n: Any, emit_mixture: Callable[[], Mixture]
) -> None:
    residual = None
    if spec.residual is not None and tensors.residual is not None:
        sums, qparams = tensors.residual
        residual = ChannelMoments(
            sums, n, Parameters(qparams, n), spec.residual.count, spec.residual.channels
        ).for_shared()
    with shared("interval"):
        mixture = emit_mixture()
        if residual is not None:
            other = tensor_moments(residual.both, residual.channels)
            if spec.kind == "matmul":
                mixture = product_moments(mixture, other, load(tensors.constants[0], 0))
            else:
                mixture = add_residual(mixture, other, tensors.fit.correlation)
        write_interval(tensors.fit, spec.activation, mixture, Parameters(tensors.out, n), 0, 1)
