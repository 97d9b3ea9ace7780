"""Bytes that hold two codes of 4 bits, and kernels that pack and unpack whole tensors of them."""

from typing import Any

from tvm import tirx

from tvm_probq.kernels.planes import HALF
from tvm_probq.kernels.small.elementwise import rows_view
from tvm_probq.kernels.small.emit import (
    Argument,
    build_kernel,
    lanes_of,
    let,
    load,
    loop,
    splat,
    store,
    wide_blocks,
)
from tvm_probq.kernels.storage import codes_shape

Shape = tuple[Any, ...]


def half_of(byte: Any, half: Any) -> Any:
    """The codes in the lower (0) or upper (1) halves of bytes, a vector of them or one."""
    lanes = lanes_of(byte)
    shift = tirx.Cast("uint8", tirx.convert(half) * HALF)
    return (byte >> splat(shift, lanes)) & splat(tirx.const(15, "uint8"), lanes)


def halves_together(lower: Any, upper: Any) -> Any:
    """Bytes of the codes of both halves, vectors or single ones."""
    return lower | (upper << splat(tirx.const(HALF, "uint8"), lanes_of(upper)))


def pack_kernel(shape: Shape) -> tirx.PrimFunc:
    """Kernel (q uint8 of `shape`, out uint8 ``[..., C / 2]``) of `pack_codes`."""

    def body(n: Any, q: Any, out: Any) -> None:
        codes, packed = (rows_view(b, True) for b in (q, out))
        half = int(packed.shape[2])

        def block(c: Any, lanes: int) -> None:
            with loop(packed.shape[1]) as i:
                lower, upper = (load(codes, n, i, c + at, lanes=lanes) for at in (0, half))
                store(packed, halves_together(lower, upper), n, i, c, lanes=lanes)

        wide_blocks(half, block)

    arguments = [Argument("q", shape, "uint8"), Argument("out", codes_shape(shape, HALF), "uint8")]
    return build_kernel("pack_codes", arguments, shape[0], body)


def unpack_kernel(shape: Shape) -> tirx.PrimFunc:
    """Kernel (p uint8 ``[..., C / 2]``, out uint8 of `shape`) of `unpack_codes`."""

    def body(n: Any, p: Any, out: Any) -> None:
        packed, codes = (rows_view(b, True) for b in (p, out))
        half = int(packed.shape[2])

        def block(c: Any, lanes: int) -> None:
            with loop(packed.shape[1]) as i:
                byte = let(load(packed, n, i, c, lanes=lanes))
                for upper in range(2):
                    code = half_of(byte, upper)
                    store(codes, code, n, i, c + upper * half, lanes=lanes)

        wide_blocks(half, block)

    arguments = [Argument("p", codes_shape(shape, HALF), "uint8"), Argument("out", shape, "uint8")]
    return build_kernel("unpack_codes", arguments, shape[0], body)
