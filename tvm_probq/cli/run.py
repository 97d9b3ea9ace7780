"""``tvm-probq run``: inputs through an artefact, outputs to a file."""

from __future__ import annotations

import argparse
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvm_probq.cli import options, runners
from tvm_probq.data import npz
from tvm_probq.errors import DataError, UsageError
from tvm_probq.files import check_writable, write_file

HELP = "run an artefact on an array (.npy), or on several by name (.npz)"
WHAT = "the output"
DAMAGE = (ValueError, EOFError, SyntaxError, MemoryError)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help="what `compile` wrote")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="X",
        help="samples as the model takes them, any number: .npy, or .npz by input name",
    )
    options.add_board(parser)
    options.add_output(parser, "Y", "where outputs go: .npy for one output, .npz for any number")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Read, run and write."""
    check_writable(args.output, what=WHAT)
    artefact = runners.load(args.artefact, args)
    names = [name for name, _, _ in artefact.manifest.outputs]
    if args.output.suffix != ".npz" and len(names) != 1:
        raise UsageError(
            f"the model has {len(names)} outputs ({', '.join(names)}), which no .npy can hold",
            where=str(args.output),
            fix="let the output's name end in .npz",
        )
    inputs = read_inputs(args.input)
    with runners.open_runner(artefact, args) as model:
        outputs = dict(zip(names, model.run(inputs), strict=True))
    write_file(args.output, encode(outputs, archive=args.output.suffix == ".npz"), what=WHAT)
    return {
        "output": str(args.output),
        "count": len(np.atleast_1d(next(iter(outputs.values())))),
        "mode": artefact.manifest.mode,
        "outputs": [
            {"name": name, "shape": list(y.shape), "dtype": str(y.dtype)}
            for name, y in outputs.items()
        ],
    }


def show(result: dict[str, Any]) -> str:
    """Say what was written."""
    forms = ", ".join(f"{y['name']} {y['dtype']} {y['shape']}" for y in result["outputs"])
    return f"{result['output']}: {forms}"


def read_inputs(path: Path) -> dict[str, NDArray[Any]] | NDArray[Any]:
    """Read one array, or several by name; nothing is ever unpickled.

    Raises
    ------
    DataError
        If the file cannot be read or is neither form.
    """
    if path.suffix == ".npz":
        return {key: _whole(path, info) for key, info in npz.read_headers(path).items()}
    try:
        array = np.load(path, allow_pickle=False)
    except OSError as error:
        why = error.strerror or str(error)
        raise DataError(
            "the input cannot be read", where=str(path), why=why, fix="check the path"
        ) from error
    except DAMAGE as error:
        raise DataError(
            "the input is no valid .npy file or is damaged",
            where=str(path),
            why=str(error),
            fix="write it with numpy.save",
        ) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(
            "the input is an .npz archive", where=str(path), fix="let its name end in .npz"
        )
    return array


def encode(outputs: dict[str, NDArray[Any]], *, archive: bool) -> bytes:
    """Give outputs as the content of an .npz, or the only one as that of an .npy."""
    arrays = {}
    for name, output in outputs.items():
        stream = io.BytesIO()
        np.save(stream, output, allow_pickle=False)
        arrays[f"{name}.npy"] = stream.getvalue()
    from tvm_probq.build.archive import pack

    # numpy.savez would take an output called "file" for its own argument.
    return pack(arrays) if archive else next(iter(arrays.values()))


def _whole(path: Path, info: npz.ArrayInfo) -> NDArray[Any]:
    """All of a stored array, a single number and one without elements among them."""
    rows = info if info.shape else replace(info, shape=(1,))
    blocks = npz.stream(path, rows, max(1, rows.shape[0]))
    return next(blocks, np.empty(rows.shape, info.dtype)).reshape(info.shape)
