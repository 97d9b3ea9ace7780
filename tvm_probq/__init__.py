"""Probabilistic dynamic quantization: a compiler-pass plugin for Apache TVM Relax."""

from tvm_probq.environment import enforce, quick_check

enforce(quick_check())  # before TVM is imported: some blockers crash the process

__version__ = "0.1.0.dev0"
