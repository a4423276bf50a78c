"""The table of shape rules gives the shapes that the operators have: in each of its domains."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import z3
from operator_samples import SAMPLES, Ints
from torch import nn
from torch.fx.tensor_type import Dyn, TensorType, is_consistent

from symfx.graph_gradual_typechecker import GraphTypeChecker
from symfx.migrate_gradual_types.constraint import TVar
from symfx.migrate_gradual_types.constraint_generator import ConstraintGenerator
from symfx.migrate_gradual_types.transform_to_z3 import transform_all_constraints
from symfx.migrate_gradual_types.z3_types import tensor_type
from symfx.shape_rules import (
    DuplicateRuleError,
    GradualError,
    IllTypedError,
    RankBoundError,
    Shape,
    exactly,
    get_max_rank,
    known_rules,
    max_rank,
    rule,
    set_max_rank,
)
from symfx.static_migration import migrate


class Layer(nn.Module):
    """A program of one call."""

    def __init__(self, program: Any, count: int) -> None:
        super().__init__()
        self.program, self.count = program, count
        args = ", ".join(f"x{i}" for i in range(count))
        self.forward = eval(f"lambda {args}: program({args})", {"program": program})


def tensor(shape: Any) -> torch.Tensor:
    if isinstance(shape, Ints):
        return torch.zeros(tuple(shape), dtype=torch.long)
    return torch.rand(tuple(shape))


def shapes_of(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape)
    return tuple(map(shapes_of, value)) if isinstance(value, (tuple, list)) else None


def dims_of(type_: Any) -> Any:
    if isinstance(type_, TensorType):
        return tuple(type_.dims)
    return tuple(map(dims_of, type_)) if isinstance(type_, tuple) else type_


def traced(name: str) -> tuple[torch.fx.GraphModule, list[Any], Any]:
    program, inputs = SAMPLES[name]
    if isinstance(program, nn.Module):
        program.eval()
    names = [f"x{i}" for i in range(len(inputs))]
    graph = torch.fx.Graph()
    if isinstance(program, nn.Module):
        root = nn.Module()
        root.add_module("layer", program)
        args = tuple(graph.placeholder(n) for n in names)
        graph.output(graph.call_module("layer", args))
        module = torch.fx.GraphModule(root, graph)
    else:
        source = f"lambda {', '.join(names)}: program({', '.join(names)})"
        module = torch.fx.symbolic_trace(eval(source, {"program": program}))
    torch.manual_seed(0)
    with torch.no_grad():
        expected = shapes_of(program(*map(tensor, inputs)))
    return module, [tuple(shape) for shape in inputs], expected


def output(module: torch.fx.GraphModule) -> torch.fx.Node:
    return list(module.graph.nodes)[-1]


@pytest.mark.parametrize("name", SAMPLES)
def test_numbers_in_numbers_out(name: str) -> None:
    module, inputs, expected = traced(name)
    given = {f"x{i}": TensorType(shape) for i, shape in enumerate(inputs)}
    found = migrate(module, given)
    assert found.verdict == "well-typed", str(found)
    assert not found.unknown_operators
    assert dims_of(found.types[output(module)]) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_names_in_their_values_out(name: str) -> None:
    """Sizes by name: what comes out has the sizes that eager has, with the example put in."""
    module, inputs, expected = traced(name)
    given, values = {}, {}
    for i, shape in enumerate(inputs):
        given[f"x{i}"] = [f"d{i}_{k}" for k in range(len(shape))]
        values.update({f"d{i}_{k}": size for k, size in enumerate(shape)})
    found = migrate(module, given)
    assert found.verdict == "well-typed", str(found)
    import sympy

    def put_in(dim: Any) -> Any:
        if isinstance(dim, tuple):
            return tuple(map(put_in, dim))
        if isinstance(dim, sympy.Expr):
            return int(dim.subs({s: values[s.name] for s in dim.free_symbols}))
        return dim

    def agrees(one: Any, other: Any) -> bool:
        if isinstance(other, tuple) and isinstance(one, tuple):
            return len(one) == len(other) and all(map(agrees, one, other))
        return one in (Dyn, other)

    assert agrees(put_in(dims_of(found.types[output(module)])), expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_checker_agrees_with_eager(name: str) -> None:
    """With each input's first dimension unknown, the type is one that the result has."""
    module, inputs, expected = traced(name)
    placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
    for node, shape in zip(placeholders, inputs, strict=True):
        node.type = TensorType((Dyn, *shape[1:])) if shape else TensorType(())
    GraphTypeChecker({}, module).type_check()

    def consistent(one: Any, other: Any) -> bool:
        if one == Dyn or other is None:
            return True
        if isinstance(one, TensorType):
            return len(one.dims) == len(other) and all(
                a in (Dyn, b) for a, b in zip(one.dims, other, strict=True)
            )
        return all(map(consistent, one, other))

    assert consistent(output(module).type, expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_formula_agrees_with_eager(name: str) -> None:
    """With all sizes known, the formula can be satisfied, by the sizes that the result has."""
    module, inputs, expected = traced(name)
    for node, shape in zip(module.graph.nodes, inputs, strict=False):
        node.type = TensorType(shape)
    solver = z3.Solver()
    solver.add(transform_all_constraints(module))
    if name == "conv 2d without batch":  # only with one, as PyTorch has it
        assert solver.check() == z3.unsat
        return
    assert solver.check() == z3.sat
    generator = ConstraintGenerator(module)
    generator.generate_constraints(0)
    model = solver.model()

    def consistent(variable: Any, shape: Any) -> bool:
        if isinstance(variable, torch.fx.Node):
            variable = generator.symbol_dict[variable]
        if not isinstance(variable, TVar):
            return all(map(consistent, variable, shape))
        type_ = model.eval(z3.Const(variable.tvar, tensor_type), model_completion=True)
        if type_.decl().name() == "Dyn":
            return True
        pairs = [type_.arg(i) for i in range(type_.num_args())]
        dims = [p.arg(1).as_long() if p.arg(0).as_long() == 1 else Dyn for p in pairs]
        return len(dims) == len(shape) and all(map(is_consistent, dims, shape))

    (result,) = output(module).args
    assert consistent(result, expected)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: torch.stack(torch.where(x > 0)),
        lambda x: torch.cat(x.unbind(0)),
        lambda x: torch.zeros(x.shape[1:]),
        lambda x: torch.stack(x.chunk(2, 1)),
    ],
)
def test_a_tuple_whose_length_depends_on_ranks_refuses_nothing(program: Any) -> None:
    module = torch.fx.symbolic_trace(program)
    next(iter(module.graph.nodes)).type = TensorType((3, 4))
    assert z3.Solver().check(transform_all_constraints(module)) == z3.sat


