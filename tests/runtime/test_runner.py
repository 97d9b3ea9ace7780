"""Running an artefact on this machine."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tvm_probq.build.artefact import load_artefact
from tvm_probq.errors import ArtefactError, DataError
from tvm_probq.runtime.runner import Runner

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4) - 6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_samples(artefact_path: Path, count: int) -> None:
    x = np.random.default_rng(count).standard_normal((count, 3)).astype(np.float32)
    with Runner(load_artefact(artefact_path)) as model:
        (y,) = model.run(x)
        (same,) = model.run({"x": x})
    assert y.shape == (count, 4)
    assert np.allclose(y, np.maximum(x @ WEIGHTS, 0), atol=1e-5)
    assert np.array_equal(y, same)


def test_a_wrong_shape_names_the_artefact(artefact_path: Path) -> None:
    with Runner(load_artefact(artefact_path)) as model:
        with pytest.raises(DataError, match=r"model\.probq: the input 'x' has shape \[2, 4\]"):
            model.run(np.zeros((2, 4), np.float32))
        with pytest.raises(DataError, match=r"the model has no input 'z'|input 'x' is missing"):
            model.run({"z": np.zeros((2, 3), np.float32)})


def test_nothing_is_left_behind(
    artefact_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with Runner(load_artefact(artefact_path)) as model:
        model.run(np.zeros((2, 3), np.float32))
        assert not list(folder.iterdir())


def test_a_closed_runner_says_so(artefact_path: Path) -> None:
    model = Runner(load_artefact(artefact_path))
    model.close()
    with pytest.raises(ValueError, match="closed"):
        model.run(np.zeros((2, 3), np.float32))


def test_a_library_that_is_none_is_explained(artefact_path: Path) -> None:
    loaded = load_artefact(artefact_path)
    broken = replace(loaded, members={**loaded.members, "library.so": b"nothing"})
    with pytest.raises(ArtefactError, match=r"library cannot be loaded.*too short.*TMPDIR"):
        Runner(broken)


def test_no_room_for_the_library_is_explained(
    artefact_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_artefact(artefact_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(ArtefactError, match=r"library cannot be loaded.*No such file"):
        Runner(loaded)
