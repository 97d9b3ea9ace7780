"""The kernel that measures the int8 peak."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from emulated_gpu import device
from gpu import peak
from tvm.ir import IRModule

from tvm_probq.kernels.cuda.gate import device_sources
from tvm_probq.kernels.cuda.nvcc import compile_program, find_nvcc


def library(arch: str) -> object:
    target = tvm.target.Target({"kind": "cuda", "arch": arch}, host={"kind": "llvm"})
    func = peak.peak_kernel(1).with_attr("global_symbol", peak.NAME)
    return tvm.tirx.build(IRModule({peak.NAME: func}), target=target)


def wanted(lane: int, turns: int, chains: int) -> int:
    """All sums of a lane after each chain's products, by the layout of the PTX manual."""
    rows, columns = (lane // 4, lane // 4 + 8), (lane % 4 * 2, lane % 4 * 2 + 1)

    def bytes_of(values: list[int], dtype: str) -> np.ndarray:
        return np.array(values, "<u4").view(dtype).astype(np.int64)

    total = 0
    for row in rows:
        for column in columns:
            sum_ = 0
            for k in range(4):  # the lanes that hold the row and the column
                a_lane, b_lane = row % 8 * 4 + k, column * 4 + k
                a = [a_lane + (row >= 8), a_lane + 2 + (row >= 8)]
                b = [b_lane + 4, b_lane + 5]
                sum_ += int(bytes_of(a, "u1") @ bytes_of(b, "i1"))
            total += sum_ * turns * chains
    return total


def test_it_does_all_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = device()
    assert gpu.launches >= 0
    monkeypatch.setattr(peak, "TURNS", 3)
    monkeypatch.setattr(peak, "BLOCKS", 1)
    out = tvm.runtime.tensor(np.zeros(peak.peak_shape(1), np.int32), device=tvm.cuda(0))
    library("sm_80")[peak.NAME](out)
    found = out.numpy()[:32]
    assert found.tolist() == [wanted(lane, 3, peak.CHAINS) for lane in range(32)]
    # 8 warps of a block, 3 turns of 8 products of 4096
    assert peak.peak_macs(1) == 8 * 3 * 8 * 4096


@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_86", "sm_87", "sm_89", "sm_90"])
def test_the_compiler_leaves_the_products_in(arch: str) -> None:
    if not find_nvcc():
        pytest.skip("needs nvcc, of NVIDIA's CUDA toolkit")
    (source,) = device_sources(library(arch))
    program = compile_program(source, arch)
    peak.check_peak(program.ptx)
    uses = program.uses[f"{peak.NAME}_kernel"]
    assert uses.spilled_bytes == 0
    assert uses.registers * peak.THREADS * peak.BLOCKS <= 1 << 16  # all blocks at once


@pytest.mark.parametrize("count", [0, 3])
def test_a_loop_without_its_products_is_refused(count: int) -> None:
    with pytest.raises(SystemExit, match=f"has {count} mma.sync"):
        peak.check_peak(".visible .entry peak_kernel(" + "mma.sync;" * count)


def test_tensor_cores_for_bytes_came_with_turing() -> None:
    assert [peak.has_products(arch) for arch in ("sm_61", "sm_70", "sm_75", "sm_90")] == [
        False, False, True, True,
    ]  # fmt: skip
