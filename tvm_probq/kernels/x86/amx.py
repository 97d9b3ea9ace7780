"""The sums of a convolution by AMX, put in the place of a scheduled block's loops.

Tile registers have no values that TVM could store or fuse, so that no tensor intrinsic of a single
instruction can describe them.  A whole register tile can: all reads and writes of the block stay as
they were, only its loops become instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.runtime import DataType
from tvm.s_tir import SBlock, SBlockRealize
from tvm.sym import Analyzer
from tvm.tirx import BufferLoad, BufferStore, For, ForKind, Var

from tvm_probq.kernels.x86.amx_shape import NEAR_BYTES, TILES, Chunks, RegisterTile
from tvm_probq.kernels.x86.blocks import peeled, replaced, with_body
from tvm_probq.target.host import ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA

TASK = "probq.task"  # annotation of the loop over tasks
BLOCK = "conv_o"
LOOPS = ("n", "g", "o", "h", "w", "lane", "kh", "kw", "kc", "ks", "ki")  # of the block
PREFETCH_BYTES = 32 * 1024  # of weights, from which on their next block is fetched ahead
CONFIG_BYTES = 64
ROW_BYTES = 64


def use_tiles(
    func: tirx.PrimFunc, tile: RegisterTile, chunks: Chunks, kernel: tuple[int, int]
) -> tirx.PrimFunc:
    """`func` with AMX in place of the loops of the block `BLOCK`, inside the loop `TASK`."""

    def block(found: SBlock) -> SBlock:
        if found.name_hint != BLOCK:
            return found
        return with_body(found, _register_tile(found, tile, chunks, kernel))

    def loop(found: For) -> For:
        if TASK not in (found.annotations or {}):
            return found
        body = tirx.SeqStmt([*_configure(tile, chunks), found.body, _call("tilerelease")])
        kept = {k: v for k, v in found.annotations.items() if k != TASK}
        return For(found.loop_var, found.min, found.extent, found.kind, body, None, kept)

    body = tvm_ffi.structural_map(func.body, [(SBlock, block), (For, loop)])
    root = body.block
    ask = tirx.call_extern("int64", "syscall", ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA)
    root = with_body(root, tirx.SeqStmt([tirx.Evaluate(ask), root.body]))
    return func.with_body(SBlockRealize(body.iter_values, body.predicate, root))


def _call(name: str, *arguments: Any) -> tirx.Stmt:
    given = [tirx.const(a, "uint8") if isinstance(a, int) else a for a in arguments]
    return tirx.Evaluate(tirx.call_llvm_intrin("int32", f"llvm.x86.{name}", *given))


def _configure(tile: RegisterTile, chunks: Chunks) -> Iterable[tirx.Stmt]:
    """Rows and bytes a row of each register."""
    values = [1] + [0] * (CONFIG_BYTES - 1)  # palette 1
    weights = {tile.weights(b) for b in range(tile.blocks)}
    inputs = {tile.inputs(i) for i in range(max(map(len, tile.passes)))}
    for register in range(TILES):
        rows = chunks.length if register in weights else tile.height
        values[48 + register] = rows
        values[16 + 2 * register] = chunks.length * 4 if register in inputs else ROW_BYTES
    config = tirx.decl_buffer((CONFIG_BYTES,), "uint8", "tiles")
    stores = [BufferStore(config, tirx.const(v, "uint8"), [i]) for i, v in enumerate(values)]
    yield tirx.AllocBuffer(config)
    yield from stores
    yield _call("ldtilecfg", tirx.address_of(config[0]))


class _Nest:
    """The loops of the block and what its statement reads and writes."""

    def __init__(self, block: SBlock) -> None:
        loops, self.iterators, store = peeled(block)
        self.loops = dict(zip(LOOPS, loops, strict=True))
        self.sums = BufferLoad(store.buffer, store.indices)
        loads: list[TensorLoad] = []
        tvm_ffi.structural_walk(store.value, [(TensorLoad, loads.append)])
        (self.inputs,) = (load for load in loads if load.source.dtype == "uint8")
        (self.weights,) = (load for load in loads if load.source.dtype == "int8")

    @property
    def weights_bytes(self) -> int:
        """Size of the layer's weights."""
        return math.prod(int(extent) for extent in self.weights.source.shape)

    def indices(self, load: TensorLoad, **at: Any) -> list[Any]:
        """The indices of an element with the loops `at` given and all others at 0."""
        values = {var: at.get(name, 0) for name, var in self.loops.items()}
        values = {var: _int32(v) if isinstance(v, int) else v for var, v in values.items()}
        return [replaced(replaced(i, self.iterators), values) for i in load.indices]

    def address(self, load: TensorLoad, **at: Any) -> Any:
        """The address of that element."""
        return tirx.address_of(BufferLoad(load.source, self.indices(load, **at)))

    def first(self) -> Any:
        """Whether the register tile has a channel block's first output position."""
        _, _, _, h, w, _ = self.indices(self.sums)
        return tirx.all(h == 0, w == 0)

    def stride(self, load: TensorLoad) -> Any:
        """Bytes from one output position of a row to the next."""
        here, there = self.indices(load), self.indices(load, w=1)
        analyzer = Analyzer()
        shape = [int(extent) for extent in load.source.shape]
        size = DataType(load.source.dtype).bits // 8
        found = 0
        for axis, (a, b) in enumerate(zip(here, there, strict=True)):
            found += int(analyzer.simplify(b - a)) * size * math.prod(shape[axis + 1 :])
        return _int64(found)


