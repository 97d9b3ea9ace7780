"""Every integer layer becomes one kernel."""

from __future__ import annotations

from typing import Any

import pytest
import tvm
import tvm_ffi

from tvm_probq.passes.lower_layers import LowerLayers, layer_specs
from tvm_probq.tuning.space import tiles_of

MAX_WORKSPACE = 32 * 1024


@pytest.mark.parametrize("mode", ["static", "predicted"])
def test_one_kernel_a_layer(
    mode: str, integer_net: Any, target: Any, calls_of: Any, kernels_of: Any
) -> None:
    after = LowerLayers(target)(integer_net(mode=mode))
    tvm.relax.analysis.well_formed(after)
    calls = calls_of(after)
    assert not {"nn.conv2d", "matmul", "probq.requantize", "probq.pad"} & set(calls)
    assert "probq.dequantize_accumulator" not in calls
    assert len(kernels_of(after)) == 6


def test_dynamic_mode_stores_the_accumulator(
    integer_net: Any, target: Any, calls_of: Any, kernels_of: Any
) -> None:
    after = LowerLayers(target)(integer_net(mode="dynamic"))
    stored = [
        call for call, _ in kernels_of(after) if str(getattr(call.ty, "dtype", "")) == "int32"
    ]
    assert len(stored) == 5
    assert calls_of(after).count("probq.measure") == calls_of(after).count("probq.requantize") == 5


def test_kernels_say_what_they_allocate(integer_net: Any, target: Any, kernels_of: Any) -> None:
    for _, func in kernels_of(LowerLayers(target)(integer_net())):
        assert 0 <= int(func.attrs["probq.workspace_bytes"]) <= MAX_WORKSPACE
        assert int(func.attrs["probq.scratch_bytes"]) >= 0
        assert "probq.instruction" in func.attrs


def test_narrow_weights_are_packed(integer_net: Any, target: Any, kernels_of: Any) -> None:
    def size(scheme: str) -> int:
        calls = kernels_of(LowerLayers(target)(integer_net(scheme)))
        return sum(int(c.args[1][1].value.numpy().nbytes) for c, _ in calls)

    assert size("w6a8") <= 0.85 * size("w8a8")
    assert size("w4a8") <= 0.6 * size("w8a8")
    assert size("w2a8") <= 0.4 * size("w8a8")


@pytest.mark.parametrize(
    ("scheme", "dense", "depthwise"),
    [("w2a8", 2, 4), ("w3a8", 4, 4), ("w5a8", 6, 8), ("w6a8", 6, 8), ("w7a8", 8, 8)],
)
def test_codes_are_stored_in_the_next_width_that_kernels_have(
    integer_net: Any, scheme: str, dense: int, depthwise: int
) -> None:
    specs = layer_specs(integer_net(scheme))
    assert {s.weight_bits for s in specs if not s.depthwise} == {dense}
    assert {s.weight_bits for s in specs if s.depthwise} <= {depthwise}


def test_equal_layers_share_a_kernel(
    onnx_net: Any, imported: Any, calibrated: Any, target: Any, kernels_of: Any
) -> None:
    from tvm_probq.passes.pipeline import quantize_passes
    from tvm_probq.plan.plan import plan_of

    net = onnx_net(8, 6, 6)
    x = "x"
    for _ in range(3):
        x = net("Relu", net.conv(x, 8, 8))
    mod = imported(net, steps=None)
    passes = quantize_passes(plan_of("w8a8s"), calibrated(mod))
    after = LowerLayers(target)(tvm.transform.Sequential(passes)(mod))
    functions = [func for _, func in kernels_of(after)]
    assert len(functions) == 3
    assert functions[0].same_as(functions[1])


def test_a_float_module_is_left_alone(annotated_net: Any, target: Any, unchanged: Any) -> None:
    unchanged(LowerLayers(target), annotated_net[0])


def test_twice_is_once(integer_net: Any, target: Any) -> None:
    once = LowerLayers(target)(integer_net())
    tvm.ir.assert_structural_equal(LowerLayers(target)(once), once)


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_the_layers_are_known_before_they_are_lowered(
    mode: str, integer_net: Any, target: Any
) -> None:
    asked: list[Any] = []

    class Recorded:
        def get(self, spec: Any) -> None:
            asked.append(spec)

    mod = integer_net(mode=mode)
    LowerLayers(target, Recorded())(mod)
    assert layer_specs(mod) == asked
    assert len(asked) == 6


def test_given_tiles_are_used_and_named(
    integer_net: Any, target: Any, calls_of: Any, kernels_of: Any
) -> None:
    mod = integer_net()
    spec = layer_specs(mod)[0]
    default, *others = tiles_of(spec, target)
    tile = next(t for t in others if t.blocks == default.blocks)
    functions = [func for _, func in kernels_of(LowerLayers(target, {spec: tile})(mod))]
    named = [str(f.attrs["probq.tile"]) for f in functions if "probq.tile" in f.attrs]
    assert len(named) == layer_specs(mod).count(spec)
    assert f"columns={tile.columns} blocks={tile.blocks} rows={tile.rows}" in named[0]
    default_functions = [func for _, func in kernels_of(LowerLayers(target)(mod))]
    assert not any("probq.tile" in f.attrs for f in default_functions)
    bodies = [[f.body for f in found] for found in (functions, default_functions)]
    assert [tvm_ffi.structural_equal(a, b) for a, b in zip(*bodies, strict=True)].count(False) > 0


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_kernels_know_what_codes_are_stored_in(mode: str, integer_net: Any) -> None:
    specs = layer_specs(integer_net("w8a16", mode))
    stored = [(s.in_bits, s.out_bits, s.residual_bits) for s in specs if s.output == "codes"]
    if mode == "dynamic":
        assert {s.in_bits for s in specs} == {8, 16}
        assert not stored
        return
    assert (16, 16, 8) in stored
    assert (16, 16, 16) in stored  # with a residual
    assert {s.in_bits for s in specs if s.flat} == {8}  # behind the pooling
    assert {s.out_bits for s in layer_specs(integer_net("w8a8", mode))} == {8}


def test_what_nothing_reads_wide_is_stored_in_8_bits(integer_net: Any) -> None:
    pooled = [s for s in layer_specs(integer_net("w8a16", "static")) if s.output == "codes"][-1]
    assert pooled.out_bits == 8  # pooling alone reads it
