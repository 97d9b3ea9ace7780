"""What the plugin writes is read and subtracted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from arm import guest
from arm.counting import difference, read_sections, size

from tvm_probq.errors import UsageError


def test_sections_end_at_marks_and_equal_blocks_are_one(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.write_text("mark 0\n400 9 aa bb\nmark 1\n400 2 aa bb\n408 1 cc\n400 3 aa bb\n")
    sections = dict(read_sections(path))
    assert sections[0] == {(0x400, ("aa", "bb")): 9}
    assert sections[1] == {(0x400, ("aa", "bb")): 5, (0x408, ("cc",)): 1}
    assert size(sections[1]) == 11


def test_a_file_without_a_mark_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "counts"
    path.write_text("")
    with pytest.raises(UsageError, match="no mark"):
        dict(read_sections(path))


def test_an_inference_is_the_difference_of_sections(tmp_path: Path) -> None:
    loop, around = (0x400, ("aa", "bb")), (0x500, ("cc",) * 10)
    lines = ["mark 0"]
    for label, calls in enumerate((n for pair in guest.SECTIONS for n in pair), 1):
        lines += [f"mark {label}", f"400 {100 * calls} aa bb", "500 1 " + "cc " * 10]
    path = tmp_path / "counts"
    path.write_text("\n".join(lines) + "\n")
    found = difference(dict(read_sections(path)), "", np.zeros((1, 2)))
    assert found.instructions == 200
    assert found.spread == 0
    assert found.blocks == {loop: 100}
    assert around not in found.blocks
