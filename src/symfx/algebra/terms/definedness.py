"""Definedness: the condition under which Python computes a term without raising."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from symfx.algebra.terms.table import Term
from symfx.algebra.terms.term import postorder

__all__ = ["UNDEFINED", "definedness"]

UNDEFINED = (ZeroDivisionError, OverflowError, ValueError)
"""The errors of making or evaluating a term that has no value, as ``1 // x`` for x = 0."""


def definedness(term: Term, memo: dict[Term, Term] | None = None) -> Term:
    """The condition under which Python computes the term as `to_python` prints it.

    Conjunctions, disjunctions and choices are lazy, as in Python: an operand that Python does not
    evaluate need not be defined. Doubles that overflow are not accounted for (``float(n)`` of an
    integer beyond 1e308, ``exp(1000.0)``, powers of doubles).

    Args:
        term: the term.
        memo: the definedness of terms that is known already; the call adds those that it finds.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); a, b = t.symbol("a"), t.symbol("b")
        >>> str(definedness(a // b >= a % 3)), str(definedness(t.or_(b.eq(0), a % b >= 1)))
        ('b != 0', 'True')
    """
    done: dict[Term, Term] = {} if memo is None else memo
    for part in postorder(term, lambda t: t not in done):
        done[part] = _defined(part, done)
    return done[term]


def _defined(term: Term, done: dict[Term, Term]) -> Term:
    """The definedness of a term, from that of its operands in `done`."""
    table, op = term.table, term.op
    if op in ("and", "or"):
        # Python evaluates an operand only where those before it leave the answer open.
        result = table.true
        for part in reversed(term.args):
            settled = table.not_(part) if op == "and" else part
            rest = table.true if result is table.true else table.or_(settled, result)
            result = table.and_(done[part], rest)
        return result
    if op == "where":
        cond, a, b = term.args
        return table.and_(done[cond], table.where(cond, done[a], done[b]))
    below = table.and_(*(done[t] for t in term.operands))
    own = _OWN.get(op)
    return below if own is None else table.and_(below, own(*term.args))


def _finite(x: Term) -> Term:
    return x.table.lt(x.table.abs(x), x.table.const(inf))


def _not_infinite(x: Term) -> Term:
    return x.table.not_(x.table.eq(x.table.abs(x), x.table.const(inf)))


def _real_power(a: Term, b: Term) -> Term:
    table = a.table
    zero = table.const(0.0)
    of_zero = table.and_(table.eq(a, zero), table.lt(b, zero))
    of_negative = table.and_(
        table.lt(a, zero), _finite(a), _finite(b), table.not_(table.is_integer(b))
    )
    return table.and_(table.not_(of_zero), table.not_(of_negative))


def _not_zero(a: Term, b: Term) -> Term:
    return b.table.ne(b, b.table.const(0 if b.sort == "int" else 0.0))


def _not_negative(a: Term, b: Term) -> Term:
    return b.table.ge_zero(b)


def _above(x: Term) -> Term:
    """A logarithm is defined of NaN and of numbers above zero."""
    return x.table.not_(x.table.le(x, x.table.const(0.0)))


def _within_one(x: Term) -> Term:
    return x.table.not_(x.table.lt(x.table.const(1.0), x.table.abs(x)))


# The condition on the operands of each operation, given that they are defined.
_OWN: dict[str, Callable[..., Term]] = {
    **dict.fromkeys(("floordiv", "mod", "truediv", "fdiv", "ffloordiv", "fmod"), _not_zero),
    **dict.fromkeys(("pow", "lshift", "rshift"), _not_negative),
    **dict.fromkeys(("floor", "ceil", "trunc", "round"), _finite),
    **dict.fromkeys(("sin", "cos", "tan"), _not_infinite),
    **dict.fromkeys(("log", "log2", "log10"), _above),
    **dict.fromkeys(("asin", "acos"), _within_one),
    "sqrt": lambda x: x.table.not_(x.table.lt(x, x.table.const(0.0))),
    "log1p": lambda x: x.table.not_(x.table.le(x, x.table.const(-1.0))),
    "acosh": lambda x: x.table.not_(x.table.lt(x, x.table.const(1.0))),
    "atanh": lambda x: x.table.not_(x.table.le(x.table.const(1.0), x.table.abs(x))),
    "fpow": _real_power,
}
