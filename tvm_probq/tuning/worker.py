"""The process in which candidates are built and timed; a crash or a hang costs only itself.

Started as ``python -m tvm_probq.tuning.worker``: requests come as lines of JSON on standard input,
answers go as lines to standard output. It imports TVM and the kernels, nothing of MetaSchedule,
and stays for many candidates.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from tvm_probq.build.linker import find_linker
from tvm_probq.errors import ProbqError
from tvm_probq.tuning.bench import Bench
from tvm_probq.tuning.candidate import WEIGHTS
from tvm_probq.tuning.wire import spec_from_json, tile_from_json, tile_to_json

LIBRARY, OWN, SHARED, WANTED = "library.so", "own.npz", "shared.npz", "wanted"


class Worker:
    """Answers requests, one at a time."""

    def __init__(self) -> None:
        self._bench: Bench | None = None
        self._triple = ""

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request asks; what goes wrong with a candidate is the answer's ``failure``."""
        try:
            return self._do(request)
        except ProbqError as error:
            return {"failure": error.why or error.what}
        # TVM, LLVM and NumPy raise what they like; a candidate must not end the tuning.
        except Exception as error:  # noqa: BLE001
            line = (str(error).strip() or repr(error)).splitlines()[-1]
            return {"failure": f"{type(error).__name__}: {line}"[:300]}

    def _do(self, request: Mapping[str, Any]) -> dict[str, Any]:
        if request["op"] == "layer":
            from tvm.target import Target

            spec, target = spec_from_json(request["spec"]), Target(dict(request["target"]))
            self._bench = Bench(spec, target, request["threads"], request["seed"])
            self._triple = str(request["target"].get("mtriple", ""))
            return {}
        if self._bench is None:
            raise ValueError("no layer is set")
        if request["op"] == "build":
            return dict(self._bench.build(tile_from_json(request["tile"])))
        if request["op"] == "link":
            return self._link(self._bench, request)
        tiles = [tile_from_json(tile) for tile in request["tiles"]]
        if request["op"] == "keep":
            self._bench.keep(tiles)
            return {}
        times = self._bench.time(tiles, request["rounds"])
        return {"times": [[tile_to_json(tile), found] for tile, found in times.items()]}

    def _link(self, bench: Bench, request: Mapping[str, Any]) -> dict[str, Any]:
        """Write a candidate's library, and its arguments, those of all tiles in another file."""
        candidate = bench.candidates.build(tile_from_json(request["tile"]))
        folder = Path(request["folder"])
        candidate.library.export_library(
            str(folder / LIBRARY), fcompile=find_linker(self._triple), workspace_dir=str(folder)
        )
        shared = {**candidate.arguments, WANTED: bench.candidates.wanted}
        own = {WEIGHTS: shared.pop(WEIGHTS)}
        np.savez(folder / OWN, allow_pickle=False, **own)
        np.savez(folder / SHARED, allow_pickle=False, **shared)
        return {"order": list(candidate.arguments), **candidate.facts}


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer requests until the pipe is closed."""
    worker = Worker()
    for line in requests:
        answers.write(json.dumps(worker.answer(json.loads(line))) + "\n")
        answers.flush()


def main() -> None:
    """Serve standard input; what anything else prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
