"""The last step of a layer by AVX-512: 64 codes from int32 to bytes by three saturating packs.

Left to itself, LLVM narrows 16 codes at a time by an instruction that costs as much as two of the
six others.  The packs saturate too, so that no lower bound has to be kept before.
"""

from __future__ import annotations

from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import PrimType, TensorLoad
from tvm.s_tir import SBlock
from tvm.tirx import BufferLoad, BufferStore, Ramp, Shuffle, Var

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.x86.blocks import peeled, replaced, with_body
from tvm_probq.kernels.x86.geometry import LANES, WORD, Channels, VectorUnit

BLOCK = "value_o"
CODES = 64


def packed_positions(
    spec: LayerSpec, unit: VectorUnit, channels: Channels, columns: int, blocks: int
) -> int:
    """Output positions whose codes are packed together, or 0 where packing does not apply.

    It needs one range for the whole output, whole blocks of channels, and columns of the register
    tile that come in such groups in every tile.
    """
    plain = spec.output == "codes" and spec.out_ranges == 1 and spec.groups == 1
    plain = plain and spec.out_bits < WORD
    if not (plain and unit.packs and channels.exact) or blocks not in (1, 2, 4):
        return 0
    positions = CODES // (LANES * blocks)
    return positions if columns % positions == 0 else 0


def pack_codes(func: tirx.PrimFunc, positions: int) -> tirx.PrimFunc:
    """`func` with packs in place of the loops of the block `BLOCK`, of `positions` by channels."""

    def block(found: SBlock) -> SBlock:
        if found.name_hint != BLOCK:
            return found
        return with_body(found, _packed(found, positions))

    return func.with_body(tvm_ffi.structural_map(func.body, [(SBlock, block)]))


def _packed(block: SBlock, positions: int) -> tirx.Stmt:
    loops, bound, store = peeled(block)
    loads: list[TensorLoad] = []
    tvm_ffi.structural_walk(store.value, [(TensorLoad, loads.append)])
    (codes,) = (load for load in loads if str(load.source.name) == "codes")
    (floor,) = (load for load in loads if str(load.source.name) == "floor")
    width = CODES // positions

    def indices(access: Any, w: int, c: int, lanes: int) -> list[Any]:
        at = dict(zip(loops, (tirx.const(i, "int32") for i in (w, c)), strict=True))
        *outer, last = (replaced(replaced(i, bound), at) for i in access.indices)
        return [*outer, Ramp(last, 1, lanes) if lanes > 1 else last]

    def vector(number: int) -> Any:
        w, c = divmod(number * LANES, width)
        return BufferLoad(codes.source, indices(codes, w, c, LANES))

    words = [
        tirx.call_llvm_pure_intrin(
            "int16x32", "llvm.x86.avx512.packssdw.512", vector(2 * i), vector(2 * i + 1)
        )
        for i in range(2)
    ]
    mixed = tirx.call_llvm_pure_intrin("uint8x64", "llvm.x86.avx512.packuswb.512", *words)
    # The packs work in quarters: quarter q has four codes of each vector, one after the other.
    order = [16 * q + 4 * v + i for v in range(4) for q in range(4) for i in range(4)]
    least = BufferLoad(floor.source, indices(floor, 0, 0, 1)).astype("uint8")
    value = tirx.max(Shuffle([mixed], order), tirx.Broadcast(least, CODES))
    name = Var("packed", PrimType("uint8x64"))
    stores = [
        BufferStore(
            store.buffer,
            Shuffle([name], list(range(w * width, (w + 1) * width))),
            indices(store, w, 0, width),
        )
        for w in range(positions)
    ]
    return tirx.SeqStmt([tirx.Bind(name, value), *stores])
