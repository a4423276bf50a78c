"""Powers of constants with a symbolic exponent: one form for 2**(k + 1), 4**k and 1 << k.

Exponents are never negative where a term has a value, so a form may assume it.
"""

from __future__ import annotations

import itertools
from functools import reduce
from typing import TYPE_CHECKING

from symfx.algebra.reasoning.intervals import floor_root
from symfx.algebra.reasoning.limits import BITS, EXPONENT, FEW_POWERS
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.term import Term, postorder

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = ["POWERS", "bounds_of_exponents", "with_powers_apart"]

POWERS = frozenset(("pow", "lshift", "rshift"))


def with_powers_apart(prover: Prover, condition: Term) -> Term:
    """The condition with its powers as products of those of the fewest exponents.

    So ``2**(k + 1)`` and ``2 << k`` are ``2*2**k`` for k >= 0, and ``2**b`` beside ``2**a`` is
    ``2**a * 2**(b - a)`` for a <= b.
    """
    inside = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    if not 0 < sum(t.op in POWERS for t in inside) <= FEW_POWERS:
        return condition
    form = _with_shifts_as_powers(condition)
    atoms = _powers_in(form)
    form = substitute(form, {atom: _apart(prover, atom) for atom in atoms})
    for low, high in itertools.permutations(_powers_in(form), 2):
        (base, small), (same, large) = low.args, high.args
        if base is same and prover.decide(prover.table.le(small, large)):
            return substitute(form, {high: low * prover.table.pow(base, large - small)})
    return form


def bounds_of_exponents(p: Term, op: str) -> list[Term]:
    """The bounds of exponents that follow from p >= 0 or p == 0.

    So a <= 6 follows from ``2**a <= 64``, and a == b from ``2**a == 2**b``.
    """
    table = p.table
    signs = (1, -1) if op == "eq" else (1,)
    found: list[Term] = []
    for sign in signs:
        coeffs = {m: sign * c for m, c in p.coeffs.items()}
        const = sign * p.const
        if len(coeffs) == 1:
            ((power, c),) = coeffs.items()
            if not is_power(power):
                return []
            base, exponent = power.args
            if c > 0 and const < 0:  # power >= -const / c, rounded up
                found.append(exponent >= _digits((-const + c - 1) // c - 1, base.const))
            elif c < 0 and const >= 0:
                found.append(exponent < _digits(const // -c, base.const))
        elif len(coeffs) == 2 and const <= 0:
            (large, c), (small, d) = sorted(coeffs.items(), key=lambda item: -item[1])
            if c == -d and is_power(large) and is_power(small) and large.args[0] is small.args[0]:
                order = table.le if const == 0 else table.lt
                found.append(order(small.args[1], large.args[1]))
    return found


def is_power(atom: Term) -> bool:
    """Whether an atom is a power of a constant above 1."""
    return atom.op == "pow" and atom.args[0].op == "const" and atom.args[0].const > 1


def _digits(number: int, base: int) -> int:
    """The number of digits of a number that is not negative: the least n with number < base**n."""
    digits = 0
    while number:
        number //= base
        digits += 1
    return digits


def _powers_in(condition: Term) -> list[Term]:
    inside = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    return [atom for atom in inside if is_power(atom)]


def _with_shifts_as_powers(condition: Term) -> Term:
    """The condition with ``x << k`` as ``x * 2**k``, and ``x >> k`` as ``x // 2**k``."""
    table = condition.table
    two = table.const(2)
    forms: dict[Term, Term] = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op in ("lshift", "rshift"):
            x, k = (substitute(part, forms) if forms else part for part in atom.args)
            make = table.mul if atom.op == "lshift" else table.floordiv
            forms[atom] = make(x, table.pow(two, k))
    return substitute(condition, forms) if forms else condition


def _apart(prover: Prover, atom: Term) -> Term:
    """The power as a constant times powers of differences that are known not to be negative."""
    table = prover.table
    base, exponent = atom.args
    root, times = _root(base.const)
    const = times * exponent.const
    if times > EXPONENT:
        return atom
    parts: list[tuple[Term, int]] = []
    for monomial, once in exponent.coeffs.items():
        coeff = once * times
        low, high = prover.intervals.of(monomial)
        end = low if coeff > 0 else high
        if end is None or abs(coeff) > EXPONENT:
            return atom
        const += coeff * end
        above = monomial - end if coeff > 0 else end - monomial
        parts.append((above, abs(coeff)))
    if not 0 <= const <= BITS:
        return atom
    factors = [table.pow(table.const(root), above) for above, n in parts for _ in range(n)]
    return reduce(table.mul, factors, table.const(root**const))


def _root(number: int) -> tuple[int, int]:
    """(root, n) with number == root**n for the largest n."""
    for n in range(number.bit_length(), 1, -1):
        root = floor_root(number, n)
        if root > 1 and root**n == number:
            return root, n
    return number, 1
