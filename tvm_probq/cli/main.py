"""The entry point: parses the command line, runs one command, and turns errors into messages."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any, Protocol

from tvm_probq.cli import (
    bench,
    board,
    calibrate,
    compilation,
    debug,
    demo,
    deploy,
    doctor,
    evaluation,
    inspection,
    measure,
    options,
    planning,
    run,
    targets,
    tune,
)
from tvm_probq.environment import enforce, installed, quick_check
from tvm_probq.errors import ProbqError, UsageError
from tvm_probq.files import check_writable
from tvm_probq.report.json_text import write_json

FAILED = 1
USAGE = 2
INTERRUPTED = 130
TERMINATED = 143


class Command(Protocol):
    """What a command's module has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the options."""

    def run(self, args: argparse.Namespace) -> dict[str, Any]:
        """Do the work and give the JSON result; ``"ok": False`` means exit status 1."""

    def show(self, result: dict[str, Any]) -> str:
        """Lay the result out for a terminal."""


COMMANDS: dict[str, Command] = {
    "demo": demo,
    "calibrate": calibrate,
    "plan": planning,
    "compile": compilation,
    "run": run,
    "deploy": deploy,
    "eval": evaluation,
    "bench": bench,
    "inspect": inspection,
    "debug": debug,
    "tune": tune,
    "measure": measure,
    "board": board,
    "targets": targets,
    "doctor": doctor,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Instead of those of the process.

    Returns
    -------
    int
        Exit status: 0 done, 1 a check failed, 2 a user's mistake, 130 Ctrl-C, 143 terminated.
    """
    args = make_parser().parse_args(arguments)
    try:
        with _termination_unwinds():
            return _run(args)
    except ProbqError as error:
        print(f"tvm-probq {args.command}: error: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print(f"\ntvm-probq {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has left: no complaint, also not when Python closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="tvm-probq",
        description="Probabilistic dynamic quantization of ONNX models with Apache TVM.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.HELP, description=command.HELP)
        command.add_arguments(sub)
        options.add_results(sub)
    return parser


def _run(args: argparse.Namespace) -> int:
    command = COMMANDS[args.command]
    if args.json is not None:
        check_writable(args.json, what="the JSON result", kind=UsageError)
    if args.command != "doctor":
        enforce(quick_check())
    result = command.run(args)
    if args.json is not None:
        write_json(args.json, result)
    if not args.quiet:
        print(command.show(result), flush=True)
    return FAILED if result.get("ok") is False else 0


def _version() -> str:
    return f"tvm-probq {installed('tvm_probq')} (TVM {installed('apache-tvm')})"


@contextlib.contextmanager
def _termination_unwinds() -> Iterator[None]:
    """Let a polite kill clean up temporary files, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(_number: int, _frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
