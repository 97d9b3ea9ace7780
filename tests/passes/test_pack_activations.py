"""Codes of at most 4 bits share bytes between layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm

from tvm_probq.ir.expressions import is_call, shape_of
from tvm_probq.ir.layers import Definitions
from tvm_probq.kernels.storage import codes_shape
from tvm_probq.passes.lower_layers import LowerLayers, layer_specs
from tvm_probq.passes.pack_activations import PackActivations
from tvm_probq.passes.pipeline import quantize_passes
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator

CHANGE = PackActivations()


def packed_names(mod: Any) -> list[str]:
    """Names of the packed layers; checks the shapes of what is stored."""
    definitions = Definitions(mod["main"])
    found = []
    for call in definitions.order:
        if is_call(call, "probq.unpack_codes"):
            marker = definitions.value(call.args[0])
            assert shape_of(marker) == codes_shape(shape_of(call), 4)
            found.append(str(marker.attrs["name"]))
    return found


def markers(mod: Any) -> list[str]:
    calls = Definitions(mod["main"]).order
    return [str(call.attrs["name"]) for call in calls if is_call(call, "probq.layer")]


@pytest.fixture(scope="module")
def residual_net(onnx_net: Any, imported: Any, calibrated: Any) -> Any:
    """A network of two blocks behind a stem, quantized by a scheme."""
    net = onnx_net(3, 8, 8)
    stem = net("Relu", net.conv("x", 3, 16))
    inner = net("Relu", net.conv(stem, 16, 16))
    block = net("Relu", net("Add", net.conv(inner, 16, 16), stem))
    depthwise = net("Relu", net.conv(block, 16, 16, group=16))
    odd = net("Relu", net.conv(depthwise, 16, 12, 1))
    last = net("Relu", net.conv(odd, 12, 16, 1))
    net.gemm(net("Flatten", net("GlobalAveragePool", last)), 16, 5)
    mod = imported(net, steps=None)
    record = calibrated(mod)

    def make(scheme: str, mode: str = "predicted", **options: Any) -> Any:
        plan = plan_of(scheme, mode, **{"storage": "packed", **options})
        passes = quantize_passes(plan, record)
        return tvm.transform.Sequential(passes)(mod)

    return make


@pytest.mark.parametrize("mode", ["static", "predicted"])
@pytest.mark.parametrize("surrogate", ["moments", "iid"])
def test_layers_pack_what_layers_read(
    residual_net: Any, mode: str, surrogate: str, target: Any
) -> None:
    before = residual_net("w8a4", mode, surrogate=surrogate)
    after = CHANGE(before)
    tvm.relax.analysis.well_formed(after)
    tvm.ir.assert_structural_equal(CHANGE(after), after)
    # Not the input, of 8 bits, the one of 12 channels, nor what is pooled.
    names = markers(before)
    assert packed_names(after) == [names[1], names[2], names[3], names[4]]
    x = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    (found,), (wanted,) = (Simulator(mod)(x) for mod in (after, before))
    np.testing.assert_array_equal(found, wanted)
    bits = [(s.in_bits, s.out_bits, s.residual_bits) for s in layer_specs(after)]
    assert bits[:3] == [(8, 4, 8), (4, 4, 8), (4, 4, 4)]
    assert (4, 8, 8) in bits
    lowered = LowerLayers(target)(after)
    assert not [c for c in Definitions(lowered["main"]).order if is_call(c, "probq.pack_codes")]


def test_codes_of_predicted_bits_are_packed(residual_net: Any) -> None:
    assert len(packed_names(CHANGE(residual_net("w8a4", bits="predicted")))) == 4
    assert not packed_names(CHANGE(residual_net("w8a8", bits="predicted")))


@pytest.mark.parametrize(("scheme", "mode"), [("w4a8", "predicted"), ("w8a5", "static")])
def test_wider_codes_are_left_alone(
    residual_net: Any, unchanged: Any, scheme: str, mode: str
) -> None:
    unchanged(CHANGE, residual_net(scheme, mode))


def test_accumulators_that_are_measured_are_left_alone(residual_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, residual_net("w8a4", "dynamic"))


def test_readers_that_cannot_unpack(integer_net: Any) -> None:
    before = integer_net("w8a4", storage="packed")
    names = markers(before)
    # The pool and the join read the block and what is behind it.
    assert packed_names(CHANGE(before)) == names[1:3]


def test_bytes_are_the_default(residual_net: Any, unchanged: Any) -> None:
    unchanged(CHANGE, residual_net("w8a4", storage="bytes"))
