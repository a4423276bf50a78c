"""Where terms live: leaves, sums and operations are made once, and found again."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from symfx.algebra.terms.term import Rope, Scalar, Sort, Term, merged_rope

__all__ = ["Interning"]

# A sum with more monomials than this is built as a rope.
_EAGER = 12
_MASK = (1 << 62) - 1


class Interning:
    """The ground of a `Table`: two terms of equal form are one object."""

    def __init__(self) -> None:
        self._uids = 0
        self._random = random.Random(20260711)
        self._consts: dict[tuple[type, str], Term] = {}
        self._ints: dict[int, Term] = {}
        self._sums: dict[tuple[int, int], Term] = {}
        # Sums whose fingerprint an older sum has too.
        self._collisions: dict[tuple[int, int], list[Term]] = {}
        self._interned: dict[tuple[Any, ...], Term] = {}
        self._monomial_prints: set[int] = set()
        self._symbols: dict[str, Term] = {}
        self.zero = self.const(0)
        self.one = self.const(1)
        self.minus_one = self.const(-1)
        self.true = self.const(True)
        self.false = self.const(False)

    def __len__(self) -> int:
        """How many terms the table has made."""
        return self._uids

    # -- leaves --------------------------------------------------------------------------

    def const(self, value: Scalar) -> Term:
        """The constant `value`; its sort is that of its Python type."""
        if type(value) is int:
            term = self._ints.get(value)
            if term is None:
                term = self._ints[value] = Term(self, "const", "int", (value,), value)
            return term
        if isinstance(value, bool):
            sort: Sort = "bool"
        elif isinstance(value, float):
            # repr tells 0.0 from -0.0 and finds nan again.
            sort, value = "real", float(value)
        elif isinstance(value, int):
            return self.const(int(value))
        else:
            raise TypeError(
                f"a constant is an int, float or bool, not {type(value).__name__}: {value!r}"
            )
        key = (type(value), repr(value))
        term = self._consts.get(key)
        if term is None:
            term = self._consts[key] = Term(self, "const", sort, (value,))
        return term

    def symbol(self, name: str, sort: Sort = "int") -> Term:
        """The symbol of that name, made at the first call.

        Raises:
            ValueError: the table has a symbol of that name and another sort.
        """
        term = self._symbols.get(name)
        if term is None:
            term = self._symbols[name] = self._atom("symbol", sort, (name,))
            term._free = frozenset((term,))
        elif term.sort != sort:
            raise ValueError(f"symbol {name!r} is {term.sort}, it cannot be {sort} too")
        return term

    def call(self, name: str, sort: Sort, *args: Term) -> Term:
        """An uninterpreted function: equal arguments give equal results, no more is known."""
        return self._intern("call", sort, (name, *args))

    def _atom(self, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
        if sort != "int":
            return Term(self, op, sort, args)
        fingerprint = self._random.getrandbits(62) | 1
        self._monomial_prints.add(fingerprint)
        term = Term(self, op, sort, args, 0, fingerprint)
        term._coeffs = {term: 1}
        return term

    def _intern(self, op: str, sort: Sort, args: tuple[Any, ...]) -> Term:
        key = (op, sort, *args)
        term = self._interned.get(key)
        if term is None:
            term = self._interned[key] = self._atom(op, sort, args)
        return term

    # -- sums ----------------------------------------------------------------------------

    def linear(self, coeffs: Mapping[Term, int], const: int = 0) -> Term:
        """The sum of `const` and coefficient times monomial."""
        kept = {m: c for m, c in coeffs.items() if c}
        fingerprint = 0
        for monomial, coeff in kept.items():
            fingerprint += coeff * monomial.fingerprint
        return self._linear(kept, const, fingerprint & _MASK)

    def _linear(self, coeffs: dict[Term, int], const: int, fingerprint: int) -> Term:
        """`linear` of coefficients that are not 0, with their fingerprint; they are kept."""
        if len(coeffs) < 2:
            if not coeffs:
                return self.const(const)
            if not const:
                ((only, coeff),) = coeffs.items()
                if coeff == 1:
                    return only
        return self._sum(const, fingerprint, coeffs, None)

    def _sum(
        self, const: int, fingerprint: int, coeffs: dict[Term, int] | None, rope: Rope | None
    ) -> Term:
        key = (const, fingerprint)
        candidate = self._sums.get(key)
        if candidate is None:
            term = self._sums[key] = Term(self, "sum", "int", (), const, fingerprint, coeffs, rope)
            return term
        if rope is not None:
            coeffs, rope = merged_rope(rope), None
        collisions = self._collisions.get(key, [])
        for other in [candidate, *collisions]:
            if other.coeffs == coeffs:
                return other
        term = Term(self, "sum", "int", (), const, fingerprint, coeffs)
        self._collisions[key] = [*collisions, term]
        return term

    def _combine(self, a: Term, by_a: int, b: Term, by_b: int) -> Term:
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
            return self._linear(merged, const, fingerprint)
        rope = (a, by_a, b, by_b)
        if not fingerprint or (not const and fingerprint in self._monomial_prints):
            # What has cancelled down to a constant or a monomial must become that term.
            return self.linear(merged_rope(rope), const)
        return self._sum(const, fingerprint, None, rope)

    def _scaled(self, a: Term, by: int) -> Term:
        """``by * a`` of an integer term, for a scale that is not 0."""
        coeffs = a._coeffs
        if coeffs is None or len(coeffs) > _EAGER:
            return self._combine(a, by, self.zero, 1)
        scaled = {m: by * c for m, c in coeffs.items()}
        return self._linear(scaled, by * a.const, (by * a.fingerprint) & _MASK)
