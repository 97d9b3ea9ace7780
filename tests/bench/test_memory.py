"""Peak memory in a fresh process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tvm_probq.bench.memory import OURS, PEER, memory_of, save_library
from tvm_probq.build.compiled import Compiled
from tvm_probq.build.link import link_library
from tvm_probq.errors import EnvironmentProblem

MIB = 1 << 20


def check(memory: dict[str, int]) -> None:
    assert memory["growth_bytes"] == memory["peak_bytes"] - memory["before_bytes"]
    assert memory["before_bytes"] > 10 * MIB  # an interpreter with a runtime
    assert 0 <= memory["growth_bytes"] < 100 * MIB
    assert 0 < memory["after_bytes"] <= memory["peak_bytes"] + MIB  # two looks at a moving figure


def test_a_library_of_ours(compile_small: Callable[[], Compiled], tmp_path: Path) -> None:
    path = save_library(link_library(compile_small()), tmp_path)
    check(memory_of(OURS, path, np.ones((2, 3), np.float32), 1))


def test_a_model_of_onnx_runtime(onnx_net: Callable[..., object], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the peer is not installed")
    net = onnx_net(3, 64, 64)
    net("Relu", net.conv("x", 3, 64))  # type: ignore[operator,attr-defined]
    x = np.ones((1, 3, 64, 64), np.float32)
    memory = memory_of(PEER, net.save(tmp_path), x, 1)  # type: ignore[attr-defined]
    check(memory)
    assert memory["growth_bytes"] > MIB  # the output alone


def test_a_failing_process_is_explained(tmp_path: Path) -> None:
    (tmp_path / "library.so").write_bytes(b"no library")
    with pytest.raises(EnvironmentProblem, match=r"the memory of .*library\.so cannot be measured"):
        memory_of(OURS, tmp_path / "library.so", np.ones((2, 3), np.float32), 1)
