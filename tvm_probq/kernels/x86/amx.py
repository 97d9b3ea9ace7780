"""The sums of a convolution by AMX, put in the place of a scheduled block's loops.

Tile registers have no values that TVM could store or fuse, so that no tensor intrinsic of a single
instruction can describe them.  A whole register tile can: all reads and writes of the block stay as
they were, only its loops become instructions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tvm_ffi
from tvm import tirx
from tvm.ir import TensorLoad
from tvm.runtime import DataType
from tvm.s_tir import SBlock, SBlockRealize
from tvm.sym import Analyzer
from tvm.tirx import BufferLoad, BufferStore, For, ForKind, Var

from tvm_probq.kernels.x86.amx_shape import NEAR_BYTES, ROW_BYTES, TILES, Chunks, RegisterTile
from tvm_probq.kernels.x86.blocks import peeled, replaced, with_body
from tvm_probq.kernels.x86.geometry import Geometry
from tvm_probq.target.host import ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA

TASK = "probq.task"  # annotation of the loop over tasks
BLOCK = "conv_o"
LOOPS = ("n", "g", "o", "h", "w", "lane", "kh", "kw", "kc", "ks", "ki")  # of the block
PREFETCH_BYTES = 32 * 1024  # of weights, from which on their next block is fetched ahead
CONFIG_BYTES = 64
# After some 230 instructions on tiles without a store between them, Sapphire Rapids takes 0.3 us
# longer for the next one.  Storing a tile of inputs now and then avoids it, for some 5 ns each.
STORE_PERIOD = 128
SECOND_CACHE = 2  # where to prefetch to, as LLVM counts


@dataclass(frozen=True)
class Cut:
    """A layer cut into register tiles.

    Attributes
    ----------
    kernel : tuple of int
        Kernel rows and columns that are left in the reduction.
    positions : tuple of int
        Output rows and columns of a register tile.
    grid : tuple of int
        Register tiles down and across that cover the output of a channel block.
    unpacked : bool
        Whether weights were unpacked for this channel block: none can be fetched ahead.
    """

    tile: RegisterTile
    chunks: Chunks
    kernel: tuple[int, int]
    positions: tuple[int, int]
    grid: tuple[int, int]
    unpacked: bool = False

    @staticmethod
    def of(view: Geometry, rows: int, columns: int, blocks: int, unpacked: bool = False) -> Cut:
        """Cut the output into tiles of `rows` by `columns` positions, which divide it."""
        grid = (view.rows // rows, view.columns // columns)
        tile, chunks = RegisterTile.of(rows, columns, blocks), Chunks.of(view.reduction[2])
        return Cut(tile, chunks, view.reduction[:2], (rows, columns), grid, unpacked)

    @property
    def pieces(self) -> int:
        """Tiles of inputs that are multiplied one after the other for a tile of sums."""
        return self.kernel[0] * self.kernel[1] * self.chunks.count


def use_tiles(func: tirx.PrimFunc, cut: Cut) -> tirx.PrimFunc:
    """`func` with AMX in place of the loops of the block `BLOCK`, inside the loop `TASK`."""

    def block(found: SBlock) -> SBlock:
        if found.name_hint != BLOCK:
            return found
        return with_body(found, _register_tile(found, cut))

    def loop(found: For) -> For:
        if TASK not in (found.annotations or {}):
            return found
        body = tirx.SeqStmt([*_configure(cut.tile, cut.chunks), found.body, _call("tilerelease")])
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

    def number(self, cut: Cut) -> Any:
        """Which of a channel block's register tiles this is."""
        _, _, _, h, w, _ = self.indices(self.sums)
        rows, columns = cut.positions
        return h // rows * cut.grid[1] + w // columns

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


def _register_tile(block: SBlock, cut: Cut) -> tirx.Stmt:
    """Zero the sums, add the products of every piece of the reduction, store the sums."""
    nest = _Nest(block)
    return tirx.SeqStmt([_pass(nest, cut, number) for number in range(len(cut.tile.passes))])


def _pass(nest: _Nest, cut: Cut, number: int) -> tirx.Stmt:
    tile, chunks, kernel = cut.tile, cut.chunks, cut.kernel
    positions = [{"h": h, "w": w} for h, w in tile.passes[number]]
    blocks = range(tile.blocks)
    sums = [(tile.sums(i, b), {"o": b, **at}) for i, at in enumerate(positions) for b in blocks]
    kh, kw, kc = (Var(name, "int32") for name in ("kh", "kw", "kc"))
    reduction = {"kh": kh, "kw": kw, "kc": kc}
    size = cut.pieces * chunks.length * ROW_BYTES * tile.blocks
    load = "tileloadd64" if size <= NEAR_BYTES else "tileloaddt164"  # not to keep them near
    steps = []
    for b in blocks:
        address = nest.address(nest.weights, o=b, **reduction)
        steps.append(_call(load, tile.weights(b), address, _int64(ROW_BYTES)))
    if nest.weights_bytes >= PREFETCH_BYTES and not cut.unpacked:
        steps.append(_fetch_ahead(nest, cut, number, reduction))
    for i, at in enumerate(positions):
        address = nest.address(nest.inputs, **at, **reduction)
        steps.append(_call("tileloadd64", tile.inputs(i), address, nest.stride(nest.inputs)))
        for b in blocks:
            steps.append(_call("tdpbusd", tile.sums(i, b), tile.inputs(i), tile.weights(b)))
    stride = nest.stride(nest.sums)
    period = STORE_PERIOD // len(steps)
    if cut.pieces > period:
        # Where the pass's own sums go later.
        place = nest.address(nest.sums, **positions[-1])
        store = _call("tilestored64", tile.inputs(len(positions) - 1), place, stride)
        piece = (kh * kernel[1] + kw) * chunks.count + kc
        steps.append(tirx.IfThenElse(piece % period == period - 1, store, None))
    loop: Any = tirx.SeqStmt(steps)
    for var, extent in ((kc, chunks.count), (kw, kernel[1]), (kh, kernel[0])):
        loop = For(var, _int32(0), _int32(extent), ForKind.SERIAL, loop)
    start = [_call("tilezero", register) for register, _ in sums]
    end = [
        _call("tilestored64", register, nest.address(nest.sums, **at), stride)
        for register, at in sums
    ]
    return tirx.SeqStmt([*start, loop, *end])


def _fetch_ahead(nest: _Nest, cut: Cut, number: int, reduction: Mapping[str, Any]) -> tirx.Stmt:
    """Fetch a share of this piece of the weights of the channel blocks that come next.

    All register tiles of a channel block fetch the same number of lines, so that the third cache
    has all the time in which they compute.
    """
    length, passes = cut.chunks.length, len(cut.tile.passes)
    total = length * cut.tile.blocks
    share = -(-total // (math.prod(cut.grid) * passes))
    first = (nest.number(cut) * passes + number) * share
    lines = []
    for line in (first + i for i in range(share)):
        o, k = cut.tile.blocks + line // length, line % length
        lines.append(_prefetch(nest.address(nest.weights, o=o, ks=k, **reduction)))
    body = tirx.SeqStmt(lines) if share > 1 else lines[0]
    return tirx.IfThenElse(first < total, body, None)


def _prefetch(address: Any) -> tirx.Stmt:
    """Fetch the line at an address, which may lie behind the buffer, to read it later."""
    arguments = [address, _int32(0), _int32(SECOND_CACHE), _int32(1)]
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", *arguments))


def _int32(value: int) -> Any:
    return tirx.const(value, "int32")


def _int64(value: int) -> Any:
    return tirx.const(value, "int64")
