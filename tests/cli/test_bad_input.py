"""Every bad model and every bad artefact: a message, status 2, nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tvm_probq.build import fitness
from tvm_probq.build.archive import pack, unpack
from tvm_probq.build.manifest import checksum
from tvm_probq.demo.digits import MODEL_PATH, load_split

Run = Callable[..., Any]


def save_model(path: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """Save a changed copy of the bundled network."""
    model = onnx.load(MODEL_PATH)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def set_weight(model: onnx.ModelProto, value: float) -> None:
    tensor = model.graph.initializer[0]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[0] = value
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def lose_external_data(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "weights.bin"


def set_input(model: onnx.ModelProto, kind: int, shape: list[Any]) -> None:
    value = helper.make_tensor_value_info("image", kind, shape)
    model.graph.input[0].CopyFrom(value)


CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], object], str]] = {
    "nan": (lambda m: set_weight(m, np.nan), "hold NaN or infinity"),
    "infinity": (lambda m: set_weight(m, np.inf), "hold NaN or infinity"),
    "external data": (lose_external_data, "external data cannot be read"),
    "old opset": (lambda m: setattr(m.opset_import[0], "version", 3), "has opset 3"),
    "new opset": (lambda m: setattr(m.opset_import[0], "version", 999), "has opset 999"),
    "half floats": (
        lambda m: set_input(m, TensorProto.FLOAT16, ["n", 1, 8, 8]),
        "FLOAT16",
    ),
    "no nodes": (lambda m: m.graph.ClearField("node"), "no complete ONNX model"),
}


def save_open_sizes(path: Path) -> Path:
    return save_model(path, lambda m: set_input(m, TensorProto.FLOAT, ["n", 1, "height", "width"]))


@pytest.mark.parametrize("command", ["compile", "calibrate"])
def test_open_sizes_are_named_with_the_option_that_fixes_them(
    run: Run, digits: Path, tmp_path: Path, command: str
) -> None:
    model, out = save_open_sizes(tmp_path / "open.onnx"), tmp_path / "out"
    options = [command, model, "--data", digits / "inputs.npz", "-o", out, "--samples", 8]
    done = run(*options)
    assert done.status == 2
    assert "open.onnx: the input 'image' has the symbolic shape (n, 1, height, width)" in done.error
    assert "it leaves open height, width" in done.error
    assert "--shape image=1,1,224,224" in done.error
    assert not out.exists()
    assert run(*options, "--shape", "image=1,1,8,8").status == 0


def test_a_card_decides_open_sizes(run: Run, digits: Path, tmp_path: Path) -> None:
    model, card = save_open_sizes(tmp_path / "open.onnx"), ["--card", digits / "card.toml"]
    record, out = tmp_path / "record.json", tmp_path / "out.probq"
    assert run("calibrate", model, *card, "-o", record, "--samples", 8).status == 0
    done = run("compile", model, *card, "--calibration", record, "--batch", 3, "-o", out)
    assert (done.status, done.json["batch"]) == (0, 3)
    found = [run("eval", subject, *card, "--limit", 60).json for subject in (model, MODEL_PATH)]
    assert found[0]["value"] == found[1]["value"]


def test_a_card_of_other_sizes_is_explained(run: Run, digits: Path, tmp_path: Path) -> None:
    def change(model: onnx.ModelProto) -> None:
        set_input(model, TensorProto.FLOAT, ["n", 3, "height", "width"])

    model = save_model(tmp_path / "open.onnx", change)
    done = run("eval", model, "--card", digits / "card.toml")
    assert done.status == 2
    assert "the input 'image' cannot have the shape (1, 1, 8, 8)" in done.error


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("command", ["compile", "calibrate", "eval"])
def test_a_bad_model_is_explained(
    run: Run, digits: Path, tmp_path: Path, name: str, command: str
) -> None:
    change, message = CHANGES[name]
    model = save_model(tmp_path / "bad.onnx", change)
    output = [] if command == "eval" else ["-o", tmp_path / "out"]
    done = run(command, model, "--card", digits / "card.toml", *output)
    assert done.status == 2
    assert message in done.error
    assert "bad.onnx" in done.error
    assert "What to do" in done.error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.onnx"]


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.95])
def test_a_truncated_model_is_explained(
    run: Run, digits: Path, tmp_path: Path, share: float
) -> None:
    content = MODEL_PATH.read_bytes()
    (tmp_path / "bad.onnx").write_bytes(content[: int(share * len(content))])
    done = run("eval", tmp_path / "bad.onnx", "--card", digits / "card.toml")
    assert done.status == 2
    assert "bad.onnx" in done.error


@pytest.mark.parametrize("content", [b"hello\n" * 100, b"\x00" * 64, b"{}"])
def test_what_is_no_model_is_explained(
    run: Run, digits: Path, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    done = run(
        "compile", tmp_path / "bad.onnx", "--card", digits / "card.toml", "-o", tmp_path / "out"
    )
    assert done.status == 2
    assert "bad.onnx" in done.error
    assert not (tmp_path / "out").exists()


def test_a_folder_is_no_model(run: Run, digits: Path, tmp_path: Path) -> None:
    done = run("eval", tmp_path, "--card", digits / "card.toml")
    assert done.status == 2
    assert "Is a directory" in done.error


def edit_manifest(content: dict[str, bytes], change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as another version or machine would have written it."""
    data = json.loads(content["manifest.json"])
    change(data)
    data["checksum"] = checksum(data)
    content["manifest.json"] = json.dumps(data).encode()


