"""Counts the instructions that one inference executes on the emulated board."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tvm_probq.errors import UsageError

from . import guest
from .board import Board, Cpu

Array = npt.NDArray[Any]
Words = tuple[str, ...]  # instructions in hexadecimal
Blocks = Counter[tuple[int, Words]]  # runs of blocks, by address and content


@dataclass(frozen=True)
class Count:
    """What one inference executes.

    Attributes
    ----------
    instructions : float
        An inference, the mean of all counted pairs of sections.
    spread : float
        Largest less smallest of these pairs.
    blocks : dict
        Runs an inference of each block of instructions, by address and content.
    maps : str
        ``/proc/self/maps`` of the process.
    outputs : ndarray
        Of every image.
    """

    instructions: float
    spread: float
    blocks: dict[tuple[int, Words], float]
    maps: str
    outputs: Array


def count(board: Board, cpu: Cpu, engine: str, model: Path, images: Array) -> Count:
    """Run a model on the board and count.

    Parameters
    ----------
    board, cpu
        Where.
    engine : {"tvm", "tflite"}
        Which runtime.
    model : Path
        A shared library, or a TFLite file.
    images : ndarray, shape (N, ...)
        All are inferred one by one; the first one is counted.
    """
    name = f"{model.name}-{cpu.name}"
    inputs, result, counts = (board.work / f"{name}.{end}" for end in ("in.npz", "out", "counts"))
    np.savez(inputs, x=images)
    counts.unlink(missing_ok=True)
    script = str(Path(guest.__file__).resolve())
    board.run(cpu, [script, engine, str(model.resolve()), str(inputs), str(result)], counts)
    sections = dict(read_sections(counts))
    outputs = np.load(f"{result}.npz")["y"]
    return difference(sections, Path(f"{result}.maps").read_text(), outputs)


def difference(sections: dict[int, Blocks], maps: str, outputs: Array) -> Count:
    """What one inference adds: sections of few calls against sections of more."""
    totals, blocks, calls = [], Counter[tuple[int, Words]](), 0
    for pair, (few, many) in enumerate(guest.SECTIONS):
        less, more = sections[2 * pair + 1], sections[2 * pair + 2]
        totals.append((size(more) - size(less)) / (many - few))
        calls += many - few
        blocks.update(more)
        blocks.subtract(less)
    each = {block: runs / calls for block, runs in blocks.items() if runs}
    return Count(sum(totals) / len(totals), max(totals) - min(totals), each, maps, outputs)


def size(blocks: Blocks) -> int:
    """All instructions executed."""
    return sum(runs * len(words) for (_, words), runs in blocks.items())


def read_sections(path: Path) -> Iterator[tuple[int, Blocks]]:
    """Read what the plugin wrote: the mark that ends each section, and its blocks.

    Raises
    ------
    UsageError
        If there is no mark, so that nothing was counted.
    """
    label, blocks = -1, Blocks()
    with path.open() as lines:
        for line in lines:
            first, second, *words = line.split()
            if first != "mark":
                blocks[int(first, 16), tuple(words)] += int(second)
                continue
            if label >= 0:
                yield label, blocks
            label, blocks = int(second), Blocks()
    if label < 0:
        raise UsageError(f"{path} has no mark", why="the plugin did not see the guest's calls")
    yield label, blocks
