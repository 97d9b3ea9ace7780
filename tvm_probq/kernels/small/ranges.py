"""Kernels that measure ranges: of real values, of pooled codes, of several ranges together."""

from collections.abc import Sequence
from typing import Any

from tvm import tirx

from tvm_probq.kernels.small.elementwise import qparams_argument, rows_view
from tvm_probq.kernels.small.emit import (
    Argument,
    Register,
    build_kernel,
    let,
    load,
    loop,
    scratch,
    store,
    wide_blocks,
)
from tvm_probq.kernels.small.floats import (
    const,
    fma,
    maximum,
    minimum,
    nan_maximum,
    nan_minimum,
)
from tvm_probq.kernels.small.machine import wide
from tvm_probq.kernels.small.parameters import Parameters, to_codes
from tvm_probq.kernels.small.pooling import channel_mean


class RunningRange:
    """The smallest interval around zero that holds every value seen; a NaN is not seen."""

    def __init__(self, lanes: int) -> None:
        self._low, self._high = Register(lanes), Register(lanes)

    def see(self, value: Any, lanes: int) -> None:
        """Take in a vector of at most as many lanes."""
        value = let(value)
        self._low.set(minimum(value, self._low.get(lanes)), lanes)
        self._high.set(maximum(value, self._high.get(lanes)), lanes)

    def ends(self) -> tuple[Any, Any]:
        """Both ends, over all lanes."""
        lanes = self._low.lanes
        while lanes > 1:
            lanes //= 2
            low, high = self._low, self._high
            low.set(minimum(low.get(lanes), low.get(lanes, lanes)), lanes)
            high.set(maximum(high.get(lanes), high.get(lanes, lanes)), lanes)
        return self._low.get(1), self._high.get(1)


def lanes_for(extent: int) -> int:
    """Width of the running vectors for rows of `extent` elements."""
    return 1 << (min(extent, wide()).bit_length() - 1)


def observe_kernel(shape: tuple[Any, ...], qmax: int) -> tirx.PrimFunc:
    """Kernel (x float32, out ``[N, 3, 1]``) of `observe`."""
    batch = shape[0]

    def body(n: Any, x: Any, out: Any) -> None:
        x = rows_view(x, False)
        extent = int(x.shape[2])
        seen = RunningRange(lanes_for(extent))
        wide_blocks(extent, lambda c, lanes: seen.see(load(x, n, 0, c, lanes=lanes), lanes))
        Parameters(out, n).write(*seen.ends(), const(qmax))

    arguments = [Argument("x", shape), qparams_argument("out", batch, 1)]
    return build_kernel("observe", arguments, batch, body)


def pool_range_kernel(shape: tuple[Any, ...], ranges: int, qmax: int) -> tirx.PrimFunc:
    """Kernel (x uint8 ``[N, H, W, C]``, x_qparams, out ``[N, 3, 1]``) of `pool_range`."""
    batch, channels = shape[0], shape[3]

    def body(n: Any, x: Any, x_qparams: Any, out: Any) -> None:
        x, p = rows_view(x, True), Parameters(x_qparams, n)
        seen = RunningRange(lanes_for(channels))

        def block(c: Any, lanes: int) -> None:
            seen.see(channel_mean(x, p, n, c, lanes) * p.scale(c, lanes), lanes)

        wide_blocks(channels, block)
        Parameters(out, n).write(*seen.ends(), const(qmax))

    arguments = [Argument("x", shape, "uint8"), qparams_argument("x_qparams", batch, ranges)]
    return build_kernel("pool_range", [*arguments, qparams_argument("out", batch, 1)], batch, body)


def measured_pool_kernel(shape: tuple[Any, ...], ranges: int, qmax: int) -> tirx.PrimFunc:
    """Kernel of `pool_range` and of `global_avg_pool` under it, which adds the codes up once.

    The arguments are x uint8 ``[N, H, W, C]``, x_qparams, then the outputs: parameters
    ``[N, 3, 1]`` and codes ``[N, C]``.
    """
    batch, channels = shape[0], shape[3]

    def body(n: Any, x: Any, x_qparams: Any, y_qparams: Any, out: Any) -> None:
        x, p, y = rows_view(x, True), Parameters(x_qparams, n), Parameters(y_qparams, n)
        seen, means = RunningRange(lanes_for(channels)), scratch("float32", channels)

        def measure(c: Any, lanes: int) -> None:
            mean = channel_mean(x, p, n, c, lanes)
            store(means, mean, c, lanes=lanes)
            seen.see(mean * p.scale(c, lanes), lanes)

        def quantize(c: Any, lanes: int) -> None:
            ratio = p.scale(c, lanes) / y.scale(c, lanes)
            value = fma(load(means, c, lanes=lanes), ratio, y.zero(c, lanes))
            codes = to_codes(value, const(0.0, lanes), y.qmax(c, lanes))
            store(out, codes, n, c, lanes=lanes)

        wide_blocks(channels, measure)
        y.write(*seen.ends(), const(qmax))
        wide_blocks(channels, quantize)

    arguments = [Argument("x", shape, "uint8"), qparams_argument("x_qparams", batch, ranges)]
    arguments.append(qparams_argument("y_qparams", batch, 1))
    output = Argument("out", (batch, channels), "uint8")
    return build_kernel("measured_pool", [*arguments, output], batch, body)


def merge_ranges_kernel(batch: Any, ranges: Sequence[int], qmax: int) -> tirx.PrimFunc:
    """Kernel (one ``[N, 3, G]`` for each of `ranges`, out ``[N, 3, 1]``) of `merge_ranges`."""

    def body(n: Any, *buffers: Any) -> None:
        low, high = Register(1, start=float("inf")), Register(1, start=float("-inf"))
        for buffer, count in zip(buffers[:-1], ranges, strict=True):
            p = Parameters(buffer, n)
            with loop(count) as c:
                scale, zero = p.scale(c, 1), p.zero(c, 1)
                low.set(nan_minimum(low.get(), (const(0.0) - zero) * scale))
                high.set(nan_maximum(high.get(), (p.qmax(c, 1) - zero) * scale))
        Parameters(buffers[-1], n).write(low.get(), high.get(), const(qmax))

    arguments = [qparams_argument(f"range_{i}", batch, count) for i, count in enumerate(ranges)]
    return build_kernel(
        "merge_ranges", [*arguments, qparams_argument("out", batch, 1)], batch, body
    )
