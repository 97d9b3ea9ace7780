"""A CUDA device: bit-equality with the simulator, and latency against PyTorch in float16.

    python benchmarks/cuda.py --target cuda-sm90 path/to/card.toml path/to/model.onnx
    python benchmarks/cuda.py --target cuda-sm90 resnet50 mobilenet_v2 --batches 1,8,32 --torch

Models are cards, ONNX files, or the names of `benchmarks/networks.py`, whose weights are random.
Without a device it says what is missing, and exits with status 1.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import onnx
import tvm
from latency import markdown
from tvm import relax

from tvm_probq.build.compile import compile_model
from tvm_probq.calibration.collect import collect
from tvm_probq.calibration.record import CalibrationRecord
from tvm_probq.data.cards import load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.errors import ProbqError
from tvm_probq.frontend.onnx import load_model
from tvm_probq.plan.plan import plan_of
from tvm_probq.simulator.interpreter import Simulator
from tvm_probq.target.cuda import device_fix, device_problem
from tvm_probq.target.profile import TargetProfile, load_profile

MODES = ("static", "predicted")
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
        with tempfile.TemporaryDirectory() as folder:
            rows = [row for m in args.models for row in measure(m, args, Path(folder))]
    except ProbqError as error:
        print(f"error: {error}")
        return 1
    print(markdown(("model", "batch", "contestant", "ms", "times static"), rows))
    return 0


def measure(name: str, args: argparse.Namespace, folder: Path) -> list[list[str]]:
    """Rows of one model: each mode is compared with the simulator, then all are timed in turn."""
    path, samples = _subject(name, folder)
    profile, rows = load_profile(args.target), []
    record: CalibrationRecord | None = None
    for batch in args.batches:
        model = load_model(path, batch=batch)
        if record is None:
            single = load_model(path, batch=1)
            record = collect(
                single.mod, (s[None] for s in samples), CalibrationRecord(single.sha256, name)
            )
        x = np.ascontiguousarray(np.resize(samples, (batch, *samples.shape[1:])))
        calls = {mode: _call(model, mode, record, profile, x) for mode in MODES}
        if args.torch:
            calls |= _torch_call(name, batch)
        times = in_turn(calls)
        for contestant, ms in times.items():
            ratio = f"{ms / times['static']:.3f}"
            rows.append([name, str(batch), contestant, f"{ms:.3f}", ratio])
    return rows


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
    model: Any, mode: str, record: CalibrationRecord, profile: TargetProfile, x: Any
) -> Call:  # fmt: skip
    """What runs a compiled model once, after its outputs were found equal to the simulator's."""
    compiled = compile_model(model, plan_of("w8a8", mode), record, profile)
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


def _torch_call(name: str, batch: int) -> dict[str, Call]:
    """PyTorch in float16, channels last, in a CUDA graph; nothing where it has no such model."""
    try:
        import torch
        import torchvision
    except ImportError:
        print("PyTorch is not measured: torch and torchvision are not installed")
        return {}
    make = getattr(torchvision.models, name, None)
    if make is None:
        print(f"PyTorch is not measured: torchvision has no {name}")
        return {}
    kind = {"dtype": torch.float16, "memory_format": torch.channels_last}
    model = make().eval().to("cuda", **kind)
    x = torch.randn(batch, 3, SIDE, SIDE, device="cuda").to(**kind)
    with torch.no_grad():
        for _ in range(WARM_UP):
            model(x)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(x)

    def run() -> None:
        graph.replay()
        torch.cuda.synchronize()

    return {"PyTorch float16": run}


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
    parser.add_argument("--torch", action="store_true", help="also PyTorch in float16")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
