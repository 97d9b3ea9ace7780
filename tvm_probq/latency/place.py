"""Where kernels are timed: on this machine or on a board."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tvm_probq.board.address import Address
from tvm_probq.board.check import check_board
from tvm_probq.board.facts import BoardFacts
from tvm_probq.board.session import BoardSession
from tvm_probq.build.link import link_library
from tvm_probq.build.manifest import TargetNeeds, current_versions
from tvm_probq.closing import Closing
from tvm_probq.errors import TargetError
from tvm_probq.latency.ticked import Run, Ticked, call_here
from tvm_probq.target.profile import TargetProfile
from tvm_probq.tuning.machine import machine_name

Inputs = dict[str, npt.NDArray[Any]]
NAME = "ticked"


class Place(Protocol):
    """A machine that runs networks."""

    @property
    def name(self) -> str:
        """What its processor is."""

    def run(self, network: Ticked, inputs: Inputs) -> Run:
        """What runs a network once."""

    def __enter__(self) -> Place:
        """Itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Let go of it."""


class Here(Closing):
    """The machine at hand.

    Parameters
    ----------
    profile : TargetProfile
        What networks are compiled for.

    Raises
    ------
    TargetError
        If it does not run here.
    """

    def __init__(self, profile: TargetProfile) -> None:
        if not profile.runs_here:
            raise TargetError(
                f"code for {profile.name} does not run on this machine",
                fix="measure on a board, with --rpc or --tracker, or choose another target",
            )
        self.name = machine_name()

    def close(self) -> None:
        """Nothing is held."""

    def run(self, network: Ticked, inputs: Inputs) -> Run:
        """What runs a network once."""
        return call_here(network.executable, list(inputs.values()))


class OnBoard(Closing):
    """A board.

    Parameters
    ----------
    profile : TargetProfile
        What networks are compiled for.
    address : Address
        Of the board or of a tracker.
    timeout_s : float
        Longest wait for each call.

    Raises
    ------
    BoardError
        If there is none, or it does not fit the profile.
    """

    def __init__(self, profile: TargetProfile, address: Address, timeout_s: float) -> None:
        self._triple = str(profile.tvm_target.get("mtriple", ""))
        needs = TargetNeeds(
            profile.name, profile.tvm_target, profile.architecture, profile.features
        )
        where = f"{profile.name} on {address}"

        def check(facts: BoardFacts) -> None:
            check_board(needs, current_versions(), facts, where)

        self._session = BoardSession(address, check, timeout_s)
        self.name = self._session.facts.name

    def close(self) -> None:
        """End the session."""
        self._session.close()

    def run(self, network: Ticked, inputs: Inputs) -> Run:
        """Upload a network; gives what runs it once."""
        self._session.load(NAME, link_library(network, self._triple))
        return lambda: [np.asarray(output) for output in self._session.run(NAME, inputs)]
