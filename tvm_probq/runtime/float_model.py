"""The float model itself, run in NumPy: the reference that quantized models are held against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.frontend.shapes import counted_samples
from tvm_probq.runtime.batching import Arrays, by_name, check_exact, check_forms, run_batches
from tvm_probq.simulator.interpreter import Simulator

if TYPE_CHECKING:
    from tvm_probq.frontend.onnx import Model


class FloatModel:
    """An imported ONNX model in float32, with the interface of `Runner`.

    Parameters
    ----------
    model : Model
        From ``load_model``; its batch is the number of samples a step takes.
    """

    def __init__(self, model: Model) -> None:
        self.inputs = model.inputs
        self.outputs = model.outputs
        counted = counted_samples((*model.inputs, *model.outputs))
        self.counts = counted is not None
        self.batch = counted or 1
        self.path = model.source
        self._simulate = Simulator(model.mod)

    def run(self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> list[NDArray[Any]]:
        """Run any number of samples; see `Runner.run`."""
        arrays = by_name(inputs, self.inputs)
        if not self.counts:
            check_exact(arrays, self.inputs, where=str(self.path))
            return self._call(arrays)
        count = check_forms(arrays, self.inputs, where=str(self.path))
        return run_batches(self._call, arrays, count, self.batch)

    def _call(self, arrays: Arrays) -> list[NDArray[Any]]:
        result = self._simulate(*(arrays[name] for name, _, _ in self.inputs))
        outputs = result if isinstance(result, tuple | list) else [result]
        return [np.asarray(output) for output in outputs]
