"""Reading and rebuilding Relax functions."""
