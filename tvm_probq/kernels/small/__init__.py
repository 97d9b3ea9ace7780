"""Hand-written kernels of the operators ``relax.probq.*``; importing registers them.

They run on any CPU that LLVM knows, and equal :mod:`tvm_probq.simulator` bit for bit.
"""

from tvm_probq.kernels.small.correction import CorrectionSpec
from tvm_probq.kernels.small.legalize import KERNELS, call_kernel, register_rules
from tvm_probq.kernels.small.predict import predict_kernel
from tvm_probq.kernels.small.ranges import measured_pool_kernel
from tvm_probq.kernels.small.specs import (
    correction_spec,
    shapes_of,
    sums_strides,
    surrogate_spec,
)
from tvm_probq.kernels.small.sums import sums_kernel
from tvm_probq.kernels.small.surrogate import ResidualSpec, SurrogateSpec

__all__ = [
    "KERNELS",
    "CorrectionSpec",
    "ResidualSpec",
    "SurrogateSpec",
    "call_kernel",
    "correction_spec",
    "measured_pool_kernel",
    "predict_kernel",
    "register_rules",
    "shapes_of",
    "sums_kernel",
    "sums_strides",
    "surrogate_spec",
]
