"""Results as strict JSON, which has neither NaN nor infinity."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvm_probq.errors import UsageError
from tvm_probq.files import write_file


def json_text(result: Mapping[str, Any]) -> str:
    """Give a result as indented JSON; a number that is not finite becomes null."""
    return json.dumps(_plain(result), indent=2, allow_nan=False) + "\n"


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result, all or nothing.

    Raises
    ------
    UsageError
        If the file cannot be written.
    """
    write_file(path, json_text(result).encode(), what="the JSON result", kind=UsageError)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
