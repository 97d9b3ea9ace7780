"""Building candidates: the kernel of a tile, the gates that need no machine, and its arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm
from tvm.ir.transform import PassContext

from tvm_probq.errors import KernelError
from tvm_probq.kernels.arguments import argument_shapes
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.layer import layer_kernel, pack_weights, packed_shape
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.example import Array, expected, in_memory, random_arguments

WORKSPACE_LIMIT = 32 * 1024
GARBAGE = 77
WEIGHTS, OUTPUT = "W", "OUT"


@dataclass(frozen=True)
class Candidate:
    """A kernel that is not yet proven to be right.

    Attributes
    ----------
    library : tvm.runtime.Module
        With ``main``.
    arguments : dict of str to ndarray
        In the order in which ``main`` takes them, the output last.
    workspace_bytes, scratch_bytes, instructions : int
        Of the kernel.
    """

    library: Any
    arguments: dict[str, Array]
    workspace_bytes: int
    scratch_bytes: int
    instructions: int

    @property
    def facts(self) -> dict[str, int]:
        """The counts, by name."""
        names = ("workspace_bytes", "scratch_bytes", "instructions")
        return {name: getattr(self, name) for name in names}


class Candidates:
    """The kernels of one layer.

    Parameters
    ----------
    spec : LayerSpec
        The layer.
    target : tvm.target.Target
        What its kernels are built for.
    seed : int
        Of the layer's random input.

    Attributes
    ----------
    wanted : ndarray
        The output, by the simulator.
    """

    def __init__(self, spec: LayerSpec, target: tvm.target.Target, seed: int = 0) -> None:
        self._spec, self._target = spec, target
        self._values = random_arguments(spec, seed)
        self.wanted = expected(spec, self._values)

    def build(self, tile: Tile) -> Candidate:
        """Build a tile's kernel.

        Raises
        ------
        KernelError
            When a gate refuses it: the instruction is missing or the workspace is too large.
        """
        kernel = layer_kernel(self._spec, self._target, tile)
        if kernel.workspace_bytes > WORKSPACE_LIMIT:
            raise self.refused(f"its workspace is {kernel.workspace_bytes} bytes", tile)
        # As in the build of a network: the kernels do not check their arguments.
        with PassContext(config={"tirx.disable_assert": True}):
            func = kernel.func.with_attr("global_symbol", "main")
            library = tvm.tirx.build(func, target=self._target)
        count = count_instruction(library, kernel.instruction) if kernel.instruction else 0
        if kernel.instruction and not count:
            raise self.refused(f"its assembly has no {kernel.instruction}", tile)
        sizes = kernel.workspace_bytes, kernel.scratch_bytes
        return Candidate(library, self.arguments(tile), *sizes, count)

    def refused(self, why: str, tile: Tile) -> KernelError:
        """Make the error for a gate."""
        return KernelError("a kernel is refused", where=f"{self._spec}, {tile}", why=why)

    def arguments(self, tile: Tile) -> dict[str, Array]:
        """Give the arguments of a tile's kernel, in its order, the output last."""
        packed = pack_weights(self._spec, self._values["weights"], self._target, tile)
        bits = {"X": self._spec.in_bits, "R": self._spec.residual_bits}
        stored = {name: in_memory(self._values[name], bits[name]) for name in bits}
        values = self._values | stored | {WEIGHTS: packed}
        shapes = argument_shapes(self._spec, packed_shape(self._spec, self._target, tile))
        return {
            name: np.full(shape, GARBAGE, dtype) if name == OUTPUT else values[name].reshape(shape)
            for name, shape, dtype in shapes
        }


def differing(found: Array, wanted: Array) -> str:
    """Say why an output is not the simulator's; empty if it is, bit for bit."""
    wrong = int((_bits(found.reshape(wanted.shape)) != _bits(wanted)).sum())
    return f"{wrong} of its values differ from the simulator's" if wrong else ""


def _bits(values: Array) -> Array:
    return values.view(np.int32) if values.dtype == np.float32 else values
