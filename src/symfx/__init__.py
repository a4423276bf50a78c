"""symfx: symbolic shapes and tracing for PyTorch."""

from symfx._version import __version__

__all__ = ["__version__"]
