"""symfx and stock agree: on verdicts, on which types are possible, on which dimensions are forced.

Where stock is wrong, docs/gradual_types.md says so, and `test_where_stock_is_wrong` shows it.
"""

import operator
import re
import warnings
from typing import Any

import pytest
import torch
import torch.fx.experimental.migrate_gradual_types.constraint as stock_constraint
import torch.fx.experimental.migrate_gradual_types.constraint_generator as stock_generator
import torch.fx.experimental.migrate_gradual_types.transform_to_z3 as stock_z3
import torch.fx.experimental.migrate_gradual_types.z3_types as stock_types
import z3
from gradual_programs import CONDITIONS, PROGRAMS
from torch import nn
from torch.fx import GraphModule
from torch.fx.tensor_type import Dyn, TensorType

import symfx.migrate_gradual_types.constraint as constraint
import symfx.migrate_gradual_types.constraint_generator as generator
import symfx.migrate_gradual_types.transform_to_z3 as to_z3
import symfx.migrate_gradual_types.z3_types as types
from symfx.rewriter import RewritingTracer

LIBRARIES = {
    "stock": (stock_z3, stock_types, stock_generator, stock_constraint),
    "symfx": (to_z3, types, generator, constraint),
}


def traced(program: type[nn.Module]) -> GraphModule:
    tracer = RewritingTracer()
    graph = tracer.trace(program())
    return GraphModule(tracer.root, graph)


def constructor(sort: Any, name: str) -> int:
    names = [sort.constructor(i).name() for i in range(sort.num_constructors())]
    return names.index(name)


class Questions:
    """What can be asked of a program's formula, the same way of both libraries."""

    def __init__(self, module: GraphModule, library: str) -> None:
        self.z3, self.types, gen, self.constraint = LIBRARIES[library]
        made = gen.ConstraintGenerator(module)
        whole, _ = made.generate_constraints(0)
        self.count = len(whole.conjucts)
        self.symbols = {node.name: v for node, v in made.symbol_dict.items()}
        self.solver = z3.Solver()
        self.solver.set("timeout", 20_000)
        self.solver.add(self.z3.transform_all_constraints(module))

    def can(self, *formulas: Any) -> Any:
        """A model in which these hold besides, or None."""
        self.solver.push()
        self.solver.add(*formulas)
        verdict = self.solver.check()
        assert verdict != z3.unknown
        model = self.solver.model() if verdict == z3.sat else None
        self.solver.pop()
        return model

    def answers(self) -> dict[Any, Any]:
        found: dict[Any, Any] = {"constraints": self.count, "sat": self.can() is not None}
        if not found["sat"]:
            return found
        for name, symbol in self.symbols.items():
            if isinstance(symbol, self.constraint.TVar):
                self._of_tensor(found, name, symbol.tvar)
            elif isinstance(symbol, self.constraint.DVar):
                found[name, "size", symbol.c] = self._forced(z3.Int(symbol.c))
        return found

    def _of_tensor(self, found: dict[Any, Any], name: str, number: int) -> None:
        sort = self.types.tensor_type
        tensor = z3.Const(number, sort)
        found[name, number, "unknown"] = self.can(tensor == self.types.z3_dyn) is not None
        ranks = []
        for rank in range(1, 5):
            is_rank = sort.recognizer(constructor(sort, f"tensor{rank}"))(tensor)
            if self.can(is_rank) is not None:
                ranks.append(rank)
        found[name, "ranks"] = ranks
        if len(ranks) != 1:
            return
        index = constructor(sort, f"tensor{ranks[0]}")
        is_rank = sort.recognizer(index)(tensor)
        for i in range(ranks[0]):
            pair = sort.accessor(index, i)(tensor)
            known, value = (pair.sort().accessor(0, j)(pair) for j in (0, 1))
            found[name, i, "unknown"] = self.can(is_rank, known == 0) is not None
            found[name, i] = self._forced(value, is_rank, known == 1)

    def _forced(self, value: Any, *given: Any) -> Any:
        model = self.can(*given)
        if model is None:
            return "impossible"
        number = model.eval(value, model_completion=True)
        return number.as_long() if self.can(*given, value != number) is None else "free"


@pytest.mark.parametrize("name", PROGRAMS)
def test_formulas(name: str) -> None:
    module = traced(PROGRAMS[name])
    ours, theirs = (Questions(module, library).answers() for library in ("symfx", "stock"))
    assert ours == theirs


