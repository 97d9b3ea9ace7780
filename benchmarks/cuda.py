"""A CUDA device: bit-equality with the simulator, latency against PyTorch, share of the int8 peak.

    python benchmarks/cuda.py --target cuda-sm90 path/to/card.toml path/to/model.onnx
    python benchmarks/cuda.py --target cuda-sm90 resnet50 mobilenet_v2 --torch --layers

Models are cards, ONNX files, or the names of `benchmarks/networks.py`, whose weights are random.
The peak of `mma.sync` is measured before and after. `--layers` times each layer's kernel alone;
with `--torch` also beside `torch._int_mm`, where the layer is a product of matrices.
Without a device it says what is missing, and exits with status 1.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import tvm
from gpu import tables, torch_peers
from gpu.layers import layer_times
from gpu.meter import Meter
from latency import markdown
from tvm import relax

from tvm_probq.build.compile import compile_model, quantized
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.errors import ProbqError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.passes.lower_layers import layer_specs
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.cuda import device_fix, device_problem
from tvm_probq.target.profile import TargetProfile, load_profile
from tvm_probq.tuning.batch.measure import Problem
from tvm_probq.tuning.database import Database, read_database, shipped_database
from tvm_probq.tuning.tasks import tasks_of

MODES = ("static", "predicted")
HEADERS = ("model", "batch", "contestant", "ms", "times static", "of the int8 peak")
CALIBRATION, WARM_UP, ROUNDS = 16, 10, 100
SIDE = 224  # of the images of networks with random weights
Call = Callable[[], object]


def main() -> int:
    """Measure and print."""
    args = _arguments()
    problem = "" if tvm.cuda(0).exist else device_problem() or "TVM finds no CUDA device"
    if problem:
        print(f"nothing was measured: {problem}. What to do: {device_fix(problem)}")
        return 1
    print(f"{tvm.cuda(0).device_name}, {args.target}\n")
    try:
        results = measure_all(args)
    except (ProbqError, Problem) as error:
        print(f"error: {error}")
        return 1
    show(results)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    return 0


def measure_all(args: argparse.Namespace) -> dict[str, Any]:
    """All models between two measurements of the peak."""
    profile = load_profile(args.target)
    meter = Meter(profile.target())
    before = meter.peak()
    with tempfile.TemporaryDirectory() as folder:
        subjects = [_subject(name, Path(folder)) for name in args.models]
        found = [
            result
            for name, (path, samples) in zip(args.models, subjects, strict=True)
            for result in measure(name, path, samples, args, meter)
        ]
    after = meter.peak()
    return {
        "device": str(tvm.cuda(0).device_name), "target": args.target,
        "peak_tmacs": None if before is None or after is None else (before + after) / 2,
        "networks": found,
    }  # fmt: skip


def measure(
    name: str, path: Path, samples: Any, args: argparse.Namespace, meter: Meter
) -> Iterator[dict[str, Any]]:
    """Each batch of one model: all modes equal the simulator, then all are timed in turn."""
    profile, tiles = load_profile(args.target), tuned_tiles(args)
    single = load_model(path, batch=1)
    record = collect(single.mod, (s[None] for s in samples), CalibrationRecord(single.sha256, name))
    for batch in args.batches:
        model = load_model(path, batch=batch)
        x = np.ascontiguousarray(np.resize(samples, (batch, *samples.shape[1:])))
        calls = {mode: _call(model, mode, record, profile, tiles, x) for mode in MODES}
        if args.torch:
            calls |= torch_peers.network(name, batch, SIDE, WARM_UP)
        found = {"model": name, "batch": batch, "macs": model.macs, "ms": in_turn(calls)}
        if args.layers:
            integer = quantized(model, plan_of("w8a8", "predicted"), record)
            peer = torch_peers.int8_products() if args.torch else None
            tasks = tasks_of(layer_specs(integer))
            found["layers"] = layer_times(tasks, profile.target(), tiles, meter, peer)
        yield found


def show(results: dict[str, Any]) -> None:
    """Print the networks, then their layers; in `results`, layers become rows of their tables."""
    peak, rows = results["peak_tmacs"], []
    if peak is not None:
        print(f"peak of mma.sync, u8 times s8: {peak:.1f} TMAC/s, measured here\n")
    for found in results["networks"]:
        for contestant, ms in found["ms"].items():
            share = tables.percent(found["macs"], ms * 1e3, peak)
            ratio = f"{ms / found['ms']['static']:.3f}"
            row = [found["model"], str(found["batch"]), contestant, f"{ms:.3f}", ratio, share]
            rows.append(row)
    print(markdown(HEADERS, rows))
    for found in results["networks"]:
        if "layers" not in found:
            continue
        times = found["layers"]
        found["layers"], found["tensor_share"] = (
            tables.rows_of(times, peak), tables.tensor_share(times, peak),
        )  # fmt: skip
        print(f"\n{found['model']}, batch {found['batch']}\n")
        print(markdown(tables.HEADERS, found["layers"]))
        if found["tensor_share"] is not None:
            print(f"\nlayers on tensor cores: {100 * found['tensor_share']:.1f} % of the peak")


def tuned_tiles(args: argparse.Namespace) -> Database:
    """The tiles of ``--database``, or those that come with the package."""
    if args.database is None:
        return shipped_database(args.target)
    return read_database(args.database, args.target)


def _subject(name: str, folder: Path) -> tuple[Path, Any]:
    """The ONNX file of a model, and inputs."""
    made = getattr(networks, name, None)
    if made is not None:
        path = folder / f"{name}.onnx"
        onnx.save(made(), path)
        rng = np.random.default_rng(0)
        return path, rng.normal(size=(CALIBRATION, 3, SIDE, SIDE)).astype(np.float32)
    if name.endswith(".toml"):
        card = load_card(name)
        batches = model_inputs(card, "calibration", CALIBRATION, CALIBRATION)
        return card.model, np.concatenate([np.asarray(b.x) for b in batches])
    path = Path(name)
    ((_, shape, _),) = load_model(path, batch=1).inputs
    rng = np.random.default_rng(0)
    return path, rng.normal(size=(CALIBRATION, *shape[1:])).astype(np.float32)


def _call(
    model: Any, mode: str, record: CalibrationRecord, profile: TargetProfile, tiles: Database,
    x: Any,
) -> Call:  # fmt: skip
    """What runs a compiled model once, after its outputs were found equal to the simulator's."""
    compiled = compile_model(model, plan_of("w8a8", mode), record, profile, tiles)
    device = tvm.cuda(0)
    function = relax.VirtualMachine(compiled.executable, device)["main"]
    tensor = tvm.runtime.tensor(x, device=device)
    for got, wanted in zip(
        _arrays(function(tensor)), _arrays(Simulator(compiled.integer_module)(x)), strict=True
    ):
        if not np.array_equal(got, wanted):
            raise SystemExit(f"error: {model.source}, {mode}: the device and the simulator differ")

    def run() -> None:
        function(tensor)
        device.sync()

    return run


def _arrays(outputs: Any) -> list[Any]:
    several = outputs if isinstance(outputs, list | tuple | tvm.ir.Array) else [outputs]
    return [o if isinstance(o, np.ndarray) else o.numpy() for o in several]


def in_turn(calls: dict[str, Call]) -> dict[str, float]:
    """Median wall times in ms, measured in turn."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM_UP + ROUNDS):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= WARM_UP:
                times[name].append((time.perf_counter() - start) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", help="cards, ONNX files, or resnet50 and others")
    parser.add_argument("--target", default="cuda-sm90", help="profile (default cuda-sm90)")
    parser.add_argument(
        "--batches", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32],
        help="samples of a call (default 1,8,32)",
    )  # fmt: skip
    parser.add_argument("--torch", action="store_true", help="also PyTorch, float16 and int8")
    parser.add_argument("--layers", action="store_true", help="also each layer alone")
    parser.add_argument("--database", type=Path, help="tuned tiles (default: the package's)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
