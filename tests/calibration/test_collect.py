"""Calibration streams, is deterministic, and continues where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.calibration.collect import SAVE_EVERY, WARM_UP_SAMPLES, Collector, collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import CalibrationError
from tvm_probq.frontend.onnx import load_model

SHAPE = (1, 3, 6, 6)


def samples(count: int) -> list[Any]:
    """Deterministic model inputs; a longer list begins with a shorter one."""
    rng = np.random.default_rng(11)
    return [rng.normal(size=SHAPE).astype(np.float32) for _ in range(count)]


def fresh() -> CalibrationRecord:
    """An empty record."""
    return CalibrationRecord("model", "data")


def text(record: CalibrationRecord, folder: Path) -> str:
    """A record as it is written."""
    record.save(folder / "record.json")
    return (folder / "record.json").read_text()


@pytest.fixture(scope="module")
def mod(onnx_net: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A residual block with a wide layer, so that bases and correlations are fitted."""
    net = onnx_net(3, 6, 6)
    stem = net("Relu", net.conv("x", 3, 56))
    x = net("Relu", net("Add", net.conv(stem, 56, 56), stem))
    net.gemm(net("Flatten", net("GlobalAveragePool", x)), 56, 4)
    return load_model(net.save(tmp_path_factory.mktemp("net"))).mod


def test_the_record_knows_every_tensor(mod: Any) -> None:
    record = collect(mod, samples(4), fresh())
    assert list(record.tensors) == ["x", "Conv_0", "Conv_2", "pool", "Gemm_7"]
    assert record.samples == 4
    block = record.tensor("Conv_2")
    assert block.basis is not None
    assert block.basis.shape[0] == 56
    assert 0 < block.correlation < 1
    assert set(block.losses) == {"moments", "iid"}
    assert block.losses["moments"].samples == 4
    assert record.tensor("Conv_0").basis is None


def test_the_record_does_not_grow_with_the_samples(mod: Any, tmp_path: Path) -> None:
    def sizes(value: Any) -> Any:
        if isinstance(value, dict):
            # Counts at both ends of a histogram are left out: their number is no memory.
            return {k: sizes(v) for k, v in value.items() if k not in ("counts", "first", "basis")}
        return [sizes(v) for v in value] if isinstance(value, list) else type(value)

    few, many = (json.loads(text(collect(mod, samples(n), fresh()), tmp_path)) for n in (4, 40))
    assert sizes(few) == sizes(many)


def test_samples_are_read_one_by_one(mod: Any) -> None:
    alive = [0, 0]

    class Watched(np.ndarray):
        def __del__(self) -> None:
            alive[0] -= 1

    def stream() -> Iterator[Any]:
        for x in samples(WARM_UP_SAMPLES + 30):
            view = x.view(Watched)
            alive[0] += 1
            alive[1] = max(alive)
            yield np.asarray(view)
            del view

    record = collect(mod, stream(), fresh())
    assert record.samples == WARM_UP_SAMPLES + 30
    assert alive[1] <= WARM_UP_SAMPLES + 3


def test_the_same_samples_give_the_same_record(mod: Any, tmp_path: Path) -> None:
    first, second = (text(collect(mod, samples(5), fresh()), tmp_path) for _ in range(2))
    assert first == second


class InterruptionError(Exception):
    """Stands for Ctrl-C."""


def interrupted(count: int) -> Iterator[Any]:
    """Samples that end with an interruption."""
    yield from samples(count)
    raise InterruptionError


