"""The shift by the rounding of the weights, from the input's own channel means."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    load,
    scratch,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.linear import Scalars, chained_matvec
from tvm_probq.kernels.small.moments import ChannelMoments
from tvm_probq.kernels.small.parameters import Parameters


@dataclass(frozen=True)
class CorrectionSpec:
    """Shapes of a correction.

    Attributes
    ----------
    rank : int or None
        Columns R of the basis ``[IC, R]``; None without basis.
    outputs : int
        OC.
    diagonal : bool
        Whether the matrix is ``[C]``, for a depthwise layer.
    """

    rank: int | None
    outputs: int
    diagonal: bool = False

    def arguments(self, channels: int) -> list[Argument]:
        """The constants: matrix, the scale of its rows, then basis if there is one."""
        if self.diagonal:
            return [Argument("matrix", (self.outputs,))]
        rows = channels if self.rank is None else self.rank
        found = [Argument("matrix", (rows, self.outputs), "int8"), Argument("scale", (rows,))]
        if self.rank is not None:
            found.append(Argument("basis", (channels, self.rank), "int8"))
        return found


def correction_kernel(
    batch: Any, channels: int, ranges: int, count: int, spec: CorrectionSpec
) -> tirx.PrimFunc:
    """Kernel (stat int32 ``[N, 2, IC]``, x_qparams, constants, out ``[N, OC]``)."""

    def body(n: Any, stat: Any, x_qparams: Any, matrix: Any, *rest: Any) -> None:
        moments = ChannelMoments(stat, n, Parameters(x_qparams, n), count)
        if spec.diagonal:
            emit_diagonal_correction(moments, matrix, n, rest[-1])
            return
        z = Projection(moments, rest[1] if spec.rank is not None else None)
        emit_correction(z, matrix, rest[0], n, rest[-1])

    arguments = [Argument("stat", (batch, 2, channels), "int32")]
    arguments += [qparams_argument("x_qparams", batch, ranges), *spec.arguments(channels)]
    output = Argument("out", (batch, spec.outputs))
    return build_kernel("correction", [*arguments, output], batch, body)


class Projection:
    """Channel means, on a basis if there is one, in a small buffer: `project`."""

    def __init__(self, moments: ChannelMoments, basis: Any | None) -> None:
        means = scratch("float32", moments.channels)
        wide_blocks(
            moments.channels, lambda c, lanes: store(means, moments.mean(c, lanes), c, lanes=lanes)
        )
        self._values, self.length = means, moments.channels
        if basis is not None:
            self.length = int(basis.shape[1])
            self._values = scratch("float32", self.length)
            chained_matvec(lambda i: load(means, i), moments.channels, basis, self._keep)

    def _keep(self, column: Any, lanes: int, value: Any) -> None:
        store(self._values, value, column, lanes=lanes)

    @property
    def at(self) -> Scalars:
        """The values, one by one."""
        return lambda i: load(self._values, i)

    def scaled(self, scale: Any) -> Scalars:
        """The values times `scale` ``[R]``, one by one."""
        products = scratch("float32", self.length)

        def keep(i: Any, lanes: int) -> None:
            value = load(self._values, i, lanes=lanes) * load(scale, i, lanes=lanes)
            store(products, value, i, lanes=lanes)

        wide_blocks(self.length, keep)
        return lambda i: load(products, i)


def emit_correction(z: Projection, matrix: Any, scale: Any, n: Any, out: Any) -> None:
    """Write ``(z * scale) @ matrix`` to sample `n` of `out`."""

    def write(column: Any, lanes: int, value: Any) -> None:
        store(out, value, n, column, lanes=lanes)

    chained_matvec(z.scaled(scale), z.length, matrix, write)


def emit_diagonal_correction(moments: ChannelMoments, matrix: Any, n: Any, out: Any) -> None:
    """Write means times `matrix`, channel by channel, to sample `n` of `out`."""

    def block(c: Any, lanes: int) -> None:
        store(out, moments.mean(c, lanes) * load(matrix, c, lanes=lanes), n, c, lanes=lanes)

    wide_blocks(moments.channels, block)
