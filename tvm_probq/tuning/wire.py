"""Layers and tiles as plain values, for the worker's pipe and the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile

_DEFAULTS = {f.name: f.default for f in fields(Tile) if f.default is not MISSING}


def spec_to_json(spec: LayerSpec) -> dict[str, Any]:
    """Give a layer as plain values."""
    return asdict(spec)


def spec_from_json(data: Mapping[str, Any]) -> LayerSpec:
    """Give the layer that `spec_to_json` wrote."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
    }
    return LayerSpec(**values)


def tile_to_json(tile: Tile) -> dict[str, Any]:
    """Give a tile as plain values, without those that are the default."""
    return {k: v for k, v in asdict(tile).items() if _DEFAULTS.get(k) != v}


def tile_from_json(data: Any) -> Tile:
    """Give the tile that `tile_to_json` wrote.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(data, Mapping) or not all(map(_is_value, data, data.values())):
        raise ValueError(f"{data!r} is no tile")
    try:
        return Tile(**data)
    except TypeError as error:
        raise ValueError(f"{data!r} is no tile: {error}") from error


def _is_value(name: str, value: Any) -> bool:
    if name == "trace":
        return isinstance(value, str)
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
