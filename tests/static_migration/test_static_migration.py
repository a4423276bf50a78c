"""Migration, conflicts, branches, and what is said of inputs that make no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sympy
import torch
import z3
from torch import nn
from torch.fx.tensor_type import Dyn, TensorType
from typer.testing import CliRunner

from benchmarks.models import WORKLOADS, build
from symfx.cli import app
from symfx.errors import SpecError
from symfx.graph_gradual_typechecker import GraphTypeChecker
from symfx.migrate_gradual_types.constraint import BinConstraintT, DVar, T, TVar
from symfx.migrate_gradual_types.constraint_transformation import transform_constraint
from symfx.migrate_gradual_types.operation import op_consistency, op_matching, op_precision
from symfx.migrate_gradual_types.transform_to_z3 import (
    evaluate_conditional_with_constraints,
    transform_all_constraints,
)
from symfx.migrate_gradual_types.z3_types import tensor_sort
from symfx.proxy_tensor import make_fx
from symfx.shape_rules import GradualError, IllTypedError, max_rank
from symfx.static_migration import eliminate_branches, migrate, program_graph
from symfx.static_migration.conditions import parse_input
from symfx.static_migration.light_models import without_weights
from symfx.static_migration.solver import Solver, smallest_conflict

# -- programs, which the command line loads from here too -------------------------------------


class Classifier(nn.Module):
    def __init__(self, second: int = 5) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 5, 3)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(second, 8, 3, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.relu(self.conv1(x)))
        return self.head(torch.flatten(self.pool(x), 1))


class EncoderLayer(nn.Module):
    def __init__(self, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, width = x.shape
        q, k, v = (f(x).view(b, n, self.heads, -1).transpose(1, 2) for f in self.qkv)
        weights = (q @ k.transpose(-2, -1) / 8.0).softmax(-1)
        x = self.norm1(x + self.out((weights @ v).transpose(1, 2).reshape(b, n, width)))
        return self.norm2(x + self.down(torch.nn.functional.gelu(self.up(x))))


class Encoder(nn.Module):
    def __init__(self, layers: int = 2, width: int = 48, heads: int = 12) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(100, width), nn.Embedding(512, width)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.words(ids) + self.places(torch.arange(ids.size(1)))
        for layer in self.layers:
            x = layer(x)
        return x


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dim() == 2
        if x.size(0) > 1 and x.shape[1] % 2 == 0:
            return x[:, ::2]
        return x.sum(1, keepdim=True)


class Masked(nn.Module):
    """What torch.fx does not trace: keyword arguments that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 6)

    def forward(self, x: torch.Tensor, **options: Any) -> torch.Tensor:
        mask = torch.ones(*x.shape[:2], dtype=torch.bool)
        return self.linear(x).masked_fill(mask.unsqueeze(-1), 0.0)


def last(module: torch.fx.GraphModule) -> torch.fx.Node:
    return list(module.graph.nodes)[-1]


# -- the three tasks --------------------------------------------------------------------------


def test_the_most_precise_annotations() -> None:
    module = torch.fx.symbolic_trace(Classifier())
    found = migrate(module)
    assert found and found.inputs == {"x": "[x_0, 3, x_2, x_3]"}
    assert found.shapes[last(module)] == "[x_0, 10]"
    assert found.conditions == ["x_2 >= 5", "x_3 >= 5"]
    found.annotate()
    assert (
        last(module).type == TensorType((sympy.Symbol("x_0", integer=True), 10))
        or str(last(module).type.dims) == "(x_0, 10)"
    )


def test_under_the_users_conditions() -> None:
    module = torch.fx.symbolic_trace(Classifier())
    found = migrate(module, {"x": "[batch, ?, side, side]"}, ["batch % 8 == 0", "side == 2*k"][:1])
    assert found.inputs == {"x": "[batch, 3, side, side]"}
    assert found.conditions == ["batch % 8 == 0", "side >= 5"]
    forced = migrate(module, {"x": "[n, c, h, w]"}, ["n * 2 == 6", "h + w == 10", "h >= 5"])
    assert forced.inputs == {"x": "[3, 3, 5, 5]"}
    assert not migrate(module, {"x": "[n, c, h, w]"}, ["h + w == 9"])


