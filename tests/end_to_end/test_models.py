"""The six models of the benchmarks, traced once and compared with eager at other shapes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from benchmarks.models import WORKLOADS, Workload, build
from symfx import algebra
from symfx.proxy_tensor import make_fx

SHAPES = range(5)


@dataclass(frozen=True)
class Traced:
    workload: Workload
    graph_module: torch.fx.GraphModule


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread: workers of pytest-xdist share the machine, and more threads would wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def trace(name: str, how: str) -> Traced:
    workload = build(name, small=True, dropout=0.0)
    named = {"dynamic_shapes": workload.dynamic_shapes()} if how == "named" else {}
    traced = make_fx(workload.function, tracing_mode="symbolic", **named)(*workload.arguments())
    return Traced(workload, traced)


@pytest.fixture(
    scope="module",
    params=[(name, how) for name in WORKLOADS for how in ("named", "all-dynamic")],
    ids="-".join,
)
def traced(request: pytest.FixtureRequest) -> Iterator[Traced]:
    """A trace with named dynamic dimensions of the inputs, and one with all dimensions dynamic."""
    yield trace(*request.param)


def bindings(traced: Traced, args: tuple[Any, ...]) -> dict[Any, int]:
    """The value of each symbol at ``args``, read from the sources that the trace names.

    The other facts about inputs, which equal a number or an expression, are checked as well.
    """
    names = dict(zip(inspect.signature(traced.workload.function).parameters, args, strict=True))
    facts = [
        (fact, eval(fact.source, {}, names)) for fact in traced.graph_module.shape_env.input_facts()
    ]
    values: dict[Any, int] = {}
    for fact, value in facts:
        if fact.term.op == "symbol":
            assert values.setdefault(fact.term, value) == value, fact
    for fact, value in facts:
        assert algebra.evaluate(fact.term, values) == value, fact
    return values


def assert_same(traced: Traced, args: tuple[Any, ...], twin: tuple[Any, ...]) -> None:
    """Compare the graph at ``args`` with eager at ``twin``: the results, and the inputs afterwards."""
    torch.manual_seed(0)
    expected = traced.workload.function(*twin)
    torch.manual_seed(0)
    actual = traced.graph_module(*args)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(args, twin)


def test_the_graph_equals_eager_at_the_traced_shape(traced: Traced) -> None:
    assert_same(traced, traced.workload.arguments(), traced.workload.arguments())


@pytest.mark.parametrize("other", SHAPES)
def test_the_graph_equals_eager_at_other_shapes(traced: Traced, other: int) -> None:
    sizes = traced.workload.others[other]
    assert sizes != traced.workload.example
    assert_same(traced, traced.workload.arguments(sizes), traced.workload.arguments(sizes))


def test_the_guards_admit_the_other_shapes(traced: Traced) -> None:
    """Otherwise the tests above would run graphs at shapes without a promise."""
    assert len(traced.workload.others) == len(SHAPES)
    for sizes in (traced.workload.example, *traced.workload.others):
        values = bindings(traced, traced.workload.arguments(sizes))
        for guard in traced.graph_module.shape_env.guards:
            assert algebra.evaluate(guard.term, values) is True, f"{guard} refuses {dict(sizes)}"


def test_no_computed_tensor_is_asked_for_its_layout(traced: Traced) -> None:
    """The layout is the kernel's choice, so numbers come from sizes and from inputs."""
    aten = torch.ops.aten
    questions = (aten.sym_stride.int, aten.sym_stride.default, aten.sym_storage_offset.default)
    asked = [n for n in traced.graph_module.graph.nodes if n.target in questions]
    assert [n.args[0] for n in asked if n.args[0].op != "placeholder"] == []


@pytest.mark.parametrize("name", WORKLOADS)
def test_named_dimensions_are_the_symbols_of_the_trace(name: str) -> None:
    traced = trace(name, "named")
    # torch's fake mode also gives the value of each integer counter of BatchNorm a symbol.
    symbols = {
        info.name: info
        for info in traced.graph_module.shape_env.symbol_table()
        if not all(source.endswith(".item()") for source in info.sources)
    }
    wanted = {dim for dims in traced.workload.dims for dim in dims.values()}
    assert set(symbols) == wanted
    assert {name: info.hint for name, info in symbols.items()} == dict(traced.workload.example)


@pytest.mark.parametrize("name", ["encoder", "encoder-grad"])
def test_dropout_draws_the_numbers_that_eager_draws(name: str) -> None:
    workload = build(name, small=True, dropout=0.25)
    graph_module = make_fx(
        workload.function, tracing_mode="symbolic", dynamic_shapes=workload.dynamic_shapes()
    )(*workload.arguments())
    for sizes in workload.others:
        assert_same(
            Traced(workload, graph_module), workload.arguments(sizes), workload.arguments(sizes)
        )
