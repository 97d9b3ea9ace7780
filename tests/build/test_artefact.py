"""The artefact: the same bytes every time, and every damage found."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.build import artefact, fitness, manifest
from tvm_probq.build.archive import is_archive, pack, unpack
from tvm_probq.build.artefact import load_artefact, save_artefact
from tvm_probq.build.compiled import Compiled, LayerReport
from tvm_probq.build.link import link_library
from tvm_probq.errors import ArtefactError, CalibrationError, KernelError
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

Edit = Callable[[dict[str, Any]], object]


def rewrite(path: Path, edit: Callable[[dict[str, bytes]], object]) -> None:
    """Edit the members of an artefact."""
    members = unpack(path)
    edit(members)
    path.write_bytes(pack(members))


def rewrite_manifest(path: Path, edit: Edit) -> None:
    """Edit the manifest, with a right checksum, as another version would have written it."""

    def change(members: dict[str, bytes]) -> None:
        data = json.loads(members["manifest.json"])
        edit(data)
        data["checksum"] = manifest.checksum(data)
        members["manifest.json"] = json.dumps(data).encode()

    rewrite(path, change)


def save(compiled: Compiled, path: Path) -> None:
    save_artefact(compiled, plan_of("w8a8"), None, load_profile("x86-64"), path, model_sha256="m")


def test_what_was_saved_is_loaded(artefact_path: Path, compiled: Compiled) -> None:
    loaded = load_artefact(artefact_path)
    said = loaded.manifest
    assert (said.mode, said.scheme, said.batch, said.seed) == ("predicted", "w8a8", 2, 3)
    assert (said.inputs, said.outputs) == (compiled.inputs, compiled.outputs)
    assert said.layers == (LayerReport("product", "dense", 8, 8, accumulator="int32"),)
    assert (said.peak_activation_bytes, said.parameter_bytes) == (56, 48)
    assert (said.model_sha256, said.calibration_samples) == ("model hash", 7)
    assert said.target.features == ("sse2",)
    assert not said.random_calibration
    assert loaded.plan == plan_of("w8a8")
    assert loaded.record is not None
    assert loaded.record.data_hash == "data hash"
    assert loaded.library.startswith(b"\x7fELF")


def test_it_is_an_ordinary_zip_with_readable_members(artefact_path: Path) -> None:
    with zipfile.ZipFile(artefact_path) as archive:
        names = archive.namelist()
        data = json.loads(archive.read("manifest.json"))
    assert names == ["manifest.json", "plan.toml", "library.so", "calibration.json"]
    assert set(data["members"]) == set(names[1:])
    assert data["inputs"] == [{"name": "x", "shape": [2, 3], "dtype": "float32"}]
    assert data["versions"]["apache-tvm"]
    assert is_archive(artefact_path)


def test_a_float_model_has_no_record(compiled: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "float.probq"
    save(compiled, path)
    loaded = load_artefact(path)
    assert loaded.record is None
    assert loaded.manifest.calibration_sha256 == ""


def test_the_same_model_gives_the_same_bytes(
    compile_small: Callable[[], Compiled], tmp_path: Path, monkeypatch: Any
) -> None:
    contents = []
    for index in range(2):
        folder = tmp_path / f"folder{index}"
        folder.mkdir()
        # Neither the current folder nor the name of the output may get into the bytes.
        monkeypatch.chdir(folder)
        save(compile_small(), folder / f"{index}.probq")
        contents.append((folder / f"{index}.probq").read_bytes())
    assert contents[0] == contents[1]


def test_truncation_anywhere_is_found(artefact_path: Path) -> None:
    content = artefact_path.read_bytes()
    for share in (0.01, 0.3, 0.6, 0.99):
        artefact_path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ArtefactError, match=r"model\.probq: the artefact is damaged.*copy it"):
            load_artefact(artefact_path)


def test_a_changed_byte_anywhere_is_found_or_harmless(artefact_path: Path) -> None:
    content = artefact_path.read_bytes()
    good = load_artefact(artefact_path)
    for place in range(0, len(content), max(1, len(content) // 300)):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        artefact_path.write_bytes(damaged)
        try:
            loaded = load_artefact(artefact_path)
        except ArtefactError:
            continue
        # A time stamp, say, that nothing reads.
        assert loaded == good, f"byte {place}"


@pytest.mark.parametrize("name", ["plan.toml", "library.so", "calibration.json"])
def test_an_edited_member_is_found(artefact_path: Path, name: str) -> None:
    rewrite(artefact_path, lambda m: m.update({name: m[name] + b"\n"}))
    with pytest.raises(ArtefactError, match=rf"damaged: its member {name} was edited"):
        load_artefact(artefact_path)


@pytest.mark.parametrize("name", ["plan.toml", "library.so", "calibration.json"])
def test_a_missing_member_is_found(artefact_path: Path, name: str) -> None:
    rewrite(artefact_path, lambda m: m.pop(name))
    with pytest.raises(ArtefactError, match=rf"damaged: its member {name} is missing"):
        load_artefact(artefact_path)


def test_a_strange_member_is_found(artefact_path: Path) -> None:
    rewrite(artefact_path, lambda m: m.update({"virus.py": b""}))
    with pytest.raises(ArtefactError, match=r"its member virus\.py is not in the manifest"):
        load_artefact(artefact_path)


def test_an_edited_manifest_is_found(artefact_path: Path) -> None:
    def edit(members: dict[str, bytes]) -> None:
        members["manifest.json"] = members["manifest.json"].replace(b"x86-64", b"x86-99")

    rewrite(artefact_path, edit)
    with pytest.raises(ArtefactError, match=r"manifest\.json was edited, its checksum is wrong"):
        load_artefact(artefact_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [(b"{", "is no JSON"), (b"[]", "holds no table"), (b"{}", "has format None")],
)
def test_a_strange_manifest_is_found(artefact_path: Path, text: bytes, message: str) -> None:
    rewrite(artefact_path, lambda m: m.update({"manifest.json": text}))
    with pytest.raises(ArtefactError, match=message):
        load_artefact(artefact_path)


@pytest.mark.parametrize("key", ["layers", "target", "batch"])
def test_an_incomplete_manifest_is_found(artefact_path: Path, key: str) -> None:
    rewrite_manifest(artefact_path, lambda data: data.pop(key))
    with pytest.raises(ArtefactError, match=rf"the manifest is incomplete.*{key}"):
        load_artefact(artefact_path)


def test_another_format_is_explained(artefact_path: Path) -> None:
    rewrite_manifest(artefact_path, lambda data: data.update(format=99))
    with pytest.raises(ArtefactError, match=r"format 99, this version reads format 1.*compile the"):
        load_artefact(artefact_path)


def test_another_tvm_is_explained(artefact_path: Path) -> None:
    edit: Edit = lambda data: data["versions"].update({"apache-tvm": "0.1"})  # noqa: E731
    rewrite_manifest(artefact_path, edit)
    with pytest.raises(ArtefactError, match=r"compiled by TVM 0\.1, but TVM .* is installed"):
        load_artefact(artefact_path)
    assert load_artefact(artefact_path, to_run=False).manifest.batch == 2


def test_another_architecture_is_explained(artefact_path: Path) -> None:
    rewrite_manifest(artefact_path, lambda data: data["target"].update(architecture="aarch64"))
    with pytest.raises(ArtefactError, match=r"for aarch64 processors.*tvm-probq targets"):
        load_artefact(artefact_path)


def test_a_lesser_cpu_is_explained(artefact_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness, "missing_features", lambda _needs: ("avx512vnni",))
    with pytest.raises(ArtefactError, match=r"this CPU lacks avx512vnni.*for the target x86-64"):
        load_artefact(artefact_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no artefact: it is empty"),
        (b"\x08\x07some model", "no artefact: it is no zip"),
        (pack({"a": b"b"}), "no artefact: it has no manifest.json"),
    ],
)
def test_another_file_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=message):
        load_artefact(path)


def test_a_missing_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"none\.probq: the artefact cannot be read: No such"):
        load_artefact(tmp_path / "none.probq")
    assert not is_archive(tmp_path / "none.probq")


def test_a_full_disk_leaves_nothing(compiled: Compiled, tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*_args: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(ArtefactError, match=r"the artefact cannot be written: No space left"):
        save(compiled, tmp_path / "model.probq")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [RuntimeError("Compilation error:\ng++: no"), OSError("full")])
def test_a_failing_linker_is_explained(compiled: Compiled, tmp_path: Path, error: Any) -> None:
    class Broken:
        def export_library(self, *_args: object, **_options: object) -> None:
            raise error

    with pytest.raises(KernelError, match=r"cannot be linked.*(g\+\+: no|full).*doctor"):
        save(replace(compiled, executable=Broken()), tmp_path / "model.probq")
    assert not list(tmp_path.iterdir())


def test_a_record_that_cannot_be_encoded_leaves_nothing(
    compiled: Compiled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_record: object) -> bytes:
        raise CalibrationError("full")

    monkeypatch.setattr(artefact, "record_bytes", fail)
    record: Any = object()
    with pytest.raises(CalibrationError):
        save_artefact(
            compiled,
            plan_of("w8a8"),
            record,
            load_profile("x86-64"),
            tmp_path / "model.probq",
            model_sha256="m",
        )
    assert not list(tmp_path.iterdir())


def test_a_full_temporary_folder_is_explained(compiled: Compiled) -> None:
    # More than any disk holds: LLVM itself would end the process without a word.
    with pytest.raises(KernelError, match=r"cannot be linked.*(File too large|No space).*TMPDIR"):
        link_library(replace(compiled, parameter_bytes=1 << 60))
