"""Checks of the answers that a graph was traced with; see `graphs/assumptions.py`."""

from __future__ import annotations

from typing import Any

from symfx.optimization.runtime.leaf_calls import Effect, leaf_function

__all__ = ["OtherAnswerError", "assumed_length", "assumed_truth"]


class OtherAnswerError(Exception):
    """The graph was traced for other inputs; the module's own forward takes these."""


@leaf_function(Effect.FRESH, keeps=True)
def assumed_truth(value: Any, expected: bool) -> None:
    """Stop the graph if a value is not as true as it was in the example.

    Raises:
        OtherAnswerError: it is not.
    """
    if bool(value) is not expected:
        raise OtherAnswerError


@leaf_function(Effect.FRESH, keeps=True)
def assumed_length(value: Any, expected: int) -> None:
    """Stop the graph if a value has another length than in the example.

    Raises:
        OtherAnswerError: it has.
    """
    if len(value) != expected:
        raise OtherAnswerError
