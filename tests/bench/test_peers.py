"""The peers: which there are, and that each runs the model it is given."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tvm_probq.bench import peers
from tvm_probq.bench.peers import openvino_int8, ort, ort_dynamic, ort_int8, ov, tvm_fp32
from tvm_probq.bench.peers.job import Job
from tvm_probq.errors import EnvironmentProblem, UsageError

NAMES = ["ort-fp32", "ort-int8", "ort-dynamic", "openvino-fp32", "openvino-int8", "tvm-fp32"]
# Quantization on two samples: the outputs are alike, no more.
INT8_ERROR = 0.2


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else found(name)
    )


def test_every_peer_has_its_name() -> None:
    assert list(peers.PEERS) == NAMES


@pytest.mark.usefixtures("without_openvino")
def test_a_peer_that_is_not_installed_is_left_out_visibly() -> None:
    chosen, left_out = peers.choose(None)
    assert not {"openvino-fp32", "openvino-int8"} & set(chosen)
    assert "tvm-fp32" in chosen
    assert left_out["openvino-fp32"] == (
        "openvino is not installed (pip install openvino, or pip install 'tvm_probq[bench]')"
    )


@pytest.mark.usefixtures("without_openvino")
def test_a_peer_that_is_not_installed_cannot_be_asked_for() -> None:
    with pytest.raises(EnvironmentProblem, match="openvino-int8 cannot be measured") as caught:
        peers.choose(["tvm-fp32", "openvino-int8"])
    assert "pip install openvino" in str(caught.value)


def test_an_unknown_peer_is_explained() -> None:
    with pytest.raises(UsageError, match="there is no peer 'tflite'") as caught:
        peers.choose(["tflite"])
    assert ", ".join(NAMES) in str(caught.value)


def test_what_is_asked_for_twice_runs_once() -> None:
    assert peers.choose(["tvm-fp32", "tvm-fp32"]) == (("tvm-fp32",), {})
    assert peers.choose([]) == ((), {})


def onnx_output(path: Any, x: Any) -> Any:
    runtime = pytest.importorskip("onnxruntime", reason="the peer is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def test_onnx_runtime_static_is_quantized_once(
    job: Job, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", reason="the peer is not installed")
    import onnx

    path = ort_int8.model_path(job)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    error = np.abs(onnx_output(path, job.x) - expected).max() / np.abs(expected).max()
    assert 0 < error < INT8_ERROR
    monkeypatch.setattr(ort, "prepare", lambda *_: pytest.fail("quantized again"))
    assert ort_int8.model_path(job) == path
    assert ort_int8.model_path(replace(job, samples=job.samples[:2])) == path
    with pytest.raises(pytest.fail.Exception):
        ort_int8.model_path(replace(job, samples_key="other samples"))


def test_onnx_runtime_dynamic_has_integer_products(job: Job) -> None:
    pytest.importorskip("onnxruntime", reason="the peer is not installed")
    import onnx

    ort_dynamic.contestant(job).call()
    (path,) = job.cache.folder.glob("ort-dynamic-*/dynamic.onnx")
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"ConvInteger", "DynamicQuantizeLinear"} <= kinds


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["ort-fp32", "ort-int8"])
def test_onnx_runtime_runs(job: Job, name: str, threads: int) -> None:
    pytest.importorskip("onnxruntime", reason="the peer is not installed")
    peers.PEERS[name].contestant(replace(job, threads=threads)).call()


def test_openvino_float_is_the_float_model(job: Job, expected: Any) -> None:
    pytest.importorskip("openvino", reason="the peer is not installed")
    results = ov.contestant(job, job.onnx).call()
    assert np.allclose(results[0], expected, atol=1e-4)


def test_openvino_int8_is_quantized_once(
    job: Job, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="the peer is not installed")
    pytest.importorskip("nncf", reason="the peer is not installed")
    results = openvino_int8.contestant(job).call()
    error = np.abs(results[0] - expected).max() / np.abs(expected).max()
    assert 0 < error < INT8_ERROR
    (path,) = job.cache.folder.glob("openvino-int8-*/int8.xml")
    assert "FakeQuantize" in path.read_text()
    monkeypatch.setattr(openvino_int8, "_quantize", lambda *_: pytest.fail("quantized again"))
    openvino_int8.contestant(job)


def test_openvino_is_asked_for_float32_on_its_threads() -> None:
    assert ov.configuration(3) == {
        "INFERENCE_NUM_THREADS": 3,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "f32",
    }


def test_tvm_says_how_it_is_scheduled(job: Job, expected: Any) -> None:
    contestant = tvm_fp32.contestant(job)
    assert np.allclose(first(contestant.call()), expected, atol=1e-4)
    assert contestant.details["schedule"].startswith("no tuning: register tiles for ")


@pytest.mark.slow
def test_tvm_keeps_what_tuning_found(
    job: Job, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tvm_probq.bench.peers import tvm_tuning

    told: list[str] = []
    asked = replace(job, trials=4, say=told.append)
    tuned = tvm_fp32.contestant(asked)
    assert "MetaSchedule, " in tuned.details["schedule"]
    assert np.allclose(first(tuned.call()), expected, atol=1e-4)
    assert told == ["tvm-fp32: tuning, 4 trials"]
    monkeypatch.setattr(tvm_tuning, "_tune", lambda *_: pytest.fail("tuned again"))
    tvm_fp32.contestant(asked)


def first(result: Any) -> Any:
    return (result if hasattr(result, "numpy") else result[0]).numpy()
