"""The cost of a traced model: operations and memory as polynomials in its dimensions."""

from __future__ import annotations

import difflib
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.text import Text
from torch import fx
from torch._ops import OpOverload

from symfx.algebra import Table, Term, evaluate
from symfx.errors import SpecError
from symfx.tracing.columns import section
from symfx.tracing.markup import element, table
from symfx.tracing.model_state import module_of
from symfx.tracing.traced_model import TracedModel

__all__ = ["Cost", "ModuleCost", "NodeCost", "cost_of"]

_Sizes = list[Term]


@dataclass(frozen=True)
class ModuleCost:
    """The cost of one module, with all that it calls.

    Attributes:
        path: its name in the model; empty for the whole.
        kind: its class.
        parameters: the number of elements of its parameters, shared ones once.
        flops: the floating-point operations of its matrix products, convolutions and attention; a
            multiplication with its addition counts as two.
        memory: the bytes that its operators write. Views write none.
    """

    path: str
    kind: str
    parameters: int
    flops: Term
    memory: Term


@dataclass(frozen=True)
class NodeCost:
    """The cost of one node of the graph, and the time that its result takes memory.

    Attributes:
        name: its name in the graph.
        flops: its floating-point operations; see `ModuleCost`.
        memory: the bytes that it writes.
        held: the bytes of its result, if that is an input or written by the node.
        first, last: the places in the graph of the first and the last node during which the result
            lives, or a view of it.
    """

    name: str
    flops: Term
    memory: Term
    held: Term
    first: int
    last: int


@dataclass(frozen=True, repr=False)
class Cost:
    """The cost of a traced model; ``str`` of it is a table of its modules, as in a notebook.

    Attributes:
        modules: the whole model, and each module that has parameters or was called, in the order
            of the model.
        notes: a sentence about each operator that was not counted.
        nodes: each node of the graph, in its order.
    """

    modules: tuple[ModuleCost, ...]
    notes: tuple[str, ...]
    nodes: tuple[NodeCost, ...]
    _life: _Life

    @property
    def total(self) -> ModuleCost:
        """The cost of the whole model."""
        return self.modules[0]

    @property
    def flops(self) -> Term:
        """The floating-point operations of the whole model."""
        return self.total.flops

    @property
    def memory(self) -> Term:
        """The bytes that all operators write."""
        return self.total.memory

    @property
    def parameters(self) -> int:
        """The number of elements of all parameters."""
        return self.total.parameters

    def at(self, **sizes: int) -> Cost:
        """The cost at sizes: each polynomial is a number.

        Args:
            sizes: a size for each dimension that the cost depends on.

        Raises:
            SpecError: a dimension has no size, or a name is no dimension.
        """
        values = self._life.values(sizes, [m.flops for m in self.modules])
        terms = self.total.flops.table
        memo: dict[Term, Any] = {}

        def number(term: Term) -> Term:
            return terms.const(int(evaluate(term, values, memo)))

        return replace(
            self,
            modules=tuple(
                replace(module, flops=number(module.flops), memory=number(module.memory))
                for module in self.modules
            ),
            nodes=tuple(
                replace(
                    node,
                    flops=number(node.flops),
                    memory=number(node.memory),
                    held=number(node.held),
                )
                for node in self.nodes
            ),
        )

    def peak(self, **sizes: int) -> int:
        """The most bytes that inputs, results and values in between take at once, at sizes.

        A value lives from the node that makes it to the last node that reads it, or a view of it.
        Parameters and buffers are not among them.

        Raises:
            SpecError: a dimension has no size, or a name is no dimension.
        """
        return self._life.peak(sizes)

    def __repr__(self) -> str:
        total = self.total
        return f"<symfx.Cost of {total.kind}: {len(self.modules)} modules, {len(self.nodes)} nodes>"

    def __str__(self) -> str:
        return "\n".join(line.plain for line in describe_cost(self))

    def _repr_html_(self) -> str:
        header = ("module", "class", "parameters", "operations", "bytes")
        rows = [
            (m.path, m.kind, f"{m.parameters:,}", _number(m.flops), _number(m.memory))
            for m in self.modules
        ]
        notes = [element("p", f"note: {note}") for note in self.notes]
        return element("div", table("cost", header, rows), *notes)


