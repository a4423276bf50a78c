"""Optimized models as one file of data: tensors in safetensors, the graph as JSON in its header.

Nothing is pickled, and nothing in a file is run: functions, methods and classes are looked up by
name among those that symfx knows, what reaches the source that torch.fx writes is checked before,
and what symfx does not know is refused by name.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, fx

from symfx._version import __version__
from symfx.errors import OptimizationError
from symfx.optimization.pipeline import NO_BFLOAT16, OptimizedModel
from symfx.optimization.report import Report
from symfx.optimization.runtime.probing import has_bfloat16
from symfx.optimization.saved.modules import build_modules, describe_module, put, tensors_of
from symfx.optimization.saved.values import OPS, decode, encode, function_named, name_of, why_not
from symfx.untrusted import Item, Limits, Source, is_identifier, parse, shown

__all__ = ["load", "save"]

FORMAT, VERSION = "symfx.optimized", 3
#: What a file may ask for: torch takes seconds for ten thousand modules, and the memory that Python
#: takes for source with a million arguments in it is a gigabyte.
_NODES, _MODULES = 20_000, 10_000
_LIMITS = Limits(items=600_000)
#: What torch.fx calls nodes.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_GIVE = "give a file that OptimizedModel.save wrote"


def save(model: OptimizedModel, path: str | Path) -> None:
    """Write an optimized model to a file. See `OptimizedModel.save`."""
    module = model.graph_module
    if module is None:
        raise OptimizationError(
            "this model has not been optimized yet",
            fix="use it once, or give example inputs to symfx.optimize",
        )
    tensors: dict[str, Tensor] = {}
    places: dict[str, str] = {}
    seen: dict[tuple[Any, ...], str] = {}

    def keep(name: str, tensor: Tensor) -> None:
        key = (tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        first = seen.setdefault(key, name) if tensor.numel() else name
        places[name] = first
        if first == name:
            tensors[name] = tensor.detach().contiguous().clone()

    modules = dict(module.named_modules())
    called: dict[str, Any] = {}
    nodes: list[dict[str, Any]] = []
    for node in module.graph.nodes:
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
                "args": encode(node.args, node.name),
                "kwargs": encode(dict(node.kwargs), node.name),
            }
        )
    name = type(module).__name__
    header = {
        "format": FORMAT,
        "version": VERSION,
        "symfx": __version__,
        "torch": torch.__version__,
        "name": name if is_identifier(name) else "GraphModule",
        "dtype": None if model.dtype is None else str(model.dtype).removeprefix("torch."),
        "modules": called,
        "tensors": places,
        "nodes": nodes,
    }
    source = Source(str(path), OptimizationError, _AROUND)
    with source.guarding("this model cannot be saved"):
        text = json.dumps(header)
        _build(parse(text, source, _LIMITS), tensors)  # what is written can be read again
    save_file(tensors, str(path), {FORMAT: text})


_AROUND = "keep such parts out of what is saved: optimize and save the modules around them"


def load(path: str | Path) -> OptimizedModel:
    """Read what `OptimizedModel.save` wrote.

    Where this machine's torch lacks an operator that the file asks for, the model computes the
    same from ordinary ones. The file need not be trusted: nothing in it is run, and no other error
    than the one below leaves this function.

    Args:
        path: the file.

    Raises:
        OptimizationError: it is no such file, is of another version, names something that symfx
            does not know, or asks for more than a file may; the message says where in the file.

    Example:
        >>> import tempfile, torch, symfx
        >>> from symfx.optimization import load
        >>> fast = symfx.optimize(torch.nn.Linear(4, 3), torch.randn(2, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fast.save(f"{folder}/fast.safetensors")
        ...     again = load(f"{folder}/fast.safetensors")
        >>> x = torch.randn(5, 4)
        >>> torch.equal(again(x), fast(x))
        True
    """
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
        if size > 2 * _LIMITS.size:  # as a text within JSON it is somewhat longer
            raise source.refusal(f"the file cannot be read: its header would have {size} bytes")
        with safe_open(str(path), framework="pt") as file:
            text = (file.metadata() or {}).get(FORMAT)
            return text, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _build(header: Item, tensors: Mapping[str, Tensor]) -> OptimizedModel:
    """The model of a header; everything in it is checked before any source is made of it."""
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
        if not _NAME.fullmatch(name.text()) or name.value in known:
            raise name.refusal(f"{shown(name.value)} cannot be the name of this node")
        if (op == "output") != (index == len(entries) - 1):
            raise item.refusal("the last node, and no other, is the output")
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
    writer = fields["symfx"].text(50)
    report = Report(notes=[f"read from {source.name}, written by symfx {writer!r:.50}"])
    if dtype is not None and not has_bfloat16():
        report.notes.append(NO_BFLOAT16)
        dtype = None
    module.training = False
    return OptimizedModel(module, report, dtype=None if dtype is None else torch.bfloat16)
