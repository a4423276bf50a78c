"""The means to keep torch's FakeTensorMode from its dispatch cache, in favor of symfx's.

torch's cache rebuilds symbolic sizes as torch's own SymNodes from sympy, which symfx would have
to convert for each operator. The mode reads the environment's settings while it makes a key.
`_BypassDispatchCache`, raised at that point, is torch's own protocol for "do not cache this
call". The mode is the frame that makes the key, so symfx's cache can take the place of torch's
from the next call on.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from torch._subclasses.fake_tensor import FakeTensorMode, _BypassDispatchCache

__all__ = ["mode_asking_for_a_key", "refuse_dispatch_cache"]

_MAKES_THE_KEY = FakeTensorMode._cache_key.__code__


def mode_asking_for_a_key(above: int) -> FakeTensorMode | None:
    """The mode that makes a key for torch's cache in a given frame; None if that frame does not.

    Args:
        above: how many frames above the caller of this function that frame is.
    """
    frame = sys._getframe(1 + above)
    if frame.f_code is not _MAKES_THE_KEY:
        return None
    mode: FakeTensorMode = frame.f_locals["self"]
    return mode


def refuse_dispatch_cache() -> NoReturn:
    """Make torch dispatch the call whose key it makes without its cache."""
    raise _BypassDispatchCache("symbolic sizes of symfx")
