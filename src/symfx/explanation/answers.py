"""An answer to "why" as data: a sentence, and the conditions, operators and lines that give it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from rich.text import Text

from symfx.algebra import Term
from symfx.tracing.markup import Html, element
from symfx.user_code import SavedFrame, UserFrame

__all__ = ["Explanation", "Kind", "Reason", "ReasonKind", "line_as_data"]

Kind: TypeAlias = Literal["dimension", "guard", "condition", "node", "trace", "error", "recompile"]
ReasonKind: TypeAlias = Literal[
    "guard", "stated", "assertion", "range", "fact", "follows", "open", "data", "recompile", "unfit"
]

#: What a condition is, in the words that stand before it.
_WORDS: Mapping[str, str] = {
    "guard": "guard",
    "stated": "stated by where=",
    "assertion": "asserted",
    "range": "range",
    "fact": "known",
    "follows": "",
    "open": "open",
    "data": "from data",
    "recompile": "failed guard",
    "unfit": "",
}
#: What an operator has to do with a condition.
_BY: Mapping[str, str] = {"data": "made by", "fact": "said by", "assertion": "needed by"}
_STYLES: Mapping[str, str] = {"guard": "magenta", "open": "yellow", "data": "yellow"}


@dataclass(frozen=True, repr=False)
class Reason:
    """A node of a proof tree: a condition, and the conditions from which it follows.

    Attributes:
        statement: the condition as text, such as ``seq >= 4``.
        kind: what the condition is. ``guard``: tracing relied on it. ``stated``: ``where=`` states
            it. ``assertion``: the graph asserts it when it runs. ``range``: the dimension began
            with it. ``fact``: known in another way. ``follows``: it follows from `because`.
            ``open``: nothing decides it. ``data``: an operator makes the number from data.
            ``recompile``: a guard of a compiled graph that new inputs failed. ``unfit``: a
            sentence that says why inputs do not fit.
        operator: the torch operator that asked for it, if one did.
        line: the line of the program that caused it, with its source text; None where no line did.
        note: more about it, in words; empty where there is nothing more.
        because: the conditions from which it follows: a smallest set of facts from which symfx's
            prover comes to the same conclusion, without knowing anything else.
        term: the condition as a term; None where it is no condition on symbols.
    """

    statement: str
    kind: ReasonKind
    operator: str | None = None
    line: UserFrame | SavedFrame | None = None
    note: str = ""
    because: tuple[Reason, ...] = ()
    term: Term | None = field(default=None, compare=False, repr=False)

    def leaves(self) -> Iterator[Reason]:
        """The reasons below that follow from no others; the reason itself if it is such."""
        if not self.because:
            yield self
        for reason in self.because:
            yield from reason.leaves()

    @property
    def _by(self) -> str:
        by = _BY.get(self.kind, "asked by")
        return f", {by} {self.operator}" if self.operator else ""

    def as_data(self) -> dict[str, Any]:
        """The reason as plain data for JSON."""
        return {
            "statement": self.statement,
            "kind": self.kind,
            "operator": self.operator,
            "line": line_as_data(self.line),
            "note": self.note or None,
            "because": [reason.as_data() for reason in self.because],
        }

    def describe(self, depth: int = 0) -> Iterator[Text]:
        """The reason and those below it as lines."""
        indent = "  " * depth
        words = _WORDS[self.kind]
        yield Text.assemble(
            indent,
            (f"{words}: " if words else "", "dim"),
            (self.statement, _STYLES.get(self.kind, "bold")),
            (self._by, "dim"),
            (f", {self.note}" if self.note else "", "dim"),
        )
        if self.line is not None:
            yield Text.assemble(f"{indent}  at ", (self.line.with_text, "cyan"))
        if self.because:
            yield Text(f"{indent}  because", style="dim")
        for reason in self.because:
            yield from reason.describe(depth + 2)

    def __repr__(self) -> str:
        return f"<Reason {self.kind}: {self.statement}>"

    def __str__(self) -> str:
        return "\n".join(line.plain for line in self.describe())

    def as_html(self) -> Html:
        """The reason and those below it as an item of a list."""
        words = _WORDS[self.kind]
        parts = [f"{words}: " if words else "", element("code", self.statement)]
        parts += [self._by]
        parts += [f", {self.note}"] if self.note else []
        if self.line is not None:
            parts += [Html("<br>at "), element("code", self.line.with_text)]
        if self.because:
            parts += [" because", element("ul", *(reason.as_html() for reason in self.because))]
        return element("li", *parts)


@dataclass(frozen=True, repr=False)
class Explanation:
    """The answer to "why", as a sentence with the proof tree behind it.

    ``print`` shows it as text, a notebook as a list, `as_data` as data for JSON.

    Attributes:
        subject: the dimension, guard, node or error that was asked about, as text.
        kind: which of these it is; ``condition`` for one that is no guard of the trace.
        sentence: the answer in one sentence.
        reasons: the conditions that give the answer, each with the facts from which it follows.
        details: more about the subject: pairs of a label and a text.
        fix: what to do about it; None where nothing is wrong.
        parts: the answers that this one consists of, for a whole trace.
    """

    subject: str
    kind: Kind
    sentence: str
    reasons: tuple[Reason, ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    fix: str | None = None
    parts: tuple[Explanation, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The answer as plain data for JSON."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "sentence": self.sentence,
            "reasons": [reason.as_data() for reason in self.reasons],
            "details": [{"label": label, "text": text} for label, text in self.details],
            "fix": self.fix,
            "parts": [part.as_data() for part in self.parts],
        }

    def describe(self) -> list[Text]:
        """The answer as lines with styles, as a terminal shows it."""
        lines = [Text(self.sentence, style="bold")]
        for reason in self.reasons:
            lines += reason.describe(1)
        lines += _labeled(self.details)
        if self.fix:
            lines.append(Text.assemble(("  to fix: ", "bold"), self.fix))
        for part in self.parts:
            lines += [Text(), *part.describe()]
        return lines

    def __repr__(self) -> str:
        return f"<symfx.Explanation of {self.subject}: {self.sentence}>"

    def __str__(self) -> str:
        return "\n".join(line.plain for line in self.describe())

    def __rich__(self) -> Text:
        return Text("\n").join(self.describe())

    def _repr_html_(self) -> str:
        parts = [element("strong", self.sentence)]
        if self.reasons:
            parts.append(element("ul", *(reason.as_html() for reason in self.reasons)))
        for label, text in self.details:
            parts.append(element("div", f"{label}: ", element("code", text)))
        if self.fix:
            parts.append(element("div", element("em", "to fix: "), self.fix))
        parts += [Html(part._repr_html_()) for part in self.parts]
        return element("div", *parts)


def _labeled(details: Sequence[tuple[str, str]]) -> list[Text]:
    """Details as lines; the lines of a longer text stand below its label."""
    lines = []
    for label, text in details:
        first, *rest = text.split("\n")
        lines.append(Text.assemble((f"  {label}: ", "dim"), first))
        lines += [Text(f"  {' ' * (len(label) + 2)}{line}") for line in rest]
    return lines


def line_as_data(line: UserFrame | SavedFrame | None) -> dict[str, Any] | None:
    """A line of a program as plain data for JSON."""
    if line is None:
        return None
    return {
        "file": line.filename,
        "number": line.lineno,
        "function": line.function,
        "text": line.line,
    }
