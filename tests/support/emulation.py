"""Compiled code on an emulated ARM board, by one process for each CPU that serves all tests."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm

from tvm_probq.build.linker import find_linker
from tvm_probq.errors import KernelError

Array = npt.NDArray[Any]

REPOSITORY = Path(__file__).resolve().parents[2]
# Where `make board` puts it; `make test BOARD=path` names another place.
BOARD = Path(os.environ.get("PROBQ_BOARD", REPOSITORY / ".board"))
WORKER = Path(__file__).with_name("board_worker.py")
TRIPLE = "aarch64-linux-gnu"
DEADLINE_S = 120.0

# LLVM's CPUs, and the emulator's that runs their code and traps on what they lack; it has no
# neoverse-v1.
CPUS = {
    "cortex-a53": "cortex-a53",
    "cortex-a72": "cortex-a72",
    "cortex-a76": "cortex-a76",
    "neoverse-n1": "neoverse-n1",
    "neoverse-v1": "max,sve=off",
}
ATTRIBUTES = {"neoverse-v1": ["-sve"]}  # as targets/arm-v1.toml


class BoardDied(Exception):
    """The board's process ended, or did not answer in time; the message has its last words."""


def arm_target(mcpu: str) -> Any:
    """TVM's target for a CPU of `CPUS`."""
    config = {"kind": "llvm", "mtriple": TRIPLE, "mcpu": mcpu}
    if mcpu in ATTRIBUTES:
        config["mattr"] = ATTRIBUTES[mcpu]
    return tvm.target.Target(config)


@dataclass
class _Worker:
    """A running process of the board."""

    process: subprocess.Popen[str]
    log: Any

    def ask(self, request: dict[str, Any]) -> None:
        """Send a request and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], DEADLINE_S)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.close()
            self.log.seek(0)
            raise BoardDied(self.log.read()[-2000:] or f"no answer in {DEADLINE_S} s")
        error = json.loads(line)["error"]
        if error:
            raise RuntimeError(f"on the board: {error}")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()


class EmulatedBoard:
    """Runs code for ARM, on processes that start when first needed and serve until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._workers: dict[str, _Worker] = {}
        self._count = 0

    def run(
        self, library: Any, arrays: Sequence[Array], mcpu: str, outputs: int | None = None
    ) -> list[Array]:
        """Run ``main`` of a library that was compiled for `mcpu`.

        Parameters
        ----------
        library : tvm.runtime.Module or tvm.runtime.Executable
            What TVM compiled; it is linked here.
        arrays : sequence of array
            The arguments.
        mcpu : str
            One of `CPUS`.
        outputs : int, optional
            How many of the last arguments a bare kernel writes; without, ``main`` is that of a
            graph, and what it returns is given.

        Raises
        ------
        BoardDied
            If the code crashed the process or is not done in time; the next call starts another.
        """
        self._count += 1
        place = self._folder / str(self._count)
        place.mkdir()
        paths = {n: str(place / n) for n in ("library.so", "inputs.npz", "results.npz")}
        library.export_library(
            paths["library.so"], fcompile=find_linker(TRIPLE), workspace_dir=str(place)
        )
        named = {f"a{i}": np.ascontiguousarray(a) for i, a in enumerate(arrays)}
        np.savez(paths["inputs.npz"], **named)
        request = {name.split(".")[0]: path for name, path in paths.items()}
        try:
            self._worker(CPUS[mcpu]).ask(
                {**request, "graph": outputs is None, "outputs": outputs or 0}
            )
            with np.load(paths["results.npz"]) as file:
                return [file[f"a{i}"] for i in range(len(file.files))]
        finally:
            shutil.rmtree(place)

    def close(self) -> None:
        """End all processes."""
        for worker in self._workers.values():
            worker.close()

    def _worker(self, cpu: str) -> _Worker:
        worker = self._workers.get(cpu)
        if worker is None or worker.process.poll() is not None:
            log = tempfile.TemporaryFile("w+", dir=self._folder)  # noqa: SIM115 - lives as long
            process = subprocess.Popen(
                [str(BOARD / "board-python"), str(WORKER)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env={**os.environ, "ARM_BOARD_CPU": cpu},
            )  # fmt: skip
            worker = self._workers[cpu] = _Worker(process, log)
        return worker


def require_python() -> Path:
    """Give the board's Python; skip the running test where there is no emulated board."""
    path = BOARD / "board-python"
    if not path.is_file():
        pytest.skip("needs the emulated ARM board: make board")
    return path


def require_board() -> None:
    """Skip the running test where there is no emulated board, or nothing to link for it."""
    require_python()
    try:
        find_linker(TRIPLE)
    except KernelError as error:
        pytest.skip(str(error))
