"""What to tune: the distinct layers of a model, and how often each occurs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tvm_probq.kernels.spec import LayerSpec
from tvm_probq.tuning.key import layer_key


@dataclass(frozen=True)
class Task:
    """One layer to tune.

    Attributes
    ----------
    key : str
        From `layer_key`.
    spec : LayerSpec
        The first layer of this key.
    count : int
        How many layers of the model have it.
    """

    key: str
    spec: LayerSpec
    count: int


def tasks_of(specs: Iterable[LayerSpec]) -> list[Task]:
    """Give the distinct layers, in the order in which they come."""
    found: dict[str, list[LayerSpec]] = {}
    for spec in specs:
        found.setdefault(layer_key(spec), []).append(spec)
    return [Task(key, same[0], len(same)) for key, same in found.items()]
