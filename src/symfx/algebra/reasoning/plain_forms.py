"""Conditions in the form that a person would write: ``n % 4 == 0`` for ``3*n % 4 <= 0``.

The normal form of a term serves the engine, which wants equal terms to be one object. It writes a
negated remainder as a remainder of a multiple, and leaves a minimum in a comparison where its
operands say the same. Each form here is equivalent to the condition that it stands for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from symfx.algebra.terms.term import Term

__all__ = ["joined_remainder", "parts_of_equation", "plain_form"]


def plain_form(condition: Term) -> Term:
    """A condition without a minimum, a maximum or a factor of a remainder that it can do without.

    Args:
        condition: the condition.
    """
    if condition.op == "not":
        table = condition.table
        return table.not_(plain_form(condition.args[0]))
    if condition.op in ("and", "or"):
        parts = map(plain_form, condition.args)
        join = condition.table.and_ if condition.op == "and" else condition.table.or_
        return join(*parts)
    if condition.op not in ("eq", "ge"):
        return condition
    return _of_remainder(_bound_of_quotient(_without_quotient(_without_extremum(condition))))


def joined_remainder(condition: Term, holds: Callable[[Term], bool]) -> Term:
    """``x % (a*b) == a*r`` for ``x//a % b == r``, where ``x % a == 0`` holds too.

    The quotient may also round up, as ``(x + a - 1)//a`` does. Any other condition is returned.

    Args:
        condition: the condition, in its plain form.
        holds: whether a condition holds beside it.
    """
    found = _remainder(condition)
    if found is None:
        return condition
    p = condition.args[0]
    if condition.op == "ge":
        return _smallest_remainder(condition, found, holds)
    remainder = -p.const * p.coeffs[found]
    x, divisor = found.args
    if len(x.coeffs) != 1 or x.const:
        return condition
    ((quotient, factor),) = x.coeffs.items()
    if factor != 1 or quotient.op != "floordiv" or quotient.args[1].op != "const":
        return condition
    y, inner = quotient.args
    x, rest = condition.table.linear(dict(y.coeffs)), y.const % inner.const
    if inner.const < 1 or not holds((x % inner).eq(0)):
        return condition
    # y = x + a*k + rest with 0 <= rest < a, so y//a is (y - rest)/a.
    return _of_remainder(((y - rest) % (inner * divisor)).eq(inner * remainder))


def parts_of_equation(condition: Term, holds: Callable[[Term], bool]) -> Term:
    """An equation of a sum or a product as conditions on its parts; else the condition.

    ``n*a + b == 0`` says ``a == 0 and b == 0``, where n >= 1 and neither a nor b is negative.
    ``a*b == 1`` says ``a == 1 and b == 1``, where both are 1 or more. ``x//8 == 1`` says
    ``x <= 15``, where x is 8 or more.

    Args:
        condition: the condition.
        holds: whether a condition holds beside it.
    """
    p, table = condition.args[0] if condition.op == "eq" else None, condition.table
    if p is None:
        return condition
    if len(p.coeffs) == 1:
        return _of_one_part(condition, holds)
    if p.const or len({c > 0 for c in p.coeffs.values()}) > 1:
        return condition
    parts = []
    for monomial in p.coeffs:
        if not holds(monomial >= 0):
            return condition
        factors = monomial.factors if monomial.op == "product" else (monomial,)
        product = table.one
        for factor in factors:
            product = product if holds(factor >= 1) else product * factor
        parts.append(plain_form(product.eq(0)))
    return table.and_(*parts)


def _of_one_part(condition: Term, holds: Callable[[Term], bool]) -> Term:
    """``a*b == 1`` as ``a == 1 and b == 1``, and a quotient that is a number as a bound."""
    p, table = condition.args[0], condition.table
    ((monomial, coeff),) = p.coeffs.items()
    if coeff not in (1, -1):
        return condition
    value = -p.const * coeff
    if monomial.op == "product":
        if value != 1 or not all(holds(factor >= 1) for factor in monomial.factors):
            return condition
        ones = (factor.eq(1) for factor in monomial.factors)
        return table.and_(*(parts_of_equation(one, holds) for one in ones))
    if _is_quotient(monomial):
        for bound, other in (
            (monomial >= value, monomial <= value),
            (monomial <= value, monomial >= value),
        ):
            if holds(bound):
                return plain_form(other)
    return condition


def _smallest_remainder(condition: Term, found: Term, holds: Callable[[Term], bool]) -> Term:
    """``x % d == 0`` for ``x % d <= k``, where x is known to be a multiple of a larger divisor."""
    (x, divisor), p = found.args, condition.args[0]
    if p.coeffs[found] == -1:
        for step in range(max(p.const + 1, 2), divisor.const):
            if divisor.const % step == 0 and holds((x % step).eq(0)):
                return _of_remainder((x % divisor).eq(0))
    return condition


def _without_extremum(condition: Term) -> Term:
    """A comparison of one minimum or maximum, as comparisons of its operands."""
    p, table = condition.args[0], condition.table
    extrema = [(m, c) for m, c in p.coeffs.items() if m.op in ("min", "max")]
    if len(extrema) != 1:
        return condition
    ((extremum, coeff),) = extrema
    rest = table.sub(p, table.mul(table.const(coeff), extremum))
    if condition.op == "ge":
        scale = table.const(coeff)
        parts = [table.ge_zero(table.add(rest, table.mul(scale, x))) for x in extremum.args]
        # The least of some terms is at least a bound if each is; the greatest is at most if so.
        if (extremum.op == "min") is (coeff > 0):
            return table.and_(*parts)
        # The greatest is at least a bound if one of them is: plain where only one of them can be.
        some = table.or_(*parts)
        return condition if some.op == "or" else some
    if coeff not in (1, -1):
        return condition
    value = table.mul(table.const(-coeff), rest)
    if value in extremum.args:
        order = table.le if extremum.op == "min" else (lambda a, b: table.le(b, a))
        return table.and_(*(order(value, x) for x in extremum.args))
    return condition


def _without_quotient(condition: Term) -> Term:
    """``x % a == r`` for an equation of quotients that says so; else the condition."""
    if condition.op != "eq":
        return condition
    p, table = condition.args[0], condition.table
    quotients = [(q, coeff) for q, coeff in p.coeffs.items() if _is_quotient(q)]
    for quotient, coeff in quotients:
        x, divisor = quotient.args
        scale = -coeff // divisor.const
        # p == scale*(x - a*(x//a)) + rest
        rest = table.sub(p, (x - divisor * quotient) * scale)
        if scale and rest.op == "const" and rest.const % scale == 0:
            found: Term = (x % divisor).eq(-rest.const // scale)
            return found
    if len(quotients) == len(p.coeffs) == 2 and not p.const:
        for (one, m), (other, n) in (quotients, quotients[::-1]):
            plain = _of_two_quotients(one, other, -n if m == 1 else n if m == -1 else 0)
            if plain is not None:
                return plain
    return condition


def _bound_of_quotient(condition: Term) -> Term:
    """``x >= a*k`` for ``x//a >= k``, and ``x <= a*k + a - 1`` for ``x//a <= k``.

    ``k`` is an integer: a number, or a term without quotients.
    """
    if condition.op != "ge":
        return condition
    p, table = condition.args[0], condition.table
    quotients = [(q, coeff) for q, coeff in p.coeffs.items() if _is_quotient(q)]
    if len(quotients) != 1:
        return condition
    ((quotient, coeff),) = quotients
    if coeff not in (1, -1):
        return condition
    x, a = quotient.args
    rest = table.sub(p, quotient * coeff)
    if coeff == 1:
        plain = x + a * rest
    else:
        plain = a * (rest + 1) - 1 - x
    return plain_form(table.ge_zero(plain))


def _is_quotient(term: Term) -> bool:
    """Whether a term is a quotient by a constant of 2 or more."""
    return term.op == "floordiv" and term.args[1].op == "const" and term.args[1].const > 1


def _of_two_quotients(one: Term, other: Term, times: int) -> Term | None:
    """``one == times*other``, for quotients by constants, as a condition on one remainder."""
    (x, a), (y, b) = one.args, other.args
    table, shift = one.table, one.table.sub(y, x)
    if shift.op != "const":
        return None
    c = shift.const
    if times == 1 and a is b and 0 < c < a.const:
        # x//a == (x + c)//a just when x lies less than a - c above a multiple of a.
        return table.le(x % a, table.const(a.const - 1 - c))
    # (x + a*m)//(a*t) is (x//a + m)//t, which is q//t of q = x//a rounded up by at most m.
    if times > 1 and b.const == a.const * times and c % a.const == 0 and 0 <= c < b.const:
        return (one % times).eq(0)
    return None


def _remainder(condition: Term) -> Term | None:
    """The remainder by a constant that is all a comparison holds; None for other comparisons."""
    p = condition.args[0] if condition.op in ("eq", "ge") else None
    if p is None or len(p.coeffs) != 1:
        return None
    ((atom, coeff),) = p.coeffs.items()
    plain = atom.op == "mod" and atom.args[1].op == "const" and coeff in (1, -1)
    return atom if plain and atom.args[1].const > 0 else None


def _of_remainder(condition: Term) -> Term:
    """A condition on one remainder as ``x % d == r`` or ``x % d != r``, with small numbers."""
    found = _remainder(condition)
    if found is None:
        return condition
    table, p = condition.table, condition.args[0]
    x, divisor = found.args[0], int(found.args[1].const)
    coeff, const = p.coeffs[found], p.const
    if condition.op == "eq":
        equal, rest = True, -const * coeff
    elif coeff == -1 and const == 0:  # r <= 0
        equal, rest = True, 0
    elif coeff == 1 and const == -1:  # r >= 1
        equal, rest = False, 0
    elif coeff == 1 and const == 1 - divisor:  # r >= d - 1
        equal, rest = True, divisor - 1
    else:
        return condition
    if not 0 <= rest < divisor:  # no remainder is
        return condition
    # x % d == r just when -x % d == -r % d, and when x/g % (d/g) == r/g for a common divisor g.
    coeffs = [*x.coeffs.values(), x.const]
    negated = [-c % divisor for c in coeffs]
    if sum(negated) < sum(c % divisor for c in coeffs):
        x, rest = -x, -rest % divisor
    x = table.linear({m: c % divisor for m, c in x.coeffs.items()}, x.const % divisor)
    shared = math.gcd(divisor, rest, x.const, *x.coeffs.values())
    if shared > 1:
        x = table.linear({m: c // shared for m, c in x.coeffs.items()}, x.const // shared)
        divisor, rest = divisor // shared, rest // shared
    if not x.coeffs:
        return condition
    # The constant goes to the right side.
    rest = (rest - x.const) % divisor
    x = table.linear(dict(x.coeffs), 0)
    plain = (x % divisor).eq(rest)
    return plain if equal else table.not_(plain)
