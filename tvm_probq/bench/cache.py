"""A folder of prepared peer models and tuning results, so that a second run is quick."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tvm_probq.errors import UsageError

KEY_DIGITS = 16


class Cache:
    """Folders by kind and key; each is there whole or not at all.

    Parameters
    ----------
    folder : Path
        Made where it is missing.

    Raises
    ------
    UsageError
        If it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                "the cache folder cannot be made",
                where=str(folder),
                why=error.strerror or str(error),
                fix="choose a writable place with --cache",
            ) from error

    def path(self, kind: str, key: Mapping[str, object]) -> Path:
        """Where what `kind` and `key` describe is or will be."""
        text = json.dumps(key, sort_keys=True, default=str)
        return self.folder / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]}"

    def get(self, kind: str, key: Mapping[str, object], make: Callable[[Path], None]) -> Path:
        """Give the folder of `kind` and `key`, made by ``make(folder)`` the first time.

        Parameters
        ----------
        kind : str
            Such as ``ort-int8``; readable in the folder's name.
        key : mapping
            All that decides the content: hashes, numbers, versions.
        make : callable
            Fills an empty folder, which becomes the result once it returns.
        """
        path = self.path(kind, key)
        if path.is_dir():
            return path
        fresh = Path(tempfile.mkdtemp(dir=self.folder, prefix=f".{kind}-"))
        try:
            make(fresh)
            (fresh / "key.json").write_text(
                json.dumps(key, indent=1, sort_keys=True, default=str) + "\n", encoding="utf-8"
            )
            fresh.replace(path)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return path
