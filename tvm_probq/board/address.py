"""Where a board is: its own address, or that of a tracker that lends boards."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """Where to ask for a board.

    Attributes
    ----------
    host, port
        Of the board's server or of the tracker.
    key : str
        Label of the board, or of the kind of board that a tracker lends.
    tracker : bool
        Whether it is a tracker's.
    """

    host: str
    port: int
    key: str = ""
    tracker: bool = False

    def __str__(self) -> str:
        """Give it as messages name it."""
        place = f"{self.host}:{self.port}"
        return f"tracker {place}, key {self.key}" if self.tracker else f"board {place}"


def parse(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``, also ``[::1]:PORT``.

    Raises
    ------
    ValueError
        If it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        raise ValueError(f"{text!r} is no address: write HOST:PORT")
    return host.strip("[]"), int(port)
