"""What `migrate` says under conditions, compared with eager at all small sizes.

Annotations and conditions that it finds hold wherever the program runs (sound), the program runs
wherever they hold (precise), and an ill-typed program runs nowhere.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from symfx.static_migration import migrate

MOST = 5

CASES: list[tuple[Any, dict[str, str], str]] = [
    (lambda x, y: x + y, {"x": "[a, b]", "y": "[c, b]"}, "a > c"),
    (lambda x, y: x + y, {"x": "[a, b]", "y": "[c, b]"}, "a < c and b == 3"),
    (lambda x, y: x + y, {"x": "[a, b]", "y": "[c, b]"}, "a + c == 5"),
    (lambda x, y: x @ y, {"x": "[a, b]", "y": "[c, d]"}, "b == c + 1"),
    (lambda x, y: x @ y, {"x": "[a, b]", "y": "[c, d]"}, "1 <= b <= c <= 2"),
    (lambda x, y: x @ y, {"x": "[a, b]", "y": "[c, d]"}, "a * d == 4"),
    (lambda x: x.view(-1, 4), {"x": "[a, b]"}, "a + b == 7"),
    (lambda x: x.view(-1, 4), {"x": "[a, b]"}, "b % 2 == 1"),
    (lambda x: x.reshape(x.size(0) // 2, -1), {"x": "[a, b]"}, "a % 2 == 1"),
    (lambda x, y: torch.cat([x, y], 1).view(-1, 3), {"x": "[a, b]", "y": "[a, c]"}, "b == 2*c"),
    (lambda x: x.chunk(2, 1)[0] + x.chunk(2, 1)[1], {"x": "[a, b]"}, "b % 2 == 1"),
    (lambda x: F.max_pool2d(x, 2), {"x": "[n, 1, h, w]"}, "h * w == 12"),
    (lambda x: F.max_pool2d(x, 2), {"x": "[n, 1, h, w]"}, "h < 2"),
    (torch.bmm, {"x": "[b, n, m]", "y": "[c, m, k]"}, "not b == c"),
    (torch.bmm, {"x": "[b, n, m]", "y": "[c, m, k]"}, "b == c and n * k == 4"),
    (lambda x: x.t().reshape(2, -1), {"x": "[a, b]"}, "a % 2 == 1"),
    (lambda x, y: torch.stack([x, y.t()]), {"x": "[a, b]", "y": "[c, d]"}, "a == 2*c"),
    (lambda x: x[:, ::2] + x[:, 1::2], {"x": "[a, b]"}, "b % 2 == 1"),
    (lambda x, y: x.expand(4, -1) + y, {"x": "[a, b]", "y": "[c, b]"}, "a == 2"),
    (lambda x, y: x.expand(4, -1) + y, {"x": "[a, b]", "y": "[c, b]"}, "c != 4"),
    (lambda x: x.unflatten(1, (2, -1)).sum(1), {"x": "[a, b]"}, "b % 2 == 0"),
    (lambda x: F.pixel_shuffle(x, 2), {"x": "[n, c, h, w]"}, "c < 4"),
    (lambda x: x.flatten(1).view(x.size(0), 3, -1), {"x": "[a, b, c]"}, "b + c == 4"),
    (lambda x: x.transpose(0, 1) + x, {"x": "[a, b]"}, "a > 1 and b > 1"),
    (lambda x: x.mean(1, keepdim=True) * x, {"x": "[a, b]"}, "a * b == 0"),
    (lambda x: F.pad(x, (1, -2)), {"x": "[a, b]"}, "b - 1 == a"),
    (lambda x, n: x.view(n, -1), {"x": "[a, b]", "n": "int"}, "n == 2 or n == a"),
    (lambda x, n: x.view(n, -1), {"x": "[a, b]", "n": "int"}, "n > 2 * a * b"),
    (lambda x: torch.diagonal(x, 1), {"x": "[a, b]"}, "a > b"),
    (lambda x: torch.topk(x, 3, 1)[0], {"x": "[a, b]"}, "b < 3"),
    (lambda x, y: torch.hstack([x, y]), {"x": "[a, b]", "y": "[c, d]"}, "a != c"),
    (lambda x: torch.linalg.inv(x + 9), {"x": "[a, b]"}, "a < b"),
    (lambda x: torch.fft.rfft(x), {"x": "[a, b]"}, "b % 2 == 0"),
]


def dims(text: str) -> list[str]:
    """The dimensions of a shape as text; commas within brackets separate none."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text.strip()[1:-1]) if part.strip()]


def holds(text: str, sizes: dict[str, int]) -> Any:
    try:
        return eval(text, {"min": min, "max": max}, sizes)
    except ZeroDivisionError:
        return False


def fits(inputs: dict[str, str], args: list[Any], sizes: dict[str, int]) -> bool:
    for text, arg in zip(inputs.values(), args, strict=True):
        shape = list(arg.shape) if isinstance(arg, torch.Tensor) else arg
        found = (
            holds(text, sizes) if isinstance(arg, int) else [holds(t, sizes) for t in dims(text)]
        )
        if found != shape:
            return False
    return True


@pytest.mark.parametrize("case", CASES, ids=[f"{i} {where}" for i, (*_, where) in enumerate(CASES)])
def test_conditions_by_brute_force(case: tuple[Any, dict[str, str], str]) -> None:
    program, inputs, where = case
    if program is torch.bmm:
        program = lambda x, y: torch.bmm(x, y)  # noqa: E731 - torch.fx reads its signature
    module = torch.fx.symbolic_trace(program)
    found = migrate(module, inputs, [where])
    assert found.verdict != "unknown"
    names = {name: None for text in inputs.values() for name in re.findall(r"[a-z]+", text)}
    names |= {name: None for name, text in inputs.items() if text == "int"}
    names.pop("int", None)
    result = found.shapes.get(list(module.graph.nodes)[-1], "")
    ran = 0
    for values in itertools.product(range(1, MOST + 1), repeat=len(names)):
        sizes = dict(zip(names, values, strict=True))
        if not holds(where, sizes):
            continue
        args: list[Any] = [
            sizes[name] if text == "int" else torch.rand([holds(t, sizes) for t in dims(text)])
            for name, text in inputs.items()
        ]
        try:
            shape = list(program(*args).shape)
        except (RuntimeError, IndexError, ValueError):
            shape = None
        promised = found.verdict == "well-typed" and (
            fits(found.inputs, args, sizes) and all(holds(c, sizes) for c in found.conditions)
        )
        if shape is None:
            assert not promised, f"{sizes}: {found}"
        else:
            ran += 1
            assert promised, f"{sizes}: {found}"
            assert [holds(t, sizes) for t in dims(result)] == shape
    if found.verdict == "ill-typed":
        assert ran == 0 and found.conflict is not None