# -- the table ---------------------------------------------------------------------------------


def test_one_entry_adds_an_operator_to_all_analyses() -> None:
    def pairwise(x: torch.Tensor) -> torch.Tensor:
        return x @ x.T

    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(pairwise, (x,)))
    module = torch.fx.GraphModule(nn.Module(), graph)
    x.type = TensorType((4, 3))
    before = migrate(module)
    assert before.unknown_operators and before.shapes[output(module)] == "Dyn"
    with pytest.warns(UserWarning, match="pairwise"):
        assert GraphTypeChecker({}, module).type_check()

    @rule(pairwise)
    def pairwise_rule(d: Any, x: Shape) -> Shape:
        n, _ = exactly(x, 2, "pairwise")
        return Shape((n, n))

    try:
        assert migrate(module, {"x": "[n, 3]"}).shapes[output(module)] == "[n, n]"
        for node in module.graph.nodes:
            node.type = None
        x.type = TensorType((4, Dyn))
        GraphTypeChecker({}, module).type_check()
        assert output(module).type == TensorType((4, 4))
        with pytest.raises(DuplicateRuleError, match="has a rule already"):
            rule(pairwise)(lambda d, x: x)
    finally:
        known_rules().pop(pairwise)  # type: ignore[attr-defined]


def test_a_subclass_that_computes_something_else_is_another_operator() -> None:
    class Twice(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x])

    class Same(nn.Linear):
        pass

    for cls, known in ((Twice, False), (Same, True)):
        root = nn.Module()
        root.add_module("layer", cls(3, 4))
        graph = torch.fx.Graph()
        graph.output(graph.call_module("layer", (graph.placeholder("x"),)))
        module = torch.fx.GraphModule(root, graph)
        found = migrate(module, {"x": "[n, 3]"})
        assert (found.shapes[output(module)] == "[n, 4]") is known
        assert bool(found.unknown_operators) is not known


