"""A copy of a trace on an environment of its own, in the terms of `torch.export`.

torch.export's programs name inputs as Dynamo does (``L['x']``), know the value of ``.item()`` by an
unbacked symbol alone, and are written to by the passes that follow. So an exported program gets a
copy of the trace: the same graph, symbols and guards, on an environment that no one else uses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch._dynamo.source import (
    AttrSource,
    GetItemSource,
    LocalSource,
    TensorProperty,
    TensorPropertySource,
)
from torch._guards import Source as TorchSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.algebra import Term
from symfx.errors import TraceFileError, TracingError
from symfx.handover.environments import describe_environment, read_environment
from symfx.handover.graphs import describe_graph, read_graph
from symfx.handover.multiples import guard_expressions
from symfx.handover.numbers import NumberWriter
from symfx.handover.values import ValueReader
from symfx.proxy_tensor.symbols import SymbolNodes
from symfx.symbolic_shapes import ShapeEnv
from symfx.tracing.arguments import Layout
from symfx.tracing.traced_model import TracedModel
from symfx.untrusted import Item, Source

__all__ = ["CopiedTrace", "copied"]

_ITEM = ".item()"
#: The operators behind ``.item()``, below autograd and above it.
_READS = ("aten._local_scalar_dense.default", "aten.item.default")
#: What torch's passes read of a node beside its value.
_KEPT = ("stack_trace", "nn_module_stack", "torch_fn", "original_aten", "seq_nr")
_FIX = "keep such parts out of the model, or hand on the graph module: t.graph_module"


@dataclass(frozen=True)
class CopiedTrace:
    """The copy of a trace.

    Attributes:
        graph_module: the graph; its parameters, buffers and constants are those of the trace.
        env: the environment.
        mode: the mode of the fake tensors in the graph.
    """

    graph_module: fx.GraphModule
    env: ShapeEnv
    mode: FakeTensorMode


def copied(trace: TracedModel) -> CopiedTrace:
    """Copy a trace; see the module.

    Raises:
        TracingError: the graph has a part that a copy cannot have.
    """
    numbers, tensors = NumberWriter(), list[torch.Tensor]()

    def keep(path: str, tensor: torch.Tensor) -> int:
        tensors.append(tensor)
        return len(tensors) - 1

    source = Source(trace.name, TracingError, _FIX)
    try:
        graph = describe_graph(trace.graph_module, numbers, keep)
        environment = describe_environment(trace.shape_env, numbers)
    except TraceFileError as error:
        raise TracingError(error.what, where=error.where, fix=_FIX) from None
    from_items = _symbols_of_items(trace.shape_env)
    moved = _make_unbacked(environment, trace.shape_env, from_items, numbers)
    data = Item(
        {"graph": graph, "environment": environment, "terms": numbers.terms, "moved": moved},
        "",
        source,
    ).entries()
    _rename(data["terms"].value, environment, graph, from_items)
    sources = _sources(trace.admission.layout)
    with source.guarding("the trace cannot be copied"):
        env, reader = read_environment(
            data["environment"],
            data["terms"],
            lambda item: _source(item.text(5_000), sources),
        )
        values = ValueReader(env, reader)
        libraries = {str(n["target"]).partition(".")[0] for n in _all_nodes(graph)}

        def tensor(path: str, item: Item) -> torch.Tensor:
            return tensors[item.whole(0, len(tensors) - 1)]

        module = read_graph(data["graph"], values, tensor, libraries)
        _carry_metadata(trace.graph_module, module)
        _assert_items(module, [reader.condition(item) for item in data["moved"].items()])
        guard_expressions(
            env,
            [
                (sources[node.name], node.meta.get("val"))
                for node in module.graph.find_nodes(op="placeholder")
                if node.name in sources
            ],
        )
    return CopiedTrace(module, env, values.mode)


def _all_nodes(graph: Any) -> Iterator[Any]:
    yield from graph["nodes"]
    for attribute in graph["attributes"].values():
        if "graph" in attribute:
            yield from _all_nodes(attribute["graph"])


def _carry_metadata(old: fx.GraphModule, new: fx.GraphModule) -> None:
    by_name = {node.name: node for node in old.graph.nodes}
    for node in new.graph.nodes:
        meta = by_name[node.name].meta
        node.meta.update({key: meta[key] for key in _KEPT if key in meta})
    for name, module in new.named_children():
        if isinstance(module, fx.GraphModule):
            _carry_metadata(getattr(old, name), module)


# -- sources ---------------------------------------------------------------------------------------


def _sources(layout: Layout) -> dict[str, TorchSource]:
    """The source of each input as Dynamo names it, by the name of the input in the graph."""
    with_path: list[tuple[Any, Any]] = pytree.tree_flatten_with_path(layout.given)[0]
    found = {}
    for leaf, (keys, _) in zip(layout.leaves, with_path, strict=True):
        variadic = layout.signature.parameters[str(keys[0].key)].kind.name == "VAR_KEYWORD"
        first, *rest = keys[1:] if variadic else keys
        source: TorchSource = LocalSource(str(first.key))
        for key in rest:
            if isinstance(key, pytree.GetAttrKey):
                source = AttrSource(source, key.name)
            else:
                index = key.idx if isinstance(key, pytree.SequenceKey) else key.key
                source = GetItemSource(source, index)
        found[leaf.name] = source
    return found


def _source(name: str, inputs: dict[str, TorchSource]) -> TorchSource:
    """The source of a number of an input, with the input as Dynamo names it."""
    owner, dot, rest = name.partition(".")
    base = inputs.get(owner)
    if base is None:
        return LocalSource(name)
    if not dot:
        return base
    method, _, index = rest.partition("()")
    kinds = {
        "size": TensorProperty.SIZE,
        "stride": TensorProperty.STRIDE,
        "storage_offset": TensorProperty.STORAGE_OFFSET,
    }
    number = int(index.strip("[]")) if index else None
    return TensorPropertySource(base, kinds[method], number)


# -- the values of tensors -------------------------------------------------------------------------


def _symbols_of_items(env: ShapeEnv) -> dict[Term, str]:
    """The symbols of the values of input tensors, each with a name for an unbacked symbol."""
    taken = set(env.symbols.by_name)
    numbers = iter(range(len(taken) + 1_000_000))
    names: dict[Term, str] = {}
    for symbol, record in env.symbols.records.items():
        if record.sources and all(source.name.endswith(_ITEM) for source in record.sources):
            names[symbol] = next(n for i in numbers if (n := f"u{i}") not in taken)
    return names


def _make_unbacked(
    environment: dict[str, Any], env: ShapeEnv, symbols: dict[Term, str], numbers: NumberWriter
) -> list[int]:
    """Take the hints of these symbols away; return the conditions that become assertions."""
    by_name = {symbol.name for symbol in symbols}
    for described in environment["symbols"]:
        if described["name"] in by_name:
            described.update(hint=None, sources=[])
    moved = [numbers.term(g.term) for g in env.guards if g.term.free_symbols & symbols.keys()]
    environment["guards"] = [g for g in environment["guards"] if g["condition"] not in moved]
    environment["inputs"] = []
    return moved


def _rename(
    terms: list[Any], environment: dict[str, Any], graph: Any, symbols: dict[Term, str]
) -> None:
    """Give symbols other names, everywhere in the data."""
    names = {symbol.name: name for symbol, name in symbols.items()}
    for part in terms:
        if part[0] == "symbol" and part[1] in names:
            part[1] = names[part[1]]
    for key, field in (("symbols", "name"), ("replacements", "symbol")):
        for described in environment[key]:
            described[field] = names.get(described[field], described[field])
    for node in _all_nodes(graph):
        number = (node["value"] or {}).get("number") if isinstance(node["value"], dict) else None
        if node["target"] not in _READS or not isinstance(number, dict):
            continue
        part = terms[number["term"]] if "term" in number else [None, None]
        if part[0] == "symbol" and part[1] in names.values():
            node["bindings"] = [{"symbol": part[1], "path": []}]


def _assert_items(module: fx.GraphModule, conditions: list[Term]) -> None:
    """Let a graph assert conditions on the values of input tensors, right after it reads them."""
    if not conditions:
        return
    graph = module.graph
    first = next(node for node in graph.nodes if node.op != "placeholder")
    cursor: list[fx.Node] = [first]

    def insert(where: Callable[[], Any], target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
        with where():
            node = graph.call_function(target, args)
        node.meta["val"] = value
        return node

    def append(target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
        node = insert(lambda: graph.inserting_after(cursor[0]), target, args, value)
        cursor[0] = node
        return node

    def append_after(after: fx.Node, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
        if after.op == "placeholder":
            return insert(lambda: graph.inserting_before(first), target, args, value)
        return insert(lambda: graph.inserting_after(after), target, args, value)

    nodes = SymbolNodes(append, append_after, lambda: graph)
    reads = []
    for node in graph.nodes:
        value = node.meta.get("val")
        if node.op == "placeholder" and isinstance(value, torch.Tensor):
            nodes.offer_tensor(node, value)
        elif isinstance(value, torch.SymInt) and str(node.target) in _READS:
            nodes.offer_number(value, node)
            reads.append(node)
    for condition in conditions:
        needed = [n for n in reads if n.meta["val"].node.term in condition.free_symbols]
        cursor[0] = needed[-1] if needed else first
        holds = nodes.node_of_term(condition)
        check = torch.ops.aten._assert_scalar.default
        append(check, (holds, f"{condition} does not hold"), None)
    graph.lint()
    module.recompile()
