"""Bytes of tensors, and operators that need no memory of their own."""

from typing import Any

import numpy as np
from tvm import relax
from tvm.runtime import DataType

from tvm_probq.ir.expressions import ints

SHARING = ("probq.layer", "reshape", "flatten", "squeeze", "expand_dims")


def tensor_bytes(ty: Any) -> int:
    """Bytes of a tensor type, or of all fields of a tuple type."""
    if isinstance(ty, relax.TupleType):
        return sum(tensor_bytes(f) for f in ty.fields)
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        return 0
    bits = int(DataType(str(ty.dtype)).bits)
    return int(np.prod(ints(ty.shape), dtype=np.int64)) * -(-bits // 8)
