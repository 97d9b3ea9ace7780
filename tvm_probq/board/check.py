"""Whether an artefact runs on a board, before anything is uploaded."""

from __future__ import annotations

from collections.abc import Mapping

from tvm_probq.board.facts import BoardFacts
from tvm_probq.build.manifest import TargetNeeds
from tvm_probq.environment import installed
from tvm_probq.errors import BoardError

TVM = "apache-tvm"


def check_board(
    target: TargetNeeds, versions: Mapping[str, str], facts: BoardFacts, where: str
) -> None:
    """Compare versions, architecture and CPU features.

    Parameters
    ----------
    target, versions
        Where the code runs, and what made it; see `Manifest`.
    facts : BoardFacts
        What the board is.
    where : str
        What messages call the code and the board.

    Raises
    ------
    BoardError
        If the code cannot run on the board, or the board has another TVM than this machine.
    """
    theirs, made, ours = facts.versions.get(TVM), versions.get(TVM), installed(TVM)
    if theirs != made:
        raise BoardError(
            f"the artefact was compiled by TVM {made}, but the board has TVM {theirs}",
            where=where,
            why="a compiled library fits only the runtime of its own version",
            fix=f"pip install {TVM}=={made} on the board, or compile the model again",
        )
    if theirs != ours:
        raise BoardError(
            f"the board has TVM {theirs}, but this machine has TVM {ours}",
            where=where,
            why="both ends of a connection must be of the same version",
            fix=f"pip install {TVM}=={theirs} here, or the other way round",
        )
    why = f"it was compiled for the target {target.name}"
    fix = "compile the model for this board: `tvm-probq targets` lists the profiles"
    if target.architecture != facts.architecture:
        what = f"the artefact is for {target.architecture}, but the board is {facts.architecture}"
        raise BoardError(what, where=where, why=why, fix=fix)
    lacking = [feature for feature in target.features if feature not in facts.features]
    if lacking:
        what = f"the board's CPU lacks {', '.join(lacking)}, which the artefact needs"
        raise BoardError(what, where=where, why=why, fix=fix)
