"""The slow checks of ``tvm-probq doctor``: probes in child processes and a trial link."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tvm_probq.environment import INSTALL_TVM, Problem

PROBE_TIMEOUT_S = 180
TUNING_PACKAGES = ("xgboost", "psutil", "cloudpickle", "tornado")
COMPILERS = ("g++", "gcc", "clang++", "clang", "c++", "cc")

# A child's work: its threads must not pin this process, and the crash cannot be caught.
FACTS_PROBE = """
import json, os, pathlib
cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
import tvm, tvm_ffi
from tvm.target.codegen import llvm_get_system_cpu, llvm_version_major, target_has_features
cpu = llvm_get_system_cpu()
target = tvm.target.Target({"kind": "llvm", "mcpu": cpu})
parser = pathlib.Path(tvm.__file__).parent / "tirx/script/parser/entry.py"
print(json.dumps({
    "llvm": llvm_version_major(),
    "cpu": cpu,
    "vnni": bool(target_has_features("avx512vnni", target)),
    "cpus": cpus,
    "threads": tvm_ffi.get_global_func("runtime.NumThreads")(),
    "slow_import": parser.is_file() and "inspect.stack()" in parser.read_text(),
}))
"""
SAVE_JSON_PROBE = "import tvm; tvm.ir.save_json(tvm.tirx.IntImm('int32', 1))"


@dataclass(frozen=True)
class Facts:
    """What the child process found out about TVM and the CPU."""

    llvm: int
    cpu: str
    vnni: bool
    cpus: int
    threads: int
    slow_import: bool


def check_all() -> list[Problem]:
    """Run every slow check, in the order of a typical failure."""
    problems = check_platform(sys.platform, platform.machine())
    problems += check_packages()
    problems += check_compiler(find_compiler())
    facts = probe_facts()
    if isinstance(facts, Problem):
        return [*problems, facts]
    return problems + check_save_json() + judge_facts(facts) + known_limits()


def check_platform(system: str, machine: str) -> list[Problem]:
    """Judge the operating system and the kind of processor."""
    if system == "linux" and machine in ("x86_64", "AMD64"):
        return []
    what = f"{system} on {machine} was not tested, only Linux on x86-64 was"
    return [Problem("platform", "warning", what, "run the project's tests here first")]


def check_packages(names: tuple[str, ...] = TUNING_PACKAGES) -> list[Problem]:
    """Find missing packages that tuning needs and TVM's wheel does not declare."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return [
        Problem(
            f"package-{name}",
            "warning",
            f"{name} is not installed; MetaSchedule needs it for tuning and remote runs",
            f"pip install {name}",
        )
        for name in missing
    ]


def find_compiler() -> str | None:
    """Give the C++ compiler that TVM would take: ``CXX``, ``CC``, or the first on the path."""
    chosen = os.environ.get("CXX") or os.environ.get("CC")
    if chosen:
        return shutil.which(chosen) or chosen
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


def check_compiler(compiler: str | None) -> list[Problem]:
    """Link a trivial shared library, as the export of a compiled model does."""
    fix = "install g++ and binutils (Debian: apt install g++), or set CXX to a compiler's path"
    if compiler is None:
        what = "no C++ compiler was found, so that no compiled model can be linked or tuned"
        return [Problem("cxx-compiler", "fatal", what, fix)]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cc")
        source.write_text('extern "C" int probe() { return 1; }\n', encoding="utf-8")
        library = source.with_suffix(".so")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source)]
        done = run(command)
        if done.returncode == 0 and library.is_file():
            return []
    what = f"{compiler} cannot link a shared library ({last_line(done.stderr)})"
    return [Problem("cxx-compiler", "fatal", what, fix)]


def check_save_json() -> list[Problem]:
    """Call ``save_json`` in a child: in some versions of apache-tvm-ffi it is a segfault."""
    done = run([sys.executable, "-P", "-c", SAVE_JSON_PROBE])
    if done.returncode == 0:
        return []
    what = (
        f"tvm.ir.save_json fails (exit status {done.returncode}), so that tensorized kernels, "
        "tuning and its database fail too"
    )
    return [Problem("save-json", "fatal", what, INSTALL_TVM)]


def probe_facts() -> Facts | Problem:
    """Ask a child process about TVM; a fatal problem if TVM cannot even be imported."""
    done = run([sys.executable, "-P", "-c", FACTS_PROBE])
    try:
        return Facts(**json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, TypeError, json.JSONDecodeError):
        what = f"TVM cannot be imported and asked ({last_line(done.stderr)})"
        return Problem("tvm-import", "fatal", what, INSTALL_TVM)


def judge_facts(facts: Facts) -> list[Problem]:
    """Turn the facts into problems."""
    problems = []
    if not facts.vnni:
        what = f"this CPU ({facts.cpu}) has no AVX512-VNNI: int8 kernels take a slower path here"
        fix = "none needed for correct results; measure speed on a CPU that has it"
        problems.append(Problem("cpu-vnni", "warning", what, fix))
    if facts.threads < facts.cpus and "TVM_NUM_THREADS" in os.environ:
        what = f"TVM uses {facts.threads} of {facts.cpus} CPUs, as TVM_NUM_THREADS asks"
        problems.append(Problem("threads-used", "info", what, f"or set it to {facts.cpus}"))
    if facts.llvm >= 22:
        what = (
            f"LLVM {facts.llvm} rejects TVM's built-in dot_16x4_vnni intrinsic, and tuning then "
            "drops every VNNI candidate in silence"
        )
        fix = "nothing here: the plugin registers its own; in your own schedules use that one"
        problems.append(Problem("llvm-vnni", "info", what, fix))
    if facts.slow_import:
        what = (
            "importing tvm.s_tir.tensor_intrin takes 20 seconds and more, also in every tuning "
            "worker, inside its time-out"
        )
        fix = "nothing here: the plugin avoids it; in your own tuning, warm the workers up first"
        problems.append(Problem("tensor-intrin-import", "info", what, fix))
    return problems


def known_limits() -> list[Problem]:
    """Limits of TVM that no probe can see, each handled by the plugin."""
    return [
        Problem(
            "kernel-workspace",
            "info",
            "a tuned or default-scheduled fused kernel may hold a full-size int32 tensor",
            "nothing here: the plugin checks each kernel's workspace; `tvm-probq inspect` shows it",
        ),
        Problem(
            "stack-accumulators",
            "info",
            "a local buffer of 1024 bytes or more is put on the heap, 1.1 to 1.5 times slower",
            "nothing here: the plugin's tiles use at most 15 accumulator registers of 64 bytes",
        ),
        Problem(
            "thread-binding",
            "info",
            "TVM's thread pool may pin the calling thread, so that what runs later in the same "
            "process sees fewer CPUs",
            "set TVM_BIND_THREADS=0 to compare runtimes in one process or on a loaded machine",
        ),
    ]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a probe to its end; one that cannot start or hangs is a failed one."""
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        message = f"no answer within {PROBE_TIMEOUT_S} s"
        return subprocess.CompletedProcess(command, -1, "", message)
    except OSError as error:
        return subprocess.CompletedProcess(command, -1, "", str(error))


def last_line(text: str) -> str:
    """Give the last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
