"""Fixes for a question that only data decides, written in the variables of the user's program.

A symbol such as u0 has no name in the program. A fix therefore names the part of the user's own
expression that reads the data, and repeats the rest of the expression.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from types import FrameType
from typing import TypeGuard

import torch

__all__ = ["fix_for_condition", "fix_for_number"]

#: Methods whose result is a number that data decides.
_READS = ("item", "numel", "size", "tolist")
#: The comparison that holds where another does not.
_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
_NUMBERS = (torch.SymInt, torch.SymFloat, torch.SymBool)
_IN_GENERAL = (
    "compute with tensors (torch.where, or torch.cond for a branch), or take the number out of its "
    "tensor by .item() into a variable, and state by torch._check before this line which values "
    "that variable has"
)


def fix_for_condition(expression: str | None, frame: FrameType | None) -> str:
    """What to write instead of a branch on an expression whose truth only data decides.

    Args:
        expression: the user's expression.
        frame: the frame that evaluates it, whose variables are not to be hidden.

    Example:
        >>> print(fix_for_condition("x.argmax().item() > 3", None))
        write n = x.argmax().item() before this line and use n in it; then torch._check(n > 3)...
    """
    tree = _parsed(expression)
    if tree is None:
        return _IN_GENERAL
    while (isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)) or _converts(tree):
        tree = tree.operand if isinstance(tree, ast.UnaryOp) else tree.args[0]
    reads = list(_reads(tree))
    if not reads and _is_number(tree, frame):
        condition = ast.unparse(tree)
        return (
            f"if {condition} always holds, write torch._check({condition}) before this line, and "
            f"torch._check({_opposite(tree)}) if it never does; if both outcomes are correct, ask "
            f"symfx.symbolic_shapes.guard_or_false({condition})"
        )
    if not reads:
        tree = _Elementwise().visit(ast.parse(ast.unparse(tree), mode="eval").body)
        condition, ok = ast.unparse(tree), _free("ok", frame)
        read = _item(tree)
        return (
            f"choose by torch.where({condition}, ..., ...), or branch by torch.cond({condition}, "
            f"..., ..., ...); if {condition} always holds, write {ok} = {read} and "
            f"torch._check({ok}) before this line, and branch on {ok}"
        )
    if len({ast.unparse(read) for read in reads}) > 1:
        return _IN_GENERAL
    name = _free("n", frame)
    # The name stands for every read of the same number.
    condition_tree = _Replaced(reads, name).visit(ast.parse(ast.unparse(tree), mode="eval").body)
    condition = ast.unparse(condition_tree)
    if isinstance(condition_tree, ast.Name):
        condition = f"{name} != 0"
        opposite = f"{name} == 0"
    else:
        opposite = _opposite(condition_tree)
    return (
        f"write {name} = {ast.unparse(reads[0])} before this line and use {name} in it; then "
        f"torch._check({condition}) says that the condition always holds, "
        f"torch._check({opposite}) that it never does; if both outcomes are correct, ask "
        f"symfx.symbolic_shapes.guard_or_false({condition})"
    )


def fix_for_number(expression: str | None, value: int | None, frame: FrameType | None) -> str:
    """What to write where Python needs a number that only data decides.

    Args:
        expression: the user's expression, such as ``int(x.max())``.
        value: a value that the number may have; None if it is no integer.
        frame: the frame that evaluates the expression.

    Example:
        >>> print(fix_for_number("int(x.max())", None, None))
        write x.max().item() instead of int(x.max()): it stays symbolic
    """
    tree = _parsed(expression)
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name) or not tree.args:
        return _IN_GENERAL
    function, inner = tree.func.id, tree.args[-1]
    if len(tree.args) > 1 or function not in ("int", "float", "range", "len"):
        return _IN_GENERAL
    while function in ("range", "float") and _converts(inner):
        inner = inner.args[0]
    whole, text, name = ast.unparse(tree), ast.unparse(inner), _free("n", frame)
    if function == "len":
        return f"write {text}.shape[0] instead of {whole}: it stays symbolic"
    reads = list(_reads(inner))
    if function == "int" and reads and reads[0] is not inner:
        return f"write torch.sym_int({text}) instead of {whole}: it stays symbolic"
    number = isinstance(inner, ast.Name) and not _is_tensor(inner.id, frame)
    read = text if reads or number else _item(inner)
    if len(reads) > 1 or (reads and reads[0] is not inner):
        return _IN_GENERAL
    same = "if it is always the same number, say so before this line: " + (
        f"torch._check({text} == {value})"
        if number
        else f"{name} = {read}, torch._check({name} == {value}), and use {name}"
    )
    if function == "range":
        return f"{same}; otherwise compute with tensors instead of a loop"
    advice = f"write {read} instead of {whole}: it stays symbolic"
    return advice if value is None else f"{advice}; {same}"


def _item(tree: ast.expr) -> str:
    """The call of ``item`` on an expression of a tensor."""
    text = ast.unparse(tree)
    simple = isinstance(tree, (ast.Name, ast.Call, ast.Attribute, ast.Subscript))
    return f"{text}.item()" if simple else f"({text}).item()"


def _is_tensor(name: str, frame: FrameType | None) -> bool:
    """Whether a variable of a frame may be a tensor, so that ``item`` reads its number."""
    values = {} if frame is None else {**frame.f_globals, **frame.f_locals}
    return name not in values or isinstance(values[name], torch.Tensor)


def _parsed(expression: str | None) -> ast.expr | None:
    if expression is None:
        return None
    try:
        return ast.parse(expression, mode="eval").body
    except SyntaxError:
        return None


def _reads(tree: ast.AST) -> Iterator[ast.expr]:
    """The parts of an expression that read a number which data decides, outermost first."""
    match tree:
        case ast.Call(func=ast.Attribute(attr=method)) if method in _READS:
            yield tree
            return
        case ast.Call(func=ast.Name(id="len")):
            yield tree
            return
        case ast.Subscript(value=ast.Attribute(attr="shape", value=base)):
            # The size of a variable has a name already: that of the variable.
            if any(isinstance(part, ast.Call) for part in ast.walk(base)):
                yield tree
                return
    for child in ast.iter_child_nodes(tree):
        yield from _reads(child)


def _converts(tree: ast.AST) -> TypeGuard[ast.Call]:
    """Whether an expression is ``int(...)``, ``float(...)`` or ``bool(...)`` of one thing."""
    return (
        isinstance(tree, ast.Call)
        and isinstance(tree.func, ast.Name)
        and tree.func.id in ("int", "float", "bool")
        and len(tree.args) == 1
        and not tree.keywords
    )


class _Elementwise(ast.NodeTransformer):
    """An expression of tensors without ``and``, ``or`` and chains of comparisons.

    These ask for the truth of a tensor each.
    """

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """The same condition by torch's function."""
        name = "logical_and" if isinstance(node.op, ast.And) else "logical_or"
        return _joined(name, [self.visit(value) for value in node.values])

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """The comparisons of a chain, joined."""
        sides = [node.left, *node.comparators]
        parts: list[ast.expr] = [
            ast.Compare(sides[i], [op], [sides[i + 1]]) for i, op in enumerate(node.ops)
        ]
        return _joined("logical_and", parts)


