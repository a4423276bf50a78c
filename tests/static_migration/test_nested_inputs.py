"""Inputs and results that are dictionaries, tuples or lists of tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from symfx.errors import SpecError
from symfx.static_migration import migrate, typecheck
from symfx.static_migration.conditions import parse_input
from symfx.static_migration.operator_tracing import trace_operators


class Batch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(4, 2)

    def forward(self, batch):
        x = self.out(batch["x"])
        if batch.get("mask") is not None:
            x = x * batch["mask"]
        return {"logits": x, "sizes": {"mean": x.mean(0)}}


class Pair(nn.Module):
    def forward(self, pair):
        a, b = pair
        return torch.cat([a, b], 1), [a]


class Joined(nn.Module):
    def forward(self, xs):
        return sum(x.sum(0) for x in xs)


def output_of(found: Any) -> str:
    assert found.verdict == "well-typed", str(found)
    return found.shapes[found.graph.output_node()]


@pytest.mark.parametrize(
    "module, name, text, inputs, output",
    [
        (
            Batch(),
            "batch",
            "{x: f32[n, 4]}",
            {"batch_x": "[n, 4]"},
            "{logits: [n, 2], sizes: {mean: [2]}}",
        ),
        (
            Batch(),
            "batch",
            "{x: [n, 4], mask: f32[n, 1]}",
            {"batch_x": "[n, 4]", "batch_mask": "[n, 1]"},
            "{logits: [n, 2], sizes: {mean: [2]}}",
        ),
        (
            Pair(),
            "pair",
            "([n, 3], [n, k])",
            {"pair_0": "[n, 3]", "pair_1": "[n, k]"},
            "([n, k + 3], ([n, 3],))",
        ),
        (Joined(), "xs", "([n, 3], [m, 3])", {"xs_0": "[n, 3]", "xs_1": "[m, 3]"}, "[3]"),
    ],
)
def test_each_tensor_is_an_input_of_its_own(
    module: nn.Module, name: str, text: str, inputs: dict[str, str], output: str
) -> None:
    found = typecheck(module, dict([parse_input(f"{name}: {text}")]))
    assert output_of(found) == output
    assert found.inputs == inputs


def test_types_in_python() -> None:
    assert output_of(typecheck(Pair(), {"pair": ("[n, 3]", ["n", 2])})).startswith("([n, 5]")
    found = typecheck(Batch(), {"batch": {"x": "[n, 5]"}})
    assert found.verdict == "ill-typed"
    assert found.conflict is not None
    assert found.conflict.example is not None
    assert found.conflict.example["batch_x"][1] == 4


@pytest.mark.parametrize("text", ["{x [n]}", "{: [n]}", "([n], 5)"])
def test_parts_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SpecError):
        parse_input(f"batch: {text}")


def test_a_missing_key_is_named() -> None:
    class Missing(nn.Module):
        def forward(self, x):
            return {"a": x}

    assert output_of(typecheck(Missing(), {"x": "[n]"})) == "{a: [n]}"


def test_operators_are_traced_with_nested_inputs() -> None:
    types = dict([parse_input("batch: {x: [n, 4], mask: f32[n, 1]}")])
    found = migrate(trace_operators(Batch(), types, (), 10.0))
    assert found.verdict == "well-typed"
