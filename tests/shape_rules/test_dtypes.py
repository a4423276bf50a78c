"""Dtypes of values: inferred as eager has them, and demanded where eager demands them."""

from __future__ import annotations

import os
import random
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from route_search import REFUSALS, programs, shapes_of
from torch import nn
from torch.fx import Graph, Node
from torch.fx.proxy import TraceError

from symfx.shape_rules.element_types import ElementTypes
from symfx.static_migration import Migration, program_graph, typecheck
from symfx.static_migration.programs import FunctionProgram

LONG = bool(os.environ.get("SYMFX_LONG"))


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


def check(function: Any, *inputs: str) -> Migration:
    module = Program(function) if len(inputs) == 1 else Binary(function)
    return typecheck(module, dict(zip("xy", inputs, strict=False)))


def output_of(found: Migration) -> str:
    assert found.verdict == "well-typed", str(found)
    return found.shapes[found.graph.output_node()]


@pytest.mark.parametrize(
    "function, shape, expected",
    [
        (lambda x: x.view(torch.int16), "f32[4, 3]", "[4, 6]"),
        (lambda x: x.view(torch.int16), "f64[n, k]", "[n, 4*k]"),
        (lambda x: x.half().view(torch.int16), "f32[4, 3]", "[4, 3]"),
        (lambda x: x.double().view(torch.float32), "i64[n, 3]", "[n, 6]"),
        (lambda x: x.view(torch.float64), "f32[n, 4]", "[n, 2]"),
        (lambda x: (x > 0).view(torch.uint8), "f32[n, 4]", "[n, 4]"),
    ],
)
def test_views_of_bytes(function: Any, shape: str, expected: str) -> None:
    assert output_of(check(function, shape)) == expected


def test_operators_of_python_are_not_in_place() -> None:
    either = check(lambda x, y: (x > 0) | (y > 0), "f32[1, 4]", "f32[n, 1]")
    assert output_of(either) == "[n, 4]"
    assert output_of(check(lambda x, y: x & y, "bool[4]", "i64[n, 4]")) == "[n, 4]"


def test_views_of_bytes_need_whole_elements() -> None:
    assert check(lambda x: x.view(torch.float64), "f32[n, 3]").verdict == "ill-typed"
    assert check(lambda x: x.view(torch.float64), "f32[]").verdict == "ill-typed"
    assert check(lambda x: x.view(torch.float64), "f32[n, k]").conditions == ["k % 2 == 0"]


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(10, 4), nn.Linear(4, 2)

    def forward(self, ids):
        return self.out(self.table(ids))


def test_ids_are_integers_where_their_dtype_is_written() -> None:
    found = typecheck(Tokens(), {"ids": "f32[b, t]"})
    assert found.verdict == "ill-typed"
    assert "the ids of Embedding must be i64 or i32, not f32" in str(found)
    assert "ids: f32[b, t], as you wrote it" in str(found)
    assert output_of(typecheck(Tokens(), {"ids": "i64[b, t]"})) == "[b, t, 2]"
    assert output_of(typecheck(Tokens(), {"ids": "[b, t]"})) == "[b, t, 2]"


