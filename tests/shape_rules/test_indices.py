"""Masks, lists of indices, and broadcasting in one direction: the shapes are those of eager."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.tensor_type import Dyn, TensorType

from symfx.graph_gradual_typechecker import GraphTypeChecker
from symfx.static_migration import Migration, typecheck


class Program(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Binary(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x, y):
        return self.function(x, y)


def check(function: Any, *inputs: str, where: tuple[str, ...] = ()) -> Migration:
    module = Program(function) if len(inputs) == 1 else Binary(function)
    return typecheck(module, dict(zip("xy", inputs, strict=False)), where)


def output_of(found: Migration) -> str:
    assert found.verdict == "well-typed", str(found)
    return found.shapes[found.graph.output_node()]


@pytest.mark.parametrize(
    "function, inputs, shape",
    [
        (lambda x: x[x > 0], ["[4, 5]"], "[u0]"),
        (lambda x: x[(x > 0).any(1)], ["[n, 5]"], "[u0, 5]"),
        (lambda x: x[:, (x > 0).any(0)], ["[n, 5]"], "[n, u0]"),
        (lambda x: x[~(x > 0).t().t()], ["[4, 5]"], "[u0]"),
        (lambda x, y: x[y], ["[4, 5]", "bool[4]"], "[u0, 5]"),
        (lambda x, y: x[y], ["[4, 5]", "i64[4]"], "[4, 5]"),
        (lambda x, y: x[y], ["[4, 5]", "i64[2, 3]"], "[2, 3, 5]"),
        (lambda x: x[[0, 2]], ["[3, 5]"], "[2, 5]"),
        (lambda x: x[:, [0, 2]], ["[3, 5]"], "[3, 2]"),
        (lambda x: x[[0, 1], [0, 2]], ["[3, 5]"], "[2]"),
        (lambda x: x[[True, False, True]], ["[3, 5]"], "[2, 5]"),
        (lambda x: x[:, [True, False, True, False, False]], ["[3, 5]"], "[3, 2]"),
        (lambda x, y: x.expand_as(y), ["[k]", "[m]"], "[m]"),
        (lambda x, y: x.add_(y), ["[k]", "[m]"], "[k]"),
        (lambda x, y: x.masked_fill_(y, 0.0), ["[3]", "bool[1]"], "[3]"),
        (lambda x: F.max_pool2d(x, 2, return_indices=True)[1], ["[2, 3, 8, 8]"], "[2, 3, 4, 4]"),
    ],
)
def test_the_shape(function: Any, inputs: list[str], shape: str) -> None:
    assert output_of(check(function, *inputs)) == shape


@pytest.mark.parametrize(
    "function, inputs",
    [
        (lambda x: x[[True, False]], ["[3, 5]"]),
        (lambda x, y: x[y], ["[4, 5]", "bool[5]"]),
        (lambda x, y: x.masked_fill_(y, 0.0), ["[1]", "bool[3]"]),
        (lambda x, y: x.add_(y), ["[1]", "[3]"]),
        (lambda x, y: x.copy_(y), ["[3]", "[2]"]),
        (lambda x, y: x.expand_as(y), ["[3]", "[1]"]),
        (lambda x: x.index_put_((torch.tensor([0, 1]),), torch.zeros(3)), ["[5]"]),
    ],
)
def test_eager_and_the_rules_refuse(function: Any, inputs: list[str]) -> None:
    examples = []
    for text in inputs:
        kind, _, dims = text.partition("[")
        shape = [int(d) for d in dims.rstrip("]").split(",")]
        examples.append(torch.zeros(shape, dtype=torch.bool if kind else torch.float32))
    with pytest.raises((RuntimeError, IndexError)):
        function(*examples)
    assert check(function, *inputs).verdict == "ill-typed"


def test_broadcasting_in_one_direction_is_demanded_so() -> None:
    assert check(lambda x, y: x.expand_as(y), "[k]", "[m]").conditions == ["k == 1 or k == m"]
    assert check(lambda x, y: x.copy_(y), "[k]", "[m]").conditions == ["m == 1 or k == m"]
    broadcast = check(lambda x, y: torch.broadcast_to(x, y.shape), "[k]", "[m]")
    assert broadcast.conditions == ["k == 1 or k == m"]


def test_squeeze_asks_whether_the_size_can_be_1() -> None:
    assert output_of(check(lambda x: x.squeeze(0), "[n, 5]")) == "Dyn"
    assert output_of(check(lambda x: x.squeeze(0), "[n, 5]", where=("n >= 2",))) == "[n, 5]"
    assert output_of(check(lambda x: x.squeeze(), "[n, 1, 5]", where=("n >= 2",))) == "[n, 5]"


def test_attention() -> None:
    def grouped(x, y):
        return F.scaled_dot_product_attention(x, y, y, enable_gqa=True)

    assert output_of(check(grouped, "[2, 8, 5, 4]", "[2, 2, 7, 4]")) == "[2, 8, 5, 4]"
    assert check(grouped, "[2, 8, 5, 4]", "[2, 3, 7, 4]").verdict == "ill-typed"

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 4, batch_first=True)

        def forward(self, x, mask):
            return self.attention(x, x, x, attn_mask=mask)[0]

    types = {"x": "[3, 5, 8]", "mask": "[12, 5, 5]"}
    assert output_of(typecheck(Masked(), types)) == "[3, 5, 8]"
    assert typecheck(Masked(), {**types, "mask": "[6, 5, 5]"}).verdict == "ill-typed"
    assert typecheck(Masked(), {**types, "mask": "[3, 4, 5, 5]"}).verdict == "ill-typed"


def test_arguments_that_a_rule_does_not_foresee_are_reported() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.ravel, (x,), {"unknown": 1}))
    found = typecheck(torch.fx.GraphModule(nn.Module(), graph), {"x": "[2, 3]"})
    assert [*found.unknown_operators.values()] == ["torch.ravel with these arguments"]


def test_the_type_checker_knows_masks() -> None:
    class Selecting(nn.Module):
        def forward(self, x: TensorType((4, 5))):
            return x[x > 0]

    module = torch.fx.symbolic_trace(Selecting())
    assert GraphTypeChecker({}, module).type_check()
    assert [*module.graph.nodes][-1].type == TensorType((Dyn,))


@pytest.mark.parametrize(
    "function, conditions",
    [
        (lambda x: x[[0, -5]], ["n >= 5"]),
        (lambda x: x[:, [0, 2]], ["m >= 3"]),
        (lambda x: x[[0, 1], [[1], [4]]], ["n >= 2", "m >= 5"]),
    ],
)
def test_numbers_in_a_list_are_within_the_dimension(function: Any, conditions: list[str]) -> None:
    found = check(function, "[n, m]")
    assert found.conditions == conditions
    least = {c.partition(" >= ")[0]: int(c.partition(" >= ")[2]) for c in conditions}
    smallest = torch.zeros(least.get("n", 1), least.get("m", 1))
    shape = [*function(smallest).shape]
    sized = check(function, str([*smallest.shape]))
    assert sized.shapes[sized.graph.output_node()] == str(shape)
    for dim, name in enumerate("nm"):
        if name in least:
            smaller = smallest.narrow(dim, 0, least[name] - 1)
            assert check(function, str([*smaller.shape])).verdict == "ill-typed"
            with pytest.raises(IndexError):
                function(smaller)


def test_the_targets_of_soft_margin_loss_broadcast_to_the_inputs() -> None:
    for loss in (F.soft_margin_loss, nn.SoftMarginLoss(reduction="none")):
        for one, other in (([5, 1], [5, 5]), ([5], [3, 5])):
            assert check(loss, str(one), str(other)).verdict == "ill-typed"
            assert check(loss, str(other), str(one)).verdict == "well-typed"


def test_a_size_of_data_that_is_one_number_is_a_condition() -> None:
    assert check(lambda x: x[x[:, 0] > 0].view(64, 8), "[n, 8]").conditions == ["u0 == 64"]
    found = check(lambda x: x[:, : int(x.sum())] @ torch.ones(4, 2), "f32[n, 8]")
    assert output_of(found) == "[n, 2]"
    assert found.conditions == ["u0 == 4"]


def test_a_size_with_one_small_exception() -> None:
    found = check(lambda x: x[:, :64] + torch.zeros(64, 3), "f32[n, t, 3]")
    assert found.conditions == ["t >= 64 or t == 1"]
