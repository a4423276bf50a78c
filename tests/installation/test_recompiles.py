"""symfx.explain_recompiles names the guard, the input and the line."""

from __future__ import annotations

import pytest
import torch

import symfx


@pytest.fixture(autouse=True)
def _installed():
    torch._dynamo.reset()
    with symfx.installed():
        yield
    torch._dynamo.reset()


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x, n):
        y = self.linear(x)
        if x.shape[0] > 4:
            y = y + 1
        torch._dynamo.graph_break()
        if n > 2:
            y = y * 2
        return y.view(-1, 2)


def test_each_recompilation_is_explained() -> None:
    compiled = torch.compile(Model(), backend="eager")
    for rows, n in ((3, 1), (4, 1), (6, 1), (3, 3), (3, 5)):
        compiled(torch.ones(rows, 4), n)
    found = symfx.explain_recompiles(compiled)
    static, asked = found[0], found[1]
    assert static.inputs == ("dimension 0 of x",) and "mark_dynamic(x, 0)" in static.fix
    assert asked.inputs == ("dimension 0 of x",)
    assert asked.guard == "2 <= x.size()[0] <= 4"
    assert any(line.endswith("if x.shape[0] > 4:") for line in asked.lines), asked.lines
    behind = [r for r in found if "behind the graph break at line" in r.function]
    number = next(r for r in behind if r.inputs == ("n",))
    assert number.guard == "n == 1" and "constant" in number.fix
    assert "needed at" in str(asked) and "to fix" in str(asked)


def test_a_function_that_did_not_recompile_has_none() -> None:
    def f(x):
        return x + 1

    compiled = torch.compile(f, backend="eager", dynamic=True)
    compiled(torch.ones(3))
    compiled(torch.ones(5))
    assert symfx.explain_recompiles(compiled) == symfx.explain_recompiles(f) == []


def test_a_tensor_of_another_kind() -> None:
    def f(x):
        return x + 1

    compiled = torch.compile(f, backend="eager")
    compiled(torch.ones(3))
    compiled(torch.ones(3, dtype=torch.float64))
    (found,) = symfx.explain_recompiles(f)
    assert found.inputs == ("x",) and "dtype" in found.fix


def test_something_else_is_refused() -> None:
    with pytest.raises(symfx.SpecError, match="no function and no module"):
        symfx.explain_recompiles(3)  # type: ignore[arg-type]
