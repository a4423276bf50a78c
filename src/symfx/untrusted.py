"""JSON from untrusted files: bounded, read field by field, refused with the place of the fault.

A file may be damaged, or written to do harm: to run code, to take all memory, to hang, or to
raise an error that the caller does not expect. Each of symfx's file formats is read through this
module. `parse` refuses a text that asks for too much, before it builds anything. An `Item` returns
a value of the JSON as the type that the reader names. A `Source` turns each fault into one error of
symfx.
"""

from __future__ import annotations

import contextlib
import json
import keyword
import re
import reprlib
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from symfx.errors import SymfxError

__all__ = [
    "LIMITS",
    "Item",
    "Limits",
    "Source",
    "is_identifier",
    "one_line",
    "parse",
    "printable",
    "read_text",
    "shown",
]

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a text of JSON may ask for.

    Attributes:
        size: its length, in bytes.
        depth: how deep lists and objects are nested in one another.
        digits: how many characters a number has. Reading a decimal takes time that grows with
            the square of this.
        items: how many values it has; the separators in it are counted, also those in strings.
    """

    size: int = 32 << 20
    depth: int = 100
    digits: int = 1_000
    items: int = 2_000_000


LIMITS = Limits()
"""Far beyond what symfx writes, and within what a small machine can read in seconds."""

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxlong = _shown.maxother = 60


def shown(value: Any) -> str:
    """A value for a message: its `repr`, cut where it is long."""
    return _shown.repr(value)


def printable(text: str) -> str:
    """A text in which each character that does not print is escaped as in Python.

    A terminal obeys some characters that it does not print, and a file may be written to misuse
    them.

    Example:
        >>> printable("a\\nb \\x1b[2J")
        'a\\\\nb \\\\x1b[2J'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """A text on one line, such as a comment in a generated program, which a new line would end.

    Example:
        >>> one_line("a\\nb \\x1b[2J")
        'a b \\\\x1b[2J'
    """
    if text.isprintable():
        return text.strip()
    # Spaces and tabs stay as they are: a line of a program may align its comment.
    joined = re.sub(r"[^\S \t]+", " ", text).strip()
    return "\t".join(map(printable, joined.split("\t")))


def is_identifier(text: str) -> bool:
    """Can Python source have this name, and read it back as the same text?

    Keywords are no names, and Python normalizes names: a full-width ``ｘ`` in source is ``x``.
    """
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and (text.isascii() or unicodedata.normalize("NFKC", text) == text)
    )


@dataclass(frozen=True)
class Source:
    """Where a text comes from, and how it is refused.

    Attributes:
        name: of the file.
        error: the class of the error that refuses it.
        fix: what the user is to do about a file that is refused.
    """

    name: str
    error: type[SymfxError]
    fix: str

    def refusal(self, what: str, path: str = "", *, fix: str | None = None) -> SymfxError:
        """The error that refuses the file.

        Args:
            what: what is wrong; one sentence.
            path: the place in the file, such as ``nodes[3].kwargs``.
            fix: what to do about it, if something else than `Source.fix`.
        """
        where = f"{self.name}, {path}" if path else self.name
        return self.error(what, where=where, fix=fix or self.fix)

    @contextlib.contextmanager
    def guarding(self, what: str, path: str = "") -> Iterator[None]:
        """Let nothing but symfx's own errors out of the body.

        Args:
            what: what cannot be done if the body fails, such as ``"the module cannot be built"``.
            path: the place in the file.
        """
        try:
            yield
        except SymfxError:
            raise
        except Exception as error:
            lines = str(error).splitlines() or [""]
            why = f"{type(error).__name__}: {lines[0]:.200}"
            refusal = self.refusal(f"{what}: {why}", path)
            for note in getattr(error, "__notes__", ()):
                refusal.add_note(note)
            raise refusal from error


