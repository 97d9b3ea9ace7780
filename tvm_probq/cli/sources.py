"""From options to a model, its card and its calibration samples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvm_probq.cli import samples
from tvm_probq.cli.options import DEFAULT_SAMPLES
from tvm_probq.cli.samples import Samples
from tvm_probq.data.cards import Card, load_card
from tvm_probq.data.sets import model_inputs
from tvm_probq.errors import ArtefactError, CalibrationError, UnsupportedError, UsageError
from tvm_probq.frontend.shapes import counted_samples, open_inputs

if TYPE_CHECKING:
    from tvm_probq.build.artefact import Artefact
    from tvm_probq.frontend.onnx import Model

Shapes = Sequence[tuple[str, tuple[int, ...]]]


def add_samples(parser: argparse.ArgumentParser) -> None:
    """Add where calibration samples come from and how many are used."""
    parser.add_argument("--data", type=Path, metavar="NPZ", help="ready inputs by input name")
    parser.add_argument(
        "--samples",
        type=int,
        default=DEFAULT_SAMPLES,
        metavar="N",
        help="use the first N samples (default %(default)s)",
    )
    parser.add_argument(
        "--no-equalize",
        dest="equalize",
        action="store_false",
        help="leave the channels in front of depthwise layers as they are",
    )


def card_of(args: argparse.Namespace) -> Card | None:
    """Load the card, where one is given."""
    return None if args.card is None else load_card(args.card)


def model_path(args: argparse.Namespace, card: Card | None) -> Path:
    """Give the path of the model: the argument's, else the card's.

    Raises
    ------
    UsageError
        If neither is given.
    """
    if args.model is not None:
        return Path(args.model)
    if card is None:
        raise UsageError("no model is given", fix="give an ONNX file or --card CARD")
    return card.model


def model_of(args: argparse.Namespace, card: Card | None, batch: int = 1) -> Model:
    """Import the model that the options name."""
    path = model_path(args, card)
    return load(path, batch, args.shape, card, requantize=args.requantize)


def load(
    path: Path,
    batch: int = 1,
    shapes: Shapes = (),
    card: Card | None = None,
    *,
    requantize: bool = False,
) -> Model:
    """Import the model with a fixed batch.

    Sizes that the model leaves open are those in `shapes`, else those of the card's inputs.

    Raises
    ------
    UnsupportedError
        For a larger batch, if an input has no dimension that counts samples, or another batch than
        the others.
    """
    from tvm_probq.frontend import onnx

    known = {**_card_shapes(path, card), **dict(shapes)}
    model = onnx.load_model(path, batch=batch, shapes=known, requantize=requantize)
    if batch != 1 and counted_samples((*model.inputs, *model.outputs)) is None:
        forms = (*model.inputs, *model.outputs)
        raise UnsupportedError(
            f"inputs and outputs have the shapes {[list(shape) for _, shape, _ in forms]}",
            where=str(path),
            why=f"for the batch {batch} the first dimension of each must count the same samples",
            fix="use --batch 1",
        )
    return model


def model_behind(
    artefact: Artefact, path: Path, shapes: Shapes = (), card: Card | None = None
) -> Model:
    """Import the model that a calibrated artefact was compiled from, with batch 1.

    Raises
    ------
    ArtefactError
        If it is another model.
    """
    model = load(path, 1, shapes, card, requantize=True)  # it was calibrated
    if model.sha256 != artefact.manifest.model_sha256:
        raise ArtefactError(
            "the artefact is of another model",
            where=str(artefact.path),
            why=f"the SHA-256 of {path} is not that in the artefact",
            fix="give the model or card that the artefact was compiled from",
        )
    return model


def layer_names(model: Model) -> list[str]:
    """Names of the layers that a plan can speak of, in graph order."""
    from tvm_probq.calibration.marked import marked_tensors

    tensors = marked_tensors(model.mod).items()
    return [name for name, m in tensors if m.layer is not None or m.is_matmul]


def _card_shapes(path: Path, card: Card | None) -> dict[str, tuple[int, ...]]:
    """The shape of the only input, of which the model leaves sizes open, from a card's inputs."""
    if card is None:
        return {}
    from tvm_probq.frontend.check import graph_inputs
    from tvm_probq.frontend.read import read_onnx

    proto = read_onnx(path)
    unknown = open_inputs(proto)
    if len(graph_inputs(proto)) != 1 or not unknown:
        return {}
    first = next(model_inputs(card, "calibration", 1, 1))
    return dict.fromkeys(unknown, (1, *first.x.shape[1:]))


def samples_of(args: argparse.Namespace, card: Card | None, model: Model) -> Samples:
    """Give the calibration samples that the options name.

    Raises
    ------
    UsageError
        If no source is given.
    CalibrationError
        If no samples are asked for.
    """
    if args.samples < 1:
        raise CalibrationError(
            f"{args.samples} calibration samples are asked for",
            where="--samples",
            fix="ask for at least 2, better 32 or more",
        )
    source = str(model.source)
    # Ready inputs win over a card's, so that a card can still name the model.
    if args.data is not None:
        return samples.of_inputs(args.data, model.inputs, args.samples)
    if card is not None:
        return samples.of_card(card, samples.only_input(model.inputs, source), args.samples)
    raise UsageError(
        "no calibration data is given", fix="give --card CARD or --data NPZ with model inputs"
    )
