"""Executed instructions under emulation: what `benchmarks/arm_instructions.py` is made of."""
