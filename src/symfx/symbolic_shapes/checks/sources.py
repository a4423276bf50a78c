"""Sources of input numbers (``L['x'].size()[0]``) as Python that reads them from arguments.

A source is text, perhaps from a file. It is parsed by a grammar of its own and written anew, so
that no code in the text is ever run.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.measures import Measure
from symfx.untrusted import shown

__all__ = ["InputRead", "fresh_name", "identifier_of", "read_source"]

#: The methods without arguments that a source may call.
_METHODS = frozenset({"size", "stride", "storage_offset", "item", "dim", "numel"})
#: The most characters of a source. Python's parser takes them apart by recursion.
_LONGEST = 5_000


@dataclass(frozen=True)
class InputRead:
    """How a number is read from the arguments of a checker.

    Attributes:
        source: the source.
        parameter: the name of the argument; an underscore follows a name that generated code
            needs for itself (``max``).
        base: the sequence whose item the number is, as Python: ``x.size()``; empty if the number
            is not an item.
        expression: the number as Python: ``x.size()[0]``.
        owner: the input that the number is of, without the underscore: ``x``.
        measure: which number of that input it is.
    """

    source: str
    parameter: str
    base: str
    expression: str
    owner: str
    measure: Measure

    @property
    def label(self) -> str:
        """An identifier for the number: ``x_size_0``."""
        return identifier_of(self.expression)


def identifier_of(expression: str) -> str:
    """An identifier that reads like an expression: ``x_size_0`` for ``x.size()[0]``."""
    text = "".join(c if c.isalnum() else "_" for c in expression.replace("()", ""))
    return "_".join(filter(None, text.split("_"))) or "value"


def read_source(source: str) -> InputRead:
    """Parse a source.

    A source starts at an argument, ``x`` or ``L['x']``, and goes on with attributes, constant
    indices, and the methods that return a tensor's sizes, strides and the like.

    Raises:
        SymfxError: the source is another text.

    Example:
        >>> read = read_source("L['x'].size()[0]")
        >>> read.base, read.expression, read.owner, read.measure
        ('x.size()', 'x.size()[0]', 'x', Measure(kind='size', dim=0))
    """
    if len(source) > _LONGEST:
        raise _refused(source)
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(source) from None
    steps: list[str] = []
    node: ast.expr = tree
    while True:
        match node:
            case ast.Name(id=name):
                break
            case ast.Subscript(value=ast.Name(id="L" | "G"), slice=ast.Constant(value=str(name))):
                break
            case ast.Call(func=ast.Attribute(attr=method, value=inner), args=[], keywords=[]) if (
                method in _METHODS
            ):
                steps.append(f".{method}()")
                node = inner
            case ast.Attribute(attr=attr, value=inner) if not attr.startswith("__"):
                steps.append(f".{attr}")
                node = inner
            case ast.Subscript(slice=ast.Constant(value=int() | str() as index), value=inner):
                steps.append(f"[{index!r}]")
                node = inner
            case _:
                raise _refused(source)
    if not name.isidentifier():
        raise _refused(source)
    steps.reverse()
    parameter = fresh_name(name, ())
    of_item = bool(steps) and steps[-1].startswith("[") and len(steps) > 1
    base = parameter + "".join(steps[:-1]) if of_item else ""
    owner, measure = _measured(steps)
    return InputRead(source, parameter, base, parameter + "".join(steps), name + owner, measure)


def _measured(steps: list[str]) -> tuple[str, Measure]:
    """The steps that lead to an input, as text, and the number of it that the last steps read."""
    match steps:
        case [*before, (".size()" | ".stride()") as method, index] if index[1:-1].isdigit():
            kind: Literal["size", "stride"] = "size" if method == ".size()" else "stride"
            return "".join(before), Measure(kind, int(index[1:-1]))
        case [*before, ".storage_offset()"]:
            return "".join(before), Measure("storage_offset")
        case _:
            return "".join(steps), Measure("value")


def _refused(source: str) -> SymfxError:
    return SymfxError(
        f"{shown(source)} is not a number that a guard program can read from its arguments",
        fix="name inputs by a Python identifier, as in L['x'].size()[0] or x.size()[0]",
    )


def fresh_name(wanted: str, taken: Iterable[str]) -> str:
    """The name, with underscores after it if it is taken or reserved.

    Args:
        wanted: the name; characters that an identifier cannot have become underscores.
        taken: names that are in use.
    """
    avoid = set(taken)
    if not wanted.isidentifier():
        wanted = "_" + "".join(c if c.isalnum() else "_" for c in wanted)
    while wanted in avoid or wanted in _WORDS or keyword.iskeyword(wanted):
        wanted += "_"
    return wanted


# The functions that generated Python calls, and the reserved words and functions of C.
_WORD_LIST = (
    "abs min max float round math bool bad "
    "auto break case char const continue default do double else enum extern for goto if "
    "inline int long register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while true false int64_t int128 "
    "floor ceil trunc nearbyint fabs sqrt cos cosh sin sinh tan tanh asin acos atan "
    "asinh acosh atanh exp expm1 log log1p log2 log10 "
    "pow fmod ldexp copysign strtod snprintf NAN INFINITY"
)
_WORDS = frozenset(_WORD_LIST.split())
