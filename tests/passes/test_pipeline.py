"""The passes as a whole, one by one, and as TVM meets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tvm

import tvm_probq.passes
from tvm_probq.build.compile import build
from tvm_probq.kernels.assembly import count_instruction
from tvm_probq.kernels.gate import assembly
from tvm_probq.passes.pipeline import (
    build_passes,
    canonical_passes,
    kernel_passes,
    pipeline,
    quantize_passes,
)
from tvm_probq.plan.plan import plan_of
from tvm_probq.target.profile import load_profile

FOLDER = Path(next(iter(tvm_probq.passes.__path__)))


def test_every_file_is_a_pass_of_the_pipeline(annotated_net: Any, target: Any) -> None:
    _, record = annotated_net
    passes = canonical_passes() + quantize_passes(plan_of("w8a8"), record) + kernel_passes(target)
    device = tvm.target.Target({"kind": "cuda", "arch": "sm_80"}, host={"kind": "llvm"})
    passes += build_passes(target, Path(), ticks=True) + build_passes(device, Path())
    names = {p.info.name for p in passes}
    files = {p.stem for p in FOLDER.glob("*.py")} - {"__init__", "pipeline"}
    assert {n for n in names if n.startswith("probq.")} == {
        "probq." + "".join(word.capitalize() for word in f.split("_")) for f in files
    }


@pytest.mark.parametrize("name", sorted(p.stem for p in FOLDER.glob("[a-z]*.py")))
def test_every_pass_has_a_test(name: str) -> None:
    assert (Path(__file__).parent / f"test_{name}.py").is_file()


def test_the_canonical_phase_is_a_fixed_point(annotated_net: Any) -> None:
    mod, _ = annotated_net
    again = tvm.transform.Sequential(canonical_passes())(mod)
    tvm.ir.assert_structural_equal(again, mod)


def test_the_input_module_is_not_changed(annotated_net: Any, target: Any) -> None:
    mod, record = annotated_net
    before = mod.script(show_meta=True)
    passes = quantize_passes(plan_of("w8a8"), record) + kernel_passes(target)
    tvm.transform.Sequential(passes)(mod)
    assert mod.script(show_meta=True) == before


def test_every_stage_is_well_formed(annotated_net: Any, target: Any) -> None:
    mod, record = annotated_net
    for change in quantize_passes(plan_of("w8a8"), record) + kernel_passes(target):
        mod = change(mod)
        tvm.relax.analysis.well_formed(mod)


def test_the_integer_graph_prints_and_parses(integer_net: Any) -> None:
    mod = integer_net()
    text = mod.script(show_meta=True)
    assert "R.probq.surrogate" in text
    assert "R.probq.requantize" in text
    tvm.ir.assert_structural_equal(tvm.script.from_source(text), mod)


def test_instruments_see_every_pass(annotated_net: Any, target: Any) -> None:
    mod, record = annotated_net
    timing = tvm.ir.instrument.PassTimingInstrument()
    with tvm.transform.PassContext(instruments=[timing]):
        pipeline(plan_of("w8a8"), record, target)(mod)
        profile = timing.render()
    assert "probq.InsertSurrogates" in profile
    assert "probq.LowerLayers" in profile


def test_small_kernels_are_made_for_the_target(integer_net: Any) -> None:
    arm = load_profile("arm-a72").target()
    lowered = tvm.transform.Sequential(kernel_passes(arm))(integer_net(mode="dynamic"))
    code = assembly(build(lowered, arm))
    assert count_instruction(code, "fcvtns") > 0
    assert count_instruction(code, "frintx") == 0  # rounding as on no machine in particular
