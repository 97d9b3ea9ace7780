"""Timing kernels in turn, weights and code not in the caches next to the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

EVICTED_BYTES = 2 * 1024 * 1024  # written and as much read: more than a second-level cache
WARM_UP_ROUNDS = 2


@dataclass(frozen=True)
class Contestant:
    """A kernel with its arguments.

    Attributes
    ----------
    call : callable
        Runs it.
    touch : callable
        Reads its input.
    """

    call: Callable[[], object]
    touch: Callable[[], object]


def timed_in_turn(
    contestants: Sequence[Contestant], rounds: int, now: Callable[[], int]
) -> list[list[int]]:
    """Time each contestant once a round; each round begins with another one.

    In a network every other layer runs between two calls of a kernel. So before each call the
    first two caches are filled with something else, and only the input is read again, which the
    layer before has just written.

    Parameters
    ----------
    contestants : sequence of Contestant
        At least one.
    rounds : int
        That count, behind a few that do not.
    now : callable
        A clock, in nanoseconds.

    Returns
    -------
    list of list of int
        Nanoseconds of each contestant in each round.
    """
    sink, source = np.zeros(EVICTED_BYTES, np.uint8), np.ones(EVICTED_BYTES, np.uint8)
    times: list[list[int]] = [[] for _ in contestants]
    for turn in range(-WARM_UP_ROUNDS, rounds):
        for place in range(len(contestants)):
            index = (place + turn) % len(contestants)
            contestant = contestants[index]
            np.copyto(sink, source)
            contestant.touch()
            before = now()
            contestant.call()
            elapsed = now() - before
            if turn >= 0:
                times[index].append(elapsed)
    return times
