"""Reading and rebuilding Relax functions."""

import tvm_probq.guard  # noqa: F401  (before TVM is imported)
