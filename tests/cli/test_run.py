"""``tvm-probq run``."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tvm_probq.cli.run import encode
from tvm_probq.demo.digits import load_split

Run = Callable[..., Any]


@pytest.fixture
def images() -> NDArray[Any]:
    """Five images: more than two batches of two."""
    return load_split()[1][:5]


def test_an_array_in_and_an_array_out(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", images)
    path = tmp_path / "y.npy"
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", path)
    assert done.status == 0, done.error
    y = np.load(path)
    assert y.shape == (5, 10)
    assert (y.argmax(axis=1) == load_split()[2][:5]).mean() >= 0.8
    assert done.json["outputs"] == [{"name": "logits", "shape": [5, 10], "dtype": "float32"}]
    assert done.json["count"] == 5


def test_inputs_and_outputs_by_name(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", images)
    np.savez(tmp_path / "x.npz", image=images)
    run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    run("run", artefact_path, "--input", tmp_path / "x.npz", "-o", tmp_path / "y.npz")
    with np.load(tmp_path / "y.npz") as outputs:
        assert outputs.files == ["logits"]
        assert np.array_equal(outputs["logits"], np.load(tmp_path / "y.npy"))


def test_a_sample_does_not_depend_on_its_batch(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path
) -> None:
    outputs = []
    for count in (5, 1):
        np.save(tmp_path / "x.npy", images[:count])
        run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
        outputs.append(np.load(tmp_path / "y.npy"))
    assert np.array_equal(outputs[0][:1], outputs[1])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, 0.0])
def test_no_value_crashes_it(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path, value: float
) -> None:
    bad = images.copy()
    bad[1, 0, 2, 2] = value
    bad[2] = value
    np.save(tmp_path / "x.npy", bad)
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 0, done.error
    assert np.load(tmp_path / "y.npy").shape == (5, 10)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 1, 9, 8), "f4"), "has shape [1, 1, 9, 8], but the model takes [2, 1, 8, 8]"),
        (np.zeros((1, 8, 8), "f4"), "has shape [1, 8, 8]"),
        (np.zeros((1, 1, 8, 8)), "is float64, but the model takes float32"),
        (np.zeros((0, 1, 8, 8), "f4"), "there are no samples"),
    ],
)
def test_a_wrong_form_is_explained(
    run: Run, artefact_path: Path, tmp_path: Path, array: NDArray[Any], message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 2
    assert message in done.error
    assert not (tmp_path / "y.npy").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.npy", None, "the input cannot be read: No such file"),
        ("x.npy", b"", "no valid .npy file"),
        ("x.npy", b"\x93NUMPY\x01\x00", "no valid .npy file"),
        ("x.npz", b"PK", "no valid npz archive"),
        ("none.npz", None, "the file cannot be read"),
    ],
)
def test_an_unreadable_input_is_explained(
    run: Run, artefact_path: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = run("run", artefact_path, "--input", tmp_path / name, "-o", tmp_path / "y.npy")
    assert done.status == 2
    assert message in done.error


def test_a_truncated_input_is_explained(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", images)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-7])
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 2
    assert "damaged" in done.error


def test_python_objects_are_never_loaded(run: Run, artefact_path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 2
    assert "no valid .npy" in done.error


def test_an_archive_that_says_it_is_none(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path
) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, image=images)
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 2
    assert "let its name end in .npz" in done.error


@pytest.mark.parametrize("place", ["/dev/full", "none/y.npy", "/proc/y.npy"])
def test_a_bad_place_is_explained(
    run: Run, artefact_path: Path, images: NDArray[Any], tmp_path: Path, place: str
) -> None:
    np.save(tmp_path / "x.npy", images)
    done = run("run", artefact_path, "--input", tmp_path / "x.npy", "-o", tmp_path / place)
    assert done.status == 2
    assert "the output cannot be written" in done.error


def test_any_output_name_can_be_encoded() -> None:
    outputs = {"file": np.arange(3), "a/b:0": np.ones((2, 2))}
    with np.load(io.BytesIO(encode(outputs, archive=True))) as loaded:
        assert {name: loaded[name].tolist() for name in loaded} == {
            name: value.tolist() for name, value in outputs.items()
        }
