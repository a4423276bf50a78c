"""Slices, indices and settings that a program computes from sizes, and that may be negative."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from symfx.static_migration import typecheck

MOST = 5


def centered(x: Any, y: Any) -> Any:
    start = (x.size(1) - y.size(1)) // 2
    return torch.cat([x[:, start : start + y.size(1)], y])


PROGRAMS: list[Callable[[Any, Any], Any]] = [
    # slices
    lambda x, y: x[:, x.size(1) - y.size(1) :],
    lambda x, y: x[:, : x.size(1) - y.size(1)],
    lambda x, y: x[:, y.size(1) - x.size(1) : x.size(1) - y.size(1)],
    lambda x, y: x[:, -y.size(1) :] + y,
    lambda x, y: torch.cat([x[:, x.size(1) - y.size(1) :], y]),
    centered,
    lambda x, y: x[:, : -(y.size(1) // 3)],
    lambda x, y: x[:, ~(y.size(1) // 2) :],
    lambda x, y: x[:, -(-y.size(1) % 4) :],
    lambda x, y: x[:, 2 - y.size(1) :][:, : x.size(1) - 3],
    lambda x, y: x[:, y.size(1) :: y.size(1)],
    lambda x, y: x.tensor_split([-y.size(1)], 1)[0],
    # indices
    lambda x, y: x[:, x.size(1) - y.size(1)],
    lambda x, y: x[[0, -y.size(1)]],
    lambda x, y: x.select(1, 2 - y.size(1)),
    lambda x, y: x.narrow(1, x.size(1) - y.size(1), y.size(1)),
    lambda x, y: x.narrow(1, -y.size(1), 1),
    # numbers with a sign
    lambda x, y: x.new_zeros(abs(y.size(1) - 4), -(-y.size(1) // 3), y.size(1) ** 2),
    lambda x, y: x.new_zeros(y.size(1) << 2, y.size(1) >> 1, int(abs(1 - y.size(1) / 2))),
    lambda x, y: F.pad(x, (0, -y.size(1) % 8)),
    # sizes of results
    lambda x, y: x.split([y.size(1), x.size(1) - y.size(1)], 1)[1],
    lambda x, y: x.repeat(1, x.size(1) - y.size(1)),
    lambda x, y: torch.diag(x[0], -y.size(1)),
    lambda x, y: torch.arange(x.size(1), y.size(1), -1),
    lambda x, y: torch.arange(0, x.size(1), y.size(1)),
    lambda x, y: x.view(x.size(0), y.size(1) - 1, -1),
    lambda x, y: F.one_hot(torch.zeros_like(x, dtype=torch.long), y.size(1) - 1),
    # settings of windows
    lambda x, y: F.pad(x, (y.size(1) - x.size(1), x.size(1) - y.size(1))),
    lambda x, y: F.pad(x, (y.size(1), y.size(1)), mode="reflect"),
    lambda x, y: torch.constant_pad_nd(x, [y.size(1) - 2, -1], 5.0),
    lambda x, y: F.max_pool1d(x, x.size(1) - y.size(1) + 1, 1),
    lambda x, y: F.conv1d(x[:, None], torch.zeros(1, 1, 2), padding=y.size(1) - 2),
    lambda x, y: F.avg_pool1d(x, 2, y.size(1) - 1),
]


def _runs(program: Any, n: int, t: int, s: int) -> list[int] | None:
    try:
        return [*program(torch.zeros(n, t), torch.zeros(n, s)).shape]
    except (RuntimeError, IndexError, ValueError):
        return None


def _holds(condition: str, sizes: dict[str, int]) -> bool:
    try:
        return bool(eval(condition, {}, sizes))
    except ZeroDivisionError:
        return False


@pytest.mark.parametrize("program", PROGRAMS)
def test_types_are_those_of_eager_at_all_sizes(program: Callable[[Any, Any], Any]) -> None:
    found = typecheck(program, {"x": "[n, t]", "y": "[n, s]"})
    assert found.verdict == "well-typed"
    result = [*found.shapes.values()][-1]
    for n, t, s in itertools.product(range(1, 3), range(1, MOST), range(1, MOST)):
        sizes = {"n": n, "t": t, "s": s}
        admitted = all(_holds(condition, sizes) for condition in found.conditions)
        typed = eval(result, {}, sizes) if admitted else None
        assert typed == _runs(program, n, t, s), (sizes, result, found.conditions)


@pytest.mark.parametrize("program", PROGRAMS)
def test_types_are_those_of_eager_at_given_sizes(program: Callable[[Any, Any], Any]) -> None:
    for t, s in ((4, 3), (3, 4), (3, 3), (1, 2)):
        found = typecheck(program, {"x": f"[2, {t}]", "y": f"[2, {s}]"})
        typed = eval([*found.shapes.values()][-1]) if found.verdict == "well-typed" else None
        assert typed == _runs(program, 2, t, s), (t, s)


def test_a_condition_on_an_alternative_is_written_without_it() -> None:
    inputs = {"x": "[n, t]", "y": "[n, s]"}
    assert typecheck(centered, inputs).conditions == ["t >= s"]
    tail: Any = lambda x: torch.bmm(x[:, :, x.size(2) - 5 :], torch.zeros(1, 5, 5))  # noqa: E731
    assert typecheck(tail, {"x": "[1, n, t]"}).conditions == ["t >= 5"]
