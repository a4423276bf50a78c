"""Interning: leaves, sums and operations are made once, and found again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from symfx.algebra.terms.ropes import Rope, merged_rope
from symfx.algebra.terms.term import Scalar, Sort, Term

if TYPE_CHECKING:
    from symfx.algebra.terms.table import Table

__all__ = ["call", "check_size", "combine", "const", "intern", "linear", "scaled", "symbol"]

# A sum with more monomials than this is built as a rope.
_EAGER = 12
_MASK = (1 << 62) - 1
# No constant is computed that has more bits than this: it would take seconds, or all memory.
_BITS = 1 << 20


def const(table: Table, value: Scalar) -> Term:
    """The constant `value`, of the sort of its Python type."""
    if type(value) is int:
        term = table._ints.get(value)
        if term is None:
            term = table._ints[value] = Term(table, "const", "int", (value,), value)
        return term
    if isinstance(value, bool):
        sort: Sort = "bool"
    elif isinstance(value, float):
        # repr tells 0.0 from -0.0 and finds nan again.
        sort, value = "real", float(value)
    elif isinstance(value, int):
        return table.const(int(value))
    else:
        raise TypeError(
            f"a constant is an int, float or bool, not {type(value).__name__}: {value!r}"
        )
    key = (type(value), repr(value))
    term = table._consts.get(key)
    if term is None:
        term = table._consts[key] = Term(table, "const", sort, (value,))
    return term


def check_size(bits: int) -> None:
    """Refuse to compute a constant of too many bits.

    Raises:
        OverflowError: the constant would have more bits than terms may have.
    """
    if bits > _BITS:
        raise OverflowError(f"a constant of {bits} bits is too large, the limit is {_BITS}")


def symbol(table: Table, name: str, sort: Sort = "int") -> Term:
    """The symbol `name`, made at the first call.

    Raises:
        ValueError: the table has a symbol of that name and another sort.
    """
    term = table.symbols.get(name)
    if term is None:
        term = table.symbols[name] = _atom(table, "symbol", sort, (name,))
        term._free = frozenset((term,))
    elif term.sort != sort:
        raise ValueError(f"symbol {name!r} is {term.sort}, it cannot be {sort} too")
    return term


def call(table: Table, name: str, sort: Sort, *args: Term) -> Term:
    """A call of an uninterpreted function: equal arguments give equal results."""
    return intern(table, "call", sort, (name, *args))


def _atom(table: Table, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
    """A new term that is no sum, with a random fingerprint if it is an integer."""
    if sort != "int":
        return Term(table, op, sort, args)
    fingerprint = table._random.getrandbits(62) | 1
    table._monomial_prints.add(fingerprint)
    term = Term(table, op, sort, args, 0, fingerprint)
    term._coeffs = {term: 1}
    return term


def intern(table: Table, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
    """The one term of an operation on these operands, which the caller has put in normal form."""
    key = (op, sort, *args)
    term = table._interned.get(key)
    if term is None:
        term = table._interned[key] = _atom(table, op, sort, args)
    return term


def linear(table: Table, coeffs: Mapping[Term, int], const: int = 0) -> Term:
    """The sum of `const` and coefficient times monomial."""
    kept = {m: c for m, c in coeffs.items() if c}
    fingerprint = 0
    for monomial, coeff in kept.items():
        fingerprint += coeff * monomial.fingerprint
    return _linear(table, kept, const, fingerprint & _MASK)


def _linear(table: Table, coeffs: dict[Term, int], const: int, fingerprint: int) -> Term:
    """`linear` of coefficients that are not 0, with their fingerprint; the dictionary is kept."""
    if len(coeffs) < 2:
        if not coeffs:
            return table.const(const)
        if not const:
            ((only, coeff),) = coeffs.items()
            if coeff == 1:
                return only
    return _summed(table, const, fingerprint, coeffs, None)


def _summed(
    table: Table, const: int, fingerprint: int, coeffs: dict[Term, int] | None, rope: Rope | None
) -> Term:
    """The one sum of a constant and either coefficients or a rope."""
    key = (const, fingerprint)
    candidate = table._sums.get(key)
    if candidate is None:
        term = table._sums[key] = Term(table, "sum", "int", (), const, fingerprint, coeffs, rope)
        return term
    if rope is not None:
        coeffs, rope = merged_rope(rope), None
    collisions = table._collisions.get(key, [])
    for other in [candidate, *collisions]:
        if other.coeffs == coeffs:
            return other
    term = Term(table, "sum", "int", (), const, fingerprint, coeffs)
    table._collisions[key] = [*collisions, term]
    return term


def combine(table: Table, a: Term, by_a: int, b: Term, by_b: int) -> Term:
    """``by_a * a + by_b * b`` of two integer terms, for scales that are not 0."""
    left, right = a._coeffs, b._coeffs
    const = by_a * a.const + by_b * b.const
    fingerprint = (by_a * a.fingerprint + by_b * b.fingerprint) & _MASK
    if left is not None and right is not None and len(left) + len(right) <= _EAGER:
        merged = {m: by_a * c for m, c in left.items()} if by_a != 1 else left.copy()
        for monomial, coeff in right.items():
            new = merged.get(monomial, 0) + by_b * coeff
            if new:
                merged[monomial] = new
            else:
                del merged[monomial]
        return _linear(table, merged, const, fingerprint)
    rope = (a, by_a, b, by_b)
    if not fingerprint or (not const and fingerprint in table._monomial_prints):
        # A sum that has canceled down to a constant or a monomial must become that term.
        return table.linear(merged_rope(rope), const)
    return _summed(table, const, fingerprint, None, rope)


def scaled(table: Table, a: Term, by: int) -> Term:
    """``by * a`` of an integer term, for a scale that is not 0."""
    coeffs = a._coeffs
    if coeffs is None or len(coeffs) > _EAGER:
        return combine(table, a, by, table.zero, 1)
    multiples = {m: by * c for m, c in coeffs.items()}
    return _linear(table, multiples, by * a.const, (by * a.fingerprint) & _MASK)
