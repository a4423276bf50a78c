"""torch.cond in a trace: what its branches compute with sizes, and what they close over."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import symfx
import symfx.errors


def either(yes: Callable[..., Any], no: Callable[..., Any]) -> Callable[..., Any]:
    """A function of a pair of branches, and the same without torch.cond."""

    def function(x: torch.Tensor, plain: bool = False) -> Any:
        if plain:
            return yes(x) if x.sum() > 0 else no(x)
        return torch.cond(x.sum() > 0, yes, no, (x,))

    return function


OF_SIZES: dict[str, Callable[..., Any]] = {
    "log": either(lambda x: x * math.log(x.shape[0]), lambda x: x * math.sqrt(x.shape[0])),
    "sorted": either(lambda x: x * sorted(x.shape)[0], lambda x: x * max(x.shape)),
    "divmod": either(lambda x: x * divmod(x.shape[0], 3)[1], lambda x: x * math.prod(x.shape)),
    "int": either(lambda x: x * int(x.shape[0] * 0.5), lambda x: x * round(x.shape[0] / 3)),
    "last column": either(lambda x: x[:, x.shape[1] - 1] + 0, lambda x: x[:, x.shape[1] // 2] + 0),
    "tensor": either(lambda x: x * torch.tensor(x.shape[0]), lambda x: x * len(x)),
    "tree": either(lambda x: {"a": x + 1, "b": [x - 1]}, lambda x: {"a": x * 2, "b": [x / 2]}),
    "cond in cond": either(
        lambda x: torch.cond(
            x.max() > 0.9, lambda y: y * math.log(x.shape[0]), lambda y: y + x, (x,)
        ),
        lambda x: x * min(x.shape),
    ),
}


@pytest.mark.parametrize("name", OF_SIZES)
def test_a_branch_computes_with_sizes(name: str) -> None:
    f = OF_SIZES[name]
    if name == "cond in cond":  # eager mode would compile the branches
        plain = either(
            lambda x: x * math.log(x.shape[0]) if x.max() > 0.9 else x + x,
            lambda x: x * min(x.shape),
        )
    else:
        plain = f
    t = symfx.trace(f, torch.rand(5, 7), dynamic=(("n", "m"),))
    assert t.guards == ()
    for n, m in ((5, 7), (4, 9), (12, 3)):
        for x in (torch.rand(n, m), -torch.rand(n, m), torch.rand(n, m) / 2):
            torch.testing.assert_close(t(x), plain(x, plain=True))


class Closing(nn.Module):
    """A model whose branches close over its parameters, results and sizes.

    Args:
        kind: which of them.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.randn(7))
        self.linear = nn.Linear(7, 7)
        self.register_buffer("shift", torch.randn(7))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        yes, no = self.branches(x)
        return torch.cond(x.sum() > 0, yes, no, (x,))

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        """The result without torch.cond."""
        yes, no = self.branches(x)
        return yes(x) if x.sum() > 0 else no(x)

    def branches(self, x: torch.Tensor) -> tuple[Callable[..., Any], Callable[..., Any]]:
        y = x.relu() + 1
        if self.kind == "parameter":
            return (lambda x: x * self.weight * x.shape[0]), (lambda x: x - 1)
        if self.kind == "module":
            return (lambda x: self.linear(x) + self.shift), (lambda x: x - self.shift)
        if self.kind == "size":
            n = torch.cat([y, y]).shape[0]
            return (lambda x: x * self.weight * n), (lambda x: x - n)
        if self.kind == "result":
            return (lambda x: x * self.weight + y), (lambda x: self.linear(y) - x)
        count = (x > 0.5).nonzero().shape[0]
        return (lambda x: x * count + self.weight), (lambda x: x - count)


@pytest.mark.parametrize("kind", ["parameter", "module", "size", "result", "size from data"])
def test_a_branch_closes_over_parameters_results_and_sizes(kind: str) -> None:
    model = Closing(kind)
    t = symfx.trace(model, torch.rand(5, 7), dynamic=(("n", None),))
    assert t.guards == ()
    for n in (5, 9, 4):
        for x in (torch.rand(n, 7), -torch.rand(n, 7)):
            torch.testing.assert_close(t(x), model.plain(x))
            # Gradients reach what the branches close over.
            torch.testing.assert_close(gradients(t, model, x), gradients(model.plain, model, x))


def gradients(f: Callable[..., Any], model: nn.Module, x: torch.Tensor) -> dict[str, Any]:
    model.zero_grad()
    y = f(x)
    if y.requires_grad:
        y.sum().backward()
    zero = torch.zeros(())
    found = {k: zero if p.grad is None else p.grad for k, p in model.named_parameters()}
    return {k: g for k, g in found.items() if g.count_nonzero()}


def test_a_pin_inside_a_branch_names_the_branchs_line() -> None:
    f = either(lambda x: x * len(str(x.shape[0])), lambda x: x * 2)
    with pytest.raises(symfx.errors.TracingError) as error:
        symfx.trace(f, torch.rand(5, 7), dynamic=(("n", "m"),))
    assert "len(str(x.shape[0]))" in str(error.value.where)


def test_branches_of_other_structures_are_refused() -> None:
    f = either(lambda x: (x, x + 1), lambda x: x * 2)
    with pytest.raises(symfx.errors.TracingError, match="another structure"):
        symfx.trace(f, torch.rand(5, 7), dynamic=(("n", "m"),))
