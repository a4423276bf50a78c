"""The modules and kernels that optimized graphs call."""
