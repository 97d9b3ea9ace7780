"""Take results of a batch over into a tuning database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvm_probq.errors import TuningError
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.batch.measure import FORMAT
from tvm_probq.tuning.database import Database, Entry
from tvm_probq.tuning.measure import Measured, compared
from tvm_probq.tuning.search import BETTER_RATIO, GATES, LEAST_WINS, MOST_RATIO
from tvm_probq.tuning.wire import tile_from_json

FIX = "give the file that `measure.py` of a batch wrote for this target"


@dataclass(frozen=True)
class LayerResult:
    """What was measured of a layer.

    Attributes
    ----------
    default : Measured
        Of the default tile; of the confirming rounds, if there were any.
    trials : dict of Tile to (float or None)
        Each candidate's time over the default's, None for one that failed.
    best : Tile or None
        The best one, measured once more.
    again : Measured
        What came of that.
    """

    default: Measured
    trials: dict[Tile, float | None]
    best: Tile | None
    again: Measured


@dataclass(frozen=True)
class Results:
    """Results of a batch.

    Attributes
    ----------
    target, machine, date : str
        Name of the profile, of the GPU, and when.
    layers : dict of str to LayerResult
        By key.
    failures : dict of str to str
        By key of a layer that could not be measured, why.
    """

    target: str
    machine: str
    date: str
    layers: dict[str, LayerResult]
    failures: dict[str, str]


def read_results(path: Path, target: str) -> Results:
    """Read what `measure.py` of a batch wrote.

    Parameters
    ----------
    path : Path
        The file.
    target : str
        Name of the profile that they must be for.

    Raises
    ------
    TuningError
        If it is missing, damaged, something else, of another version or of another target.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unfit(path, "cannot be read", error.strerror or str(error)) from error
    except ValueError as error:
        raise _unfit(path, "are damaged", f"the file is no JSON ({error})") from error
    if not isinstance(data, dict) or not {"format", "target", "machine", "layers"} <= set(data):
        raise _unfit(path, "are something else", "the file holds no results of a batch")
    if data["format"] != FORMAT:
        why = f"they have format {data['format']}, this version reads {FORMAT}"
        raise _unfit(path, "are of another version", why)
    if data["target"] != target:
        why = f"they are for {data['target']}, not for {target}"
        raise _unfit(path, "are of another target", why)
    try:
        layers = dict(data["layers"])
        failures = {key: str(v["failure"]) for key, v in layers.items() if "failure" in v}
        found = {key: _layer(v) for key, v in layers.items() if key not in failures}
        return Results(target, str(data["machine"]), str(data["date"]), found, failures)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _unfit(path, "are damaged", f"a layer is incomplete ({error!r})") from error


def take_over(database: Database, results: Results) -> None:
    """Change a database by results: decisions are those of the search.

    A tile is taken only if it is measurably faster than the default, and than the tile so far.
    """
    for key, layer in results.layers.items():
        known = database.entries.get(key)
        trials = {} if known is None else dict(known.trials)
        trials |= layer.trials
        tile, mine = _chosen(layer, known)
        times = (mine.time_us, layer.default.time_us)
        if known is not None and tile == known.tile and tile != layer.best:
            times = known.tuned_us, known.default_us
        database.entries[key] = Entry(
            tile, *times, GATES, results.machine, results.date, 1, len(trials), trials
        )


def _chosen(layer: LayerResult, known: Entry | None) -> tuple[Tile | None, Measured]:
    so_far = None if known is None else known.tile
    ratio = layer.again.ratio
    if layer.best is None or ratio is None or ratio > MOST_RATIO or layer.again.wins < LEAST_WINS:
        return so_far, layer.default
    if known is not None and so_far is not None and ratio > BETTER_RATIO * known.ratio:
        return so_far, layer.default
    return layer.best, layer.again


def _layer(data: Mapping[str, Any]) -> LayerResult:
    (first, default), *others = [
        (tile_from_json(found["tile"]), _times(found["times_ns"]) if "times_ns" in found else None)
        for found in data["tiles"]
    ]
    if default is None:
        raise ValueError(f"the default tile {first} was not timed")
    trials: dict[Tile, float | None] = {tile_from_json(tile): None for tile in data["refused"]}
    trials |= {t: None if ns is None else compared(ns, default).ratio for t, ns in others}
    again = data.get("again")
    if again is None:
        return LayerResult(compared(default, default), trials, None, Measured())
    best, rival = tile_from_json(again["tile"]), _times(again["default_ns"])
    if best not in trials:
        raise ValueError(f"the best tile {best} is no candidate")
    found = compared(_times(again["times_ns"]), rival)
    trials[best] = found.ratio
    return LayerResult(compared(rival, rival), trials, best, found)


def _times(values: Any) -> list[int]:
    if not values or not all(isinstance(v, int) and v > 0 for v in values):
        raise ValueError(f"{values!r} are no times")
    return list(values)


def _unfit(path: Path, what: str, why: str) -> TuningError:
    return TuningError(f"the results of a batch {what}", where=str(path), why=why, fix=FIX)
