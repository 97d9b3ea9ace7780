"""The fast and the full check of the environment."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import pytest

from tvm_probq import environment, environment_full
from tvm_probq.environment import FFI_VERSION, TVM_VERSION, Problem
from tvm_probq.environment_full import Facts
from tvm_probq.errors import EnvironmentProblem

GOOD_FACTS = Facts(llvm=21, cpu="znver5", vnni=True, cpus=4, threads=4, slow_import=False)


def severities(problems: list[Problem]) -> dict[str, str]:
    return {problem.name: problem.severity for problem in problems}


def test_the_pinned_versions_are_good() -> None:
    assert environment.check_versions(TVM_VERSION, FFI_VERSION) == []
    assert environment.check_versions(TVM_VERSION, "0.1.14.post1") == []


@pytest.mark.parametrize("version", ["0.1.15", "0.1.15.post1", "0.1.15.post2"])
def test_a_crashing_ffi_is_fatal(version: str) -> None:
    (problem,) = environment.check_versions(TVM_VERSION, version)
    assert problem.severity == "fatal"
    assert version in problem.what
    assert f"apache-tvm-ffi=={FFI_VERSION}" in problem.fix


@pytest.mark.parametrize("version", ["0.1.150", "0.1.13", "0.2.0"])
def test_an_untested_ffi_is_a_warning(version: str) -> None:
    assert severities(environment.check_versions(TVM_VERSION, version)) == {
        "apache-tvm-ffi": "warning"
    }


def test_another_tvm_is_a_warning_and_a_missing_one_fatal() -> None:
    assert severities(environment.check_versions("0.28.0", FFI_VERSION)) == {
        "apache-tvm": "warning"
    }
    assert severities(environment.check_versions(None, None)) == {
        "apache-tvm": "fatal",
        "apache-tvm-ffi": "fatal",
    }


@pytest.mark.parametrize(
    ("value", "cpus", "severity"),
    [
        (None, 1, None),
        (None, 8, "info"),
        ("8", 8, None),
        ("2", 8, None),
        ("0", 8, "warning"),
        ("-1", 8, "warning"),
        ("all", 8, "warning"),
        ("", 8, "warning"),
    ],
)
def test_thread_setting(value: str | None, cpus: int, severity: str | None) -> None:
    settings = {} if value is None else {"TVM_NUM_THREADS": value}
    problems = environment.check_thread_setting(settings, cpus)
    assert [problem.severity for problem in problems] == ([severity] if severity else [])


def test_the_quick_check_is_quick() -> None:
    environment.quick_check()
    times_s = []
    for _ in range(5):
        start = time.perf_counter()
        environment.quick_check()
        times_s.append(time.perf_counter() - start)
    # About 2 ms where nothing else runs; the bound leaves room for a loaded machine.
    assert min(times_s) < 0.02


def test_enforce_raises_for_fatal_problems() -> None:
    fatal = Problem("some-package", "fatal", "it crashes", "install another")
    with pytest.raises(EnvironmentProblem, match=r"some-package: it crashes.*install another"):
        environment.enforce([fatal])


def test_enforce_warns_of_warnings_and_is_silent_about_notes() -> None:
    with pytest.warns(RuntimeWarning, match="it is slow"):
        environment.enforce([Problem("a", "warning", "it is slow", "mend it")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        environment.enforce([Problem("a", "info", "it is so", "nothing")])


def test_the_full_check_covers_every_known_blocker() -> None:
    problems = environment.full_check()
    severity = [problem.severity for problem in problems]
    assert severity == sorted(severity, key=["fatal", "warning", "info"].index)
    # Handled limits that no machine is free of.
    assert {"kernel-workspace", "stack-accumulators", "thread-binding"} <= set(severities(problems))
    assert all(problem.what and problem.fix for problem in problems)


def test_the_pinned_environment_has_no_fatal_problem() -> None:
    if environment.installed("apache-tvm-ffi") != FFI_VERSION:
        pytest.skip(f"apache-tvm-ffi {FFI_VERSION} is not installed here")
    assert "fatal" not in severities(environment.full_check()).values()


def test_facts_of_this_machine_are_plausible() -> None:
    facts = environment_full.probe_facts()
    assert isinstance(facts, Facts)
    assert facts.llvm > 0
    assert facts.threads >= 1
    assert facts.cpu


@pytest.mark.parametrize(
    ("change", "name", "severity"),
    [
        ({"vnni": False}, "cpu-vnni", "warning"),
        ({"llvm": 22}, "llvm-vnni", "info"),
        ({"slow_import": True}, "tensor-intrin-import", "info"),
    ],
)
def test_each_fact_gives_its_problem(
    change: dict[str, bool | int], name: str, severity: str
) -> None:
    fields = {**vars(GOOD_FACTS), **change}
    assert environment_full.judge_facts(GOOD_FACTS) == []
    assert severities(environment_full.judge_facts(Facts(**fields))) == {name: severity}


def test_fewer_threads_than_cpus_by_choice_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVM_NUM_THREADS", "2")
    facts = Facts(**{**vars(GOOD_FACTS), "threads": 2})
    assert severities(environment_full.judge_facts(facts)) == {"threads-used": "info"}


def test_a_save_json_that_crashes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    monkeypatch.setattr(environment_full, "SAVE_JSON_PROBE", crash)
    (problem,) = environment_full.check_save_json()
    assert problem.severity == "fatal"
    assert "save_json" in problem.what
    assert "-11" in problem.what


def test_a_tvm_that_cannot_be_imported_is_fatal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_full, "FACTS_PROBE", "raise ImportError('no libtvm')")
    problem = environment_full.probe_facts()
    assert isinstance(problem, Problem)
    assert problem.severity == "fatal"
    assert "no libtvm" in problem.what


def test_a_probe_that_hangs_is_a_failed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_full, "PROBE_TIMEOUT_S", 0.2)
    done = environment_full.run([sys.executable, "-c", "import time; time.sleep(60)"])
    assert done.returncode != 0
    assert "no answer" in done.stderr


def test_missing_packages_are_named() -> None:
    problems = environment_full.check_packages(("json", "no_such_package_at_all"))
    assert severities(problems) == {"package-no_such_package_at_all": "warning"}


def test_no_compiler_is_fatal() -> None:
    (problem,) = environment_full.check_compiler(None)
    assert problem.severity == "fatal"


def test_a_compiler_that_cannot_link_is_fatal(tmp_path: Path) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho cannot find ld >&2\nexit 1\n")
    broken.chmod(0o755)
    (problem,) = environment_full.check_compiler(str(broken))
    assert "cannot find ld" in problem.what


def test_the_compiler_is_the_one_tvm_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    assert environment_full.find_compiler() == "/no/such/compiler"
    (problem,) = environment_full.check_compiler(environment_full.find_compiler())
    assert "/no/such/compiler" in problem.what


def test_other_platforms_are_a_warning() -> None:
    assert environment_full.check_platform("linux", "x86_64") == []
    assert severities(environment_full.check_platform("darwin", "arm64")) == {"platform": "warning"}
