"""Sources of input numbers (``L['x'].size()[0]``) as Python that reads them from arguments.

A source is text, perhaps out of a file: it is taken apart by a grammar of its own and put
together again, never run as it stands.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterable
from dataclasses import dataclass

from symfx.errors import SymfxError

__all__ = ["InputRead", "fresh_name", "read_source"]

# Methods without arguments that a source may call.
_METHODS = frozenset({"size", "stride", "storage_offset", "item", "dim", "numel"})


@dataclass(frozen=True)
class InputRead:
    """How a number is read from the arguments of a checker.

    Attributes:
        source: the source.
        parameter: the name of the argument, with an underscore behind it where the name is
            one that generated code needs (``max``).
        base: what the number is an item of, as Python: ``x.size()``; empty where it is none.
        expression: the number as Python: ``x.size()[0]``.
    """

    source: str
    parameter: str
    base: str
    expression: str

    @property
    def label(self) -> str:
        """An identifier that tells what is read: ``x_size_0``."""
        text = "".join(c if c.isalnum() else "_" for c in self.expression.replace("()", ""))
        return "_".join(filter(None, text.split("_"))) or "value"


def read_source(source: str) -> InputRead:
    """Take a source apart.

    A source starts at an argument, ``x`` or ``L['x']``, and goes on with attributes,
    constant indices, and the methods that tell a tensor's measures.

    Raises:
        SymfxError: the source is no such text.

    Example:
        >>> read_source("L['x'].size()[0]")  # doctest: +NORMALIZE_WHITESPACE
        InputRead(source="L['x'].size()[0]", parameter='x',
                  base='x.size()', expression='x.size()[0]')
    """
    try:
        tree = ast.parse(source, mode="eval").body
    except (SyntaxError, ValueError):
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
    name = fresh_name(name, ())
    of_item = bool(steps) and steps[-1].startswith("[") and len(steps) > 1
    base = name + "".join(steps[:-1]) if of_item else ""
    return InputRead(source, name, base, name + "".join(steps))


def _refused(source: str) -> SymfxError:
    return SymfxError(
        f"{source!r} is not something that a guard program can read from its arguments",
        fix="name inputs by a Python identifier, as in L['x'].size()[0] or x.size()[0]",
    )


def fresh_name(wanted: str, taken: Iterable[str]) -> str:
    """An identifier like the name: with underscores behind it where it is taken or reserved."""
    avoid = set(taken)
    if not wanted.isidentifier():
        wanted = "_" + "".join(c if c.isalnum() else "_" for c in wanted)
    while wanted in avoid or wanted in _WORDS or keyword.iskeyword(wanted):
        wanted += "_"
    return wanted


# What the generated Python calls, and the words of C.
_WORD_LIST = (
    "abs min max float round math bool bad "
    "auto break case char const continue default do double else enum extern for goto if "
    "inline int long register restrict return short signed sizeof static struct switch "
    "typedef union unsigned void volatile while true false int64_t int128 "
    "floor ceil trunc nearbyint fabs sqrt cos cosh sin sinh tan tanh asin acos atan exp log log2 "
    "pow fmod ldexp copysign strtod snprintf NAN INFINITY"
)
_WORDS = frozenset(_WORD_LIST.split())
