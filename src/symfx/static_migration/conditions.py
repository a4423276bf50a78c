"""The user's types and conditions: ``x: [batch, 3, h, w]``, ``batch % 8 == 0``."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch.fx.tensor_type import Dyn, TensorType

from symfx import shape_language
from symfx.algebra import Table, Term
from symfx.dtypes import short_name
from symfx.errors import SpecError
from symfx.shape_language import syntax
from symfx.shape_language.lowering import condition_term, size_term
from symfx.shape_language.syntax import (
    AnyTensor,
    Condition,
    Dimension,
    Expression,
    IntInput,
    Leading,
    Number,
    Parts,
    Size,
    TensorSyntax,
    TypeSyntax,
)
from symfx.shape_language.texts import Text

__all__ = [
    "InputType",
    "bounds_of",
    "declared_names",
    "dimension_names",
    "names_in",
    "names_in_condition",
    "parse_condition",
    "parse_input",
    "parse_size",
    "read_annotation",
    "type_of",
    "with_leading",
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
        leading: the name of any number of leading dimensions; ``"_"`` for those without a name, and
            ``None`` if there are none.
        bounds: the bounds that were written around dimensions, as conditions.
    """

    kind: str
    dims: tuple[DimText, ...] | None = None
    dtype: str = "float32"
    has_dtype: bool = False
    parts: tuple[tuple[str | int, InputType], ...] = ()
    leading: str | None = None
    bounds: tuple[str, ...] = ()

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
        dims = ["Dyn" if dim is None else str(dim) for dim in self.dims]
        if self.leading is not None:
            dims.insert(0, "..." if self.leading == "_" else f"*{self.leading}")
        return f"[{', '.join(dims)}]"


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


def parse_input(text: str) -> tuple[str, InputType]:
    """Read one input.

    Args:
        text: the name and the type in the language of shapes: ``"x: [batch, 3, h, w]"``,
            ``"x: Dyn"`` (or just ``"x"``), ``"n: int"``. A dimension is a number, a name, an
            expression of names, or ``?``. A dtype may stand before the bracket,
            ``i64[batch, seq]``; dtypes are checked where they are written. Several tensors in one
            input are ``"batch: {x: [n, 3], y: [n]}"`` or ``"pair: ([n, 3], [n])"``.

    Raises:
        SpecError: the text does not follow the grammar, or has a constant.

    Example:
        >>> name, type_ = parse_input("x: [batch, 3, 2*h, ?]")
        >>> name, str(type_)
        ('x', '[batch, 3, 2*h, Dyn]')
    """
    read = shape_language.parse_input(text)
    if read.path:
        raise SpecError(
            f"{read} describes a part of an input",
            where="--input",
            fix=f"describe the whole: {read.name}: {{ids: i64[b]}}",
        )
    return read.name, type_of(read.name, read.type)


def type_of(name: str, syntax: TypeSyntax) -> InputType:
    """The type that a user wrote.

    Raises:
        SpecError: it is a constant, which has no shape.
    """
    match syntax:
        case AnyTensor():
            return InputType("tensor")
        case IntInput():
            return InputType("int")
        case Parts(members=members, by_key=by_key):
            parts = tuple((key, type_of(f"{name}[{key!r}]", part)) for key, part in members)
            return InputType("dict" if by_key else "tuple", parts=parts)
        case TensorSyntax(dtype=dtype, dims=dims):
            sizes = tuple(_dim_text(dim) for dim in dims if not isinstance(dim, Leading))
            return InputType(
                "tensor",
                sizes,
                dtype or "float32",
                has_dtype=dtype is not None,
                leading=next((dim.name or "_" for dim in dims if isinstance(dim, Leading)), None),
                bounds=tuple(bound for dim in dims for bound in _bounds_of(dim)),
            )
    raise SpecError(
        f"{name} is the constant {syntax}, and typecheck takes tensors and ints",
        where="--input",
        fix="leave it out: a parameter that is not described has its default",
    )


def _dim_text(dim: Dimension) -> DimText:
    if not isinstance(dim, Size):
        return None
    return dim.value.value if isinstance(dim.value, Number) else str(dim.value)


def _bounds_of(dim: Dimension) -> list[str]:
    """The bounds that were written around a dimension, as conditions.

    An expression that may be negative is bounded by 0.
    """
    if not isinstance(dim, Size):
        return []
    least = 0 if dim.low is None and syntax.subtracts(dim.value) else dim.low
    low = [] if least is None else [f"{dim.value} >= {least}"]
    return low + ([] if dim.high is None else [f"{dim.value} <= {dim.high}"])


def with_leading(given: InputType, count: int) -> InputType:
    """A type with a number of dimensions in the place of the leading ones."""
    if given.is_nested:
        parts = tuple((key, with_leading(part, count)) for key, part in given.parts)
        return replace(given, parts=parts)
    if given.leading is None or given.dims is None:
        return given
    named = given.leading != "_"
    leading = tuple(f"{given.leading}_{i}" if named else None for i in range(count))
    return replace(given, dims=(*leading, *given.dims), leading=None)


def bounds_of(types: Iterable[InputType]) -> list[str]:
    """The bounds that were written around dimensions, as conditions."""
    found: list[str] = []
    for given in types:
        found += given.bounds
        found += bounds_of(part for _, part in given.parts)
    return [*dict.fromkeys(found)]


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
        return type_of("the input", shape_language.parse_type(annotation, "a type"))
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
    bounds: list[str] = []
    for dim in annotation:
        if dim is None or dim == Dyn:
            dims.append(None)
        elif isinstance(dim, str):
            read = shape_language.parse_dimension(dim, "a type")
            dims.append(_dim_text(read))
            bounds += _bounds_of(read)
        elif isinstance(dim, int) and not isinstance(dim, bool):
            dims.append(dim)
        else:
            raise SpecError(
                f"{dim!r} is not a dimension, in {annotation}", fix="give an int, a name or Dyn"
            )
    return InputType("tensor", tuple(dims), bounds=tuple(bounds))


def _is_dimension(part: Any) -> bool:
    if isinstance(part, str):
        return not any(letter in part for letter in "[{(") or part.isidentifier()
    return not isinstance(part, (TensorType, InputType, Mapping, tuple, list))


@functools.lru_cache(maxsize=4096)
def _condition(text: str) -> Condition:
    return shape_language.parse_condition(text.strip(), "--where")


@functools.lru_cache(maxsize=4096)
def _size(text: str) -> Expression:
    read = shape_language.parse_dimension(text.strip(), "--input")
    if not isinstance(read, Size) or (read.low, read.high) != (None, None):
        raise SpecError(
            f"{text!r} is not a dimension", where="--input", fix="write a name or a number"
        )
    return read.value


def parse_condition(table: Table, text: str, names: Mapping[str, Term]) -> Term:
    """Read a condition on sizes; see `symfx.shape_language.parse_condition`.

    Args:
        table: the table that the term is made in.
        text: the condition.
        names: the sizes that the condition may name.

    Raises:
        SpecError: the condition cannot be read, or names an unknown size.
    """
    return condition_term(table, _condition(text), names, Text(text.strip(), "--where"))


def parse_size(table: Table, text: str, names: Mapping[str, Term]) -> Term:
    """Read an expression of sizes."""
    return size_term(table, _size(text), names, Text(text.strip(), "--input"))


def names_in(text: str) -> list[str]:
    """The names in an expression of sizes, in order."""
    return syntax.names_in(_size(text))


def names_in_condition(text: str) -> list[str]:
    """The names in a condition, in order."""
    return syntax.names_in(_condition(text))


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