@pytest.mark.parametrize(
    "function, inputs, words",
    [
        (lambda x, y: x @ y, ("f64[n, 4]", "f32[4, 3]"), "one dtype, not f64 and f32"),
        (lambda x, y: F.linear(x, y), ("f64[n, 4]", "f32[3, 4]"), "one dtype"),
        (lambda x, y: x.double() @ y, ("f32[n, 4]", "f32[4, 3]"), "one dtype"),
        (lambda x, y: x[y], ("f32[n, 4]", "f32[n]"), "a tensor among indices"),
        (lambda x, y: torch.gather(x, 0, y), ("f32[n, 4]", "bool[n, 4]"), "the index of gather"),
        (lambda x, y: x.masked_fill(y, 0.0), ("f32[n, 4]", "i64[n, 4]"), "the mask of masked_fill"),
        (lambda x, y: x.add_(y), ("i64[n, 4]", "f32[n, 4]"), "cannot be written into"),
        (lambda x, y: F.cross_entropy(x, y), ("f32[n, 4]", "f32[n]"), "class indices"),
        (lambda x, y: F.cross_entropy(x, y), ("f32[n, 4]", "i32[n]"), "class indices"),
        (lambda x, y: F.binary_cross_entropy(x, y), ("f32[n]", "i64[n]"), "must be floats"),
    ],
)
def test_dtypes_that_eager_refuses(function: Any, inputs: tuple[str, ...], words: str) -> None:
    found = check(function, *inputs)
    assert found.verdict == "ill-typed"
    assert words in str(found)
    written = [text.partition("[") for text in inputs]
    args = [
        torch.zeros([3 if s == "n" else int(s) for s in dims[:-1].split(", ")]).to(
            {"f32": torch.float32, "f64": torch.float64, "bool": torch.bool}.get(
                dtype, torch.int32 if dtype == "i32" else torch.int64
            )
        )
        for dtype, _, dims in written
    ]
    with pytest.raises((RuntimeError, IndexError)):
        function(*args)


@pytest.mark.parametrize(
    "layer, given",
    [
        (nn.Linear(4, 2), "f64[n, 4]"),
        (nn.Conv2d(4, 2, 1), "u8[n, 4, 8, 8]"),
        (nn.LSTM(4, 2), "f64[t, n, 4]"),
        (nn.LayerNorm(4), "f64[n, 4]"),
        (nn.Linear(4, 2).double(), "f32[n, 4]"),
    ],
)
def test_inputs_have_the_dtype_of_weights(layer: nn.Module, given: str) -> None:
    found = typecheck(nn.Sequential(layer), {"input": given})
    assert found.verdict == "ill-typed"
    assert "has weights of" in str(found)


def test_fewer_bits_are_normalized() -> None:
    assert typecheck(nn.Sequential(nn.LayerNorm(4)), {"input": "bf16[n, 4]"})
    assert typecheck(nn.Sequential(nn.Linear(4, 2).double()), {"input": "f64[n, 4]"})


def test_class_indices_are_offered_as_such() -> None:
    loss = check(lambda x, y: F.cross_entropy(x, y), "f32[2, 10, 8, 9]", "i64[2, 9, 8]")
    assert loss.conflict is not None
    assert loss.conflict.example == {"x": (2, 10, 8, 9), "y": (2, 8, 9)}
    indices = check(lambda x, y: F.cross_entropy(x, y), "f32[2, 10]", "i64[2, 10]")
    assert indices.verdict == "ill-typed"
    assert check(lambda x, y: F.cross_entropy(x, y), "f32[2, 10]", "f32[2, 10]")


# -- against eager ---------------------------------------------------------------------------------


def dtypes_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.dtype
    if isinstance(value, (tuple, list)):
        return tuple(map(dtypes_of, value))
    return None


def inferred(program: Any) -> Any:
    """The dtype that is inferred for a program of one operator, traced by torch.fx."""
    module = program.module()
    try:
        graph = torch.fx.Tracer().trace(module)
    except (TraceError, TypeError, AttributeError, ValueError, RuntimeError, AssertionError):
        return None
    inputs = {f"x{i}": x.dtype for i, x in enumerate(program.tensors)}
    ranks = {f"x{i}": x.dim() for i, x in enumerate(program.tensors)}
    types = ElementTypes(module, inputs, lambda node: ranks.get(str(node.target)))
    returned = graph.output_node().args[0]
    return types.of(returned) if isinstance(returned, Node) else None


def agree(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(agree, one, other))
    if isinstance(other, tuple) and isinstance(one, torch.dtype):
        return all(agree(one, part) for part in other)  # pieces of one tensor
    return one is None or isinstance(one, type) or one == other


