"""The record is one readable file; damaged and foreign ones are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvm_probq.calibration.histogram import BINS, Histogram, bin_counts
from tvm_probq.calibration.losses import IntervalLosses, tails
from tvm_probq.calibration.record import CalibrationRecord, TensorRecord
from tvm_probq.errors import CalibrationError
from tvm_probq.quantization.feedback import InputSpread
from tvm_probq.simulator.numerics import Activation

FINITE = st.floats(-(2.0**99), 2.0**99, width=32)


def filled() -> CalibrationRecord:
    """A record with every kind of content."""
    rng = np.random.default_rng(0)
    tensor = TensorRecord(basis=rng.normal(size=(5, 2)).astype(np.float32), correlation=0.25)
    tensor.factor = rng.uniform(1, 16, 4)
    tensor.spread = InputSpread.of(np.cov(rng.normal(size=(5, 20))))
    tensor.mean, tensor.extremes = rng.normal(size=5), rng.normal(size=2)
    values = np.sort(rng.normal(size=100).astype(np.float32))
    tensor.histogram.update(values)
    tensor.losses["moments"] = IntervalLosses()
    tensor.losses["moments"].update(tails(values), 0.1, 0.9, Activation())
    return CalibrationRecord(
        "a" * 64, "b" * 64, 3, 2, {"conv/1 \u00e9": tensor, "x": TensorRecord()}
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    filled().save(path)
    first = path.read_bytes()
    CalibrationRecord.load(path).save(path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_floats_are_exact(tmp_path: Path) -> None:
    filled().save(tmp_path / "record.json")
    before, after = filled(), CalibrationRecord.load(tmp_path / "record.json")
    for name, tensor in before.tensors.items():
        other = after.tensor(name)
        assert np.array_equal(tensor.mean, other.mean)
        assert np.array_equal(tensor.extremes, other.extremes)
        assert np.array_equal(tensor.factor, other.factor)
        assert (tensor.spread is None) == (other.spread is None)
        assert (tensor.basis is None) == (other.basis is None)
        assert tensor.basis is None or np.array_equal(tensor.basis, other.basis)  # type: ignore[arg-type]
        assert np.array_equal(tensor.histogram.counts, other.histogram.counts)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot be read.*tvm-probq calibrate"):
        CalibrationRecord.load(tmp_path / "none.json")


def edit(data: Any, *path: str, value: Any = None) -> None:
    """Replace one value deep inside a record."""
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = value


EDITS: dict[str, tuple[str, ...]] = {
    "no_tensors": ("tensors",), "no_samples": ("samples",),
    "no_histogram": ("tensors", "x", "histogram"), "no_losses": ("tensors", "x", "losses"),
}  # fmt: skip


@pytest.mark.parametrize("what", EDITS)
def test_an_edited_file(what: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    filled().save(path)
    data = json.loads(path.read_text())
    edit(data, *EDITS[what])
    path.write_text(json.dumps(data))
    with pytest.raises(CalibrationError, match="damaged") as caught:
        CalibrationRecord.load(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", "3", '"text"', "\udcff"])
def test_a_file_that_is_no_record(content: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CalibrationError, match=r"damaged.*calibrate again"):
        CalibrationRecord.load(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    filled().save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CalibrationError, match="damaged"):
        CalibrationRecord.load(path)


def test_another_format(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    filled().save(path)
    path.write_text(path.read_text().replace('"format": 3', '"format": 99'))
    with pytest.raises(CalibrationError, match="format 99, this version reads format 3"):
        CalibrationRecord.load(path)


def test_a_tensor_of_another_model() -> None:
    with pytest.raises(CalibrationError, match=r"no tensor 'other'.*another model"):
        filled().tensor("other")


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"cannot be written.*missing does not exist"):
        filled().save(tmp_path / "missing" / "record.json")


@given(
    st.lists(hnp.arrays(np.float32, st.integers(1, 30), elements=FINITE), min_size=1, max_size=6)
)
def test_a_histogram_counts_everything(chunks: list[Any]) -> None:
    histogram = Histogram()
    for chunk in chunks:
        histogram.update(np.sort(chunk))
    everything = np.concatenate(chunks)
    assert histogram.counts.sum() == everything.size
    assert histogram.counts.shape == (BINS,)
    assert histogram.low == min(0.0, everything.min())
    assert histogram.high == max(0.0, everything.max())
    assert histogram.width >= np.abs(everything).max()
    text = json.dumps(histogram.to_json())
    assert json.dumps(Histogram.from_json(json.loads(text)).to_json()) == text


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-8, 8, width=32)))
def test_bins_hold_what_numpy_counts(values: Any) -> None:
    counts, edges = bin_counts(np.sort(values), -8.0, 8.0, 32)
    expected, where = np.histogram(values, 32, (-8.0, 8.0))
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(edges, where)


@given(hnp.arrays(np.float32, 40, elements=st.floats(-4, 4, width=32)), st.permutations(range(4)))
def test_a_histogram_does_not_depend_on_the_order(values: Any, order: list[int]) -> None:
    straight, mixed = Histogram(), Histogram()
    chunks = np.sort(values.reshape(4, 10))
    for index in range(4):
        straight.update(chunks[index])
        mixed.update(chunks[order[index]])
    if np.abs(values).max() > 0:
        assert straight.width >= mixed.width / 2
    assert straight.counts.sum() == mixed.counts.sum()
    assert (straight.low, straight.high) == (mixed.low, mixed.high)
