"""What a condition is made of, which tells how it can be decided."""

from __future__ import annotations

import itertools
import math

from symfx.algebra.reasoning.bounds import CHOICES, DIVISIONS
from symfx.algebra.reasoning.equalities import LONG
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.term import Term, postorder

__all__ = [
    "choices",
    "is_linear",
    "is_long",
    "moduli",
    "nonlinear_symbols",
    "options",
    "without_remainders",
]

_FEW = 3


def nonlinear_symbols(condition: Term) -> frozenset[Term]:
    """The symbols of an integer condition that stand inside a product or an operation."""
    p = condition.args[0]
    if condition.op == "not":
        p = p.args[0] if p.op == "eq" else None
    if p is None or p.sort != "int":
        return frozenset()
    return frozenset().union(
        *(m.free_symbols for m in p.coeffs if m.op != "symbol" or len(m.factors) > 1)
    )


def without_remainders(condition: Term) -> Term:
    """The condition with ``x % d`` as ``x - d * (x // d)``, where ``x // d`` is in it too."""
    table = condition.table
    forms = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op == "mod":
            x, d = atom.args
            quotient = table._interned.get(("floordiv", "int", x, d))
            if quotient is not None:
                forms[atom] = x - d * quotient
    return substitute(condition, forms) if forms else condition


def choices(condition: Term) -> list[Term]:
    """The first few choices that an integer condition depends on, the innermost first."""
    if condition.op == "not":
        condition = condition.args[0]
    if condition.op not in ("eq", "ge"):
        return []
    inside = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    found = (t for t in inside if t.op in CHOICES and len(t.args) <= _FEW)
    return list(itertools.islice(found, _FEW))


def options(choice: Term) -> list[tuple[Term, Term]]:
    """How a choice can turn out: what then holds, and its value. One of them does."""
    table, args = choice.table, choice.args
    if choice.op == "where":
        return [(args[0], args[1]), (table.not_(args[0]), args[2])]
    if choice.op == "abs":
        (x,) = args
        return [(table.ge_zero(x), x), (table.ge_zero(-x), -x)]
    sign = 1 if choice.op == "max" else -1
    return [(table.and_(*(table.ge_zero(sign * (a - b)) for b in args)), a) for a in args]


def moduli(condition: Term) -> dict[Term, int]:
    """The symbols that are multiplied inside quotients and remainders, by what these divide by."""
    if condition.op not in ("eq", "ge", "not"):
        return {}
    found: dict[Term, int] = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op not in DIVISIONS or atom.args[1].op != "const":
            continue
        for monomial in atom.args[0].coeffs:
            for symbol in monomial.args if monomial.op == "product" else ():
                if symbol.op == "symbol":
                    found[symbol] = math.lcm(found.get(symbol, 1), atom.args[1].const)
    return found


def is_linear(condition: Term) -> bool:
    """Whether a condition compares a sum of multiples of symbols: no operation is in it."""
    inner = condition.args[0] if condition.op == "not" else condition
    if inner.op not in ("eq", "ge"):
        return False
    for monomial in inner.args[0].coeffs:  # noqa: SIM110  # asked of every condition
        if monomial.op != "symbol":
            return False
    return True


def is_long(condition: Term) -> bool:
    """Whether an integer condition is about a sum too long for more than intervals."""
    inner = condition.args[0] if condition.op == "not" else condition
    return inner.op in ("eq", "ge") and len(inner.args[0].coeffs) > LONG