def test_what_is_found_holds_when_the_program_runs() -> None:
    model = Encoder()
    found = migrate(torch.fx.symbolic_trace(model), {"ids": "[batch, seq]"}, ["seq <= 512"])
    assert found and not found.unknown_operators
    assert all(shape != "Dyn" for shape in found.shapes.values())
    (output,) = (n for n in found.graph.nodes if n.op == "output")
    assert found.shapes[output] == "[batch, seq, 48]"
    assert model(torch.zeros(3, 7, dtype=torch.long)).shape == (3, 7, 48)


def test_branches_are_decided_for_a_class_of_inputs() -> None:
    wide = eliminate_branches(Branching(), {"x": "[n, 2*k]"}, ["n >= 2"])
    narrow = eliminate_branches(Branching(), {"x": "[1, k]"})
    x = torch.rand(3, 6)
    assert torch.equal(wide(x), x[:, ::2])
    assert torch.equal(narrow(x[:1]), x[:1].sum(1, keepdim=True))
    with pytest.raises(GradualError, match="holds for some of the inputs and not for others"):
        eliminate_branches(Branching(), {"x": "[n, k]"})
    with pytest.raises(GradualError, match="no input 'y'"):
        eliminate_branches(Branching(), {"y": "[n, k]"})


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_two_engines_agree(name: str) -> None:
    """What is proved of dimensions is what ShapeEnv found when the same program was traced."""
    workload = build(name, small=True)
    function, args = workload.closed()
    traced = make_fx(
        function,
        tracing_mode="symbolic",
        _allow_non_fake_inputs=True,
        dynamic_shapes=[dict(dims) for dims in workload.dims],
    )(*args)
    given = {}
    placeholders = [n for n in traced.graph.nodes if n.op == "placeholder"]
    for node, value, dims in zip(placeholders, args, workload.dims, strict=True):
        given[str(node.target)] = [dims.get(i, size) for i, size in enumerate(value.shape)]
    found = migrate(traced, given)
    assert found, str(found)
    compared = 0
    for node in traced.graph.nodes:
        known, type_ = node.meta.get("val"), found.types[node]
        if not isinstance(known, torch.Tensor) or type_ == Dyn:
            continue
        compared += 1
        assert len(known.shape) == len(type_.dims)
        for size, dim in zip(known.shape, type_.dims, strict=True):
            if isinstance(dim, int):
                assert size == dim, node
            elif dim != Dyn:
                values = {s: workload.example[s.name] for s in dim.free_symbols}
                assert int(dim.subs(values)) == (
                    size if isinstance(size, int) else size.node.hint
                ), node
    calls = [n for n in traced.graph.nodes if n.op == "call_function"]
    assert compared > 0.5 * len(calls)
    # The operators of derivatives are nobody's to call; they are typed Dyn.
    assert all("backward" in operator for operator in found.unknown_operators.values())


# -- conflicts ---------------------------------------------------------------------------------


def test_the_smallest_set_of_nodes_that_conflict() -> None:
    module = torch.fx.symbolic_trace(Classifier(second=4))
    conflict = migrate(module).conflict
    assert conflict is not None
    assert [n.name for n in conflict.nodes] == ["conv1", "relu", "conv2"]
    assert conflict.example is None  # no input repairs this
    assert "4 channels" in str(conflict)


