"""Integer layer kernels: one scheduled PrimFunc a layer, bit-exact with the simulator."""
