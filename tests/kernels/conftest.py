"""Running one of our operators through its kernel, on several instruction sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tvm
from tvm import relax

import tvm_probq.kernels.small  # noqa: F401 - registers the kernels
from tvm_probq.simulator.numerics import make_qparams
from tvm_probq.target.host import missing_features

Array = npt.NDArray[Any]
NEEDED = {"cascadelake": "avx512vnni", "alderlake": "avxvnni", "haswell": "avx2", "x86-64": "sse2"}


def _target(mcpu: str) -> Any:
    if missing_features([NEEDED[mcpu]]):
        pytest.skip(f"this machine cannot run code for {mcpu}")
    return tvm.target.Target({"kind": "llvm", "mcpu": mcpu})


def _evaluate(
    make: Callable[..., Any], arrays: Sequence[Array], mcpu: str = "haswell", batch: Any = None
) -> list[Array]:
    """Outputs of ``make(*variables)`` on `arrays`; a given `batch` replaces first dimensions."""

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
    mod = relax.transform.LegalizeOps()(builder.finalize())
    target = _target(mcpu)
    library = tvm.compile(mod, target, relax_pipeline=relax.get_default_pipeline(target))
    machine = relax.VirtualMachine(library, tvm.cpu())
    results = machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays))
    found = results if isinstance(results, tvm.ir.Array | list | tuple) else [results]
    return [r.numpy() for r in found]


@pytest.fixture
def evaluate() -> Callable[..., list[Array]]:
    """The function that runs an operator."""
    return _evaluate


def _build(func: Any, target: Any) -> Any:
    return tvm.tirx.build(
        tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), target=target
    )


def _run_kernel(
    func: Any, inputs: Sequence[Array], outputs: Sequence[Array], mcpu: str = "haswell"
) -> list[Array]:
    library = _build(func, _target(mcpu))
    tensors = [tvm.runtime.tensor(np.ascontiguousarray(a)) for a in (*inputs, *outputs)]
    library["main"](*tensors)
    return [t.numpy() for t in tensors[len(inputs) :]]


@pytest.fixture
def run_kernel() -> Callable[..., list[Array]]:
    """The function that runs a bare kernel."""
    return _run_kernel


@pytest.fixture
def kernel_assembly() -> Callable[..., str]:
    """The function that gives a bare kernel's assembly for a target."""
    return lambda func, target: str(_build(func, target).inspect_source("asm"))


def _same_bits(found: Array, wanted: Array) -> None:
    assert found.dtype == wanted.dtype
    assert found.shape == wanted.shape
    if found.dtype == np.float32:
        found, wanted = found.view(np.int32), wanted.view(np.int32)
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