def test_a_shape_that_would_work() -> None:
    module = torch.fx.symbolic_trace(Classifier())
    found = migrate(module, {"x": "[batch, 4, h, w]"})
    conflict = found.conflict
    assert conflict is not None and conflict.example is not None
    assert [n.name for n in conflict.nodes] == ["x", "conv1"]
    assert "x: [batch, 4, h, w], as you wrote it" in str(conflict)
    Classifier()(torch.rand(conflict.example["x"]))  # it runs
    with pytest.raises(IllTypedError, match="this would work"):
        found.raise_if_ill_typed()


def test_what_works_is_near_to_what_the_user_wrote() -> None:
    add = torch.fx.symbolic_trace(lambda x, y: x + y)
    conflict = migrate(add, {"x": "[batch, 3, w]", "y": "[batch, 4, w]"}, ["batch > 4"]).conflict
    assert conflict is not None and conflict.example is not None
    x, y = conflict.example["x"], conflict.example["y"]
    assert x[1] == 3 and x[::2] == y[::2] and x[0] > 4 and not conflict.hopeless


def test_what_no_input_repairs_is_said() -> None:
    conflict = migrate(torch.fx.symbolic_trace(Classifier(second=4))).conflict
    assert conflict is not None and conflict.hopeless
    assert "the program has to change" in str(conflict)


def test_nothing_is_drawn_to_build_a_model_for_its_shapes() -> None:
    with without_weights():
        layers = nn.ModuleList([nn.Linear(3, 4), nn.Embedding(5, 6), nn.LSTM(3, 4)])
        state = torch.get_rng_state()
        nn.Conv2d(3, 4, 3)
        torch.empty(2).uniform_()  # no parameter
        assert not torch.equal(state, torch.get_rng_state())
        state = torch.get_rng_state()
        nn.TransformerEncoderLayer(8, 2, 16)
        assert torch.equal(state, torch.get_rng_state())
    assert layers[1].weight.shape == (5, 6)


def test_what_the_user_said_takes_part() -> None:
    module = torch.fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 7)))
    conflict = migrate(module, {"input": "[n, 3, h, h]"}, ["h < 5", "n > 2"]).conflict
    assert conflict is not None
    assert conflict.conditions == ("you said h < 5",)


def test_the_users_source_line() -> None:
    traced = program_graph(Classifier(second=4), {"x": parse_input("x: [n, 3, h, w]")[1]})
    conflict = migrate(traced).conflict
    assert conflict is not None
    assert "test_static_migration.py" in str(conflict)
    assert "x = self.conv2(self.relu(self.conv1(x)))" in str(conflict)


def test_no_condition_of_a_smallest_conflict_can_be_left_out() -> None:
    from symfx.algebra import Table

    t = Table()
    a, b, c = map(t.symbol, "abc")
    conditions = [a >= 1, b >= a, c > b, c < 1, a + b >= 0, c <= 50]
    solver = Solver(5.0)
    core = smallest_conflict(solver, conditions)
    assert solver.ask([conditions[i] for i in core]).verdict == "unsat"
    for left_out in core:
        assert solver.ask([conditions[i] for i in core if i != left_out]).verdict == "sat"


# -- input that makes no sense ------------------------------------------------------------------


def test_graphs_that_are_none() -> None:
    empty = torch.fx.GraphModule(nn.Module(), torch.fx.Graph())
    cyclic = torch.fx.symbolic_trace(lambda x: (x + 1) * 2)
    add, mul = (n for n in cyclic.graph.nodes if n.op == "call_function")
    add.args = (mul, 1)
    for bad, message in ((empty, "empty"), (cyclic, "cyclic"), (nn.Linear(2, 3), "no graph")):
        for analysis in (migrate, transform_all_constraints):
            with pytest.raises(GradualError, match=message):
                analysis(bad)
    with pytest.raises(GradualError, match="cyclic"):
        GraphTypeChecker({}, cyclic).type_check()


def test_a_graph_that_was_never_annotated() -> None:
    module = torch.fx.symbolic_trace(lambda x, y: torch.relu(x) + y)
    assert z3.Solver().check(transform_all_constraints(module)) == z3.sat
    assert GraphTypeChecker({}, module).type_check()
    assert all(node.type == Dyn for node in module.graph.nodes)
    assert migrate(module).shapes[last(module)] == "Dyn"


