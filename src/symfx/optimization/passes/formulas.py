"""Formulas that models write out: products with a constant, GELU, the sizes of a copy.

Each becomes the function of torch that computes the same, which the passes behind know.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import drop_dead, fresh_name, replace
from symfx.optimization.report import Report

__all__ = ["is_call", "name_formulas", "terms"]

_ADDS, _MULTIPLIES = (operator.add, torch.add), (operator.mul, torch.mul)
_VIEWS = ("view", "reshape")


def name_formulas(module: fx.GraphModule, report: Report) -> None:
    """Replace the formulas of a graph that a function of torch computes.

    Args:
        module: the graph, which is changed.
        report: gets the formulas that are replaced.
    """
    _ask_the_original(module)
    for rewrite in (_flat_product, _gelu):
        reader = Reader(module)
        for node in list(module.graph.nodes):
            rewrite(reader, node, report)
    drop_dead(module)


def is_call(node: Any, *targets: Any) -> bool:
    """Whether a value is a call of one of these functions or, given as a text, methods."""
    return isinstance(node, fx.Node) and (
        (node.op == "call_function" and node.target in targets)
        or (node.op == "call_method" and node.target in targets)
    )


def terms(node: Any, *targets: Any) -> tuple[Any, Any] | None:
    """The two arguments of a call of one of these functions; None for anything else."""
    if not is_call(node, *targets) or len(node.args) != 2 or node.kwargs:
        return None
    one, two = node.args
    return one, two


def _ask_the_original(module: fx.GraphModule) -> None:
    """Read the sizes of a copy from what it is a copy of; the copy may then have no other use."""
    for node in module.graph.nodes:
        if (is_call(node, getattr) and node.args[1] == "shape") or is_call(node, "size"):
            source = _original(node.args[0])
            if source is not node.args[0]:
                node.args = (source, *node.args[1:])


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _flat_product(reader: Reader, node: fx.Node, report: Report) -> None:
    """A product of all rows of a tensor with a constant, in two dimensions, is a linear layer.

    `transformers.pytorch_utils.Conv1D` computes one so.
    """
    layer = reader.layer(node)
    if layer is None or not is_call(node, torch.addmm, torch.mm):
        return
    flat, user = layer.source, _only_user(node)
    if user is None or not is_call(flat, *_VIEWS) or not is_call(user, *_VIEWS):
        return
    x = flat.args[0]
    if not isinstance(x, fx.Node) or not all(map(reader.aliases.is_quiet, (x, flat, node, user))):
        return
    wide, deep = layer.weight.shape
    if flat.kwargs or len(flat.args) != 3 or flat.args[1] != -1:
        return
    if flat.args[2] != deep and not _is_last_size(flat.args[2], x):
        return
    if user.kwargs or len(user.args) != 2 or not _is_shape_of(user.args[1], x, wide):
        return
    module = reader.module
    name = fresh_name(module, f"{node.name}_weight")
    module.register_buffer(name, layer.weight.detach().contiguous())
    bias = node.args[0] if is_call(node, torch.addmm) else None
    with module.graph.inserting_before(user):
        weight = module.graph.get_attr(name)
        new = module.graph.call_function(F.linear, (x, weight, bias))
    report.rewrote("a product in two dimensions as a linear layer", (flat, node, user), new)
    replace(user, new)


def _is_last_size(value: Any, x: fx.Node) -> bool:
    if is_call(value, "size") and not value.kwargs and len(value.args) == 2:
        return _original(value.args[0]) is _original(x) and value.args[1] == -1
    pair = terms(value, operator.getitem)
    return pair is not None and pair[1] == -1 and _is_shape(pair[0], x)


def _is_shape(value: Any, x: fx.Node) -> bool:
    asks = is_call(value, "size") and len(value.args) == 1 and not value.kwargs
    asks = asks or (is_call(value, getattr) and value.args[1] == "shape")
    return asks and _original(value.args[0]) is _original(x)


def _original(x: Any) -> Any:
    """The value that a value is a copy of, through any number of copies."""
    while is_call(x, "contiguous") and not x.kwargs:
        x = x.args[0]
    return x


def _is_shape_of(value: Any, x: fx.Node, last: int) -> bool:
    """Whether a value is the shape of ``x`` with another last size."""
    pair = terms(value, *_ADDS)
    if pair is None or pair[1] not in ((last,), [last]):
        return False
    leading = terms(pair[0], operator.getitem)
    return leading is not None and leading[1] == slice(None, -1, None) and _is_shape(leading[0], x)


def _gelu(reader: Reader, node: fx.Node, report: Report) -> None:
    """The approximation of GELU by tanh: 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))."""
    product = terms(node, *_MULTIPLIES)
    if product is None:
        return
    for half, rest in (product, product[::-1]):
        x = _times(half, 0.5)
        bent = _plus(rest, 1.0)
        if x is None or bent is None or not is_call(bent, torch.tanh, "tanh"):
            continue
        inner = _times(bent.args[0], math.sqrt(2 / math.pi))
        total = terms(inner, *_ADDS)
        if total is None or x not in total:
            continue
        cube = _times(total[0] if total[1] is x else total[1], 0.044715)
        power = terms(cube, torch.pow, "pow", operator.pow)
        if power is None or power[0] is not x or power[1] != 3:
            continue
        if not reader.is_float(x) or not reader.aliases.is_quiet(x):
            continue
        with node.graph.inserting_before(node):
            new = node.graph.call_function(F.gelu, (x,), {"approximate": "tanh"})
        report.rewrote("a formula as gelu", (node,), new)
        replace(node, new)
        return


def _times(value: Any, factor: float) -> fx.Node | None:
    """The other factor of a product with this number."""
    return _other(terms(value, *_MULTIPLIES), factor)


def _plus(value: Any, term: float) -> fx.Node | None:
    """The other term of a sum with this number."""
    return _other(terms(value, *_ADDS), term)


def _other(pair: tuple[Any, Any] | None, number: float) -> fx.Node | None:
    if pair is None:
        return None
    for one, two in (pair, pair[::-1]):
        same = isinstance(one, int | float) and math.isclose(one, number, rel_tol=1e-6)
        if same and isinstance(two, fx.Node):
            return two
    return None
