"""What `bench` measures, from its options: an artefact, a card or an ONNX file, and inputs."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvm_probq.cli import calibrate, devices, options, plans, runners, samples, sources
from tvm_probq.cli.progress import say
from tvm_probq.data.cards import Card, load_card
from tvm_probq.errors import ArtefactError, UnsupportedError, UsageError
from tvm_probq.plan.plan import MODES, plan_of
from tvm_probq.target import profile as profiles

if TYPE_CHECKING:
    from tvm_probq.bench.session import Subject
    from tvm_probq.build.artefact import Artefact
    from tvm_probq.frontend.onnx import Model

SAMPLES = 64
RANDOM_SAMPLES = 8
DEFAULT_MODES = ("static", "dynamic", "predicted")
CARD_SUFFIX = ".toml"
# Options that an artefact has answered already.
COMPILING = ("modes", "scheme", "target")
# Options that measure on this machine only.
HERE = ("against", "layers", "memory", "surrogate_share", "tune_float")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Add where the float model and the inputs come from, and how a model is compiled."""
    parser.add_argument("--card", type=Path, help="a model card: float model and inputs")
    parser.add_argument("--model", type=Path, metavar="ONNX", help="the float model of an artefact")
    parser.add_argument("--data", type=Path, metavar="NPZ", help="ready inputs by input name")
    parser.add_argument(
        "--samples",
        type=options.positive,
        metavar="N",
        help=f"calibrate on the first N inputs of the card or the data (default {SAMPLES})",
    )
    parser.add_argument(
        "--random-calibration",
        type=options.positive,
        metavar="N",
        help="calibrate on N random inputs (default without card and data, "
        f"N = {RANDOM_SAMPLES}); enough for latency",
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=options.shape,
        metavar="NAME=SIZES",
        help="shape of an input whose sizes the model leaves open",
    )
    parser.add_argument(
        "--modes",
        type=modes,
        metavar="MODES",
        help=f"of a model that is compiled here (default {','.join(DEFAULT_MODES)})",
    )
    parser.add_argument("--scheme", help=f"bits of such a model (default {plans.DEFAULT_SCHEME})")
    parser.add_argument("--target", help="its hardware profile (default: the best for here)")


def modes(text: str) -> tuple[str, ...]:
    """Read ``static,predicted``."""
    chosen = tuple(dict.fromkeys(text.split(",")))
    unknown = [mode for mode in chosen if mode not in MODES]
    if unknown:
        message = f"{unknown[0]!r} is no mode: write any of {','.join(MODES)}"
        raise argparse.ArgumentTypeError(message)
    return chosen


def check_options(args: argparse.Namespace) -> None:
    """Raise a UsageError for options that contradict the subject or each other."""
    from tvm_probq.build.archive import is_archive

    artefact = is_archive(args.subject) or args.subject.suffix == ".probq"
    if options.board_of(args) is not None:
        _check_board_options(args, artefact)
    if args.tune_float < 0:
        raise UsageError(f"{args.tune_float} trials are asked for", where="--tune-float")
    if args.layers and args.threads > 1:
        raise UsageError(
            "--layers compares with the peak of one core", where="--threads", fix="use one thread"
        )
    if args.random_calibration is not None and args.data is not None:
        raise UsageError("--data and --random-calibration are given", fix="give only one of them")
    if artefact:
        for name in COMPILING:
            if getattr(args, name) is not None:
                raise UsageError(
                    f"--{name} is given for an artefact, which is compiled already",
                    where=str(args.subject),
                    fix="leave it out, or give the ONNX model or the card instead",
                )
    elif args.model is not None or (args.subject.suffix == CARD_SUFFIX and args.card is not None):
        raise UsageError(
            "the float model is named twice", where=str(args.subject),
            fix="leave --model out, and --card beside a card",
        )  # fmt: skip


def _check_board_options(args: argparse.Namespace, artefact: bool) -> None:
    for name in HERE:
        if getattr(args, name):
            raise UsageError(
                f"--{name.replace('_', '-')} is given for a board",
                why="it measures on this machine only",
                fix="leave it out, or leave out the board",
            )
    if not artefact and args.target is None:
        raise UsageError(
            "a board is given without --target",
            where=str(args.subject),
            fix="name the board's hardware profile: `tvm-probq targets` lists them",
        )


def open_subject(args: argparse.Namespace) -> tuple[Subject, dict[str, Any]]:
    """Open or compile what is to be measured.

    Returns
    -------
    subject : Subject
    facts : dict
        What to say of it in the result.
    """
    from tvm_probq.build.archive import is_archive

    if is_archive(args.subject) or args.subject.suffix == ".probq":
        return _of_artefact(args)
    return _of_model(args)


