"""Plain-text tables."""

from __future__ import annotations

import pytest

from tvm_probq.report.tables import cell_text, table

EXPECTED = """\
name   bytes  share  good
----  ------  -----  ----
a     12 345    0.5  yes
long       7      -  no"""


def test_numbers_stand_right_and_text_left() -> None:
    rows = [["a", 12345, 0.5, True], ["long", 7, None, False]]
    # A truth value is no number, though Python says so.
    assert table(["name", "bytes", "share", "good"], rows).splitlines() == [
        line.rstrip() for line in EXPECTED.splitlines()
    ]


def test_an_empty_table_has_its_head() -> None:
    assert table(["a", "bc"], []) == "a  bc\n-  --"


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (1234567, "1 234 567"),
        (0.12345, "0.1235"),
        ("x", "x"),
    ],
)
def test_texts_of_cells(cell: str | float | None, text: str) -> None:
    assert cell_text(cell) == text
