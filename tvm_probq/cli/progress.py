"""Progress on stderr, so that stdout holds results alone."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

TERMINAL_INTERVAL_S = 0.1
# A log file needs no ten lines a second.
LOG_INTERVAL_S = 10.0


def progress(items: Iterable[T], total: int, what: str, *, quiet: bool) -> Iterable[T]:
    """Show a bar with the time left while items are taken."""
    # Imported here, so that --help is fast.
    from tqdm import tqdm

    interval = TERMINAL_INTERVAL_S if sys.stderr.isatty() else LOG_INTERVAL_S
    bar: Iterable[T] = tqdm(
        items, desc=what, total=total, disable=quiet, mininterval=interval, file=sys.stderr
    )
    return bar


def say(text: str, *, quiet: bool) -> None:
    """Tell what is being done."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
