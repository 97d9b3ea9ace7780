"""The table of layers: which kernel is whose, and shares from made-up times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tvm

from tvm_probq.bench import layers as layers_module
from tvm_probq.bench.kernels import KernelTime
from tvm_probq.bench.layers import joined, kernel_rows, layer_times, show_layers, summarize
from tvm_probq.bench.ours import Ours, of_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.marked import marked_tensors
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.errors import KernelError
from tvm_probq.frontend.onnx import Model
from tvm_probq.passes.pipeline import kernel_passes
from tvm_probq.target.profile import host_profile

Compiled = Callable[[str], Ours]
PRODUCTS = {
    "stem": ("conv2d", "3x3/2 16x16x3 -> 8x8x16", 8 * 8 * 16 * 27),
    "deep": ("depthwise", "3x3/1 8x8x16 -> 8x8x16", 8 * 8 * 16 * 9),
    "grouped": ("conv2d", "3x3/1 8x8x16 -> 8x8x16 groups 2", 8 * 8 * 16 * 72),
    "point": ("conv2d", "1x1/1 8x8x16 -> 8x8x16", 8 * 8 * 16 * 16),
    "last": ("conv2d", "3x3/1 4x4x16 -> 4x4x24", 4 * 4 * 24 * 144),
    "head": ("dense", "24 -> 10", 240),
}


@pytest.fixture(scope="module")
def ours(model: Model, x: Any) -> Compiled:
    """The network in a mode."""
    record = collect(model.mod, [x, x + 1], CalibrationRecord(model.sha256, "made up"))
    return lambda mode: of_model(model, record, [mode], "w8a8", host_profile())[mode]


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_every_product_has_a_row_with_its_name(ours: Compiled, model: Model, mode: str) -> None:
    compiled = ours(mode)
    target = compiled.profile.target()
    lowered = tvm.transform.Sequential(kernel_passes(target))(compiled.integer())
    rows = kernel_rows(lowered, marked_tensors(model.mod), 1)
    found = {r["name"]: (r["op"], r["shape"], r["macs"]) for r in rows if r["macs"]}
    assert found == PRODUCTS
    others = {r["op"] for r in rows if not r["macs"]}
    assert ("requantize" in others) == (mode == "dynamic")


@pytest.mark.parametrize("mode", ["static", "dynamic", "predicted"])
def test_the_kernels_that_run_are_those_of_the_graph(
    ours: Compiled, model: Model, x: Any, mode: str
) -> None:
    result = layer_times(ours(mode), model, x)
    rows = result["rows"]
    assert [r["name"] for r in rows if r["macs"]] == list(PRODUCTS)
    assert all(row["ms"] > 0 for row in rows)
    # Together with the range of its result, unless that is a constant.
    name = "global_avg_pool" if mode == "static" else "measured_pool"
    (pool,) = (row for row in rows if row["op"] == name)
    assert pool["shape"].endswith("24")
    if mode != "predicted":  # where the whole prediction is merged into other kernels
        assert {"quantize_nchw", "float"} <= {row["op"] for row in rows}
    assert sum(row["share_of_time"] for row in rows) == pytest.approx(1.0)
    assert result["convolutions"]["conv2d"]["count"] == 4
    assert result["convolutions"]["depthwise"]["count"] == 1
    assert result["convolutions"]["all"]["macs"] == sum(
        macs for op, _, macs in PRODUCTS.values() if op != "dense"
    )
    for row in rows:
        known = result["peak_gmacs"].get(row["instruction"]) and row["macs"]
        assert (row["share_of_peak"] is not None) == bool(known)


def row(name: str, op: str, macs: int, instruction: str = "vpdpbusd") -> dict[str, Any]:
    shape = {"shape": "", "macs": macs, "instruction": instruction}
    return {"kernel": f"k_{name}", "name": name, "op": op, **shape}


ROWS = [row("a", "conv2d", 8_000_000), row("b", "conv2d", 1_000_000), row("d", "dense", 1_000_000)]
TIMES = [KernelTime("k_a", 0.02), KernelTime("fused_mean", 0.01), KernelTime("k_b", 0.01)]
TIMES.append(KernelTime("k_d", 0.01))


def test_speeds_and_shares_are_computed_from_times() -> None:
    result = summarize(joined([dict(r) for r in ROWS], TIMES), {"vpdpbusd": 500.0})
    a, mean, b, dense = result["rows"]
    assert a["gmacs"] == pytest.approx(400)
    assert a["share_of_peak"] == pytest.approx(0.8)
    assert a["share_of_time"] == pytest.approx(0.4)
    assert (mean["name"], mean["op"], mean["share_of_peak"]) == ("fused_mean", "float", None)
    assert b["share_of_peak"] == pytest.approx(0.2)
    assert dense["gmacs"] == pytest.approx(100)
    together = result["convolutions"]["all"]
    assert together["ms"] == pytest.approx(0.03)
    assert together["gmacs"] == pytest.approx(300)
    # Weighted by time: 0.8 for two thirds of it, 0.2 for the last.
    assert together["share_of_peak"] == pytest.approx(0.6)
    assert result["kernels_ms"] == pytest.approx(0.05)


def test_an_unknown_instruction_has_no_share() -> None:
    rows = [row("a", "conv2d", 1_000_000, "sdot"), row("b", "conv2d", 1_000_000)]
    times = [KernelTime("k_a", 0.01), KernelTime("k_b", 0.01)]
    result = summarize(joined(rows, times), {"sdot": None, "vpdpbusd": 400.0})
    assert [r["share_of_peak"] for r in result["rows"]] == [None, pytest.approx(0.25)]
    assert result["convolutions"]["all"]["share_of_peak"] is None
    text = show_layers(result, 0.03)
    assert "peak of sdot on one core: not measured" in text
    assert "peak of vpdpbusd on one core: 400 GMAC/s" in text
    assert "convolutions, all: 0.020 ms, 100.0 GMAC/s\n" in text
    assert "the whole run: 0.030 ms" in text


@pytest.mark.parametrize("ran", [["k_a"], ["k_b", "k_a", "k_d"], []])
def test_a_lost_kernel_is_an_error(ran: list[str]) -> None:
    with pytest.raises(KernelError, match=f"{len(ran)} kernel calls ran where the graph has 3"):
        joined([dict(r) for r in ROWS], [KernelTime(name, 0.01) for name in ran])


def test_the_peak_is_that_of_before_and_after(
    ours: Compiled, model: Model, x: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def look(instruction: str, _target: Any) -> float:
        looks.append(instruction)
        return 400.0 if looks.count(instruction) == 1 else 500.0

    monkeypatch.setattr(layers_module, "peak_gmacs", look)
    peaks = layer_times(ours("static"), model, x)["peak_gmacs"]
    assert peaks == dict.fromkeys(sorted(set(looks)), 450.0)
    assert all(looks.count(instruction) == 2 for instruction in looks)
