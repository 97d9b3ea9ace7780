"""``tvm-probq measure``: time every kernel of networks on a machine, for the latency of plans."""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_probq.cli import calibrate, devices, options, samples, sources
from tvm_probq.cli.progress import say
from tvm_probq.data.cards import load_card
from tvm_probq.errors import TargetError, UsageError
from tvm_probq.files import check_writable
from tvm_probq.target import profile as profiles

if TYPE_CHECKING:
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.frontend.onnx import Model
    from tvm_probq.latency.held_out import Quality
    from tvm_probq.latency.measured import MeasuredKernels
    from tvm_probq.latency.place import Place
    from tvm_probq.plan.plan import Plan

HELP = "time the kernels of networks on this machine or a board, for `plan --budget latency=...`"
SAMPLES = 8
CARD_SUFFIX = ".toml"
# Options in the mode predicted, and w8a8 in the others: all kinds of kernels that plans choose.
VARIANTS = (
    "w8a8 predicted", "w8a8 static", "w8a8 dynamic", "w4a8:correction=static predicted",
    "w4a8:correction=leading predicted", "w6a8:correction=static predicted",
)  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A network to measure: its name and how to come by it, its calibration and its inputs."""

    name: str
    model: Model
    record: CalibrationRecord
    inputs: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "subjects", nargs="*", type=Path, metavar="NETWORK",
        help="ONNX models and model cards (default: networks of many kinds, made here)",
    )  # fmt: skip
    parser.add_argument("--target", help="a hardware profile (default: the best for this machine)")
    parser.add_argument(
        "--variant", action="append", default=[], metavar="'OPTION MODE'",
        help="such as 'w8a8 predicted' or 'w4a8:correction=static predicted'; may be given again "
        f"(default: {len(VARIANTS)} that cover what `plan` offers)",
    )  # fmt: skip
    options.add_shape(parser)
    options.add_board(parser)
    options.add_output(
        parser, "KERNELS", "the file of measured kernels (JSON) to write or to continue"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure what the file lacks; it is written after each variant of a network."""
    board = options.board_of(args)
    check_writable(args.output, what="the file of measured kernels", kind=TargetError)
    names = _names(args.subjects)
    if board is None:
        from tvm_probq.bench.threads import use_threads

        use_threads(1)  # before TVM is imported
    from tvm_probq.latency.place import Here, OnBoard

    profile = profiles.load_profile(args.target) if args.target else profiles.host_profile()
    devices.require_cpu(profile.tvm_target, "measure", profile.name)
    variants = args.variant or list(VARIANTS)
    plans = {variant: plan_of_variant(variant) for variant in variants}
    place: Place = Here(profile) if board is None else OnBoard(profile, board, args.timeout)
    with place:
        measured = _file(args.output, profile.name, place.name)
        done = 0
        for network in _networks(args, names, measured, variants):
            missing = [v for v in variants if not measured.has(network.name, v)]
            for variant in missing:
                say(f"measuring {network.name}, {variant}", quiet=args.quiet)
                _measure(network, variant, plans[variant], profile, place, measured)
                measured.save(args.output)
                done += 1
    return {"file": str(args.output), "measured": done, **_facts(measured)}


def show(result: dict[str, Any]) -> str:
    """Lay out the networks, and how well a model of the others tells each."""
    from tvm_probq.report.tables import Cell, table

    rows: list[list[Cell]] = []
    for row in result["networks"]:
        error = row.get("median_error")
        rows.append([
            row["name"], row["variant"], row["kernels"], row["us"],
            None if error is None else f"{100 * error:.1f} %",
            None if error is None else f"{row['total']:.3f}",
        ])  # fmt: skip
    lines = [
        table(["network", "variant", "kernels", "us", "held out: median error", "total"], rows),
        "",
        (
            f"{result['file']}: {result['kernels']} different kernels of {result['target']}, on "
            f"{result['machine']}"
        ),
    ]
    if "spearman" in result:
        lines.append(
            f"each network told by a model of the others: rank correlation "
            f"{result['spearman']:.4f}, median error of a kernel "
            f"{100 * result['median_error']:.1f} %"
        )
    return "\n".join(lines)


def plan_of_variant(variant: str) -> Plan:
    """The uniform plan of ``w4a8:correction=static predicted``.

    Raises
    ------
    UsageError
        If it is no option and mode.
    """
    from tvm_probq.plan.plan import MODES, LayerPlan, Plan
    from tvm_probq.planning.options import Option

    name, _, mode = variant.partition(" ")
    if mode not in MODES[:3]:
        raise UsageError(
            f"the variant {variant!r} names no mode", where="--variant",
            why="a variant is an option of `plan`, a space and a mode",
            fix=f"write one of {', '.join(MODES[:3])} behind it, such as 'w8a8 predicted'",
        )  # fmt: skip
    return Plan(replace(Option.parse(name).layer(LayerPlan()), mode=mode))


