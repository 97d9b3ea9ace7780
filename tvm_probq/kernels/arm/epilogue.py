"""From int32 sums to output values, four channels at a time.

The steps are those of :mod:`tvm_probq.simulator.numerics`.  Codes are clipped after rounding, as
saturating instructions do it for nothing: the bounds are whole numbers, so the result is the same,
and what is no number becomes 0, and so the lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tvm import tirx

from tvm_probq.kernels.arm.halves import residual_quad
from tvm_probq.kernels.arm.packing import offset
from tvm_probq.kernels.arm.registers import neon
from tvm_probq.kernels.arm.storing import Values, store_codes, store_values, store_words, widths
from tvm_probq.kernels.arm.unit import QUAD, WORD
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.emit import let, load, scratch, splat, store, view
from tvm_probq.kernels.small.floats import const, convert, fma, maximum, minimum
from tvm_probq.kernels.small.parameters import Parameters, activate, code_bounds, unscaled
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype

LARGEST = {"uint8": 255.0, "int16": 32767.0}


class Epilogue:
    """What follows the sums of a block of channels of one sample.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    buffers : mapping
        The kernel's arguments by name.
    sample : Any
        Which sample.
    channel : Any
        First channel of the block.
    real : int
        Channels that are stored.
    start : Any
        For raw sums, where in W what they start from lies, in bytes.
    """

    def __init__(
        self, spec: LayerSpec, buffers: Mapping[str, Any], sample: Any, channel: Any, real: int,
        start: Any,
    ) -> None:  # fmt: skip
        self.spec, self._buffers, self._sample = spec, buffers, sample
        self._channel, self.real = channel, real
        self.quads = -(-real // QUAD)
        self._rows: dict[str, Any] = {}
        self.bounds: list[Any] = []
        if spec.output == "int32":
            self._read_starts(start)
            return
        self._y = Parameters(buffers["YQ"], sample) if spec.output == "codes" else None
        self._x = Parameters(buffers["XQ"], sample)
        for first, lanes in self._vectors():
            self._prepare(first, lanes)
        if self._y is not None and spec.out_ranges == 1:
            bounds = self._code_bounds(self._y, 0, 1)
            self.bounds = [_as_code(b, codes_dtype(spec.out_bits)) for b in bounds]
        if spec.residual:
            self._prepare_residual()

    @property
    def _on_grid(self) -> bool:
        """Whether the activation is done by the bounds of the codes."""
        return self.spec.output == "codes" and self.spec.linear

    def _vectors(self) -> list[tuple[int, int]]:
        """First channel and lanes of whole vectors, then of single channels."""
        whole = self.real // QUAD * QUAD
        single = [(c, 1) for c in range(whole, self.real)]
        return [(c, QUAD) for c in range(0, whole, QUAD)] + single

    def starts(self) -> list[Any]:
        """What the sums of each block of four channels start from: the zero-point's share."""
        return [let(self._row("centre", quad)) for quad in range(self.quads)]

    def _row(self, name: str, quad: int) -> Any:
        return load(self._rows[name], quad * QUAD, lanes=QUAD)

    def _keep(self, name: str, value: Any, first: int, lanes: int, dtype: str = "float32") -> None:
        if name not in self._rows:
            self._rows[name] = scratch(dtype, self.quads * QUAD)
        store(self._rows[name], value, first, lanes=lanes)

    def _read_starts(self, start: Any) -> None:
        for quad in range(self.quads):
            found = load(self._buffers["W"], start + quad * QUAD * 4, lanes=QUAD * 4)
            self._keep("centre", tirx.reinterpret("int32x4", found), quad * QUAD, QUAD, "int32")

    def _prepare(self, first: int, lanes: int) -> None:
        spec, c = self.spec, self._channel + first
        x, y = self._x, self._y
        zero = convert(x.zero(c, lanes), "int32")
        sums = load(self._buffers["WS"], c, lanes=lanes)
        centre = (splat(tirx.const(offset(spec), "int32"), lanes) - zero) * sums
        self._keep("centre", centre, first, lanes, "int32")
        step = x.scale(c, lanes) * load(self._buffers["T"], c, lanes=lanes)
        bias = load(self._buffers["B"], c, lanes=lanes)
        if spec.correction:
            bias = bias + load(self._buffers["CORR"], self._sample, c, lanes=lanes)
        if self._on_grid and y is not None:
            scale = y.scale(c, lanes)
            step, bias = let(step) / scale, let(bias) / scale + y.zero(c, lanes)
        self._keep("step", step, first, lanes)
        self._keep("offset", bias, first, lanes)
        if y is not None and spec.out_ranges > 1:
            self._prepare_channels(y, c, first, lanes)

    def _prepare_residual(self) -> None:
        spec, residual = self.spec, Parameters(self._buffers["RQ"], self._sample)
        elements = spec.batch * spec.out_height * spec.out_width * spec.out_channels
        packed = spec.residual_bits == HALF
        self._codes = view(self._buffers["R"], elements // 2 if packed else elements)
        self._residual_zero = let(convert(residual.zero(0, 1), "int16"))
        step = residual.scale(0, 1)
        if self._on_grid and self._y is not None and spec.out_ranges == 1:
            step = let(step / self._y.scale(0, 1))
        self._residual_step = step

    def _prepare_channels(self, y: Parameters, channel: Any, first: int, lanes: int) -> None:
        """What depends on the output's parameters, where each channel has its own."""
        spec, scale = self.spec, y.scale(channel, lanes)
        for name, bound in zip(
            ("lower", "upper"), self._code_bounds(y, channel, lanes), strict=True
        ):
            self._keep(name, bound, first, lanes)
        if not spec.linear:
            self._keep("factor", const(spec.tail.factor, lanes) / scale, first, lanes)
            self._keep("zero", y.zero(channel, lanes), first, lanes)
        elif spec.residual:
            ratio = Parameters(self._buffers["RQ"], self._sample).scale(0, lanes) / scale
            self._keep("residual", ratio, first, lanes)

    def _code_bounds(self, y: Parameters, channel: Any, lanes: int) -> tuple[Any, Any]:
        if self.spec.linear:
            return code_bounds(self.spec.tail, y, channel, lanes)
        return const(0.0, lanes), y.qmax(channel, lanes)

    def values(self, sums: Sequence[Any], position: Any) -> list[Any]:
        """Output values of one position, counted over all samples: vectors of four channels."""
        if self.spec.output == "int32":
            return list(sums)
        residual = self._residual_values(position) if self.spec.residual else []
        return [self._value(quad, total, residual) for quad, total in enumerate(sums)]

    def _value(self, quad: int, total: Any, residual: Sequence[Any]) -> Any:
        v = fma(convert(total, "float32"), self._row("step", quad), self._row("offset", quad))
        if residual:
            own = "residual" in self._rows
            step = self._row("residual", quad) if own else splat(self._residual_step, QUAD)
            v = fma(residual[quad], step, let(v))
        if self.spec.output == "float32":
            return let(activate(let(v), self.spec.tail))
        return self._rounded(quad, let(v))

    def _rounded(self, quad: int, v: Any) -> Any:
        """A code as int32, bounded here only if the bounds are of each channel."""
        if not self.spec.linear and self._y is not None:
            v = let(unscaled(v, self.spec.tail))
            if "factor" in self._rows:
                v = fma(v, self._row("factor", quad), self._row("zero", quad))
            else:
                factor = const(self.spec.tail.factor) / self._y.scale(0, 1)
                v = fma(v, splat(let(factor), QUAD), splat(self._y.zero(0, 1), QUAD))
        if "lower" in self._rows:
            v = minimum(maximum(v, self._row("lower", quad)), self._row("upper", quad))
        return let(neon("int32x4", "fcvtns.v4i32.v4f32", v))

    def _residual_values(self, position: Any) -> list[Any]:
        """The residual's codes less their zero-point, float32, a vector for four channels."""
        if self.spec.residual_bits == HALF:
            return [self._half_of_residual(position, quad) for quad in range(self.quads)]
        codes = scratch("int16", self.quads * QUAD)
        place = position * self.spec.out_channels + self._channel
        first = 0
        for lanes in widths(self.real):
            found = convert(load(self._codes, place + first, lanes=lanes), "int16")
            centred = found - splat(self._residual_zero, lanes)
            store(codes, centred, first, lanes=lanes)
            first += lanes
        return [
            let(convert(convert(load(codes, q * QUAD, lanes=QUAD), "int32"), "float32"))
            for q in range(self.quads)
        ]

    def _half_of_residual(self, position: Any, quad: int) -> Any:
        """The same of four channels, whose codes are in a half of four bytes."""
        start = position * (self.spec.out_channels // 2)
        found = residual_quad(self._codes, self.spec, start, self._channel + quad * QUAD)
        centred = convert(found, "int16") - splat(self._residual_zero, QUAD)
        return let(convert(convert(centred, "int32"), "float32"))

    def store(self, values: Values, output: Any, places: Sequence[Any]) -> None:
        """Store the values of several positions, each from its place on, in elements."""
        if self.spec.output == "codes" and self.spec.out_bits == WORD:
            store_words(values, self.bounds, self.real, output, places)
        elif self.spec.output == "codes":
            store_codes(values, self.bounds, self.real, output, places)
        else:
            store_values(values, self.real, output, places)


def _as_code(bound: Any, dtype: str) -> Any:
    """A bound of codes as one of them; a constant 0 stays one."""
    if isinstance(bound, tirx.FloatImm):
        return tirx.const(int(bound.value), dtype)
    bounded = minimum(maximum(bound, 0.0), LARGEST[dtype])
    return let(convert(bounded, dtype))
