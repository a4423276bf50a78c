"""Text as a syntax tree: the parser that lark makes from ``grammar.lark``, and its errors.

lark is imported, and the parser made, when the first text is read that is more than a name: this
takes a tenth of a second.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from symfx.shape_language.syntax import (
    Condition,
    Dimension,
    InputSyntax,
    Name,
    Size,
    TypeSyntax,
)
from symfx.shape_language.texts import Text
from symfx.shape_language.words import NOTHING_SAID, is_dtype, shortened, why_no_name

if TYPE_CHECKING:
    from lark import Lark, Token
    from lark.exceptions import UnexpectedToken

__all__ = ["parse_condition", "parse_dimension", "parse_input", "parse_type"]

#: The most characters of a text.
_LONGEST = 10_000
_FORMS = {
    "input": 'write an input such as "x: f32[batch, seq, 64]", "n: int=5" or "flag: bool=true"',
    "type": 'write a type such as "f32[batch, seq, 64]" or "[batch, ?]"',
    "dimension": 'write a dimension such as "batch", "8*heads", "2 <= seq <= 512" or "64"',
    "condition": 'write a condition such as "seq % 8 == 0", "w == h" or "h in {224, 256}"',
}
_SIZE = "a size or the name of a dimension"


def parse_input(text: str, label: str = "--input") -> InputSyntax:
    """Read one input: a name with a type.

    Args:
        text: the text.
        label: where it was written, for the message of an error.

    Raises:
        SpecError: the text does not follow the grammar; the message points at the place.

    Example:
        >>> parsed = parse_input("batch.ids: i64[b, 2 <= s=7 <= 512] < 100")
        >>> parsed.name, parsed.path, str(parsed.type)
        ('batch', ('ids',), 'int64[b, 2 <= s=7 <= 512] < 100')
    """
    read: InputSyntax = _parse("input", Text(text, label))
    return read


def parse_type(text: str, label: str = "dynamic") -> TypeSyntax:
    """Read the type of an input: ``f32[batch, 64]``, ``[batch, ?]``, ``{ids: i64[b]}``, ``int``.

    Raises:
        SpecError: the text does not follow the grammar.

    Example:
        >>> str(parse_type("[8*batch, ?]"))
        '[8*batch, ?]'
    """
    read: TypeSyntax = _parse("type", Text(text, label))
    return read


def parse_dimension(text: str, label: str = "dynamic") -> Dimension:
    """Read one dimension: ``batch``, ``2*h + 1``, ``2 <= seq <= 512``, ``64``, ``*dims``.

    Raises:
        SpecError: the text does not follow the grammar.

    Example:
        >>> str(parse_dimension("2*(h+1)"))
        '2*(h + 1)'
    """
    if text.isascii() and text not in NOTHING_SAID and why_no_name(text) is None:
        return Size(Name(text))
    read: Dimension = _parse("dimension", Text(text, label))
    return read


def parse_condition(text: str, label: str = "where") -> Condition:
    """Read a condition on dimensions.

    Raises:
        SpecError: the text does not follow the grammar.

    Example:
        >>> str(parse_condition("seq%8==0 and h in {224,256}"))
        'seq % 8 == 0 and h in {224, 256}'
    """
    read: Condition = _parse("condition", Text(text, label))
    return read


@cache
def _lark() -> Lark:
    from lark import Lark

    grammar = resources.files("symfx.shape_language").joinpath("grammar.lark")
    # The basic lexer finds the same tokens everywhere, so that a message can name the one found.
    return Lark(
        grammar.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        start=[*_FORMS],
        maybe_placeholders=True,
    )


def _parse(start: str, text: Text) -> Any:
    """Read a text by one rule of the grammar."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken, VisitError

    from symfx.shape_language.actions import Actions

    if len(text.text) > _LONGEST:
        raise text.error(
            f"the text has {len(text.text)} characters, and the most are {_LONGEST}",
            0,
            "write less",
        )
    try:
        tree = _lark().parse(text.text, start=start)
        return Actions(text).transform(tree)
    except UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        found = text.text[at]
        raise text.error(
            f"{found!r} is not part of the grammar here",
            at,
            _CHARACTERS.get(found, _FORMS[start]),
        ) from None
    except UnexpectedToken as error:
        raise _unexpected(start, text, error) from None
    except VisitError as error:
        raise error.orig_exc from None


