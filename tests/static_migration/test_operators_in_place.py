"""``y += x`` changes ``y``: its shape and its dtype stay, and the operand has to fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from symfx.static_migration import Migration, typecheck


def check(program: Any, x: str, y: str) -> Migration:
    return typecheck(program, {"x": x, "y": y})


def adds(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x += y
    return x


def subtracts(x: Tensor, y: Tensor) -> Tensor:
    x = x * 1
    x -= y
    return x


def multiplies(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x *= y
    return x


def divides(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x /= y
    return x


def divides_down(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x //= y
    return x


def takes_remainders(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x %= y
    return x


def raises_to_powers(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x **= y
    return x


def narrows_a_mask(x: Tensor, y: Tensor) -> Tensor:
    mask = x > 0
    mask &= y > 0
    return mask


def widens_a_mask(x: Tensor, y: Tensor) -> Tensor:
    mask = x > 0
    mask |= y > 0
    return mask


PROGRAMS = (
    *(adds, subtracts, multiplies, divides, divides_down, takes_remainders, raises_to_powers),
    *(narrows_a_mask, widens_a_mask),
)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_operand_has_to_broadcast_to_the_tensor(program: Any) -> None:
    assert check(program, "f32[n, 5]", "f32[n, 1]").verdict == "well-typed"
    assert check(program, "f32[n, 5]", "f32[5]").verdict == "well-typed"
    for x, y in (("f32[n, 1]", "f32[n, 5]"), ("f32[5]", "f32[n, 5]"), ("f32[n, 4]", "f32[n, 5]")):
        found = check(program, x, y)
        assert found.verdict == "ill-typed", (x, y, str(found))
        assert "changed in place" in str(found.conflict)
    fixed = check(program, "f32[n, 1]", "f32[n, t]").fixed
    assert [(name.name, name.value) for name in fixed] == [("t", 1)]


def test_a_view_that_is_changed_keeps_its_shape() -> None:
    def widened(x: Tensor, y: Tensor) -> Tensor:
        first = x[:, :1]
        first += y
        return first

    assert check(widened, "f32[n, 4]", "f32[n, 4]").verdict == "ill-typed"
    assert check(widened, "f32[n, 4]", "f32[n, 1]").verdict == "well-typed"


def test_sizes_and_sums_are_no_tensors_that_change() -> None:
    def of_sizes(x: Tensor, y: Tensor) -> Tensor:
        rows, half = x.size(0), x.shape[1]
        rows += 1
        half //= 2
        half *= 3
        shape = y.shape
        shape += (half,)
        total = 0
        total += y
        return torch.zeros(rows, *shape[1:]) + total[:1, :, None]

    found = check(of_sizes, "f32[n, 4]", "f32[m, 5]")
    assert found.shapes[found.graph.output_node()] == "[n + 1, 5, 6]"
    assert [*of_sizes(torch.zeros(3, 4), torch.zeros(2, 5)).shape] == [4, 5, 6]


def test_a_write_into_an_expanded_view_is_an_error() -> None:
    def expanded(x: Tensor, y: Tensor) -> Tensor:
        rows = y.expand(x.size(0), 8)
        rows += x
        return rows

    def copied(x: Tensor, y: Tensor) -> Tensor:
        rows = y.expand(x.size(0), 8).clone()
        rows += x
        return rows

    found = check(expanded, "f32[n, 8]", "f32[1, 8]")
    assert found.verdict == "ill-typed"
    assert "single memory location" in str(found.conflict) and "rows += x" in str(found.conflict)
    assert check(copied, "f32[n, 8]", "f32[1, 8]").verdict == "well-typed"


def test_the_result_has_to_fit_the_dtype() -> None:
    found = check(adds, "i64[n]", "f32[n]")
    assert "a result of f32 cannot be written into a tensor of i64" in str(found.conflict)
    assert "use + without" in str(found.conflict)
    assert check(adds, "f32[n]", "i64[n]").verdict == "well-typed"


def test_a_table_that_is_cut_to_the_sequence_bounds_its_length() -> None:
    def positions(x: Tensor, y: Tensor) -> Tensor:
        x = x * 1
        x += y[:, : x.size(1)]
        return x

    found = check(positions, "f32[n, t, 8]", "f32[1, 64, 8]")
    assert found.verdict == "well-typed" and found.conditions == ["t <= 64"]
