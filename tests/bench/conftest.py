"""A small network that has every kind of layer, and how it runs in float32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvm_probq.bench.cache import Cache
from tvm_probq.bench.peers.job import Job
from tvm_probq.frontend.onnx import Model, load_model
from tvm_probq.runtime.float_model import FloatModel


@pytest.fixture(scope="session")
def model(onnx_net: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Convolutions with stride, groups, padding; depthwise; residual; pools; a dense layer."""
    net = onnx_net(3, 16, 16)
    stem = net("Relu", net.conv("x", 3, 16, strides=[2, 2], name="stem"))
    deep = net("Clip", net.conv(stem, 16, 16, group=16, name="deep"), np.float32(0), np.float32(6))
    grouped = net("HardSwish", net.conv(deep, 16, 16, group=2, name="grouped"))
    joined = net("Relu", net("Add", net.conv(grouped, 16, 16, 1, name="point"), stem))
    pooled = net("MaxPool", joined, kernel_shape=[2, 2], strides=[2, 2])
    flat = net("Flatten", net("GlobalAveragePool", net.conv(pooled, 16, 24, name="last")))
    net.gemm(flat, 24, 10, name="head")
    return load_model(net.save(tmp_path_factory.mktemp("net")))


@pytest.fixture(scope="session")
def x(model: Model) -> Any:
    """An input."""
    return np.random.default_rng(1).standard_normal(model.inputs[0][1]).astype(np.float32)


@pytest.fixture(scope="session")
def expected(model: Model, x: Any) -> Any:
    """The float output."""
    return FloatModel(model).run(x)[0]


@pytest.fixture
def job(model: Model, x: Any, tmp_path: Path) -> Job:
    """What a peer is made from."""
    return Job(model, x, [x, x + 1], "made up", 1, Cache(tmp_path / "cache"))
