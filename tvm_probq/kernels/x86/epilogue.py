"""What follows the integer sums: requantize, dequantize, residual and activation, as TE stages.

The order of the float32 operations is the simulator's (`tvm_probq.simulator.numerics`); every
product that feeds a sum is an explicit fused multiply-add, since LLVM contracts as it likes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tvm import te, tirx

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.storage import codes_dtype
from tvm_probq.kernels.x86.floats import activate, fma, rint, unscaled
from tvm_probq.kernels.x86.geometry import Channels

Index = Any  # a TIR expression or a Python int


@dataclass
class Epilogue:
    """Arguments and per-channel stages of a layer's tail.

    Attributes
    ----------
    arguments : list of te.Tensor
        Placeholders after X and W, the output excluded, in the order of the kernel's signature.
    vectors : dict
        Stages ``[N, groups, padded]``, computed once a channel block.
    """

    spec: LayerSpec
    channels: Channels
    arguments: list[te.Tensor] = field(default_factory=list)
    vectors: dict[str, te.Tensor] = field(default_factory=dict)
    _inputs: dict[str, te.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec, (groups, real) = self.spec, (self.channels.groups, self.channels.real)
        per_channel = spec.output != "int32"
        if per_channel:
            self._argument("T", (groups, real))
            self._argument("WS", (groups, real), "int32")
            self._argument("B", (groups, real))
        self._argument("XQ", _ranges(spec.batch, spec.in_ranges, groups, real))
        if spec.correction:
            self._argument("CORR", (spec.batch, groups, real))
        if spec.output == "codes":
            self._argument("YQ", _ranges(spec.batch, spec.out_ranges, groups, real))
        if per_channel:
            self._stages()

    def add_residual(self, shape: tuple[int, ...]) -> te.Tensor:
        """Declare R, of the view `shape`, and its parameters; return R."""
        self._argument("R", shape, codes_dtype(self.spec.residual_bits))
        self._argument("RQ", _ranges(self.spec.batch, 1, 1, 1))
        return self._inputs["R"]

    def zero_code(self, n: Index, c: Index) -> Any:
        """The code of real zero of sample `n` (and input channel `c`), of the input's dtype."""
        return self._input(1, n, 0, c).astype("int32").astype(codes_dtype(self.spec.in_bits))

    def centred(self, sums: te.Tensor) -> te.Tensor:
        """`sums` ``[N, G, blocks, rows, columns, 16]`` less the zero-point's share.

        The schedule folds this stage into the start of the sums.
        """
        if self.spec.output == "int32":
            return sums
        centre, lanes = self.vectors["centre"], sums.shape[5]

        def value(n: Index, g: Index, o: Index, h: Index, w: Index, lane: Index) -> Any:
            # In this order the vector is computed before the sums that start with it.
            return centre[n, g, o * lanes + lane] + sums[n, g, o, h, w, lane]

        return te.compute(sums.shape, value, name="centred")

    def value(self, total: Any, at: tuple[Index, Index, Index], residual: Any = None) -> Any:
        """The output value from the int32 sum `total` at ``(n, g, c)``."""
        if self.spec.output == "int32":
            return total
        v = self._tail(total, at, residual)
        if self.spec.output == "float32":
            return v
        v = tirx.max(v, self._per_range("lower", *at))
        v = tirx.min(v, self._per_range("upper", *at))
        return rint(v).astype(codes_dtype(self.spec.out_bits))

    def rounded(self, total: Any, at: tuple[Index, Index, Index], residual: Any = None) -> Any:
        """The code as int32, below its lower bound where `floor` has to be taken instead."""
        # A value that is no number stays so, and is rounded to the smallest int32.
        v = tirx.min(self._per_range("upper", *at), self._tail(total, at, residual))
        return rint(v)

    def floor(self) -> te.Tensor:
        """The smallest code of each sample, int32 ``[N]``."""
        return te.compute(
            (self.spec.batch,), lambda n: self._lower(n, 0, 0).astype("int32"), name="floor"
        )

    def _tail(self, total: Any, at: tuple[Index, Index, Index], residual: Any) -> Any:
        """The float32 value of codes, not bounded yet, or of a float32 output."""
        spec, (n, g, c) = self.spec, at
        v = total.astype("float32")
        v = fma(v, self.vectors["multiplier"][n, g, c], self.vectors["offset"][n, g, c])
        if residual is not None:
            codes = residual.astype("int32") - self._inputs["RQ"][n, 1, 0].astype("int32")
            v = fma(codes.astype("float32"), self._residual_scale(n, g, c), v)
        if spec.output == "float32":
            return activate(v, spec)
        if not spec.linear:
            step, zero = (self._per_range(name, n, g, c) for name in ("step", "zero"))
            v = fma(unscaled(v, spec), step, zero)
        return v

    def _argument(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> None:
        self._inputs[name] = te.placeholder(shape, dtype, name)
        self.arguments.append(self._inputs[name])

    def _stages(self) -> None:
        spec, inp = self.spec, self._inputs
        on_grid = spec.output == "codes" and spec.linear

        def multiplier(n: Index, g: Index, c: Index) -> Any:
            step = self._input(0, n, g, c) * inp["T"][g, c]
            return step / self._output(0, n, g, c) if on_grid else step

        def offset(n: Index, g: Index, c: Index) -> Any:
            bias = inp["B"][g, c] + inp["CORR"][n, g, c] if spec.correction else inp["B"][g, c]
            if not on_grid:
                return bias
            return bias / self._output(0, n, g, c) + self._output(1, n, g, c)

        self._vector(
            "centre", lambda n, g, c: -(self._input(1, n, g, c).astype("int32") * inp["WS"][g, c])
        )
        self._vector("multiplier", multiplier)
        self._vector("offset", offset)
        if spec.output == "codes" and spec.out_ranges > 1:
            for name in ("lower", "upper"):
                self._vector(name, getattr(self, f"_{name}"))
            if not spec.linear:
                self._vector("step", self._step)
                self._vector("zero", partial(self._output, 1))

    def _vector(self, name: str, value: Callable[[Index, Index, Index], Any]) -> None:
        layout = self.channels

        def padded(n: Index, g: Index, c: Index) -> Any:
            if layout.exact:
                return value(n, g, c)
            # The condition is the same for a whole vector of `lanes`: a branch, not a blend.
            inside = c // layout.lanes * layout.lanes < layout.real
            zero = tirx.const(0, "int32" if name == "centre" else "float32")
            return tirx.if_then_else(inside, value(n, g, c), zero)

        shape = (self.spec.batch, layout.groups, layout.padded)
        self.vectors[name] = te.compute(shape, padded, name=name)

    def _per_range(self, name: str, n: Index, g: Index, c: Index) -> Any:
        if name in self.vectors:
            return self.vectors[name][n, g, c]
        if name == "step":
            return self._step(n, g, c)
        if name == "zero":
            return self._output(1, n, g, c)
        return self._lower(n, g, c) if name == "lower" else self._upper(n, g, c)

    def _step(self, n: Index, g: Index, c: Index) -> Any:
        """The activation's constant factor in steps of the output."""
        return tirx.const(self.spec.tail.factor, "float32") / self._output(0, n, g, c)

    def _lower(self, n: Index, g: Index, c: Index) -> Any:
        low = self.spec.tail.low
        if not math.isfinite(low):
            return tirx.const(0.0, "float32")
        code = tirx.const(low, "float32") / self._output(0, n, g, c) + self._output(1, n, g, c)
        return tirx.max(tirx.nearbyint(code), tirx.const(0.0, "float32"))

    def _upper(self, n: Index, g: Index, c: Index) -> Any:
        high, qmax = self.spec.tail.high, self._output(2, n, g, c)
        if not math.isfinite(high):
            return qmax
        code = tirx.const(high, "float32") / self._output(0, n, g, c) + self._output(1, n, g, c)
        return tirx.min(tirx.nearbyint(code), qmax)

    def _residual_scale(self, n: Index, g: Index, c: Index) -> Any:
        scale = self._inputs["RQ"][n, 0, 0]
        on_grid = self.spec.output == "codes" and self.spec.linear
        return scale / self._output(0, n, g, c) if on_grid else scale

    def _input(self, row: int, n: Index, g: Index, c: Index) -> Any:
        return _at(self._inputs["XQ"], row, n, g, c)

    def _output(self, row: int, n: Index, g: Index, c: Index) -> Any:
        return _at(self._inputs["YQ"], row, n, g, c)


def _ranges(batch: int, count: int, groups: int, channels: int) -> tuple[int, ...]:
    return (batch, 3, 1) if count == 1 else (batch, 3, groups, channels)


def _at(qparams: te.Tensor, row: int, n: Index, g: Index, c: Index) -> Any:
    return qparams[n, row, 0] if len(qparams.shape) == 3 else qparams[n, row, g, c]