# -- errors ----------------------------------------------------------------------------------------

#: What to write instead of a sign that the grammar does not have.
_CHARACTERS = {
    "/": "write // for the quotient of integers",
    "&": "write and",
    "|": "write or",
    "!": "write not, or != between two sizes",
    "^": "write a power as n**2",
}
#: What a text wants after what may be its end.
_END = {
    "input": "nothing more",
    "type": "nothing more",
    "dimension": "a bound or the end",
    "condition": "'and', 'or' or the end",
}
#: What a text wants, in words, by tokens that would be right: the first row that fits counts.
_WANTED: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"QUESTION", "LBRACE"}), "a type or a value"),
    (frozenset({"QUESTION", "TIMES"}), _SIZE),
    (frozenset({"RSQB", "COMMA"}), "']' after the last dimension"),
    (frozenset({"INT", "NAME", "LPAR", "NOT"}), "a condition"),
    (frozenset({"INT", "NAME", "LPAR"}), "a number or a name"),
    (frozenset({"INT", "NAME", "STRING"}), "a value"),
    (frozenset({"INT", "FLOAT", "SIGN"}), "a number"),
    (frozenset({"INT", "STRING"}), "a position or a key"),
    (frozenset({"INT"}), "a number"),
    (frozenset({"NAME"}), "a name"),
    (frozenset({"RPAR", "RELATION"}), "a comparison or ')'"),
    (frozenset({"$END", "RELATION"}), "a comparison or the end"),
    (frozenset({"RELATION"}), "a comparison, such as == 8 or <= 512"),
    (frozenset({"OPEN", "$END"}), "nothing more"),
    (frozenset({"OPEN"}), "'['"),
    (frozenset({"COMMA", "RBRACE"}), "',' or '}'"),
    (frozenset({"COMMA", "RPAR"}), "',' or ')'"),
    (frozenset({"RPAR"}), "')'"),
    (frozenset({"IN"}), "in"),
    (frozenset({"LBRACE"}), "'{'"),
    (frozenset({"COLON"}), "':'"),
    (frozenset({"$END"}), "nothing more"),
)


def _unexpected(start: str, text: Text, error: UnexpectedToken) -> Exception:
    """The error about a token that does not belong where it stands."""
    token: Token = error.token
    end = len(text.text.rstrip())
    at = end if token.type == "$END" else token.start_pos or 0
    found = "the end" if token.type == "$END" else repr(shortened(str(token)))
    before = text.text[:at].rstrip()
    accepted = error.accepts or error.expected
    wanted = next((words for row, words in _WANTED if row <= accepted), _END[start])
    fix = _FORMS[start]
    if not before:
        wanted = {"input": "the name of an input", "dimension": _SIZE}.get(start, wanted)
    if start == "dimension" and wanted == "a comparison or the end":
        wanted = "a bound or the end"
    last = re.search(r"[^\W\d]\w*$", before)
    if "COLON" in accepted and last is not None:
        wanted = f"':' after the name {last[0]!r}"
    elif "OPEN" in accepted and last is not None and is_dtype(last[0]):
        wanted = f"'[' after the dtype {last[0]}"
        fix = f"write {last[0]}[] for a tensor without dimensions"
    if token.type == "NAME" and text.text[at - 1 : at].isdigit():
        number = re.search(r"\d+$", before)
        fix = f"write {number[0] if number else 8}*{token} for a multiple"
    elif token.type == "ASSIGN" and start == "condition":
        fix = "write == for equality"
    return text.error(f"expected {wanted}, found {found}", at, fix)
