"""torch.cond, while_loop and scan in a trace: what their functions compute and close over."""

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


def loop(condition: Callable[..., Any], body: Callable[..., Any], carried: Any) -> Any:
    while condition(*carried):
        carried = body(*carried)
    return carried


def loops(repeat: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Programs with loops, by torch's operator or by Python's statement."""
    linear = nn.Linear(4, 4, dtype=torch.float64)
    torch.nn.init.eye_(linear.weight)
    torch.nn.init.ones_(linear.bias)
    zero = torch.zeros(())

    def doubled(n: Any, x: torch.Tensor) -> torch.Tensor:
        inner = repeat(lambda j, y: j < n + 1, lambda j, y: (j + 1, y + len(x) * n), (zero, x))
        return inner[1]

    return {
        "tensors": lambda x: repeat(
            lambda i, y: i < 5, lambda i, y: (i + 1, y.sin()), (torch.tensor(0), x)
        ),
        "a number": lambda x: repeat(
            lambda i, y: i < x.shape[0], lambda i, y: (i + 1, y + i), (0, x)
        ),
        "a size and weights": lambda x: repeat(
            lambda i, y: i < 3, lambda i, y: (i + 1, y * x.shape[0] + linear(y)), (zero, x)
        ),
        "functions of sizes": lambda x: repeat(
            lambda i, y: (i < 4) & (y.sum() < 100),
            lambda i, y: (i + 1, y.roll(1, 0) * math.sqrt(x.shape[0]) + x.max()),
            (zero, x),
        ),
        "trees": lambda x: repeat(
            lambda d: d["i"] < x.shape[0],
            lambda d: ({"i": d["i"] + 1, "y": [d["y"][0] + x, d["y"][1] * max(x.shape)]},),
            ({"i": zero, "y": [x, x.sum()]},),
        ),
        "a loop in a loop": lambda x: repeat(
            lambda i, y: i < 2, lambda i, y: (i + 1, doubled(i, y)), (zero, x)
        ),
    }


@pytest.mark.parametrize("name", loops(loop))
def test_a_loop_is_recorded_by_the_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._higher_order_ops.while_loop import while_loop

    monkeypatch.setattr(torch, "compile", None)  # Dynamo takes no part
    program, plain = loops(while_loop)[name], loops(loop)[name]
    t = symfx.trace(program, torch.rand(5, 4, dtype=torch.float64), dynamic=[("n", None)])
    assert t.guards == ()
    for n in (5, 2, 7):
        x = torch.rand(n, 4, dtype=torch.float64)
        torch.testing.assert_close(t(x), plain(x))


@pytest.mark.parametrize(
    ("condition", "body", "words"),
    [
        (lambda i, x: (i < 3, 1), lambda i, x: (i + 1, x), "the condition returns"),
        (lambda i, x: x < 3, lambda i, x: (i + 1, x), "the condition returns"),
        (lambda i, x: i < 3, lambda i, x: (i + 1, torch.cat([x, x])), "comes out as .* (2*n, 4)"),
        (lambda i, x: i < 3, lambda i, x: (i + 1, x.double()), "comes out as torch.float64"),
        (lambda i, x: i < 3, lambda i, x: i + 1, "takes 2 carried values, but returns 1"),
    ],
)
def test_a_loop_whose_values_change_is_refused(
    condition: Callable[..., Any], body: Callable[..., Any], words: str
) -> None:
    from torch._higher_order_ops.while_loop import while_loop

    with pytest.raises(symfx.errors.TracingError) as caught:
        symfx.trace(
            lambda x: while_loop(condition, body, (torch.zeros(()), x)),
            torch.rand(5, 4),
            dynamic=[("n", None)],
        )
    for part in words.split(" .* "):
        assert part in caught.value.what
    assert caught.value.fix.startswith("return")


def test_a_scan_is_recorded_by_the_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._higher_order_ops.scan import scan

    monkeypatch.setattr(torch, "compile", None)

    def program(x: torch.Tensor) -> Any:
        n = x.shape[0]

        def step(carried: Any, row: torch.Tensor) -> Any:
            total = carried["total"]
            new = {"total": total * 2 + row * n}
            return new, [total + math.sqrt(n), (row * max(x.shape)).sum()]

        return scan(step, {"total": torch.zeros(4)}, x)

    def plain(x: torch.Tensor) -> Any:
        n, total, first, second = x.shape[0], torch.zeros(4), [], []
        for row in x:
            first.append(total + math.sqrt(n))
            second.append((row * max(x.shape)).sum())
            total = total * 2 + row * n
        return {"total": total}, [torch.stack(first), torch.stack(second)]

    t = symfx.trace(program, torch.rand(5, 4), dynamic=[("n", None)])
    assert t.guards == ()
    for n in (5, 2, 7):
        x = torch.rand(n, 4)
        torch.testing.assert_close(t(x), plain(x))
