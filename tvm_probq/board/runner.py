"""Run a compiled artefact on a board."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from tvm_probq.board.address import Address
from tvm_probq.board.check import check_board
from tvm_probq.board.facts import BoardFacts
from tvm_probq.board.session import TIMEOUT_S, BoardSession
from tvm_probq.build.artefact import Artefact
from tvm_probq.runtime.batching import Arrays
from tvm_probq.runtime.runner import ArtefactRunner

NAME = "model"


class RemoteRunner(ArtefactRunner):
    """An artefact loaded on a board, with the interface of `Runner`; for one thread at a time.

    A call that gets no answer by its deadline closes the runner; after any other error it goes on.

    Parameters
    ----------
    artefact : Artefact
        From ``load_artefact(path, to_run=False)``.
    address : Address
        Of the board or of a tracker.
    timeout_s : float, optional
        For each call: connecting, uploading, and each batch.

    Raises
    ------
    BoardError
        If there is no board, it does not answer, is busy or unfit, or cannot load the library;
        nothing is uploaded to a board that is unfit. By the deadline in any case.

    Examples
    --------
    >>> artefact = load_artefact(Path("model.probq"), to_run=False)  # doctest: +SKIP
    >>> with RemoteRunner(artefact, Address("127.0.0.1", 9090)) as model:  # doctest: +SKIP
    ...     (logits,) = model.run(images)
    """

    def __init__(self, artefact: Artefact, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(artefact)
        manifest, where = artefact.manifest, f"{artefact.path} on {address}"

        def check(facts: BoardFacts) -> None:
            check_board(manifest.target, manifest.versions, facts, where)

        self.session = BoardSession(address, check, timeout_s)
        try:
            self.session.load(NAME, artefact.library)
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> BoardFacts:
        """What the board is."""
        return self.session.facts

    def close(self) -> None:
        """End the session: the board is free, and nothing stays on it."""
        self.session.close()

    def call(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Run exactly one batch of checked arrays."""
        return self.session.run(NAME, {name: arrays[name] for name, _, _ in self.inputs})

    def latency_s(self, arrays: Arrays, repeat: int) -> list[float]:
        """Time runs of one batch of checked arrays on the board's clock, without transfers."""
        self.session.prepare(NAME, {name: arrays[name] for name, _, _ in self.inputs})
        return self.session.time_s(NAME, repeat=repeat)