@pytest.mark.parametrize("seed", range(4 if LONG else 1))
def test_inferred_dtypes_are_those_of_eager(seed: int) -> None:
    rng = random.Random(seed)
    wrong, known = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for program in programs(rng, *((1.0, 4) if LONG else (0.2, 1))):
            found = inferred(program)
            if found is None:
                continue
            try:
                with torch.no_grad():
                    eager = dtypes_of(program.run([x.clone() for x in program.tensors]))
            except (*REFUSALS, NotImplementedError):
                continue
            known += 1
            if not agree(found, eager):
                wrong.append(f"{program}: {found}, eager: {eager}")
    assert known > 30
    assert not wrong, "\n".join(wrong)


def test_a_dtype_of_unknown_ranks_is_left_open() -> None:
    graph = Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    total = graph.call_method("add", (x, y))
    types = {"x": torch.float32, "y": torch.float64}
    assert ElementTypes(None, types).of(total) is None
    assert ElementTypes(None, types, lambda node: 2).of(total) == torch.float64
    assert ElementTypes(None, types, lambda node: 0 if node is y else 2).of(total) == torch.float32
    assert shapes_of(torch.zeros(2)) == [2]


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", dtype=torch.float16):
            hidden = self.first(x)
        return self.second(hidden.float())


class Brains(Halves):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class Ended(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.first(x)
        return self.second(hidden.double())


class Outside(Halves):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x))


def test_operators_within_autocast_take_other_dtypes() -> None:
    for program in (Halves, Brains):
        assert output_of(typecheck(program(), {"x": "f16[n, 8]"})) == "[n, 2]"
        assert typecheck(program(), {"x": "f16[n, 9]"}).verdict == "ill-typed"
    found = typecheck(Ended(), {"x": "f16[n, 8]"})
    assert "Linear has weights of f32, and its input is f64" in str(found)
    found = typecheck(Outside(), {"x": "f16[n, 8]"})
    assert "Linear has weights of f32, and its input is f16" in str(found)


def test_sizes_and_devices_are_no_tensors_of_unknown_dtype() -> None:
    def positions(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        t = x.shape[1]
        return (
            torch.arange(t, device=x.device),
            torch.arange(0, t - 1, requires_grad=False),
            torch.arange(0, 1, 1 / t),
            torch.full((t,), t // 2),
            torch.tensor([t, 2 * x.size(0)]),
            torch.arange(t).to(x.device),
            torch.arange(t).to(x.dtype),
            torch.zeros(t, dtype=x.dtype),
        )

    eager = [each.dtype for each in positions(torch.zeros(2, 6, dtype=torch.float64))]
    graph = program_graph(FunctionProgram(positions, ["x"]), {"x": "f64[n, 6]"})
    types = ElementTypes(graph, {"x": torch.float64})
    (made,) = graph.graph.output_node().args
    assert [types.of(node) for node in made] == eager  # type: ignore[union-attr]
    unknown = ElementTypes(graph, {})
    assert [unknown.of(node) for node in made][-2:] == [None, None]  # type: ignore[union-attr]


class Positions(nn.Module):
    def __init__(self, kind: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.fc = nn.Linear(1, 8).to(kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        places = torch.arange(x.size(1), device=x.device).unsqueeze(-1)
        return x + self.fc(places)


class StateOfDoubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(8, 8, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(1, x.size(0), 8, dtype=torch.float64)
        return self.rnn(x, (state, state))[0]


class TableOfDoubles(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("table", torch.ones(8, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x * self.table)


@pytest.mark.parametrize("model", [Positions(), StateOfDoubles(), TableOfDoubles()])
@pytest.mark.parametrize("written", ["f32[n, 5, 8]", "[n, 5, 8]"])
def test_dtypes_of_made_tensors_are_checked(model: nn.Module, written: str) -> None:
    with pytest.raises(RuntimeError):
        model(torch.zeros(2, 5, 8))
    assert typecheck(model, {"x": written}).verdict == "ill-typed"


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.bfloat16])
def test_models_of_other_dtypes_take_inputs_without_one(kind: torch.dtype) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 2)).to(kind)
    assert typecheck(model, {"input": "[n, 8]"}).verdict == "well-typed"
