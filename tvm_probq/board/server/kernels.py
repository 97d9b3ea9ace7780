"""Kernels of one layer in a session: loaded with their arguments, run, and timed in turn."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from .rounds import Contestant, timed_in_turn

PREFIX = "probq.board.kernels."


class Kernels:
    """What a session offers to a tuner; files are in the session's folder.

    Parameters
    ----------
    folder : Path
        Of the session.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[str, Any] = {}
        self._loaded: dict[str, tuple[Any, list[Any]]] = {}

    def register(self) -> None:
        """Let clients call all below."""
        import tvm_ffi

        for function in (self.share, self.load, self.run, self.time):
            tvm_ffi.register_global_func(PREFIX + function.__name__, function, override=True)

    def share(self, file: str) -> None:
        """Read the arrays that all kernels take; forgets those of another layer."""
        self._loaded.clear()
        self._shared = self._arrays(file)

    def load(self, name: str, order: str) -> None:
        """Load ``NAME.so``, whose arguments are named in `order`; ``NAME.npz`` holds its own."""
        import tvm

        arrays = {**self._shared, **self._arrays(f"{name}.npz")}
        tensors = [tvm.runtime.tensor(arrays[key]) for key in order.split()]
        library = tvm.runtime.load_module(str(self._folder / f"{name}.so"))
        self._loaded[name] = library["main"], tensors

    def run(self, name: str) -> bytes:
        """Run a kernel once; gives its last argument as a file of NumPy's."""
        main, tensors = self._loaded[name]
        main(*tensors)
        content = io.BytesIO()
        np.save(content, tensors[-1].numpy())
        return content.getvalue()

    def time(self, names: str, rounds: int, threads: int) -> str:
        """Time kernels in turn: the CPU time of a single thread, else time on the clock.

        Returns
        -------
        str
            JSON: nanoseconds of each kernel in each round.
        """
        now = time.thread_time_ns if threads == 1 else time.perf_counter_ns
        contestants = [_contestant(*self._loaded[name]) for name in names.split()]
        return json.dumps(timed_in_turn(contestants, rounds, now))

    def _arrays(self, file: str) -> dict[str, Any]:
        with np.load(self._folder / file) as found:
            return dict(found)


def _contestant(main: Any, tensors: list[Any]) -> Contestant:
    return Contestant(lambda: main(*tensors), tensors[0].numpy)
