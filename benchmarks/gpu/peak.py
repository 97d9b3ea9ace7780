"""The int8 peak of a device: a kernel of `mma.sync` products that nothing else waits for."""

from __future__ import annotations

from tvm import tirx

from tvm_probq.kernels.cuda.launch import launch_kernel
from tvm_probq.kernels.cuda.names import template
from tvm_probq.kernels.small.emit import Argument

NAME = "peak"
THREADS = 256  # of a block
BLOCKS = 4  # of each multiprocessor, all of them there at once
CHAINS = 8  # products of a warp that do not wait for each other
TURNS = 4096
MACS = 16 * 8 * 32  # of one product of a warp
WARP = 32
FIRST = 75  # architecture that has `mma.sync` of bytes


def has_products(arch: str) -> bool:
    """Whether an architecture has tensor cores for bytes."""
    return int("".join(c for c in arch if c.isdigit())) >= FIRST


def peak_kernel(processors: int) -> tirx.PrimFunc:
    """The kernel for a device of so many multiprocessors; its one argument is `peak_shape`."""
    arguments = [Argument("out", peak_shape(processors), "int32")]
    name = template("products", TURNS, CHAINS)
    return launch_kernel(NAME, arguments, name, ("out",), (BLOCKS * processors, 1, 1), THREADS)


def peak_shape(processors: int) -> tuple[int]:
    """An element for each thread."""
    return (BLOCKS * processors * THREADS,)


def peak_macs(processors: int) -> int:
    """Multiply-accumulates of a call."""
    return BLOCKS * processors * THREADS // WARP * TURNS * CHAINS * MACS


def check_peak(ptx: str) -> None:
    """Make sure that the loop is left with its products.

    Raises
    ------
    SystemExit
        If the compiler took any of them out.
    """
    body = ptx.split(f"{NAME}_kernel(")[-1]
    found = body.count("mma.sync")
    if found == 0 or found % CHAINS:
        raise SystemExit(f"error: the peak's kernel has {found} mma.sync, not {CHAINS} a turn")