class Reading(nn.Module):
    def forward(self, x: TensorType((Dyn, 3))) -> Any:  # type: ignore[valid-type]
        same = torch.relu(x).to(x.dtype)
        on = torch.zeros(2, same.shape[1], device=x.device)
        q, top = torch.linalg.qr(same).Q, torch.max(same, dim=1).values
        wrong = x.wieght + 1
        return on, q, top, wrong


def test_attributes() -> None:
    traced = torch.fx.symbolic_trace(Reading())
    found = migrate(traced, {"x": "[n, 3]"})
    assert found.shapes[output(traced)] == "([2, 3], [n, min(n, 3)], [n], Dyn)"
    assert [*found.unknown_operators.values()] == ["the attribute wieght"]
    reported = str(found).splitlines()[-1]
    assert reported.startswith("no shape rule for the attribute wieght: typed Dyn, at getattr")
    checker = GraphTypeChecker({}, traced)
    with pytest.warns(UserWarning, match="no shape rule for the attribute wieght"):
        checker.type_check()
    types = [node.type for node in output(traced).args[0]]  # type: ignore[union-attr]
    assert types == [TensorType((2, 3)), TensorType((Dyn, Dyn)), TensorType((Dyn,)), Dyn]
    generator = ConstraintGenerator(traced)
    generator.generate_constraints()
    assert [*generator.unknown_operators.values()] == ["the attribute wieght"]


