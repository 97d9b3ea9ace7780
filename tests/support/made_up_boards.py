"""Boards with made-up times in the place of real ones, for tests of what is done with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from tvm_probq.board.address import Address
from tvm_probq.errors import BoardError, KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning import fleet
from tvm_probq.tuning.builder import Built

RIGHT, WRONG = np.array([1], np.uint8), np.array([2], np.uint8)
DEFAULT_NS, TILE_NS = 2000, 1000


class MadeUpBoards:
    """So many boards behind a tracker.

    `event` is called with a board's number, what is done there, and the tile; it may call `kill`.
    `crashing`, `wrong` and `unbuildable` are tiles; `log` has all that was done, in order.
    """

    def __init__(self, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = list(range(count))
        self.dead: set[int] = set()
        self.lock = threading.Condition()
        self.event: Callable[[int, str, str], None] = lambda *_what: None
        self.crashing: set[Tile] = set()
        self.wrong: set[Tile] = set()
        self.unbuildable: set[Tile] = set()
        self.sessions: list[MadeUpSession] = []
        self.log: list[tuple[int, str, str]] = []
        boards = self

        class Session(MadeUpSession):
            """A session on one of them."""

            def __init__(self, _address: Address, check: Any, _timeout_s: float) -> None:
                super().__init__(boards, check)

        class Builder:
            """Builds nothing."""

            def __init__(self, *_arguments: Any) -> None:
                self.closed = False

            def build(self, spec: LayerSpec, tile: Tile) -> Built:
                if tile in boards.unbuildable:
                    raise KernelError("no", where=str(spec), why="it cannot be built")
                return Built(repr(tile).encode(), {}, {}, (), RIGHT)

            def forget(self) -> None:
                pass

            def close(self) -> None:
                self.closed = True

        monkeypatch.setattr(fleet, "KernelSession", Session)
        monkeypatch.setattr(fleet, "Builder", Builder)
        monkeypatch.setattr(fleet, "count_boards", lambda _address: count - len(self.dead))

    def kill(self, board: int) -> None:
        """Let a board vanish."""
        with self.lock:
            self.dead.add(board)


class MadeUpSession:
    """What `KernelSession` does, without a board."""

    def __init__(self, boards: MadeUpBoards, check: Callable[[Any], None]) -> None:
        self._boards, self._kernels = boards, dict[str, str]()
        with boards.lock:
            boards.free = [board for board in boards.free if board not in boards.dead]
            if not boards.free:
                raise BoardError("no board became free", where="tracker")
            self.board = boards.free.pop(0)
        self._dead = self._closed = self.aborted = False
        boards.sessions.append(self)
        self.facts: Any = None

    def __enter__(self) -> MadeUpSession:
        return self

    def __exit__(self, *_arguments: object) -> None:
        self.close()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            with self._boards.lock:
                self._boards.free.append(self.board)

    def abort(self) -> None:
        self.aborted = self._dead = True

    def answers(self) -> bool:
        return self.board not in self._boards.dead

    def use_threads(self, count: int) -> None:
        self._do("threads", str(count))

    def share(self, _arrays: Any) -> None:
        self._do("share", "")

    def load_kernel(self, name: str, library: bytes, _own: Any, _order: Any) -> None:
        self._kernels[name] = library.decode()
        self._do("load", self._kernels[name])

    def output(self, name: str) -> Any:
        tile = self._kernels[name]
        if tile in map(repr, self._boards.crashing):
            self._dead = True
        self._do("output", tile)
        return WRONG if tile in map(repr, self._boards.wrong) else RIGHT

    def times_ns(self, names: Sequence[str], rounds: int, _threads: int) -> list[list[int]]:
        for name in names:
            self._do("time", self._kernels[name])
        return [[DEFAULT_NS if name == "0" else TILE_NS] * rounds for name in names]

    def _do(self, what: str, tile: str) -> None:
        with self._boards.lock:
            self._boards.log.append((self.board, what, tile))
        self._boards.event(self.board, what, tile)
        if self._dead or self.board in self._boards.dead:
            raise BoardError("the board's session died", where=f"board {self.board}")