def describe_cost(cost: Cost, depth: int | None = None) -> list[Text]:
    """A cost as a table of modules.

    Args:
        cost: the cost.
        depth: how deep the modules may lie that have a line of their own.
    """
    head = (("module", "dim"), ("parameters", "dim"), ("operations", "dim"), ("bytes", "dim"))
    rows = [head]
    for module in cost.modules:
        level = module.path.count(".") + 1 if module.path else 0
        if depth is None or level <= depth:
            name = f"{'  ' * level}{module.path or module.kind}"
            kind = f" ({module.kind})" if module.path else ""
            rows.append(
                (
                    (name + kind, ""),
                    (f"{module.parameters:,}" if module.parameters else "-", ""),
                    (_number(module.flops), "green"),
                    (_number(module.memory), ""),
                )
            )
    lines = section("cost", rows, caps=(60, 20, 70))
    return lines + [Text(f"  note: {note}", style="yellow") for note in cost.notes]


def _number(term: Term) -> str:
    if term.value is None:
        return str(term)
    return f"{int(term.value):,}" if term.value else "-"


# -- counting --------------------------------------------------------------------------------------


def cost_of(trace: TracedModel) -> Cost:
    """The cost of a traced model.

    Example:
        >>> from symfx.tracing import trace
        >>> t = trace(torch.nn.Linear(8, 4), torch.randn(3, 8), dynamic=[("n", None)])
        >>> cost = cost_of(t)
        >>> str(cost.flops), cost.parameters, str(cost.memory)
        ('64*n', 36, '16*n')
        >>> cost.at(n=10).flops.value, cost.peak(n=10)
        (640, 480)
    """
    counter = _Counter(trace)
    life = _Life(trace, counter)
    flops: dict[str, Term] = {}
    memory: dict[str, Term] = {}
    called: dict[str, str] = {}
    nodes = []
    for node, (first, last, held) in life.spans.items():
        own = written = counter.zero
        if node.op == "call_function":
            own, written = counter.flops(node, trace.graph_module), counter.written(node)
        nodes.append(NodeCost(node.name, own, written, held, first, last))
        if node.op != "call_function":
            continue
        stack = dict((node.meta.get("nn_module_stack") or {}).values())
        called.update(stack)
        for path in {"", *(parent for inner in stack for parent in _parents(inner))}:
            flops[path] = flops.get(path, counter.zero) + own
            memory[path] = memory.get(path, counter.zero) + written
    root = module_of(trace.model)
    modules = []
    known = _modules(root, trace.name) if root is not None else _called_modules(trace, called)
    for path, kind, parameters in known:
        if not path or parameters or path in called:
            modules.append(
                ModuleCost(
                    path,
                    kind,
                    parameters,
                    flops.get(path, counter.zero),
                    memory.get(path, counter.zero),
                )
            )
    return Cost(tuple(modules), tuple(counter.notes), tuple(nodes), life)


def _parents(path: str) -> Iterator[str]:
    """A path and those of the modules around it."""
    parts = path.split(".") if path else []
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _modules(root: torch.nn.Module, name: str) -> Iterator[tuple[str, str, int]]:
    """The path, the class and the number of parameters of each module."""
    # A module under several names may have been called under each.
    for path, module in root.named_modules(remove_duplicate=False):
        kind = name if not path else type(module).__name__
        yield path, kind, sum(p.numel() for p in module.parameters())


def _called_modules(
    trace: TracedModel, called: Mapping[str, Any]
) -> Iterator[tuple[str, str, int]]:
    """The same for a function, and for a trace that was loaded without its model."""
    sizes = {name: p.numel() for name, p in trace.graph_module.named_parameters()}
    names = {trace.state_names.get(name, name): size for name, size in sizes.items()}
    yield "", trace.name, sum(sizes.values())
    for path, kind in called.items():
        if path:
            inside = sum(n for name, n in names.items() if name.startswith(f"{path}."))
            yield path, str(kind).rpartition(".")[2], inside


