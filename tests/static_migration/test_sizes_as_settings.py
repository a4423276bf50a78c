"""A size in the place of a setting: a number of pieces, of groups, an offset, a dimension."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from eager_runs import disagreements

from symfx.static_migration import Migration, typecheck
from symfx.static_migration.programs import FunctionProgram


def check(program: Any, **inputs: str) -> Migration:
    return typecheck(program, inputs)


def modulated(x: Any, w: Any) -> Any:
    return F.conv2d(x.flatten(0, 1)[None], w.flatten(0, 1), groups=x.size(0))


PROGRAMS: list[tuple[Any, list[str], str]] = [
    (modulated, ["x: [n, 2, 5, 5]", "w: [n, 4, 2, 3, 3]"], "[1, 4*n, 3, 3]"),
    (lambda x: x.chunk(x.size(0), 1)[0], ["x: [n, k]"], ""),
    (lambda x: x.diff(x.size(0) - 1), ["x: [n, k]"], ""),
    (lambda x: x.diagonal(x.size(0) - 2), ["x: [n, k]"], ""),
    (lambda x: torch.diag_embed(x, x.size(0)), ["x: [n, k]"], "[n, k + n, k + n]"),
    (lambda x: torch.diagflat(x, -x.size(0)), ["x: [n, k]"], "[k*n + n, k*n + n]"),
    (lambda x: F.group_norm(x, x.size(0)), ["x: [n, k, 8]"], "[n, k, 8]"),
    (lambda x, y: x.diagonal_scatter(y), ["x: [n, 6]", "y: [6]"], "[n, 6]"),
    (lambda x: F.max_pool1d(x, 3, stride=x.size(0), ceil_mode=True), ["x: [n, k]"], ""),
    (lambda x: x.stft(x.size(1), return_complex=True), ["x: [n, k]"], ""),
]


@pytest.mark.parametrize(("program", "inputs", "result"), PROGRAMS)
def test_types_hold_for_all_sizes(program: Any, inputs: list[str], result: str) -> None:
    types = dict(text.split(": ", 1) for text in inputs)
    found = typecheck(program, types)
    assert found.verdict == "well-typed" and not found.unknown_operators
    if result:
        assert found.shapes[found.graph.output_node()] == result
    module = FunctionProgram(program, types)
    assert not disagreements(module, inputs, values=range(1, 8), found=found)


def test_groups_that_do_not_divide() -> None:
    found = check(lambda x: F.group_norm(x, x.size(0)), x="[4, 6, 8]")
    assert found.conflict is not None and "6 is not a multiple of 4" in str(found.conflict)


def test_a_size_as_a_dimension_is_reported() -> None:
    found = check(lambda x: x.softmax(x.size(0)), x="[n, k]")
    assert found.verdict == "well-typed"
    assert found.shapes[found.graph.output_node()] == "Dyn"
    assert "no shape rule for softmax with these arguments" in str(found)


# -- leading dimensions ----------------------------------------------------------------------------


def test_the_numbers_of_leading_dimensions_are_said() -> None:
    found = check(lambda x: x.reshape(-1, 8), x="[*dims, k]")
    assert sorted(found.leading) == [0, 1, 2, 3]
    assert found.leading[1] == ("dims_0*k % 8 == 0",)
    text = str(found)
    assert "checked for these numbers of leading dimensions: 0, 1, 2, 3; shown for 2" in text
    assert "with 0 leading: where k % 8 == 0" in text
    assert not check(lambda x: x + 1, x="[n, k]").leading


def test_faults_at_another_number_of_leading_dimensions_count() -> None:
    def of_vectors(x: Any) -> Any:
        return x.view(5) if x.dim() == 1 else x

    (fixed,) = check(of_vectors, x="[*dims, k]").fixed
    assert (fixed.name, fixed.value) == ("k", 5)
    assert "(with 0 leading dimensions)" in fixed.origin


# -- numbers that only some inputs have ------------------------------------------------------------


def divided(x: Any, by: Any) -> Any:
    return torch.vmap(lambda row: row // by)(x)


def factored(x: Any, by: Any) -> Any:
    return torch.vmap(torch.linalg.cholesky)(x)


@pytest.mark.parametrize(
    ("program", "x", "result"),
    [(divided, "i64[n, 3]", "[n, 3]"), (factored, "f32[n, 3, 3]", "[n, 3, 3]")],
)
def test_a_division_by_zero_is_no_fault_of_shapes(program: Any, x: str, result: str) -> None:
    found = check(program, x=x, by="i64[3]")
    assert found.verdict == "well-typed", str(found)
    assert found.shapes[found.graph.output_node()] == result
