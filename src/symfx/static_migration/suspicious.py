"""Broadcasts that are rarely meant: [n, 1] with [n], a result with one size twice.

Such an operator runs, and its result has a row for each pair of samples. An operand that was
stretched on purpose, by ``unsqueeze`` or an index with ``None``, is no reason for a warning, except
in losses.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Graph, Node

from symfx.shape_rules.element_types import operator_of
from symfx.shape_rules.sizes import Dim, Shape
from symfx.shape_rules.table import lookup
from symfx.static_migration.analysis import GraphRun
from symfx.static_migration.printing import place_of, text_of

__all__ = ["broadcast_warnings"]

_LOSSES = (
    *("pointwise_loss", "pointwise_loss_module", "aten_pointwise_loss"),
    *("soft_margin", "soft_margin_module", "aten_soft_margin"),
)
_BROADCASTING = ("arithmetic", "broadcasting", "comparison")
_ELEMENTWISE = ("elementwise", "elementwise_module")
#: Operators that compare two tensors, or weigh one with the other.
_COMPARING = frozenset({"sub", "mul", "eq", "ne"})
#: Operators that put a dimension of size 1 on purpose, or that swap dimensions.
_ON_PURPOSE = frozenset(
    {
        *("unsqueeze", "t", "transpose", "permute", "swapaxes", "mT", "T"),
        *(torch.unsqueeze, torch.transpose, torch.permute, torch.t),
        *(torch.ops.aten.unsqueeze.default, torch.ops.aten.t.default),
        *(torch.ops.aten.transpose.int, torch.ops.aten.permute.default),
    }
)


def broadcast_warnings(graph: Graph, root: torch.nn.Module, result: GraphRun) -> list[str]:
    """A warning for each operator that broadcasts in a way that is rarely meant.

    Args:
        graph: the graph.
        root: the module that its modules and parameters belong to.
        result: the run of the graph.
    """
    return [
        f"{text}, at {place_of(node, root)}"
        for node in graph.nodes
        if node.op.startswith("call_") and (text := _warning(node, root, result))
    ]


def _warning(node: Node, root: torch.nn.Module, result: GraphRun) -> str:
    rule, _ = lookup(node, root)
    made = result.values.get(node)
    operands = [used for used in node.args if isinstance(used, Node)]
    operands += [used for used in node.kwargs.values() if isinstance(used, Node)]
    if rule is not None and rule.name in _LOSSES:
        operands = [_before_expansion(used) for used in operands]
    shapes = [result.values.get(used) for used in operands]
    if rule is None or len(shapes) != 2 or not isinstance(made, Shape):
        return ""
    one, other = shapes
    if not isinstance(one, Shape) or not isinstance(other, Shape):
        return ""
    longer, shorter = (one, other) if len(one) >= len(other) else (other, one)
    stretched = operands[shapes.index(longer)]
    sizes = result.sizes
    pair = f"{text_of(sizes, one)} with {text_of(sizes, other)}"
    if rule.name in _LOSSES:
        if _is_number(one) or _is_number(other) or _same(sizes, one, other):
            return ""
        return f"a loss of {pair} broadcasts; both should have one shape"
    if rule.name not in _BROADCASTING or len(longer) == len(shorter):
        return ""
    if not (
        _is_column(sizes, longer, shorter)
        or _doubles_a_name(sizes, longer, shorter)
        or (operator_of(node) in _COMPARING and _keeps_a_one(sizes, longer, shorter))
    ):
        return ""
    if any(_on_purpose(used, root) for used in operands) or stretched.op == "get_attr":
        return ""
    return (
        f"{pair} broadcasts to {text_of(sizes, made)}, each with each; squeeze the longer, or "
        "unsqueeze it here if this is meant"
    )


def _before_expansion(node: Node) -> Node:
    """The value that torch.nn.functional expanded for a loss, in a trace of operators."""
    if node.target is torch.ops.aten.expand.default and isinstance(node.args[0], Node):
        return node.args[0]
    return node


def _is_number(shape: Shape) -> bool:
    return all(isinstance(size, int) and size == 1 for size in shape)


def _same(sizes: Any, one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(
        sizes.term(a) is sizes.term(b) for a, b in zip(one, other, strict=True)
    )


def _is_column(sizes: Any, longer: Shape, shorter: Shape) -> bool:
    """Whether one shape is the other with a dimension of size 1 behind: [n, 1] and [n]."""
    if len(longer) != len(shorter) + 1 or _is_number(shorter):
        return False
    return _is_one(longer[-1]) and _same(sizes, Shape(longer[:-1]), shorter)


def _doubles_a_name(sizes: Any, longer: Shape, shorter: Shape) -> bool:
    """Whether a named size of the shorter meets a 1, and the longer has the name elsewhere."""
    aligned = longer[len(longer) - len(shorter) :]
    for mine, own in zip(shorter, aligned, strict=True):
        name = sizes.term(mine)
        if _is_one(own) and name.value is None and any(sizes.term(o) is name for o in longer):
            return True
    return False


def _keeps_a_one(sizes: Any, longer: Shape, shorter: Shape) -> bool:
    """Whether one shape is the other with a dimension of size 1 inside: [4, 1, 8] and [4, 8]."""
    ones = [i for i, size in enumerate(longer) if _is_one(size)]
    if len(longer) != len(shorter) + 1 or len(ones) != 1 or ones[0] == 0:
        return False
    return _same(sizes, Shape(size for size in longer if not _is_one(size)), shorter)


def _is_one(size: Dim) -> bool:
    return isinstance(size, int) and size == 1


def _on_purpose(node: Node, root: torch.nn.Module) -> bool:
    """Whether a value got its dimensions of size 1 on purpose."""
    while node.op.startswith("call_"):
        target: Any = node.args[1] if node.target is getattr else node.target
        if target in _ON_PURPOSE:
            return True
        if node.target is operator.getitem:
            index = node.args[1]
            return None in index if isinstance(index, tuple) else index is None
        rule, _ = lookup(node, root)
        given = node.all_input_nodes
        if rule is None or rule.name not in (*_ELEMENTWISE, *_BROADCASTING) or len(given) != 1:
            return False
        node = given[0]
    return False
