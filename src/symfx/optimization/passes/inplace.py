"""Writes that nobody can tell from plain results become plain results."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from symfx.optimization.graphs.effects import Effect, effect_of, one_node, read_argument
from symfx.optimization.graphs.reading import Reader
from symfx.optimization.graphs.surgery import install, succeed
from symfx.optimization.report import Report

__all__ = ["keeping_dtype", "settle_writes"]


def keeping_dtype(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """An arithmetic function as its in-place form computes: the first argument's dtype stays."""

    def settled(first: Any, second: Any) -> Any:
        result = function(first, second)
        if isinstance(first, Tensor) and result.dtype != first.dtype:
            return result.to(first.dtype)
        return result

    settled.__name__ = settled.__qualname__ = f"settled_{function.__name__}"
    return one_node(Effect.FRESH)(settled)


settled_add = keeping_dtype(operator.add)
settled_sub = keeping_dtype(operator.sub)
settled_mul = keeping_dtype(operator.mul)
settled_truediv = keeping_dtype(operator.truediv)

_ARITHMETIC: dict[Any, Callable[[Any, Any], Any]] = {
    operator.iadd: settled_add,
    operator.isub: settled_sub,
    operator.imul: settled_mul,
    operator.itruediv: settled_truediv,
    "add_": settled_add,
    "sub_": settled_sub,
    "mul_": settled_mul,
    "div_": settled_truediv,
}
_PLAIN: dict[Any, Callable[[Any, Any], Any]] = {
    settled_add: operator.add,
    settled_sub: operator.sub,
    settled_mul: operator.mul,
    settled_truediv: operator.truediv,
}


def settle_writes(module: fx.GraphModule, report: Report) -> None:
    """Turn in-place activations and arithmetic into their plain forms, where none can tell.

    None can where what is written to is the new result of a node, and no view of it is around;
    those that use it later are given the written value. Other writes stay, and nothing that
    shares memory with them is rewritten by any other pass.
    """
    again = True
    while again:
        again = False
        reader = Reader(module)
        order = {node: index for index, node in enumerate(module.graph.nodes)}
        settled: set[fx.Node] = set()
        for node in list(module.graph.nodes):
            if reader.aliases.effect(node) is not Effect.WRITES or node in settled:
                continue
            written = read_argument(node, 0, "input")
            if not isinstance(written, fx.Node) or not _is_private(reader, order, written, node):
                continue
            family = reader.aliases.family(node)
            plain = _plain_form(reader, node)
            if plain is None:
                continue
            for user in list(written.users):
                if user in order and order[user] > order[node]:
                    user.replace_input_with(written, plain)
            succeed((node,), plain, node.name)
            settled.update(family)  # one write at a time of what shares memory
            again = True
    for node in module.graph.nodes:
        if effect_of(node, reader.modules) is Effect.WRITES:
            report.leave(node, "it writes to memory that others may see")


def _is_private(
    reader: Reader, order: dict[fx.Node, int], written: fx.Node, writer: fx.Node
) -> bool:
    """Is this a new result, with no view of it but such as are made from what is written?"""
    if reader.aliases.effect(written) is not Effect.FRESH:
        return False
    after = {writer}
    for member in sorted(reader.aliases.family(written), key=order.__getitem__):
        if member is written or member is writer:
            continue
        if order[member] < order[writer] or not after & set(member.all_input_nodes):
            return False
        after.add(member)
    return True


def _plain_form(reader: Reader, node: fx.Node) -> fx.Node | None:
    """A new node behind this one that computes the same, and writes nothing."""
    graph = node.graph
    called = reader.module_of(node)
    if called is not None:
        plain = copy.copy(called)
        plain.inplace = False  # type: ignore[assignment]
        return install(reader.module, node, plain, node.args, "plain")
    with graph.inserting_after(node):
        function = _ARITHMETIC.get(node.target)
        if function is not None:
            if len(node.args) != 2 or node.kwargs:
                return None
            if isinstance(node.args[1], int | float):
                function = _PLAIN[function]  # a number never changes the dtype of a float tensor
            return graph.call_function(function, node.args)
        if node.op == "call_function" and "inplace" in node.kwargs:
            kwargs = {**node.kwargs, "inplace": False}
            return graph.create_node("call_function", node.target, node.args, kwargs)
        name = getattr(node.target, "__name__", str(node.target))
        pure = {"relu_": torch.relu, "sigmoid_": torch.sigmoid, "tanh_": torch.tanh}.get(name)
        if pure is not None and len(node.args) == 1 and not node.kwargs:
            return graph.call_function(pure, node.args)
    return None
