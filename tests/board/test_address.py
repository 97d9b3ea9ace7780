"""Addresses of boards and trackers."""

from __future__ import annotations

import pytest

from tvm_probq.board.address import Address, parse


@pytest.mark.parametrize(
    ("text", "found"),
    [("pi:9090", ("pi", 9090)), ("127.0.0.1:1", ("127.0.0.1", 1)), ("[::1]:80", ("::1", 80))],
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["", "pi", "pi:", ":9090", "pi:x", "pi:0", "pi:65536", "pi:-1"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no address: write HOST:PORT"):
        parse(text)


def test_names_in_messages() -> None:
    assert str(Address("pi", 9090, "k")) == "board pi:9090"
    assert str(Address("pi", 9190, "k", tracker=True)) == "tracker pi:9190, key k"