def tensor_numbers(formula: Any) -> set[str]:
    """The numbers of the tensors in a formula."""
    found, seen, todo = set(), set(), [formula]
    while todo:
        part = todo.pop()
        if part.get_id() in seen:
            continue
        seen.add(part.get_id())
        if part.decl().kind() == z3.Z3_OP_UNINTERPRETED and "Tensor" in part.sort().name():
            found.add(str(part))
        todo += part.children()
    return found


@pytest.mark.parametrize("name", PROGRAMS)
def test_numbers_of_variables(name: str) -> None:
    """Each node has stock's number, and a number of a tensor is one of a tensor in stock.

    The formula of symfx has fewer variables: it leaves out those that it has solved for.
    """
    numbers: list[Any] = []
    tensors: list[set[str]] = []
    for z3_of, _, gen, made in LIBRARIES.values():
        generator_ = gen.ConstraintGenerator(traced(PROGRAMS[name]))
        _, last = generator_.generate_constraints(0)
        symbols = generator_.symbol_dict.items()
        of_node = {n.name: v.tvar if isinstance(v, made.TVar) else v.c for n, v in symbols}
        numbers.append((of_node, last))
        tensors.append(tensor_numbers(z3_of.transform_all_constraints(traced(PROGRAMS[name]))))
    assert numbers[0] == numbers[1]
    assert tensors[1] <= tensors[0]


@pytest.mark.parametrize("name", ["MaskedFill", "Less", "Expanded"])
def test_what_tensors_are_stretched_to(name: str) -> None:
    """Numbers of no node stand for one thing too: ``z3.Const(9, ...)`` is one operand stretched."""
    module = traced(PROGRAMS[name])
    models = []
    for library, sort in ((to_z3, types.tensor_type), (stock_z3, stock_types.tensor_type)):
        solver = z3.Solver()
        solver.add(library.transform_all_constraints(module))
        assert solver.check() == z3.sat
        model = solver.model()
        numbers = range(1, 30)
        given = {i: str(model[z3.Const(i, sort)]) for i in numbers}
        # What is unknown has any number; what is known, its own.
        models.append({i: re.sub(r"dim\((?!1,)\d+, \d+\)", "?", text) for i, text in given.items()})
    assert models[0] == models[1]


