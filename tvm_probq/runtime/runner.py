"""Run a compiled artefact."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from tvm_probq.build.artefact import LIBRARY, Artefact
from tvm_probq.build.manifest import TensorForm
from tvm_probq.closing import Closing
from tvm_probq.errors import ArtefactError
from tvm_probq.frontend.shapes import counted_samples
from tvm_probq.runtime.batching import Arrays, by_name, check_exact, check_forms, run_batches
from tvm_probq.runtime.cuda import explained, is_for_cuda, open_device


class ArtefactRunner(Closing):
    """A loaded artefact, here or on a board.

    Attributes
    ----------
    inputs, outputs : tuple of (name, shape, dtype)
        As in the manifest.
    batch : int
        Samples of one call.
    counts : bool
        Whether inputs and outputs count the same samples first.
    path : Path
        Of the artefact.
    """

    def __init__(self, artefact: Artefact) -> None:
        self.inputs: tuple[TensorForm, ...] = artefact.manifest.inputs
        self.outputs: tuple[TensorForm, ...] = artefact.manifest.outputs
        self.batch = artefact.manifest.batch
        self.counts = counted_samples((*self.inputs, *self.outputs)) is not None
        self.path = artefact.path

    @abstractmethod
    def close(self) -> None:
        """Let go of the library and its memory; the runner cannot be used any more."""

    @abstractmethod
    def call(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Run exactly one batch of checked arrays."""

    def run(self, inputs: Mapping[str, NDArray[Any]] | NDArray[Any]) -> list[NDArray[Any]]:
        """Run any number of samples.

        Parameters
        ----------
        inputs : ndarray or mapping of str to ndarray
            The only input, or every input by name; each of shape ``[N, ...]`` and the element
            type of `inputs`. More samples than the batch are split, a last batch that is too
            small is filled up, and what was filled up is cut from the result. A model whose inputs
            and outputs do not count the same samples first takes arrays of its own shapes.

        Returns
        -------
        list of ndarray
            In the order of `outputs`, each with N samples.

        Raises
        ------
        DataError
            If a name, a shape or an element type is wrong; says what is expected and given.
        """
        arrays = by_name(inputs, self.inputs)
        if not self.counts:
            check_exact(arrays, self.inputs, where=str(self.path))
            return self.call(arrays)
        count = check_forms(arrays, self.inputs, where=str(self.path))
        return run_batches(self.call, arrays, count, self.batch)


class Runner(ArtefactRunner):
    """An artefact loaded on this machine.

    Parameters
    ----------
    artefact : Artefact
        From `load_artefact`.

    Raises
    ------
    ArtefactError
        If the library cannot be loaded.
    EnvironmentProblem
        If it needs a CUDA device, and none can be used.

    Examples
    --------
    >>> with Runner(load_artefact(Path("model.probq"))) as model:  # doctest: +SKIP
    ...     (logits,) = model.run(images)
    """

    def __init__(self, artefact: Artefact) -> None:
        super().__init__(artefact)
        self._device: Any = open_device(artefact) if is_for_cuda(artefact) else tvm.cpu()
        with explained(self.path):
            machine = load_library(artefact.library, artefact.path, self._device)
        self._function: Any = machine["main"]

    def close(self) -> None:
        """Let go of the library and its memory; the runner cannot be used any more."""
        self._function = None

    def call(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Run exactly one batch of checked arrays."""
        return self.invoke(self.prepare(arrays))

    def prepare(self, arrays: Arrays) -> list[tvm.runtime.Tensor]:
        """Copy one batch of checked arrays to where the compiled code reads it."""
        with explained(self.path):
            return [tvm.runtime.tensor(arrays[n], device=self._device) for n, _, _ in self.inputs]

    def invoke(self, tensors: Sequence[tvm.runtime.Tensor]) -> list[NDArray[Any]]:
        """Run what `prepare` gave; what latency measurements time."""
        if self._function is None:
            raise ValueError("this Runner was closed")
        with explained(self.path):
            result = self._function(*tensors)
            outputs = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
            return [np.asarray(output.numpy()) for output in outputs]


def load_library(library: bytes, source: Path, device: Any = None) -> relax.VirtualMachine:
    """Load a shared library from memory into a virtual machine, on the CPU by default.

    Raises
    ------
    ArtefactError
        If there is no place for it, or the system refuses to load it.
    """
    try:
        # A mapped library needs its file's name no longer, so that nothing is left behind.
        with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
            path = Path(folder, LIBRARY)
            path.write_bytes(library)
            return relax.VirtualMachine(tvm.runtime.load_module(str(path)), device or tvm.cpu())
    except (OSError, RuntimeError, ValueError, AttributeError) as error:
        raise ArtefactError(
            "the artefact's library cannot be loaded",
            where=str(source),
            why=" ".join(str(error).split()),
            fix="check that the temporary folder (TMPDIR) has free space and may hold programs",
        ) from error
