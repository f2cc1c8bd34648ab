"""Sources of the native kernels. Imported by their builder only; the running program knows their machine code."""
