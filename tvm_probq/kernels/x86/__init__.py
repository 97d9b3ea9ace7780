"""Kernels of x86: AVX512-VNNI, and plain vector code for older instruction sets."""