def _register_tile(
    block: SBlock, tile: RegisterTile, chunks: Chunks, kernel: tuple[int, int]
) -> tirx.Stmt:
    """Zero the sums, add the products of every piece of the reduction, store the sums."""
    nest = _Nest(block)
    ahead = nest.weights_bytes >= PREFETCH_BYTES
    stages = [
        _pass(nest, tile, chunks, kernel, starts, prefetch=ahead and number == 0)
        for number, starts in enumerate(tile.passes)
    ]
    return tirx.SeqStmt(stages)


def _pass(
    nest: _Nest, tile: RegisterTile, chunks: Chunks, kernel: tuple[int, int],
    starts: tuple[tuple[int, int], ...], *, prefetch: bool,
) -> tirx.Stmt:  # fmt: skip
    positions = [{"h": h, "w": w} for h, w in starts]
    blocks = range(tile.blocks)
    sums = [(tile.sums(i, b), {"o": b, **at}) for i, at in enumerate(positions) for b in blocks]
    kh, kw, kc = (Var(name, "int32") for name in ("kh", "kw", "kc"))
    reduction = {"kh": kh, "kw": kw, "kc": kc}
    size = kernel[0] * kernel[1] * chunks.count * chunks.length * ROW_BYTES * tile.blocks
    load = "tileloadd64" if size <= NEAR_BYTES else "tileloaddt164"  # not to keep them near
    steps = []
    for b in blocks:
        address = nest.address(nest.weights, o=b, **reduction)
        steps.append(_call(load, tile.weights(b), address, _int64(ROW_BYTES)))
    if prefetch:
        lines = [
            _prefetch(nest.address(nest.weights, o=tile.blocks + b, ks=k, **reduction))
            for b in blocks
            for k in range(chunks.length)
        ]
        steps.append(tirx.IfThenElse(nest.first(), tirx.SeqStmt(lines), None))
    for i, at in enumerate(positions):
        address = nest.address(nest.inputs, **at, **reduction)
        steps.append(_call("tileloadd64", tile.inputs(i), address, nest.stride(nest.inputs)))
        for b in blocks:
            steps.append(_call("tdpbusd", tile.sums(i, b), tile.inputs(i), tile.weights(b)))
    loop: Any = tirx.SeqStmt(steps)
    for var, extent in ((kc, chunks.count), (kw, kernel[1]), (kh, kernel[0])):
        loop = For(var, _int32(0), _int32(extent), ForKind.SERIAL, loop)
    stride = nest.stride(nest.sums)
    start = [_call("tilezero", register) for register, _ in sums]
    end = [
        _call("tilestored64", register, nest.address(nest.sums, **at), stride)
        for register, at in sums
    ]
    return tirx.SeqStmt([*start, loop, *end])


def _prefetch(address: Any) -> tirx.Stmt:
    """Fetch the line at an address, which may lie behind the buffer, into all caches."""
    arguments = [address, _int32(0), _int32(3), _int32(1)]
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", *arguments))


def _int32(value: int) -> Any:
    return tirx.const(value, "int32")


def _int64(value: int) -> Any:
    return tirx.const(value, "int64")