EDITS: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "edited plan": (lambda c: c.update({"plan.toml": b"[default]\n"}), "plan.toml was edited"),
    "edited library": (lambda c: c.update({"library.so": b"\x7fELF"}), "library.so was edited"),
    "no library": (lambda c: c.pop("library.so"), "library.so is missing"),
    "no manifest": (lambda c: c.pop("manifest.json"), "it has no manifest.json"),
    "other format": (
        lambda c: edit_manifest(c, lambda data: data.update(format=2)),
        "has format 2, this version reads format 1",
    ),
    "other TVM": (
        lambda c: edit_manifest(c, lambda data: data["versions"].update({"apache-tvm": "9.9"})),
        "compiled by TVM 9.9",
    ),
    "other architecture": (
        lambda c: edit_manifest(c, lambda data: data["target"].update(architecture="aarch64")),
        "is for aarch64 processors",
    ),
}


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("command", ["run", "eval"])
def test_a_bad_artefact_is_explained(
    run: Run, digits: Path, artefact_path: Path, tmp_path: Path, name: str, command: str
) -> None:
    edit, message = EDITS[name]
    content = unpack(artefact_path)
    edit(content)
    (tmp_path / "bad.probq").write_bytes(pack(content))
    check_refused(run, digits, tmp_path, command, message)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("command", ["run", "eval", "inspect"])
def test_a_truncated_artefact_is_explained(
    run: Run, digits: Path, artefact_path: Path, tmp_path: Path, share: float, command: str
) -> None:
    content = artefact_path.read_bytes()
    (tmp_path / "bad.probq").write_bytes(content[: int(share * len(content))])
    message = "the artefact is damaged" if share > 0.001 else "artefact"
    check_refused(run, digits, tmp_path, command, message)


def test_an_artefact_for_a_better_cpu_is_explained(
    run: Run, digits: Path, artefact_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitness, "missing_features", lambda _needs: ("avx512vnni",))
    (tmp_path / "bad.probq").write_bytes(artefact_path.read_bytes())
    check_refused(run, digits, tmp_path, "run", "this CPU lacks avx512vnni")
    assert run("inspect", artefact_path).status == 0


def check_refused(run: Run, digits: Path, folder: Path, command: str, message: str) -> None:
    """Run a command on ``bad.probq``; it must say why it refuses, and write nothing."""
    np.save(folder / "x.npy", load_split()[1][:1])
    options: dict[str, list[Any]] = {
        "run": ["--input", folder / "x.npy", "-o", folder / "y.npy"],
        "eval": ["--card", digits / "card.toml", "--limit", 4],
        "inspect": [],
    }
    done = run(command, folder / "bad.probq", *options[command])
    assert done.status == 2
    assert message in done.error
    assert "bad.probq" in done.error
    assert "What to do" in done.error
    assert sorted(p.name for p in folder.iterdir()) == ["bad.probq", "x.npy"]


@pytest.mark.parametrize("place", ["/dev/full", "/proc/model.probq", "none/model.probq"])
def test_a_bad_place_for_the_artefact_is_explained(
    run: Run, record_path: Path, tmp_path: Path, place: str
) -> None:
    options = ["--calibration", record_path, "-o", tmp_path / place]
    done = run("compile", MODEL_PATH, *options)
    assert done.status == 2
    assert "the artefact cannot be written" in done.error
    assert not list(tmp_path.iterdir())
