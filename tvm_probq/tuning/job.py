"""One board's part of a batch: candidates uploaded, checked and timed beside the default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm_probq.board.kernels import KernelSession
from tvm_probq.errors import BoardError, KernelError
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.builder import Builder
from tvm_probq.tuning.candidate import differing
from tvm_probq.tuning.measure import Measured, compared, default_fails

Open = Callable[[], KernelSession]


@dataclass(frozen=True)
class Job:
    """What a board is asked to do.

    Attributes
    ----------
    spec : LayerSpec
        The layer.
    default : Tile
        What tiles are compared with.
    tiles : tuple of Tile
        Without the default.
    rounds, threads : int
        Of the timing.
    """

    spec: LayerSpec
    default: Tile
    tiles: tuple[Tile, ...]
    rounds: int
    threads: int


@dataclass
class Outcome:
    """What became of a job.

    Attributes
    ----------
    found : dict of Tile to Measured
        Measured tiles, and those that failed; a tile that is missing did neither.
    lost : BoardError or None
        Why there was no board for the job, or it has vanished.
    """

    found: dict[Tile, Measured] = field(default_factory=dict)
    lost: BoardError | None = None


class Crashed(Exception):  # noqa: N818 - what happened, caught by the job
    """A kernel has ended the session."""


def run_job(job: Job, builder: Builder, open_session: Open) -> Outcome:
    """Do a job on one board; a tile that crashes costs only itself.

    Raises
    ------
    KernelError
        If the default tile's own kernel fails.
    """
    outcome = Outcome()
    try:
        while True:
            left = [t for t in job.tiles if t not in outcome.found]
            with open_session() as session:
                try:
                    good = _loaded(job, [job.default, *left], builder, session, outcome.found)
                except Crashed:
                    continue  # in a new session, without the tile
                outcome.found |= _times(job, good, session)
                return outcome
    except BoardError as error:
        outcome.lost = error
        return outcome


def _loaded(
    job: Job,
    tiles: Sequence[Tile],
    builder: Builder,
    session: KernelSession,
    failed: dict[Tile, Measured],
) -> list[Tile]:
    """Load and check tiles; gives those that passed, and notes why others did not."""
    good: list[Tile] = []
    for tile in tiles:
        crashed = False
        try:
            why = _check(job, tile, str(len(good)), builder, session)
        except KernelError as error:
            why = error.why or error.what
        except BoardError as error:
            if not session.answers():
                raise
            crashed, why = True, error.what
        if not why:
            good.append(tile)
            continue
        if tile == job.default:
            raise default_fails(job.spec, why)
        failed[tile] = Measured(failure=why)
        if crashed:
            raise Crashed
    return good


def _check(job: Job, tile: Tile, name: str, builder: Builder, session: KernelSession) -> str:
    """Build, upload and run a tile; says why it fails, empty if it equals the simulator."""
    built = builder.build(job.spec, tile)
    if tile == job.default:
        session.use_threads(job.threads)
        session.share(built.shared)
    session.load_kernel(name, built.library, built.own, built.order)
    return differing(session.output(name), built.wanted)


def _times(job: Job, tiles: Sequence[Tile], session: KernelSession) -> dict[Tile, Measured]:
    """Time tiles that passed, the default first among them."""
    try:
        times = session.times_ns([str(i) for i in range(len(tiles))], job.rounds, job.threads)
    except BoardError as error:
        if not session.answers():
            raise
        return {tile: Measured(failure=error.what) for tile in tiles}
    return {tile: compared(found, times[0]) for tile, found in zip(tiles, times, strict=True)}
