"""Terms over integers, reals and booleans: interned, in normal form.

Words used here and everywhere above this floor:

atom
    an integer that the algebra takes as a whole: a symbol, or an opaque operation such as
    ``x // 3`` or ``min(a, b)`` on terms that are themselves in normal form.
monomial
    an atom, or a *product* of atoms (``a*b*b``).
sum
    an integer constant plus integer coefficients times monomials. Every integer term that is
    neither a constant nor a monomial is a sum, so integer terms have one form each.
condition
    a boolean term. Integer comparisons read ``p == 0`` or ``p >= 0`` with the common divisor
    divided out; negation is pushed down to them, so equal guards are one object.

A `Table` owns its terms: within one table, two terms of equal form are one object, ``is`` is
equality, and every operation is memoized by identity. Terms of two tables never mix.

Long sums are built as *ropes* (`symfx.algebra.terms.ropes`), whose coefficients are merged when
they are first read.

Reals are IEEE doubles with Python's semantics. They are not reordered, and simplified only
where that is exact for every value, NaN included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from symfx.algebra.terms.ropes import Rope, merged_rope

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["Scalar", "Sort", "Term", "by_uid", "postorder", "print_terms_by"]

Sort: TypeAlias = Literal["int", "real", "bool"]
Scalar: TypeAlias = int | float | bool
_NO_COEFFS: dict[Term, int] = {}


class Term:
    """An interned term. Made by a `Table` only; compared and hashed by identity.

    Attributes:
        table: the table that owns the term.
        op: the kind of term: ``"const"``, ``"symbol"``, ``"sum"``, ``"product"`` or the name
            of an operation (``"floordiv"``, ``"eq"``, …).
        sort: ``"int"``, ``"real"`` or ``"bool"``.
        args: the operands: terms, or for a constant its value, for a symbol its name.
        uid: the order of creation in the table, which normal forms sort by.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_coeffs",
        "_free",
        "_rope",
        "_text",
        "args",
        "const",
        "fingerprint",
        "op",
        "sort",
        "sympy",
        "table",
        "uid",
    )

    table: Table
    op: str
    sort: Sort
    args: tuple[Any, ...]
    uid: int
    const: int
    """The constant part of an integer term."""
    fingerprint: int
    """The fingerprint of the part that is not constant."""
    sympy: Any
    """The term as sympy, once it was asked for (`symfx.algebra.languages.sympy`)."""

    def __init__(
        self,
        table: Table,
        op: str,
        sort: Sort,
        args: tuple[Any, ...],
        const: int = 0,
        fingerprint: int = 0,
        coeffs: dict[Term, int] | None = _NO_COEFFS,
        rope: Rope | None = None,
    ) -> None:
        self.table = table
        self.op = op
        self.sort = sort
        self.args = args
        self.const = const
        self.fingerprint = fingerprint
        # An integer term has exactly one of both.
        self._coeffs = coeffs
        self._rope = rope
        table._uids = self.uid = table._uids + 1
        self._free: frozenset[Term] | None = None
        self._base: Term | None = None
        self._text: str | None = None
        self.sympy = None

    # -- reading -------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of a symbol or of an uninterpreted function."""
        if self.op not in ("symbol", "call"):
            raise AttributeError(f"a {self.op!r} term has no name")
        name: str = self.args[0]
        return name

    @property
    def value(self) -> Scalar | None:
        """The value of a constant, None for every other term."""
        if self.op == "const":
            value: Scalar = self.args[0]
            return value
        return None

    @property
    def coeffs(self) -> dict[Term, int]:
        """An integer term's monomials with their coefficients. To be read, never changed."""
        found = self._coeffs
        if found is None:
            assert self._rope is not None
            found = self._coeffs = merged_rope(self._rope)
            self._rope = None
        return found

    @property
    def is_monomial(self) -> bool:
        """Whether the term is an atom or a product of atoms."""
        return self.sort == "int" and self.op not in ("const", "sum")

    @property
    def factors(self) -> tuple[Term, ...]:
        """The atoms of a monomial, repeated as often as they occur."""
        return self.args if self.op == "product" else (self,)

    @property
    def operands(self) -> tuple[Term, ...]:
        """The terms one level below this one."""
        if self.op in ("const", "symbol"):
            return ()
        if self.op == "sum":
            return tuple(self.coeffs)
        if self.op == "call":
            return self.args[1:]
        return self.args

    @property
    def base(self) -> Term:
        """An integer term without its constant."""
        if not self.const:
            return self
        if self._base is None:
            self._base = self.table.linear(self.coeffs)
        return self._base

    @property
    def free_symbols(self) -> frozenset[Term]:
        """The symbols that the term depends on."""
        if self._free is None:
            parts = self.operands
            for part in parts:  # most terms are shallow
                if part._free is None and all(p._free is not None for p in part.operands):
                    part._free = part._union_of_free(part.operands)
            if any(p._free is None for p in parts):
                for term in postorder(self, lambda t: t._free is None):
                    term._free = term._union_of_free(term.operands)
            else:
                self._free = self._union_of_free(parts)
        assert self._free is not None
        return self._free

    def _union_of_free(self, parts: tuple[Term, ...]) -> frozenset[Term]:
        if len(parts) == 1:  # shared: most conditions have one operand
            return parts[0]._free or frozenset()
        return frozenset().union(*[p._free for p in parts if p._free])

    def __str__(self) -> str:
        if self._text is None:
            self._text = _printer(self)
        return self._text

    def __repr__(self) -> str:
        return f"<{self.sort} {self}>"

    def __copy__(self) -> Term:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Term:
        # A copy would break "identity is equality" within the table.
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "a term belongs to its table and cannot be pickled; "
            "save its text or its sympy view instead"
        )

    # -- writing: Python's operators; the engine itself calls the table ---------------------

    def _lift(self, other: Term | Scalar) -> Term:
        if not isinstance(other, Term):
            return self.table.const(other)
        if other.table is not self.table:
            raise ValueError(f"{self} and {other} belong to different tables, which do not mix")
        return other

    def __add__(self, other: Term | Scalar) -> Term:
        return self.table.add(self, self._lift(other))

    def __radd__(self, other: Scalar) -> Term:
        return self.table.add(self._lift(other), self)

    def __sub__(self, other: Term | Scalar) -> Term:
        return self.table.sub(self, self._lift(other))

    def __rsub__(self, other: Scalar) -> Term:
        return self.table.sub(self._lift(other), self)

    def __mul__(self, other: Term | Scalar) -> Term:
        return self.table.mul(self, self._lift(other))

    def __rmul__(self, other: Scalar) -> Term:
        return self.table.mul(self._lift(other), self)

    def __floordiv__(self, other: Term | Scalar) -> Term:
        return self.table.floordiv(self, self._lift(other))

    def __rfloordiv__(self, other: Scalar) -> Term:
        return self.table.floordiv(self._lift(other), self)

    def __mod__(self, other: Term | Scalar) -> Term:
        return self.table.mod(self, self._lift(other))

    def __rmod__(self, other: Scalar) -> Term:
        return self.table.mod(self._lift(other), self)

    def __truediv__(self, other: Term | Scalar) -> Term:
        return self.table.truediv(self, self._lift(other))

    def __rtruediv__(self, other: Scalar) -> Term:
        return self.table.truediv(self._lift(other), self)

    def __rpow__(self, other: Scalar) -> Term:
        return self.table.pow(self._lift(other), self)

    def __pow__(self, other: Term | Scalar) -> Term:
        return self.table.pow(self, self._lift(other))

    def __neg__(self) -> Term:
        return self.table.neg(self)

    def __pos__(self) -> Term:
        return self

    def __abs__(self) -> Term:
        return self.table.abs(self)

    def __lt__(self, other: Term | Scalar) -> Term:
        return self.table.lt(self, self._lift(other))

    def __le__(self, other: Term | Scalar) -> Term:
        return self.table.le(self, self._lift(other))

    def __gt__(self, other: Term | Scalar) -> Term:
        return self.table.lt(self._lift(other), self)

    def __ge__(self, other: Term | Scalar) -> Term:
        return self.table.le(self._lift(other), self)

    # ``==`` stays identity, which dictionaries need; `eq` and `ne` make the conditions.
    def eq(self, other: Term | Scalar) -> Term:
        """The condition that both are equal."""
        return self.table.eq(self, self._lift(other))

    def ne(self, other: Term | Scalar) -> Term:
        """The condition that both differ."""
        return self.table.ne(self, self._lift(other))

    def __and__(self, other: Term | Scalar) -> Term:
        return self.table.bit_and(self, self._lift(other))

    def __rand__(self, other: Scalar) -> Term:
        return self.table.bit_and(self._lift(other), self)

    def __or__(self, other: Term | Scalar) -> Term:
        return self.table.bit_or(self, self._lift(other))

    def __ror__(self, other: Scalar) -> Term:
        return self.table.bit_or(self._lift(other), self)

    def __xor__(self, other: Term | Scalar) -> Term:
        return self.table.bit_xor(self, self._lift(other))

    def __rxor__(self, other: Scalar) -> Term:
        return self.table.bit_xor(self._lift(other), self)

    def __lshift__(self, other: Term | Scalar) -> Term:
        return self.table.lshift(self, self._lift(other))

    def __rlshift__(self, other: Scalar) -> Term:
        return self.table.lshift(self._lift(other), self)

    def __rshift__(self, other: Term | Scalar) -> Term:
        return self.table.rshift(self, self._lift(other))

    def __rrshift__(self, other: Scalar) -> Term:
        return self.table.rshift(self._lift(other), self)

    def __invert__(self) -> Term:
        return self.table.not_(self)

    def __bool__(self) -> bool:
        if self.op == "const":
            return bool(self.args[0])
        raise TypeError(f"the truth of {self} depends on its symbols; ask a prover")


_printer: Callable[[Term], str] = object.__repr__


def print_terms_by(printer: Callable[[Term], str]) -> None:
    """Let `str(term)` be the text that a printer gives.

    The printers are made of terms, so this module cannot import them: `symfx.algebra` sets one.
    """
    global _printer  # noqa: PLW0603
    _printer = printer


def postorder(root: Term, wanted: Callable[[Term], bool]) -> Iterator[Term]:
    """The terms below and including `root` that are `wanted`, operands first; no recursion."""
    stack = [root]
    seen: set[Term] = set()
    while stack:
        term = stack[-1]
        if term in seen or not wanted(term):
            stack.pop()
            continue
        below = [t for t in term.operands if t not in seen and wanted(t)]
        if below:
            stack.extend(below)
        else:
            seen.add(term)
            stack.pop()
            yield term


def by_uid(term: Term) -> int:
    """The place of a term in the order of creation, which normal forms sort by."""
    return term.uid
