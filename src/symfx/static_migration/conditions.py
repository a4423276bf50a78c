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
from symfx.dtypes import long_name, short_name
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
        kind: ``"tensor"``, ``"int"`` for a number from which sizes may be computed, or ``"dict"``,
            ``"tuple"`` or ``"list"`` for several of these.
        dims: the dimensions of a tensor; ``None`` if not even the rank is known.
        dtype: torch's name of the tensor's dtype.
        has_dtype: the user wrote the dtype, which is checked then.
        parts: the types of the parts of a dict, a tuple or a list, by key or by index.
    """

    kind: str
    dims: tuple[DimText, ...] | None = None
    dtype: str = "float32"
    has_dtype: bool = False
    parts: tuple[tuple[str | int, InputType], ...] = ()

    @property
    def is_nested(self) -> bool:
        """Whether the input consists of parts."""
        return self.kind in ("dict", "tuple", "list")

    @property
    def written(self) -> str:
        """The type as the user wrote it, with its dtype."""
        return f"{short_name(self.dtype)}{self}" if self.has_dtype else str(self)

    def __str__(self) -> str:
        if self.is_nested:
            inner = ", ".join(
                f"{key}: {part}" if self.kind == "dict" else str(part) for key, part in self.parts
            )
            return f"{{{inner}}}" if self.kind == "dict" else f"({inner})"
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
            bracket, ``i64[batch, seq]``; dtypes are checked where they are written. Several tensors
            in one input are ``"batch: {x: [n, 3], y: [n]}"`` or ``"pair: ([n, 3], [n])"``.

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
    return found["name"], _read_type(written, text, form)


def _read_type(written: str, text: str, form: str) -> InputType:
    if written in _UNKNOWN:
        return InputType("tensor")
    if written == "int":
        return InputType("int")
    if written[:1] + written[-1:] in ("{}", "()"):
        return _read_parts(written, text, form)
    bracket = _TENSOR.match(written)
    if bracket is None:
        raise SpecError(
            f"{written!r} is not a type, in the input {text!r}", where="--input", fix=form
        )
    dims = [part.strip() for part in bracket["dims"].split(",")] if bracket["dims"].strip() else []
    short = bracket["dtype"]
    dtype = long_name(short or "f32")
    if dtype is None:
        raise SpecError(
            f"{short!r} is not a dtype, in the input {text!r}", where="--input", fix=form
        )
    sizes = tuple(_dim(part, text) for part in dims)
    return InputType("tensor", sizes, dtype, has_dtype=short is not None)


def _read_parts(written: str, text: str, form: str) -> InputType:
    """Read the parts of a dictionary or a tuple."""
    is_dict = written.startswith("{")
    parts: list[tuple[str | int, InputType]] = []
    for i, part in enumerate(_split(written[1:-1])):
        key, colon, type_ = part.partition(":") if is_dict else ("", ":", part)
        name = key.strip().strip("\"'")
        if not colon or not type_.strip() or (is_dict and not name):
            raise SpecError(
                f"{part.strip()!r} is no part of an input, in {text!r}",
                where="--input",
                fix='write it like "batch: {x: [n, 3], y: [n]}" or "pair: ([n, 3], [n])"',
            )
        parts.append((name if is_dict else i, _read_type(type_.strip(), text, form)))
    return InputType("dict" if is_dict else "tuple", parts=tuple(parts))


def _split(text: str) -> list[str]:
    """The parts of a text between the commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for i, letter in enumerate(text):
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not depth:
            parts.append(text[start:i])
            start = i + 1
    return [part for part in (*parts, text[start:]) if part.strip()]


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
    """Read an annotation: a `TensorType`, ``int``, a sequence of dimensions, text, or a dictionary.

    A dictionary has one annotation for each key; a tuple or list of texts with brackets has one
    for each item.

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
    if isinstance(annotation, Mapping):
        parts = tuple((key, read_annotation(part)) for key, part in annotation.items())
        return InputType("dict", parts=parts)
    if not isinstance(annotation, (tuple, list)):
        return InputType("tensor")
    if annotation and not any(_is_dimension(part) for part in annotation):
        items = tuple((i, read_annotation(part)) for i, part in enumerate(annotation))
        return InputType("tuple" if isinstance(annotation, tuple) else "list", parts=items)
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


def _is_dimension(part: Any) -> bool:
    if isinstance(part, str):
        return not any(letter in part for letter in "[{(") or part.isidentifier()
    return not isinstance(part, (TensorType, InputType, Mapping, tuple, list))


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
