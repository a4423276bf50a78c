"""Optimized graphs as one file of data: tensors in safetensors, the graph as JSON in its header.

Nothing in a file is pickled or run. Functions, methods and classes are looked up by name among
those that symfx knows; names that become part of the source that torch.fx writes are checked
first; a name that symfx does not know is refused with its place in the file.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, fx

from symfx._version import __version__
from symfx.errors import OptimizationError
from symfx.graph_data.arguments import decode, encode
from symfx.graph_data.names import NODE_NAME
from symfx.optimization.graphs.whole_models import SAVED_INSTEAD
from symfx.optimization.passes.chain_kernels import chain_kernels, unchained
from symfx.optimization.passes.keep_values import compute_each_time, keep_values
from symfx.optimization.report import Report
from symfx.optimization.saved.modules import build_modules, describe_module, put, tensors_of
from symfx.optimization.saved.nodes import OPS, function_named, name_of, why_not
from symfx.untrusted import Item, Limits, Source, is_identifier, parse, shown
from symfx.whole_files import written_whole
from symfx.work import counted, share_of_work, write_counted

__all__ = ["FORMAT", "Saved", "read_graph", "write_graph"]

FORMAT, VERSION = "symfx.optimized", 3
#: Bounds for a file: torch takes seconds to make ten thousand modules, and Python takes a gigabyte
#: to parse source with a million arguments in it.
_NODES, _MODULES = 20_000, 10_000
_LIMITS = Limits(items=600_000)
#: The usual share of the time of saving that it takes to describe the graph and copy its tensors.
_DESCRIBED = 0.5
_GIVE = "give a file that OptimizedModel.save wrote"
_AROUND = "keep such parts out of the saved model: optimize and save the modules around them"


@dataclass(frozen=True)
class Saved:
    """The content of a file.

    Attributes:
        module: the graph.
        dtype: the dtype of convolutions and matrix products, if it is not that of their inputs.
        writer: the version of symfx that wrote the file.
    """

    module: fx.GraphModule
    dtype: torch.dtype | None
    writer: str


def write_graph(module: fx.GraphModule, dtype: torch.dtype | None, path: str | Path) -> None:
    """Write the graph of an optimized model to a file; see `OptimizedModel.save`.

    Args:
        module: the graph.
        dtype: see `Saved`.
        path: the file.
    """
    module = compute_each_time(unchained(module.meta.get(SAVED_INSTEAD, module)))
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}

    def keep(name: str, tensor: Tensor) -> None:
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        first = seen.setdefault(key, name) if tensor.numel() else name
        places[name] = first
        if first == name:
            tensors[name] = tensor.detach().contiguous().clone()

    with share_of_work(0.0, _DESCRIBED):
        called, nodes = _described(module, keep)
    name = type(module).__name__
    header = {
        "format": FORMAT,
        "version": VERSION,
        "symfx": __version__,
        "torch": torch.__version__,
        "name": name if is_identifier(name) else "GraphModule",
        "dtype": None if dtype is None else str(dtype).removeprefix("torch."),
        "modules": called,
        "tensors": places,
        "nodes": nodes,
    }
    source = Source(str(path), OptimizationError, _AROUND)
    with source.guarding("this model cannot be saved"):
        text = json.dumps(header)
        _build(parse(text, source, _LIMITS), tensors)  # a file that is written can be read again
    with written_whole(Path(path)) as file, share_of_work(_DESCRIBED, 1.0):
        write_counted(file, save(tensors, {FORMAT: text}))


def _described(
    module: fx.GraphModule, keep: Callable[[str, Tensor], None]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The modules that a graph calls, and its nodes, as data; their tensors are kept."""
    modules = dict(module.named_modules())
    called: dict[str, Any] = {}
    nodes: list[dict[str, Any]] = []
    for node in counted(module.graph.nodes):
        why = why_not(node, modules)
        if why is not None:
            raise OptimizationError(f"{node.name} cannot be saved: {why}", fix=_AROUND)
        if node.op == "call_module" and node.target not in called:
            called[node.target] = describe_module(node.target, modules[node.target])
            for name, tensor in tensors_of(modules[node.target]).items():
                keep(f"{node.target}.{name}", tensor)
        elif node.op == "get_attr":
            held = operator.attrgetter(str(node.target))(module)
            if not isinstance(held, Tensor):
                raise OptimizationError(
                    f"{node.target} is a {type(held).__name__}, and no tensor", fix=_AROUND
                )
            keep(str(node.target), held)
        nodes.append(
            {
                "name": node.name,
                "op": node.op,
                "target": name_of(node),
                "args": encode(node.args, node.name, OptimizationError),
                "kwargs": encode(dict(node.kwargs), node.name, OptimizationError),
            }
        )
    return called, nodes


