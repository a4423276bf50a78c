"""The modules, functions and kernels that optimized graphs call."""
