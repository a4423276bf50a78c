"""How torch's FakeTensorMode comes to leave its dispatch cache alone, and to use symfx's.

The cache rebuilds symbolic sizes as torch's own SymNodes from sympy, which symfx would have to
convert at every turn. Its key takes in the environment's settings first of all that depends on
the call, and `_BypassDispatchCache`, raised while the key is made, is its own protocol for
"do not cache this call". Whoever makes the key is the mode itself, so that symfx's own cache
can take the place of torch's from the next call on.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from torch._subclasses.fake_tensor import FakeTensorMode, _BypassDispatchCache

__all__ = ["mode_asking_for_a_key", "refuse_dispatch_cache"]

_MAKES_THE_KEY = FakeTensorMode._cache_key.__code__


def mode_asking_for_a_key(above: int) -> FakeTensorMode | None:
    """The mode whose cache is making a key in a given frame; None where that frame does not.

    Args:
        above: how many frames above the caller of this function that frame is.
    """
    frame = sys._getframe(1 + above)
    if frame.f_code is not _MAKES_THE_KEY:
        return None
    mode: FakeTensorMode = frame.f_locals["self"]
    return mode


def refuse_dispatch_cache() -> NoReturn:
    """Have torch dispatch the call that it is making a key for without its cache."""
    raise _BypassDispatchCache("symbolic sizes of symfx")
