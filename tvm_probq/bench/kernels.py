"""The time of single kernels, each called by the virtual machine and repeated alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm
from numpy.typing import NDArray
from tvm import relax

MS_PER_S = 1e3
TRIES = 3
SPAN_S = 1e-3  # kernels shorter than this are called several times between two looks at the clock
MOST_CALLS = 500
REPEATS = 15
BUILTIN = "vm.builtin."


@dataclass(frozen=True)
class KernelTime:
    """One call of a kernel in a run.

    Attributes
    ----------
    name : str
        Of the kernel; several calls may have the same.
    ms : float
        Median time on the clock, code and data in the caches.
    """

    name: str
    ms: float


def kernel_times(
    executable: Any, x: NDArray[Any], wanted: Callable[[str], bool] = lambda _name: True
) -> list[KernelTime]:
    """Time every wanted kernel call of one run, in order.

    The virtual machine announces each kernel before it calls it. There and then the call is
    repeated by TVM's evaluator in C++, with the arguments as the network gives them, and nothing is
    counted but the kernel.

    Parameters
    ----------
    executable : tvm.relax.VMExecutable
        Of `build` without the function that calls all kernels (``ahead_of_time=False``).
    x : ndarray
        The only input.
    wanted : callable
        Whether to time a kernel of this name.
    """
    machine = relax.VirtualMachine(executable, tvm.cpu())
    library = machine.module.imports[0]
    found: list[KernelTime] = []

    def note(_func: Any, name: str, before: bool, _result: Any, *args: Any) -> Any:
        if before and not name.startswith(BUILTIN) and wanted(name):
            found.append(KernelTime(name, _median_ms(library, name, args)))
        return relax.VMInstrumentReturnKind.NO_OP

    machine.set_instrument(note)
    machine["main"](tvm.runtime.tensor(x))
    return found


def _median_ms(library: Any, name: str, args: tuple[Any, ...]) -> float:
    tries = library.time_evaluator(name, tvm.cpu(), number=1, repeat=TRIES)(*args)
    calls = min(MOST_CALLS, math.ceil(SPAN_S / max(float(tries.min), 1e-9)))
    result = library.time_evaluator(name, tvm.cpu(), number=calls, repeat=REPEATS)(*args)
    return float(result.median) * MS_PER_S
