"""How torch's FakeTensorMode is told to leave its dispatch cache alone.

The cache rebuilds symbolic sizes as torch's own SymNodes from sympy, which symfx would have to
convert at every turn. Its key takes in the environment's settings first of all that depends on
the call, and `_BypassDispatchCache`, raised while the key is made, is its own protocol for
"do not cache this call".
"""

from __future__ import annotations

import sys

from torch._subclasses.fake_tensor import FakeTensorMode, _BypassDispatchCache

__all__ = ["refuse_dispatch_cache"]

_MAKES_THE_KEY = FakeTensorMode._cache_key.__code__


def refuse_dispatch_cache() -> None:
    """Where the caller's caller is making a key for torch's cache, stop it; else do nothing."""
    if sys._getframe(2).f_code is _MAKES_THE_KEY:
        raise _BypassDispatchCache("symbolic sizes of symfx")
