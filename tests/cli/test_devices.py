"""Commands that time processors refuse CUDA devices."""

from __future__ import annotations

import pytest

from tvm_probq.cli.devices import require_cpu
from tvm_probq.errors import UsageError
from tvm_probq.target.profile import load_profile


def test_a_processor_may_be_timed() -> None:
    require_cpu(load_profile("x86-vnni").tvm_target, "bench", "x86-vnni")


@pytest.mark.parametrize("command", ["bench", "measure"])
def test_a_cuda_device_is_sent_elsewhere(command: str) -> None:
    with pytest.raises(UsageError, match=rf"cuda-sm80: `tvm-probq {command}` times.*cuda\.py"):
        require_cpu(load_profile("cuda-sm80").tvm_target, command, "cuda-sm80")
