"""Peak resident memory of one inference, each contestant in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.errors import EnvironmentProblem

OURS, PEER = "tvm", "onnxruntime"
RUNS = 3
LIMIT_S = 300
STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"  # see proc(5)
KIB = 1024


def memory_of(kind: str, model: Path, x: NDArray[Any], threads: int) -> dict[str, int]:
    """Measure one model in a process of its own.

    Parameters
    ----------
    kind : str
        ``tvm`` for a library of ours, ``onnxruntime`` for an ONNX file.
    model : Path
        The file.
    x : ndarray
        The only input.
    threads : int
        For work within an operator.

    Returns
    -------
    dict
        ``before_bytes``, resident once the runtime is imported and the input is there;
        ``peak_bytes``, the most from then on, while the model is loaded and run;
        ``after_bytes``, what is still resident after the runs; ``growth_bytes``, peak less before:
        what loading and running the model take.

    Raises
    ------
    EnvironmentProblem
        If the process fails.
    """
    with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
        np.save(Path(folder, "x.npy"), x)
        command = [sys.executable, "-m", __name__, kind, str(model), folder, str(threads)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise _cannot(model, f"the process took more than {LIMIT_S} s") from None
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise _cannot(model, lines[-1] if lines else f"exit status {done.returncode}")
    before, peak, after = json.loads(done.stdout.splitlines()[-1])
    return {
        "before_bytes": before, "peak_bytes": peak, "after_bytes": after,
        "growth_bytes": peak - before,
    }  # fmt: skip


def _cannot(model: Path, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"the memory of {model} cannot be measured",
        where="bench --memory",
        why=why,
        fix="see that there is enough memory for a second process",
    )


def save_library(library: bytes, folder: Path) -> Path:
    """Write a shared library to where a second process can load it."""
    path = folder / "library.so"
    path.write_bytes(library)
    return path


def measure_here(kind: str, model: Path, x: NDArray[Any], threads: int) -> tuple[int, int, int]:
    """Load and run a model in this process: resident bytes before, the most, and after it."""
    if kind == OURS:
        import tvm
        from tvm import relax

        before = _start()
        machine = relax.VirtualMachine(tvm.runtime.load_module(str(model)), tvm.cpu())
        main, tensor = machine["main"], tvm.runtime.tensor(x)
        for _ in range(RUNS):
            main(tensor)
    else:
        import onnxruntime as ort

        from tvm_probq.bench.peers.ort import caller

        ort.set_default_logger_severity(3)
        before = _start()
        call = caller(model, x, threads)
        for _ in range(RUNS):
            call()
    return before, _status("VmHWM"), _status("VmRSS")


def _start() -> int:
    """Forget the peak so far and give what is resident now."""
    CLEAR.write_text(RESET_PEAK, encoding="ascii")
    return _status("VmRSS")


def _status(field: str) -> int:
    for line in STATUS.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key == field:
            return int(value.split()[0]) * KIB
    raise EnvironmentProblem(
        f"the system does not tell {field}", where=str(STATUS), fix="measure on Linux"
    )


def main() -> None:
    """Measure what the arguments name and print three numbers."""
    kind, model, folder, threads = sys.argv[1:]
    from tvm_probq.bench.threads import use_threads

    use_threads(int(threads))
    x = np.load(Path(folder, "x.npy"), allow_pickle=False)
    print(json.dumps(measure_here(kind, Path(model), x, int(threads))))


if __name__ == "__main__":
    main()
