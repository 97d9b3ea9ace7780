"""Matrix products of two tensors of codes."""

from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    VECTOR,
    Argument,
    Register,
    build_kernel,
    let,
    load,
    loop,
    splat,
    store,
    view,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, convert, fma
from tvm_probq.kernels.small.parameters import Parameters, to_codes

ROWS = 4  # of the result, side by side: each vector of `b` is widened once for all of them


def matmul_kernel(shape: tuple[Any, ...], columns: int, *, stored: bool) -> tirx.PrimFunc:
    """Kernel (a, a_qparams, b, b_qparams, y_qparams if `stored`, out) of `matmul`.

    `shape` is that of `a`, ``[N, H, M, K]``; `b` is ``[N, H, K, columns]``; `out` has codes if
    `stored`, else reals.
    """
    batch, heads, rows, length = shape[0], *map(int, shape[1:])

    def body(n: Any, a: Any, a_qparams: Any, b: Any, b_qparams: Any, *rest: Any) -> None:
        left, right = (Parameters(p, n) for p in (a_qparams, b_qparams))
        finish = _Finish(left, right, Parameters(rest[0], n) if stored else None)
        zeros = [let(convert(p.zero(0, 1), "int32")) for p in (left, right)]
        a = view(a, batch, heads * rows, length)
        out = view(rest[-1], batch, heads * rows, columns)

        def product(head: Any, row: Any, count: int) -> None:
            """Write `count` rows of the result, from `row` of the head on."""

            def block(p: Any, lanes: int) -> None:
                sums = [Register(lanes, "int32") for _ in range(count)]
                with loop(length) as k:
                    code = convert(load(b, n, head, k, p, lanes=lanes), "int32")
                    factor = let(code - splat(zeros[1], lanes))
                    for i, total in enumerate(sums):
                        left_code = convert(load(a, n, head * rows + row + i, k), "int32")
                        total.set(total.get() + splat(let(left_code - zeros[0]), lanes) * factor)
                for i, total in enumerate(sums):
                    value = finish(total.get(), lanes)
                    store(out, value, n, head * rows + row + i, p, lanes=lanes)

            wide_blocks(columns, block, VECTOR)

        full, rest_rows = divmod(rows, ROWS)
        with loop(heads) as head:
            if full:
                with loop(full) as i:
                    product(head, i * ROWS, ROWS)
            if rest_rows:
                product(head, full * ROWS, rest_rows)

    arguments = [Argument("a", shape, "uint8"), qparams_argument("a_qparams", batch, 1)]
    arguments += [Argument("b", (batch, heads, length, columns), "uint8")]
    arguments += [qparams_argument("b_qparams", batch, 1)]
    if stored:
        arguments.append(qparams_argument("y_qparams", batch, 1))
    kind = "uint8" if stored else "float32"
    arguments.append(Argument("out", (batch, heads, rows, columns), kind))
    return build_kernel("matmul", arguments, batch, body)


class _Finish:
    """From exact sums to what is stored."""

    def __init__(self, left: Parameters, right: Parameters, y: Parameters | None) -> None:
        self._y = y
        self._step = let(left.scale(0, 1) * right.scale(0, 1))
        if y is not None:
            self._step = let(self._step / y.scale(0, 1))

    def __call__(self, sums: Any, lanes: int) -> Any:
        value, step = convert(sums, "float32"), splat(self._step, lanes)
        if self._y is None:
            return value * step
        zero, qmax = self._y.zero(0, lanes), self._y.qmax(0, lanes)
        return to_codes(fma(value, step, zero), const(0.0, lanes), qmax)
