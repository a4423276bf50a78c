"""Results of an operator that is recorded whole, which refuse a backward pass in the trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.errors import TracingError

__all__ = ["refusing_backward"]


def refusing_backward(
    results: Sequence[torch.Tensor], given: Sequence[torch.Tensor], what: str, fix: str
) -> tuple[torch.Tensor, ...]:
    """Results that require gradients where the operator's would, and refuse to compute them.

    Args:
        results: fake results of the operator.
        given: the tensors that it computes them from.
        what: the subject of the error, such as "a recurrent network on packed sequences".
        fix: the user's way around it.
    """
    if not torch.is_grad_enabled() or not any(t.requires_grad for t in given):
        return tuple(results)
    made: Any = _NoBackward.apply((what, fix), len(results), *results, *given)  # type: ignore[no-untyped-call]
    return tuple(made)


class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, message: tuple[str, str], count: int, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """The first tensors, which are the results."""
        ctx.message = message
        return tuple(t.view_as(t) for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Refuse."""
        what, fix = ctx.message
        raise TracingError(f"{what} has no backward pass in a trace", fix=fix)
