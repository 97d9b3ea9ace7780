"""Measure tiles on boards, several at the same time; a board that vanishes takes nothing along."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Sequence

from tvm_probq.board.address import Address
from tvm_probq.board.check import check_board
from tvm_probq.board.facts import BoardFacts
from tvm_probq.board.kernels import KernelSession
from tvm_probq.board.session import TIMEOUT_S
from tvm_probq.board.tracker import count_boards
from tvm_probq.build.manifest import TargetNeeds, current_versions
from tvm_probq.closing import Closing
from tvm_probq.errors import BoardError, TuningError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.target.profile import TargetProfile
from tvm_probq.tuning.builder import Builder
from tvm_probq.tuning.job import Job, Outcome, run_job
from tvm_probq.tuning.measure import Measured

LEAST_TILES = 3  # of a job, beside the default that each job times again

Results = queue.SimpleQueue[tuple[Job, Outcome | BaseException]]


class FleetMeasurer(Closing):
    """`tvm_probq.tuning.measure.Measurer` of one board, or of all that a tracker lends.

    Parameters
    ----------
    profile : TargetProfile
        What kernels are built for; a board that cannot run them is not used.
    address : Address
        Of the board or of the tracker.
    threads : int
        Threads of a kernel.
    seed : int
        Of the random inputs.
    timeout_s : float
        For each call of a board, and for waiting until one is free.
    say : callable, optional
        Told of boards that are lost.
    """

    def __init__(
        self,
        profile: TargetProfile,
        address: Address,
        threads: int = 1,
        seed: int = 0,
        timeout_s: float = TIMEOUT_S,
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._profile, self._address = profile, address
        self._threads, self._timeout_s, self._say = threads, timeout_s, say
        self._builder = Builder(profile.tvm_target, seed)
        self._sessions = weakref.WeakSet[KernelSession]()
        self._closed = False

    def close(self) -> None:
        """End the worker that builds, and every session, also those in use by threads."""
        self._closed = True
        for session in list(self._sessions):
            session.abort()
        self._builder.close()

    def look(self) -> BoardFacts:
        """Borrow a board for a moment; gives what it is.

        Raises
        ------
        BoardError
            If there is none, or it cannot run kernels of the profile.
        """
        with self._open() as session:
            return session.facts

    def measure(
        self, spec: LayerSpec, default: Tile, tiles: Sequence[Tile], rounds: int
    ) -> dict[Tile, Measured]:
        """Build, check and time tiles, each beside the default on the same board.

        Raises
        ------
        KernelError
            If the default tile's own kernel fails.
        BoardError
            If no board is left and nothing was measured.
        """
        boards = count_boards(self._address) if self._address.tracker else 1
        jobs = [
            Job(spec, default, part, rounds, self._threads)
            for part in shared_out([t for t in dict.fromkeys(tiles) if t != default], boards)
        ]
        found, lost = self._run_all(jobs, max(1, boards))
        self._builder.forget()
        of_default = found.pop(default, [])
        times = sorted((m for m in of_default if m.ratio is not None), key=lambda m: m.time_us)
        times = times or of_default
        if not times:
            if lost is None:
                raise TuningError("a job gave no result", where=str(spec), fix="report it")
            raise lost
        measured = {tile: results[0] for tile, results in found.items()}
        return {default: times[len(times) // 2], **measured}

    def _run_all(
        self, jobs: list[Job], width: int
    ) -> tuple[dict[Tile, list[Measured]], BoardError | None]:
        """Run jobs, at most `width` at a time, and one fewer for each board that is lost."""
        waiting, running = list(jobs), 0
        failure: BaseException | None = None
        results: Results = queue.SimpleQueue()
        found: dict[Tile, list[Measured]] = {}
        lost: BoardError | None = None
        while running or (waiting and width > 0):
            while waiting and running < width:
                self._start(waiting.pop(0), results)
                running += 1
            job, outcome = results.get()
            running -= 1
            if isinstance(outcome, BaseException):
                failure, width = outcome, 0  # those that run must end before another layer begins
                continue
            for tile, measured in outcome.found.items():
                found.setdefault(tile, []).append(measured)
            if outcome.lost is not None:
                lost, width = outcome.lost, width - 1
                left = tuple(tile for tile in job.tiles if tile not in outcome.found)
                waiting.append(Job(job.spec, job.default, left, job.rounds, job.threads))
                self._say(f"a board is lost: {lost}")
        if failure is not None:
            raise failure
        return found, lost

    def _start(self, job: Job, results: Results) -> None:
        def work() -> None:
            outcome: Outcome | BaseException
            try:
                outcome = run_job(job, self._builder, self._open)
            # Whatever it is, it is raised where the results are read.
            except BaseException as error:  # noqa: BLE001
                outcome = error
            results.put((job, outcome))

        # Not waited for when the program ends: the wait for a tracker cannot be broken off.
        threading.Thread(target=work, daemon=True).start()

    def _open(self) -> KernelSession:
        session = KernelSession(self._address, self._check, self._timeout_s)
        self._sessions.add(session)
        if self._closed:
            session.abort()
        return session

    def _check(self, facts: BoardFacts) -> None:
        profile = self._profile
        needs = TargetNeeds(
            profile.name, profile.tvm_target, profile.architecture, profile.features
        )
        check_board(needs, current_versions(), facts, str(self._address))


def shared_out(tiles: Sequence[Tile], boards: int) -> list[tuple[Tile, ...]]:
    """Deal tiles out to boards: parts as equal as possible, none too small; at least one part."""
    count = max(1, min(boards, len(tiles) // LEAST_TILES))
    return [tuple(tiles[first::count]) for first in range(count)]
