"""The graph of a trace as plain data: nodes, modules, lines and costs, each text once."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from symfx.algebra import Term
from symfx.algebra.terms.portable import Packing
from symfx.tracing.cost import NodeCost, cost_of
from symfx.tracing.report import call_of, value_in_words
from symfx.tracing.traced_model import TracedModel
from symfx.user_code import frames_of_trace, is_user_file
from symfx.work import counted

__all__ = ["graph_of"]


class _Once:
    """Values that are listed once, and named by their places."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        """The place of a value in the list."""
        return self.places.setdefault(value, len(self.places))

    def __iter__(self) -> Any:
        return iter(self.places)


@dataclass(frozen=True)
class _Graph:
    """A graph to describe: the whole, or one that a node calls, such as a branch of `torch.cond`.

    Attributes:
        module: its graph module.
        prefix: what stands before the names of its nodes.
        caller: the node that calls it; None for the whole.
    """

    module: fx.GraphModule
    prefix: str = ""
    caller: fx.Node | None = None

    def inner(self) -> Iterator[_Graph]:
        """The graphs that its nodes call, and those that they call in turn."""
        for node in self.module.graph.nodes:
            for argument in node.all_input_nodes if node.op == "call_function" else ():
                held = _held(argument)
                if isinstance(held, fx.GraphModule):
                    graph = _Graph(held, f"{self.prefix}{argument.target}.", node)
                    yield graph
                    yield from graph.inner()

    def handed(self) -> dict[fx.Node, fx.Node]:
        """For each placeholder of a graph that is called, the operand that the caller hands on."""
        if self.caller is None:
            return {}
        placeholders = self.module.graph.find_nodes(op="placeholder")
        operands = [
            leaf
            for leaf in pytree.tree_leaves(self.caller.args)
            if isinstance(leaf, fx.Node) and not isinstance(_held(leaf), fx.GraphModule)
        ]
        # Operators that take graphs take the operands of these last.
        first = len(operands) - len(placeholders)
        return dict(zip(placeholders, operands[first:], strict=True)) if first >= 0 else {}


def graph_of(trace: TracedModel) -> dict[str, Any]:
    """The graph of a trace as fields of a report's contents."""
    cost = cost_of(trace)
    packing = Packing()
    modules = _Modules(trace, {module.path: module.parameters for module in cost.modules})
    frames = _Once()
    whole = _Graph(trace.graph_module)
    graphs = [whole, *whole.inner()]
    nodes = [(graph, node) for graph in graphs for node in graph.module.graph.nodes]
    place = {node: i for i, (_, node) in enumerate(nodes)}
    sources = {node: [place[source] for source in node.all_input_nodes] for _, node in nodes}
    for graph in graphs[1:]:
        assert graph.caller is not None
        sources[graph.caller].append(place[graph.module.graph.output_node()])
        for placeholder, operand in graph.handed().items():
            sources[placeholder] = [place[operand]]
    zero = trace.shape_env.table.zero
    # The caller has the cost of a graph that it calls.
    free = [NodeCost("", zero, zero, zero, 0, 0)] * (len(nodes) - len(cost.nodes))
    described = []
    flops: dict[int, Term] = defaultdict(lambda: zero)
    memory: dict[int, Term] = defaultdict(lambda: zero)
    costly = [*zip(nodes, [*cost.nodes, *free], strict=True)]
    for (graph, node), costs in counted(costly):
        value = node.meta.get("val")
        stack = frames_of_trace(node.stack_trace or "")
        module = modules.place(node) if graph is whole else modules.of_graph(graph)
        for around in modules.around(module):
            flops[around] += costs.flops
            memory[around] += costs.memory
        described.append(
            {
                "name": graph.prefix + node.name,
                "label": graph.prefix + _label(node),
                "op": node.op,
                "title": _title(node),
                "target": str(node.target),
                "expression": call_of(node),
                "value": "" if node.op == "output" or value is None else value_in_words(value),
                "kind": _kind(node),
                "module": module,
                "inputs": sources[node],
                "frames": [frames.place((str(f), f.line, is_user_file(f.filename))) for f in stack],
                "meta": _meta(node, value),
                "flops": packing.number_of(costs.flops),
                "memory": packing.number_of(costs.memory),
                "held": packing.number_of(costs.held),
                "life": [costs.first, costs.last],
            }
        )
    return {
        "nodes": described,
        "modules": [
            module | {"flops": str(flops[i]), "memory": str(memory[i])}
            for i, module in enumerate(modules.described)
        ],
        "frames": list(frames),
        "cost": {"parameters": cost.parameters, "notes": list(cost.notes)}
        | {name: str(term) for name, term in (("flops", cost.flops), ("memory", cost.memory))},
        "terms": packing.parts,
    }


