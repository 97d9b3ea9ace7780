"""The shift by the rounding of the weights, from the input's own channel means."""

from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    exact_blocks,
    load,
    number,
    scratch,
    shared,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.linear import chained_matvec
from tvm_probq.kernels.small.moments import ChannelMoments
from tvm_probq.kernels.small.parameters import Parameters
from tvm_probq.simulator.arithmetic import PROJECTION_CHAINS


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
        moments = ChannelMoments(stat, n, Parameters(x_qparams, n), count, channels)
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
    """Channel means, on a basis if there is one, in a small buffer: `project`.

    Attributes
    ----------
    values : Any
        The buffer.
    length : Number
        How many there are.
    """

    def __init__(self, moments: ChannelMoments, basis: Any | None) -> None:
        moments = moments.for_shared()
        self.length = moments.channels
        self.values = means = scratch("float32", self.length)
        if basis is not None:
            self.length = number(int(basis.shape[1]))
            self.values = scratch("float32", self.length)
            basis = view(basis, moments.channels, self.length)

        def keep_mean(c: Any, lanes: int) -> None:
            store(means, moments.mean(c, lanes), c, lanes=lanes)

        def keep(column: Any, lanes: int, value: Any) -> None:
            store(self.values, value, column, lanes=lanes)

        with shared("projection"):
            wide_blocks(moments.channels, keep_mean)
            if basis is not None:
                chained_matvec(
                    lambda i: load(means, i), moments.channels, basis, self.length, keep,
                    PROJECTION_CHAINS,
                )  # fmt: skip


def emit_correction(z: Projection, matrix: Any, scale: Any, n: Any, out: Any) -> None:
    """Write ``(z * scale) @ matrix`` to sample `n` of `out`."""
    rows, columns = z.length, number(int(matrix.shape[1]))
    scale, matrix = view(scale, rows), view(matrix, rows, columns)
    out = view(out, out.shape[0], columns)
    products = scratch("float32", rows)

    def keep(i: Any, lanes: int) -> None:
        value = load(z.values, i, lanes=lanes) * load(scale, i, lanes=lanes)
        store(products, value, i, lanes=lanes)

    def write(column: Any, lanes: int, value: Any) -> None:
        store(out, value, n, column, lanes=lanes)

    with shared("correction"):
        exact_blocks(rows, keep)  # each once: TVM may put the products where the values are
        chained_matvec(lambda i: load(products, i), rows, matrix, columns, write)


def emit_diagonal_correction(moments: ChannelMoments, matrix: Any, n: Any, out: Any) -> None:
    """Write means times `matrix`, channel by channel, to sample `n` of `out`."""
    moments = moments.for_shared()
    matrix, out = view(matrix, moments.channels), view(out, out.shape[0], moments.channels)

    def block(c: Any, lanes: int) -> None:
        store(out, moments.mean(c, lanes) * load(matrix, c, lanes=lanes), n, c, lanes=lanes)

    with shared("correction"):
        wide_blocks(moments.channels, block)
