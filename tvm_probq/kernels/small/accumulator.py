"""Kernels over a stored int32 accumulator: to codes, to reals, to the range of the reals."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import Rescaled, qparams_argument, rows_view
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    let,
    load,
    loop,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import const, convert, fma
from tvm_probq.kernels.small.parameters import (
    NO_ACTIVATION,
    Parameters,
    activate,
    code_bounds,
    to_codes,
    unscaled,
)
from tvm_probq.kernels.small.ranges import RunningRange, lanes_for
from tvm_probq.simulator.numerics import Activation


@dataclass(frozen=True)
class AccumulatorSpec:
    """Shapes of a call of `requantize`, `measure` or `dequantize_accumulator`.

    Attributes
    ----------
    shape : tuple
        Of the accumulator, ``[N, ..., OC]``.
    x_ranges : int
        1 or OC.
    activation : Activation
        What follows the layer.
    correction : bool
        Whether there is one.
    residual_ranges : int
        0 without residual, else 1 or OC.
    residual_dtype, out_dtype : str
        Of the residual's and of the result's codes.
    """

    shape: tuple[Any, ...]
    x_ranges: int
    activation: Activation = NO_ACTIVATION
    correction: bool = False
    residual_ranges: int = 0
    residual_dtype: str = "uint8"
    out_dtype: str = "uint8"


def requantize_kernel(spec: AccumulatorSpec, y_ranges: int) -> tirx.PrimFunc:
    """Kernel of `requantize`; the arguments are in the operator's order, then the codes."""

    def emit(layer: "_Layer", y: Parameters, n: Any, out: Any, lanes: int) -> Callable[[Any], None]:
        c, act = layer.channel, spec.activation
        scale, zero = let(y.scale(c, lanes)), y.zero(c, lanes)
        if act.linear:
            layer.prepare(scale, zero)
            lower, upper = code_bounds(act, y, c, lanes)
            return lambda i: store(
                out, to_codes(layer.value(i), lower, upper, spec.out_dtype), n, i, c, lanes=lanes
            )
        layer.prepare(None, None)
        lower, upper = const(0.0, lanes), y.qmax(c, lanes)
        step = let(const(act.factor, lanes) / scale)

        def at(i: Any) -> None:
            value = fma(unscaled(layer.value(i), act), step, zero)
            store(out, to_codes(value, lower, upper, spec.out_dtype), n, i, c, lanes=lanes)

        return at

    def body(n: Any, acc: Any, x_qparams: Any, y_qparams: Any, *rest: Any) -> None:
        out, y = rows_view(rest[-1], True), Parameters(y_qparams, n)

        def block(layer: "_Layer", lanes: int) -> None:
            at = emit(layer, y, n, out, lanes)
            with loop(out.shape[1]) as i:
                at(i)

        _over_channels(spec, n, acc, x_qparams, rest[:-1], block)

    y_argument = [qparams_argument("y_qparams", spec.shape[0], y_ranges)]
    arguments = _arguments(spec, y_argument, Argument("out", spec.shape, spec.out_dtype))
    return build_kernel("requantize", arguments, spec.shape[0], body)


def dequantize_accumulator_kernel(spec: AccumulatorSpec) -> tirx.PrimFunc:
    """Kernel of `dequantize_accumulator`; the arguments in the operator's order, then the reals."""

    def body(n: Any, acc: Any, x_qparams: Any, *rest: Any) -> None:
        out = rows_view(rest[-1], True)

        def block(layer: "_Layer", lanes: int) -> None:
            layer.prepare(None, None)
            with loop(out.shape[1]) as i:
                value = activate(layer.value(i), spec.activation)
                store(out, value, n, i, layer.channel, lanes=lanes)

        _over_channels(spec, n, acc, x_qparams, rest[:-1], block)

    arguments = _arguments(spec, [], Argument("out", spec.shape))
    return build_kernel("dequantize_accumulator", arguments, spec.shape[0], body)


def measure_kernel(spec: AccumulatorSpec, qmax: int) -> tirx.PrimFunc:
    """Kernel of `measure`; the arguments in the operator's order, then parameters ``[N, 3, 1]``."""

    def body(n: Any, acc: Any, x_qparams: Any, *rest: Any) -> None:
        seen = RunningRange(lanes_for(spec.shape[-1]))

        def block(layer: "_Layer", lanes: int) -> None:
            layer.prepare(None, None)
            with loop(rows_view(acc, True).shape[1]) as i:
                seen.see(activate(layer.value(i), spec.activation), lanes)

        _over_channels(spec, n, acc, x_qparams, rest[:-1], block)
        Parameters(rest[-1], n).write(*seen.ends(), const(qmax))

    arguments = _arguments(spec, [], qparams_argument("out", spec.shape[0], 1))
    return build_kernel("measure", arguments, spec.shape[0], body)


class _Layer:
    """The accumulator of `lanes` channels and what turns it into real values or codes."""

    def __init__(
        self, spec: AccumulatorSpec, n: Any, acc: Any, x_qparams: Any, rest: Any, c: Any, lanes: int
    ) -> None:
        self.channel, self._lanes, self._n = c, lanes, n
        self._spec, self._acc, self._rest = spec, rows_view(acc, True), rest
        scale, total, bias = (load(b, c, lanes=lanes) for b in rest[:3])
        x = Parameters(x_qparams, n)
        self._shift = let(convert(x.zero(c, lanes), "int32") * total)
        self._step = let(x.scale(c, lanes) * scale)
        self._offset = let(bias + load(rest[3], n, c, lanes=lanes) if spec.correction else bias)
        self._residual: Rescaled | None = None

    def prepare(self, y_scale: Any, y_zero: Any) -> None:
        """Fold the result's parameters in; none for real values."""
        if y_scale is not None:
            self._step = let(self._step / y_scale)
            self._offset = let(self._offset / y_scale + y_zero)
        if self._spec.residual_ranges:
            codes, qparams = rows_view(self._rest[-2], True), Parameters(self._rest[-1], self._n)
            self._residual = Rescaled(codes, qparams, y_scale, self.channel, self._lanes)

    def value(self, position: Any) -> Any:
        """The layer's output at one position, in steps of the result or real."""
        index = (self._n, position, self.channel)
        centred = convert(load(self._acc, *index, lanes=self._lanes) - self._shift, "float32")
        value = fma(centred, self._step, self._offset)
        return value if self._residual is None else self._residual.add_to(value, *index)


def _over_channels(
    spec: AccumulatorSpec, n: Any, acc: Any, x_qparams: Any, rest: Any,
    block: Callable[[_Layer, int], None],
) -> None:  # fmt: skip
    def run(c: Any, lanes: int) -> None:
        block(_Layer(spec, n, acc, x_qparams, rest, c, lanes), lanes)

    wide_blocks(int(spec.shape[-1]), run)


def _arguments(spec: AccumulatorSpec, y: list[Argument], out: Argument) -> list[Argument]:
    batch, channels = spec.shape[0], spec.shape[-1]
    found = [Argument("acc", spec.shape, "int32")]
    found += [qparams_argument("x_qparams", batch, spec.x_ranges), *y]
    found += [Argument("weight_scale", (channels,)), Argument("weight_sum", (channels,), "int32")]
    found.append(Argument("bias", (channels,)))
    if spec.correction:
        found.append(Argument("correction", (batch, channels)))
    if spec.residual_ranges:
        found.append(Argument("residual", spec.shape, spec.residual_dtype))
        found.append(qparams_argument("residual_qparams", batch, spec.residual_ranges))
    return [*found, out]