def test_an_argument_that_is_no_tensor() -> None:
    module = torch.fx.symbolic_trace(lambda x, n: x.view(n, -1))
    found = migrate(module, {"x": "[6]", "n": "int"})
    assert found and found.shapes[last(module)] == "[n, 6//n]"
    with pytest.raises(GradualError, match="not a dimension"):
        bad = torch.fx.symbolic_trace(lambda x: x + 1)
        next(iter(bad.graph.nodes)).type = TensorType((2, "rows"))
        transform_all_constraints(bad)


def test_a_rank_over_the_bound() -> None:
    module = torch.fx.symbolic_trace(lambda x: x + 1)
    next(iter(module.graph.nodes)).type = TensorType((Dyn,) * 9)
    with pytest.raises(GradualError, match="set_max_rank"):
        transform_all_constraints(module)
    with max_rank(9):
        solver = z3.Solver()
        solver.add(transform_all_constraints(module))
        assert solver.check() == z3.sat
        value = solver.model()[z3.Const(1, tensor_sort())]
        assert value.num_args() == 9


def test_z3_runs_out_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.fx.symbolic_trace(lambda x: x.view(-1, 7))
    monkeypatch.setattr(z3.Solver, "check", lambda self, *given: z3.unknown)
    found = migrate(module, {"x": "[a, b]"}, timeout=0.5)
    assert found.verdict == "unknown" and not found
    assert "within 0.5 s" in str(found)
    with pytest.raises(GradualError):
        Solver(0)


def test_a_condition_that_is_none() -> None:
    module = torch.fx.symbolic_trace(lambda x: x + 1)
    add = list(module.graph.nodes)[1]
    with pytest.raises(GradualError, match="not a condition"):
        evaluate_conditional_with_constraints(module, module.graph, add)


@pytest.mark.parametrize(
    "text", ["x: [", "x: [a b]", "1x: [a]", "x: f99[a]", "x: [a,,b]", "x: tensor", "x y"]
)
def test_inputs_that_cannot_be_read(text: str) -> None:
    with pytest.raises(SpecError):
        parse_input(text)


@pytest.mark.parametrize(
    "text", ["a +", "a", "b == 1", "a == 1.5", "f(a) == 1", "a // 0 == 1", "__import__('os')"]
)
def test_conditions_that_cannot_be_read(text: str) -> None:
    module = torch.fx.symbolic_trace(lambda x: x + 1)
    with pytest.raises(SpecError):
        migrate(module, {"x": "[a]"}, [text])


def test_an_unknown_input() -> None:
    with pytest.raises(GradualError, match="its inputs are x"):
        migrate(torch.fx.symbolic_trace(lambda x: x + 1), {"y": "[a]"})


# -- stock's own tests of the transformation -----------------------------------------------------


def test_composite_constraints_take_the_form_that_stock_gives_them() -> None:
    def step(*args: Any) -> Any:
        return transform_constraint(BinConstraintT(*args), 10)[0]

    assert step(Dyn, TVar("x"), op_precision) == T()
    assert len(step(TensorType([1, Dyn, 3]), TVar("x"), op_precision).conjucts) == 7
    four = TensorType([DVar(c) for c in "abcd"])
    assert len(step(TVar("x"), four, op_matching).disjuncts) == 2
    consistent = step(TVar("x"), TensorType([DVar("a"), DVar("b")]), op_consistency)
    assert len(consistent.disjuncts) == 5


# -- the command line -------------------------------------------------------------------------------

run = CliRunner().invoke
HERE = __file__


