"""Checks of the environment: a fast one at import, the full one for ``tvm-probq doctor``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from tvm_probq.errors import EnvironmentProblem

TVM_VERSION = "0.27.0.post1"
FFI_VERSION = "0.1.14.post0"
GOOD_FFI_VERSIONS = (FFI_VERSION, "0.1.14.post1")
INSTALL_TVM = f"pip install apache-tvm=={TVM_VERSION} apache-tvm-ffi=={FFI_VERSION}"

Severity = Literal["fatal", "warning", "info"]


@dataclass(frozen=True)
class Problem:
    """One finding about the machine or its packages.

    Attributes
    ----------
    name : str
        Short stable identifier, such as ``"apache-tvm-ffi"``.
    severity : {"fatal", "warning", "info"}
        ``fatal``: the plugin cannot work. ``warning``: it works, but worse than it could.
        ``info``: a limit of TVM that the plugin handles, worth knowing in code of one's own.
    what : str
        What was found.
    fix : str
        What to do about it.
    """

    name: str
    severity: Severity
    what: str
    fix: str

    def __str__(self) -> str:
        """Give one line: severity, name, what, and what to do."""
        return f"{self.severity}: {self.name}: {self.what}. What to do: {self.fix}"


def quick_check() -> list[Problem]:
    """Compare installed versions and settings; no child process, a few milliseconds.

    Returns
    -------
    list of Problem
        Empty where everything is as it should be.
    """
    problems = check_versions(installed("apache-tvm"), installed("apache-tvm-ffi"))
    return problems + check_thread_setting(os.environ, available_cpus())


def full_check() -> list[Problem]:
    """Check everything that is known to go wrong; takes seconds, as it starts child processes.

    Returns
    -------
    list of Problem
        Fatal ones first, then warnings, then notes.
    """
    # Imported here, so that importing the package does not pay for it.
    from tvm_probq import environment_full

    problems = quick_check() + environment_full.check_all()
    order: tuple[Severity, ...] = ("fatal", "warning", "info")
    return sorted(problems, key=lambda problem: order.index(problem.severity))


def enforce(problems: list[Problem]) -> None:
    """Warn of each warning, and raise if there is a fatal problem.

    Raises
    ------
    EnvironmentProblem
        For the first fatal problem.
    """
    for problem in problems:
        if problem.severity == "fatal":
            raise EnvironmentProblem(problem.what, where=problem.name, fix=problem.fix)
        if problem.severity == "warning":
            warnings.warn(str(problem), RuntimeWarning, stacklevel=3)


def installed(package: str) -> str | None:
    """Give the version of an installed distribution, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def available_cpus() -> int:
    """Count the CPUs this process may use; read it before TVM's threads pin the process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_versions(tvm: str | None, ffi: str | None) -> list[Problem]:
    """Judge the versions of ``apache-tvm`` and ``apache-tvm-ffi`` (None: not installed)."""
    problems = []
    if tvm is None:
        problems.append(Problem("apache-tvm", "fatal", "TVM is not installed", INSTALL_TVM))
    elif tvm != TVM_VERSION:
        what = f"version {tvm} is installed, but only {TVM_VERSION} was tested"
        problems.append(Problem("apache-tvm", "warning", what, INSTALL_TVM))
    if ffi is None:
        what = "TVM's foreign-function interface is not installed"
        problems.append(Problem("apache-tvm-ffi", "fatal", what, INSTALL_TVM))
    elif ffi == "0.1.15" or ffi.startswith("0.1.15."):
        what = f"version {ffi} crashes in save_json, which every tuned or tensorized kernel needs"
        problems.append(Problem("apache-tvm-ffi", "fatal", what, INSTALL_TVM))
    elif ffi not in GOOD_FFI_VERSIONS:
        what = f"version {ffi} is installed, but only {' and '.join(GOOD_FFI_VERSIONS)} were tested"
        problems.append(Problem("apache-tvm-ffi", "warning", what, INSTALL_TVM))
    return problems


def check_thread_setting(environ: Mapping[str, str], cpus: int) -> list[Problem]:
    """Judge ``TVM_NUM_THREADS``: a bad value, or none where TVM would leave CPUs idle."""
    value = environ.get("TVM_NUM_THREADS")
    if value is None:
        if cpus < 2:
            return []
        what = (
            f"TVM_NUM_THREADS is not set, and TVM takes half of the CPUs it sees ({cpus} "
            "available), as it assumes two hardware threads a core"
        )
        fix = f"to use every CPU, set TVM_NUM_THREADS={cpus} before Python starts"
        return [Problem("threads", "info", what, fix)]
    if value.isascii() and value.isdigit() and int(value) > 0:
        return []
    what = f"TVM_NUM_THREADS is {value!r}, which is no positive whole number"
    return [Problem("threads", "warning", what, f"set it to 1 to {cpus}, or unset it")]
