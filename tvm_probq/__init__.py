"""Probabilistic dynamic quantization: a compiler-pass plugin for Apache TVM Relax."""
