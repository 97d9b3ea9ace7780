"""What a peer is made from, and what it gives."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.bench.cache import Cache
from tvm_probq.bench.machine import versions

if TYPE_CHECKING:
    from tvm_probq.frontend.onnx import Model

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Job:
    """The float model and how it is to be run.

    Attributes
    ----------
    model : Model
        Imported from the ONNX file, with the batch that is timed.
    x : ndarray
        What is run, of the shape of the model's only input.
    samples : sequence of ndarray
        Calibration inputs ``[1, ...]``.
    samples_key : str
        What decides their values; equal keys mean equal samples.
    threads : int
        For work within an operator; operators run one after the other.
    cache : Cache
        Where prepared models are kept.
    trials : int
        Budget of tuning for the peers that can be tuned; 0 for none.
    say : callable
        Takes a line about what is being done.
    """

    model: Model
    x: Array
    samples: Sequence[Array]
    samples_key: str
    threads: int
    cache: Cache
    trials: int = 0
    say: Callable[[str], None] = field(default=lambda _text: None)

    @property
    def onnx(self) -> Path:
        """The float ONNX file."""
        return Path(self.model.source)

    def key(self, *packages: str, **more: object) -> dict[str, object]:
        """Give a cache key: the model, versions of packages and whatever else decides."""
        return {"model": self.model.sha256, **versions(*packages), **more}

    def calibrated_key(self, *packages: str, **more: object) -> dict[str, object]:
        """Give the cache key of what depends on the calibration samples too."""
        count = len(self.samples)
        return self.key(*packages, samples=self.samples_key, count=count, **more)


@dataclass(frozen=True)
class Contestant:
    """A peer, ready to be timed.

    Attributes
    ----------
    call : callable
        One run, on tensors that are the runtime's already.
    details : dict
        What to say of it in the result, such as its schedule.
    """

    call: Callable[[], object]
    details: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide a library's advice and progress; its errors are exceptions."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)
