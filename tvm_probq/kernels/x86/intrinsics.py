"""Tensor intrinsics of AVX512-VNNI: 16 channels times 4 input bytes, for 8 and 4-bit weights.

TVM 0.27's own ``dot_16x4_vnni`` passes ``<16 x i32>``, which LLVM 22 rejects (it wants
``<64 x i8>``), and importing it costs many seconds; so the two needed here are registered by us.
Source: Intel SDM, VPDPBUSD, "Multiply and Add Unsigned and Signed Bytes".
"""

from __future__ import annotations

from functools import cache

import tvm
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import llvm_version_major

_HEADER = """
@T.prim_func(s_tir=True)
def main(
    A: T.Buffer((4,), "uint8", offset_factor=1),
    B: T.Buffer((16, {bytes}), "{dtype}", offset_factor=1),
    C: T.Buffer((16,), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(C[0:16], A[0:4], B[0:16, 0:{bytes}])
        T.writes(C[0:16])
"""
_MEANING = """
        for i, k in T.grid(16, 4):
            with T.sblock("update"):
                vi, vk = T.axis.remap("SR", [i, k])
                C[vi] = C[vi] + T.cast(A[vk], "int32") * {weight}
"""
_CODE = """
        C[T.ramp(T.int32(0), 1, 16)] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.512"),
            C.vload([0], dtype="int32x16"),
            T.reinterpret(
                T.broadcast(T.reinterpret(A.vload([0], "uint8x4"), dtype="int32"), 16),
                dtype="{operand}",
            ),
            T.reinterpret({weight}, dtype="{operand}"),
            dtype="int32x16",
        )
"""
_BYTE = "T.cast(B[vi, vk], 'int32')"
_BYTES = "B.vload([0, 0], dtype='int8x64')"
_NIBBLE = (
    "(T.cast(T.bitwise_and(T.shift_right(B[vi, vk // 2], T.cast(vk % 2 * 4, 'uint8')),"
    " T.uint8(15)), 'int32') - 8)"
)
# Each byte widened to a 16-bit lane, its high nibble shifted into the upper byte, 8 subtracted.
_NIBBLES = (
    "(T.reinterpret(T.bitwise_and(T.bitwise_or({w}, T.shift_left({w}, T.broadcast(T.uint16(4),"
    " 32))), T.broadcast(T.uint16(0x0F0F), 32)), dtype='int8x64') - T.broadcast(T.int8(8), 64))"
).format(w="T.cast(B.vload([0, 0], dtype='uint8x32'), 'uint16x32')")


@cache
def dot_intrinsic(weight_bits: int) -> str:
    """Name of the registered intrinsic ``C[16] += A[4] . B[16, 4]``.

    Parameters
    ----------
    weight_bits : int
        8: B is int8 ``[16, 4]``.  4: B is uint8 ``[16, 2]``, the low nibble first, codes plus 8.

    Returns
    -------
    name : str
        For ``Schedule.tensorize``.
    """
    narrow = weight_bits == 4
    operand = "int8x64" if llvm_version_major() >= 22 else "int32x16"
    header = _HEADER.format(bytes=2 if narrow else 4, dtype="uint8" if narrow else "int8")
    meaning = header + _MEANING.format(weight=_NIBBLE if narrow else _BYTE)
    code = header + _CODE.format(weight=_NIBBLES if narrow else _BYTES, operand=operand)
    name = f"probq_vpdpbusd_w{weight_bits}"
    TensorIntrin.register(name, _parse(meaning), _parse(code), override=True)
    return name


def _parse(text: str) -> tvm.tirx.PrimFunc:
    return tvm.script.from_source(text, extra_vars={"T": T})