def _of_artefact(args: argparse.Namespace) -> tuple[Subject, dict[str, Any]]:
    from tvm_probq.bench.ours import of_artefact
    from tvm_probq.bench.session import Subject

    artefact = runners.load(args.subject, args)
    said = artefact.manifest
    devices.require_cpu(said.target.tvm_target, "bench", str(args.subject))
    card = sources.card_of(args)
    path = args.model or (None if card is None else card.model)
    model = None if path is None else _float_model(path, artefact, args)
    if len(said.inputs) != 1:
        raise UnsupportedError(
            f"the artefact has {len(said.inputs)} inputs", where=str(args.subject),
            why="this version times models with one input", fix="time it in your own program",
        )  # fmt: skip
    name, shape, dtype = said.inputs[0]
    taken = _samples(args, card, (name, (1, *shape[1:]), dtype))
    inputs = list(taken.stream())
    subject = Subject(
        {said.mode: of_artefact(artefact, model)}, model, _batch(inputs, said.batch), inputs,
        taken.identity,
    )  # fmt: skip
    facts = {
        "subject": str(args.subject), "kind": "artefact", "scheme": said.scheme,
        "target": said.target.name, "batch": said.batch,
        "calibration_samples": said.calibration_samples,
        "random_calibration": said.random_calibration,
        "peer_samples": len(inputs), "random_inputs": _is_random(taken),
    }  # fmt: skip
    return subject, facts


def _of_model(args: argparse.Namespace) -> tuple[Subject, dict[str, Any]]:
    from tvm_probq.bench.ours import of_model
    from tvm_probq.bench.session import Subject

    is_card = args.subject.suffix == CARD_SUFFIX
    card = load_card(args.subject) if is_card else sources.card_of(args)
    profile = profiles.load_profile(args.target) if args.target else profiles.host_profile()
    devices.require_cpu(profile.tvm_target, "bench", profile.name)
    scheme, chosen = args.scheme or plans.DEFAULT_SCHEME, args.modes or DEFAULT_MODES
    for mode in chosen:
        plans.check_target(plan_of(scheme, mode), profile)
    path = card.model if is_card and card else args.subject
    model = _float(sources.load(path, 1, args.shape, card))
    taken = _samples(args, card, samples.only_input(model.inputs, str(model.source)))
    inputs = list(taken.stream())
    record = None
    if any(mode != "float" for mode in chosen):
        kept = replace(taken, stream=lambda: iter(inputs))
        record = calibrate.new_record(model, kept)
        record = calibrate.collect(model, kept, record, None, quiet=args.quiet)
    say(f"compiling {', '.join(chosen)} for {profile.name}", quiet=args.quiet)
    compiled = of_model(model, record, chosen, scheme, profile)
    facts = {
        "subject": str(args.subject), "kind": "model", "scheme": scheme, "target": profile.name,
        "batch": 1, "calibration_samples": len(inputs), "random_calibration": _is_random(taken),
        "peer_samples": len(inputs), "random_inputs": _is_random(taken),
    }  # fmt: skip
    return Subject(compiled, model, _batch(inputs, 1), inputs, taken.identity), facts


def _float_model(path: Path, artefact: Artefact, args: argparse.Namespace) -> Model:
    """Load the float model of an artefact.

    Raises
    ------
    ArtefactError
        If it is another one.
    """
    said = artefact.manifest
    model = _float(sources.load(path, said.batch, args.shape, sources.card_of(args)))
    if model.sha256 != said.model_sha256:
        raise ArtefactError(
            "the float model is not the one that the artefact was compiled from",
            where=str(args.subject),
            why=f"the SHA-256 of {path} begins {model.sha256[:12]}, "
            f"the artefact's {said.model_sha256[:12]}",
            fix="give the ONNX file or the card that the artefact was compiled from",
        )
    return model


def _float(model: Model) -> Model:
    """Refuse a model that is quantized already: all contestants start from the float one."""
    if model.keeps_parameters:
        raise UnsupportedError(
            "the model is quantized already", where=str(model.source),
            why="contestants are made from the float model",
            fix="give the float model, or the artefact that `tvm-probq compile` makes of this one, "
            "without a model beside it",
        )  # fmt: skip
    return model


def _samples(args: argparse.Namespace, card: Card | None, form: Any) -> samples.Samples:
    """Give inputs: random ones if asked for or if there are no others."""
    count = args.random_calibration
    if count is None and args.data is not None:
        return samples.of_arrays(args.data, form, args.samples or SAMPLES)
    if count is None and card is not None:
        return samples.of_card(card, form, args.samples or SAMPLES)
    return samples.of_chance(form, count or args.samples or RANDOM_SAMPLES, args.seed)


def _batch(inputs: list[Any], batch: int) -> Any:
    """Give the first inputs as one array, repeated where there are too few."""
    return np.concatenate([inputs[i % len(inputs)] for i in range(batch)])


def _is_random(taken: samples.Samples) -> bool:
    return taken.identity.startswith(samples.RANDOM)
