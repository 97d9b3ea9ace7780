"""Rounding of weights and the proof that accumulators are wide enough."""
