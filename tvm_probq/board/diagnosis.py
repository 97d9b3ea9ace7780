"""Why a call failed: what the worker saw, and what the board's server says of it."""

from __future__ import annotations

import time

from tvm_probq.board.facts import BoardFacts, ask_facts
from tvm_probq.board.words import EXPIRED, NO_KEY
from tvm_probq.errors import BoardError

ASKING_S, PAUSE_S = 1.0, 0.05
# Signals by which a library kills its own session: it would do so again.
CRASHES = {
    "SIGILL": "its code uses an instruction that the board's CPU does not have",
    "SIGBUS": "its file on the board is cut short, or memory was accessed wrongly",
    "SIGSEGV": "it accessed memory that is not its own",
    "SIGFPE": "it divided by zero",
    "SIGABRT": "it gave up",
    "SIGTRAP": "it met a trap",
}
ENDS = {
    **CRASHES,
    "SIGKILL": "it was killed from outside, as Linux does where memory runs out",
}
DOING = {
    "connect": "while connecting",
    "load": "while the library was uploaded and loaded",
    "run": "in the middle of a run",
    "prepare": "while inputs were set",
    "time": "while latency was measured",
    "threads": "while threads were set",
    "share": "while inputs were set",
    "kernel": "while the library was uploaded and loaded",
    "output": "in the middle of a run",
    "rounds": "while kernels were timed",
}


class SessionEnded(Exception):  # noqa: N818 - what happened, caught by the session
    """The session is over, though nobody here has ended it.

    Parameters
    ----------
    kind : str
        ``DIED``, ``EXPIRED`` or ``NO_KEY``.
    why : str
        TVM's words.
    doing : str
        The call.
    """

    def __init__(self, kind: str, why: str, doing: str) -> None:
        super().__init__(why)
        self.kind, self.why, self.doing = kind, why, doing

    def may_repeat(self, end: str, successes: int) -> bool:
        """Whether the same call may succeed in a new session.

        Parameters
        ----------
        end : str
            What the server says about the session; empty if it says nothing.
        successes : int
            Calls that the session has answered: one that expired without any would do so again.
        """
        return successes > 0 if self.kind == EXPIRED else end not in CRASHES

    def error(self, where: str, end: str) -> BoardError:
        """Make the message."""
        doing = DOING[self.doing]
        if self.kind == EXPIRED:
            return BoardError(
                f"the session's time was up {doing}", where=where,
                why=self.why.removeprefix("RPCSessionTimeoutError: "),
                fix="start the board's server with a longer --max-session",
            )  # fmt: skip
        if self.kind == NO_KEY:
            return BoardError("the board refuses the key", where=where, fix="correct --key")
        died = end.startswith("SIG")
        return BoardError(
            f"the board's session died {doing}" + (f" of {end}" if died else ""),
            where=where,
            why=ENDS.get(end, "") if died else "the connection to it broke",
            fix="compile the model for this board's CPU: `tvm-probq board info` tells its features"
            if end == "SIGILL"
            else "look into the log of the board's server, and whether its memory is sufficient",
        )


def end_of_session(place: tuple[str, int], number: int, where: str) -> str:
    """Ask the server how a session ended; empty if it does not say."""
    deadline = time.monotonic() + ASKING_S
    while True:
        try:
            ends = ask_facts(*place, where, ASKING_S).ends
        except BoardError:
            return ""
        # The connection breaks a moment before the server has noted why.
        if number in ends or time.monotonic() > deadline:
            return ends.get(number, "")
        time.sleep(PAUSE_S)


def lost(error: BoardError) -> BoardError:
    """Make the message for a board that cannot be reached again after a session has died."""
    return BoardError(
        f"the session died, and in a new one {error.what}",
        where=error.where, why=error.why, fix=error.fix,
    )  # fmt: skip


def refused(where: str, doing: str, why: str) -> BoardError:
    """Make the message for what the board says has gone wrong."""
    if doing in ("load", "kernel"):
        return BoardError(
            "the board cannot load the library", where=where, why=why,
            fix="check that it was compiled for this board, and that its disk has free space",
        )  # fmt: skip
    if doing == "connect":
        return BoardError("the board's server does not begin a session", where=where, why=why)
    return BoardError(f"the board reports an error {DOING[doing]}", where=where, why=why)


def no_answer(
    place: tuple[str, int], where: str, doing: str, late: bool, timeout_s: float, asking_s: float
) -> BoardError:
    """Make the message for a call whose deadline has passed."""
    if not late:
        return BoardError(
            f"the process that speaks to the board died {DOING[doing]}", where=where,
            fix="look for a lack of memory on this machine",
        )  # fmt: skip
    what = f"no answer within {timeout_s:g} s {DOING[doing]}"
    try:
        facts = ask_facts(*place, where, asking_s)
    except BoardError as error:
        return BoardError(what, where=where, why=f"{error.what}: {error.why}", fix=error.fix)
    if doing == "connect" and facts.client:
        return BoardError(
            what, where=where,
            why=f"the board is busy: {facts.client} has had it for {facts.busy_s:.0f} s",
            fix="wait, give a longer --timeout, or use a tracker, which lends boards that are free",
        )  # fmt: skip
    return BoardError(
        what, where=where, why="the board's server answers, but the call takes longer",
        fix="give a longer --timeout, or a smaller batch",
    )  # fmt: skip


def check_key(facts: BoardFacts, key: str, where: str) -> None:
    """Raise a BoardError if the board wants another key."""
    if facts.tracker:
        raise BoardError(
            "the board is lent by a tracker", where=where,
            fix=f"ask that for it: --tracker {facts.tracker} --key {facts.key}",
        )  # fmt: skip
    if facts.key != key:
        raise BoardError(
            f"the board has the key {facts.key!r}, not {key!r}", where=where, fix="correct --key"
        )