class Item:
    """A value of the JSON, and where it stands.

    Each method that reads it raises the error of `source` if the value is of another kind.

    Args:
        value: as `json` reads it.
        path: where it stands, such as ``nodes[3].kwargs``; empty for the whole. Or the place around
            it and the key or index there: a path is a text only once an error needs it.
        source: where the text comes from.
    """

    __slots__ = ("_path", "source", "value")

    def __init__(self, value: Any, path: str | tuple[Item, str | int], source: Source) -> None:
        self.value = value
        self._path = path
        self.source = source

    @property
    def path(self) -> str:
        """Where the value stands."""
        if isinstance(self._path, str):
            return self._path
        item, step = self._path
        around = item.path
        if isinstance(step, int):
            return f"{around}[{step}]"
        if step.isidentifier():
            return f"{around}.{step}" if around else step
        return f"{around}[{shown(step)}]"

    def refusal(self, what: str, *, fix: str | None = None) -> SymfxError:
        """The error that says what is wrong at this place."""
        return self.source.refusal(what, self.path, fix=fix)

    def _no(self, kind: str) -> SymfxError:
        return self.refusal(f"{shown(self.value)} is not {kind}")

    def text(self, most: int = 1_000) -> str:
        """A string of at most so many characters."""
        if not isinstance(self.value, str) or len(self.value) > most:
            raise self._no(f"a text of at most {most} characters")
        return self.value

    def identifier(self) -> str:
        """A name that Python source can have; see `is_identifier`."""
        text = self.text(200)
        if not is_identifier(text):
            raise self._no("an identifier")
        return text

    def whole(self, least: int, most: int) -> int:
        """An integer between these two."""
        if type(self.value) is not int or not least <= self.value <= most:
            raise self._no(f"an integer from {least} to {most}")
        return self.value

    def number(self) -> float:
        """A number, as a float."""
        # A longer integer may be too large for a float.
        if isinstance(self.value, float) or (
            type(self.value) is int and self.value.bit_length() <= 1_000
        ):
            return float(self.value)
        raise self._no("a number")

    def truth(self) -> bool:
        """``true`` or ``false``."""
        if not isinstance(self.value, bool):
            raise self._no("true or false")
        return self.value

    def choice(self, known: Mapping[str, T], kind: str) -> T:
        """What a name stands for.

        Args:
            known: what each name that the format has stands for.
            kind: what the names are names of, for the error, as in ``"activation"``.
        """
        if not isinstance(self.value, str) or self.value not in known:
            raise self.refusal(f"there is no {kind} {shown(self.value)}")
        return known[self.value]

    def items(self, most: int | None = None, *, exactly: int | None = None) -> list[Item]:
        """The values of a list.

        Args:
            most: how many values it may have.
            exactly: how many values it must have.
        """
        if not isinstance(self.value, list):
            raise self._no("a list")
        count = len(self.value)
        if exactly is not None and count != exactly:
            raise self.refusal(f"a list of {exactly} is needed here, and this one has {count}")
        if most is not None and count > most:
            raise self.refusal(f"a list may have {most} values here, and this one has {count}")
        source = self.source
        return [Item(value, (self, index), source) for index, value in enumerate(self.value)]

    def entries(self) -> dict[str, Item]:
        """The values of an object whose keys are not fixed."""
        if not isinstance(self.value, dict):
            raise self._no("an object")
        source = self.source
        return {key: Item(value, (self, key), source) for key, value in self.value.items()}

    def fields(self, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Item]:
        """The values of an object that has these keys and no others.

        Args:
            names: keys that it must have.
            optional: keys that it may have.
        """
        self.raw_fields(*names, optional=optional)
        return self.entries()

    def raw_fields(self, *names: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """The same values as `json` reads them; `at` gives the item of one."""
        value = self.value
        if not isinstance(value, dict):
            raise self._no("an object")
        for name in names:
            if name not in value:
                missing = [name for name in names if name not in value]
                raise self.refusal(f"{' and '.join(map(repr, missing))} must be given, and is not")
        if len(value) > len(names) + sum([name in value for name in optional]):
            strange = [name for name in value if name not in names and name not in optional]
            raise self.refusal(f"there is no field {shown(strange[0])}")
        return value

    def at(self, key: str) -> Item:
        """The item of a value of `raw_fields`."""
        return Item(self.value[key], (self, key), self.source)

    def single(self) -> tuple[str, Item]:
        """The only key of an object, and its value."""
        entries = self.entries()
        if len(entries) != 1:
            raise self._no("an object with one field")
        return next(iter(entries.items()))


def parse(text: str, source: Source, limits: Limits = LIMITS) -> Item:
    """The value of a JSON text.

    Raises:
        SymfxError: the text is no JSON, or asks for more than the limits; of the class
            ``source.error``.
    """
    if len(text) > limits.size:
        raise source.refusal(f"its JSON is longer than {limits.size} characters")
    if sum(map(text.count, ",[{")) > limits.items:
        raise source.refusal(f"its JSON has more than {limits.items} values")

    def digits(kind: type[int] | type[float]) -> Any:
        def read(number: str) -> int | float:
            if len(number) > limits.digits:
                raise source.refusal(f"a number in it has more than {limits.digits} digits")
            return kind(number)

        return read

    # Python reads numbers without a function of ours much faster.
    numbers: dict[str, Any] = {}
    if _may_have_long_number(text, limits.digits):
        numbers = {"parse_int": digits(int), "parse_float": digits(float)}
    too_deep = f"its JSON is nested more than {limits.depth} deep"
    try:
        data = json.loads(text, **numbers)
    except SymfxError:
        raise  # from `digits`; its class may derive from ValueError
    except ValueError as error:
        raise source.refusal(f"it is not JSON: {error}") from None
    except RecursionError:
        raise source.refusal(too_deep) from None
    if "\\ud" in text or "\\uD" in text:
        # JSON can spell half of a pair of surrogates, which no file and no terminal can show.
        try:
            json.dumps(data, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise source.refusal("a text in it has half of a surrogate pair") from None
        except (RecursionError, ValueError):
            raise source.refusal(too_deep) from None
    level = [data] if type(data) in (list, dict) else []
    for _ in range(limits.depth):
        level = [
            inner
            for value in level
            for inner in (value.values() if type(value) is dict else value)
            if type(inner) in (list, dict)
        ]
        if not level:
            break
    if not any(level):
        return Item(data, "", source)
    raise source.refusal(too_deep)


def _may_have_long_number(text: str, digits: int) -> bool:
    """Whether so many characters and one more stand together that a number can have."""
    # A long run shows in a sample of the text, which is searched in a fraction of the time.
    step = digits // 10 or 1
    part = "[0-9.eE+-]"
    return bool(re.search(f"{part}{{{digits // step}}}", text[::step])) and bool(
        re.search(f"{part}{{{digits + 1}}}", text)
    )


def read_text(path: Path, source: Source, limits: Limits = LIMITS) -> str:
    """The text of a file.

    Raises:
        SymfxError: the file is longer than the limits, or is not text; of the class
            ``source.error``.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(limits.size + 1)
    if len(content) > limits.size:
        raise source.refusal(f"the file is longer than {limits.size} bytes")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise source.refusal("the file is not text") from None
