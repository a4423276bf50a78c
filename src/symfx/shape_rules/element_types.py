"""The dtypes of the values of a graph, as far as its operators and inputs tell them.

Some shapes depend on dtypes: a boolean tensor among indices is a mask, which selects by data;
``x.view(torch.int16)`` has two elements for each of a float32; class indices as targets of a loss
have another shape than probabilities.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import parameter_of
from symfx.shape_rules.promotion import Call, Element, Known
from symfx.shape_rules.result_dtypes import IN_PLACE, result_dtype
from symfx.shape_rules.sizes import Shape

__all__ = ["AUTOCAST", "SHAPED_BY_DTYPE", "ElementTypes", "is_in_place", "operator_of", "typed"]

#: Layers without weights that keep the dtype of their input, if it is a float.
_KEEPING_LAYERS = (nn.ReLU, nn.ReLU6, nn.Flatten, nn.Unflatten, nn.Identity)
#: Layers with several results.
_SEVERAL_RESULTS = (nn.RNNBase, nn.LSTMCell, nn.MultiheadAttention)
#: Operators whose results have other shapes for other dtypes of their arguments.
SHAPED_BY_DTYPE = frozenset(
    [
        "getitem",
        "setitem",
        "index",
        "index_put",
        "view",
        "cross_entropy",
        "CrossEntropyLoss",
        "nll_loss",
        "NLLLoss",
    ]
)


def operator_of(node: Node) -> str:
    """The name of the operator that a node calls, without namespace: ``add`` of ``x.add_(y)``."""
    target: Any = node.target
    if isinstance(target, torch._ops.OpOverload):
        target = target.overloadpacket
    name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
    of_python = getattr(target, "__module__", "") == "_operator"  # `or_` is not in place
    in_place = name.endswith("_") and not name.endswith("__") and not of_python
    return name[:-1] if in_place else name


def is_in_place(node: Node) -> bool:
    """Whether a node calls an operator that changes its first argument."""
    target: Any = node.target
    name = target if isinstance(target, str) else str(getattr(target, "__name__", target))
    called = node.op in ("call_function", "call_method")
    return called and (operator_of(node) != name or name in IN_PLACE)


def typed(value: Any, dtype: Known) -> Any:
    """A value of a graph with dtypes on its shapes."""
    if isinstance(value, Shape):
        return value.of(dtype) if isinstance(dtype, torch.dtype) else value
    if isinstance(value, dict) and isinstance(dtype, dict):
        return {key: typed(part, dtype.get(key)) for key, part in value.items()}
    if type(value) in (tuple, list):
        parts = dtype if isinstance(dtype, tuple) else (dtype,) * len(value)
        if len(parts) == len(value):
            return tuple(map(typed, value, parts))
    return value


#: Attributes of tensors that are numbers, tuples of numbers, or no numbers.
_ATTRIBUTES: dict[Any, type] = {"shape": int, "ndim": int, "device": torch.device}
#: The key in the meta of a node that runs within ``torch.autocast``.
AUTOCAST = "symfx_autocast"
#: Operators whose result has a dtype of its own also within ``torch.autocast``.
_CONVERSIONS = frozenset(
    (
        *("float", "half", "bfloat16", "double", "long", "int", "bool", "to", "type"),
        *("size", "dim", "numel", "len", "sym_size", "ndimension"),
    )
)


class ElementTypes:
    """The dtypes of the values of the nodes of a graph.

    Args:
        root: the module that the graph's parameters and layers belong to.
        inputs: the dtypes of the inputs, by name.
        rank_of: the rank of a node's value, if it is known.
    """

    def __init__(
        self,
        root: Any,
        inputs: Mapping[str, torch.dtype] | None = None,
        rank_of: Callable[[Node], int | None] = lambda node: None,
    ) -> None:
        self._root = root
        self._inputs = inputs or {}
        self._rank_of = rank_of
        self._known: dict[Node, Known] = {}

    def of(self, node: Node) -> Known:
        """The dtype of a node's value; a tuple for several results; ``None`` if it is unknown."""
        for used in node.graph.nodes:  # a node comes after those that it uses
            if used not in self._known:
                self._known[used] = self._decide(used)
            if used is node:
                break
        return self._known.get(node)

    def call(self, node: Node) -> Call:
        """The call that a node makes, with the dtypes of its arguments."""
        args, kwargs = arguments_of(node, self._element)
        return Call(operator_of(node), node.target, args, kwargs, is_in_place(node))

    def _element(self, used: Node) -> Any:
        if used.target is getattr and used.args[1] == "dtype":
            dtype = self._known.get(used.args[0])  # type: ignore[arg-type]
            return dtype if isinstance(dtype, torch.dtype) else Element(None)
        known = self._known.get(used)
        if isinstance(known, tuple):
            return tuple(map(Element, known))
        return Element(known, self._rank_of(used))

    def _decide(self, node: Node) -> Known:
        traced = _traced(node.meta.get("val"))
        if traced is not None:
            return traced
        if node.op == "placeholder":
            return self._inputs.get(str(node.target).lstrip("*"))
        if node.op == "get_attr":
            try:
                value = parameter_of(self._root, str(node.target))
            except GradualError:
                return None
            return value.dtype if isinstance(value, torch.Tensor) else None
        if node.op == "call_module":
            return None if AUTOCAST in node.meta else self._layer(node)
        if node.op not in ("call_function", "call_method"):
            return None
        if AUTOCAST in node.meta and operator_of(node) not in _CONVERSIONS:
            return None  # it may compute in another dtype than that of its arguments
        if node.target is operator.getitem:
            known, place = self._known.get(node.args[0]), node.args[1]  # type: ignore[arg-type]
            if isinstance(known, tuple):
                inside = isinstance(place, int) and -len(known) <= place < len(known)
                return known[place] if inside else None  # type: ignore[index]
        if node.target is getattr and node.args[1] in ("T", "mT", "H", "mH", "data", "grad"):
            return self._known.get(node.args[0])  # type: ignore[arg-type]
        if node.target is getattr and node.args[1] in _ATTRIBUTES:
            return _ATTRIBUTES[node.args[1]]
        if operator_of(node) in ("size", "dim", "numel", "len", "sym_size", "ndimension"):
            return int
        return result_dtype(self.call(node))

    def _layer(self, node: Node) -> Known:
        module = self._root.get_submodule(str(node.target))
        given = self._known.get(node.args[0]) if node.args else None  # type: ignore[arg-type]
        if isinstance(module, _KEEPING_LAYERS):
            return given
        weights = {p.dtype for p in module.parameters() if p.is_floating_point()}
        if weights:
            of_one = not isinstance(module, _SEVERAL_RESULTS)
            return weights.pop() if len(weights) == 1 and of_one else None
        is_float = isinstance(given, torch.dtype) and given.is_floating_point
        return given if is_float and not getattr(module, "return_indices", False) else None


def _traced(value: Any) -> Known:
    """The dtype of a value of a trace."""
    if isinstance(value, torch.Tensor):
        return value.dtype
    if isinstance(value, (tuple, list)) and value:
        return tuple(map(_traced, value))
    if isinstance(value, (torch.SymInt, torch.SymFloat)):
        return int if isinstance(value, torch.SymInt) else float
    return None
