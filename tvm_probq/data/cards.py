"""Model cards: TOML files that name a model, its data sets and its preprocessing."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tvm_probq.data.card_table import Table
from tvm_probq.errors import DataError

Task = Literal["classification", "detection", "language-model"]
TASKS: tuple[Task, ...] = ("classification", "detection", "language-model")
SCALE_FORM = (
    "give mean with std: (pixel / 255 - mean) / std, or with factor: (pixel - mean) * factor"
)
PREPROCESS_KEYS = ("resize", "channels", "mean", "std", "factor", "layout")


@dataclass(frozen=True)
class Preprocess:
    """How a uint8 RGB NHWC image becomes the model's float32 NCHW input.

    Attributes
    ----------
    mean : tuple of float
        One value a channel, in units of the scaled pixel (see `std` and `factor`).
    std : tuple of float or None
        ``(pixel / 255 - mean) / std``. Exactly one of `std` and `factor` is given.
    factor : tuple of float or None
        ``(pixel - mean) * factor``, on pixel values 0 to 255.
    resize : int or None
        Side of the square that images are resized to (bilinear), in pixels.
    channels : {"RGB", "BGR"}
        The order the model wants.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...] | None = None
    factor: tuple[float, ...] | None = None
    resize: int | None = None
    channels: Literal["RGB", "BGR"] = "RGB"


@dataclass(frozen=True)
class Card:
    """What a card says, with absolute paths of existing files.

    Attributes
    ----------
    path : Path
        The card itself.
    task : {"classification", "detection", "language-model"}
        What the model does; it decides the metric.
    model, calibration, evaluation : Path
        ONNX model and the two npz data sets.
    preprocess : Preprocess or None
        None for a language model, which takes token ids as they are.
    metric : str
        Name of the reference metric, empty where the card has none.
    float_value : float or None
        The float model's metric on the evaluation set, where the card has it.
    postprocess : str
        Name of the decoder of a detection model's outputs, else empty.
    """

    path: Path
    task: Task
    model: Path
    calibration: Path
    evaluation: Path
    preprocess: Preprocess | None = None
    metric: str = ""
    float_value: float | None = None
    postprocess: str = ""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem


def load_card(path: str | Path) -> Card:
    """Read and check a card.

    Parameters
    ----------
    path : str or Path
        A TOML file; the paths in it are relative to its folder.

    Returns
    -------
    Card
        With every file it names checked to exist.

    Raises
    ------
    DataError
        If the file is missing, is no TOML, lacks a key, has a value of a wrong type or an
        unknown one, or names a file that does not exist.
    """
    path = Path(path)
    table = Table(path, "", _parse(path))
    task = table.choice("task", TASKS)
    preprocess = None
    if task != "language-model":
        preprocess = _load_preprocess(Table(path, "preprocess", table.get("preprocess", dict)))
    reference = Table(path, "float_reference", table.find("float_reference", dict) or {})
    return Card(
        path=path.resolve(),
        task=task,
        model=table.file("model"),
        calibration=table.file("calibration"),
        evaluation=table.file("evaluation"),
        preprocess=preprocess,
        metric=reference.find("metric", str) or "",
        float_value=reference.number("evaluation"),
        postprocess=table.find("postprocess", str) or "",
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fix = "check the card's path"
        raise DataError(
            "the card cannot be read", where=str(path), why=str(error), fix=fix
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            "the card is no valid TOML", where=str(path), why=str(error), fix="correct that place"
        ) from error


def _load_preprocess(table: Table) -> Preprocess:
    unknown = sorted(set(table.values) - set(PREPROCESS_KEYS))
    if unknown:
        # A misspelt key would silently change every result.
        known = ", ".join(PREPROCESS_KEYS)
        raise table.error(unknown[0], "is unknown", fix=f"use only {known}")
    if "layout" in table.values:
        table.choice("layout", ("NCHW",))
    mean = table.vector("mean")
    std, factor = (table.vector(key) if key in table.values else None for key in ("std", "factor"))
    if (std is None) == (factor is None):
        raise table.error("std", "or factor must be given, and only one of them", fix=SCALE_FORM)
    scale = std or factor or ()
    if len(scale) != len(mean) or 0.0 in scale:
        key = "std" if std else "factor"
        raise table.error(
            key, f"must have {len(mean)} values like mean, none of them 0", fix=SCALE_FORM
        )
    resize = table.find("resize", int)
    if resize is not None and resize < 1:
        raise table.error("resize", f"is {resize}", fix="give the side in pixels, at least 1")
    channels: Literal["RGB", "BGR"] = "RGB"
    if "channels" in table.values:
        channels = table.choice("channels", ("RGB", "BGR"))
    return Preprocess(mean, std, factor, resize, channels)
