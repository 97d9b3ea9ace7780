"""Timing in turn: who runs when, and what counts."""

from __future__ import annotations

from tvm_probq.board.server.rounds import WARM_UP_ROUNDS, Contestant, timed_in_turn


def test_each_round_begins_with_another() -> None:
    ran: list[str] = []
    clock = 0

    def contestant(name: str, takes: int) -> Contestant:
        def call() -> None:
            nonlocal clock
            clock += takes
            ran.append(name)

        return Contestant(call, lambda: ran.append("touch"))

    names = [contestant("a", 5), contestant("b", 7), contestant("c", 11)]
    times = timed_in_turn(names, 4, lambda: clock)
    assert times == [[5] * 4, [7] * 4, [11] * 4]
    assert set(ran[::2]) == {"touch"}, "the input is read before each call"
    calls = ran[1::2][3 * WARM_UP_ROUNDS :]
    assert ["".join(calls[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
