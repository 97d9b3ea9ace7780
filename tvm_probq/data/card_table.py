"""Typed look-ups in one table of a card."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from tvm_probq.errors import DataError

FORM = (
    "add it; a card has task, model, calibration and evaluation, and for images a table "
    "[preprocess] with mean and std"
)

T = TypeVar("T")


def _is_finite_number(value: object) -> bool:
    # A bool is an int to Python, but not to a reader; TOML has nan and inf.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class Table:
    """One table of a card; every look-up says what is wrong and where.

    Attributes
    ----------
    path : Path
        The card.
    name : str
        The table's name, empty for the top level.
    values : dict
        What TOML gave.
    """

    path: Path
    name: str
    values: dict[str, Any]

    def error(self, key: str, problem: str, *, fix: str) -> DataError:
        """Make the error for one key."""
        place = f"{self.path}, [{self.name}]" if self.name else str(self.path)
        return DataError(f"the card's key {key!r} {problem}", where=place, fix=fix)

    def find(self, key: str, kind: type[T]) -> T | None:
        """Give a value of a type, or None where the key is missing."""
        value = self.values.get(key)
        # A bool is an int to Python, but not to a reader.
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            problem = f"is {value!r}, which is no {kind.__name__}"
            raise self.error(key, problem, fix=f"give a value of type {kind.__name__}")
        return value

    def get(self, key: str, kind: type[T]) -> T:
        """Give a value of a type."""
        value = self.find(key, kind)
        if value is None:
            raise self.error(key, "is missing", fix=FORM)
        return value

    def choice(self, key: str, choices: tuple[T, ...]) -> T:
        """Give a string that is one of the choices."""
        value = self.get(key, str)
        if value not in choices:
            fix = f"use one of {', '.join(map(str, choices))}"
            raise self.error(key, f"is {value!r}, which is unknown", fix=fix)
        return cast("T", value)

    def number(self, key: str) -> float | None:
        """Give a number, or None where the key is missing."""
        value = self.values.get(key)
        if value is None:
            return None
        if not _is_finite_number(value):
            raise self.error(key, f"is {value!r}, which is no number", fix="give a number")
        return float(value)

    def vector(self, key: str) -> tuple[float, ...]:
        """Give a list of numbers that is not empty."""
        items = self.get(key, list)
        good = all(_is_finite_number(item) for item in items)
        if not items or not good:
            raise self.error(key, f"is {items!r}", fix="give a list of numbers, one a channel")
        return tuple(float(item) for item in items)

    def file(self, key: str) -> Path:
        """Give the absolute path of an existing file, named relative to the card."""
        path = (self.path.parent / self.get(key, str)).resolve()
        if not path.is_file():
            problem = f"names {path}, which is no existing file"
            raise self.error(key, problem, fix="correct the path, or put the file there")
        return path
