"""Models with several inputs, with inputs that count no samples, and with nothing to quantize."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference
import pytest
from onnx import TensorProto, helper

Run = Callable[..., Any]
SAMPLES = 6


@pytest.fixture
def pair(onnx_net: Any, tmp_path: Path) -> Path:
    """An image, an integer a channel and a flag decide what a layer reads."""
    net = onnx_net(3, 6, 6)
    net.inputs += [
        helper.make_tensor_value_info("shift", TensorProto.INT64, ["n", 3, 1, 1]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, ["n", 1, 1, 1]),
    ]
    moved = net("Add", "x", net("Cast", "shift", to=TensorProto.FLOAT))
    return net.save(tmp_path, net.conv(net("Where", "flag", moved, "x"), 3, 4))


def inputs(count: int = SAMPLES) -> dict[str, Any]:
    """Arrays for the inputs of `pair`."""
    rng = np.random.default_rng(2)
    return {
        "x": rng.normal(size=(count, 3, 6, 6)).astype(np.float32),
        "shift": rng.integers(-2, 3, (count, 3, 1, 1)),
        "flag": rng.integers(0, 2, (count, 1, 1, 1)).astype(bool),
    }


@pytest.mark.parametrize("batch", [1, 2])
def test_several_inputs_are_calibrated_compiled_and_run(
    batch: int, run: Run, pair: Path, tmp_path: Path
) -> None:
    arrays = inputs()
    np.savez(tmp_path / "data.npz", **arrays)
    record, path = tmp_path / "record.json", tmp_path / "pair.probq"
    done = run("calibrate", pair, "--data", tmp_path / "data.npz", "-o", record)
    assert (done.status, done.json.get("samples")) == (0, SAMPLES), done.error
    done = run("compile", pair, "--calibration", record, "--batch", batch, "-o", path)
    assert done.status == 0, done.error
    done = run("run", path, "--input", tmp_path / "data.npz", "-o", tmp_path / "y.npy")
    assert done.status == 0, done.error
    session = pytest.importorskip("onnxruntime").InferenceSession(str(pair))
    (wanted,) = session.run(None, arrays)
    found = np.load(tmp_path / "y.npy")
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_an_input_that_is_missing_or_too_short(run: Run, pair: Path, tmp_path: Path) -> None:
    arrays, record = inputs(), tmp_path / "record.json"
    np.savez(tmp_path / "missing.npz", x=arrays["x"], shift=arrays["shift"])
    done = run("calibrate", pair, "--data", tmp_path / "missing.npz", "-o", record)
    assert done.status == 2
    assert "no array 'flag', only ['shift', 'x']" in done.error
    np.savez(tmp_path / "short.npz", **{**arrays, "flag": arrays["flag"][:4]})
    done = run("calibrate", pair, "--data", tmp_path / "short.npz", "-o", record)
    assert done.status == 2
    assert "different numbers of samples: [6, 6, 4]" in done.error
    assert not record.exists()


def test_random_integers_have_no_meaning(run: Run, pair: Path, tmp_path: Path) -> None:
    done = run("compile", pair, "--random-calibration", 3, "-o", tmp_path / "a.probq")
    assert done.status == 2
    assert "the input 'shift' takes int64, for which random values cannot be made" in done.error


@pytest.fixture
def scaled(onnx_net: Any, tmp_path: Path) -> Path:
    """A layer whose input is scaled by a single number, and a result without a sample."""
    net = onnx_net(4)
    net.inputs.append(helper.make_tensor_value_info("factor", TensorProto.FLOAT, []))
    y = net.gemm(net("Mul", "x", "factor"), 4, 3)
    return net.save(tmp_path, y, net("ReduceMax", y, keepdims=0))


def test_a_single_number_is_an_input(run: Run, scaled: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(SAMPLES, 1, 4)).astype(np.float32)
    factor = rng.uniform(1, 2, SAMPLES).astype(np.float32)
    np.savez(tmp_path / "calls.npz", x=x, factor=factor)
    path = tmp_path / "scaled.probq"
    done = run("compile", scaled, "--data", tmp_path / "calls.npz", "-o", path)
    assert done.status == 0, done.error
    np.savez(tmp_path / "call.npz", x=x[0], factor=factor[0])
    done = run("run", path, "--input", tmp_path / "call.npz", "-o", tmp_path / "y.npz")
    assert done.status == 0, done.error
    y, largest = np.load(tmp_path / "y.npz").values()
    assert y.shape == (1, 3)
    assert largest.shape == ()
    assert largest == y.max()
    done = run("run", path, "--input", tmp_path / "calls.npz", "-o", tmp_path / "y.npz")
    assert done.status == 2
    assert "the input 'x' is float32 of shape [6, 1, 4], but the model takes" in done.error
    done = run("compile", scaled, "--data", tmp_path / "calls.npz", "--batch", 2, "-o", path)
    assert done.status == 2
    assert "use --batch 1" in done.error


@pytest.mark.parametrize("shape", [[], [3], [1, 3], [1, 2, 3]])
@pytest.mark.parametrize("operator", ["Identity", "Relu", "HardSwish", "Neg"])
def test_nothing_to_quantize(
    operator: str, shape: list[int], run: Run, tmp_path: Path, onnx_net: Any
) -> None:
    net = onnx_net(1)
    net.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    model = net.save(tmp_path, net(operator, "x"))
    x = np.asarray(np.random.default_rng(0).normal(size=shape), np.float32)
    counted = shape[:1] == [1]
    data, path = tmp_path / "x.npz", tmp_path / "y.probq"
    np.savez(data, x=np.stack([x, x])[:, 0] if counted else np.stack([x, x]))
    done = run("compile", model, "--data", data, "-o", path)
    assert done.status == 0, done.error
    assert done.json["layers"] == 0
    assert "nothing to quantize" in done.out
    assert "nothing to quantize" in run("inspect", path).out
    np.save(tmp_path / "x.npy", x)
    done = run("run", path, "--input", tmp_path / "x.npy", "-o", tmp_path / "y.npy")
    assert done.status == 0, done.error
    wanted = onnx.reference.ReferenceEvaluator(str(model)).run(None, {"x": x})[0]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), wanted, rtol=1e-6)
