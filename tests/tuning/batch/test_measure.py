"""The script of a batch, on the emulated device and without one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulated_gpu import device

from tvm_probq.tuning.batch import measure


def measured(folder: Path, output: Path) -> int:
    return measure.main(["--folder", str(folder), "-o", str(output)])


def test_all_kernels_equal_the_simulator_and_have_times(made: Any) -> None:
    data = made.data
    assert data["target"] == "cuda-sm80"
    assert data["machine"]
    assert list(data["layers"]) == [task.key for task in made.tasks]
    for found in data["layers"].values():
        assert "failure" not in found
        assert len(found["tiles"]) == 4
        assert all(len(tile["times_ns"]) == 2 for tile in found["tiles"])
        assert len(found["again"]["times_ns"]) == len(found["again"]["default_ns"]) == 2


def test_a_wrong_kernel_is_not_timed(made: Any, quick: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(made.folder, tmp_path / "batch")
    path = folder / "0" / measure.ARGUMENTS
    with np.load(path) as found:
        arrays = dict(found)
    arrays[measure.WANTED] = arrays[measure.WANTED] ^ 1
    np.savez(path, **arrays)
    assert measured(folder, tmp_path / "r.json") == 0
    layers = list(json.loads((tmp_path / "r.json").read_text())["layers"].values())
    assert "default kernel" in layers[0]["failure"]
    assert "differ from the simulator" in layers[0]["failure"]
    assert all("failure" not in layer for layer in layers[1:])


def test_an_interrupted_run_is_continued(
    made: Any, quick: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    output, before = tmp_path / "r.json", measure.measured
    seen: list[str] = []

    def dies(folder: Path, layer: Any, *rest: Any) -> Any:
        seen.append(layer["key"])
        if len(seen) == 2:
            raise KeyboardInterrupt
        return before(folder, layer, *rest)

    monkeypatch.setattr(measure, "measured", dies)
    with pytest.raises(KeyboardInterrupt):
        measured(made.folder, output)
    assert measured(made.folder, output) == 0
    keys = [task.key for task in made.tasks]
    assert seen == keys  # none twice: what ended the process is left out
    layers = json.loads(output.read_text())["layers"]
    assert layers[keys[1]] == {"failure": measure.ENDED}
    assert "failure" not in layers[keys[0]]


@pytest.mark.parametrize("text", ["{", "[]", '{"id": "another", "machine": "emulated"}'])
def test_other_files_are_kept(
    made: Any, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "r.json"
    output.write_text(text)
    assert measured(made.folder, output) == 1
    assert "something else than results of this batch" in capsys.readouterr().err
    assert output.read_text() == text


def test_no_batch_and_an_older_device_are_explained(
    made: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measured(tmp_path, tmp_path / "r.json") == 1
    assert f"{tmp_path} is no batch" in capsys.readouterr().err
    with device().capability(7, 5):
        assert measured(made.folder, tmp_path / "r.json") == 1
    assert "the batch is for sm_80, this device is sm_75" in capsys.readouterr().err


def test_without_a_device_it_says_so(made: Any, tmp_path: Path) -> None:
    ask = "from tvm_probq.target.cuda import device_problem; print(device_problem())"
    problem = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    if not problem.stdout.strip():
        pytest.skip("this machine has a CUDA device")
    script = made.folder / "measure.py"
    done = subprocess.run(
        [sys.executable, str(script), "-o", "r.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "TVM finds no CUDA device" in done.stderr
    assert "Traceback" not in done.stderr