class _Counter:
    """Counts the operations and the bytes of nodes."""

    def __init__(self, trace: TracedModel) -> None:
        self._env = trace.shape_env
        self.table: Table = self._env.table
        self.zero = self.table.zero
        self.notes: dict[str, None] = {}

    def sizes(self, tensor: torch.Tensor) -> _Sizes:
        """The sizes of a tensor as terms."""
        return [
            self._env.read(n.node.term) if isinstance(n, torch.SymInt) else self.table.const(n)
            for n in tensor.shape
        ]

    def product(self, sizes: _Sizes) -> Term:
        """The product of sizes."""
        result = self.table.one
        for size in sizes:
            result = result * size
        return result

    def bytes_of(self, value: Any) -> Term:
        """The bytes of the tensors in a value."""
        if isinstance(value, torch.Tensor):
            return self.product(self.sizes(value)) * value.element_size()
        total = self.zero
        for part in value if isinstance(value, (list, tuple)) else ():
            total = total + self.bytes_of(part)
        return total

    def written(self, node: fx.Node) -> Term:
        """The bytes that a node writes: those of its results that are no views."""
        if is_view(node):
            return self.zero
        return self.bytes_of(node.meta.get("val"))

    def flops(self, node: fx.Node, owner: fx.GraphModule) -> Term:
        """The floating-point operations of a node."""
        target = node.target
        if isinstance(target, OpOverload):
            formula = _FORMULAS.get(target._schema.name.removeprefix("aten::"))
            return self.zero if formula is None else formula(self, node)
        graphs = [
            inner
            for argument in node.args
            if isinstance(argument, fx.Node) and argument.op == "get_attr"
            if isinstance(inner := operator.attrgetter(str(argument.target))(owner), fx.GraphModule)
        ]
        if not graphs:
            return self.zero
        totals = [self._of_graph(graph) for graph in graphs]
        if str(target) != "cond":
            self.notes[f"{node.name} ({target}) may run its graphs often, each counted once"] = None
            return sum(totals[1:], totals[0])
        self.notes[f"{node.name} is counted as the more expensive of its branches"] = None
        result = totals[0]
        for total in totals[1:]:
            result = self.table.max(result, total)
        return result

    def _of_graph(self, graph: fx.GraphModule) -> Term:
        total = self.zero
        for node in graph.graph.nodes:
            if node.op == "call_function":
                total = total + self.flops(node, graph)
        return total


def is_view(node: fx.Node) -> bool:
    """Whether the results of a node share memory with its arguments, or are no tensors."""
    if node.target is operator.getitem:
        return True
    if not isinstance(node.target, OpOverload):
        return False
    returns = node.target._schema.returns
    return bool(returns) and all(each.alias_info is not None for each in returns)


# -- formulas --------------------------------------------------------------------------------------
# They are those of torch.utils.flop_counter, which cites none but the definitions: an element of a
# product of matrices takes as many multiplications and additions as there are columns in the
# first; an element of a convolution as many as the kernel has elements per group.


def _product_of_matrices(first: int) -> Callable[[_Counter, fx.Node], Term]:
    """The formula of a product whose left factor is an argument of a node."""

    def formula(counter: _Counter, node: fx.Node) -> Term:
        columns = counter.sizes(_value(node.args[first]))[-1]
        return 2 * counter.product(counter.sizes(node.meta["val"])) * columns

    return formula


def _convolution(counter: _Counter, node: fx.Node) -> Term:
    places = [argument.name for argument in node.target._schema.arguments]  # type: ignore[union-attr]
    given = dict(zip(places, node.args, strict=False)) | node.kwargs
    source, weight = (counter.sizes(_value(given[name])) for name in ("input", "weight"))
    out = counter.sizes(node.meta["val"])
    name = str(node.target)
    transposed = given.get("transposed") is True or "transpose" in name
    batch = [] if len(out) < len(weight) else out[:1]  # an input may have no batch
    spatial = (source if transposed else out)[2 - len(weight) :]
    return 2 * counter.product([*batch, *spatial, *weight])


