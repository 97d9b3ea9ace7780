"""Where tensors lie in one piece of memory."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from tvm_probq.simulator.arithmetic import Array

ALIGNMENT = 64  # bytes: what the code generator assumes of every tensor


@dataclass(frozen=True)
class Life:
    """Bytes of a tensor, the step that makes it and the last one that reads it."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: "Life") -> bool:
        """Whether both exist during some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Layout:
    """Offset of each tensor and size of the whole, in bytes."""

    offsets: tuple[int, ...]
    size_bytes: int


def in_turn(sizes: Iterable[int]) -> Layout:
    """One tensor behind the other."""
    *starts, end = accumulate(map(_aligned, sizes), initial=0)
    return Layout(tuple(starts), end)


def packed(arrays: Sequence[Array], layout: Layout) -> Array:
    """The contents of `arrays` in one uint8 array."""
    memory = np.zeros(layout.size_bytes, np.uint8)
    for array, start in zip(arrays, layout.offsets, strict=True):
        memory[start : start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    return memory


def shared(lives: Sequence[Life]) -> Layout:
    """Memory shared by tensors that do not exist at the same time.

    The largest first, each at the lowest offset that is free all its life (greedy by size,
    Pisarchyk and Lee, arXiv 2001.03288).
    """
    offsets: dict[int, int] = {}
    for i in sorted(range(len(lives)), key=lambda i: (-lives[i].size_bytes, lives[i].first)):
        start = 0
        for low, high in sorted(
            (at, at + _aligned(lives[j].size_bytes))
            for j, at in offsets.items()
            if lives[j].meets(lives[i])
        ):
            if start + _aligned(lives[i].size_bytes) <= low:
                break
            start = max(start, high)
        offsets[i] = start
    end = max((at + _aligned(lives[i].size_bytes) for i, at in offsets.items()), default=0)
    return Layout(tuple(offsets[i] for i in range(len(lives))), end)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT
