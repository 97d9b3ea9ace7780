"""The plugin counts exactly: a program whose instructions are known."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from arm.board import CPUS, QEMU, SOURCE, open_board
from arm.counting import read_sections
from arm.guest import MARK

from tvm_probq.errors import UsageError

TOOLS = ("aarch64-linux-gnu-gcc", QEMU, "cc")
LOOPS = 12_345
PROGRAM = f"""
#include <sys/resource.h>
static void mark(int label) {{ getpriority({MARK:#x}, label); }}
int main(void) {{
    for (int label = 0; label < 3; label++) {{
        long n = label * {LOOPS}L + 1;
        __asm__ volatile("1: subs %0, %0, #1\\n\\tb.ne 1b" : "+r"(n) :: "cc");
        mark(label);
    }}
    return 0;
}}
"""
LOOP = ("f1000400", "54ffffe1")  # with x0; the register is the compiler's choice


@pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)} (Debian's qemu-user)"
)
def test_every_round_of_a_loop_is_counted(tmp_path: Path) -> None:
    source, program, plugin = (tmp_path / name for name in ("main.c", "main", "plugin.so"))
    source.write_text(PROGRAM)
    subprocess.run([TOOLS[0], "-O2", "-static", source, "-o", program], check=True)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", plugin, SOURCE], check=True)
    counts = tmp_path / "counts"
    command = [QEMU, "-plugin", f"{plugin},out={counts}", program]
    subprocess.run(command, check=True, timeout=60)
    rounds = {}
    for label, blocks in read_sections(counts):
        found = [runs for (_, words), runs in blocks.items() if words[-1] == LOOP[-1]]
        rounds[label] = sum(found)
    assert rounds == {label: label * LOOPS + 1 for label in range(3)}


def test_a_folder_without_a_board_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no board"):
        open_board(tmp_path, tmp_path)


def test_a_processor_is_shown_as_linux_shows_it() -> None:
    lines = CPUS["cortex-a76"].information.splitlines()
    assert "CPU part\t: 0xd0b" in lines
    assert any("asimddp" in line for line in lines)
    assert "asimddp" not in CPUS["cortex-a72"].information
