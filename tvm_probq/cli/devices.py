"""What commands that time kernels can time."""

from __future__ import annotations

from typing import Any

from tvm_probq.errors import UsageError


def require_cpu(tvm_target: dict[str, Any], command: str, where: str) -> None:
    """Refuse a CUDA device for a command that times processors.

    Parameters
    ----------
    tvm_target : dict
        Of a profile or of an artefact's manifest.
    command : str
        Of the command line.
    where : str
        What to call the target in messages.

    Raises
    ------
    UsageError
        If the target is a CUDA device.
    """
    if tvm_target.get("kind") == "cuda":
        raise UsageError(
            f"`tvm-probq {command}` times CPUs alone", where=where,
            why="kernels of a CUDA device run beside the processor that starts them",
            fix="measure CUDA devices by `python benchmarks/cuda.py`",
        )  # fmt: skip
