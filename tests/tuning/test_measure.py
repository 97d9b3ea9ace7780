"""The worker: gates, deadlines, deaths; every test is about what happened, none about times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tvm_probq.errors import KernelError
from tvm_probq.target.profile import load_profile
from tvm_probq.tuning import candidate as candidates
from tvm_probq.tuning.bench import Bench
from tvm_probq.tuning.measure import WorkerMeasurer, compared
from tvm_probq.tuning.process import WorkerGone, WorkerProcess
from tvm_probq.tuning.space import tiles_of
from tvm_probq.tuning.wire import spec_from_json, spec_to_json, tile_from_json, tile_to_json

PROFILE = load_profile("x86-64")
SLOW_IMPORTS = ("tvm.s_tir.tensor_intrin", "xgboost", "onnx", "scipy")


@pytest.fixture
def measurer() -> Iterator[WorkerMeasurer]:
    with WorkerMeasurer(PROFILE.tvm_target) as found:
        yield found


def test_layers_and_tiles_cross_the_pipe(spec: Any, target: Any) -> None:
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec
    for tile in tiles_of(spec, target)[:20]:
        assert tile_from_json(json.loads(json.dumps(tile_to_json(tile)))) == tile


def test_tiles_are_compared_round_by_round() -> None:
    found = compared([1000, 3000, 2000], [2000, 2000, 4000])
    assert (found.time_us, found.ratio, found.wins) == (2.0, 0.5, 2 / 3)


def test_a_worker_measures(measurer: WorkerMeasurer, make_layer: Any) -> None:
    spec = make_layer(7, 7, 16, 32)
    default, *tiles = tiles_of(spec, PROFILE.target())
    found = measurer.measure(spec, default, tiles[:3], 3)
    assert set(found) == {default, *tiles[:3]}
    assert found[default].ratio == 1
    assert all(m.time_us > 0 and m.ratio and not m.failure for m in found.values())
    other = make_layer(5, 5, 16, 16)
    default = tiles_of(other, PROFILE.target())[0]
    assert set(measurer.measure(other, default, [], 3)) == {default}


def test_an_impossible_tile_is_a_failure(measurer: WorkerMeasurer, make_layer: Any) -> None:
    spec = make_layer(40, 40, 16, 32)
    default, good = tiles_of(spec, PROFILE.target())[:2]
    impossible = replace(default, columns=1000)
    found = measurer.measure(spec, default, [impossible, good], 3)
    assert found[impossible].ratio is None
    assert "workspace" in found[impossible].failure
    assert found[good].ratio


def test_a_failing_default_is_an_error(measurer: WorkerMeasurer, make_layer: Any) -> None:
    spec = make_layer(40, 40, 16, 32)
    default = replace(tiles_of(spec, PROFILE.target())[0], columns=1000)
    with pytest.raises(KernelError, match="the default tile fails"):
        measurer.measure(spec, default, [], 3)


def test_a_death_costs_one_candidate(
    measurer: WorkerMeasurer, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_layer(7, 7, 16, 32)
    default, first, deadly, last = tiles_of(spec, PROFILE.target())[:4]
    ask = WorkerProcess.ask

    def dying(self: WorkerProcess, request: Any, deadline_s: float) -> Any:
        if request["op"] == "build" and request["tile"] == tile_to_json(deadly):
            process = self._process
            assert process is not None
            process.kill()
        return ask(self, request, deadline_s)

    monkeypatch.setattr(WorkerProcess, "ask", dying)
    found = measurer.measure(spec, default, [first, deadly, last], 3)
    assert "died" in found[deadly].failure
    assert all(found[tile].ratio for tile in (default, first, last))


def test_a_hang_is_killed_at_its_deadline(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = WorkerProcess()
    assert "failure" in worker.ask({"op": "build", "tile": {}}, 60.0)  # it runs, without a layer
    process = worker._process
    assert process is not None
    request = {
        "op": "layer", "spec": spec_to_json(make_layer(224, 224, 64, 64, 3)),
        "target": PROFILE.tvm_target, "threads": 1, "seed": 0,
    }  # fmt: skip
    with pytest.raises(WorkerGone, match="no answer in 0 s"):
        worker.ask(request, 0.001)
    assert process.returncode is not None
    assert not worker.running


def test_an_interrupt_ends_the_worker(
    measurer: WorkerMeasurer, make_layer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_layer(7, 7, 16, 32)
    default = tiles_of(spec, PROFILE.target())[0]
    measurer.measure(spec, default, [], 1)
    process = measurer._worker._process
    assert process is not None

    def interrupt(*_arguments: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(WorkerProcess, "_line", interrupt)
    with pytest.raises(KeyboardInterrupt):
        measurer.measure(spec, default, [], 1)
    assert process.returncode is not None


def test_a_worker_starts_without_slow_imports() -> None:
    loaded = f"[name for name in {SLOW_IMPORTS} if name in sys.modules]"
    code = f"import sys, tvm_probq.tuning.worker; print({loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_wrong_value_is_refused(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = candidates.expected

    def almost(spec: Any, values: Any) -> Any:
        found = wanted(spec, values)
        found.reshape(-1)[5] ^= 1
        return found

    monkeypatch.setattr(candidates, "expected", almost)
    spec = make_layer(7, 7, 16, 32)
    bench = Bench(spec, PROFILE.target())
    with pytest.raises(KernelError, match="1 of its values differ"):
        bench.build(tiles_of(spec, PROFILE.target())[0])


def test_a_large_workspace_is_refused(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "WORKSPACE_LIMIT", 16)
    spec = make_layer(7, 7, 16, 32)
    with pytest.raises(KernelError, match="its workspace is"):
        Bench(spec, PROFILE.target()).build(tiles_of(spec, PROFILE.target())[0])


def test_a_lost_instruction_is_refused(make_layer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel_of = candidates.layer_kernel

    def promising(spec: Any, target: Any, tile: Any) -> Any:
        return replace(kernel_of(spec, target, tile), instruction="vpdpbusd")

    monkeypatch.setattr(candidates, "layer_kernel", promising)
    spec = make_layer(7, 7, 16, 32)
    with pytest.raises(KernelError, match="no vpdpbusd"):
        Bench(spec, PROFILE.target()).build(tiles_of(spec, PROFILE.target())[0])


def test_most_example_codes_are_inside_the_range(spec: Any) -> None:
    from tvm_probq.simulator.numerics import unpack_codes
    from tvm_probq.tuning.example import expected, random_arguments

    found = expected(spec, random_arguments(spec, 3))
    if spec.output == "codes":
        packed = spec.out_bits == 4
        found, least = (unpack_codes(found), 2) if packed else (found, 30)
        assert len(np.unique(found)) > least, "equal constants would prove nothing"
    else:
        assert len(np.unique(found)) > 0.9 * found.size
