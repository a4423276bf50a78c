"""What `Trace.verify` compares: the results of the model with those of the graph."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from symfx.errors import describe
from symfx.torch_bridge.nested_tensors import with_parts

__all__ = ["Comparison"]

_INF = float("inf")


def _sizes_as_tuples(tree: Any) -> Any:
    """The tree with a tuple for each torch.Size: a graph returns tuples."""
    return pytree.tree_map(
        lambda leaf: tuple(leaf) if isinstance(leaf, torch.Size) else leaf,
        tree,
        is_leaf=lambda node: isinstance(node, torch.Size),
    )


class Comparison:
    """A comparison of results: the first disagreement, and the largest differences.

    Args:
        bounds: the relative and the absolute tolerance; None for that of
            `torch.testing.assert_close` for the dtype.

    Attributes:
        difference: the largest absolute difference; None while no numbers were compared.
        relative: the largest relative difference.
        failure: a sentence about the first disagreement, if there is one.
    """

    def __init__(self, bounds: tuple[float, float] | tuple[None, None]) -> None:
        self.bounds = bounds
        self.difference: float | None = None
        self.relative: float | None = None
        self.failure: str | None = None

    def _fail(self, sentence: str) -> None:
        self.failure = self.failure or sentence

    def compare(self, what: str, expected: Any, actual: Any) -> None:
        """Compare one result.

        Args:
            what: its name, for the sentence about a disagreement.
            expected: the result of the model.
            actual: the result of the graph.
        """
        expected, actual = (
            with_parts(_sizes_as_tuples(expected)),
            with_parts(_sizes_as_tuples(actual)),
        )
        expected_leaves, expected_spec = pytree.tree_flatten_with_path(expected)
        actual_leaves, actual_spec = pytree.tree_flatten_with_path(actual)
        if expected_spec != actual_spec:
            self._fail(f"{what}: the graph gives another structure")
            return
        for (path, one), (_, other) in zip(expected_leaves, actual_leaves, strict=True):
            self._leaf(what + pytree.keystr(path), one, other)

    def _leaf(self, what: str, expected: Any, actual: Any) -> None:
        if not isinstance(expected, torch.Tensor):
            if isinstance(actual, torch.Tensor) or not _equal(expected, actual):
                self._fail(f"{what}: the model gives {expected!r}, the graph {describe(actual)}")
            return
        if not isinstance(actual, torch.Tensor):
            self._fail(f"{what}: the model gives {describe(expected)}, the graph {actual!r}")
            return
        for part in ("dtype", "device", "layout", "shape"):
            one, other = getattr(expected, part), getattr(actual, part)
            if one != other:
                model, graph = _as_text(one), _as_text(other)
                self._fail(f"{what} has {part} {model} in the model, {graph} in the graph")
                return
        self._measure(expected.detach(), actual.detach())
        try:
            torch.testing.assert_close(
                actual, expected, rtol=self.bounds[0], atol=self.bounds[1], equal_nan=True
            )
        except AssertionError:
            self._fail(f"{what} differs beyond the tolerance")

    def _measure(self, expected: torch.Tensor, actual: torch.Tensor) -> None:
        if expected.layout is not torch.strided or expected.numel() == 0:
            return
        wide = torch.complex128 if expected.is_complex() else torch.float64
        one, other = expected.to(wide), actual.to(wide)
        # Equal infinities do not differ, and neither do two NaNs.
        equal = (one == other) | (one.isnan() & other.isnan())
        gap = torch.where(equal, 0.0, (one - other).abs().nan_to_num(_INF, posinf=_INF))
        scale = one.abs().clamp(min=torch.finfo(torch.float64).tiny)
        ratio = torch.where(equal, 0.0, (gap / scale).nan_to_num(_INF, posinf=_INF))
        self.difference = max(self.difference or 0.0, float(gap.max()))
        self.relative = max(self.relative or 0.0, float(ratio.max()))


def _equal(expected: Any, actual: Any) -> bool:
    """Whether two values that are no tensors agree; NaN agrees with NaN."""
    return type(expected) is type(actual) and (
        expected == actual or (isinstance(expected, float) and repr(expected) == repr(actual))
    )


def _as_text(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value)
