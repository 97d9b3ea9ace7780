"""How wide a CPU's vector registers are."""

from __future__ import annotations

import tvm
from tvm.target.codegen import target_has_features

WIDTHS = (("avx512bw", 64), ("avx2", 32))
NARROWEST = 16  # SSE and NEON


def vector_bytes(target: tvm.target.Target) -> int:
    """Bytes of the widest vector register that kernels of a target use."""
    return next((b for name, b in WIDTHS if target_has_features(name, target)), NARROWEST)
