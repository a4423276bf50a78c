"""Removing work: identities, constants, repeated nodes, reshapes that undo each other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.graphs.effect_tables import DROPOUT_MODULES
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import fresh_name, replace
from symfx.optimization.report import Report
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["drop_identities", "fold_constants", "join_reshapes", "merge_duplicates"]

#: A folded constant may have this many times the elements of the tensors that it is computed
#: from, and `_SMALL` more: folding saves time, and must not fill the memory.
_GROWTH, _SMALL = 2, 1 << 16


def drop_identities(module: fx.GraphModule, report: Report) -> None:
    """Remove the nodes that return their argument: identities and inactive dropout."""
    reader = Reader(module)
    for node in list(module.graph.nodes):
        called = reader.module_of(node)
        source = reader.idle_source(node)
        if source is None:
            if called is not None and type(called) in DROPOUT_MODULES:
                report.leave(node, "it is in train mode, and drops at random")
            continue
        name = (
            type(called).__name__ if called is not None else node._pretty_print_target(node.target)
        )
        report.rewrote(f"removed {name}", (node,), None)
        replace(node, source)


def fold_constants(module: fx.GraphModule, report: Report) -> None:
    """Compute ahead the values that depend only on parameters and buffers that never change.

    Some values are not computed ahead: results of the model, values that are written to, random
    numbers, and values that would take much more memory than the tensors they depend on.
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
            report.leave(node, "not computed ahead: it is much larger than its sources")
            continue
        values[node] = value
    _install_constants(module, reader, values, report)


def _install_constants(
    module: fx.GraphModule, reader: Reader, values: dict[fx.Node, Any], report: Report
) -> None:
    """Store each folded value that a non-constant node uses."""
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
    """Compute only once a value that two nodes compute from the same arguments.

    Two results that the caller is given stay two, since the caller may write to one.
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
            continue  # an argument is not hashable
        if twin is not node:
            if node.op != "get_attr":
                report.rewrote("computed once", (node,), twin)
            replace(node, twin)


def _key(value: Any) -> Any:
    """A key that is equal for equal arguments of equal types: not for ``1``, ``1.0``, ``True``."""
    if isinstance(value, tuple | list):
        return type(value), tuple(map(_key, value))
    if isinstance(value, dict):
        return dict, tuple((name, _key(item)) for name, item in value.items())
    if isinstance(value, slice):
        return slice, _key((value.start, value.stop, value.step))
    # The repr differs for 0.0 and -0.0, and is the same for each NaN.
    return (type(value), repr(value)) if isinstance(value, float) else (type(value), value)


def join_reshapes(module: fx.GraphModule, report: Report) -> None:
    """Join a reshape of a reshape, or a transposition of a transposition, into one or none."""
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
    """One node for a node and the one before it: a new node, or an older one; None if unknown."""
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
    """The sizes of a reshape; None where an argument may be a dtype or a tuple of sizes."""
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
