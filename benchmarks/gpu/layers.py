"""Times of each layer's kernel alone, and of a library's product in its place."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tvm

from gpu.meter import Call, Meter
from tvm_probq.kernels.cuda.tiles import default_tile
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.passes.lower_layers import Tiles
from tvm_probq.tuning.candidate import Candidates, differing
from tvm_probq.tuning.tasks import Task

FEWEST_ROWS, MULTIPLE = 17, 8  # that `torch._int_mm` takes
Product = tuple[int, int, int]
Peer = Callable[[Product], float]


@dataclass(frozen=True)
class LayerTime:
    """What was measured of one layer.

    Attributes
    ----------
    task : Task
        The layer, and how often it occurs.
    instruction : str
        That its kernel was made for.
    us : float
        Of a call.
    peer_us : float, optional
        Of the product of matrices by a library, where the layer is one.
    """

    task: Task
    instruction: str
    us: float
    peer_us: float | None


def layer_times(
    tasks: Sequence[Task], target: tvm.target.Target, tiles: Tiles, meter: Meter,
    peer: Peer | None = None,
) -> list[LayerTime]:  # fmt: skip
    """Time each layer's kernel, after its output was found equal to the simulator's.

    Parameters
    ----------
    tasks : sequence of Task
        The layers.
    target : tvm.target.Target
        The device.
    tiles : Tiles
        Of their kernels, such as a tuning database.
    meter : Meter
        What times them.
    peer : callable, optional
        Gives a library's time, in microseconds, by `product_of`.

    Raises
    ------
    SystemExit
        If an output differs.
    """
    used = [tiles.get(task.spec) or default_tile(task.spec) for task in tasks]
    kernels = [layer_kernel(t.spec, target, tile) for t, tile in zip(tasks, used, strict=True)]
    library = meter.built({f"layer_{i}": kernel.func for i, kernel in enumerate(kernels)})
    found = []
    for number, (task, kernel) in enumerate(zip(tasks, kernels, strict=True)):
        candidates = Candidates(task.spec, target)
        tensors = [meter.tensor(a) for a in candidates.arguments(used[number]).values()]
        call: Call = functools.partial(library[f"layer_{number}"], *tensors)
        call()
        why = differing(tensors[-1].numpy(), candidates.wanted)
        if why:
            raise SystemExit(f"error: {task.key}: {why}")
        shape = product_of(task.spec)
        peer_us = peer(shape) if peer is not None and shape is not None else None
        found.append(LayerTime(task, kernel.instruction, meter.us(call), peer_us))
    return found


def product_of(spec: LayerSpec) -> Product | None:
    """Rows, sums and columns of a layer that is one product of matrices of bytes as it stands.

    None where a library would have to gather inputs first, or takes no such sizes.
    """
    moved = (*spec.pads, spec.strides[0] - 1, spec.strides[1] - 1)
    if spec.kernel != (1, 1) or spec.groups != 1 or any(moved) or spec.in_bits != 8:
        return None
    rows = spec.batch * spec.out_height * spec.out_width
    sizes = rows, spec.in_channels, spec.out_channels
    takes = rows >= FEWEST_ROWS and not (sizes[1] % MULTIPLE or sizes[2] % MULTIPLE)
    return sizes if takes else None
