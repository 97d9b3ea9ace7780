"""Executed instructions of one inference on emulated ARM processors, against XNNPACK.

    make board
    python benchmarks/arm_instructions.py path/to/card.toml --board .board
    python benchmarks/arm_instructions.py model.probq --board .board --profile

One thread, counted exactly by a plugin of qemu-user. See README.md, "Executed instructions on ARM".
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from arm import ours, profiling, results, xnnpack
from arm.board import CPUS, Board, Cpu, open_board
from arm.counting import Array, Count, count

from tvm_probq.data.cards import Card, load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.errors import ProbqError, UsageError
from tvm_probq.report.json_text import write_json

MODES = "static,predicted"
DEFAULT_CPUS = "cortex-a72,cortex-a76,i8mm"
PEER, PEER_FLOAT = "xnnpack-int8", "xnnpack-fp32"
CALIBRATION = 64
FLOATS = ("float", ours.FLOAT)  # our own; they run few images, for time
FLOAT_IMAGES = 2


@dataclass(frozen=True)
class Contestant:
    """A model to run: a runtime of the board, a file, its inputs, NHWC for TFLite."""

    name: str
    engine: str
    model: Path
    images: Array


@dataclass(frozen=True)
class Data:
    """A card's inputs, NCHW, and what belongs to them."""

    card: Card
    calibration: Array
    images: Array
    labels: Array


def main() -> None:
    """Count and print."""
    args = _arguments()
    try:
        args.work.mkdir(parents=True, exist_ok=True)
        board = open_board(args.board, args.work)
        found = [_measure(path, board, args) for path in args.models]
        if args.json is not None:
            write_json(args.json, {"models": found})
    except ProbqError as error:
        raise SystemExit(f"error: {error}") from None


def _measure(path: Path, board: Board, args: argparse.Namespace) -> dict[str, object]:
    if path.suffix != ".toml":
        return _artefact(path, board, args)
    packages = xnnpack.install(board.work / "litert", board.python)
    board = replace(board, packages=(packages,))
    data = _data(load_card(path), args.images)
    cpus = [_cpu(name) for name in args.cpus.split(",")]
    files = xnnpack.make(data.card.model, data.calibration, packages, board.work)
    record = ours.calibrate(path, CALIBRATION, board.work)
    table: dict[str, dict[str, Count]] = {}
    for cpu in cpus:
        # What is computed is the same on each: one of them is enough for the accuracy.
        images = data.images if cpu is cpus[0] else data.images[:1]
        for item in _contestants(path, images, files, record, cpu, args):
            found = count(board, cpu, item.engine, item.model, item.images)
            if item.engine == "tflite":
                xnnpack.check_delegated(found)
            table.setdefault(item.name, {})[cpu.name] = found
            print(f"{path.stem}, {cpu.name}, {item.name}: {found.instructions:,.0f}", flush=True)
            if args.profile:
                _show(found, args)
    text = results.table(table, [cpu.name for cpu in cpus], PEER, FLOATS, data.labels)
    print(f"\n### {path.stem}\n\n{text}")
    return {"model": path.stem, "instructions": results.plain(table)}


def _contestants(
    card: Path,
    images: Array,
    files: xnnpack.Files,
    record: Path,
    cpu: Cpu,
    args: argparse.Namespace,
) -> list[Contestant]:
    """All that run on a CPU; ours are compiled here."""
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    found = [Contestant(PEER, "tflite", files.int8, last)]
    found.append(Contestant(PEER_FLOAT, "tflite", files.fp32, last))
    work = Path(args.work)
    for mode in [mode for mode in args.modes.split(",") if mode]:
        artefact = ours.compile_artefact(card, record, mode, cpu.profile, work)
        library, _ = ours.library_of(artefact, work)
        few = images[:FLOAT_IMAGES] if mode in FLOATS else images
        found.append(Contestant(mode, "tvm", library, few))
    if not args.no_float:
        library = ours.float_library(load_card(card).model, cpu.profile, work)
        found.append(Contestant(ours.FLOAT, "tvm", library, images[:FLOAT_IMAGES]))
    return found


def _artefact(path: Path, board: Board, args: argparse.Namespace) -> dict[str, object]:
    """Count an artefact on the CPU of its target, or on those that are asked for."""
    library, manifest = ours.library_of(path, board.work)
    names = args.cpus.split(",") if args.cpus != DEFAULT_CPUS else []
    cpus = [_cpu(name) for name in names]
    cpus = cpus or [cpu for cpu in CPUS.values() if cpu.profile == manifest.target.name][:1]
    if not cpus:
        raise UsageError(f"{path} is for {manifest.target.name}", fix="say --cpus")
    (_, shape, dtype), *others = manifest.inputs
    if others:
        raise UsageError(f"{path} has {1 + len(others)} inputs", fix="one is what is counted here")
    images = np.random.default_rng(0).normal(size=shape).astype(dtype)
    table: dict[str, dict[str, Count]] = {manifest.mode: {}}
    for cpu in cpus:
        found = table[manifest.mode][cpu.name] = count(board, cpu, "tvm", library, images)
        print(f"{path.name}, {cpu.name}: {found.instructions:,.0f}", flush=True)
        if args.profile:
            _show(found, args)
    return {"model": path.name, "instructions": results.plain(table)}


def _show(found: Count, args: argparse.Namespace) -> None:
    print("\n".join(profiling.report(found, args.functions, args.blocks)), flush=True)


def _data(card: Card, images: int) -> Data:
    (calibration,) = model_inputs(card, "calibration", CALIBRATION, CALIBRATION)
    (evaluation,) = model_inputs(card, "evaluation", images, images)
    if evaluation.y is None:
        raise UsageError(f"{card.evaluation} has no labels")
    return Data(card, calibration.x, evaluation.x, evaluation.y)


def _cpu(name: str) -> Cpu:
    if name not in CPUS:
        raise UsageError(f"no emulated CPU {name}", fix=f"choose among {', '.join(CPUS)}")
    return CPUS[name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("models", nargs="+", type=Path, help="cards (.toml), or artefacts for an ARM target")
    add("--board", type=Path, default=Path(".board"), help="what `make board` made")
    add("--work", type=Path, default=Path("build/arm"), help="folder for files of the benchmark")
    add("--cpus", default=DEFAULT_CPUS, help=f"of {', '.join(CPUS)}")
    add("--modes", default=MODES, help="of static, dynamic, predicted, float")
    add("--images", type=int, default=50, help="inferred for the accuracy")
    add("--no-float", action="store_true", help=f"leave out {ours.FLOAT}")
    add("--profile", action="store_true", help="also functions, instructions and hot blocks")
    add("--functions", type=int, default=20, help="listed by --profile")
    add("--blocks", type=int, default=4, help="listed by --profile")
    add("--json", type=Path, metavar="FILE", help="also write the results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