def test_typecheck_prints_the_annotated_program() -> None:
    done = run(
        app,
        ["typecheck", f"{HERE}:Classifier()", "-i", "x: [batch, ?, h, w]", "-w", "batch % 8 == 0"],
    )
    assert done.exit_code == 0, done.output
    assert "input x" in done.output and "# [batch, 3, h, w]" in done.output
    assert "where batch % 8 == 0, h >= 5, w >= 5" in done.output


def test_typecheck_explains_a_conflict() -> None:
    done = run(app, ["typecheck", f"{HERE}:Classifier()", "-i", "x: [n, 4, h, w]", "--json"])
    assert done.exit_code == 1
    data = json.loads(done.output)
    assert data["verdict"] == "ill-typed"
    assert data["conflict"]["nodes"] == ["x", "conv1"]
    assert data["conflict"]["example"]["x"][1] == 3


class Fixing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(64, 1, 28, 28)


class Excluding(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.size(0), 4, -1)


def test_typecheck_refuses_a_name_that_the_program_fixes() -> None:
    target = f"{__file__}:Fixing()"
    spec = ["--input", "x: [n, 1, 28, 28]"]
    refused = CliRunner().invoke(app, ["typecheck", target, *spec])
    assert refused.exit_code == 1
    assert "n is fixed to 64" in refused.output and "x.view(64, 1, 28, 28)" in refused.output
    assert "num_users" not in refused.output
    allowed = CliRunner().invoke(app, ["typecheck", target, *spec, "--allow-pinned"])
    assert allowed.exit_code == 0
    data = json.loads(CliRunner().invoke(app, ["typecheck", target, *spec, "--json"]).stdout)
    assert data["fixed"][0]["name"] == "n" and data["fixed"][0]["value"] == 64


def test_strict_refuses_conditions_that_exclude_declared_sizes() -> None:
    target = f"{__file__}:Excluding()"
    spec = ["--input", "x: [n, h]"]
    assert CliRunner().invoke(app, ["typecheck", target, *spec]).exit_code == 0
    strict = CliRunner().invoke(app, ["typecheck", target, *spec, "--strict"])
    assert strict.exit_code == 1
    assert "h % 4 == 0 must hold, and fails for h = 1" in strict.output
    said = [*spec, "--where", "h % 4 == 0", "--strict"]
    assert CliRunner().invoke(app, ["typecheck", target, *said]).exit_code == 0


def test_typecheck_of_mistakes() -> None:
    assert run(app, ["typecheck", f"{HERE}:Classifier()", "-i", "x: ["]).exit_code == 2
    assert run(app, ["typecheck", f"{HERE}:Nothing()"]).exit_code == 2
    assert run(app, ["typecheck", f"{HERE}:HERE"]).exit_code == 2


def test_a_program_that_torch_fx_cannot_trace_is_taken_operator_by_operator() -> None:
    types = {"x": parse_input("x: [b, n, 4]")[1]}
    found = migrate(program_graph(Masked(), types), types)
    assert found and not found.unknown_operators
    assert found.shapes[last(_module(found))].endswith("[b, n, 6]")


def _module(found: Any) -> Any:
    return type("Holder", (), {"graph": found.graph})


def test_a_known_layer_is_one_call() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    types = {"src": parse_input("src: [b, n, ?]")[1]}
    found = migrate(program_graph(layer, types), types)
    assert found.inputs == {"src": "[b, n, 8]"}


def test_growth_is_near_linear() -> None:
    """By size of the formulas, which no other work on the machine changes."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn, self.relu = (
                nn.Conv2d(4, 4, 3, padding=1),
                nn.BatchNorm2d(4),
                nn.ReLU(),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.relu(self.bn(self.conv(x)) + x)

    def size(blocks: int) -> int:
        module = torch.fx.symbolic_trace(nn.Sequential(*(Block() for _ in range(blocks))))
        solver = z3.Solver()
        solver.add(transform_all_constraints(module))
        return len(solver.to_smt2())

    assert size(8) - size(4) < 1.3 * (size(4) - size(0 + 1)) * 4 / 3
