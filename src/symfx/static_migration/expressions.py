"""The expression of the user's program that an argument of a node comes from."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterator, Sequence
from typing import Any

from torch.fx import Node

from symfx.static_migration.printing import input_name
from symfx.user_code import statement_of_trace

__all__ = ["expression_of"]

_SIGNS: dict[Any, type[ast.operator]] = {
    operator.add: ast.Add,
    operator.iadd: ast.Add,
    operator.sub: ast.Sub,
    operator.isub: ast.Sub,
    operator.mul: ast.Mult,
    operator.imul: ast.Mult,
    operator.truediv: ast.Div,
    operator.itruediv: ast.Div,
    operator.matmul: ast.MatMult,
}
#: Expressions to which a call of a method can be appended.
_PRIMARY = (ast.Name, ast.Attribute, ast.Subscript, ast.Call)


def expression_of(used: Node, node: Node) -> str:
    """The expression that the program writes for an argument; empty if it cannot be found.

    Args:
        used: the argument.
        node: the node that takes it.
    """
    statement = statement_of_trace(node.stack_trace or "")
    path = _path_of(used, node.args)
    keyword = next((name for name, value in node.kwargs.items() if value is used), None)
    found: set[str] = set()
    for each in ast.walk(statement) if statement is not None else ():
        for argument in _arguments(each, node, path, keyword):
            text = ast.unparse(argument)
            found.add(text if isinstance(argument, _PRIMARY) else f"({text})")
    if len(found) == 1:
        return found.pop()
    return input_name(used) if used.op == "placeholder" else ""


def _path_of(used: Node, args: Sequence[Any]) -> tuple[int, ...] | None:
    """The position of an argument: of the argument itself, or of the list and the item."""
    for i, value in enumerate(args):
        if value is used:
            return (i,)
        if isinstance(value, (tuple, list)) and any(part is used for part in value):
            return (i, [part is used for part in value].index(True))
    return None


def _arguments(
    tree: ast.AST, node: Node, path: tuple[int, ...] | None, keyword: str | None
) -> Iterator[ast.expr]:
    """The expression of the argument, if a tree is the call of the node."""
    if isinstance(tree, (ast.BinOp, ast.AugAssign)):
        if node.op == "call_function" and isinstance(tree.op, _SIGNS.get(node.target, ())):
            sides = (
                (tree.left, tree.right)
                if isinstance(tree, ast.BinOp)
                else (tree.target, tree.value)
            )
            if path in ((0,), (1,)):
                yield sides[path[0]]
        return
    if not isinstance(tree, ast.Call) or not _is_call_of(tree, node):
        return
    written: list[ast.expr] = list(tree.args)
    if node.op == "call_method" and isinstance(tree.func, ast.Attribute):
        written.insert(0, tree.func.value)
    for given in tree.keywords:
        if given.arg == keyword and keyword is not None:
            yield given.value
    if path is None or path[0] >= len(written):
        return
    found = written[path[0]]
    if len(path) == 1:
        yield found
    elif isinstance(found, (ast.List, ast.Tuple)) and path[1] < len(found.elts):
        yield found.elts[path[1]]


def _is_call_of(tree: ast.Call, node: Node) -> bool:
    called = tree.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    if node.op == "call_module":
        return name == str(node.target).rpartition(".")[2]
    if node.op == "call_method":
        return name == node.target
    return bool(name) and name == getattr(node.target, "__name__", "")
