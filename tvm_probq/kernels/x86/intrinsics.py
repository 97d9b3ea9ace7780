"""Tensor intrinsics of x86 for 8 and 4-bit weights: dense and depthwise dot products.

Each is on registers of 16 or 8 sums: VPDPBUSD of AVX512-VNNI and AVX-VNNI; where there is none,
VPMADDWD (with SSE2, 4 sums) on codes and weights widened to 16 bits, or VPMADDUBSW, which saturates
its 16-bit sums of two products and so is for weights that are proven to be small.  Codes of 16 bits
are multiplied by VPDPWSSD or VPMADDWD.

TVM 0.27's own ``dot_16x4_vnni`` passes ``<16 x i32>``, which LLVM 22 rejects (it wants
``<64 x i8>``), and importing it costs many seconds; so the few needed here are registered by us.
Source: Intel SDM, VPDPBUSD, "Multiply and Add Unsigned and Signed Bytes"; VPDPWSSD, PMADDWD,
PMADDUBSW.
"""

from __future__ import annotations

from functools import cache

import tvm
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T
from tvm.target.codegen import llvm_version_major

from tvm_probq.kernels.x86.geometry import LANES, VectorUnit

_DOT = """
@T.prim_func(s_tir=True)
def main(
    A: T.Buffer(({a_shape}), "{codes_dtype}", offset_factor=1),
    B: T.Buffer(({lanes}, {width}), "{dtype}", offset_factor=1),
    C: T.Buffer(({lanes},), "int32", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(C[0:{lanes}], A[{a_region}], B[0:{lanes}, 0:{width}])
        T.writes(C[0:{lanes}])
"""
_DOT_MEANING = """
        for i, k in T.grid({lanes}, {step}):
            with T.sblock("update"):
                vi, vk = T.axis.remap("SR", [i, k])
                C[vi] = C[vi] + T.cast(A[{a_index}], "int32") * {weight}
"""
_DOT_CODE = """
        C[T.ramp(T.int32(0), 1, {lanes})] = {sum}
"""
_SUMS = "C.vload([0], dtype='int32x{lanes}')"
_CALL = (
    "T.call_llvm_pure_intrin(T.llvm_lookup_intrinsic_id('llvm.x86.{name}'), {operands},"
    " dtype='{dtype}')"
)
_BROADCAST = (
    "T.broadcast(T.reinterpret(A.vload([0], '{codes_dtype}x{step}'), dtype='int32'), {lanes})"
)
_OWN = "A.vload([0, 0], '{codes_dtype}x{full}')"
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
    A: T.Buffer(({step}, {lanes}), "uint8", {strides}offset_factor=1),
    C: T.Buffer(({lanes}, {step}), "{dtype}", offset_factor=1),
) -> None:
    with T.sblock("root"):
        T.reads(A[0:{step}, 0:{lanes}])
        T.writes(C[0:{lanes}, 0:{step}])
"""
_INTERLEAVE_MEANING = """
        for i, k in T.grid({lanes}, {step}):
            with T.sblock("copy"):
                vi, vk = T.axis.remap("SS", [i, k])
                C[vi, vk] = {element}
"""
_INTERLEAVE_CODE = """
        {stores}