def _held(node: fx.Node) -> Any:
    """What a node gets from the graph module; None for another node."""
    if node.op != "get_attr":
        return None
    return operator.attrgetter(str(node.target))(node.graph.owning_module)


def _label(node: fx.Node) -> str:
    """The name of a node; for a parameter, its name in the model."""
    return str(node.target) if node.op == "get_attr" else node.name


def _kind(node: fx.Node) -> str:
    """What a node is to a reader: an input, a parameter, the output, a size, or an operator."""
    if node.op in ("placeholder", "output"):
        return "input" if node.op == "placeholder" else "output"
    if node.op == "get_attr":
        return "parameter"
    # Sizes that are read off tensors, and numbers computed from them; not those that data gives.
    of_sizes = str(node.target).startswith("aten.sym_") or not isinstance(node.target, OpOverload)
    number = isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool, int))
    return "size" if number and of_sizes else "operator"


def _title(node: fx.Node) -> str:
    """The few words that stand for a node in the picture."""
    if node.op == "call_function":
        target: Any = node.target
        if isinstance(target, OpOverload):
            name = target._opname
            return name if target.namespace == "aten" else f"{target.namespace}.{name}"
        return getattr(target, "__name__", str(target))
    return _label(node) if node.op != "output" else "output"


def _meta(node: fx.Node, value: Any) -> list[tuple[str, str]]:
    """More about a node, as pairs of a name and a text."""
    pairs = []
    if isinstance(value, torch.Tensor):
        pairs.append(("dtype", str(value.dtype).removeprefix("torch.")))
        pairs.append(("device", str(value.device)))
        if value.layout is torch.strided:
            pairs.append(("strides", f"({', '.join(map(str, value.stride()))})"))
        if value.requires_grad:
            pairs.append(("requires_grad", "True"))
    called = node.meta.get("torch_fn")
    if isinstance(called, (tuple, list)) and called:
        pairs.append(("torch function", str(called[0])))
    return pairs


class _Modules:
    """The modules that ran, one for each call of a module, with the module around it."""

    def __init__(self, trace: TracedModel, parameters: dict[str, int]) -> None:
        self.described: list[dict[str, Any]] = []
        self._places: dict[tuple[str, ...], int] = {}
        self._parameters = parameters
        self._graphs: dict[fx.Graph, int] = {}
        self._add((), "", trace.name, None)

    def place(self, node: fx.Node) -> int:
        """The place of the module that a node belongs to."""
        stack: dict[str, tuple[str, Any]] | None = node.meta.get("nn_module_stack")
        if not stack:
            return self._of_users(node)
        chain: tuple[str, ...] = ()
        around = 0
        for key, (path, kind) in stack.items():
            if not path:  # the model itself
                continue
            chain = (*chain, str(key))
            if chain not in self._places:
                self._add(chain, str(path), _class_name(kind), around)
            around = self._places[chain]
        return around

    def of_graph(self, graph: _Graph) -> int:
        """The place of a graph that a node calls; it stands where its caller stands."""
        assert graph.caller is not None
        key = ("graph", graph.prefix)
        if key not in self._places:
            outer = graph.caller.graph
            around = self._graphs.get(outer) or self.place(graph.caller)
            self._add(key, graph.prefix[:-1], f"graph of {graph.caller.name}", around)
            self._graphs[graph.module.graph] = self._places[key]
        return self._places[key]

    def _of_users(self, node: fx.Node) -> int:
        """The module of a parameter: the innermost one around all nodes that read it."""
        if node.op != "get_attr" or not node.users:
            return 0
        chains = [self.around(self.place(user)) for user in node.users if user.op != "get_attr"]
        shared = [places for places in zip(*chains, strict=False) if len(set(places)) == 1]
        return shared[-1][0] if shared else 0

    def around(self, place: int) -> list[int]:
        """A module and those around it, the model first."""
        chain = [place]
        while (around := self.described[chain[-1]]["parent"]) is not None:
            chain.append(around)
        return chain[::-1]

    def _add(self, chain: tuple[str, ...], path: str, kind: str, parent: int | None) -> None:
        self._places[chain] = len(self.described)
        call = chain[-1].partition("@")[2] if chain else ""
        self.described.append(
            {
                "path": path,
                "kind": kind,
                "parent": parent,
                "call": int(call) + 1 if call.isdecimal() else 1,
                "parameters": self._parameters.get(path, 0),
            }
        )


def _class_name(kind: Any) -> str:
    """The class of a module without the package that it comes from."""
    return str(kind if isinstance(kind, str) else getattr(kind, "__name__", kind)).rpartition(".")[
        2
    ]