def read_graph(path: str | Path) -> Saved:
    """Read a file that `write_graph` wrote, or refuse it; see `symfx.optimization.load`."""
    source = Source(str(path), OptimizationError, _GIVE)
    text, tensors = _read(path, source)
    if text is None:
        raise source.refusal("the file may hold tensors, but no optimized model")
    header = parse(text, source, _LIMITS)
    entries = header.entries()
    version = entries["version"].value if "version" in entries else None
    if "format" not in entries or entries["format"].value != FORMAT:
        raise source.refusal("the file may hold tensors, but no optimized model")
    if type(version) is not int or version != VERSION:
        raise source.refusal(
            f"the file is of version {shown(version)}, and this symfx reads {VERSION}",
            fix="use the symfx that wrote it, or write it again",
        )
    return _build(header, tensors)


def _read(path: str | Path, source: Source) -> tuple[str | None, dict[str, Tensor]]:
    """The text in the header of a safetensors file, None if it has none, and its tensors."""
    with source.guarding("the file cannot be read"):
        with Path(path).open("rb") as start:
            size = int.from_bytes(start.read(8), "little")
        if size > 2 * _LIMITS.size:  # escaping makes a text within JSON somewhat longer
            raise source.refusal(f"the file cannot be read: its header would have {size} bytes")
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(FORMAT)
            return text, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _build(header: Item, tensors: Mapping[str, Tensor]) -> Saved:
    """The graph of a header; all names in it are checked before torch.fx writes source of it."""
    source = header.source
    fields = header.fields(
        "format", "version", "symfx", "torch", "name", "dtype", "modules", "tensors", "nodes"
    )
    places = {
        name: first.choice(tensors, "tensor in the file that is called")
        for name, first in fields["tensors"].entries().items()
    }
    entries = [
        (item, item.fields("name", "op", "target", "args", "kwargs"))
        for item in fields["nodes"].items(_NODES)
    ]
    called = [entry["target"].text() for _, entry in entries if entry["op"].value == "call_module"]
    described = fields["modules"].entries()
    if len(described) > _MODULES:
        raise fields["modules"].refusal(f"a file may have {_MODULES} modules")
    root = build_modules(described, places, called)
    modules = dict(root.named_modules())
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for index, (item, entry) in enumerate(entries):
        op, target, name = entry["op"].choice(OPS, "kind of node"), entry["target"], entry["name"]
        if not NODE_NAME.fullmatch(name.text()) or name.value in known:
            raise name.refusal(f"{shown(name.value)} cannot be the name of this node")
        if (op == "output") != (index == len(entries) - 1):
            raise item.refusal("the last node must be the output, and no other node may be")
        if op == "get_attr":
            found = target.choice(places, "tensor of the model that is called")
            put(root, target.text(), found, target)
        args, kwargs = decode(entry["args"], known), decode(entry["kwargs"], known)
        if (
            type(args) is not tuple
            or type(kwargs) is not dict
            or not all(isinstance(key, str) for key in kwargs)
        ):
            raise item.refusal("its arguments are no tuple, or its keywords no dictionary")
        makes = function_named(target) if op == "call_function" else target.text()
        node = graph.create_node(op, makes, args, kwargs, name.text())
        why = why_not(node, modules)
        if why is not None:
            raise item.refusal(f"this node cannot be: {why}")
        known[name.text()] = node
    with source.guarding("the nodes make no function", fields["nodes"].path):
        module = fx.GraphModule(root, graph, fields["name"].identifier())
    dtype = fields["dtype"].value
    if dtype not in (None, "bfloat16"):
        raise fields["dtype"].refusal(f"models do not run in {shown(dtype)}")
    module.training = False
    module = chain_kernels(keep_values(module, Report()), Report())
    writer = f"{fields['symfx'].text(50)!r:.50}"
    return Saved(module, None if dtype is None else torch.bfloat16, writer)
