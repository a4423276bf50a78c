"""The user's types and conditions, read from text: ``x: [batch, 3, h, w]``, ``batch % 8 == 0``.

Texts are parsed as Python expressions and never evaluated as code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx.tensor_type import Dyn, TensorType

from symfx.algebra import Table, Term
from symfx.dtypes import long_name
from symfx.errors import SpecError

__all__ = [
    "InputType",
    "declared_names",
    "dimension_names",
    "parse_condition",
    "parse_input",
    "read_annotation",
]

#: A dimension as the user wrote it: a number, an expression of names, or ``None`` for unknown.
DimText = int | str | None


@dataclass(frozen=True)
class InputType:
    """The type of an input, as far as it is known.

    Args:
        kind: ``"tensor"``, or ``"int"`` for a number from which sizes may be computed.
        dims: the dimensions of a tensor; ``None`` if not even the rank is known.
        dtype: torch's name of the tensor's dtype.
    """

    kind: str
    dims: tuple[DimText, ...] | None = None
    dtype: str = "float32"

    def __str__(self) -> str:
        if self.kind != "tensor":
            return self.kind
        if self.dims is None:
            return "Dyn"
        return f"[{', '.join('Dyn' if dim is None else str(dim) for dim in self.dims)}]"


def dimension_names(name: str, given: InputType, taken: Iterable[str] = ()) -> tuple[str, ...]:
    """The text of each dimension of an input: an unknown one gets a name after the input.

    Args:
        name: the name of the input.
        given: its type.
        taken: names that the user gave to other sizes.
    """
    texts: list[str] = []
    for i, dim in enumerate(given.dims or ()):
        text = f"{name}_{i}" if dim is None else str(dim)
        while dim is None and text in taken:
            text += "_"
        texts.append(text)
    return tuple(texts)


_INPUT = re.compile(r"^\s*(?P<name>[A-Za-z_]\w*)\s*(?::\s*(?P<type>.*\S)?)?\s*$", re.DOTALL)
_TENSOR = re.compile(r"^(?P<dtype>[a-z]\w*)?\s*\[(?P<dims>.*)\]$", re.DOTALL)
_UNKNOWN = ("?", "Dyn", "dyn", "_", "...")


def parse_input(text: str) -> tuple[str, InputType]:
    """Read one input.

    Args:
        text: ``"x: [batch, 3, h, w]"``, ``"x: Dyn"`` (or just ``"x"``), ``"n: int"``. A dimension
            is a number, a name, an expression of names, or ``?``. A dtype may stand before the
            bracket, ``i64[batch, seq]``; float32 if it does not.

    Raises:
        SpecError: the text has none of these forms.

    Example:
        >>> name, type_ = parse_input("x: [batch, 3, 2*h, ?]")
        >>> name, str(type_)
        ('x', '[batch, 3, 2*h, Dyn]')
    """
    found = _INPUT.match(text)
    form = 'write it like "x: [batch, 3, h, w]", "x: Dyn" or "n: int"'
    if found is None:
        raise SpecError(f"the input {text!r} cannot be read", where="--input", fix=form)
    written = found["type"]
    if written is None or written in _UNKNOWN:
        return found["name"], InputType("tensor")
    if written == "int":
        return found["name"], InputType("int")
    bracket = _TENSOR.match(written)
    if bracket is None:
        raise SpecError(
            f"{written!r} is not a type, in the input {text!r}", where="--input", fix=form
        )
    dims = [part.strip() for part in bracket["dims"].split(",")] if bracket["dims"].strip() else []
    short = bracket["dtype"] or "f32"
    dtype = long_name(short)
    if dtype is None:
        raise SpecError(
            f"{short!r} is not a dtype, in the input {text!r}", where="--input", fix=form
        )
    return found["name"], InputType("tensor", tuple(_dim(part, text) for part in dims), dtype)


def _dim(part: str, text: str) -> DimText:
    if part in _UNKNOWN:
        return None
    if re.fullmatch(r"\d+", part):
        return int(part)
    try:
        tree = ast.parse(part, mode="eval").body
    except SyntaxError:
        tree = None
    if tree is None or not part:
        raise SpecError(
            f"{part!r} is not a dimension, in {text!r}",
            where="--input",
            fix="write a name or a number",
        )
    return part


def read_annotation(annotation: Any) -> InputType:
    """Read an annotation: a `TensorType`, ``int``, a sequence of dimensions, or text.

    Raises:
        SpecError: a dimension in it is neither a number, a name nor ``Dyn``.
    """
    if isinstance(annotation, InputType):
        return annotation
    if isinstance(annotation, str):
        return parse_input(f"x: {annotation}")[1]
    if annotation is int:
        return InputType("int")
    if isinstance(annotation, TensorType):
        annotation = annotation.dims
    if not isinstance(annotation, (tuple, list)):
        return InputType("tensor")
    dims: list[DimText] = []
    for dim in annotation:
        if dim is None or dim == Dyn:
            dims.append(None)
        elif isinstance(dim, (int, str)) and not isinstance(dim, bool):
            dims.append(dim)
        else:
            raise SpecError(
                f"{dim!r} is not a dimension, in {annotation}", fix="give an int, a name or Dyn"
            )
    return InputType("tensor", tuple(dims))


_ARITHMETIC: dict[type[ast.operator], Callable[[Term, Term], Term]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}
_RELATIONS: dict[type[ast.cmpop], Callable[[Term, Term], Term]] = {
    ast.Eq: lambda a, b: a.eq(b),
    ast.NotEq: lambda a, b: a.ne(b),
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}


def parse_condition(table: Table, text: str, names: Mapping[str, Term]) -> Term:
    """Read a condition on sizes: comparisons of ``+ - * // %``, joined by and, or, not.

    Args:
        table: the table that the term is made in.
        text: the condition.
        names: the sizes that the condition may name.

    Raises:
        SpecError: the condition cannot be read, or names an unknown size.
    """
    return _Reader(table, names, text, "--where").condition(_parsed(text, "--where"))


def parse_size(table: Table, text: str, names: Mapping[str, Term]) -> Term:
    """Read an expression of sizes."""
    return _Reader(table, names, text, "--input").size(_parsed(text, "--input"))


def names_in(text: str) -> list[str]:
    """The names in an expression, in order."""
    return [n.id for n in ast.walk(_parsed(text, "--input")) if isinstance(n, ast.Name)]


def declared_names(inputs: Mapping[str, InputType]) -> list[str]:
    """The names of sizes that the user wrote, in order, each once."""
    names: dict[str, None] = {}
    for name, given in inputs.items():
        if given.kind == "int":
            names[name] = None
        for dim in given.dims or ():
            if isinstance(dim, str):
                names.update(dict.fromkeys(names_in(dim)))
    return [*names]


def _parsed(text: str, where: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise SpecError(
            f"{text!r} cannot be read", where=where, fix='write it like "batch % 8 == 0"'
        ) from None


@dataclass(frozen=True)
class _Reader:
    table: Table
    names: Mapping[str, Term]
    text: str
    where: str

    def condition(self, tree: ast.expr) -> Term:
        if isinstance(tree, ast.BoolOp):
            parts: Sequence[Term] = [self.condition(value) for value in tree.values]
            both = isinstance(tree.op, ast.And)
            return self.table.and_(*parts) if both else self.table.or_(*parts)
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not):
            return self.table.not_(self.condition(tree.operand))
        if isinstance(tree, ast.Compare):
            sides = [self.size(side) for side in (tree.left, *tree.comparators)]
            signs = [_RELATIONS.get(type(op)) for op in tree.ops]
            if None not in signs:
                pairs = zip(signs, sides, sides[1:], strict=False)
                return self.table.and_(*(sign(a, b) for sign, a, b in pairs if sign))
        raise self._unreadable(tree, "a comparison of sizes")

    def size(self, tree: ast.expr) -> Term:
        if isinstance(tree, ast.Constant) and type(tree.value) is int:
            return self.table.const(tree.value)
        if isinstance(tree, ast.Name):
            if tree.id not in self.names:
                known = ", ".join(sorted(self.names)) or "none"
                raise SpecError(
                    f"no input has a size named {tree.id}, in {self.text!r}",
                    where=self.where,
                    fix=f"the named sizes are: {known}",
                )
            return self.names[tree.id]
        if isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.USub):
            return -self.size(tree.operand)
        if isinstance(tree, ast.BinOp):
            operation = _ARITHMETIC.get(type(tree.op))
            if operation is not None:
                try:
                    return operation(self.size(tree.left), self.size(tree.right))
                except ZeroDivisionError:
                    raise SpecError(f"{self.text!r} divides by zero", where=self.where) from None
        raise self._unreadable(tree, "a size")

    def _unreadable(self, tree: ast.expr, wanted: str) -> SpecError:
        return SpecError(
            f"{ast.unparse(tree)!r} is not {wanted}, in {self.text!r}",
            where=self.where,
            fix="write sums, products, // and % of names and numbers, and comparisons",
        )
