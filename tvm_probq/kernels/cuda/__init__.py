"""Kernels for CUDA: device code in `device/`, and what calls it from a PrimFunc."""
