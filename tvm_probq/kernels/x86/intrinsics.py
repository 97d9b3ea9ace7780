"""Tensor intrinsics of AVX512-VNNI for 8 and 4-bit weights: dense and depthwise dot products.

TVM 0.27's own ``dot_16x4_vnni`` passes ``<16 x i32>``, which LLVM 22 rejects (it wants
``<64 x i8>``), and importing it costs many seconds; so the few needed here are registered by us.
Source: Intel SDM, VPDPBUSD, "Multiply and Add Unsigned and Signed Bytes".
"""

from __future__ import annotations

from functools import cache

import tvm
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import llvm_version_major

_DOT = """
@T.prim_func(s_tir=True)
def main(
    A: T.Buffer(({a_shape}), "uint8", offset_factor=1),
    B: T.Buffer(({lanes}, {width}), "{dtype}", offset_factor=1),
    C: T.Buffer(({lanes},), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(C[0:{lanes}], A[{a_region}], B[0:{lanes}, 0:{width}])
        T.writes(C[0:{lanes}])
"""
_DOT_MEANING = """
        for i, k in T.grid({lanes}, 4):
            with T.sblock("update"):
                vi, vk = T.axis.remap("SR", [i, k])
                C[vi] = C[vi] + T.cast(A[{a_index}], "int32") * {weight}
"""
_DOT_CODE = """
        C[T.ramp(T.int32(0), 1, {lanes})] = T.call_llvm_pure_intrin(
            T.llvm_lookup_intrinsic_id("llvm.x86.avx512.vpdpbusd.{bits}"),
            C.vload([0], dtype="int32x{lanes}"),
            T.reinterpret({codes}, dtype="{operand}"),
            T.reinterpret({weight}, dtype="{operand}"),
            dtype="int32x{lanes}",
        )
"""
_BROADCAST = "T.broadcast(T.reinterpret(A.vload([0], 'uint8x4'), dtype='int32'), {lanes})"
_FOURS = "A.vload([0, 0], 'uint8x{full}')"
_BYTE = "T.cast(B[vi, vk], 'int32')"
_NIBBLE = (
    "(T.cast(T.bitwise_and(T.shift_right(B[vi, vk // 2], T.cast(vk % 2 * 4, 'uint8')),"
    " T.uint8(15)), 'int32') - 8)"
)
# Each byte widened to a 16-bit lane, its high nibble shifted into the upper byte, 8 subtracted.
_WORDS = "T.cast(B.vload([0, 0], dtype='uint8x{half}'), 'uint16x{half}')"
_NIBBLES = (
    "(T.reinterpret(T.bitwise_and(T.bitwise_or({words}, T.shift_left({words}, T.broadcast("
    "T.uint16(4), {half}))), T.broadcast(T.uint16(0x0F0F), {half})), dtype='int8x{full}')"
    " - T.broadcast(T.int8(8), {full}))"
)
_INTERLEAVE = """
@T.prim_func(s_tir=True)
def main(
    A: T.Buffer((4, {lanes}), "uint8", {strides}offset_factor=1),
    C: T.Buffer(({lanes}, 4), "uint8", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(A[0:4, 0:{lanes}])
        T.writes(C[0:{lanes}, 0:4])
"""
_INTERLEAVE_MEANING = """
        for i, k in T.grid({lanes}, 4):
            with T.sblock("copy"):
                vi, vk = T.axis.remap("SS", [i, k])
                C[vi, vk] = A[vk, vi]
"""
_INTERLEAVE_CODE = """
        C.vstore([0, 0], T.Shuffle([{loads}], {order}))
"""


@cache
def dot_intrinsic(weight_bits: int, lanes: int = 16, depthwise: bool = False) -> str:
    """Name of the registered intrinsic ``C[lanes] += A . B[lanes, 4]``.

    Parameters
    ----------
    weight_bits : int
        8: B is int8 ``[lanes, 4]``.  4: B is uint8 ``[lanes, 2]``, the low nibble first, codes
        plus 8.
    lanes : int
        16 or 8 output channels.
    depthwise : bool
        A is uint8 ``[lanes, 4]``, four codes for each channel, instead of ``[4]`` for all.

    Returns
    -------
    name : str
        For ``Schedule.tensorize``.
    """
    narrow, full = weight_bits == 4, lanes * 4
    words = _WORDS.format(half=full // 2)
    parts = {
        "lanes": lanes,
        "bits": lanes * 32,
        "width": 2 if narrow else 4,
        "dtype": "uint8" if narrow else "int8",
        "operand": f"int8x{full}" if llvm_version_major() >= 22 else f"int32x{lanes}",
        "a_shape": f"{lanes}, 4" if depthwise else "4,",
        "a_region": f"0:{lanes}, 0:4" if depthwise else "0:4",
        "a_index": "vi, vk" if depthwise else "vk",
        "codes": (_FOURS if depthwise else _BROADCAST).format(lanes=lanes, full=full),
    }
    vector = _NIBBLES.format(words=words, half=full // 2, full=full)
    plain = f"B.vload([0, 0], dtype='int8x{full}')"
    meaning = (_DOT + _DOT_MEANING).format(weight=_NIBBLE if narrow else _BYTE, **parts)
    code = (_DOT + _DOT_CODE).format(weight=vector if narrow else plain, **parts)
    return _register(f"vpdpbusd_w{weight_bits}_{lanes}_{depthwise:d}", meaning, code)


@cache
def interleave_intrinsic(lanes: int) -> str:
    """Name of the registered intrinsic that brings four pixels of each channel together.

    Parameters
    ----------
    lanes : int
        16 or 8 channels; uint8 ``[4, lanes]`` becomes ``[lanes, 4]``.

    Returns
    -------
    name : str
        For ``Schedule.tensorize``.
    """
    loads = ", ".join(f"A.vload([{k}, 0], 'uint8x{lanes}')" for k in range(4))
    order = [k * lanes + i for i in range(lanes) for k in range(4)]
    meaning = (_INTERLEAVE + _INTERLEAVE_MEANING).format(lanes=lanes, strides="")
    code = (_INTERLEAVE + _INTERLEAVE_CODE).format(
        lanes=lanes, strides='strides=("s", 1), ', loads=loads, order=order
    )
    return _register(f"interleave_{lanes}", meaning, code)


def _register(name: str, meaning: str, code: str) -> str:
    functions = [tvm.script.from_source(text, extra_vars={"T": T}) for text in (meaning, code)]
    TensorIntrin.register(f"probq_{name}", *functions, override=True)
    return f"probq_{name}"
