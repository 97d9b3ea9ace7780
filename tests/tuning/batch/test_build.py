"""Batches: what is in the folder, what is left out, what is refused."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from emulated_gpu import compile_source, device

from tvm_probq.errors import KernelError, TuningError
from tvm_probq.kernels.cuda.gate import MOST_SPILLED
from tvm_probq.kernels.cuda.nvcc import Program, Uses
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.batch import build, measure
from tvm_probq.tuning.batch.build import BatchBuilder
from tvm_probq.tuning.space import tiles_of
from tvm_probq.tuning.wire import tile_from_json

TARGET = "cuda-sm80"


def builder(most: int = 2) -> BatchBuilder:
    return BatchBuilder(TARGET, load_profile(TARGET).target(), most)


def silent(_line: str) -> None:
    pass


def test_each_layer_has_its_default_and_candidates(made: Any) -> None:
    layers = made.batch["layers"]
    assert [layer["key"] for layer in layers] == [task.key for task in made.tasks]
    assert len(made.told) == len(layers) == 7
    for task, layer in zip(made.tasks, layers, strict=True):
        tiles = [tile_from_json(found["tile"]) for found in layer["tiles"]]
        space = tiles_of(task.spec, load_profile(TARGET).target())
        assert tiles[0] == space[0]
        assert len(tiles) == 4
        assert set(tiles) <= set(space)


def test_the_script_needs_the_runtime_alone(made: Any) -> None:
    tree = ast.parse((made.folder / "measure.py").read_text())
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert {"tvm", "numpy"} < names
    assert not [name for name in names if name.startswith("tvm_probq")]


def test_what_is_known_is_left_out(made: Any, quick: Any, tmp_path: Path) -> None:
    task = made.tasks[0]
    space = tiles_of(task.spec, load_profile(TARGET).target())
    known = {task.key: dict.fromkeys(space[1:-1], 1.0)}
    batch = builder().write([task], known, tmp_path / "b", silent)
    tiles = [tile_from_json(found["tile"]) for found in batch["layers"][0]["tiles"]]
    assert tiles == [space[0], space[-1]]
    known = {task.key: dict.fromkeys(space, 1.0)}
    with pytest.raises(TuningError, match="no candidate is left"):
        builder().write([task], known, tmp_path / "c", silent)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]


def test_a_folder_that_is_there_is_kept(made: Any) -> None:
    before = (made.folder / measure.BATCH).read_bytes()
    with pytest.raises(TuningError, match="is there already"):
        builder().write(made.tasks, {}, made.folder, silent)
    assert (made.folder / measure.BATCH).read_bytes() == before


def fake_nvcc(monkeypatch: pytest.MonkeyPatch, spilling: str) -> None:
    """A compiler for the emulated device, by which one kernel spills registers."""

    def compiled(source: str, _arch: str) -> Program:
        names = [f"tile_{i}" for i in range(3)]
        ptx = "".join(f"\n.visible .entry {n}_kernel(\nmma.sync\n" for n in names)
        spilled = {name: MOST_SPILLED + 1 if name == spilling else 0 for name in names}
        uses = {f"{name}_kernel": Uses(32, 1024, spilled[name]) for name in names}
        return Program(ptx, compile_source(source), uses)

    monkeypatch.setattr(build, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(build, "compile_program", compiled)


def test_a_kernel_that_spills_is_refused(
    made: Any, quick: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gpu = device()
    fake_nvcc(monkeypatch, "tile_1")
    batch = builder().write(made.tasks[:1], {}, tmp_path / "b", silent)
    (layer,) = batch["layers"]
    assert [found["function"] for found in layer["tiles"]] == ["tile_0", "tile_2"]
    assert len(layer["refused"]) == 1
    assert (tmp_path / "b" / "0" / measure.IMAGE).is_file()
    before = gpu.launches
    measure.run(tmp_path / "b", tmp_path / "r.json")
    assert gpu.launches > before  # its device code is the batch's


def test_a_default_that_spills_is_an_error(
    made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_nvcc(monkeypatch, "tile_0")
    with pytest.raises(KernelError, match="does not fit a block"):
        builder().write(made.tasks[:1], {}, tmp_path / "b", silent)
    assert not list(tmp_path.iterdir())
