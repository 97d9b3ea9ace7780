"""Options that several commands share, and the types of their values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tvm_probq.board.address import Address, parse
from tvm_probq.errors import UsageError

DEFAULT_SAMPLES = 128
BOARD_TIMEOUT_S = 60.0


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    value = int(text) if text.isascii() and text.isdigit() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return value


def positive_number(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``NAME=1,3,224,224``."""
    name, equals, sizes = text.rpartition("=")
    try:
        return name, tuple(positive(size) for size in _parts(name and equals, sizes))
    except argparse.ArgumentTypeError:
        message = f"{text!r} is no shape: write NAME=1,3,224,224"
        raise argparse.ArgumentTypeError(message) from None


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the model, as a file or by a card, and its shapes."""
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL", help="an ONNX model")
    parser.add_argument("--card", type=Path, help="a model card (TOML), instead of or beside MODEL")
    add_shape(parser)
    add_requantize(parser)


def add_shape(parser: argparse.ArgumentParser) -> None:
    """Add ``--shape``."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        type=shape,
        metavar="NAME=SIZES",
        help="shape of an input whose sizes the model leaves open, such as image=1,3,224,224 "
        "(default: that of the card's inputs)",
    )


def add_requantize(parser: argparse.ArgumentParser) -> None:
    """Add ``--requantize``."""
    parser.add_argument(
        "--requantize",
        action="store_true",
        help="take a model that is quantized already (QDQ) as the float model that it stands for",
    )


def add_board(parser: argparse.ArgumentParser, *, required: bool = False) -> None:
    """Add where a board is, and how long to wait for it."""
    place = parser.add_mutually_exclusive_group(required=required)
    place.add_argument(
        "--rpc", type=address, metavar="HOST:PORT", help="on the board whose server listens there"
    )
    place.add_argument(
        "--tracker",
        type=address,
        metavar="HOST:PORT",
        help="on a board that this RPC tracker lends; needs --key",
    )
    parser.add_argument("--key", default="", help="label of the board")
    parser.add_argument(
        "--timeout",
        type=positive_number,
        default=BOARD_TIMEOUT_S,
        metavar="S",
        help="longest wait for each call of the board (default %(default)g s)",
    )


def board_of(args: argparse.Namespace) -> Address | None:
    """Give the address of `add_board`; None without one.

    Raises
    ------
    UsageError
        If the key is missing, or says nothing.
    """
    if args.tracker is not None:
        if not args.key:
            raise UsageError("--tracker is given without --key", fix="name a kind of board")
        host, port = args.tracker
        return Address(host, port, args.key, tracker=True)
    if args.rpc is not None:
        host, port = args.rpc
        return Address(host, port, args.key)
    if args.key:
        raise UsageError("--key is given without a board", fix="add --rpc or --tracker")
    return None


def address(text: str) -> tuple[str, int]:
    """Read ``HOST:PORT``."""
    try:
        return parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_results(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Add what every command takes: ``--json`` and ``--quiet``."""
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the result as JSON", **default
    )
    parser.add_argument("--quiet", action="store_true", help="only errors", **default)


def add_output(parser: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Add ``-o``."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar=metavar, help=text)


def _parts(good: str, sizes: str) -> list[str]:
    if not good:
        raise argparse.ArgumentTypeError("no name")
    return sizes.split(",")
