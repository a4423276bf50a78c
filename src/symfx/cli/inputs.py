"""The language in which a command line describes inputs: ``x: f32[batch, seq, 64]``.

The grammar::

    input   = NAME ":" ( tensor | scalar )
    tensor  = DTYPE "[" [ dim { "," dim } ] "]" [ "<" INT ]
    dim     = INT                                          a static size
            | [ INT "<=" ] NAME [ "=" INT ] [ "<=" INT ]   a dynamic size: bounds, example
    scalar  = "int" [ "=" INT ]                            a dynamic int
            | ( "float" | "bool" | "str" ) "=" VALUE       a constant
            | VALUE                                        a constant
    VALUE   = INT | FLOAT | "true" | "false" | "none" | quoted text

``f32[]`` is a tensor without dimensions. Dimensions of one name have one size in all inputs; an
int of that name is the same number. ``< 100`` bounds the example's integers from above. Without
it the bound is 2, because 0 and 1 are rows of any embedding.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from symfx.dtypes import LONG_NAMES
from symfx.errors import SpecError

__all__ = [
    "INTEGER_BITS",
    "ConstantSpec",
    "DimSpec",
    "InputSpec",
    "IntSpec",
    "TensorSpec",
    "parse",
]

#: Further names of dtypes: torch's own, and those of Python and C.
_OTHER_NAMES = {long: long for long in LONG_NAMES.values()} | {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}
#: The bits of an integer's magnitude, by dtype.
INTEGER_BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint8": 8}
#: The largest size and int, and how many digits it has.
_LARGEST = 2**63 - 1
_DIGITS = len(str(_LARGEST))
#: The most dimensions that a tensor may have.
_RANK = 64
#: The most columns of a text that a message shows.
_WIDTH = 100
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_FORM = 'such as "x: f32[batch, seq, 64]", "n: int=5" or "flag: bool=true"'


@dataclass(frozen=True)
class DimSpec:
    """One dimension: a static size, or a name with its example size and bounds, if given.

    Attributes:
        name: the name of a dynamic dimension; None for a static one.
        size: the static size, or the example size.
        low: the smallest size.
        high: the largest size.
    """

    name: str | None
    size: int | None = None
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True)
class TensorSpec:
    """A tensor.

    Attributes:
        name: the name of the input.
        dtype: torch's name of the dtype.
        dims: the dimensions.
        below: the bound from above of the example's integers, if given.
    """

    name: str
    dtype: str
    dims: tuple[DimSpec, ...]
    below: int | None = None


@dataclass(frozen=True)
class IntSpec:
    """A dynamic int, and its example value if one was given."""

    name: str
    value: int | None = None


@dataclass(frozen=True)
class ConstantSpec:
    """A value that becomes a constant of the graph."""

    name: str
    value: Any


InputSpec = TensorSpec | IntSpec | ConstantSpec


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:30]}..."


# -- reading -----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<text>'[^']*'|"[^"]*")
      | (?P<sign><=|[\[\]<=,:])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


def parse(text: str) -> InputSpec:
    """Read one input.

    Raises:
        SpecError: the text does not follow the grammar; the message points at the place.

    Example:
        >>> parse("x: f32[batch=3]").dims
        (DimSpec(name='batch', size=3, low=None, high=None),)
        >>> parse("n: int=5")
        IntSpec(name='n', value=5)
        >>> parse("flag: bool=true")
        ConstantSpec(name='flag', value=True)
    """
    return _Parser(text).input()


class _Parser:
    """Reads one input by recursive descent: a method for each rule of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.position = 0

    def _split(self) -> Iterator[_Token]:
        at = 0
        while self.text[at:].strip():
            match = _TOKEN.match(self.text, at)
            if match is None:
                at += len(self.text[at:]) - len(self.text[at:].lstrip())
                self.fail(f"{self.text[at]!r} is not part of the grammar here", at)
            kind = match.lastgroup or ""
            yield _Token(kind, match[kind], match.start(kind))
            at = match.end()
        yield _Token("end", "", len(self.text.rstrip()))

    def fail(self, what: str, at: int | None = None, fix: str | None = None) -> NoReturn:
        """Raise a SpecError that points at a column, by default that of the next token."""
        column = self.now.at if at is None else at
        raise SpecError(
            what,
            where=self._pointer(column),
            fix=fix or f"write an input {_FORM}",
        )

    def _pointer(self, column: int) -> str:
        """The text with a mark below a column; of a long text, the part around the column."""
        start = max(column - _WIDTH // 2, 0) if len(self.text) > _WIDTH else 0
        shown = self.text[start : start + _WIDTH]
        return f"--input\n      {shown}\n      {' ' * (column - start)}^"

    @property
    def now(self) -> _Token:
        return self.tokens[self.position]

    def advance(self) -> _Token:
        token = self.now
        self.position += 1
        return token

    def accept(self, *signs: str) -> str | None:
        if self.now.kind == "sign" and self.now.text in signs:
            return self.advance().text
        return None

    def expect(self, sign: str, after: str) -> None:
        if not self.accept(sign):
            self.fail(f"expected {sign!r} {after}, found {self.found()}")

    def found(self) -> str:
        return repr(_shortened(self.now.text)) if self.now.kind != "end" else "the end"

    def name(self, what: str) -> str:
        if self.now.kind != "name":
            self.fail(f"expected {what}, found {self.found()}")
        return self.advance().text

    def integer(self, what: str) -> int:
        token = self.now
        if token.kind != "number" or not re.fullmatch(r"[-+]?\d+", token.text):
            self.fail(f"expected {what}, found {self.found()}")
        self.advance()
        digits = token.text.lstrip("+-")
        if len(digits) > 1 and digits.startswith("0"):
            self.fail(f"{token.text} begins with 0", token.at, fix="leave the zeros out")
        if len(digits) > _DIGITS or abs(int(digits)) > _LARGEST:
            self.fail(
                f"the number has {len(digits)} digits and more than 64 bits",
                token.at,
                fix=f"sizes and ints are at most {_LARGEST}",
            )
        return int(token.text)

    def input(self) -> InputSpec:
        name = self.name("the name of an input")
        self.expect(":", f"after the name {name!r}")
        follows_bracket = self.tokens[min(self.position + 1, len(self.tokens) - 1)].text == "["
        if self.now.kind == "name" and (follows_bracket or self.now.text.lower() not in _WORDS):
            result = self.tensor(name) if follows_bracket else self.typed_scalar(name)
        else:
            result = ConstantSpec(name, self.value())
        if self.now.kind != "end":
            self.fail(f"expected nothing more, found {self.found()}")
        return result

    def tensor(self, name: str) -> TensorSpec:
        token = self.advance()
        dtype = LONG_NAMES.get(token.text) or _OTHER_NAMES.get(token.text)
        if dtype is None:
            self.unknown_type(token)
        self.expect("[", "after the dtype")
        dims = []
        if not self.accept("]"):
            dims.append(self.dim())
            while self.accept(","):
                dims.append(self.dim())
            self.expect("]", "after the last dimension")
        if len(dims) > _RANK:
            self.fail(
                f"{name} has {len(dims)} dimensions",
                token.at,
                fix=f"torch's tensors have at most {_RANK}",
            )
        below = None
        if self.now.text == "<":
            if dtype not in INTEGER_BITS:
                self.fail(f"only integers can be bounded, and these are {dtype}")
            self.advance()
            at = self.now.at
            below = self.integer("the bound of the values")
            if not 1 <= below <= 2 ** INTEGER_BITS[dtype]:
                self.fail(f"{dtype} values below {below} cannot be drawn", at)
        return TensorSpec(name, dtype, tuple(dims), below)

    def unknown_type(self, token: _Token) -> NoReturn:
        known = [*LONG_NAMES, *_OTHER_NAMES]
        near = difflib.get_close_matches(token.text, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        self.fail(
            f"{token.text!r} is not a dtype{hint}",
            token.at,
            fix=f"use one of {', '.join(LONG_NAMES)}",
        )

    def dim(self) -> DimSpec:
        low = None
        start = self.now.at
        if self.now.kind == "number":
            size = self.integer("a size")
            if size < 0:
                self.fail("a size cannot be negative", start)
            if not self.accept("<="):
                return DimSpec(None, size)
            low = size
        name = self.name("a size or the name of a dimension")
        example = high = None
        while sign := self.accept("=", "<="):
            at = self.now.at
            if sign == "=" and example is None and high is None:
                example = self.integer(f"the example size of {name}")
                if example < 0:
                    self.fail("a size cannot be negative", at)
            elif sign == "<=" and high is None:
                high = self.integer(f"the largest size of {name}")
            else:
                self.fail(f"{name} is described twice", at)
        return DimSpec(name, example, low, high)

    def typed_scalar(self, name: str) -> InputSpec:
        kind = self.advance()
        if kind.text == "int":
            if not self.accept("="):
                return IntSpec(name)
            return IntSpec(name, self.integer("an int"))
        if kind.text not in ("float", "bool", "str"):
            if kind.text in LONG_NAMES or kind.text in _OTHER_NAMES:
                self.fail(
                    f"expected '[' after the dtype {kind.text}, found {self.found()}",
                    fix=f"write {kind.text}[] for a tensor without dimensions",
                )
            self.unknown_type(kind)
        if not self.accept("="):
            self.fail(
                f"the {kind.text} {name!r} needs a value",
                fix=f"write it, such as {name}: "
                + {"float": "float=0.5", "bool": "bool=true", "str": "str='mean'"}[kind.text],
            )
        at = self.now.at
        value = self.value()
        if kind.text == "float" and type(value) is int:
            value = float(value)
        if type(value).__name__ != kind.text:
            self.fail(f"{value!r} is not a {kind.text}", at)
        return ConstantSpec(name, value)

    def value(self) -> Any:
        token = self.now
        if token.kind == "number" and re.fullmatch(r"[-+]?\d+", token.text):
            return self.integer("an int")
        if token.kind in ("number", "text"):
            self.advance()
            try:
                return ast.literal_eval(token.text)
            except (SyntaxError, ValueError):
                self.fail(
                    f"{_shortened(token.text)} cannot be read as Python's literals are",
                    token.at,
                    fix="write a backslash in a text twice"
                    if token.kind == "text"
                    else "write a number such as 0.5",
                )
        if token.kind == "name" and token.text.lower() in _WORDS:
            self.advance()
            return _WORDS[token.text.lower()]
        self.fail(f"expected a type or a value, found {self.found()}")
