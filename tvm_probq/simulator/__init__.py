"""NumPy definition of every quantized operator, and an interpreter of Relax modules on it."""
