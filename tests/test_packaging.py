"""The mapped folders are in the package, for a wheel and for an editable install alike."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "tvm_probq", "passes", "targets")
MAPPED = {"passes": "tvm_probq/passes", "targets": "tvm_probq/targets"}
OLDEST_SETUPTOOLS = 77

QUESTION = """
import importlib.util, json
import tvm_probq, tvm_probq.passes, tvm_probq.targets
print(json.dumps({
    "package": tvm_probq.__file__,
    "passes": tvm_probq.passes.__file__,
    "targets": tvm_probq.targets.__file__,
    "leaks": [name for name in ("passes", "targets") if importlib.util.find_spec(name)],
}))
"""


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, so that building leaves nothing in the checkout."""
    version = metadata.version("setuptools")
    if int(version.split(".")[0]) < OLDEST_SETUPTOOLS:
        pytest.skip(f"needs setuptools >= {OLDEST_SETUPTOOLS} to build, {version} is installed")
    folder = tmp_path_factory.mktemp("source")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        path = repository / name
        if path.is_dir():
            shutil.copytree(path, folder / name, ignore=ignore)
        elif path.is_file():
            shutil.copy(path, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    run([sys.executable, "-m", "pip", "wheel", *options, str(source)], folder)
    (path,) = folder.glob("*.whl")
    return path


def make_environment(folder: Path) -> Path:
    """Make a fresh environment that sees this one's packages but not its installed project."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # A plain path in a .pth file does not run that folder's own .pth files: no editable installs.
    packages = [path for path in sys.path if path.endswith("-packages")]
    (site / "outer.pth").write_text("\n".join(packages) + "\n")
    return folder / "bin" / "python"


def install(python: Path, *what: str) -> None:
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, *what]
    run(command, python.parent)


def ask(python: Path, folder: Path) -> dict[str, str | list[str]]:
    answer: dict[str, str | list[str]] = json.loads(run([str(python), "-c", QUESTION], folder))
    return answer


def test_a_wheel_install_has_the_mapped_packages(wheel: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    install(python, str(wheel))
    answer = ask(python, tmp_path)
    package = Path(str(answer["package"])).parent
    assert tmp_path in package.parents
    assert answer["passes"] == str(package / "passes" / "__init__.py")
    assert answer["targets"] == str(package / "targets" / "__init__.py")
    assert answer["leaks"] == []
    assert (python.parent / "tvm-probq").is_file()


def test_an_editable_install_has_the_mapped_packages(source: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    install(python, "--editable", str(source))
    answer = ask(python, tmp_path)
    assert answer["package"] == str(source / "tvm_probq" / "__init__.py")
    assert answer["passes"] == str(source / "passes" / "__init__.py")
    assert answer["targets"] == str(source / "targets" / "__init__.py")
    assert answer["leaks"] == []


def test_an_editable_install_sees_new_files_at_once(source: Path, tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env")
    install(python, "--editable", str(source))
    fresh = source / "passes" / "fresh_subpackage"
    fresh.mkdir()
    (fresh / "__init__.py").write_text("HERE = 1\n")
    question = "from tvm_probq.passes.fresh_subpackage import HERE; print(HERE)"
    try:
        assert run([str(python), "-c", question], tmp_path).strip() == "1"
    finally:
        shutil.rmtree(fresh)


def test_the_wheel_holds_every_source_and_data_file(wheel: Path, source: Path) -> None:
    expected = {"tvm_probq/py.typed"}
    for folder in ("tvm_probq", "passes", "targets"):
        for path in (source / folder).rglob("*"):
            if path.suffix in {".py", ".toml", ".onnx", ".json"}:
                name = path.relative_to(source).as_posix()
                expected.add(name.replace(folder, MAPPED.get(folder, folder), 1))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert expected <= names
    top = {name.split("/")[0] for name in names}
    assert {name.split("-")[0] for name in top} == {"tvm_probq"}


def test_the_pins_are_those_the_checks_expect(repository: Path) -> None:
    from tvm_probq.environment import FFI_VERSION, TVM_VERSION
    from tvm_probq.environment_full import TUNING_PACKAGES

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    needed = project["dependencies"]
    assert f"apache-tvm=={TVM_VERSION}" in needed
    assert f"apache-tvm-ffi=={FFI_VERSION}" in needed
    assert all(any(line.startswith(f"{name}>") for line in needed) for name in TUNING_PACKAGES)
