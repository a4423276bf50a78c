"""The graph of a trace as plain data: nodes, modules, lines and costs, each text once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

from symfx.algebra import Term
from symfx.algebra.terms.portable import Packing
from symfx.tracing.cost import cost_of
from symfx.tracing.report import call_of, value_in_words
from symfx.tracing.traced_model import TracedModel
from symfx.user_code import frames_of_trace, is_user_file

__all__ = ["graph_of"]

_Key = tuple[str, ...]


class _Once:
    """Values that are listed once, and named by their places."""

    def __init__(self) -> None:
        self.places: dict[Any, int] = {}

    def place(self, value: Any) -> int:
        """The place of a value in the list."""
        return self.places.setdefault(value, len(self.places))

    def __iter__(self) -> Any:
        return iter(self.places)


def graph_of(trace: TracedModel) -> dict[str, Any]:
    """The graph of a trace as fields of a report's contents."""
    cost = cost_of(trace)
    packing = Packing()
    modules = _Modules(trace, {module.path: module.parameters for module in cost.modules})
    frames = _Once()
    nodes = list(trace.graph_module.graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    described = []
    zero = trace.shape_env.table.zero
    flops: dict[int, Term] = defaultdict(lambda: zero)
    memory: dict[int, Term] = defaultdict(lambda: zero)
    for node, costs in zip(nodes, cost.nodes, strict=True):
        value = node.meta.get("val")
        stack = frames_of_trace(node.stack_trace or "")
        module = modules.place(node)
        for around in modules.around(module):
            flops[around] += costs.flops
            memory[around] += costs.memory
        described.append(
            {
                "name": node.name,
                "label": _label(node),
                "op": node.op,
                "title": _title(node),
                "target": str(node.target),
                "expression": call_of(node),
                "value": "" if node.op == "output" else value_in_words(value),
                "kind": _kind(node),
                "module": module,
                "inputs": [place[source] for source in node.all_input_nodes],
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
        self._places: dict[_Key, int] = {}
        self._parameters = parameters
        self._add((), "", trace.name, None)

    def place(self, node: fx.Node) -> int:
        """The place of the module that a node belongs to."""
        stack: dict[str, tuple[str, Any]] | None = node.meta.get("nn_module_stack")
        if not stack:
            return self._of_users(node)
        chain: _Key = ()
        around = 0
        for key, (path, kind) in stack.items():
            if not path:  # the model itself
                continue
            chain = (*chain, str(key))
            if chain not in self._places:
                self._add(chain, str(path), _class_name(kind), around)
            around = self._places[chain]
        return around

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

    def _add(self, chain: _Key, path: str, kind: str, parent: int | None) -> None:
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
