"""Work that need not be done at all: constants, repetitions, reshapes that undo each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.graphs.effects import Effect
from symfx.optimization.graphs.reading import Reader
from symfx.optimization.graphs.surgery import fresh_name, replace
from symfx.optimization.report import Report

__all__ = ["fold_constants", "join_reshapes", "merge_duplicates"]

#: A folded constant may have this many times the elements of what it is computed from, and
#: `_SMALL` more: folding is to save time, not to fill the memory.
_GROWTH, _SMALL = 2, 1 << 16


def fold_constants(module: fx.GraphModule, report: Report) -> None:
    """Compute ahead what depends on nothing but parameters and buffers that never change.

    Left alone is what the caller gets hold of, what is written to, random numbers, and what would
    take much more memory than the tensors it is computed from.
    """
    reader = Reader(module)
    values: dict[fx.Node, Any] = {}
    for node in list(module.graph.nodes):
        if node.op == "get_attr":
            constant = reader.constant(node)
            if constant is not None and type(constant) in (Tensor, torch.nn.Parameter):
                values[node] = constant
            continue
        if node.op not in ("call_function", "call_method"):
            continue
        effect = reader.aliases.effect(node)
        sources = node.all_input_nodes
        if effect not in (Effect.FRESH, Effect.VIEW) or not sources or node.is_impure():
            continue
        if not all(source in values for source in sources):
            continue
        if not reader.aliases.is_quiet(node):
            continue
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            target = node.target
            value = (
                getattr(args[0], str(target))(*args[1:], **kwargs)
                if node.op == "call_method"
                else target(*args, **kwargs)
            )
        size = sum(values[s].numel() for s in sources if isinstance(values[s], Tensor))
        if isinstance(value, Tensor) and value.numel() > _GROWTH * size + _SMALL:
            report.leave(node, "not computed ahead: it is much larger than what it is made from")
            continue
        values[node] = value
    _install_constants(module, reader, values, report)


def _install_constants(
    module: fx.GraphModule, reader: Reader, values: dict[fx.Node, Any], report: Report
) -> None:
    """Store what somebody who is no constant takes."""
    for node in [n for n in module.graph.nodes if n in values and n.op != "get_attr"]:
        value = values[node]
        if type(value) is not Tensor or all(user in values for user in node.users):
            continue
        if reader.aliases.escapes(node):
            report.leave(node, "not computed ahead: the caller could write to it")
            continue
        name = fresh_name(module, f"{node.name}_constant")
        module.register_buffer(name, value.detach().clone())
        with module.graph.inserting_after(node):
            constant = module.graph.get_attr(name)
        report.rewrote("computed ahead", (node,), constant)
        replace(node, constant)


def merge_duplicates(module: fx.GraphModule, report: Report) -> None:
    """Compute what is computed twice from the same values only once.

    Two results that the caller gets stay two, since one may be written to.
    """
    reader = Reader(module)
    first: dict[Any, fx.Node] = {}
    for node in list(module.graph.nodes):
        if node.op in ("placeholder", "output") or node.is_impure():
            continue
        if reader.aliases.effect(node) not in (Effect.FRESH, Effect.VIEW):
            continue
        if not all(reader.aliases.is_quiet(value) for value in (node, *node.all_input_nodes)):
            continue
        if node.op == "call_module" and reader.module_of(node) is None:
            continue
        if reader.aliases.effect(node) is Effect.FRESH and reader.aliases.escapes(node):
            continue
        key = (node.op, node.target, _key(node.args), _key(node.kwargs))
        try:
            twin = first.setdefault(key, node)
        except TypeError:
            continue  # an argument that cannot be looked up
        if twin is not node:
            if node.op != "get_attr":
                report.rewrote("computed once", (node,), twin)
            replace(node, twin)


def _key(value: Any) -> Any:
    """Equal for arguments that are the same: ``1``, ``1.0`` and ``True`` are not."""
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_key, value))
    if isinstance(value, dict):
        return dict, tuple((name, _key(item)) for name, item in value.items())
    if isinstance(value, slice):
        return slice, _key((value.start, value.stop, value.step))
    # repr tells 0.0 from -0.0, and makes NaN equal to itself.
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)


def join_reshapes(module: fx.GraphModule, report: Report) -> None:
    """Join reshapes of reshapes and transpositions of transpositions into one, or none."""
    again = True
    while again:
        again = False
        reader = Reader(module)
        for node in list(module.graph.nodes):
            if not node.users and node.op != "output":
                continue
            source = node.args[0] if node.args else None
            if not isinstance(source, fx.Node) or not reader.aliases.is_quiet(node):
                continue
            joined = _join(node, source)
            if joined is None:
                continue
            report.rewrote("joined", (source, node), joined)
            replace(node, joined)
            if not source.users:
                module.graph.erase_node(source)
            again = True
            break


def _join(node: fx.Node, source: fx.Node) -> fx.Node | None:
    """What a node and the one before it are together: a new node, an older one, or None."""
    before = source.args[0] if source.args else None
    if not isinstance(before, fx.Node):
        return None
    mine, theirs = _name(node), _name(source)
    if mine in ("reshape", "view") and theirs in ("reshape", "view", "flatten", "contiguous"):
        sizes = _sizes(node, mine)
        if sizes is None:
            return None
        with node.graph.inserting_before(node):
            return node.graph.call_method("reshape", (before, *sizes))
    if mine == theirs == "contiguous" and len(node.args) == len(source.args) == 1:
        return None if node.kwargs or source.kwargs else source
    if mine == theirs == "t":
        return before
    if mine == theirs == "transpose":
        swapped, first = _dims(node, 2), _dims(source, 2)
        if swapped is not None and first is not None and set(swapped) == set(first):
            return before
    if mine == theirs == "permute":
        last, first = _dims(node, None), _dims(source, None)
        if last is None or first is None or len(last) != len(first):
            return None
        rank = len(first)
        order = [first[d % rank] % rank for d in last]
        if order == list(range(rank)):
            return before
        with node.graph.inserting_before(node):
            return node.graph.call_method("permute", (before, *order))
    return None


_FUNCTIONS: dict[Any, str] = {
    torch.reshape: "reshape",
    torch.flatten: "flatten",
    torch.transpose: "transpose",
    torch.permute: "permute",
    torch.t: "t",
}


def _name(node: fx.Node) -> str | None:
    if node.op == "call_method":
        return str(node.target)
    return _FUNCTIONS.get(node.target) if node.op == "call_function" else None


def _sizes(node: fx.Node, name: str) -> tuple[Any, ...] | None:
    """The sizes that a reshape asks for; None where it asks for another dtype or is unclear."""
    if node.kwargs:
        return None
    rest = node.args[1:]
    if len(rest) == 1 and isinstance(rest[0], tuple | list):
        rest = tuple(rest[0])
    if not rest or not all(isinstance(s, int | fx.Node) and not isinstance(s, bool) for s in rest):
        return None
    if name == "view" and len(rest) == 1 and isinstance(rest[0], fx.Node):
        return None  # may be a dtype
    if len(rest) == 1 and isinstance(rest[0], fx.Node):
        return None  # may be a tuple of sizes
    return tuple(rest)


def _dims(node: fx.Node, count: int | None) -> tuple[int, ...] | None:
    if node.kwargs:
        return None
    rest = node.args[1:]
    if count is None and len(rest) == 1 and isinstance(rest[0], tuple | list):
        rest = tuple(rest[0])
    if count is not None and len(rest) != count:
        return None
    found = tuple(d for d in rest if isinstance(d, int))
    return found if len(found) == len(rest) and found else None
