"""Linking for another architecture."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tvm_probq.build import linker
from tvm_probq.build.artefact import load_artefact, save_artefact
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.linker import Linker, find_linker
from tvm_probq.errors import ArtefactError, KernelError
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

TRIPLE = "aarch64-linux-gnu"
MACHINE = slice(18, 20)  # of an ELF header
AARCH64 = 183

pytestmark = pytest.mark.skipif(
    linker.host_architecture() == "aarch64", reason="this machine is no stranger to ARM"
)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that only these programs, and perhaps the package ziglang, are installed."""

    def pretend(*programs: str, ziglang: bool = False) -> None:
        monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda _name: object() if ziglang else None
        )

    return pretend


def test_this_machines_own_is_tvms_default() -> None:
    assert find_linker("") is None
    assert find_linker(f"{linker.host_architecture()}-unknown-linux-gnu") is None


def test_what_is_installed_links(installed: Any) -> None:
    gcc, zig = f"{TRIPLE}-gcc", ("-target", "aarch64-linux-gnu.2.28")
    installed(gcc, "zig", ziglang=True)
    assert find_linker(TRIPLE) == Linker((gcc,))
    installed("zig", ziglang=True)
    assert find_linker("arm64-unknown-linux") == Linker(
        (sys.executable, "-m", "ziglang", "cc", *zig)
    )
    installed("zig")
    assert find_linker(TRIPLE) == Linker(("zig", "cc", *zig))


def test_without_a_linker_it_says_what_to_install(installed: Any) -> None:
    installed()
    wanted = r"no linker for aarch64: neither aarch64-linux-gnu-gcc nor zig is installed.*"
    wanted += r"apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross, or pip install ziglang"
    with pytest.raises(KernelError, match=wanted):
        find_linker(TRIPLE)


def test_other_systems_are_refused() -> None:
    with pytest.raises(KernelError, match=r"cannot link for arm64-apple-macos.*aarch64-linux-gnu"):
        find_linker("arm64-apple-macos")


def test_a_failing_linker_is_quoted() -> None:
    broken = Linker((sys.executable, "-c", "import sys; sys.exit('no crti.o')"))
    with pytest.raises(RuntimeError, match=r"failed: no crti\.o"):
        broken("a.so", ["a.o"])


@pytest.fixture
def for_arm(compile_small: Callable[..., Compiled], tmp_path: Path) -> Callable[[str], Path]:
    """The function that compiles a small model for ARM and saves it."""
    try:
        find_linker(TRIPLE)
    except KernelError as error:
        pytest.skip(str(error))

    def save(name: str) -> Path:
        compiled, path = compile_small("arm-a76"), tmp_path / name
        profile = load_profile("arm-a76")
        save_artefact(compiled, plan_of("w8a8"), None, profile, path, model_sha256="m")
        return path

    return save


def test_an_artefact_for_arm(for_arm: Callable[[str], Path]) -> None:
    path = for_arm("model.probq")
    assert for_arm("again.probq").read_bytes() == path.read_bytes()
    loaded = load_artefact(path, to_run=False)
    assert int.from_bytes(loaded.library[MACHINE], "little") == AARCH64
    assert loaded.manifest.target.features == ("neon", "dotprod")
    with pytest.raises(ArtefactError, match=r"is for aarch64 processors, this is .*arm-a76"):
        load_artefact(path)


def test_zig_links_too(for_arm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    if not linker._zig():
        pytest.skip("needs zig: pip install ziglang")
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    path = for_arm("model.probq")
    assert for_arm("again.probq").read_bytes() == path.read_bytes()
    library = load_artefact(path, to_run=False).library
    assert int.from_bytes(library[MACHINE], "little") == AARCH64
