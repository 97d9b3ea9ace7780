"""Blocks of equal count, names of instructions, and places in files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from arm.counting import Count
from arm.profiling import Symbols, basic_blocks, by_mnemonic, disassemble, most, report

NOP, RET, SDOT = "d503201f", "d65f03c0", "4e829420"  # sdot v0.4s, v1.16b, v2.16b

objdump = pytest.mark.skipif(
    shutil.which("aarch64-linux-gnu-objdump") is None, reason="needs binutils-aarch64-linux-gnu"
)


def counted(blocks: dict[tuple[int, tuple[str, ...]], float]) -> Count:
    total = sum(runs * len(words) for (_, words), runs in blocks.items())
    return Count(total, 0.0, blocks, "", np.zeros((1, 1)))


def test_overlapping_blocks_become_runs_of_equal_count() -> None:
    # A loop whose first round enters from above: qemu has one block for that and one for the rest.
    found = counted({(0x100, (NOP, SDOT, SDOT)): 1, (0x104, (SDOT, SDOT)): 9, (0x200, (RET,)): 1})
    assert basic_blocks(found) == [
        (0x100, (NOP,), 1), (0x104, (SDOT, SDOT), 10), (0x200, (RET,), 1),
    ]  # fmt: skip


def test_the_largest_come_first() -> None:
    assert most({"a": 1, "b": 3, "c": 2}, 2) == [("b", 3), ("c", 2)]


def test_an_address_of_no_file_has_no_name() -> None:
    place = Symbols("5500000000-5500001000 r-xp 00000000 00:00 0\n").place(0x5500000010)
    assert (place.file, place.function) == ("", "?")


@objdump
def test_instructions_have_names() -> None:
    assert disassemble([NOP, RET, SDOT]) == ["nop", "ret", "sdot v0.4s, v1.16b, v2.16b"]
    assert disassemble([]) == []
    found = counted({(0x100, (NOP, SDOT)): 2, (0x200, (SDOT, RET)): 3})
    assert by_mnemonic(found) == {"nop": 2, "sdot": 5, "ret": 3}


@objdump
def test_the_report_shows_the_block_with_most_instructions() -> None:
    found = counted({(0x100, (NOP, SDOT)): 20, (0x200, (RET,)): 3})
    text = "\n".join(report(found, functions=5, blocks=1))
    assert "43 instructions an inference" in text
    assert "2 instructions 20 times, 40, 93.02%" in text
    assert "    sdot v0.4s" in text
    assert "    ret" not in text
