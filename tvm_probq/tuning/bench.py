"""Build, check and time the kernels of one layer in this process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import tvm

from tvm_probq.board.server.rounds import Contestant, timed_in_turn
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.candidate import Candidates, differing


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

    Attributes
    ----------
    candidates : Candidates
        What builds them.
    """

    def __init__(
        self, spec: LayerSpec, target: tvm.target.Target, threads: int = 1, seed: int = 0
    ) -> None:
        self.candidates = Candidates(spec, target, seed)
        self._now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        self._built: dict[Tile, Contestant] = {}

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
        candidate = self.candidates.build(tile)
        tensors = [tvm.runtime.tensor(value) for value in candidate.arguments.values()]
        main = candidate.library["main"]
        main(*tensors)
        why = differing(tensors[-1].numpy(), self.candidates.wanted)
        if why:
            raise self.candidates.refused(why, tile)
        self._built[tile] = Contestant(lambda: main(*tensors), tensors[0].numpy)
        return candidate.facts

    def keep(self, tiles: Sequence[Tile]) -> None:
        """Forget every kernel but those of `tiles`."""
        self._built = {t: c for t, c in self._built.items() if t in tiles}

    def time(self, tiles: Sequence[Tile], rounds: int) -> dict[Tile, list[int]]:
        """Time built tiles in turn, see `timed_in_turn`.

        Returns
        -------
        dict of Tile to list of int
            Nanoseconds of each round.
        """
        times = timed_in_turn([self._built[tile] for tile in tiles], rounds, self._now)
        return dict(zip(tiles, times, strict=True))


def median_us(times: Sequence[int]) -> float:
    """Median of nanoseconds, in microseconds."""
    return statistics.median(times) / 1000