def _file(path: Path, target: str, machine: str) -> MeasuredKernels:
    """The file as far as it is there.

    Raises
    ------
    TargetError
        If it is of another target or machine: times of both together mean nothing.
    """
    from tvm_probq.latency.measured import MeasuredKernels

    if not path.is_file():
        return MeasuredKernels(target, machine)
    found = MeasuredKernels.load(path)
    if (found.target, found.machine) != (target, machine):
        raise TargetError(
            "the file holds kernels of another target or machine", where=str(path),
            why=f"it is of {found.target} on {found.machine}, this is {target} on {machine}",
            fix="write to another file",
        )  # fmt: skip
    return found


def _names(subjects: Sequence[Path]) -> list[str]:
    """Names of the networks, which tell them apart in the file.

    Raises
    ------
    UsageError
        If two have the same, or a file is missing: said before hours of measuring.
    """
    names = [path.stem for path in subjects]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise UsageError(
            f"two networks have the name {twice}",
            why="networks are known by the names of their files", fix="rename one of the files",
        )  # fmt: skip
    missing = next((path for path in subjects if not path.is_file()), None)
    if missing is not None:
        raise UsageError("there is no such file", where=str(missing), fix="check the path")
    if subjects:
        return names
    from tvm_probq.latency.suite import SUITE

    return list(SUITE)


def _networks(
    args: argparse.Namespace,
    names: Sequence[str],
    measured: MeasuredKernels,
    variants: Sequence[str],
) -> Iterator[Network]:
    """The networks that are not measured wholly, one after the other."""
    for index, name in enumerate(names):
        if not all(measured.has(name, variant) for variant in variants):
            yield _of_file(args.subjects[index], args) if args.subjects else _of_suite(name)


def _of_suite(name: str) -> Network:
    from tvm_probq.latency.suite import suite_model

    with tempfile.TemporaryDirectory(prefix="tvm-probq-") as folder:
        path = Path(folder, f"{name}.onnx")
        path.write_bytes(suite_model(name))
        model = sources.load(path)
    return _calibrated(name, model, _random(model))


def _of_file(path: Path, args: argparse.Namespace) -> Network:
    if path.suffix != CARD_SUFFIX:
        model = sources.load(path, 1, args.shape)
        return _calibrated(path.stem, model, _random(model))
    card = load_card(path)
    model = sources.load(card.model, 1, args.shape, card)
    form = samples.only_input(model.inputs, str(model.source))
    return _calibrated(path.stem, model, samples.of_card(card, form, SAMPLES))


def _random(model: Model) -> samples.Samples:
    """Random inputs; of whole numbers zeros, which every table of embeddings has."""
    forms = enumerate(model.inputs)
    return samples.of_several([
        samples.of_chance(form, SAMPLES, 0, place=i) if np.dtype(form[2]).kind == "f"
        else _zeros(form)
        for i, form in forms
    ])  # fmt: skip


def _zeros(form: Any) -> samples.Samples:
    _, shape, dtype = form
    zeros = np.zeros(shape, dtype)
    return samples.Samples("zeros", SAMPLES, "zeros", lambda: itertools.repeat(zeros, SAMPLES))


def _calibrated(name: str, model: Model, taken: samples.Samples) -> Network:
    record = calibrate.collect(model, taken, calibrate.new_record(model, taken), None, quiet=True)
    first = next(iter(taken.stream()))
    arrays = first if isinstance(first, tuple) else (first,)
    names = [form[0] for form in model.inputs]
    return Network(name, model, record, dict(zip(names, arrays, strict=True)))


def _measure(
    network: Network, variant: str, plan: Plan, profile: profiles.TargetProfile, place: Place,
    measured: MeasuredKernels,
) -> None:  # fmt: skip
    from tvm_probq.latency.ticked import lowered_calls, ticked, time_kernels
    from tvm_probq.tuning.database import shipped_database

    target = profile.target()
    tiles = shipped_database(profile.name)
    built = ticked(lowered_calls(network.model, plan, network.record, target, tiles), target)
    times = time_kernels(place.run(built, network.inputs), built.calls)
    measured.add(network.name, variant, built.kernels, times)


def _facts(measured: MeasuredKernels) -> dict[str, Any]:
    from tvm_probq.latency.held_out import can_hold_out, held_out
    from tvm_probq.latency.model import distinct

    quality: Quality | None = None
    if can_hold_out(measured):
        quality = held_out(measured)
    rows: list[dict[str, Any]] = [
        {"name": name, "variant": variant, "kernels": len(rows), "us": sum(m.us for m in rows)}
        for name, variants in measured.networks.items()
        for variant, rows in variants.items()
    ]
    found: dict[str, Any] = {
        "target": measured.target, "machine": measured.machine,
        "kernels": len(distinct(measured.measurements)[0]), "networks": rows,
    }  # fmt: skip
    if quality is not None:
        for row in rows:
            (one,) = (n for n in quality.networks if n.network == row["name"])
            row["median_error"] = float(np.median(one.errors))
            row["total"] = one.totals[row["variant"]]
        found |= {"spearman": quality.spearman, "median_error": quality.median_error}
    return found