def _joined(function: str, parts: list[ast.expr]) -> ast.expr:
    whole = parts[0]
    for part in parts[1:]:
        name = ast.Attribute(ast.Name("torch", ast.Load()), function, ast.Load())
        whole = ast.Call(name, [whole, part], [])
    return whole


def _is_number(tree: ast.AST, frame: FrameType | None) -> bool:
    """Whether an expression computes with Python's numbers, which variables of the frame hold."""
    if frame is None:
        return False
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    values = [frame.f_locals.get(name, frame.f_globals.get(name)) for name in names]
    return any(isinstance(v, _NUMBERS) for v in values) and not any(
        isinstance(v, torch.Tensor) for v in values
    )


class _Replaced(ast.NodeTransformer):
    """An expression with a name for each of its reads."""

    def __init__(self, reads: Collection[ast.expr], name: str) -> None:
        self.texts = {ast.unparse(read) for read in reads}
        self.name = name

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace a read; visit the parts of another node."""
        if isinstance(node, ast.expr) and ast.unparse(node) in self.texts:
            return ast.Name(self.name, ast.Load())
        replaced: ast.AST = self.generic_visit(node)
        return replaced


def _opposite(condition: ast.AST) -> str:
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1:
        turned = _OPPOSITE.get(type(condition.ops[0]))
        if turned is not None:
            return ast.unparse(ast.Compare(condition.left, [turned()], condition.comparators))
    return f"torch.sym_not({ast.unparse(condition)})"


def _free(name: str, frame: FrameType | None) -> str:
    """The name, with underscores after it where a variable of the frame has it."""
    taken = set() if frame is None else {*frame.f_code.co_varnames, *frame.f_locals}
    while name in taken:
        name += "_"
    return name