def _attention(counter: _Counter, node: fx.Node) -> Term:
    query, key, value = (counter.sizes(_value(argument)) for argument in node.args[:3])
    pairs = counter.product([*query[:-1], key[-2]])
    return 2 * pairs * (query[-1] + value[-1])


def _value(argument: Any) -> torch.Tensor:
    value: torch.Tensor = argument.meta["val"]
    return value


_FORMULAS: dict[str, Callable[[_Counter, fx.Node], Term]] = {
    **dict.fromkeys(("mm", "bmm", "matmul", "linear", "mv", "dot"), _product_of_matrices(0)),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm", "addmv"), _product_of_matrices(1)),
    **dict.fromkeys(
        (
            "convolution",
            "_convolution",
            *(f"conv{n}d" for n in (1, 2, 3)),
            *(f"conv_transpose{n}d" for n in (1, 2, 3)),
        ),
        _convolution,
    ),
    **dict.fromkeys(
        (
            "scaled_dot_product_attention",
            "_scaled_dot_product_flash_attention",
            "_scaled_dot_product_flash_attention_for_cpu",
            "_scaled_dot_product_efficient_attention",
            "_scaled_dot_product_cudnn_attention",
        ),
        _attention,
    ),
}


# -- memory ----------------------------------------------------------------------------------------


class _Life:
    """The bytes of the values of a trace, and the nodes between which they live.

    Attributes:
        spans: for each node the places of the first and the last node during which its result
            lives, and the bytes of the result; no bytes for a view and for a parameter.
    """

    def __init__(self, trace: TracedModel, counter: _Counter) -> None:
        nodes = list(trace.graph_module.graph.nodes)
        place = {node: i for i, node in enumerate(nodes)}
        last = dict(place)
        # A view keeps the tensor alive whose memory it shares.
        for node in reversed(nodes):
            for source in node.all_input_nodes:
                end = last[node] if is_view(node) else place[node]
                last[source] = max(last[source], end)
        self.spans: dict[fx.Node, tuple[int, int, Term]] = {}
        for node in nodes:
            made = node.op == "call_function" and not is_view(node)
            held = made or node.op == "placeholder"
            size = counter.bytes_of(node.meta.get("val")) if held else counter.zero
            start = 0 if node.op == "placeholder" else place[node]
            self.spans[node] = start, last[node], size
        self._steps = len(nodes)

    def values(self, sizes: Mapping[str, int], terms: list[Term]) -> dict[Term, int]:
        """The value of each symbol in terms.

        Raises:
            SpecError: one is missing, or a name is none of a symbol.
        """
        every = [*terms, *(size for _, _, size in self.spans.values())]
        symbols = {symbol.name: symbol for term in every for symbol in term.free_symbols}
        for name in sizes:
            if name not in symbols:
                near = difflib.get_close_matches(name, symbols, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise SpecError(
                    f"the cost does not depend on {name}",
                    fix=f"{hint}it depends on {', '.join(sorted(symbols)) or 'no dimension'}",
                )
        missing = sorted(symbols.keys() - sizes.keys())
        if missing:
            raise SpecError(
                f"the cost depends on {', '.join(missing)} too",
                fix=f"give each a size: {', '.join(f'{name}=8' for name in missing)}",
            )
        return {symbol: sizes[name] for name, symbol in symbols.items()}

    def peak(self, sizes: Mapping[str, int]) -> int:
        """The most bytes that live at once."""
        values = self.values(sizes, [])
        change = [0] * (self._steps + 1)
        for start, end, size in self.spans.values():
            count = int(evaluate(size, values))
            change[start] += count
            change[end + 1 if end + 1 <= self._steps else self._steps] -= count
        alive = most = 0
        for step in change[:-1]:
            alive += step
            most = max(most, alive)
        return most