"""
# The part of LLVM's name between "llvm.x86." and the register's width, by lanes.
_MULTIPLY_WORDS = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"}
_MULTIPLY_BYTES = {16: "avx512.pmaddubs.w.512", 8: "avx2.pmadd.ub.sw"}


@cache
def dot_intrinsic(unit: VectorUnit, weight_bits: int, depthwise: bool = False) -> str:
    """Name of the registered intrinsic ``C[lanes] += A . B[lanes, step]``.

    Parameters
    ----------
    unit : VectorUnit
        Gives the instruction, the step and the lanes.
    weight_bits : int
        8: B is int8 ``[lanes, step]``.  4: B is uint8 ``[lanes, step / 2]``, the low nibble first,
        codes plus 8.
    depthwise : bool
        A is ``[lanes, step]``, codes of each channel, instead of ``[step]`` for all.

    Returns
    -------
    name : str
        For ``Schedule.tensorize``.
    """
    narrow, lanes, step = weight_bits == 4, unit.lanes, unit.step
    full = lanes * step
    shape = f"{lanes}, {step}" if depthwise else f"{step},"
    parts = {
        "lanes": lanes,
        "step": step,
        "full": full,
        "codes_dtype": "int16" if unit.wide else "uint8",
        "width": step // 2 if narrow else step,
        "dtype": "uint8" if narrow else "int8",
        "a_shape": shape,
        "a_region": f"0:{lanes}, 0:{step}" if depthwise else f"0:{step}",
        "a_index": "vi, vk" if depthwise else "vk",
    }
    codes = (_OWN if depthwise else _BROADCAST).format(**parts)
    if narrow:
        words = _WORDS.format(half=full // 2)
        weights = _NIBBLES.format(words=words, half=full // 2, full=full)
    else:
        weights = f"B.vload([0, 0], dtype='int8x{full}')"
    meaning = (_DOT + _DOT_MEANING).format(weight=_NIBBLE if narrow else _BYTE, **parts)
    code = (_DOT + _DOT_CODE).format(sum=_sum(unit, codes, weights), **parts)
    name = f"{unit.instruction}_w{weight_bits}_{lanes}_{depthwise:d}"
    return _register(name, meaning, code)


def _sum(unit: VectorUnit, codes: str, weights: str) -> str:
    """The code of the sums plus the products of two registers."""
    lanes, full = unit.lanes, unit.lanes * unit.step
    sums = _SUMS.format(lanes=lanes)
    if unit.instruction == "vpdpbusd":
        operand = f"int8x{full}" if llvm_version_major() >= 22 else f"int32x{lanes}"
        operands = [f"T.reinterpret({text}, dtype='{operand}')" for text in (codes, weights)]
        return _call(f"avx512.vpdpbusd.{lanes * 32}", [sums, *operands], f"int32x{lanes}")
    words = f"int16x{lanes * 2}"
    if unit.wide:
        pairs = [f"T.reinterpret({codes}, dtype='{words}')", f"T.cast({weights}, '{words}')"]
        if unit.instruction == "vpdpwssd":
            if llvm_version_major() < 22:
                pairs = [f"T.reinterpret({text}, dtype='int32x{lanes}')" for text in pairs]
            return _call(f"avx512.vpdpwssd.{lanes * 32}", [sums, *pairs], f"int32x{lanes}")
    else:
        operands = [f"T.reinterpret({text}, dtype='int8x{full}')" for text in (codes, weights)]
        products = _call(_MULTIPLY_BYTES[lanes], operands, words)
        pairs = [products, f"T.broadcast(T.int16(1), {lanes * 2})"]
    return f"{sums} + {_call(_MULTIPLY_WORDS[lanes], pairs, f'int32x{lanes}')}"


def _call(name: str, operands: list[str], dtype: str) -> str:
    return _CALL.format(name=name, operands=", ".join(operands), dtype=dtype)


@cache
def interleave_intrinsic(unit: VectorUnit, lanes: int) -> str:
    """Name of the registered intrinsic that brings neighbouring pixels of each channel together.

    Parameters
    ----------
    unit : VectorUnit
        Gives the number of pixels, its step, and whether they become 16 bits wide.
    lanes : int
        16 or 8 channels; uint8 ``[step, lanes]`` becomes ``[lanes, step]``.

    Returns
    -------
    name : str
        For ``Schedule.tensorize``.
    """
    step = unit.step
    loads = ", ".join(f"A.vload([{k}, 0], 'uint8x{lanes}')" for k in range(step))
    stores = []
    # Of 128 bits for AVX-512, where LLVM puts wider ones together from these.
    piece = 16 // step if unit.lanes == LANES else lanes
    for first in range(0, lanes, piece):
        order = [k * lanes + i for i in range(first, first + piece) for k in range(step)]
        vector = f"T.Shuffle([{loads}], {order})"
        vector = f"T.cast({vector}, 'int16x{piece * step}')" if unit.wide else vector
        stores.append(f"C.vstore([{first}, 0], {vector})")
    element = "T.cast(A[vk, vi], 'int16')" if unit.wide else "A[vk, vi]"
    parts = {"lanes": lanes, "step": step, "dtype": "int16" if unit.wide else "uint8"}
    meaning = _INTERLEAVE + _INTERLEAVE_MEANING
    meaning = meaning.format(strides="", element=element, **parts)
    code = _INTERLEAVE + _INTERLEAVE_CODE
    code = code.format(strides='strides=("s", 1), ', stores="\n        ".join(stores), **parts)
    return _register(f"interleave_{step}_{lanes}_{piece}", meaning, code)


def _register(name: str, meaning: str, code: str) -> str:
    functions = [tvm.script.from_source(text, extra_vars={"T": T}) for text in (meaning, code)]
    TensorIntrin.register(f"probq_{name}", *functions, override=True)
    return f"probq_{name}"
