"""The emulated board as a place to count: qemu-user with the plugin, and a CPU that is believed.

An engine that picks its kernels by the CPU's name reads ``/proc/cpuinfo`` and ``/sys``, where
qemu-user shows those of the host. A prefix folder for qemu's ``-L`` holds those of the board.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvm_probq.errors import UsageError

SOURCE = Path(__file__).with_name("count_blocks.c")
QEMU = "qemu-aarch64"
PYTHON = "sysroot/usr/bin/python3"
DEADLINE_S = 1800


@dataclass(frozen=True)
class Cpu:
    """An emulated processor.

    Attributes
    ----------
    name : str
        In the table.
    emulator : str
        qemu's ``-cpu``.
    profile : str
        Our target profile for it.
    part, variant, revision : str
        Of ARM's identification register, as ``/proc/cpuinfo`` shows them.
    features : str
        Linux's names.
    """

    name: str
    emulator: str
    profile: str
    part: str
    variant: str
    revision: str
    features: str

    @property
    def information(self) -> str:
        """The text of ``/proc/cpuinfo``."""
        return (
            f"processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: {self.features}\n"
            f"CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: {self.variant}\n"
            f"CPU part\t: {self.part}\nCPU revision\t: {self.revision}\n\n"
        )


_A72 = "fp asimd evtstrm crc32 cpuid"
_A76 = (
    "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop "
    "asimddp"
)
_V1 = f"{_A76} jscvt fcma dcpodp sha3 sm3 sm4 sha512 asimdfhm dit uscat ilrcpc flagm i8mm bf16"
CPUS = {
    cpu.name: cpu
    for cpu in (
        Cpu("cortex-a72", "cortex-a72", "arm-a72", "0xd08", "0x0", "3", _A72),
        Cpu("cortex-a76", "cortex-a76", "arm-a76", "0xd0b", "0x4", "1", _A76),
        # Neoverse V1 has no SME, which `max` has, and qemu 7.2 no Neoverse V1.
        Cpu("i8mm", "max,sme=off", "arm-v1", "0xd40", "0x1", "1", _V1),
        Cpu("max", "max", "arm-v1", "0xd40", "0x1", "1", _V1),
    )
}
TOPOLOGY = {
    "physical_package_id": "0", "core_id": "0", "cluster_cpus_list": "0", "core_cpus": "1",
    "core_siblings": "1", "core_siblings_list": "0", "package_cpus": "1", "thread_siblings": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Board:
    """A folder made by ``make board``, and a folder for files of ours.

    Attributes
    ----------
    folder, work : Path
        Absolute.
    packages : tuple of Path
        Further folders on the board's Python path.
    """

    folder: Path
    work: Path
    packages: tuple[Path, ...] = ()

    @property
    def python(self) -> str:
        """The version of its Python, such as 3.11."""
        return (self.folder / PYTHON).resolve().name.removeprefix("python")

    def run(self, cpu: Cpu, arguments: Sequence[str], counts: Path | None) -> str:
        """Run the board's Python with the plugin, which writes to `counts`.

        Returns
        -------
        str
            What it said.

        Raises
        ------
        UsageError
            If it fails; with its last words.
        """
        system = self.folder / "sysroot"
        plugin = [] if counts is None else ["-plugin", f"{self.plugin()},out={counts}"]
        command = [
            _tool(QEMU, "qemu-user"), *plugin, "-cpu", cpu.emulator, "-L", str(self._prefix(cpu)),
            str(self.folder / PYTHON), *arguments,
        ]  # fmt: skip
        paths = [str(path) for path in (self.folder / "site", *self.packages)]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONHOME": str(system / "usr"),
            "PYTHONPATH": ":".join(paths),
            "PYTHONNOUSERSITE": "1",
            "TVM_USE_RUNTIME_LIB": "1",
            "TVM_NUM_THREADS": "1",
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
        )
        if done.returncode:
            words = " ".join(done.stderr.split())[-600:]
            raise UsageError(f"the board's Python failed on {cpu.name}", why=words)
        return done.stdout + done.stderr

    def plugin(self) -> Path:
        """The plugin, compiled once."""
        library = self.work / "count_blocks.so"
        if not library.is_file() or library.stat().st_mtime < SOURCE.stat().st_mtime:
            self.work.mkdir(parents=True, exist_ok=True)
            command = [_tool("cc", "gcc"), "-shared", "-fPIC", "-O2", "-o", str(library)]
            subprocess.run([*command, str(SOURCE)], check=True)
        return library

    def _prefix(self, cpu: Cpu) -> Path:
        """The sysroot, with the CPU's own ``/proc/cpuinfo`` and ``/sys``."""
        folder = self.work / f"prefix-{cpu.name}"
        system = self.folder / "sysroot"
        cpus = folder / "sys/devices/system/cpu"
        files = {folder / "proc/cpuinfo": cpu.information, cpus / "kernel_max": "255\n"}
        files |= {cpus / name: "0\n" for name in ("possible", "present", "online")}
        files |= {cpus / "cpu0/topology" / name: f"{text}\n" for name, text in TOPOLOGY.items()}
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for item in system.iterdir():
            link = folder / item.name
            if item.name not in ("proc", "sys") and not link.is_symlink():
                link.symlink_to(item)
        return folder


def open_board(folder: Path, work: Path) -> Board:
    """The board in a folder.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not (folder / PYTHON).exists():
        raise UsageError(f"{folder} holds no board", fix="make one with `make board`")
    return Board(folder.resolve(), work.resolve())


def _tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise UsageError(f"{name} is not installed", fix=f"apt-get install {package}")
    return path
