"""Candidates for boards: built and linked here, by a worker that may die."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tvm_probq.build.linker import find_linker
from tvm_probq.errors import KernelError
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning.builder import Builder
from tvm_probq.tuning.example import expected, random_arguments
from tvm_probq.tuning.process import WorkerProcess
from tvm_probq.tuning.space import tiles_of

ELF, MACHINE = b"\x7fELF", slice(18, 20)
MACHINES = {"x86-64": 62, "arm-a76": 183}


def builder_of(name: str) -> Builder:
    profile = load_profile(name)
    try:
        find_linker(profile.tvm_target.get("mtriple", ""))
    except KernelError as error:
        pytest.skip(str(error))
    return Builder(profile.tvm_target, seed=3)


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    """One for this machine."""
    found = builder_of("x86-64")
    yield found
    found.close()


@pytest.mark.parametrize("name", MACHINES)
def test_a_library_of_the_target_with_all_arguments(make_layer: Any, name: str) -> None:
    spec = make_layer(7, 7, 16, 32)
    builder = builder_of(name)
    tile = tiles_of(spec, load_profile(name).target())[-1]
    built = builder.build(spec, tile)
    assert built.library.startswith(ELF)
    assert int.from_bytes(built.library[MACHINE], "little") == MACHINES[name]
    assert set(built.own) == {"W"}
    assert built.own.keys() | built.shared.keys() == set(built.order)
    assert (built.order[0], built.order[-1]) == ("X", "OUT")
    values = random_arguments(spec, 3)
    assert np.array_equal(built.shared["X"], values["X"])
    assert np.array_equal(built.wanted, expected(spec, values))
    assert builder.build(spec, tile) is built, "nothing is built twice"
    builder.close()
    with pytest.raises(KernelError, match="tuning has ended"):
        builder.build(spec, tile)


def test_layers_take_turns(builder: Builder, make_layer: Any) -> None:
    target = load_profile("x86-64").target()
    specs = [make_layer(7, 7, 16, 32), make_layer(5, 5, 16, 16)]
    for spec in (*specs, specs[0]):
        built = builder.build(spec, tiles_of(spec, target)[0])
        assert built.shared["X"].shape[1] == spec.height
        assert np.array_equal(built.wanted, expected(spec, random_arguments(spec, 3)))


def test_a_refused_tile_says_why(builder: Builder, make_layer: Any) -> None:
    spec = make_layer(40, 40, 16, 32)
    default = tiles_of(spec, load_profile("x86-64").target())[0]
    with pytest.raises(KernelError, match="its workspace is"):
        builder.build(spec, replace(default, columns=1000))
    assert builder.build(spec, default).library


def test_a_death_costs_one_candidate(
    builder: Builder, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_layer(7, 7, 16, 32)
    first, second = tiles_of(spec, load_profile("x86-64").target())[:2]
    ask = WorkerProcess.ask
    with monkeypatch.context() as patch:

        def dying(self: WorkerProcess, request: Any, deadline_s: float) -> Any:
            if request["op"] == "link":
                process = self._process
                assert process is not None
                process.kill()
            return ask(self, request, deadline_s)

        patch.setattr(WorkerProcess, "ask", dying)
        with pytest.raises(KernelError, match="the process died"):
            builder.build(spec, first)
    assert builder.build(spec, second).library
