"""The number of threads, which TVM takes from the environment when it starts its own."""

from __future__ import annotations

import os
import sys

from tvm_probq.environment import available_cpus
from tvm_probq.errors import EnvironmentProblem, UsageError

TVM = "tvm"
# NumPy's threads must not disturb anything either.
OTHERS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def use_threads(threads: int) -> int:
    """Let TVM use so many threads and pin none; call it before TVM is imported.

    TVM's pool pins the calling thread where it is not told otherwise, and every other runtime in
    the process would inherit that.

    Parameters
    ----------
    threads : int
        At most as many as there are CPUs.

    Returns
    -------
    int
        CPUs this process may use.

    Raises
    ------
    UsageError
        If there are fewer CPUs.
    EnvironmentProblem
        If TVM is imported already, with other settings.
    """
    cpus = available_cpus()
    if threads > cpus:
        raise UsageError(
            f"{threads} threads are asked for",
            where="--threads",
            why=f"this process may use {cpus} CPUs",
            fix=f"ask for at most {cpus}",
        )
    wanted = {"TVM_NUM_THREADS": str(threads), "TVM_BIND_THREADS": "0"}
    settings = {name: os.environ.get(name) for name in wanted}
    if TVM in sys.modules and settings != wanted:
        texts = [f"{name} {value or 'unset'}" for name, value in settings.items()]
        raise EnvironmentProblem(
            "TVM is imported already, and its number of threads can no longer be set",
            where="the number of threads",
            why=f"it was imported with {' and '.join(texts)}",
            fix="run the command as a program, or set "
            + " and ".join(f"{name}={value}" for name, value in wanted.items())
            + " before Python starts",
        )
    os.environ.update(wanted)
    for name in OTHERS:
        os.environ.setdefault(name, "1")
    return cpus
