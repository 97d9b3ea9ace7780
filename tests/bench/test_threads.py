"""The number of threads, which must be set before TVM is there."""

from __future__ import annotations

import os
import sys
from types import ModuleType

import pytest

from tvm_probq.bench import threads
from tvm_probq.bench.threads import use_threads
from tvm_probq.errors import EnvironmentProblem, UsageError

NAMES = ("TVM_NUM_THREADS", "TVM_BIND_THREADS", *threads.OTHERS)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        # Set first, so that what a test sets is undone too.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(threads, "available_cpus", lambda: 4)


def test_the_settings_are_made_before_tvm_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tvm", raising=False)
    assert use_threads(3) == 4
    assert os.environ["TVM_NUM_THREADS"] == "3"
    assert os.environ["TVM_BIND_THREADS"] == "0"
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"


def test_too_late_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", ModuleType("tvm"))
    with pytest.raises(EnvironmentProblem, match="TVM_NUM_THREADS unset") as caught:
        use_threads(2)
    assert "TVM_NUM_THREADS=2 and TVM_BIND_THREADS=0 before Python starts" in str(caught.value)
    assert "TVM_NUM_THREADS" not in os.environ


def test_tvm_with_the_same_settings_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tvm", ModuleType("tvm"))
    monkeypatch.setenv("TVM_NUM_THREADS", "2")
    monkeypatch.setenv("TVM_BIND_THREADS", "0")
    assert use_threads(2) == 4


def test_more_threads_than_cpus_are_an_error() -> None:
    with pytest.raises(UsageError, match="may use 4 CPUs"):
        use_threads(5)
