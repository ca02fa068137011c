"""Ring learning with errors over Z_q[X]/(X^4096 + 1), q a power of two: kernels, sampling, and the two layers of the hint."""
