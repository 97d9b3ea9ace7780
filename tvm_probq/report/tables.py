"""Plain-text tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

Cell = str | int | float | bool | None


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """Lay out a table in aligned columns.

    Parameters
    ----------
    headers : sequence of str
        Titles of the columns.
    rows : sequence of sequences
        As many cells as headers; numbers are aligned at the right, None is a dash.

    Returns
    -------
    str
        Lines without spaces at their ends, no newline after the last.
    """
    texts = [[cell_text(cell) for cell in row] for row in rows]
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(headers))]
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    lines = [list(headers), ["-" * width for width in widths], *texts]
    return "\n".join(_line(line, widths, right) for line in lines)


def cell_text(cell: Cell) -> str:
    """Give a cell's text."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}".replace(",", " ")
    return f"{cell:.4g}" if isinstance(cell, float) else cell


def _is_numeric(cells: Sequence[Cell]) -> bool:
    # A bool is an int to Python, but not to a reader.
    kinds = {type(cell) for cell in cells if cell is not None}
    return bool(kinds) and kinds <= {int, float}


def _line(texts: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    cells = zip(texts, widths, right, strict=True)
    return "  ".join(t.rjust(w) if r else t.ljust(w) for t, w, r in cells).rstrip()