def asking(condition: Any) -> nn.Module:
    class Asking(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return condition(x, y)

    return Asking()


@pytest.mark.parametrize("sign", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_conditions_on_known_sizes(sign: str) -> None:
    compared = getattr(operator, sign)
    for bound in (1, 2, 3):
        asked = [
            (lambda x, y, bound=bound: compared(x.dim(), bound), compared(2, bound)),
            (lambda x, y, bound=bound: compared(x.size(1), bound), compared(2, bound)),
            (lambda x, y: compared(x.size(0), y.size(1)), compared(1, bound)),
        ]
        for condition, truth in asked:
            graph = RewritingTracer().trace(asking(condition))
            for node, dims in zip(graph.nodes, ((1, 2), (2, bound)), strict=False):
                node.type = TensorType(dims)
            node = [n for n in graph.nodes if n.op != "output"][-1]
            found = to_z3.evaluate_conditional_with_constraints(nn.Module(), graph, node)
            assert [*map(str, found)] == (["sat", "unsat"] if truth else ["unsat", "sat"])


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions(name: str) -> None:
    tracer = RewritingTracer()
    graph = tracer.trace(CONDITIONS[name]())
    node = [n for n in graph.nodes if n.op != "output"][-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = (
            library.evaluate_conditional_with_constraints(tracer.root, graph, node)
            for library in (to_z3, stock_z3)
        )
    assert ours == theirs


def test_conditions_under_what_the_user_says() -> None:
    tracer = RewritingTracer()
    graph = tracer.trace(CONDITIONS["UnknownIsLarge"]())
    node = [n for n in graph.nodes if n.op != "output"][-1]
    x = z3.Const(1, types.tensor_type)
    large = x == types.tensor_type.tensor2(types.D(1, 7), types.D(1, 4))
    answers = to_z3.evaluate_conditional_with_constraints(
        tracer.root, graph, node, user_constraints=large
    )
    assert answers == (z3.sat, z3.unsat)


# -- where stock is wrong --------------------------------------------------------------------


class TwiceTheSize(nn.Module):
    def forward(self, x: TensorType((2, 3))):
        return torch.arange(2 * x.size(1))


class SizeAsCondition(nn.Module):
    def forward(self, x: TensorType((2, 6))):
        return 2 * x.size(1) == 12


def test_stock_leaves_computed_sizes_open() -> None:
    module = traced(TwiceTheSize)
    ours, theirs = (Questions(module, library).answers() for library in ("symfx", "stock"))
    assert not ours.pop(("arange", 0, "unknown")) and theirs.pop(("arange", 0, "unknown"))
    assert ours == theirs and ours["arange", 0] == 6
    graph = RewritingTracer().trace(SizeAsCondition())
    condition = next(node for node in graph.nodes if node.target is operator.eq)
    found = [
        library.evaluate_conditional_with_constraints(SizeAsCondition(), graph, condition)
        for library in (to_z3, stock_z3)
    ]
    assert found == [(z3.sat, z3.unsat), (z3.sat, z3.sat)]


def test_where_stock_is_wrong() -> None:
    """Programs that cannot run and that stock accepts, or the other way round."""

    def verdicts(module: GraphModule) -> tuple[Any, Any]:
        ours, theirs = z3.Solver(), z3.Solver()
        ours.add(to_z3.transform_all_constraints(module))
        theirs.add(stock_z3.transform_all_constraints(module))
        return ours.check(), theirs.check()

    class WrongChannels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(5)

        def forward(self, x: TensorType((1, 3, 4, 4))):
            return self.bn(x)

    class WrongInner(nn.Module):
        def forward(self, x: TensorType((2, 3, 4)), y: TensorType((2, 5, 6))):
            return torch.bmm(x, y)

    class NegativeAxis(nn.Module):
        def forward(self, x: TensorType((2, 3))):
            return torch.cumsum(x, -1)

    assert verdicts(traced(WrongChannels)) == (z3.unsat, z3.sat)
    assert verdicts(traced(WrongInner)) == (z3.unsat, z3.sat)
    assert verdicts(traced(NegativeAxis)) == (z3.sat, z3.unsat)

    class Pooled(nn.Module):
        def __init__(self, size: Any) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(size)

        def forward(self, x: TensorType((1, 4, 10, 20))):
            return self.pool(x)

    module = torch.fx.symbolic_trace(Pooled(2))
    assert z3.Solver().check(to_z3.transform_all_constraints(module)) == z3.sat
    with pytest.raises(TypeError):
        stock_z3.transform_all_constraints(module)

    class TwoDiffer(nn.Module):
        def forward(self, x: TensorType((3, 4))):
            return x.size() != (3, 4)

    graph = (tracer := RewritingTracer()).trace(TwoDiffer())
    condition = [n for n in graph.nodes if n.op != "output"][-1]
    answers = to_z3.evaluate_conditional_with_constraints(tracer.root, graph, condition)
    assert answers == (z3.unsat, z3.sat)
    with pytest.raises(NotImplementedError):
        stock_z3.evaluate_conditional_with_constraints(tracer.root, graph, condition)


@pytest.mark.parametrize(
    "first, verdict",
    [(Dyn, z3.sat), (TensorType((2, Dyn)), z3.sat), (TensorType((3, 4)), z3.unsat)],
)
def test_what_a_program_asserts_of_sizes_holds(first: Any, verdict: Any) -> None:
    """PyTorch has no rule for `torch._assert`; a condition on known sizes is a plain truth."""
    graph = torch.fx.Graph()
    x = graph.placeholder("x", type_expr=first)
    for size, wanted in ((0, 2), (1, 4)):
        condition = graph.call_function(operator.eq, (graph.call_method("size", (x, size)), wanted))
        graph.call_function(torch._assert, (condition, "the size"))
    graph.output(x)
    solver = z3.Solver()
    solver.add(to_z3.transform_all_constraints(torch.fx.GraphModule(torch.nn.Module(), graph)))
    assert solver.check() == verdict
    if verdict == z3.sat:
        variable = z3.Const(1, types.tensor_type)
        solver.add(variable != types.tensor_type.tensor2(types.D(1, 2), types.D(1, 4)))
        solver.add(types.tensor_type.is_tensor2(variable))
        assert solver.check() == z3.unsat
