"""Build candidates of a model's layers into a folder, to be timed on a machine with a GPU."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm.ir import IRModule
from tvm.ir.transform import PassContext

from tvm_probq.build.linker import find_linker
from tvm_probq.errors import KernelError, TuningError
from tvm_probq.kernels.cuda.gate import check_program, device_sources
from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.cuda.nvcc import Program, compile_program, find_nvcc
from tvm_probq.kernels.layer import layer_kernel
from tvm_probq.kernels.small.emit import Argument
from tvm_probq.kernels.tile import Tile
from tvm_probq.tuning.batch import measure
from tvm_probq.tuning.candidate import Candidates
from tvm_probq.tuning.space import space_of
from tvm_probq.tuning.tasks import Task
from tvm_probq.tuning.wire import tile_to_json

WAIT_CYCLES = 1 << 20  # half a millisecond, in which `measure` queues what it times
Say = Callable[[str], None]


class BatchBuilder:
    """Builds the folder of a batch.

    Parameters
    ----------
    name : str
        Of the target profile.
    target : tvm.target.Target
        A CUDA device.
    most : int
        Candidates of a layer, besides the default.
    seed : int
        Of the random inputs, and of the choice of candidates.
    """

    def __init__(self, name: str, target: tvm.target.Target, most: int, seed: int = 0) -> None:
        self._name, self._target, self._most, self._seed = name, target, most, seed
        self._random = np.random.default_rng(seed)

    def write(
        self, tasks: Sequence[Task], known: Mapping[str, Mapping[Tile, Any]], folder: Path, say: Say
    ) -> dict[str, Any]:
        """Write a batch, whole or not at all.

        Parameters
        ----------
        tasks : sequence of Task
            The layers.
        known : mapping
            By key of a layer, the tiles that were measured before: they are left out.
        folder : Path
            To be made.
        say : callable
            Is told of each layer.

        Returns
        -------
        dict
            What stands in its ``batch.json``.

        Raises
        ------
        TuningError
            If the folder is there already, or cannot be written, or nothing is left to measure.
        KernelError
            If a default kernel fails.
        """
        with _new_folder(folder) as made:
            layers: list[dict[str, Any]] = []
            for task in tasks:
                tiles = self._tiles(task, known.get(task.key, {}))
                if len(tiles) > 1:
                    layers.append(self._layer(task, tiles, made, len(layers)))
                    say(f"{task.key}: {len(layers[-1]['tiles'])} kernels")
            if not layers:
                raise TuningError(
                    "no candidate is left to measure", where=self._name,
                    why="the database has a time for every tile of these layers",
                    fix="compile with it, or give another --database",
                )  # fmt: skip
            arch = str(self._target.attrs["arch"])
            head = {"format": measure.FORMAT, "target": self._name, "arch": arch, "layers": layers}
            head["id"] = hashlib.sha256(json.dumps(head).encode()).hexdigest()[:16]
            (made / measure.BATCH).write_text(json.dumps(head, indent=1), encoding="utf-8")
            script = resources.files(__package__) / "measure.py"
            (made / "measure.py").write_text(script.read_text(encoding="utf-8"), encoding="utf-8")
        return head

    def _tiles(self, task: Task, known: Mapping[Tile, Any]) -> list[Tile]:
        """The default tile, and some that were not measured yet."""
        default, *others = space_of(task.spec, self._target).tiles()
        left = [tile for tile in others if tile not in known]
        chosen = self._random.permutation(len(left))[: self._most]
        return [default, *(left[i] for i in sorted(chosen))]

    def _layer(
        self, task: Task, tiles: Sequence[Tile], folder: Path, number: int
    ) -> dict[str, Any]:
        """Write kernels and arguments of a layer; what the batch says of it."""
        place = folder / str(number)
        place.mkdir()
        candidates = Candidates(task.spec, self._target, self._seed)
        kernels = [layer_kernel(task.spec, self._target, tile) for tile in tiles]
        names = [f"tile_{i}" for i in range(len(tiles))]
        functions = dict(zip(names, (kernel.func for kernel in kernels), strict=True))
        functions[measure.WAIT] = _wait()
        named = {name: f.with_attr("global_symbol", name) for name, f in functions.items()}
        with PassContext(config={"tirx.disable_assert": True}), self._target:
            library = tvm.tirx.build(IRModule(named), target=self._target)
        (source,) = device_sources(library)
        program = self._compiled(source)
        good, refused = [], []
        for name, tile, kernel in zip(names, tiles, kernels, strict=True):
            try:
                if kernel.instruction:
                    check_program({name: kernel.instruction}, source, program)
                good.append({"function": name, "tile": tile_to_json(tile)})
            except KernelError:
                if tile == tiles[0]:
                    raise
                refused.append(tile_to_json(tile))
        library.export_library(
            str(place / measure.LIBRARY), fcompile=find_linker(""), workspace_dir=str(place)
        )
        arguments = candidates.arguments(tiles[0])
        arrays = {**arguments, measure.WANTED: candidates.wanted}
        np.savez(place / measure.ARGUMENTS, allow_pickle=False, **arrays)
        if program is not None:
            (place / measure.IMAGE).write_bytes(program.image)
        return {
            "key": task.key, "folder": str(number), "order": list(arguments), "tiles": good,
            "refused": refused, "source": hashlib.sha256(source.encode()).hexdigest(),
        }  # fmt: skip

    def _compiled(self, source: str) -> Program | None:
        """Device code, if nvcc is here; else the other machine compiles it."""
        return compile_program(source, str(self._target.attrs["arch"])) if find_nvcc() else None


def _wait() -> Any:
    arguments = [Argument("out", (1,), "int32")]
    name = template("wait_cycles", WAIT_CYCLES)
    return launch_kernel("wait", arguments, name, ("out",), (1, 1, 1), 1)


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder that takes its name when all is written.

    Raises
    ------
    TuningError
        If it is there already, or cannot be written.
    """
    if folder.exists():
        raise TuningError(
            "the batch's folder is there already", where=str(folder),
            why="a batch is written as a whole", fix="name a new one, or delete it",
        )  # fmt: skip
    made = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield made
        made.chmod(0o755)
        made.rename(folder)
    except OSError as error:
        raise TuningError(
            "the batch cannot be written", where=str(folder), why=error.strerror or str(error),
            fix="check the path and the free space",
        ) from error  # fmt: skip
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
