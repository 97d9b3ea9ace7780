"""Candidates for boards: built and linked here, in a worker that may die."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.example import Array
from tvm_probq.tuning.measure import BUILD_S, LAYER_S, layer_request
from tvm_probq.tuning.process import WorkerGone, WorkerProcess
from tvm_probq.tuning.wire import tile_to_json
from tvm_probq.tuning.worker import LIBRARY, OWN, SHARED, WANTED


@dataclass(frozen=True)
class Built:
    """A candidate that passed the gates which need no machine.

    Attributes
    ----------
    library : bytes
        Linked for the board.
    own, shared : dict of str to ndarray
        Its arguments, and those that it shares with all tiles of the layer.
    order : tuple of str
        The names of all arguments, the output last.
    wanted : ndarray
        The output, by the simulator.
    """

    library: bytes
    own: dict[str, Array]
    shared: dict[str, Array]
    order: tuple[str, ...]
    wanted: Array


class Builder:
    """Builds candidates; several threads may ask.

    Parameters
    ----------
    target : mapping
        What ``tvm.target.Target`` takes.
    seed : int
        Of the random inputs.
    """

    def __init__(self, target: Mapping[str, Any], seed: int = 0) -> None:
        self._target, self._seed = dict(target), seed
        self._worker = WorkerProcess()
        self._lock = threading.Lock()
        self._spec: LayerSpec | None = None
        self._told = self._closed = False  # the worker was told of this layer
        self._shared: dict[str, Array] = {}
        self._built: dict[Tile, Built] = {}

    def close(self) -> None:
        """End the worker, also while another thread waits for it."""
        self._closed = True
        self._worker.stop()

    def build(self, spec: LayerSpec, tile: Tile) -> Built:
        """Build a tile's kernel, and remember it until another layer comes.

        Raises
        ------
        KernelError
            If a gate refuses it, or if the worker died of it.
        """
        with self._lock:
            if self._closed:
                raise KernelError("a kernel is not built", where=str(spec), why="tuning has ended")
            if self._spec != spec:
                self._spec, self._shared, self._built, self._told = spec, {}, {}, False
            if tile not in self._built:
                self._built[tile] = self._link(spec, tile)
            return self._built[tile]

    def forget(self) -> None:
        """Free what was built."""
        with self._lock:
            self._built = {}

    def _link(self, spec: LayerSpec, tile: Tile) -> Built:
        with tempfile.TemporaryDirectory(prefix="tvm-probq-") as name:
            request = {"op": "link", "tile": tile_to_json(tile), "folder": name}
            try:
                answer = self._tell(spec)
                answer = answer if "failure" in answer else self._worker.ask(request, BUILD_S)
            except WorkerGone as error:
                answer = {"failure": str(error)}
            if "failure" in answer:
                what = "a kernel cannot be built"
                raise KernelError(what, where=f"{spec}, {tile}", why=str(answer["failure"]))
            folder = Path(name)
            if not self._shared:
                self._shared = _arrays(folder / SHARED)
            shared = {k: v for k, v in self._shared.items() if k != WANTED}
            return Built(
                (folder / LIBRARY).read_bytes(), _arrays(folder / OWN), shared,
                tuple(answer["order"]), self._shared[WANTED],
            )  # fmt: skip

    def _tell(self, spec: LayerSpec) -> dict[str, Any]:
        """Tell the worker which layer it is, unless it knows."""
        if self._told and self._worker.running:
            return {}
        answer = self._worker.ask(layer_request(spec, self._target, 1, self._seed), LAYER_S)
        self._told = "failure" not in answer
        return answer


def _arrays(path: Path) -> dict[str, Array]:
    with np.load(path) as found:
        return dict(found)
