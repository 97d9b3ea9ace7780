"""The file of measured kernels: what it keeps, and every way to damage it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_kernels import kernel

from tvm_probq.errors import TargetError
from tvm_probq.latency.kernels import COUNTS
from tvm_probq.latency.measured import MeasuredKernels
from tvm_probq.latency.ticked import CallTime


def test_it_comes_back_as_it_was(tmp_path: Path, measured: MeasuredKernels) -> None:
    measured.add("e", "w8a8 static", [kernel(dots=2), kernel(dots=2.5)], [CallTime(1, 1, 1)] * 2)
    path, again = tmp_path / "kernels.json", tmp_path / "again.json"
    measured.save(path)
    found = MeasuredKernels.load(path)
    assert found.by_counts() == measured.by_counts()
    assert found.has("e", "w8a8 static")
    assert not found.has("e", "w8a8 predicted")
    found.save(again)
    assert again.read_bytes() == path.read_bytes()


def test_kernels_of_the_same_work_have_their_median(measured: MeasuredKernels) -> None:
    calls = [kernel(dots=7)] * 3
    measured.add("e", "w8a8 static", calls, [CallTime(us, us, us) for us in (1.0, 2.0, 9.0)])
    assert measured.by_counts()[calls[0].counts] == 2.0


def _damaged(data: dict[str, Any], how: str) -> None:
    if how == "counts":
        data["counts"] = [*COUNTS, "more"]
    elif how == "row":
        data["kernels"][0] = data["kernels"][0][:-1]
    elif how == "index":
        data["networks"]["a"]["w8a8 predicted"][0][0] = 10**6
    else:
        del data[how]


@pytest.mark.parametrize("how", ["format", "networks", "kernels", "counts", "row", "index"])
def test_a_damaged_file_is_refused(tmp_path: Path, measured: MeasuredKernels, how: str) -> None:
    path = tmp_path / "kernels.json"
    measured.save(path)
    data = json.loads(path.read_text())
    _damaged(data, how)
    path.write_text(json.dumps(data))
    with pytest.raises(TargetError, match="measured kernels is damaged"):
        MeasuredKernels.load(path)


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="tvm-probq measure"):
        MeasuredKernels.load(tmp_path / "none.json")
