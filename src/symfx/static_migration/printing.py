"""Values and nodes as text for people."""

from __future__ import annotations

import inspect
import operator
import re
from types import FunctionType
from typing import Any

import torch
from torch.fx import Node

from symfx.shape_rules.fractions_of_sizes import Fraction
from symfx.shape_rules.program_lines import program_line_of_trace
from symfx.shape_rules.sizes import NO_TENSOR, Dim, Packed, Pieces, Shape, Size
from symfx.static_migration.term_sizes import OpenCondition

__all__ = ["code_of", "input_name", "layer_of", "place_of", "text_of"]


def input_name(node: Node) -> str:
    """The name of an input in the program: torch.fx renames an input that shadows a builtin."""
    return str(node.target).lstrip("*")


def text_of(sizes: Any, value: Any) -> str:
    """A value as text: ``[n, 3]``, ``([n, 3], [n])``, ``{x: [n, 3]}``; an unknown value as Dyn."""
    if isinstance(value, Shape):
        return f"[{', '.join(_size_text(sizes, size) for size in value)}]"
    if isinstance(value, Size):
        return _size_text(sizes, value)
    if type(value) in (tuple, list):
        inner = ", ".join(text_of(sizes, part) for part in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {text_of(sizes, v)}' for key, v in value.items())}}}"
    if value is None or isinstance(value, (int, float, str, bool)):
        return str(value)
    if isinstance(value, Pieces):
        return f"{_size_text(sizes, value.number)} tensors"
    if isinstance(value, Packed):
        return f"PackedSequence of {text_of(sizes, value.shape)}"
    if isinstance(value, OpenCondition):
        return str(value.condition)
    if isinstance(value, Fraction):
        above = _size_text(sizes, value.numerator)
        return f"{above if above.isalnum() else f'({above})'} / {value.denominator}"
    return "no tensor" if value is NO_TENSOR else "Dyn"


def _size_text(sizes: Any, size: Dim) -> str:
    return str(sizes.shown(size)) if isinstance(size, Size) else str(size)


def layer_of(node: Node, root: torch.nn.Module) -> str:
    """The layer that a node calls, as ``net.3 = Linear(80, 10)``; empty for other nodes."""
    if node.op != "call_module":
        return ""
    module = root.get_submodule(str(node.target))
    settings = module.extra_repr() if not module._modules else "..."
    plain = re.sub(r"\b(in|out)_(features|channels)=|, bias=True", "", settings)
    return f"{node.target} = {type(module).__name__}({plain})"


def place_of(node: Node, root: torch.nn.Module) -> str:
    """The user's line that a node comes from; the layer or the code of the node without a line.

    A line of an installed package follows the line that calls the package.
    """
    line = program_line_of_trace(node.stack_trace or "")
    return line or layer_of(node, root) or code_of(node)


def code_of(node: Node) -> str:
    """A node as a line of Python."""
    if node.op == "placeholder":
        return (
            f"input {node.name}"
            if node.name == input_name(node)
            else (f"input {input_name(node)} as {node.name}")
        )
    if node.op == "get_attr":
        return f"{node.name} = self.{node.target}"
    if node.target is operator.getitem and len(node.args) == 2:
        return f"{node.name} = {node.args[0]}[{_index(node.args[1])}]"
    if node.target is getattr and len(node.args) == 2:
        return f"{node.name} = {node.args[0]}.{node.args[1]}"
    args = [_argument(a) for a in node.args]
    defaults = _defaults_of(node)
    args += [
        f"{name}={_argument(value)}"
        for name, value in node.kwargs.items()
        if name not in defaults or value is not defaults[name]
    ]
    if node.op == "output":
        return f"return {', '.join(args)}"
    if node.op == "call_method":
        return f"{node.name} = {args[0]}.{node.target}({', '.join(args[1:])})"
    target: Any = node.target
    called = (
        f"self.{target}" if node.op == "call_module" else getattr(target, "__name__", str(target))
    )
    return f"{node.name} = {called}({', '.join(args)})"


def _defaults_of(node: Node) -> dict[str, Any]:
    """The defaults of the parameters of a function; empty for other nodes, and for builtins."""
    if not isinstance(node.target, FunctionType):
        return {}
    parameters = inspect.signature(node.target).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def _index(value: Any) -> str:
    """An index as Python writes it: ``:, None, 1:``."""
    if isinstance(value, tuple) and value:
        return ", ".join(map(_index, value))
    if not isinstance(value, slice):
        return "..." if value is Ellipsis else _argument(value)
    start, stop, step = (
        "" if part is None else str(part) for part in (value.start, value.stop, value.step)
    )
    return f"{start}:{stop}" + (f":{step}" if step else "")


def _argument(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(_argument, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return str(value)
