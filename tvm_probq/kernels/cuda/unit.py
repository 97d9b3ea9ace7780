"""What a CUDA target has for products of bytes."""

from __future__ import annotations

from dataclasses import dataclass

import tvm

from tvm_probq.errors import KernelError
from tvm_probq.kernels.spec import LayerSpec

OLDEST, TENSOR_CORES = 61, 75  # compute capabilities with dp4a, with int8 tensor cores
WITHOUT_FOURS = 90  # and from where on there are none for 4 bits
SHORT, NARROW = 32, 8  # sums and tiles that tensor cores would mostly fill with zeros


@dataclass(frozen=True)
class CudaUnit:
    """A compute capability.

    Attributes
    ----------
    capability : int
        Such as 80 for ``sm_80``.
    """

    capability: int

    @property
    def has_fours(self) -> bool:
        """Whether there are tensor cores for 4 bits."""
        return TENSOR_CORES <= self.capability < WITHOUT_FOURS

    def tensor(self, spec: LayerSpec) -> bool:
        """Whether a layer that sums over channels is made by tensor cores."""
        rows = max(spec.out_height * spec.out_width, spec.batch)
        length = spec.kernel[0] * spec.kernel[1] * spec.group_inputs
        fits = length >= SHORT and spec.group_outputs >= NARROW and rows >= NARROW
        return self.capability >= TENSOR_CORES and fits


def is_cuda(target: tvm.target.Target) -> bool:
    """Whether a target is a CUDA device."""
    return str(target.kind.name) == "cuda"


def cuda_unit(target: tvm.target.Target) -> CudaUnit:
    """The unit of a target.

    Raises
    ------
    KernelError
        For an architecture that is not named ``sm_NN``, or older than dp4a.
    """
    arch = str(target.attrs.get("arch", ""))
    digits = arch.removeprefix("sm_").rstrip("af")
    if not arch.startswith("sm_") or not digits.isdigit() or int(digits) < OLDEST:
        raise KernelError(
            "no integer kernels for this CUDA architecture", where=str(target),
            why=f"arch is {arch!r}, and dp4a needs sm_{OLDEST} or newer",
            fix='name it in the target: {"kind": "cuda", "arch": "sm_80"}',
        )  # fmt: skip
    return CudaUnit(int(digits))
