"""The boolean tensors of a graph: as indices they are masks, which select by data."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import Node

from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import parameter_of

__all__ = ["BooleanNodes", "indexes"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operators whose result is boolean.
_COMPARISONS = _words(
    """
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ equal not_equal greater
    greater_equal less less_equal isnan isinf isfinite isposinf isneginf isreal isclose isin
    logical_not logical_and logical_or logical_xor signbit bool all any
    """
)
#: Operators whose result is boolean if their first tensor is.
_KEEPING = _words(
    """
    and_ or_ xor invert __and__ __or__ __xor__ __invert__ bitwise_and bitwise_or bitwise_xor
    bitwise_not getitem view reshape _unsafe_view flatten unflatten ravel view_as reshape_as
    transpose swapaxes swapdims t permute movedim moveaxis squeeze unsqueeze expand expand_as
    broadcast_to repeat tile clone contiguous detach alias copy cpu cuda cat concat stack hstack
    vstack split chunk unbind select narrow slice index index_select gather masked_fill tril triu
    flip roll diagonal
    """
)
#: Operators that read or write by indices.
_INDEXING = frozenset(("getitem", "setitem", "index", "index_put", "index_put_"))


def indexes(node: Node) -> bool:
    """Whether a node reads or writes by indices, among which a boolean tensor is a mask."""
    return node.op != "placeholder" and _name(node) in _INDEXING


def _name(node: Node) -> str:
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    return target if isinstance(target, str) else str(getattr(target, "__name__", target))


class BooleanNodes:
    """Tells which nodes of a graph compute boolean tensors.

    Args:
        root: the module that the graph's parameters belong to.
        inputs: the names of the boolean inputs.
    """

    def __init__(self, root: Any, inputs: frozenset[str] = frozenset()) -> None:
        self._root = root
        self._inputs = inputs
        self._known: dict[Node, bool] = {}

    def __contains__(self, node: Node) -> bool:
        for used in node.graph.nodes:  # a node comes after those that it uses
            if used not in self._known:
                self._known[used] = self._decide(used)
            if used is node:
                break
        return self._known.get(node, False)

    def _decide(self, node: Node) -> bool:
        if node.op == "placeholder":
            return str(node.target).lstrip("*") in self._inputs
        if node.op == "get_attr":
            return self._is_boolean_attribute(node)
        if node.op not in ("call_function", "call_method"):
            return False
        name = _name(node)
        if name in ("to", "type", "_to_copy", "full", "zeros", "ones", "empty", "tensor"):
            return torch.bool in (*node.args, *node.kwargs.values())
        if name in _COMPARISONS:
            return node.target is not operator.eq or bool(node.all_input_nodes)
        if name == "where":  # of condition, a and b, the values decide
            return all(isinstance(n, Node) and self._known.get(n, False) for n in node.args[1:3])
        sources = _sources(node)
        return name in _KEEPING and bool(sources) and self._known.get(sources[0], False)

    def _is_boolean_attribute(self, node: Node) -> bool:
        try:
            value = parameter_of(self._root, str(node.target))
        except GradualError:
            return False
        return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _sources(node: Node) -> list[Node]:
    name = _name(node) if node.op in ("call_function", "call_method") else ""
    if name == "where":
        return [n for n in node.args[1:3] if isinstance(n, Node)]
    return node.all_input_nodes[:1] if name in _KEEPING else []
