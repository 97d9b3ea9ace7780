"""Where the codes of a task lie: in the input itself, or in a copy of its rows with borders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import tirx as ir

from tvm_probq.kernels.arm.registers import signed
from tvm_probq.kernels.arm.unit import VECTOR
from tvm_probq.kernels.arm.view import View
from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.emit import let, load, loop, scratch, splat, store, view, wide_blocks
from tvm_probq.kernels.small.floats import convert
from tvm_probq.kernels.small.halves import half_of
from tvm_probq.kernels.small.parameters import Parameters
from tvm_probq.kernels.spec import LayerSpec


@dataclass(frozen=True)
class Source:
    """Rows of codes.

    Attributes
    ----------
    codes : buffer ``[elements]``
        int8 where they are signed already, else uint8; int16 for codes of 16 bits.
    first : Any
        Where row 0 of the task begins, in elements.
    pitch : int
        From a row to the next.
    """

    codes: Any
    first: Any
    pitch: int


def copied_rows(spec: LayerSpec, layout: View, rows: int) -> tuple[int, int]:
    """Rows and elements of each that the copy for `rows` output rows has."""
    high = (rows - 1) * spec.strides[0] + (spec.kernel[0] - 1) * spec.dilation[0] + 1
    wide = (spec.out_width - 1) * spec.strides[1] + (spec.kernel[1] - 1) * spec.dilation[1] + 1
    return high, wide * spec.in_channels + layout.padded - layout.run


def source_of(
    spec: LayerSpec, layout: View, x: Any, x_qparams: Any, sample: Any, row: Any, rows: int
) -> Source:
    """The codes of the task whose first output row is `row`."""
    size = layout.in_rows * layout.row_bytes
    codes = _flat(spec, x, size)
    if not layout.copied:
        first = sample * size + row * (spec.strides[0] * layout.row_bytes)
        return Source(codes, first, layout.row_bytes)
    high, wide = copied_rows(spec, layout, rows)
    memory = scratch(_copied(x), high * wide + VECTOR)
    zero = let(convert(Parameters(x_qparams, sample).zero(0, 1), str(x.dtype)))
    top, left = spec.pads[0], spec.pads[1] * spec.in_channels
    inside = min(layout.row_bytes, wide - left)
    zeros = let(signed(zero))

    def fill(target: Any, count: int) -> None:
        if count:
            wide_blocks(count, lambda c, n: store(memory, splat(zeros, n), target + c, lanes=n))

    def copy(target: Any, source: Any) -> None:
        fill(target, left)
        _copy_run(spec, codes, source, memory, target + left, inside)
        fill(target + left + inside, wide - left - inside)

    with loop(high) as i:
        at = row * spec.strides[0] + i - top
        source = sample * size + at * layout.row_bytes
        _either(spec, at, lambda: copy(i * wide, source), lambda: fill(i * wide, wide))
    return Source(memory, 0, wide)


def channels_source(
    spec: LayerSpec, layout: View, x: Any, x_qparams: Any, sample: Any, row: Any, rows: int
) -> Source:
    """The same for a depthwise layer, each pixel with room for whole vectors of eight channels.

    Borders hold each channel's own zero-point.
    """
    size = layout.in_rows * layout.row_bytes
    codes = _flat(spec, x, size)
    channels, pixel = spec.in_channels, padded_channels(spec)
    high, wide = copied_rows(spec, layout, rows)
    wide //= channels
    memory = scratch(_copied(x), high * wide * pixel + VECTOR)
    zeros = _zero_points(spec, x, x_qparams, sample, pixel)
    top, left = spec.pads[0], spec.pads[1]
    inside = min(spec.width, wide - left)

    def fill(target: Any, count: int) -> None:
        if not count:
            return
        with loop(count) as i:

            def block(c: Any, lanes: int) -> None:
                found = load(zeros, c, lanes=lanes)
                store(memory, found, target + i * pixel + c, lanes=lanes)

            wide_blocks(pixel, block)

    def copy(target: Any, source: Any) -> None:
        fill(target, left)
        with loop(inside) as i:
            to = target + (left + i) * pixel
            _copy_run(spec, codes, source + i * channels, memory, to, channels)
        fill(target + (left + inside) * pixel, wide - left - inside)

    with loop(high) as i:
        at = row * spec.strides[0] + i - top
        source = sample * size + at * layout.row_bytes
        start = i * (wide * pixel)
        _either(spec, at, lambda: copy(start, source), lambda: fill(start, wide))
    return Source(memory, 0, wide * pixel)


def padded_channels(spec: LayerSpec) -> int:
    """Channels of a depthwise layer, up to whole vectors of eight."""
    return -(-spec.out_channels // (VECTOR // 2)) * (VECTOR // 2)


def _flat(spec: LayerSpec, x: Any, size: int) -> Any:
    """The input as one row, of `size` codes a sample."""
    return view(x, spec.batch * (size // 2 if spec.in_bits == HALF else size))


def _copy_run(
    spec: LayerSpec, codes: Any, source: Any, memory: Any, target: Any, count: int
) -> None:  # fmt: skip
    """Copy `count` codes, of whole pixels, from the code `source` on; unpack them if need be."""
    if spec.in_bits == HALF:
        _unpack_pixels(spec, codes, source, memory, target, count // spec.in_channels)
        return

    def block(c: Any, lanes: int) -> None:
        found = signed(load(codes, source + c, lanes=lanes))
        store(memory, found, target + c, lanes=lanes)

    wide_blocks(count, block)


def _unpack_pixels(
    spec: LayerSpec, codes: Any, source: Any, memory: Any, target: Any, count: int
) -> None:  # fmt: skip
    half = spec.in_channels // 2
    with loop(count) as i:

        def block(c: Any, lanes: int) -> None:
            byte = let(load(codes, tirx.floordiv(source, 2) + i * half + c, lanes=lanes))
            for upper in range(2):
                found = signed(half_of(byte, upper))
                at = target + i * spec.in_channels + upper * half + c
                store(memory, found, at, lanes=lanes)

        wide_blocks(half, block)


def _copied(x: Any) -> str:
    """dtype of copied codes."""
    return "int16" if str(x.dtype) == "int16" else "int8"


def _zero_points(spec: LayerSpec, x: Any, x_qparams: Any, sample: Any, pixel: int) -> Any:
    """Zero-points of every channel, as codes are copied."""
    found = scratch(_copied(x), pixel)
    parameters = Parameters(x_qparams, sample)

    def block(c: Any, lanes: int) -> None:
        zero = convert(convert(parameters.zero(c, lanes), "int32"), str(x.dtype))
        store(found, signed(zero), c, lanes=lanes)

    wide_blocks(spec.in_channels, block)
    return found


def _either(
    spec: LayerSpec, row: Any, inside: Callable[[], None], outside: Callable[[], None]
) -> None:
    """Emit what is done for a row of the input, and for one that it does not have."""
    if not (spec.pads[0] or spec.pads[2]):
        inside()
        return
    with ir.If(tirx.any(row < 0, row >= spec.height)):
        with ir.Then():
            outside()
        with ir.Else():
            inside()
