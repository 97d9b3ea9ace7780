"""What `cuda.py` measures on a GPU besides whole networks."""
