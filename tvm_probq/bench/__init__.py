"""Latency and memory of compiled models, side by side with other runtimes."""
