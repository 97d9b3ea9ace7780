"""The tuning database: readable JSON, one line a layer, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from tvm_probq.errors import TuningError
from tvm_probq.files import check_writable, write_file
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.key import keys_like, layer_key
from tvm_probq.tuning.wire import tile_from_json, tile_to_json

FORMAT = 1
WHAT = "the tuning database"
SHIPPED = "tvm_probq.targets"
DAMAGED = "delete it and tune again, or give a copy"


@dataclass(frozen=True)
class Entry:
    """What is known of a layer.

    Attributes
    ----------
    tile : Tile or None
        The tile to use; None to keep the default, because nothing was measurably faster.
    tuned_us, default_us : float
        Median times of the tile and of the default one, from the same rounds. Equal without a
        tile.
    gates : tuple of str
        What the tile's kernel was checked for.
    machine, date : str
        Where and when.
    threads : int
        Threads of a kernel.
    tried : int
        Number of candidates measured.
    trials : dict of Tile to (float or None)
        Each candidate's time over the default's, None where a gate refused it; in the order in
        which they were measured. Empty in a database that is only used.
    """

    tile: Tile | None
    tuned_us: float
    default_us: float
    gates: tuple[str, ...]
    machine: str
    date: str
    threads: int
    tried: int
    trials: dict[Tile, float | None] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """Time of the tile over that of the default one."""
        return self.tuned_us / self.default_us

    def to_json(self) -> dict[str, Any]:
        """Give plain values."""
        return {
            "tile": None if self.tile is None else tile_to_json(self.tile),
            "tuned_us": round(self.tuned_us, 3),
            "default_us": round(self.default_us, 3),
            "gates": list(self.gates),
            "machine": self.machine,
            "date": self.date,
            "threads": self.threads,
            "tried": self.tried,
            "trials": [
                [tile_to_json(tile), None if ratio is None else round(ratio, 4)]
                for tile, ratio in self.trials.items()
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        """Give the entry that `to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        tile = data["tile"]
        times = float(data["tuned_us"]), float(data["default_us"])
        if not all(0 < t < float("inf") for t in times):
            raise ValueError(f"a time is {min(times)}")
        return cls(
            None if tile is None else tile_from_json(tile), *times, tuple(map(str, data["gates"])),
            str(data["machine"]), str(data["date"]), int(data["threads"]), int(data["tried"]),
            {tile_from_json(t): None if r is None else float(r) for t, r in data["trials"]},
        )  # fmt: skip


class Database:
    """Entries of one target, by the keys of `layer_key`.

    Parameters
    ----------
    target : str
        Name of the target profile.
    entries : mapping of str to Entry, optional
        By key.
    name : str, optional
        What to call it in a manifest.
    """

    def __init__(
        self, target: str, entries: Mapping[str, Entry] | None = None, name: str = ""
    ) -> None:
        self.target = target
        self.entries = dict(entries or {})
        self.name = name

    def get(self, spec: LayerSpec) -> Tile | None:
        """Give the tile of a layer, or else of the same one of 8 bits; None for the default one."""
        entry = self.entries.get(layer_key(spec))
        if entry is not None:
            return entry.tile
        like = (self.entries[key].tile for key in keys_like(spec) if key in self.entries)
        return next((tile for tile in like if tile is not None and not tile.trace), None)

    @property
    def identity(self) -> str:
        """Name and the beginning of the SHA-256 of what decides tiles."""
        tiles = {key: self.entries[key].to_json()["tile"] for key in sorted(self.entries)}
        digest = hashlib.sha256(json.dumps([self.target, tiles], sort_keys=True).encode())
        return f"{self.name} {digest.hexdigest()[:16]}".strip()

    def merge(self, other: Database) -> None:
        """Take over the entries of another database; of two, that which tried more candidates.

        Trials of both are kept, so that none is measured again.

        Raises
        ------
        TuningError
            If it is of another target.
        """
        _same_target(other, self.target, other.name)
        for key, theirs in other.entries.items():
            mine = self.entries.get(key)
            if mine is None:
                self.entries[key] = theirs
                continue
            best = theirs if theirs.tried > mine.tried else mine
            self.entries[key] = replace(best, trials={**mine.trials, **theirs.trials})

    def without_trials(self) -> Database:
        """Give a database that is only to be used."""
        slim = {key: replace(entry, trials={}) for key, entry in self.entries.items()}
        return Database(self.target, slim, self.name)

    def to_text(self) -> str:
        """Give JSON with one line a layer, the same for equal databases."""
        lines = [
            f"  {json.dumps(key)}: {json.dumps(self.entries[key].to_json())}"
            for key in sorted(self.entries)
        ]
        head = f'{{\n "format": {FORMAT},\n "target": {json.dumps(self.target)},\n "layers": {{'
        return head + ("\n" + ",\n".join(lines) + "\n }\n}\n" if lines else "}\n}\n")

    def save(self, path: Path) -> None:
        """Write the file, all or nothing.

        Raises
        ------
        TuningError
            If it cannot be written.
        """
        write_file(path, self.to_text().encode(), what=WHAT, kind=TuningError)


def read_database(path: Path, target: str = "") -> Database:
    """Read a database.

    Parameters
    ----------
    path : Path
        What `Database.save` wrote.
    target : str, optional
        The name it must have.

    Raises
    ------
    TuningError
        If it is missing, damaged, of another format or of another target.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise TuningError(
            "the tuning database cannot be read",
            where=str(path),
            why=error.strerror or str(error),
            fix="check the path, or make one with `tvm-probq tune`",
        ) from error
    except UnicodeDecodeError as error:
        raise _damaged(str(path), "it is no text") from error
    return _checked(parse_database(text, str(path), path.name), target, str(path))


def open_database(path: Path, target: str) -> Database:
    """Read a database to continue, or begin one where there is none yet.

    Raises
    ------
    TuningError
        As for `read_database`, or if it could not be written.
    """
    check_writable(path, what=WHAT, kind=TuningError)
    return read_database(path, target) if path.is_file() else Database(target, name=path.name)


def shipped_database(target: str) -> Database:
    """Give the database that comes with the package for a target; empty where there is none."""
    place = resources.files(SHIPPED) / "tuned" / f"{target}.json"
    if "/" in target or not place.is_file():
        return Database(target)
    name = f"shipped {target}"
    return _checked(parse_database(place.read_text(encoding="utf-8"), name, name), target, name)


def parse_database(text: str, where: str, name: str) -> Database:
    """Read the text of a database.

    Raises
    ------
    TuningError
        If it is damaged or of another format.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise _damaged(where, f"it is no JSON ({error})") from error
    if not isinstance(data, dict):
        raise _damaged(where, "it holds no table")
    if data.get("format") != FORMAT:
        raise TuningError(
            f"the tuning database has format {data.get('format')}, this version reads {FORMAT}",
            where=where,
            why="another version of tvm_probq wrote it, or it is something else",
            fix="tune again with this version, to another file",
        )
    try:
        layers = {str(key): Entry.from_json(value) for key, value in data["layers"].items()}
        return Database(str(data["target"]), layers, name)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(where, f"an entry is incomplete ({error})") from error


def _checked(database: Database, target: str, where: str) -> Database:
    if target:
        _same_target(database, target, where)
    return database


def _same_target(database: Database, target: str, where: str) -> None:
    if database.target != target:
        raise TuningError(
            f"the tuning database is of the target {database.target}, not {target}",
            where=where,
            why="a tile that is fast on one instruction set may be slow, or impossible, on another",
            fix="give a database of this target, or another --target",
        )


def _damaged(where: str, why: str) -> TuningError:
    return TuningError("the tuning database is damaged", where=where, why=why, fix=DAMAGED)
