"""Progress on stderr, so that stdout holds results alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

TERMINAL_INTERVAL_S = 0.1
# A log file needs no ten lines a second.
LOG_INTERVAL_S = 10.0


def progress(
    items: Iterable[T],
    total: int,
    what: str,
    *,
    quiet: bool,
    unit: str = "sample",
    size: Callable[[T], int] = lambda _item: 1,
) -> Iterator[T]:
    """Show a bar with the time left while items are taken.

    Parameters
    ----------
    items : iterable
        What to give on.
    total : int
        Number of samples, or of what `unit` names, in all of them.
    what : str
        What is being done.
    quiet : bool
        Show nothing.
    unit : str, optional
        What is counted.
    size : callable, optional
        Number of samples of an item.
    """
    # Imported here, so that --help is fast.
    from tqdm import tqdm

    interval = TERMINAL_INTERVAL_S if sys.stderr.isatty() else LOG_INTERVAL_S
    with tqdm(
        desc=what,
        total=total,
        unit=unit,
        disable=quiet,
        mininterval=interval,
        file=sys.stderr,
    ) as bar:
        for item in items:
            yield item
            # Only now is the item done with.
            bar.update(size(item))


def say(text: str, *, quiet: bool) -> None:
    """Tell what is being done."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)
