"""The bundled demo: a small network for handwritten digits, its data and its training."""
