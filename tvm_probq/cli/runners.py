"""Opening an artefact to run it: here, or on the board that the options name."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_probq.cli import options

if TYPE_CHECKING:
    from tvm_probq.build.artefact import Artefact
    from tvm_probq.runtime.runner import ArtefactRunner


def load(path: Path, args: argparse.Namespace) -> Artefact:
    """Read and check an artefact; whether it runs here matters only if it is to run here."""
    from tvm_probq.build.artefact import load_artefact

    return load_artefact(path, to_run=options.board_of(args) is None)


def open_runner(artefact: Artefact, args: argparse.Namespace) -> ArtefactRunner:
    """Load an artefact of `load` where the options of `options.add_board` say."""
    board = options.board_of(args)
    if board is None:
        from tvm_probq.runtime.runner import Runner

        return Runner(artefact)
    from tvm_probq.board.runner import RemoteRunner

    return RemoteRunner(artefact, board, args.timeout)
