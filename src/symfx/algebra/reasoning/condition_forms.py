"""The form of a condition, which tells how it can be decided."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from symfx.algebra.reasoning.limits import CHOSEN, LARGE, LONG
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.monomials import divide_out
from symfx.algebra.terms.term import Term, postorder
from symfx.errors import ExpressionError, describe

__all__ = [
    "CHOICES",
    "DIVISIONS",
    "check_condition",
    "choices",
    "compared",
    "is_large",
    "is_linear",
    "is_long",
    "is_order",
    "moduli",
    "nonlinear_symbols",
    "options",
    "with_masks_as_remainders",
    "with_nested_quotients",
    "without_exact_quotients",
    "without_quotient",
    "without_remainders",
]

# How often x & y is taken from x + y, for x | y and x ^ y.
_BIT_OPERATIONS = {"bit_and": 0, "bit_or": 1, "bit_xor": 2}
CHOICES = frozenset(("min", "max", "abs", "where"))
DIVISIONS = frozenset(("floordiv", "mod"))


def check_condition(value: object) -> None:
    """Refuse a fact or a question that is not a condition.

    Raises:
        ExpressionError: the value is not a term, or not a condition.
    """
    if isinstance(value, Term) and value.sort == "bool":
        return
    shown = f"the {value.sort} {value}" if isinstance(value, Term) else describe(value)
    raise ExpressionError(
        f"a fact or a question must be a condition, not {shown}",
        fix="write a.eq(b) or table.eq(a, b) for an equation: Python's == tells whether two terms "
        "are one object, and a chain such as 0 <= a < b must be two conditions",
    )


def is_order(p: Term) -> bool:
    """Whether an integer term is a symbol or the difference of two, up to sign and a constant."""
    coeffs = p.coeffs
    if len(coeffs) > 2:
        return False
    total = 0
    for monomial, coeff in coeffs.items():
        if monomial.op != "symbol" or coeff not in (1, -1):
            return False
        total += coeff
    return len(coeffs) == 1 or not total


def compared(condition: Term) -> Term | None:
    """The sum that an integer condition compares with 0; None for any other condition."""
    inner: Term = condition.args[0] if condition.op == "not" else condition
    if inner.op == "eq" or condition.op == "ge":
        p: Term = inner.args[0]
        return p
    return None


def nonlinear_symbols(condition: Term) -> frozenset[Term]:
    """The symbols of an integer condition that stand inside a product or an operation."""
    p = compared(condition)
    return frozenset() if p is None else nonlinear_symbols_of(p)


def nonlinear_symbols_of(p: Term) -> frozenset[Term]:
    """The symbols of an integer term that stand inside a product or an operation."""
    return frozenset().union(*(m.free_symbols for m in p.coeffs if m.op != "symbol"))


def without_remainders(condition: Term, *, everywhere: bool = True) -> Term:
    """The condition with ``x % d`` as ``x - d * (x // d)``, everywhere or beside ``x // d``."""
    table = condition.table
    inside = list(postorder(condition, lambda t: t.op not in ("const", "symbol")))
    if any(t.op == "sum" and len(t.coeffs) > LONG for t in inside):
        return condition  # powers of such sums would grow without end
    quotients = {atom.args for atom in inside if atom.op == "floordiv"}
    forms = {}
    for atom in inside:
        if atom.op == "mod" and (everywhere or atom.args in quotients):
            x, d = atom.args
            forms[atom] = table.sub(x, table.mul(d, table.floordiv(x, d)))
    return substitute(condition, forms) if forms else condition


def with_nested_quotients(condition: Term) -> Term:
    """The condition with ``x // (k*d)`` as ``x // d // k``, for k >= 1 and d of any sign."""
    table = condition.table
    forms = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op == "floordiv" and atom.args[1].op != "const":
            x, divisor = atom.args
            k = math.gcd(divisor.const, *divisor.coeffs.values())
            if k > 1:
                quotient = table.floordiv(x, divide_out(table, divisor, [], k))
                forms[atom] = table.floordiv(quotient, table.const(k))
    return substitute(condition, forms) if forms else condition


def without_quotient(condition: Term, is_positive: Callable[[Term], bool]) -> Term:
    """A comparison with a quotient by a positive divisor as one with the dividend.

    ``x//d + r >= 0`` is x + d*r >= 0, and ``-(x//d) + r >= 0`` is d*r + d - 1 - x >= 0.
    """
    if condition.op not in ("eq", "ge"):
        return condition
    table, p = condition.table, condition.args[0]
    for atom, coeff in p.coeffs.items():
        if atom.op != "floordiv" or coeff not in (1, -1):
            continue
        x, d = atom.args
        # Sums of many quotients by symbols would grow with each of them.
        if d.op == "const" or (_has_few_quotients(p) and is_positive(d)):
            rest = coeff * p - atom
            below, above = x + d * rest, d - 1 - x - d * rest
            if condition.op == "eq":
                return table.and_(table.ge_zero(below), table.ge_zero(above))
            return table.ge_zero(below if coeff > 0 else above)
    return condition


def without_exact_quotients(condition: Term, divides: Callable[[Term, Term], bool]) -> Term:
    """The condition with ``6*(x//3)`` as ``2*x`` in each sum where 3 divides x.

    Args:
        condition: the condition.
        divides: whether a constant is known to divide a term.
    """
    table = condition.table
    forms: dict[Term, Term] = {}
    for part in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if part.op != "sum":
            continue
        exact = [
            table.const(coeff // atom.args[1].const) * atom.args[0] - table.const(coeff) * atom
            for atom, coeff in part.coeffs.items()
            if atom.op == "floordiv"
            and atom.args[1].op == "const"
            and coeff % atom.args[1].const == 0
            and divides(atom.args[1], atom.args[0])
        ]
        if exact:
            forms[part] = table.sum((part, *exact))
    return substitute(condition, forms) if forms else condition


def _has_few_quotients(p: Term) -> bool:
    inside = postorder(p, lambda t: t.op not in ("const", "symbol"))
    return sum(t.op == "floordiv" for t in inside) < CHOSEN


def with_masks_as_remainders(condition: Term) -> Term:
    """The condition with bits that a constant masks as remainders: ``x & 12`` is x % 16 - x % 4."""
    table = condition.table
    forms: dict[Term, Term] = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op not in _BIT_OPERATIONS or not any(a.op == "const" for a in atom.args):
            continue
        mask, x = sorted(atom.args, key=lambda a: a.op != "const")
        bits = mask.const
        if bits < 0:  # the bits of x outside of it are those that -1 - mask has
            bits = -1 - bits
        ends = [k for k in range(bits.bit_length() + 1) if (bits >> k ^ bits << 1 >> k) & 1]
        if len(ends) > 2 * CHOSEN:
            continue
        x = substitute(x, forms) if forms else x
        kept = table.sum(
            sign * table.mod(x, table.const(1 << k))
            for k, sign in zip(ends, itertools.cycle((-1, 1)), strict=False)
        )
        both = kept if mask.const >= 0 else x - kept
        times = _BIT_OPERATIONS[atom.op]
        forms[atom] = both if not times else x + mask - times * both
    return substitute(condition, forms) if forms else condition


def choices(condition: Term) -> list[Term]:
    """The first few choices (`CHOICES`) inside an integer condition, the innermost first."""
    if condition.op == "not":
        condition = condition.args[0]
    if condition.op not in ("eq", "ge"):
        return []
    inside = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    found = (t for t in inside if t.op in CHOICES and len(t.args) <= CHOSEN)
    return list(itertools.islice(found, CHOSEN))


def options(choice: Term) -> list[tuple[Term, Term]]:
    """(condition, value) for each branch of a choice. One of the conditions holds."""
    table, args = choice.table, choice.args
    if choice.op == "where":
        return [(args[0], args[1]), (table.not_(args[0]), args[2])]
    if choice.op == "abs":
        (x,) = args
        return [(table.ge_zero(x), x), (table.ge_zero(-x), -x)]
    sign = 1 if choice.op == "max" else -1
    return [(table.and_(*(table.ge_zero(sign * (a - b)) for b in args)), a) for a in args]


def moduli(condition: Term, *, in_products: bool = True) -> dict[Term, int]:
    """For each symbol (in a product) that is divided by constants, the lcm of these."""
    if condition.op not in ("eq", "ge", "not"):
        return {}
    found: dict[Term, int] = {}
    for atom in postorder(condition, lambda t: t.op not in ("const", "symbol")):
        if atom.op not in DIVISIONS or atom.args[1].op != "const":
            continue
        for monomial in atom.args[0].coeffs:
            if in_products and monomial.op != "product":
                continue
            for symbol in monomial.factors:
                if symbol.op == "symbol":
                    found[symbol] = math.lcm(found.get(symbol, 1), atom.args[1].const)
    return found


def is_linear(condition: Term) -> bool:
    """Whether a condition compares a sum of multiples of symbols, without any operation."""
    inner = condition.args[0] if condition.op == "not" else condition
    if inner.op not in ("eq", "ge"):
        return False
    for monomial in inner.args[0].coeffs:  # noqa: SIM110  # asked of every condition
        if monomial.op != "symbol":
            return False
    return True


def is_large(condition: Term) -> bool:
    """Whether a condition has too many parts to be rewritten again and again."""
    parts = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    return next(itertools.islice(parts, LARGE, None), None) is not None


def is_long(condition: Term) -> bool:
    """Whether an integer condition is about a sum too long for more than intervals."""
    inner = condition.args[0] if condition.op == "not" else condition
    return inner.op in ("eq", "ge") and len(inner.args[0].coeffs) > LONG
