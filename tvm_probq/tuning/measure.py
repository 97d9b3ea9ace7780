"""Measure tiles of a layer beside its default tile, in a worker that may die."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tvm_probq.closing import Closing
from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.bench import median_us
from tvm_probq.tuning.process import WorkerGone, WorkerProcess
from tvm_probq.tuning.wire import spec_to_json, tile_from_json, tile_to_json

LAYER_S = 60.0  # deadlines: the input and the simulator's output of a layer,
BUILD_S = 30.0  # one candidate,
TIME_S = 60.0  # all rounds


@dataclass(frozen=True)
class Measured:
    """What is known of a tile.

    Attributes
    ----------
    time_us : float
        Median time of a call, 0 if it failed.
    ratio : float or None
        Median over the rounds of the time over the default tile's in the same round; None if a
        gate refused it.
    wins : float
        Share of the rounds in which it was faster than the default tile.
    failure : str
        Why it was refused.
    """

    time_us: float = 0.0
    ratio: float | None = None
    wins: float = 0.0
    failure: str = ""


class Measurer(Protocol):
    """What the search asks of a machine."""

    def measure(
        self, spec: LayerSpec, default: Tile, tiles: Sequence[Tile], rounds: int
    ) -> dict[Tile, Measured]:
        """Build, check and time tiles; the default is in the result, with the ratio 1.

        A tile that is not in the result was not measured, through no fault of its own.
        """


class WorkerMeasurer(Closing):
    """Measures in a worker process on this machine.

    Parameters
    ----------
    target : mapping
        What ``tvm.target.Target`` takes.
    threads : int
        Threads of a kernel.
    seed : int
        Of the random inputs.
    """

    def __init__(self, target: Mapping[str, Any], threads: int = 1, seed: int = 0) -> None:
        self._target, self._threads, self._seed = dict(target), threads, seed
        self._worker = WorkerProcess(threads)
        self._spec: LayerSpec | None = None
        self._built: set[Tile] = set()

    def close(self) -> None:
        """End the worker."""
        self._worker.stop()
        self._spec = None

    def measure(
        self, spec: LayerSpec, default: Tile, tiles: Sequence[Tile], rounds: int
    ) -> dict[Tile, Measured]:
        """Build, check and time tiles in turn with the default.

        Raises
        ------
        KernelError
            If the default tile's own kernel fails, so that there is nothing to compare with.
        """
        found: dict[Tile, Measured] = {}
        wanted = list(dict.fromkeys([default, *tiles]))
        self._forget_all_but(wanted)
        for tile in wanted:
            failure = self._build(spec, tile)
            if failure:
                found[tile] = Measured(failure=failure)
        if default in found:
            raise default_fails(spec, found[default].failure)
        good = [tile for tile in wanted if tile not in found]
        return found | self._times(spec, default, good, rounds)

    def _times(
        self, spec: LayerSpec, default: Tile, tiles: Sequence[Tile], rounds: int
    ) -> dict[Tile, Measured]:
        try:
            for tile in tiles:
                # A candidate behind these may have killed the worker that held them.
                if self._build(spec, tile):
                    raise WorkerGone("a kernel that was built before fails now")
            request = {"op": "time", "tiles": [tile_to_json(t) for t in tiles], "rounds": rounds}
            answer = self._ask(request, TIME_S)
        except WorkerGone as error:
            return {tile: Measured(failure=str(error)) for tile in tiles}
        if "failure" in answer:
            return {tile: Measured(failure=answer["failure"]) for tile in tiles}
        times = {tile_from_json(tile): found for tile, found in answer["times"]}
        return {tile: compared(found, times[default]) for tile, found in times.items()}

    def _build(self, spec: LayerSpec, tile: Tile) -> str:
        """Why the tile fails; empty if its kernel is in the worker."""
        try:
            if self._spec != spec or not self._worker.running:
                self._spec, self._built = None, set()
                request = layer_request(spec, self._target, self._threads, self._seed)
                failure = self._ask(request, LAYER_S).get("failure")
                if failure:
                    return str(failure)
                self._spec = spec
            if tile in self._built:
                return ""
            answer = self._ask({"op": "build", "tile": tile_to_json(tile)}, BUILD_S)
        except WorkerGone as error:
            return str(error)
        if "failure" not in answer:
            self._built.add(tile)
        return str(answer.get("failure", ""))

    def _forget_all_but(self, tiles: Sequence[Tile]) -> None:
        """Free the kernels of other tiles, with their copies of the weights."""
        self._built &= set(tiles)
        if self._worker.running and self._spec is not None:
            request = {"op": "keep", "tiles": [tile_to_json(t) for t in self._built]}
            with contextlib.suppress(WorkerGone):
                self._ask(request, BUILD_S)

    def _ask(self, request: Mapping[str, Any], deadline_s: float) -> dict[str, Any]:
        return self._worker.ask(request, deadline_s)


def layer_request(
    spec: LayerSpec, target: Mapping[str, Any], threads: int, seed: int
) -> dict[str, Any]:
    """Make the request that tells a worker which layer is next."""
    return {
        "op": "layer", "spec": spec_to_json(spec), "target": dict(target), "threads": threads,
        "seed": seed,
    }  # fmt: skip


def default_fails(spec: LayerSpec, why: str) -> KernelError:
    """Make the error for a layer in which there is nothing to compare with."""
    return KernelError(
        "the kernel of the default tile fails", where=str(spec), why=why,
        fix="report it; `--layers` leaves the layer out",
    )  # fmt: skip


def compared(times: Sequence[int], default: Sequence[int]) -> Measured:
    """Compare a tile's times, in nanoseconds, with those of the default in the same rounds."""
    ratios = [a / b for a, b in zip(times, default, strict=True)]
    wins = sum(a < b for a, b in zip(times, default, strict=True)) / len(ratios)
    return Measured(median_us(times), statistics.median(ratios), wins)
