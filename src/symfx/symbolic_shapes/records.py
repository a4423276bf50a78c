"""The records that a ShapeEnv keeps and hands out: dimensions, symbols, guards, assertions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import sympy
from torch.utils._sympy import functions as torch_fn

from symfx.algebra import Scalar, Term
from symfx.sym_node.comparisons import as_asked
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.symbolic_shapes.torch_api.canonical import canonicalize_bool_expr
from symfx.symbolic_shapes.torch_api.constraints import (
    RelaxedUnspecConstraint,
    StrictMinMaxConstraint,
)

__all__ = [
    "CURRENT_NODE_KEY",
    "SHAPEENV_EVENT_KEY",
    "DimConstraint",
    "InputFact",
    "RuntimeAssert",
    "ShapeGuard",
    "SpecializationRecord",
    "SymbolInfo",
    "SympyBoolean",
    "ValueRangesSLoc",
]

SHAPEENV_EVENT_KEY = "shapeenv_event"
"""The key under which a node's `meta` has the event of a ShapeEnv that made it."""

CURRENT_NODE_KEY = "current_node"
"""The key under which a node's `meta` has the node that was being traced."""

DimConstraint = StrictMinMaxConstraint | RelaxedUnspecConstraint | None
"""The promises that a caller may make about one dimension."""

SympyBoolean = sympy.logic.boolalg.Boolean
"""The class of sympy's conditions."""


@dataclass(frozen=True, repr=False)
class SymbolInfo:
    """One symbol, and the facts about it.

    Attributes:
        name: its name.
        term: the symbol.
        sources: the inputs that have its value, such as ``x.size()[0]``.
        hint: its value at tracing; None for an unbacked symbol.
        lower, upper: its bounds, None where unbounded.
        unbacked: whether only a run of the program gives the value.
    """

    name: str
    term: Term
    sources: tuple[str, ...]
    hint: Scalar | None
    lower: int | None
    upper: int | None
    unbacked: bool

    def __repr__(self) -> str:
        low = "" if self.lower is None else f"{self.lower} <= "
        high = "" if self.upper is None else f" <= {self.upper}"
        value = "from data" if self.unbacked else f"{self.hint} at tracing"
        return f"<SymbolInfo {low}{self.name}{high}, {value}>"


class InputFact(NamedTuple):
    """The term that a size, stride or offset of an input must equal for the trace to hold.

    Attributes:
        source: the size, stride or offset, such as ``x.size()[1]``.
        kind: ``"symbol"`` where it defines or repeats a symbol, ``"static"`` where it is a
            constant, ``"expression"`` where it follows from symbols.
        term: the term that it equals.
        asked: of a stride, whether it matters where its dimension has one element too, because the
            program asked for it.
    """

    source: str
    kind: Literal["symbol", "static", "expression"]
    term: Term
    asked: bool = False


@dataclass(frozen=True, repr=False)
class ShapeGuard:
    """A condition on the inputs' shapes that tracing relied on.

    It unpacks and is indexed as ``expr, sloc, size_oblivious``, as torch's guards are, which are
    tuples.

    Attributes:
        term: the condition; sympy where other code than a ShapeEnv made the guard.
        provenance: its cause.
        size_oblivious: whether the question assumed that unbacked sizes are neither 0 nor 1.
        asked: for a comparison, the method that the program called, and both sides.
    """

    term: Term
    provenance: Provenance
    size_oblivious: bool = False
    asked: tuple[str, Term, Term] | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[Any]:
        return iter((self.expr, self.provenance, self.size_oblivious))

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: Any) -> Any:
        return tuple(self)[index]

    @property
    def expr(self) -> sympy.Basic:
        """The condition as sympy; a comparison has the sides that the program wrote."""
        if isinstance(self.term, sympy.Basic):
            return self.term
        return as_asked(self.term, self.asked)

    @property
    def sloc(self) -> Provenance:
        """The provenance, under the name that torch reads."""
        return self.provenance

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.term}, {self.provenance}>"

    def __str__(self) -> str:
        return f"{self.term}  # {self.provenance}"


@dataclass(frozen=True, init=False, repr=False)
class RuntimeAssert:
    """A condition on unbacked symbols that the program has to check when it runs.

    Attributes:
        term: the condition; sympy where other code than a ShapeEnv made the record.
        message: the message of the error where the condition fails.
        provenance: its cause.
        asked: see `ShapeGuard`.
        signless: whether the numbers in each remainder are known not to be negative.
    """

    term: Term
    message: str
    provenance: Provenance
    asked: tuple[str, Term, Term] | None = field(default=None, compare=False)
    signless: bool = field(default=False, compare=False)

    def __init__(
        self,
        expr: Any,
        msg: str,
        stack: Any,
        asked: tuple[str, Term, Term] | None = None,
        signless: bool = False,
    ) -> None:
        """Make a record; the parameters have torch's names for the fields."""
        vars(self).update(term=expr, message=msg, provenance=stack, asked=asked, signless=signless)

    @property
    def expr(self) -> sympy.Basic:
        """The condition as sympy, in the form of `canonicalize_bool_expr`."""
        term = self.term
        condition = term if isinstance(term, sympy.Basic) else as_asked(term, self.asked)
        if self.signless:  # torch writes such a remainder as Mod
            condition = condition.replace(
                torch_fn.PythonMod, lambda *args: torch_fn.Mod(*args, evaluate=False)
            )
        result: sympy.Basic = canonicalize_bool_expr(condition)
        return result

    @property
    def stack(self) -> Provenance:
        """The provenance, under the name that torch reads."""
        return self.provenance

    @property
    def msg(self) -> str:
        """The message, under the name that torch reads."""
        return self.message

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.term}, {self.provenance}>"

    def __str__(self) -> str:
        return f"{self.term}  # {self.provenance}"


@dataclass(frozen=True, repr=False)
class SpecializationRecord:
    """A symbol that tracing pinned to one value.

    Attributes:
        symbol_name: the symbol.
        value: the only value that the trace admits.
        provenance: its cause.
    """

    symbol_name: str
    value: Scalar
    provenance: Provenance

    def __repr__(self) -> str:
        return f"<SpecializationRecord {self.symbol_name} == {self.value}, {self.provenance}>"


@dataclass
class ValueRangesSLoc:
    """The causes of the bounds of a symbol.

    Attributes:
        lower: the cause of the lower bound.
        upper: the cause of the upper bound.
    """

    lower: Any
    upper: Any
