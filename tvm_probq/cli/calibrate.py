"""``tvm-probq calibrate``: ranges and surrogate fits of a model, from sample inputs, to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvm_probq.cli import options, sources
from tvm_probq.cli.progress import progress, say
from tvm_probq.cli.samples import Samples
from tvm_probq.errors import CalibrationError
from tvm_probq.files import check_writable, write_file

if TYPE_CHECKING:
    from tvm_probq.calibration.record import CalibrationRecord
    from tvm_probq.frontend.onnx import Model

HELP = "measure ranges and fit surrogates on sample inputs; an interrupted run is continued"
WHAT = "the calibration record"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    options.add_model(parser)
    sources.add_samples(parser)
    options.add_output(parser, "RECORD", "the calibration record to write or to continue")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Calibrate to a file."""
    check_writable(args.output, what=WHAT, kind=CalibrationError)
    card = sources.card_of(args)
    model = sources.model_of(args, card)
    samples = sources.samples_of(args, card, model)
    record = _record_at(args.output, model, samples, equalize=args.equalize)
    resumed = record.samples
    if resumed:
        say(f"continuing {args.output} after {resumed} samples", quiet=args.quiet)
    # What is no regular file cannot be replaced every few samples.
    special = args.output.exists() and not args.output.is_file()
    record = collect(model, samples, record, None if special else args.output, quiet=args.quiet)
    if special:
        from tvm_probq.build.artefact import record_bytes

        write_file(args.output, record_bytes(record), what=WHAT, kind=CalibrationError)
    return {
        "record": str(args.output),
        "model": str(model.source),
        "model_sha256": model.sha256,
        "samples": record.samples,
        "resumed_after": resumed,
        "tensors": len(record.tensors),
    }


def show(result: dict[str, Any]) -> str:
    """Say what was written."""
    return (
        f"{result['record']}: {result['tensors']} tensors over {result['samples']} samples "
        f"of {result['model']}"
    )


def collect(
    model: Model,
    samples: Samples,
    record: CalibrationRecord,
    path: Path | None,
    *,
    quiet: bool,
) -> CalibrationRecord:
    """Add samples to a record, with a progress bar."""
    from tvm_probq.calibration import collect as calibration

    stream = progress(samples.stream(), samples.count, "calibrating", quiet=quiet)
    return calibration.collect(model.mod, stream, record, path)


def new_record(model: Model, samples: Samples, *, equalize: bool = True) -> CalibrationRecord:
    """Make an empty record of a model and its samples."""
    from tvm_probq.calibration.record import CalibrationRecord

    return CalibrationRecord(model.sha256, samples.identity, equalize=equalize)


def load_record(path: Path, model: Model) -> CalibrationRecord:
    """Load a record and check that it is of this model.

    Raises
    ------
    CalibrationError
        If it cannot be read or is of another model.
    """
    from tvm_probq.calibration.record import CalibrationRecord

    record = CalibrationRecord.load(path)
    if record.model_hash != model.sha256:
        raise CalibrationError(
            "the calibration record is of another model",
            where=str(path),
            why=f"the SHA-256 of {model.source} begins {model.sha256[:12]}, "
            f"the record's {record.model_hash[:12]}",
            fix="give the record of this model, or another file to calibrate to",
        )
    return record


def _record_at(path: Path, model: Model, samples: Samples, *, equalize: bool) -> CalibrationRecord:
    if not path.is_file():
        return new_record(model, samples, equalize=equalize)
    record = load_record(path, model)
    if record.data_hash != samples.identity:
        raise CalibrationError(
            "the calibration record is of other data",
            where=str(path),
            why=f"it was not made from {samples.source} with the same preprocessing",
            fix="write to another file, or delete this one to calibrate anew",
        )
    if record.equalize != equalize:
        raise CalibrationError(
            f"the calibration record was made with{'' if record.equalize else 'out'} equalization",
            where=str(path),
            fix="write to another file, or delete this one to calibrate anew",
        )
    if record.samples > samples.count:
        raise CalibrationError(
            f"the calibration record holds {record.samples} samples, {samples.count} are asked",
            where=str(path),
            why="samples cannot be taken out of a record",
            fix="write to another file, or delete this one to calibrate anew",
        )
    return record
