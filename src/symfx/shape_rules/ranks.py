"""The bound on the rank of a tensor whose rank is unknown.

A tensor typed ``Dyn`` may have any rank up to the bound; each formula about it has one case for
each rank. The bound holds for the current context (thread, task), as `decimal.localcontext` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from symfx.shape_rules.errors import GradualError

__all__ = ["DEFAULT_MAX_RANK", "get_max_rank", "max_rank", "set_max_rank"]

#: The bound if the user sets none.
DEFAULT_MAX_RANK = 8
#: torch's own bound: tensors have at most 64 dimensions.
_TORCH_MAX_RANK = 64

_bound: ContextVar[int] = ContextVar("symfx_max_rank", default=DEFAULT_MAX_RANK)


def get_max_rank() -> int:
    """The bound of the current context."""
    return _bound.get()


def set_max_rank(rank: int) -> None:
    """Set the bound of the current context.

    Args:
        rank: the highest rank of a tensor, 1 to 64.

    Raises:
        GradualError: the rank is not a number from 1 to 64.
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
            f"the bound on the rank of tensors cannot be {rank!r}",
            fix=f"give a whole number from 1 to {_TORCH_MAX_RANK}",
        )
    return rank
