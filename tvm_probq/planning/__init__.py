"""Bits picked by layer: sensitivity, sizes, and the best allocation under a budget."""
