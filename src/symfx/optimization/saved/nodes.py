"""The nodes of a saved model as data: the functions and paths that they name.

torch.fx writes a graph out as Python source: targets, keywords and arguments become parts of it,
most of them without escaping. `why_not` says which of them are safe there, both when a file is
written and when it is read.
"""

from __future__ import annotations

import builtins
import inspect
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.errors import OptimizationError
from symfx.graph_data.names import is_parameter, is_place
from symfx.optimization.graphs.effect_tables import OPERATORS_WRITE, words
from symfx.optimization.graphs.effects import effect_of
from symfx.optimization.runtime.graph_functions import GRAPH_FUNCTIONS
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.untrusted import Item, is_identifier, shown

__all__ = ["OPS", "function_named", "name_of", "why_not"]

OPS = {op: op for op in words("placeholder get_attr call_function call_method call_module output")}
"""The kinds of nodes."""
_HOMES: dict[str, Any] = {
    "torch": torch,
    "torch.nn.functional": F,
    "torch._C._nn": torch._C._nn,
    "operator": operator,
}
#: The attributes of a tensor that `getattr` may read.
_ATTRIBUTES = frozenset({"shape", "dtype", "device", "ndim", "T", "mT", "requires_grad", "layout"})
#: Operators that read files, and operators that do not check their arguments, such as indices or
#: packed weights that another operator made; many of torch's private operators are such.
_REFUSED = re.compile(
    r"_(?!assert$).*|from_file|set_|(sparse|quantized|fbgemm|mkldnn|miopen|cudnn)_.*"
)


# -- names -----------------------------------------------------------------------------------


def why_not(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """The reason why a file cannot contain this node; None if it can.

    Args:
        node: the node. It may be checked before torch.fx writes source of its graph.
        modules: the graph's modules by name.
    """
    if not all(map(is_identifier, node.kwargs)):
        return f"{shown(next(k for k in node.kwargs if not is_identifier(k)))} is no keyword"
    if node.op == "placeholder":
        if not is_parameter(str(node.target)):
            return f"{shown(node.target)} cannot be the name of a parameter"
        return _unless(len(node.args) <= 1 and not node.kwargs and not node.all_input_nodes)
    if node.op == "get_attr":
        return _unless_place(node) or _unless(not node.args and not node.kwargs)
    if node.op == "output":
        return _unless(len(node.args) == 1 and not node.kwargs)
    if node.op == "call_module":
        path = str(node.target)
        return _unless_place(node) or (
            None if path in modules else f"there is no module at {shown(path)}"
        )
    return _why_no_call(node, modules)


def _unless(fits: bool) -> str | None:
    return None if fits else "these arguments do not fit a node of this kind"


def _unless_place(node: fx.Node) -> str | None:
    path = str(node.target)
    return None if is_place(path) else f"{shown(path)} cannot be the path of a part of a model"


def _why_no_call(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    name = str(getattr(node.target, "__name__", node.target))
    on_value = bool(node.args) and isinstance(node.args[0], fx.Node)
    if node.target is getattr:
        asked = node.args[1] if len(node.args) == 2 else None
        if not (on_value and isinstance(asked, str) and asked in _ATTRIBUTES and not node.kwargs):
            return "getattr is only for a value and the name of one of its attributes"
        return None
    refused = not is_identifier(name) or _REFUSED.fullmatch(name)
    if refused or effect_of(node, modules) is Effect.UNKNOWN:
        return f"it calls {shown(name)}, which a file cannot name"
    if node.op == "call_method":
        return _unless(on_value)
    if getattr(node.target, "__module__", "") == "_operator":
        # These become `a + b` or `a[b] = c`.
        try:
            inspect.signature(node.target).bind(*node.args)  # type: ignore[arg-type]
        except TypeError:
            return _unless(False)
        return _unless(not node.kwargs and (on_value or name not in OPERATORS_WRITE))
    return None


def name_of(node: fx.Node) -> str:
    """The name of a node's target in a file."""
    if node.op != "call_function":
        return str(node.target)
    name = getattr(node.target, "__name__", "")
    for home, place in _HOMES.items():
        if vars(place).get(name) is node.target:
            return f"{home}.{name}"
    for own, function in GRAPH_FUNCTIONS.items():
        if function is node.target:
            return f"symfx.{own}"
    if node.target is builtins.getattr:
        return "getattr"
    # The name of some functions of torch.nn.functional differs from their attribute there.
    for alias, function in vars(F).items():
        if function is node.target:
            return f"torch.nn.functional.{alias}"
    raise OptimizationError(f"{node.name} calls {name}, which a file cannot name")


def function_named(item: Item) -> Callable[..., Any]:
    """The function whose name `name_of` returned."""
    name = item.text()
    home, _, last = name.rpartition(".")
    found: Any = None
    if name == "getattr":
        found = getattr
    elif home == "symfx":
        found = GRAPH_FUNCTIONS.get(last)
    elif home in _HOMES and not _REFUSED.fullmatch(last):
        # getattr would make torch import some of its parts.
        found = vars(_HOMES[home]).get(last)
    if not callable(found) or inspect.isclass(found):
        raise item.refusal(f"there is no function {shown(name)}", fix="use the torch that wrote it")
    function: Callable[..., Any] = found
    return function
