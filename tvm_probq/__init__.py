"""Probabilistic dynamic quantization: a compiler-pass plugin for Apache TVM Relax."""

__version__ = "0.1.0.dev0"
