"""A board of another architecture: the emulated one, with a CPU that lacks the dot product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from boards import SERVER, Board, running, wait, with_library, with_target

from tvm_probq.board.runner import RemoteRunner
from tvm_probq.build.artefact import Artefact, load_artefact
from tvm_probq.cli.main import main
from tvm_probq.demo.digits import MODEL_PATH
from tvm_probq.errors import BoardError
from tvm_probq.runtime.runner import Runner

TIMEOUT_S = 60.0
X = np.random.default_rng(0).uniform(0, 1, (3, 1, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def cortex_a72(board_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An emulated board with that CPU."""
    folder = tmp_path_factory.mktemp("cortex-a72")
    with running(folder, command=[board_python, SERVER], cpu="cortex-a72") as board:
        yield board


@pytest.fixture(scope="module")
def compiled_for(
    linker: None, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Artefact]:
    """The function that compiles the bundled network for a target."""
    folder = tmp_path_factory.mktemp("artefacts")

    def compile_for(target: str) -> Artefact:
        path = folder / f"{target}.probq"
        if not path.exists():
            options = ["--random-calibration", "4", "--target", target, "--quiet"]
            assert main(["compile", str(MODEL_PATH), *options, "-o", str(path)]) == 0
        return load_artefact(path, to_run=False)

    return compile_for


def test_the_same_bits_as_here(cortex_a72: Board, compiled_for: Callable[[str], Artefact]) -> None:
    with Runner(compiled_for("x86-64")) as here:
        (expected,) = here.run(X)
    with RemoteRunner(compiled_for("arm-a72"), cortex_a72.address, TIMEOUT_S) as there:
        (found,) = there.run(X)
    assert np.array_equal(found, expected)
    wait(cortex_a72.is_clean)


def test_the_kernel_tells_the_features(cortex_a72: Board) -> None:
    facts = cortex_a72.facts()
    assert facts.architecture == "aarch64"
    assert {"neon", "fp-armv8", "crc"} <= facts.features
    assert not {"dotprod", "lse", "i8mm", "sve"} & facts.features


def test_another_architecture_is_refused_before_the_upload(
    cortex_a72: Board, compiled_for: Callable[[str], Artefact]
) -> None:
    before = cortex_a72.facts().ends
    with pytest.raises(BoardError, match="is for x86_64, but the board is aarch64"):
        RemoteRunner(compiled_for("x86-64"), cortex_a72.address, TIMEOUT_S)
    assert cortex_a72.facts().ends == before


def test_a_missing_feature_is_refused_before_the_upload(
    cortex_a72: Board, compiled_for: Callable[[str], Artefact]
) -> None:
    before = cortex_a72.facts().ends
    with pytest.raises(BoardError, match="the board's CPU lacks dotprod"):
        RemoteRunner(compiled_for("arm-a76"), cortex_a72.address, TIMEOUT_S)
    assert cortex_a72.facts().ends == before


def test_a_library_of_another_architecture_is_explained(
    cortex_a72: Board, compiled_for: Callable[[str], Artefact]
) -> None:
    wrong = with_library(compiled_for("arm-a72"), compiled_for("x86-64").library)
    with pytest.raises(BoardError, match="cannot load the library.*compiled for this board"):
        RemoteRunner(wrong, cortex_a72.address, TIMEOUT_S)
    wait(cortex_a72.is_clean)


def test_an_instruction_that_the_cpu_lacks(
    cortex_a72: Board, compiled_for: Callable[[str], Artefact]
) -> None:
    liar = with_target(compiled_for("arm-a76"), features=("neon",))
    message = "of SIGILL: its code uses an instruction that the board's CPU does not have"
    with (
        pytest.raises(BoardError, match=message),
        RemoteRunner(liar, cortex_a72.address, TIMEOUT_S) as model,
    ):
        model.run(X)
    wait(cortex_a72.is_clean)
    with RemoteRunner(compiled_for("arm-a72"), cortex_a72.address, TIMEOUT_S) as model:
        assert model.run(X)[0].shape == (3, 10)
