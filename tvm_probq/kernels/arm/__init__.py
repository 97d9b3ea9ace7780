"""Kernels of layers for 64-bit ARM, written statement by statement around its dot products."""
