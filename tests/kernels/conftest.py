"""Running one of our operators through its kernel, on several instruction sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from emulation import CPUS, EmulatedBoard, arm_target, require_board
from tvm import relax

import tvm_probq.kernels.small  # noqa: F401 - registers the kernels
from tvm_probq.simulator.numerics import make_qparams
from tvm_probq.target.host import missing_features

Array = npt.NDArray[Any]
NEEDED = {"cascadelake": "avx512vnni", "alderlake": "avxvnni", "haswell": "avx2", "x86-64": "sse2"}


HERE = ("haswell", "cortex-a72")  # where kernels run unless a test says where


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests of small kernels that say no CPU on each of `HERE`."""
    names, module = metafunc.fixturenames, metafunc.module.__name__
    if "default_mcpu" in names and "mcpu" not in names and ".test_small_" in f".{module}":
        metafunc.parametrize("default_mcpu", HERE, indirect=True)


@pytest.fixture
def default_mcpu(request: pytest.FixtureRequest) -> str:
    """The CPU of kernels that a test runs without saying where."""
    return str(getattr(request, "param", HERE[0]))


def _target(mcpu: str) -> Any:
    if mcpu in CPUS:
        require_board()
        return arm_target(mcpu)
    if missing_features([NEEDED[mcpu]]):
        pytest.skip(f"this machine cannot run code for {mcpu}")
    return tvm.target.Target({"kind": "llvm", "mcpu": mcpu})


def _graph(
    make: Callable[..., Any], arrays: Sequence[Array], batch: Any, target: Any
) -> tvm.IRModule:
    """A module that calls ``make(*variables)``, its operators made kernels for a target."""

    def shape(array: Array) -> tuple[Any, ...]:
        return array.shape if batch is None else (batch, *array.shape[1:])

    params = [
        relax.Var(f"x{i}", relax.TensorType(shape(a), str(a.dtype))) for i, a in enumerate(arrays)
    ]
    builder = relax.BlockBuilder()
    with builder.function("main", params):
        with builder.dataflow():
            output = builder.emit_output(make(*params))
        builder.emit_func_output(output)
    with target:
        return relax.transform.LegalizeOps()(builder.finalize())


@pytest.fixture
def evaluate(board_processes: EmulatedBoard, default_mcpu: str) -> Callable[..., list[Array]]:
    """The function that runs an operator, on this machine or for an ARM CPU on the board.

    It gives the outputs of ``make(*variables)`` on `arrays`; a given `batch` replaces first
    dimensions.
    """

    def run(
        make: Callable[..., Any], arrays: Sequence[Array], mcpu: str = "", batch: Any = None
    ) -> list[Array]:
        mcpu = mcpu or default_mcpu
        target = _target(mcpu)
        pipeline = relax.get_default_pipeline(target)
        library = tvm.compile(_graph(make, arrays, batch, target), target, relax_pipeline=pipeline)
        if mcpu in CPUS:
            return board_processes.run(library, arrays, mcpu)
        machine = relax.VirtualMachine(library, tvm.cpu())
        results = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays))
        found = results if isinstance(results, tvm.ir.Array | list | tuple) else [results]
        return [r.numpy() for r in found]

    return run


def _build(func: Any, target: Any) -> Any:
    if not isinstance(func, tvm.tirx.PrimFunc):
        with target:
            func = func()
    return tvm.tirx.build(
        tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=target
    )


@pytest.fixture
def run_kernel(board_processes: EmulatedBoard, default_mcpu: str) -> Callable[..., list[Array]]:
    """The function that runs a bare kernel, on this machine or for an ARM CPU on the board.

    It takes the kernel, or a function that makes it for the target in force.
    """

    def run(
        func: Any, inputs: Sequence[Array], outputs: Sequence[Array], mcpu: str = ""
    ) -> list[Array]:
        mcpu = mcpu or default_mcpu
        library = _build(func, _target(mcpu))
        if mcpu in CPUS:
            return board_processes.run(library, [*inputs, *outputs], mcpu, len(outputs))
        tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (*inputs, *outputs)]
        library["main"](*tensors)
        return [t.numpy() for t in tensors[len(inputs) :]]

    return run


@pytest.fixture
def kernel_assembly() -> Callable[..., str]:
    """The function that gives a bare kernel's assembly for a target."""
    return lambda func, target: str(_build(func, target).inspect_source("asm"))


def _bits(reals: Array) -> Array:
    """Bits of float32; processors do not agree on the sign of a NaN."""
    return np.where(np.isnan(reals), np.float32(np.nan), reals).view(np.int32)


def _same_bits(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if found.dtype == np.float32:
        found, wanted = _bits(found), _bits(wanted)
    np.testing.assert_array_equal(found, wanted)


@pytest.fixture
def same_bits() -> Callable[[Array, Array], None]:
    """The function that compares two arrays bit by bit."""
    return _same_bits


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same in each test."""
    return np.random.default_rng(7)


@pytest.fixture
def qparams(rng: np.random.Generator) -> Callable[..., Array]:
    """The function that makes random parameters ``[N, 3, G]``."""

    def make(batch: int, ranges: int = 1, qmax: int = 255) -> Array:
        low, high = rng.random((2, batch, ranges)).astype(np.float32)
        return make_qparams(-3 * low, 5 * high, qmax)

    return make
