"""The bound on the rank of a tensor whose rank nothing tells.

A tensor typed ``Dyn`` may have any rank up to the bound; every formula about it has a case for
each. The bound holds for the current context (thread, task), as `decimal.localcontext` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from symfx.shape_rules.errors import GradualError

__all__ = ["DEFAULT_MAX_RANK", "get_max_rank", "max_rank", "set_max_rank"]

#: The bound where nobody sets one.
DEFAULT_MAX_RANK = 8
#: torch's own bound: tensors have at most 64 dimensions.
_TORCH_MAX_RANK = 64

_bound: ContextVar[int] = ContextVar("symfx_max_rank", default=DEFAULT_MAX_RANK)


def get_max_rank() -> int:
    """The bound that holds here."""
    return _bound.get()


def set_max_rank(rank: int) -> None:
    """Set the bound from here on.

    Args:
        rank: the most dimensions that a tensor may have, 1 to 64.

    Raises:
        GradualError: for any other number.
    """
    _bound.set(_valid(rank))


@contextlib.contextmanager
def max_rank(rank: int) -> Iterator[None]:
    """Set the bound for a ``with`` block.

    Example:
        >>> with max_rank(5):
        ...     get_max_rank()
        5
    """
    token = _bound.set(_valid(rank))
    try:
        yield
    finally:
        _bound.reset(token)


def _valid(rank: int) -> int:
    if isinstance(rank, bool) or not isinstance(rank, int) or not 1 <= rank <= _TORCH_MAX_RANK:
        raise GradualError(
            f"a bound of {rank!r} on the rank of tensors makes no sense",
            fix=f"give a whole number from 1 to {_TORCH_MAX_RANK}",
        )
    return rank
