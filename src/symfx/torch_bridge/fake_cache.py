"""How torch's FakeTensorMode is told to leave its dispatch cache alone.

The cache rebuilds symbolic sizes as torch's own SymNodes from sympy. Its key contains the
hash of the environment's settings, and a key that raises `_BypassDispatchCache` is its own
protocol for "do not cache this call".
"""

from __future__ import annotations

from typing import NoReturn

from torch._subclasses.fake_tensor import _BypassDispatchCache

__all__ = ["refuse_dispatch_cache"]


def refuse_dispatch_cache() -> NoReturn:
    """Raise what makes FakeTensorMode compute a call without its cache."""
    raise _BypassDispatchCache("symbolic sizes of symfx")
