"""Build, check and time the kernels of one layer in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.ir.transform import PassContext

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arguments import argument_shapes
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.layer import layer_kernel, pack_weights, packed_shape
from tvm_probq.kernels.spec import Kernel, LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.example import Array, expected, random_arguments

WORKSPACE_LIMIT = 32 * 1024
EVICTED_BYTES = 2 * 1024 * 1024  # written and as much read: more than a second-level cache
WARM_UP_ROUNDS = 2
GARBAGE = 77


@dataclass(frozen=True)
class Candidate:
    """A kernel that passed every gate, ready to be timed."""

    call: Callable[[], object]
    touch: Callable[[], object]


class Bench:
    """The kernels of one layer.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernels are built for; must run here.
    threads : int
        One: the CPU time of the calling thread counts; more: time on the clock.
    seed : int
        Of the layer's random input.
    """

    def __init__(
        self, spec: LayerSpec, target: tvm.target.Target, threads: int = 1, seed: int = 0
    ) -> None:
        self._spec, self._target = spec, target
        self._values = random_arguments(spec, seed)
        self._wanted = expected(spec, self._values)
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._sink = np.zeros(EVICTED_BYTES, np.uint8)
        self._source = np.ones(EVICTED_BYTES, np.uint8)
        self._candidates: dict[Tile, Candidate] = {}

    def build(self, tile: Tile) -> dict[str, int]:
        """Build a tile's kernel and pass it through the gates.

        Returns
        -------
        dict of str to int
            ``workspace_bytes``, ``scratch_bytes`` and ``instructions`` of the kernel.

        Raises
        ------
        KernelError
            When a gate refuses it: the instruction is missing, the workspace is too large, or the
            output differs from the simulator's.
        """
        kernel = layer_kernel(self._spec, self._target, tile)
        if kernel.workspace_bytes > WORKSPACE_LIMIT:
            raise self._refused(f"its workspace is {kernel.workspace_bytes} bytes", tile)
        library = self._library(kernel)
        count = count_instruction(library, kernel.instruction) if kernel.instruction else 0
        if kernel.instruction and not count:
            raise self._refused(f"its assembly has no {kernel.instruction}", tile)
        tensors = self._tensors(tile)
        main = library["main"]
        main(*tensors)
        found = tensors[-1].numpy().reshape(self._wanted.shape)
        wrong = int((_bits(found) != _bits(self._wanted)).sum())
        if wrong:
            raise self._refused(f"{wrong} of its values differ from the simulator's", tile)
        self._candidates[tile] = Candidate(lambda: main(*tensors), tensors[0].numpy)
        return {
            "workspace_bytes": kernel.workspace_bytes,
            "scratch_bytes": kernel.scratch_bytes,
            "instructions": count,
        }

    def keep(self, tiles: Sequence[Tile]) -> None:
        """Forget every kernel but those of `tiles`."""
        self._candidates = {t: c for t, c in self._candidates.items() if t in tiles}

    def time(self, tiles: Sequence[Tile], rounds: int) -> dict[Tile, list[int]]:
        """Time built tiles in turn, weights and code not in the caches next to the core.

        In a network every other layer runs between two calls of a kernel. So before each call the
        first two caches are filled with something else, and only the input is read again, which
        the layer before has just written.

        Returns
        -------
        dict of Tile to list of int
            Nanoseconds of each round.
        """
        times: dict[Tile, list[int]] = {tile: [] for tile in tiles}
        for turn in range(-WARM_UP_ROUNDS, rounds):
            start = turn % len(tiles)
            for tile in [*tiles[start:], *tiles[:start]]:
                candidate = self._candidates[tile]
                np.copyto(self._sink, self._source)
                candidate.touch()
                before = self._now()
                candidate.call()
                elapsed = self._now() - before
                if turn >= 0:
                    times[tile].append(elapsed)
        return times

    def _library(self, kernel: Kernel) -> Any:
        # As in the build of a network: the kernels do not check their arguments.
        with PassContext(config={"tirx.disable_assert": True}):
            func = kernel.func.with_attr("global_symbol", "main")
            return tvm.tirx.build(func, target=self._target)

    def _tensors(self, tile: Tile) -> list[Any]:
        packed = pack_weights(self._spec, self._values["weights"], self._target, tile)
        values = self._values | {"W": packed}
        tensors = []
        shapes = argument_shapes(self._spec, packed_shape(self._spec, self._target, tile))
        for name, shape, dtype in shapes:
            value = np.full(shape, GARBAGE, dtype) if name == "OUT" else values[name].reshape(shape)
            tensors.append(tvm.runtime.tensor(value))
        return tensors

    def _refused(self, why: str, tile: Tile) -> KernelError:
        return KernelError("a kernel is refused", where=f"{self._spec}, {tile}", why=why)


def median_us(times: Sequence[int]) -> float:
    """Median of nanoseconds, in microseconds."""
    return statistics.median(times) / 1000


def _bits(values: Array) -> Array:
    return values.view(np.int32) if values.dtype == np.float32 else values
