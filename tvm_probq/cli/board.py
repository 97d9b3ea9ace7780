"""``tvm-probq board``: the server of a board, and what a board is."""

from __future__ import annotations

import argparse
from typing import Any

from tvm_probq.board.server import command
from tvm_probq.cli import options
from tvm_probq.errors import UsageError

HELP = "serve this machine as a board, or ask a board what it is"
SERVE_HELP = "run the RPC server of a board on this machine until it is stopped"
VECTORS = ("sse", "ssse", "avx", "amx", "fma", "f16c")
INFO_HELP = "say what a board is: architecture, CPU features, versions, who uses it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two actions and their options."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    serve = actions.add_parser("serve", help=SERVE_HELP, description=SERVE_HELP)
    command.add_arguments(serve)
    info = actions.add_parser("info", help=INFO_HELP, description=INFO_HELP)
    info.add_argument(
        "--rpc", type=options.address, metavar="HOST:PORT", required=True, help="the board's server"
    )
    info.add_argument(
        "--timeout", type=options.positive_number, default=options.BOARD_TIMEOUT_S, metavar="S",
        help="longest wait (default %(default)g s)",
    )  # fmt: skip
    for action in (serve, info):
        # Without a default, so that what stands before the action's name is kept.
        options.add_results(action, default=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Serve or ask."""
    if args.action == "serve":
        try:
            return {"sessions": command.serve(args)}
        except command.Refused as error:
            raise UsageError(str(error)) from error
    from tvm_probq.board.address import Address
    from tvm_probq.board.facts import ask_facts

    address = Address(*args.rpc)
    facts = ask_facts(address.host, address.port, str(address), args.timeout)
    return {
        "board": str(address),
        **facts.to_json(),
        "key": facts.key,
        "tracker": facts.tracker,
        "client": facts.client,
        "busy_s": facts.busy_s,
        "max_session_s": facts.max_session_s,
    }


def show(result: dict[str, Any]) -> str:
    """Say how many sessions there were, or lay the facts out."""
    if "sessions" in result:
        return f"stopped after {result['sessions']} sessions"
    client = f"{result['client']}, for {result['busy_s']:.0f} s" if result["client"] else "nobody"
    rows = {
        "board": f"{result['board']} ({result['name']})",
        **described(result),
        "key": result["key"] or "none",
        "tracker": result["tracker"] or "none",
        "used by": client,
    }
    return laid_out(rows)


def described(facts: dict[str, Any]) -> dict[str, str]:
    """Give the rows that tell what a board is."""
    return {
        "architecture": f"{facts['architecture']}, {facts['cpus']} CPUs",
        "features": " ".join(f for f in facts["features"] if _matters(f, facts)),
        "versions": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
    }


def _matters(feature: str, facts: dict[str, Any]) -> bool:
    """Whether kernels could use a feature; Linux lists a hundred of x86, of the system too."""
    return facts["architecture"] != "x86_64" or feature.startswith(VECTORS)


def laid_out(rows: dict[str, str]) -> str:
    """Give rows with their names in one column."""
    width = max(map(len, rows))
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows.items())
