"""In-place operations become their plain forms, where no other node can see the difference."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from symfx.optimization.graphs.effects import effect_of, read_argument
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import install, succeed
from symfx.optimization.report import Report
from symfx.optimization.runtime.graph_functions import (
    settled_add,
    settled_mul,
    settled_sub,
    settled_truediv,
)
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["settle_writes"]


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
    """Turn in-place activations and arithmetic into their plain forms, where that is exact.

    That is exact where the written value is the new result of a node and has no view; nodes that
    use it later are given the plain form's result. Other writes stay, and no other pass rewrites
    a value that shares memory with them.
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
            settled.update(family)  # one write to a memory in each round
            again = True
    for node in module.graph.nodes:
        if effect_of(node, reader.modules) is Effect.WRITES:
            report.leave(node, "it writes to memory that other nodes or the caller may read")


def _is_private(
    reader: Reader, order: dict[fx.Node, int], written: fx.Node, writer: fx.Node
) -> bool:
    """Whether this is a new result all of whose views are made from the write's result."""
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
    """A new node behind this one that computes the same and writes nothing; None if unknown."""
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
