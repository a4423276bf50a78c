"""The words of the language: names of dtypes, and values as Python writes them."""

from __future__ import annotations

import ast
import difflib
import keyword
from typing import Any

from symfx.dtypes import LONG_NAMES
from symfx.shape_language.texts import Text
from symfx.untrusted import is_identifier

__all__ = [
    "INTEGER_BITS",
    "NAME_FIX",
    "NOTHING_SAID",
    "dtype_of",
    "is_dtype",
    "literal_of",
    "shortened",
    "why_no_name",
]

#: The names that say nothing of a size or a type, as ``?`` does.
NOTHING_SAID = ("Dyn", "dyn", "_")
#: How to name a dimension.
NAME_FIX = "use a name of letters, digits and underscores, such as batch or seq_len"
#: The most characters of a name, which files of traces have too.
_LONGEST_NAME = 200

#: The bits of an integer's magnitude, by dtype.
INTEGER_BITS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint8": 8}
#: Further names of dtypes: torch's own, and those of Python and C.
_OTHER_NAMES = {long: long for long in LONG_NAMES.values()} | {
    "half": "float16",
    "float": "float32",
    "double": "float64",
    "int": "int32",
    "long": "int64",
}


def why_no_name(text: str) -> str | None:
    """Why a text cannot be a name, as the end of a sentence; None if it can.

    Names become part of guards and of generated source. So a keyword is none, nor is a name that
    Python would read as another one.

    Example:
        >>> why_no_name("batch"), why_no_name("lambda")
        (None, 'is a word of Python, and cannot be a name')
    """
    if keyword.iskeyword(text):
        return "is a word of Python, and cannot be a name"
    if not is_identifier(text):
        return "cannot be a name"
    if len(text) > _LONGEST_NAME:
        return f"is longer than {_LONGEST_NAME} characters, and cannot be a name"
    return None


def is_dtype(name: str) -> bool:
    """Whether a name is that of a dtype."""
    return name in LONG_NAMES or name in _OTHER_NAMES


def dtype_of(name: str, at: int, text: Text) -> str:
    """torch's name of a dtype.

    Raises:
        SpecError: there is no dtype of the name.
    """
    found = LONG_NAMES.get(name) or _OTHER_NAMES.get(name)
    if found is None:
        near = difflib.get_close_matches(name, [*LONG_NAMES, *_OTHER_NAMES], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise text.error(
            f"{shortened(name)!r} is not a dtype{hint}", at, f"use one of {', '.join(LONG_NAMES)}"
        )
    return found


def literal_of(token: Any, text: Text) -> Any:
    """The value of a number or of a quoted text.

    Raises:
        SpecError: Python does not read it so.
    """
    try:
        return ast.literal_eval(str(token))
    except (SyntaxError, ValueError):
        quoted = str(token)[0] in "'\""
        raise text.error(
            f"{shortened(str(token))} cannot be read as Python's literals are",
            token.start_pos,
            "write a backslash in a text twice" if quoted else "write a number such as 0.5",
        ) from None


def shortened(text: str) -> str:
    """A text, or the beginning of a long one."""
    return text if len(text) <= 40 else f"{text[:30]}..."
