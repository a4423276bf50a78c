"""The graph of a trace as data, and the graph that data describe.

torch.fx writes a graph out as Python source, which Python runs. Each name that becomes a part of
the source is checked before: see `symfx.graph_data.names`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from typing import Any

import torch
from torch import fx

from symfx.errors import TraceFileError
from symfx.graph_data.arguments import decode_field, encode
from symfx.graph_data.names import NODE_NAME, is_place
from symfx.handover.late_metadata import LateMetadata
from symfx.handover.listed import Listed
from symfx.handover.numbers import NumberWriter
from symfx.handover.operators import function_named, name_of_function
from symfx.handover.origins import OriginReader, OriginWriter
from symfx.handover.values import ValueReader, describe_bindings, describe_value
from symfx.torch_bridge.fx_graphs import append_named, compile_now, graph_module, set_metadata
from symfx.untrusted import Item, is_identifier, shown
from symfx.work import counted

__all__ = ["describe_graph", "read_graph"]

_OPS = {op: op for op in ("placeholder", "get_attr", "call_function", "output")}
#: Python takes a gigabyte to parse source with a million arguments in it.
_NODES, _ATTRIBUTES = 50_000, 20_000
#: How deep graphs are nested: the branches of a `cond` are graphs of their own.
_NESTING = 8
_FIELDS = ("name", "op", "target", "args", "kwargs", "value", "bindings")
_NO_KEYWORDS: dict[str, Any] = {"dict": []}
_GRAPH_MODULE = fx.GraphModule({}, fx.Graph())


def describe_graph(
    module: fx.GraphModule,
    numbers: NumberWriter,
    describe_tensor: Callable[[str, torch.Tensor], Any],
    path: str = "",
) -> dict[str, Any]:
    """A graph as data.

    Args:
        module: the graph.
        numbers: writes the sizes of its values.
        describe_tensor: writes a tensor of the graph, which is passed with its path.
        path: the path of the graph in the whole trace, where it is a part of another.

    Raises:
        TraceFileError: a part of the graph is of a kind that a file cannot hold.
    """
    attributes: dict[str, Any] = {}
    nodes = []
    origins, values = OriginWriter(), Listed()
    for node in counted(module.graph.nodes):
        where = f"{path}.{node.name}" if path else node.name
        target = str(node.target)
        if node.op == "get_attr" and target not in attributes:
            held = operator.attrgetter(target)(module)
            full = f"{path}.{target}" if path else target
            if isinstance(held, fx.GraphModule):
                inner = describe_graph(held, numbers, describe_tensor, full)
                attributes[target] = {"graph": inner}
            elif isinstance(held, torch.Tensor):
                attributes[target] = {"tensor": describe_tensor(full, held)}
            else:
                raise TraceFileError(
                    f"{target} is a {type(held).__name__}, and no tensor",
                    fix="pass it to the model as an argument, or make a tensor of it",
                )
        elif node.op not in _OPS:
            raise TraceFileError(f"{where} is a node of the kind {node.op}")
        if node.op == "call_function":
            target = name_of_function(node.target, where)
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "target": target,
                "args": encode(node.args, where, TraceFileError),
                "kwargs": encode(dict(node.kwargs), where, TraceFileError),
                "value": values.place(describe_value(node.meta.get("val"), numbers)),
                "bindings": describe_bindings(node.meta.get("unbacked_bindings") or {}, numbers),
                "origin": origins.describe(node.meta),
            }
        )
    name = type(module).__name__
    return {
        "name": name if is_identifier(name) else "GraphModule",
        "attributes": attributes,
        "values": values.values,
        "modules": origins.modules.values,
        "lines": origins.lines.values,
        "nodes": nodes,
    }


def read_graph(
    item: Item,
    values: ValueReader,
    read_tensor: Callable[[str, Item], torch.Tensor],
    libraries: Collection[str],
    path: str = "",
    depth: int = 0,
    *,
    checked: bool = True,
) -> fx.GraphModule:
    """The graph that data describe.

    Args:
        item: the data of `describe_graph`.
        values: makes the values of the nodes.
        read_tensor: makes a tensor of the graph from its path and its data.
        libraries: see `symfx.load`.
        path: the path of the graph in the whole trace.
        depth: the number of graphs around it.
        checked: whether torch.fx checks the graph, and its Python code is compiled, now. Otherwise
            the code is compiled when it is first needed.

    Raises:
        TraceFileError: the data describe no graph.
    """
    if depth > _NESTING:
        raise item.refusal(f"graphs may be nested {_NESTING} deep")
    # Files of versions 1 and 2 have values and origins in the nodes.
    fields = item.fields("name", "attributes", "nodes", optional=("values", "modules", "lines"))
    root = torch.nn.Module()
    attributes = fields["attributes"].entries()
    if len(attributes) > _ATTRIBUTES:
        raise fields["attributes"].refusal(f"a graph may have {_ATTRIBUTES} attributes")
    for target, described in attributes.items():
        full = f"{path}.{target}" if path else target
        kind, inner = described.single()
        if kind == "graph":
            held: Any = read_graph(inner, values, read_tensor, libraries, full, depth + 1)
        elif kind == "tensor":
            held = read_tensor(full, inner)
        else:
            raise described.refusal(f"there is no kind of attribute called {shown(kind)}")
        _put(root, target, held, described)
    metadata = _MetadataReader(fields, values)
    graph = _read_nodes(fields["nodes"], attributes, metadata, libraries)
    with item.source.guarding("the nodes make no function", fields["nodes"].path):
        made = graph_module(root, graph, fields["name"].identifier())
        if checked:
            graph.lint()
            compile_now(made)
        return made


def _read_nodes(
    item: Item, attributes: Collection[str], metadata: _MetadataReader, libraries: Collection[str]
) -> fx.Graph:
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    parameters: set[str] = set()
    functions: dict[str, Any] = {}
    described = item.items(_NODES)
    last = len(described) - 1
    for index, each in enumerate(counted(described)):
        # The items of the fields are made where one is refused: a graph has thousands of nodes.
        entry = each.raw_fields(*_FIELDS, optional=("origin",))  # files of version 1 have none
        op, name, called = entry["op"], entry["name"], entry["target"]
        if not isinstance(op, str) or op not in _OPS:
            raise each.refusal(f"there is no kind of node {shown(op)}")
        if not isinstance(name, str) or not NODE_NAME.fullmatch(name) or not is_identifier(name):
            raise each.at("name").refusal(f"{shown(name)} cannot be the name of a node")
        if name in known:
            raise each.at("name").refusal(f"two nodes have the name {name}")
        if (op == "output") != (index == last):
            raise each.refusal("the last node must be the output, and no other node may be")
        args = decode_field(each, "args", known)
        kwargs = {} if entry["kwargs"] == _NO_KEYWORDS else decode_field(each, "kwargs", known)
        if type(args) is not tuple or type(kwargs) is not dict:
            raise each.refusal("its arguments are no tuple, or its keywords no dictionary")
        if type(called) is not str or len(called) > 10_000:
            each.at("target").text(10_000)  # raises the error
        if op == "call_function":
            function = functions.get(called)
            if function is None:
                function = functions[called] = function_named(each.at("target"), libraries)
            called = function
            strange = [key for key in kwargs if not isinstance(key, str) or not is_identifier(key)]
            if strange:
                raise each.at("kwargs").refusal(f"{shown(strange[0])} is no keyword")
        elif kwargs or len(args) != (op == "output"):
            raise each.refusal("these arguments do not fit a node of this kind")
        elif op == "placeholder":
            called = each.at("target").identifier()
            if called in parameters or called == "self":
                raise each.at("target").refusal(
                    f"{shown(called)} cannot be the name of another parameter"
                )
            parameters.add(called)
        elif op == "get_attr" and called not in attributes:
            raise each.at("target").refusal(f"the graph has no attribute {shown(called)}")
        node = append_named(graph, op, called, args, kwargs, name)
        if node.name != name:
            raise each.at("name").refusal(f"a node cannot have the name {name}")
        set_metadata(node, metadata.read(each))
        known[name] = node
    return graph


class _MetadataReader:
    """Reads the metadata of the nodes of a graph.

    Args:
        fields: the data of the graph.
        values: makes the values of the nodes.
    """

    def __init__(self, fields: dict[str, Item], values: ValueReader) -> None:
        self._values = values
        listed = fields.get("values")
        self._listed = None if listed is None else [values.read(v) for v in listed.items(_NODES)]
        self._origins = OriginReader(fields.get("modules"), fields.get("lines"))

    def read(self, node: Item) -> dict[str, Any]:
        """The metadata of a node; its value is made when it is first asked for."""
        value = node.value["value"]
        late = None
        if self._listed is not None:
            if type(value) is not int or not 0 <= value < len(self._listed):
                node.at("value").whole(0, len(self._listed) - 1)  # raises the error
            late = self._listed[value]
        elif value is not None:
            late = self._values.read(node.at("value"))
        plain: dict[str, Any] = {"val": None} if late is not None else {}  # the first key
        if node.value["bindings"]:
            plain["unbacked_bindings"] = self._values.bindings(node.at("bindings"))
        if "origin" in node.value:
            plain.update(self._origins.read(node))
        return LateMetadata(plain, None if late is None else {"val": late})


def _put(root: torch.nn.Module, path: str, held: Any, item: Item) -> None:
    """Make a tensor or a graph a part of a module."""
    *parents, last = path.split(".")
    if not is_place(path) or hasattr(_GRAPH_MODULE, path.partition(".")[0]):
        raise item.refusal(f"{shown(path)} cannot be the path of a part of a graph")
    owner = root
    for part in parents:
        inner = owner._modules.get(part)
        if inner is None:
            if hasattr(owner, part):
                raise item.refusal(f"{shown(path)} leads through a tensor")
            inner = torch.nn.Module()
            owner.add_module(part, inner)
        owner = inner
    if hasattr(owner, last) or isinstance(owner, fx.GraphModule):
        raise item.refusal(f"two parts of the graph have the path {shown(path)}")
    if isinstance(held, torch.nn.Parameter):
        owner.register_parameter(last, held)
    elif isinstance(held, torch.Tensor):
        owner.register_buffer(last, held)
    else:
        owner.add_module(last, held)
