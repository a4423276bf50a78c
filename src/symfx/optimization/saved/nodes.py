"""The nodes of a saved model as data: the functions and paths that they name, their arguments.

torch.fx writes a graph out as Python source: targets, keywords and arguments become parts of it,
most of them without escaping. `why_not` says which of them are safe there, both when a file is
written and when it is read.
"""

from __future__ import annotations

import builtins
import inspect
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.errors import OptimizationError
from symfx.optimization.graphs.effect_tables import OPERATORS_WRITE, words
from symfx.optimization.graphs.effects import effect_of
from symfx.optimization.runtime.graph_functions import GRAPH_FUNCTIONS
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.untrusted import Item, is_identifier, shown

__all__ = ["OPS", "decode", "encode", "function_named", "is_place", "name_of", "why_not"]

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
#: torch.fx drops each line of its source that contains this text, which is its own mark.
_MARK = "# COUNTER:"
#: The depth to which arguments may be nested: Python's parser stops at a hundred parentheses.
_DEPTH = 20
_CONSTANTS: dict[str, dict[str, Any]] = {
    kind: {
        name: value
        for name, value in vars(torch).items()
        if isinstance(value, cls) and str(value) == f"torch.{name}"
    }
    for kind, cls in {
        "dtype": torch.dtype,
        "memory_format": torch.memory_format,
        "layout": torch.layout,
    }.items()
}
_EMPTY_MODULE = nn.Module()


# -- names -----------------------------------------------------------------------------------


def is_place(path: str) -> bool:
    """Whether a module or a tensor of a saved model may have this dotted path.

    torch.fx writes each part of the path as ``.part``, or, where it is no identifier, as
    ``getattr(..., "part")`` without escaping it.
    """
    parts = path.split(".")
    return len(parts) <= 50 and all(map(_is_part, parts))


def _is_part(part: str) -> bool:
    if hasattr(_EMPTY_MODULE, part):
        return False  # a member of every module, such as `forward`
    if part.isidentifier():
        return is_identifier(part)
    return 0 < len(part) <= 200 and part.isprintable() and not set(part) & set('"\\#')


def _is_parameter(target: str) -> bool:
    name = re.sub(r"\*{1,2}", "", target, count=1) if target.startswith("*") else target
    return is_identifier(name) and name != "self"


def why_not(node: fx.Node, modules: dict[str, nn.Module]) -> str | None:
    """The reason why a file cannot contain this node; None if it can.

    Args:
        node: the node. It may be checked before torch.fx writes source of its graph.
        modules: the graph's modules by name.
    """
    if not all(map(is_identifier, node.kwargs)):
        return f"{shown(next(k for k in node.kwargs if not is_identifier(k)))} is no keyword"
    if node.op == "placeholder":
        if not _is_parameter(str(node.target)):
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


# -- arguments -------------------------------------------------------------------------------


def encode(value: Any, where: str) -> Any:
    """An argument as JSON.

    Args:
        value: the argument.
        where: the name of the node, for the message.

    Raises:
        OptimizationError: it is of a kind that cannot be saved.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, torch.Size) or (
        isinstance(value, tuple) and not hasattr(value, "_fields")
    ):
        return {"tuple": [encode(item, where) for item in value]}
    if isinstance(value, list):
        return {"list": [encode(item, where) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[encode(key, where), encode(item, where)] for key, item in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(v, where) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, named in _CONSTANTS.items():
        name = str(value).removeprefix("torch.")
        if named.get(name) is value:
            return {kind: name}
    raise OptimizationError(
        f"{where} has a {type(value).__name__} in it, which cannot be saved as data"
    )


def decode(item: Item, known: Mapping[str, fx.Node], depth: int = 0) -> Any:
    """The argument that `encode` wrote as JSON.

    Args:
        item: the JSON.
        known: the nodes before this one, by name.
        depth: the number of lists around it.
    """
    value = item.value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if _MARK in value:
            raise item.refusal(f"no text in a graph may contain {_MARK!r}")
        return item.text(10_000)
    if depth > _DEPTH:
        raise item.refusal(f"the arguments of a node may be nested {_DEPTH} deep")
    kind, inner = item.single()
    if kind == "node":
        return inner.choice(known, "node before this one that is called")
    if kind == "float":
        return _float(inner)
    if kind in ("tuple", "list"):
        made = [decode(each, known, depth + 1) for each in inner.items()]
        return tuple(made) if kind == "tuple" else made
    if kind == "dict":
        pairs = [pair.items(exactly=2) for pair in inner.items()]
        return {_key(key): decode(each, known, depth + 1) for key, each in pairs}
    if kind == "slice":
        return slice(*(decode(each, known, depth + 1) for each in inner.items(exactly=3)))
    if kind == "ellipsis":
        return Ellipsis
    if kind == "device":
        with item.source.guarding("there is no such device", item.path):
            return torch.device(inner.text(50))
    if kind not in _CONSTANTS:
        raise item.refusal(f"there is no kind of value called {shown(kind)}")
    return inner.choice(_CONSTANTS[kind], kind)


def _float(item: Item) -> float:
    try:
        return float.fromhex(item.text(50))
    except (ValueError, OverflowError):
        raise item.refusal(f"{shown(item.value)} is no float") from None


def _key(item: Item) -> Any:
    key = decode(item, {}, _DEPTH - 1)  # without nodes, which torch.fx does not find in keys
    try:
        hash(key)
    except TypeError:
        raise item.refusal(f"{shown(item.value)} cannot be a key") from None
    return key
