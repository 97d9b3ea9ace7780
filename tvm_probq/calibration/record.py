"""The calibration record: everything the later stages need from data, in one readable file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvm_probq.calibration.histogram import Histogram
from tvm_probq.calibration.losses import IntervalLosses
from tvm_probq.errors import CalibrationError
from tvm_probq.files import write_file
from tvm_probq.quantization.feedback import InputSpread
from tvm_probq.quantization.weights import RoundedWeights
from tvm_probq.simulator.arithmetic import Array

FORMAT = 3


@dataclass
class TensorRecord:
    """What calibration saw of one stored tensor.

    Attributes
    ----------
    histogram : Histogram
        Output values over all samples.
    extremes : Array
        float64 ``[2]``: sums over samples of the smallest and of the largest value.
    mean : Array
        float64 ``[IC]``: sum over samples of the layer's input channel means, over the sampled
        positions.
    tap_means : Array
        float64 ``[KH, KW, IC]``: sum over samples of the input's means at each tap of the layer's
        kernel, over all output positions; padding counts as 0.
    basis : Array or None
        float32 ``[IC, R]`` principal directions of the input channel means.
    correlation : float
        Correlation of the layer's output with its residual.
    losses : dict
        `IntervalLosses` of each surrogate that applies.
    spread : InputSpread or None
        Covariance of the layer's input channels; None for depthwise and grouped layers.
    factor : Array
        float64 ``[C]``: the channels are multiplied with it in all that is measured here; empty
        for a tensor as it is.  See `EqualizeChannels`.
    channels : Array
        float64 ``[4, C]`` for tensors that only depthwise layers read, else empty: the largest
        deviations below and above the channel's predicted mean, in standard deviations, and the
        channel's smallest value, negated, and largest value.
    rounded : dict
        The layer's weights as they were rounded before, by their content and the plan (not saved):
        two passes need them, and rounding with error feedback takes seconds.
    """

    histogram: Histogram = field(default_factory=Histogram)
    extremes: Array = field(default_factory=lambda: np.zeros(2))
    mean: Array = field(default_factory=lambda: np.zeros(0))
    tap_means: Array = field(default_factory=lambda: np.zeros((1, 1, 0)))
    basis: Array | None = None
    correlation: float = 0.0
    losses: dict[str, IntervalLosses] = field(default_factory=dict)
    spread: InputSpread | None = None
    factor: Array = field(default_factory=lambda: np.zeros(0))
    channels: Array = field(default_factory=lambda: np.zeros((4, 0)))
    rounded: dict[Any, RoundedWeights] = field(default_factory=dict, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "histogram": self.histogram.to_json(),
            "extremes": self.extremes.tolist(),
            "mean": self.mean.tolist(),
            "tap_means": self.tap_means.tolist(),
            "basis": None if self.basis is None else _round_floats(self.basis),
            "correlation": self.correlation,
            "spread": None if self.spread is None else self.spread.to_json(),
            "factor": self.factor.tolist(),
            "channels": self.channels.tolist(),
            "losses": {kind: losses.to_json() for kind, losses in sorted(self.losses.items())},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "TensorRecord":
        """The record `to_json` described."""
        basis = data["basis"]
        return cls(
            Histogram.from_json(data["histogram"]),
            np.asarray(data["extremes"]),
            np.asarray(data["mean"]),
            np.asarray(data["tap_means"], np.float64).reshape(np.shape(data["tap_means"])),
            None if basis is None else np.asarray(basis, np.float32),
            float(data["correlation"]),
            {kind: IntervalLosses.from_json(losses) for kind, losses in data["losses"].items()},
            None if data["spread"] is None else InputSpread.from_json(data["spread"]),
            np.asarray(data["factor"], np.float64),
            np.asarray(data["channels"], np.float64).reshape(4, -1),
        )


@dataclass
class CalibrationRecord:
    """Calibration of one model on one data set.

    Attributes
    ----------
    model_hash, data_hash : str
        SHA-256 of the ONNX file and of the calibration inputs' description.
    samples : int
        Samples already added.
    warm_up : int
        Samples that bases and correlations were fitted on, 0 before that.
    tensors : dict
        `TensorRecord` by layer name.
    equalize : bool
        Whether channels are given factors; see `EqualizeChannels`.
    """

    model_hash: str
    data_hash: str
    samples: int = 0
    warm_up: int = 0
    tensors: dict[str, TensorRecord] = field(default_factory=dict)
    equalize: bool = True

    def tensor(self, name: str) -> TensorRecord:
        """The record of the tensor `name`.

        Raises
        ------
        CalibrationError
            When the record does not know it.
        """
        if name not in self.tensors:
            raise CalibrationError(
                f"the calibration record has no tensor {name!r}",
                why="it was made for another model or another version",
                fix="calibrate this model again",
            )
        return self.tensors[name]

    def restart(self) -> None:
        """Forget every sample."""
        self.samples, self.warm_up, self.tensors = 0, 0, {}

    def save(self, path: Path) -> None:
        """Write as JSON, all or nothing."""
        data = {
            "format": FORMAT, "model_hash": self.model_hash, "data_hash": self.data_hash,
            "samples": self.samples, "warm_up": self.warm_up, "equalize": self.equalize,
            "tensors": {name: t.to_json() for name, t in self.tensors.items()},
        }  # fmt: skip
        text = json.dumps(data).encode()
        write_file(path, text, what="the calibration record", kind=CalibrationError)

    @classmethod
    def load(cls, path: Path) -> "CalibrationRecord":
        """Read what `save` wrote.

        Raises
        ------
        CalibrationError
            When the file is missing, truncated, edited into nonsense or of another format.
        """
        try:
            return cls.from_text(path.read_text())
        except OSError as error:
            raise CalibrationError(
                "the calibration record cannot be read", where=str(path),
                why=error.strerror or str(error), fix="make one with `tvm-probq calibrate`",
            ) from error  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CalibrationError(
                "the calibration record is damaged", where=str(path),
                why=f"{type(error).__name__}: {error}", fix="delete it and calibrate again",
            ) from error  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> "CalibrationRecord":
        """Parse the JSON text of a record."""
        data = json.loads(text)
        if data.get("format") != FORMAT:
            raise ValueError(f"format {data.get('format')}, this version reads format {FORMAT}")
        tensors = {name: TensorRecord.from_json(t) for name, t in data["tensors"].items()}
        return cls(
            str(data["model_hash"]), str(data["data_hash"]), int(data["samples"]),
            int(data["warm_up"]), tensors, bool(data["equalize"]),
        )  # fmt: skip


def _round_floats(values: Array) -> Any:
    """float32 values in the shortest text that reads back the same."""
    return [[float(str(v)) for v in row] for row in values]