def test_an_interrupted_run_continues(mod: Any, tmp_path: Path) -> None:
    path = tmp_path / "part.json"
    count = WARM_UP_SAMPLES + 26
    with pytest.raises(InterruptionError):
        collect(mod, interrupted(count - 7), fresh(), path)
    part = CalibrationRecord.load(path)
    assert part.samples == (count - 7) // SAVE_EVERY * SAVE_EVERY
    continued = text(collect(mod, samples(count), part, path), tmp_path)
    assert continued == text(collect(mod, samples(count), fresh()), tmp_path)


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_run_continues_after_any_sample(after: int, mod: Any, tmp_path: Path) -> None:
    record = fresh()
    collector = Collector(mod, record)
    collector.warm_up(samples(6))
    for index, x in enumerate(samples(after)):
        collector.add(x, index)
    path = tmp_path / "part.json"
    record.save(path)
    continued = collect(mod, samples(6), CalibrationRecord.load(path))
    assert text(continued, tmp_path) == text(collect(mod, samples(6), fresh()), tmp_path)


def test_an_interruption_before_the_first_save_leaves_nothing(mod: Any, tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(InterruptionError):
        collect(mod, interrupted(5), fresh(), path)
    assert list(tmp_path.iterdir()) == []


def test_a_finished_record_is_left_as_it_is(mod: Any, tmp_path: Path) -> None:
    record = collect(mod, samples(4), fresh())
    before = text(record, tmp_path)
    assert text(collect(mod, samples(4), record), tmp_path) == before


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples(count: int, mod: Any, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    with pytest.raises(CalibrationError, match=rf"{count} calibration samples.*at least 2"):
        collect(mod, samples(count), fresh(), path)
    assert not path.exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [2, WARM_UP_SAMPLES + 3])
def test_a_sample_that_is_not_finite(value: float, index: int, mod: Any) -> None:
    data = samples(index + 1)
    data[index][0, 1, 2, 3] = value
    with pytest.raises(CalibrationError, match=rf"sample {index}, 1 of 108 values.*NaN"):
        collect(mod, data, fresh())


def test_a_layer_that_overflows(mod: Any) -> None:
    data = [np.sign(x) * np.float32(3e38) for x in samples(3)]
    with pytest.raises(CalibrationError, match=r"Conv_0 gives NaN or infinity"):
        collect(mod, data, fresh())


@pytest.mark.parametrize("value", [0.0, 1000.0, -1e-6])
def test_constant_samples(value: float, mod: Any) -> None:
    record = collect(mod, [np.full(SHAPE, value, np.float32)] * 3, fresh())
    assert record.samples == 3


def test_constant_channels(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 6, 6)
    weights = net.draw(8, 3, 3, 3)
    weights[::2] = 0
    bias = np.where(np.arange(8) % 2, 0, 1000).astype(np.float32)
    net("Conv", net("Conv", "x", weights * 0, bias), net.draw(4, 8, 3, 3))
    record = collect(load_model(net.save(tmp_path)).mod, samples(3), fresh())
    assert record.tensor("Conv_0").histogram.high == 1000


def test_a_batch_is_as_its_samples(onnx_net: Any, tmp_path: Path) -> None:
    net = onnx_net(3, 6, 6)
    stem = net("Relu", net.conv("x", 3, 8))
    inner = net("Relu", net("Add", net.conv(stem, 8, 8), stem))
    net("Add", net("Relu", net.conv(inner, 8, 8, group=8)), inner)
    path = net.save(tmp_path)
    data = samples(8)
    one = collect(load_model(path).mod, data, fresh())
    pairs = [np.concatenate(data[i : i + 2]) for i in range(0, 8, 2)]
    two = collect(load_model(path, batch=2).mod, pairs, fresh())
    assert (one.samples, two.samples) == (8, 4)
    for name, tensor in one.tensors.items():
        other = two.tensor(name)
        assert other.histogram.low == tensor.histogram.low
        assert other.histogram.counts.sum() == tensor.histogram.counts.sum()
        assert other.correlation == pytest.approx(tensor.correlation)
        assert {k: v.samples for k, v in other.losses.items()} == dict.fromkeys(tensor.losses, 8)
        np.testing.assert_allclose(other.mean / 4, tensor.mean / 8, rtol=1e-5)
        np.testing.assert_allclose(other.tap_means / 4, tensor.tap_means / 8, rtol=1e-5)
