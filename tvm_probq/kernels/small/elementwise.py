"""Kernels that map codes or reals element by element, channels last."""

from math import prod
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.emit import (
    Argument,
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
from tvm_probq.kernels.small.machine import on_arm
from tvm_probq.kernels.small.parameters import Parameters, activate, code_bounds, to_codes
from tvm_probq.simulator.numerics import Activation

Shape = tuple[Any, ...]


def qparams_argument(name: str, batch: Any, ranges: int) -> Argument:
    """The argument for parameters ``[N, 3, G]``."""
    return Argument(name, (batch, 3, ranges))


def rows_view(buffer: Any, per_channel: bool) -> Any:
    """A tensor as ``[N, positions, channels]``; as one long row when channels do not matter."""
    batch, *middle, channels = buffer.shape
    positions = prod(int(d) for d in middle)
    shape = (positions, int(channels)) if per_channel else (1, positions * int(channels))
    return view(buffer, batch, *shape)


def quantize_kernel(shape: Shape, ranges: int, dtype: str = "uint8") -> tirx.PrimFunc:
    """Kernel (x float32, qparams, codes) of `quantize`, all of `shape` channels last."""
    batch = shape[0]

    def body(n: Any, x: Any, qparams: Any, out: Any) -> None:
        x, out = (rows_view(b, ranges > 1) for b in (x, out))
        p = Parameters(qparams, n)

        def block(c: Any, lanes: int) -> None:
            step = let(const(1.0, lanes) / p.scale(c, lanes))
            zero, qmax = p.zero(c, lanes), p.qmax(c, lanes)
            with loop(x.shape[1]) as i:
                value = fma(load(x, n, i, c, lanes=lanes), step, zero)
                codes = to_codes(value, const(0.0, lanes), qmax, dtype)
                store(out, codes, n, i, c, lanes=lanes)

        wide_blocks(int(x.shape[2]), block)

    arguments = [Argument("x", shape), qparams_argument("qparams", batch, ranges)]
    return build_kernel("quantize", [*arguments, Argument("out", shape, dtype)], batch, body)


def dequantize_kernel(shape: Shape, ranges: int, dtype: str = "uint8") -> tirx.PrimFunc:
    """Kernel (codes, qparams, x float32) of `dequantize`."""
    batch = shape[0]

    def body(n: Any, q: Any, qparams: Any, out: Any) -> None:
        q, out = (rows_view(b, ranges > 1) for b in (q, out))
        p = Parameters(qparams, n)

        def block(c: Any, lanes: int) -> None:
            scale, zero = p.scale(c, lanes), p.zero(c, lanes)
            with loop(q.shape[1]) as i:
                code = convert(load(q, n, i, c, lanes=lanes), "float32")
                store(out, (code - zero) * scale, n, i, c, lanes=lanes)

        wide_blocks(int(q.shape[2]), block)

    arguments = [Argument("q", shape, dtype), qparams_argument("qparams", batch, ranges)]
    return build_kernel("dequantize", [*arguments, Argument("out", shape)], batch, body)


class Rescaled:
    """Codes of one operand as multiples of the result's step, or as reals without one."""

    def __init__(self, codes: Any, p: Parameters, y_scale: Any, channel: Any, lanes: int) -> None:
        self._codes, self._lanes = codes, lanes
        zero = p.zero(channel, lanes)
        # USUBL widens and subtracts bytes; elsewhere codes are widened to 32 bits at once.
        self._kind = "int16" if on_arm() else "int32"
        self._zero = let(convert(zero, str(codes.dtype) if on_arm() else "int32"))
        scale = p.scale(channel, lanes)
        self._ratio = let(scale if y_scale is None else scale / y_scale)

    def add_to(self, value: Any, *index: Any) -> Any:
        """`value` plus this operand, by one fused multiply-add."""
        code = convert(load(self._codes, *index, lanes=self._lanes), self._kind)
        centred = convert(code - convert(self._zero, self._kind), "int32")
        return fma(convert(centred, "float32"), self._ratio, value)


def rescale_kernel(shape: Shape, ranges: tuple[int, int], dtype: str = "uint8") -> tirx.PrimFunc:
    """Kernel (x, x_qparams, y_qparams, out) of `rescale`; `ranges` of the input and the result.

    `dtype` is that of x.
    """
    return _sum_kernel("rescale", shape, ranges, Activation(), dtype)


def add_kernel(shape: Shape, ranges: tuple[int, int, int], activation: Activation) -> tirx.PrimFunc:
    """Kernel (a, a_qparams, b, b_qparams, y_qparams, out) of `add`; `ranges` of a, b and result."""
    return _sum_kernel("add", shape, ranges, activation)


def _sum_kernel(
    name: str, shape: Shape, ranges: tuple[int, ...], activation: Activation, dtype: str = "uint8"
) -> tirx.PrimFunc:
    batch, operands = shape[0], len(ranges) - 1

    def body(n: Any, *buffers: Any) -> None:
        per_channel = max(ranges) > 1
        codes = [rows_view(b, per_channel) for b in (*buffers[: 2 * operands : 2], buffers[-1])]
        params = [Parameters(b, n) for b in (*buffers[1 : 2 * operands : 2], buffers[-2])]
        out, y = codes[-1], params[-1]

        def block(c: Any, lanes: int) -> None:
            scale, zero = let(y.scale(c, lanes)), y.zero(c, lanes)
            terms = [
                Rescaled(q, p, scale, c, lanes)
                for q, p in zip(codes[:-1], params[:-1], strict=True)
            ]
            lower, upper = code_bounds(activation, y, c, lanes)
            with loop(out.shape[1]) as i:
                value = zero
                for term in reversed(terms):  # the definition adds the second operand first
                    value = term.add_to(value, n, i, c)
                store(out, to_codes(value, lower, upper), n, i, c, lanes=lanes)

        wide_blocks(int(out.shape[2]), block)

    arguments = []
    for letter, count in zip("ab", ranges[:-1], strict=False):
        arguments.append(Argument(letter, shape, dtype))
        arguments.append(qparams_argument(f"{letter}_qparams", batch, count))
    arguments.append(qparams_argument("y_qparams", batch, ranges[-1]))
    return build_kernel(name, [*arguments, Argument("out", shape, "uint8")], batch, body)


def clip_kernel(shape: Shape, ranges: int, activation: Activation) -> tirx.PrimFunc:
    """Kernel (q uint8, qparams, out uint8) of `clip`."""
    batch = shape[0]

    def body(n: Any, q: Any, qparams: Any, out: Any) -> None:
        q, out = (rows_view(b, ranges > 1) for b in (q, out))
        p = Parameters(qparams, n)

        def block(c: Any, lanes: int) -> None:
            lower, upper = code_bounds(activation, p, c, lanes)
            with loop(q.shape[1]) as i:
                code = convert(load(q, n, i, c, lanes=lanes), "float32")
                store(out, to_codes(code, lower, upper), n, i, c, lanes=lanes)

        wide_blocks(int(q.shape[2]), block)

    arguments = [Argument("q", shape, "uint8"), qparams_argument("qparams", batch, ranges)]
    return build_kernel("clip", [*arguments, Argument("out", shape, "uint8")], batch, body)


def activation_kernel(shape: Shape, activation: Activation) -> tirx.PrimFunc:
    """Kernel (x float32, out float32) of `activation`."""

    def body(n: Any, x: Any, out: Any) -> None:
        x, out = (rows_view(b, False) for b in (x, out))

        def block(c: Any, lanes: int) -> None:
            store(out, activate(load(x, n, 0, c, lanes=lanes), activation), n, 0, c, lanes=lanes)

        wide_blocks(int(x.shape[2]), block)

    arguments = [Argument("x", shape), Argument("out", shape)]
    return build_kernel("activation", arguments, shape[0], body)


def dequantize_weight_kernel(shape: tuple[int, ...], axis: int) -> tirx.PrimFunc:
    """Kernel (codes int8, scale, out float32) of `dequantize_weight`."""
    outer, inner = prod(shape[:axis]), prod(shape[axis + 1 :])

    def body(i: Any, codes: Any, scale: Any, out: Any) -> None:
        codes, out = (view(b, outer, shape[axis], inner) for b in (codes, out))

        def along_axis(c: Any, lanes: int) -> None:
            value = convert(load(codes_row, i, c, lanes=lanes), "float32")
            store(out_row, value * load(scale, c, lanes=lanes), i, c, lanes=lanes)

        if inner == 1:
            codes_row, out_row = (view(b, outer, shape[axis]) for b in (codes, out))
            wide_blocks(shape[axis], along_axis)
            return
        with loop(shape[axis]) as c:
            step = let(load(scale, c))

            def along_inner(k: Any, lanes: int) -> None:
                value = convert(load(codes, i, c, k, lanes=lanes), "float32")
                store(out, value * splat(step, lanes), i, c, k, lanes=lanes)

            wide_blocks(inner, along_inner)

    arguments = [Argument("codes", shape, "int8"), Argument("scale", (shape[axis],))]
    arguments.append(Argument("out", shape))
    return build_kernel("dequantize_weight", arguments, outer, body)
