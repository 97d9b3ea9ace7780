"""Checks of what a target profile says, whether it comes from TOML or from Python."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from tvm_probq.errors import TargetError
from tvm_probq.plan.plan import STORAGES
from tvm_probq.quantization.weights import WEIGHT_GROUPS

T = TypeVar("T")

DEFAULTS: dict[str, Any] = {
    "threads": 0,
    "roofline": {},
    "weight_groups": (),
    "storages": ("bytes",),
}
KNOWN = (
    "description",
    "tvm_target",
    "features",
    "instruction",
    "weight_groups",
    "weight_bits",
    "activation_bits",
    "storages",
    "threads",
    "roofline",
)


def checked_fields(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Give the fields of a `TargetProfile` but for its name.

    Parameters
    ----------
    data : mapping
        Keys as the fields; only those of `DEFAULTS` may be missing.
    where : str
        What to call the source in messages.

    Raises
    ------
    TargetError
        For a missing or an unknown key, and a value of the wrong type.
    """
    unknown = sorted(set(data) - set(KNOWN))
    if unknown:
        # A misspelt key would silently change what is compiled.
        what = f"the profile's key {unknown[0]!r} is unknown"
        raise TargetError(what, where=where, fix=f"use only {', '.join(KNOWN)}")
    data = {**DEFAULTS, **data}
    missing = [key for key in KNOWN if key not in data]
    if missing:
        raise TargetError(f"the profile's key {missing[0]!r} is missing", where=where, fix="add it")
    return {
        "description": _value(data, "description", str, where),
        "tvm_target": dict(_value(data, "tvm_target", dict, where)),
        "features": _items(data, "features", str, where),
        "instruction": _value(data, "instruction", str, where),
        "weight_groups": _some_of(data, "weight_groups", WEIGHT_GROUPS, where),
        "weight_bits": _bits(data, "weight_bits", 8, where),
        "activation_bits": _bits(data, "activation_bits", 16, where),
        "storages": _some_of(data, "storages", STORAGES, where),
        "threads": _value(data, "threads", int, where),
        "roofline": dict(_value(data, "roofline", dict, where)),
    }


def read_toml(path: Path) -> dict[str, Any]:
    """Read a profile's file.

    Raises
    ------
    TargetError
        If the file cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TargetError(
            "the target profile cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            fix="check the path",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(
            "the target profile is no valid TOML",
            where=str(path),
            why=str(error),
            fix="correct that place",
        ) from error


def _value(data: Mapping[str, Any], key: str, kind: type[T], where: str) -> T:
    value = data[key]
    # A bool is an int to Python, but not to a reader.
    if not isinstance(value, kind) or isinstance(value, bool):
        what = f"the profile's key {key!r} holds {value!r}"
        raise TargetError(what, where=where, fix=f"give a value of type {kind.__name__}")
    return value


def _items(data: Mapping[str, Any], key: str, kind: type[T], where: str) -> tuple[T, ...]:
    values = data[key]
    # Python data may hold a tuple where TOML gives a list.
    if isinstance(values, tuple):
        values = list(values)
    return tuple(
        _value({key: item}, key, kind, where) for item in _value({key: values}, key, list, where)
    )


def _bits(data: Mapping[str, Any], key: str, most: int, where: str) -> tuple[int, ...]:
    bits = _items(data, key, int, where)
    if not bits or any(not 1 <= b <= most for b in bits):
        what = f"the profile's key {key!r} holds {list(bits)}"
        raise TargetError(what, where=where, fix=f"give widths from 1 to {most}, at least one")
    return bits


def _some_of(
    data: Mapping[str, Any], key: str, known: tuple[T, ...], where: str
) -> tuple[T, ...]:  # fmt: skip
    values = _items(data, key, type(known[0]), where)
    if not set(values) <= set(known):
        what = f"the profile's key {key!r} holds {list(values)}"
        raise TargetError(what, where=where, fix=f"give some of {', '.join(map(str, known))}")
    return values
