"""A board that runs here for all tests that do it no harm, and artefacts that behave or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from boards import SHAPE, Board, library_of, running, with_library
from emulation import TRIPLE

from tvm_probq.build.artefact import Artefact, load_artefact, save_artefact
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.linker import find_linker
from tvm_probq.errors import KernelError
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

Misbehaving = Callable[[str], Artefact]


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A board that all tests share."""
    with running(tmp_path_factory.mktemp("board")) as found:
        yield found


@pytest.fixture(scope="session")
def misbehaving(compiled: Compiled, tmp_path_factory: pytest.TempPathFactory) -> Misbehaving:
    """The function that makes an artefact whose code runs some lines of C."""
    folder = tmp_path_factory.mktemp("misbehaving")
    path = folder / "model.probq"
    forms = {"inputs": (("x", SHAPE, "float32"),), "outputs": (("y", SHAPE, "float32"),)}
    profile = load_profile("x86-64")
    save_artefact(
        replace(compiled, **forms), plan_of("w8a8"), None, profile, path, model_sha256="none"
    )
    sound = load_artefact(path)
    made: dict[str, Artefact] = {}

    def make(body: str) -> Artefact:
        if body not in made:
            made[body] = with_library(sound, library_of(body, folder / str(len(made))))
        return made[body]

    return make


@pytest.fixture(scope="session")
def sound(misbehaving: Misbehaving) -> Artefact:
    """An artefact that gives its input plus one."""
    return misbehaving("")


@pytest.fixture(scope="session")
def linker() -> None:
    """Skips where nothing links for 64-bit ARM."""
    try:
        find_linker(TRIPLE)
    except KernelError as error:
        pytest.skip(str(error))
