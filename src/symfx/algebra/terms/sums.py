"""Sums and products of integers: polynomials over atoms, multiplied out."""

from __future__ import annotations

from collections.abc import Iterable

from symfx.algebra.terms.reals import RealTerms
from symfx.algebra.terms.term import Term, by_uid, multiset_divide

__all__ = ["Polynomials"]

# A product of sums is multiplied out up to this many monomials; beyond, its factors stay whole.
_EXPAND_LIMIT = 256
# Powers with a constant exponent are multiplied out up to this exponent.
_EXPAND_POWER = 8


class Polynomials(RealTerms):
    """What a `Table` adds, subtracts and multiplies; doubles are passed on.

    Attributes:
        products: how a sum came about as a product: by the sum without its constant, the whole
            sum and its factors. The normal form multiplies out, and what the factors knew (that
            none is 0, say) would be lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.products: dict[Term, tuple[Term, tuple[Term, ...]]] = {}
        self._add_memo: dict[tuple[Term, Term], Term] = {}
        self._mul_memo: dict[tuple[Term, Term], Term] = {}
        self._neg_memo: dict[Term, Term] = {}
        # Of other operations on two integers, by operation and operands.
        self._op_memo: dict[tuple[str, Term, Term], Term] = {}

    def add(self, a: Term, b: Term) -> Term:
        """a + b"""
        key = (a, b)
        found = self._add_memo.get(key)
        if found is None:
            if a.sort == "int" and b.sort == "int":
                if b.op == "const" and not b.const:
                    found = a
                elif a.op == "const" and not a.const:
                    found = b
                else:
                    found = self._combine(a, 1, b, 1)
            else:
                ints = self._as_ints(a, b)
                found = self.add(*ints) if ints else self._real_add(a, b)
            self._add_memo[key] = found
        return found

    def sum(self, terms: Iterable[Term]) -> Term:
        """The sum of integer terms, in time linear in their number."""
        total: dict[Term, int] = {}
        const = 0
        for term in terms:
            const += term.const
            for monomial, coeff in term.coeffs.items():
                total[monomial] = total.get(monomial, 0) + coeff
        return self.linear(total, const)

    def neg(self, a: Term) -> Term:
        """-a"""
        if a.sort == "int":
            found = self._neg_memo.get(a)
            if found is None:
                found = self._scaled(a, -1)
                self._neg_memo[a], self._neg_memo[found] = found, a
            return found
        if a.sort == "bool":
            return self.neg(self.to_int(a))
        if a.op == "const":
            return self.const(-a.args[0])
        if a.op == "fneg":
            inner: Term = a.args[0]
            return inner
        return self._intern("fneg", "real", (a,))

    def sub(self, a: Term, b: Term) -> Term:
        """a - b"""
        if a.sort == "int" and b.sort == "int":
            key = ("sub", a, b)
            found = self._op_memo.get(key)
            if found is None:
                found = self._op_memo[key] = self.zero if a is b else self._combine(a, 1, b, -1)
            return found
        ints = self._as_ints(a, b)
        if ints:
            return self.sub(*ints)
        # IEEE subtraction is the addition of the negated double, exactly: -0.0 for an integer 0.
        return self._real_add(a, self.neg(self.to_real(b)))

    def mul(self, a: Term, b: Term) -> Term:
        """a * b"""
        key = (a, b)
        found = self._mul_memo.get(key)
        if found is None:
            if a.sort == "int" and b.sort == "int":
                found = self._int_mul(a, b)
            else:
                ints = self._as_ints(a, b)
                found = self.mul(*ints) if ints else self._real_mul(a, b)
            self._mul_memo[key] = found
        return found

    def _int_mul(self, a: Term, b: Term) -> Term:
        if b.op == "const":
            a, b = b, a
        if a.op == "const":
            scale = a.const
            if scale == 0:
                return self.zero
            if scale == 1:
                return b
            if b.op == "const":
                return self.const(scale * b.const)
            return self._scaled(b, scale)
        if a.is_monomial and b.is_monomial:
            return self._product(a.factors + b.factors)
        left, right = a.coeffs, b.coeffs
        size = (len(left) + bool(a.const)) * (len(right) + bool(b.const))
        if size > _EXPAND_LIMIT:
            return self._product((*_whole_factors(a), *_whole_factors(b)))
        total: dict[Term, int] = {}
        for m, c in left.items():
            for n, d in right.items():
                product = self._product(m.factors + n.factors)
                total[product] = total.get(product, 0) + c * d
            if b.const:
                total[m] = total.get(m, 0) + c * b.const
        if a.const:
            for n, d in right.items():
                total[n] = total.get(n, 0) + d * a.const
        result = self.linear(total, a.const * b.const)
        if result.op == "sum":
            factors = (*self._known_factors(a), *self._known_factors(b))
            self.products.setdefault(result.base, (result, factors))
        return result

    def _known_factors(self, a: Term) -> tuple[Term, ...]:
        """Factors of a term that is about to be multiplied out, as it came about."""
        if a.op != "sum":
            return a.factors
        known = self.products.get(a.base)
        return known[1] if known is not None and known[0] is a else (a,)

    def _product(self, factors: tuple[Term, ...]) -> Term:
        if len(factors) == 1:
            return factors[0]
        return self._intern("product", "int", tuple(sorted(factors, key=by_uid)))

    def _strip(self, a: Term, shared: list[Term], g: int) -> Term:
        coeffs: dict[Term, int] = {}
        const = a.const // g
        for m, c in a.coeffs.items():
            rest = multiset_divide(m.factors, tuple(shared))
            assert rest is not None
            if rest:
                coeffs[self._product(rest)] = c // g
            else:
                const += c // g
        return self.linear(coeffs, const)

    def pow(self, a: Term, b: Term) -> Term:
        """a ** b. Of integers: an integer for b >= 0; a negative exponent is not an integer."""
        if a.sort != "int" or b.sort != "int":
            ints = self._as_ints(a, b)
            return self.pow(*ints) if ints else self._real_op("fpow", a, b, lambda x, y: x**y)
        if b.op == "const":
            if b.const < 0:
                return self._real_op("fpow", a, b, lambda x, y: x**y)
            if a.op == "const":
                return self.const(a.const**b.const)
            if b.const == 0:
                return self.one
            if b.const <= _EXPAND_POWER:
                result = a
                for _ in range(b.const - 1):
                    result = self.mul(result, a)
                return result
        if a is self.one:
            return a
        return self._intern("pow", "int", (a, b))


def _whole_factors(a: Term) -> tuple[Term, ...]:
    """The factors of `a` where a sum is not to be multiplied out."""
    return a.factors if a.is_monomial else (a,)
