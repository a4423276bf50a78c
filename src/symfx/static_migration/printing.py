"""Types, nodes and whole migrations as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from symfx.shape_rules.graphs import where_of
from symfx.shape_rules.sizes import Dim, Shape, Size

if TYPE_CHECKING:
    from symfx.static_migration.migrate import Migration

__all__ = ["describe", "input_name", "text_of"]


def input_name(node: Node) -> str:
    """An input as the program names it; torch.fx renames what shadows a builtin."""
    return str(node.target).lstrip("*")


def text_of(domain: Any, value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, Shape):
        return f"[{', '.join(_size_text(domain, size) for size in value)}]"
    if isinstance(value, Size):
        return _size_text(domain, value)
    if type(value) in (tuple, list):
        return f"({', '.join(text_of(domain, part) for part in value)})"
    if value is None or isinstance(value, (int, float, str, bool)):
        return str(value)
    return "Dyn"


def _size_text(domain: Any, size: Dim) -> str:
    return str(domain.term(size)) if isinstance(size, Size) else str(size)


def describe(found: Migration) -> list[str]:
    """A migration as lines: the annotated program, or the conflict."""
    lines: list[str] = []
    if found.verdict == "unknown":
        lines.append(
            f"unknown: z3 did not decide within {found.timeout:g} s whether all conditions can hold"
        )
    if found.conflict is not None:
        lines.append(f"ill-typed: {found.conflict}")
    if found.shapes:
        written = [(_code(node), found.shapes[node]) for node in found.graph.nodes]
        width = min(max(len(code) for code, _ in written), 60)
        lines += [f"{code:<{width}}  # {shape}" for code, shape in written]
    if found.conditions:
        lines.append(f"where {', '.join(found.conditions)}")
    places: dict[str, str] = {}  # the first of each
    for node, name in found.unknown_operators.items():
        places.setdefault(name, where_of(node))
    lines += [f"no shape rule for {name}: typed Dyn, at {places[name]}" for name in sorted(places)]
    return lines


def _code(node: Node) -> str:
    if node.op == "placeholder":
        return (
            f"input {node.name}"
            if node.name == input_name(node)
            else (f"input {input_name(node)} as {node.name}")
        )
    if node.op == "get_attr":
        return f"{node.name} = self.{node.target}"
    args = [_argument(a) for a in node.args]
    args += [f"{name}={_argument(value)}" for name, value in node.kwargs.items()]
    if node.op == "output":
        return f"return {', '.join(args)}"
    if node.op == "call_method":
        return f"{node.name} = {args[0]}.{node.target}({', '.join(args[1:])})"
    target: Any = node.target
    called = (
        f"self.{target}" if node.op == "call_module" else getattr(target, "__name__", str(target))
    )
    return f"{node.name} = {called}({', '.join(args)})"


def _argument(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        inner = ", ".join(map(_argument, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner})"
    return str(value)