# -- what does not fit -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "program, inputs",
    [
        (nn.Conv2d(3, 4, 3), [(2, 4, 8, 8)]),
        (nn.Conv2d(3, 4, 9), [(2, 3, 8, 8)]),
        (nn.BatchNorm2d(3), [(2, 4, 8, 8)]),
        (nn.Linear(3, 4), [(2, 4)]),
        (nn.LayerNorm(3), [(2, 4)]),
        (nn.GroupNorm(3, 6), [(2, 4)]),
        (nn.PixelShuffle(2), [(2, 6, 3, 3)]),
        (nn.LSTM(4, 5), [(2, 3, 5)]),
        (torch.matmul, [(2, 3), (4, 5)]),
        (torch.bmm, [(2, 3, 4), (3, 4, 5)]),
        (operator.add, [(2, 3), (2, 4)]),
        (lambda x: x.view(5, -1), [(2, 3)]),
        (lambda x: x.view(5, 2), [(2, 3)]),
        (lambda x: x.transpose(0, 2), [(2, 3)]),
        (lambda x: x.permute(0, 0), [(2, 3)]),
        (lambda x: x[:, :, 0], [(2, 3)]),
        (lambda x: x[5], [(2, 3)]),
        (lambda x: x.expand(4, 3), [(2, 3)]),
        (lambda x: x.split([1, 1], 1), [(2, 3)]),
        (lambda x, y: torch.cat([x, y], 1), [(2, 3), (3, 3)]),
        (lambda x, y: torch.stack([x, y]), [(2, 3), (2, 4)]),
        (lambda x: x.softmax(2).sum(2), [(2, 3)]),
        (lambda x, y: torch.einsum("ij,jk", x, y), [(2, 3), (4, 5)]),
        (lambda x: torch.topk(x, 9), [(2, 3)]),
        (lambda x: torch.softmax(x, 2), [(2, 3)]),
        (lambda x: torch.cumsum(x, -3), [(2, 3)]),
        (lambda x: x.flip((0, 0)), [(2, 3)]),
        (lambda x: x.sum((1, -1)), [(2, 3)]),
        (lambda x: x.reshape(0, -1), [(2, 3)]),
        (lambda x: torch.tril(x), [(3,)]),
        (torch.dot, [(2, 3), (2, 3)]),
        (nn.AvgPool2d(3, padding=2), [(2, 3, 8, 8)]),
        (nn.ConvTranspose1d(3, 4, 3, output_padding=1), [(2, 3, 8)]),
        (nn.Upsample(size=4, scale_factor=2), [(2, 3, 8)]),
        (nn.ReflectionPad1d(3), [(2, 3, 3)]),
        (lambda x: F.pad(x, (1, 1), mode="circular"), [(2, 3, 4, 5)]),
        (lambda x, w, b: F.linear(x, w, b), [(2, 3), (4, 3), (3,)]),
        (lambda x, w: F.conv2d(x, w, stride=2, padding="same"), [(2, 3, 8, 8), (4, 3, 3, 3)]),
        (nn.Upsample(scale_factor=2, mode="bilinear"), [(2, 3, 8)]),
        (nn.Upsample(scale_factor=2, mode="linear"), [(2, 3, 8, 8)]),
        (nn.LPPool1d(2, 9), [(2, 3, 8)]),
        (lambda x, i: x.scatter(2, i.long(), 1.0), [(2, 3), (2, 3)]),
        (lambda x, i: x.gather(0, i.long()), [(2, 3), (2, 4)]),
        (lambda x, i: x.index_select(2, i.long()), [(2, 3), (2,)]),
        (lambda x, y: x.add_(y), [(2, 1), (2, 3)]),
        (torch.linalg.inv, [(2, 3)]),
        (lambda x: torch.fft.fft(x, dim=2), [(2, 3)]),
    ],
)
def test_what_eager_refuses_is_ill_typed(program: Any, inputs: list[Any]) -> None:
    SAMPLES["refused"] = (lambda *xs: None, inputs)
    try:
        with pytest.raises((RuntimeError, IndexError, ValueError)):
            program(*map(tensor, inputs))
        names = [f"x{i}" for i in range(len(inputs))]
        graph = torch.fx.Graph()
        args = tuple(graph.placeholder(n) for n in names)
        root = nn.Module()
        if isinstance(program, nn.Module):
            root.add_module("layer", program)
            graph.output(graph.call_module("layer", args))
            module = torch.fx.GraphModule(root, graph)
        else:
            source = f"lambda {', '.join(names)}: program({', '.join(names)})"
            module = torch.fx.symbolic_trace(eval(source, {"program": program}))
        found = migrate(module, {n: TensorType(s) for n, s in zip(names, inputs, strict=True)})
        assert found.verdict == "ill-typed"
        assert found.conflict is not None and found.conflict.nodes
    finally:
        del SAMPLES["refused"]


# -- the bound on ranks ----------------------------------------------------------------------


def test_the_bound_on_ranks() -> None:
    assert get_max_rank() == 8
    with max_rank(3):
        assert get_max_rank() == 3
        with pytest.raises(GradualError, match="the bound is 3"):
            migrate(torch.fx.symbolic_trace(lambda x: x + 1), {"x": "[a, b, c, d]"})
    assert get_max_rank() == 8
    for wrong in (0, 65, True, "4", 2.5):
        with pytest.raises(GradualError):
            set_max_rank(wrong)  # type: ignore[arg-type]
    assert issubclass(RankBoundError, GradualError) and issubclass(IllTypedError, TypeError)


@pytest.mark.parametrize("spec", ["[4, 6]", "[a, b]", "Dyn"])
@pytest.mark.parametrize(
    "program",
    [
        lambda x: torch.stack(x.unbind(0)),
        lambda x: x.unsqueeze(0).repeat(x.size(0), 1, 1),
        lambda x: x.split(2)[0],
        lambda x: x[x > 0],
        lambda x: x.squeeze(),
        lambda x: x.item(),
        lambda x: torch.fft.fft(x),
        lambda x: x.numpy(),
        lambda x: torch.nonzero(x),
        lambda x: x.reshape(-1, 2),
    ],
)
def test_no_call_fails_the_run(program: Any, spec: str) -> None:
    assert migrate(torch.fx.symbolic_trace(program), {"x": spec}).verdict == "well-typed"
