"""Elementwise products of codes, and their exact range: two tensors, or a tensor and its gate.

The factor of each channel (gate's code less its zero-point, times the step) is computed once a
call; then every code costs one fused multiply-add.  Rows of few channels are read several together,
so that they fill vectors.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument
from tvm_probq.kernels.small.emit import (
    Argument,
    Register,
    build_kernel,
    exact_blocks,
    let,
    load,
    loop,
    scratch,
    store,
    view,
)
from tvm_probq.kernels.small.floats import const, convert, fma
from tvm_probq.kernels.small.machine import wide
from tvm_probq.kernels.small.parameters import (
    NO_ACTIVATION,
    Parameters,
    activate,
    code_bounds,
    to_codes,
)
from tvm_probq.kernels.small.ranges import RunningRange
from tvm_probq.simulator.numerics import Activation

TILE_LIMIT = 1024  # bytes of scratch memory from which on it is not on the stack
LARGEST = 255

Positions = AbstractContextManager[Any]


@dataclass(frozen=True)
class ProductSpec:
    """Shapes of a call of `multiply` or `product_range`.

    Attributes
    ----------
    shape : tuple
        Of the first factor and of the product.
    gated : bool
        Whether the second factor is a gate ``[N, 1, 1, C]``.
    ranges : tuple of int
        Ranges of the factors, and of the product of `multiply`; each 1 or C.
    activation : Activation
        What follows: a clip or nothing.
    """

    shape: tuple[Any, ...]
    gated: bool
    ranges: tuple[int, ...]
    activation: Activation = NO_ACTIVATION

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.shape[-1])

    def arguments(self) -> list[Argument]:
        """Both factors with their parameters."""
        batch = self.shape[0]
        gate = (batch, 1, 1, self.channels)
        return [
            Argument("a", self.shape, "uint8"),
            qparams_argument("a_qparams", batch, self.ranges[0]),
            Argument("b", gate if self.gated else self.shape, "uint8"),
            qparams_argument("b_qparams", batch, self.ranges[1]),
        ]


def multiply_kernel(spec: ProductSpec) -> tirx.PrimFunc:
    """Kernel (a, a_qparams, b, b_qparams, y_qparams, out uint8) of `multiply`.

    Each element of `a` is read once, before the same element of the product is written: it may be
    written over.
    """
    batch = spec.shape[0]

    def body(
        n: Any, a: Any, a_qparams: Any, b: Any, b_qparams: Any, y_qparams: Any, out: Any
    ) -> None:  # fmt: skip
        grid, y = _Grid.of(spec), Parameters(y_qparams, n)
        factors = _Factors.of(spec, grid, n, (a, a_qparams), (b, b_qparams))
        codes = _flat(out)

        def block(c: Any, lanes: int, positions: Positions) -> None:
            scale, zero = y.scale(c, lanes), y.zero(c, lanes)
            lower, upper = code_bounds(spec.activation, y, c, lanes)
            first, second = factors.first(c, lanes), factors.second(c, lanes, scale)
            with positions as at:
                value = fma(first(at), second(at), zero)
                store(codes, to_codes(value, lower, upper), n, at, lanes=lanes)

        grid.blocks(block)

    y_argument = qparams_argument("y_qparams", batch, spec.ranges[2])
    arguments = [*spec.arguments(), y_argument, Argument("out", spec.shape, "uint8")]
    return build_kernel("multiply", arguments, batch, body)


def product_range_kernel(spec: ProductSpec, qmax: int) -> tirx.PrimFunc:
    """Kernel (a, a_qparams, b, b_qparams, out ``[N, 3, 1]``) of `product_range`."""
    batch = spec.shape[0]

    def body(n: Any, a: Any, a_qparams: Any, b: Any, b_qparams: Any, out: Any) -> None:
        grid, seen = _Grid.of(spec), RunningRange(wide())
        factors = _Factors.of(spec, grid, n, (a, a_qparams), (b, b_qparams))

        def extremes(c: Any, lanes: int, positions: Positions) -> None:
            """Of a channel the factor is one, so its smallest and largest code tell the range."""
            low, high = Register(lanes, "uint8", LARGEST), Register(lanes, "uint8")
            with positions as at:
                code = let(factors.code(at, lanes))
                low.set(tirx.Min(low.get(), code))
                high.set(tirx.Max(high.get(), code))
            factor = factors.second(c, lanes, None)(None)
            for end in (low, high):
                seen.see(factors.centre(end.get(), c, lanes) * factor, lanes)

        def every(c: Any, lanes: int, positions: Positions) -> None:
            first, second = factors.first(c, lanes), factors.second(c, lanes, None)
            with positions as at:
                seen.see(first(at) * second(at), lanes)

        grid.blocks(extremes if spec.gated else every)
        low, high = (let(activate(end, spec.activation)) for end in seen.ends())
        Parameters(out, n).write(low, high, const(qmax))

    arguments = [*spec.arguments(), qparams_argument("out", batch, 1)]
    return build_kernel("product_range", arguments, batch, body)


@dataclass(frozen=True)
class _Grid:
    """A sample as rows of one length, and elements that are left over.

    `together` positions make a row of `length` elements, `full` rows; `rest` elements remain.
    """

    together: int
    length: int
    full: int
    rest: int

    @staticmethod
    def of(spec: ProductSpec) -> "_Grid":
        positions, channels = prod(int(d) for d in spec.shape[1:-1]), spec.channels
        together = positions
        if max(spec.ranges) > 1:
            together = 1
        elif spec.gated:
            together = _positions_together(positions, channels)
        full, left = divmod(positions, together)
        return _Grid(together, together * channels, full, left * channels)

    def blocks(self, body: Callable[[Any, int, Positions], None]) -> None:
        """Run ``body(c, lanes, positions)`` for vectors that cover each element once.

        `c` is the place of the vector in a row; entering `positions` starts the loop over rows and
        gives the place in the sample.
        """
        exact_blocks(self.length, lambda c, lanes: body(c, lanes, self._rows(c)), wide())
        if self.rest:
            start = self.full * self.length
            exact_blocks(self.rest, lambda c, lanes: body(c, lanes, nullcontext(start + c)), wide())

    @contextmanager
    def _rows(self, c: Any) -> Iterator[Any]:
        with loop(self.full) as i:
            yield i * self.length + c


def _positions_together(positions: int, channels: int) -> int:
    """How many positions make rows of whole vectors, in so few bytes that a tile is on the stack.

    Where that cannot be, as many as fit.
    """
    most = min(positions, max(1, (TILE_LIMIT - 1) // channels))
    whole = [k for k in range(1, most + 1) if k * channels % wide() == 0]
    return min(whole, default=1 if channels >= wide() else most)


@dataclass(frozen=True)
class _Factors:
    """Codes of both factors as flat rows of a sample, the gate tiled to the length of a row."""

    spec: ProductSpec
    sample: Any
    codes: Any
    other: Any
    parameters: tuple[Parameters, Parameters]

    @staticmethod
    def of(
        spec: ProductSpec, grid: _Grid, n: Any, a: tuple[Any, Any], b: tuple[Any, Any]
    ) -> "_Factors":  # fmt: skip
        parameters = Parameters(a[1], n), Parameters(b[1], n)
        other = _tiled(b[0], n, grid) if spec.gated else _flat(b[0])
        return _Factors(spec, n, _flat(a[0]), other, parameters)

    def code(self, at: Any, lanes: int) -> Any:
        """Codes of the first factor."""
        return load(self.codes, self.sample, at, lanes=lanes)

    def centre(self, code: Any, c: Any, lanes: int, which: int = 0) -> Any:
        """float32 of codes less the zero-point."""
        zero = let(convert(self.parameters[which].zero(c, lanes), "int32"))
        return convert(convert(code, "int32") - zero, "float32")

    def first(self, c: Any, lanes: int) -> Callable[[Any], Any]:
        """The first factor's codes less their zero-point, by place in the sample."""
        zero = let(convert(self.parameters[0].zero(c, lanes), "int32"))
        return lambda at: convert(convert(self.code(at, lanes), "int32") - zero, "float32")

    def second(self, c: Any, lanes: int, y_scale: Any) -> Callable[[Any], Any]:
        """The second factor in real values, or in steps of the product."""
        a, b = self.parameters
        step = a.scale(c, lanes) * b.scale(c, lanes)
        step = let(step if y_scale is None else step / y_scale)
        zero = let(convert(b.zero(c, lanes), "int32"))

        def at(*index: Any) -> Any:
            code = convert(load(self.other, *index, lanes=lanes), "int32")
            return let(convert(code - zero, "float32") * step)

        if not self.spec.gated:
            return lambda place: at(self.sample, place)
        factor = at(0, c)
        return lambda _place: factor


def _flat(buffer: Any) -> Any:
    batch, *rest = buffer.shape
    return view(buffer, batch, prod(int(d) for d in rest))


def _tiled(gate: Any, n: Any, grid: _Grid) -> Any:
    """The codes of the gate, ``[1, length]``, repeated for the positions of a row."""
    channels = int(gate.shape[-1])
    tile, codes = scratch("uint8", 1, grid.length), _flat(gate)
    with loop(grid.together) as i:

        def copy(c: Any, lanes: int) -> None:
            store(tile, load(codes, n, c, lanes=lanes), 0, i * channels + c, lanes=lanes)

        exact_blocks(channels, copy, wide())
    return tile
