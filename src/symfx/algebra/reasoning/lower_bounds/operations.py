"""Lower bounds from the meaning of an operation: min, max, abs, where, //, % and powers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from symfx.algebra.reasoning.intervals import all_of, any_of, at_least, better
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.lower_bounds.search import LowerBounds

__all__ = ["by_choices", "by_divisions", "by_powers"]


def by_choices(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """A bound by putting for a min, max, abs or where each of its branches."""
    table = search.table
    best: int | None = None
    for atom, coeff in p.coeffs.items():
        if atom.op in ("min", "max"):
            options: Iterable[Term] = atom.args
            # c*max(a, b) is the larger of c*a and c*b for c > 0, the smaller for c < 0.
            largest = (atom.op == "max") == (coeff > 0)
        elif atom.op == "abs":
            options = (atom.args[0], table.neg(atom.args[0]))
            largest = coeff > 0
        elif atom.op == "where":
            options = atom.args[1:]
            largest = False
        else:
            continue
        scale = table.const(coeff)
        rest = table.sub(p, table.mul(scale, atom))
        bounds = [
            search.least(table.add(rest, table.mul(scale, option)), depth, goal)
            for option in options
        ]
        best = better(best, any_of(max, bounds) if largest else all_of(min, bounds))
    return best


def by_divisions(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """A bound by putting for ``x // d`` or ``x % d`` a term that bounds it."""
    table = search.table
    best: int | None = None
    for atom, coeff in p.coeffs.items():
        if atom.op not in ("floordiv", "mod"):
            continue
        x, divisor = atom.args
        rest = table.sub(p, table.mul(table.const(coeff), atom))
        if divisor.op == "const":
            d = divisor.const
            scaled_x = table.mul(table.const(coeff), x)
            if atom.op == "floordiv":
                # d * (x // d) = x - m for some m in 0..d-1
                loss = max(0, coeff * (d - 1))
                low = search.least(
                    table.add(table.mul(table.const(d), rest), scaled_x),
                    depth,
                    d * (goal - 1) + 1 + loss,
                )
                if low is not None:
                    best = better(best, -((loss - low) // d))
            elif coeff < 0 and search.is_nonnegative(x, depth):
                # x % d <= x for x >= 0
                best = better(best, search.least(table.add(rest, scaled_x), depth, goal))
        else:
            for end in _ends_of_division(search, atom, coeff > 0, depth):
                swapped = table.add(rest, table.mul(table.const(coeff), end))
                best = better(best, search.least(swapped, depth, goal))
    return best


def _ends_of_division(search: LowerBounds, atom: Term, below: bool, depth: int) -> list[Term]:
    """Terms that bound ``x // d`` or ``x % d`` from below or above, for d of known sign."""
    table = search.table
    x, d = atom.args
    ends: list[Term] = []
    if at_least(search.least(d, depth, 1), 1):
        if not below and search.is_nonnegative(x, depth):
            ends.append(x)  # x // d <= x and x % d <= x
        if not below and atom.op == "mod":
            ends.append(table.sub(d, table.one))
        if below and atom.op == "floordiv" and search.is_nonnegative(table.neg(x), depth):
            ends.append(x)  # x // d >= x
    elif at_least(search.least(table.neg(d), depth, 1), 1):
        if below and atom.op == "mod":
            ends.append(table.add(d, table.one))
        # -x over a positive divisor, rounded down: no further from 0 than -x is
        signed = x if below else table.neg(x)
        if atom.op == "floordiv" and search.is_nonnegative(signed, depth):
            ends.append(table.neg(x))
    return ends


def by_powers(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """b**e >= 1 + (b - 1)*e, for b >= 1 (Bernoulli's inequality; e is never negative)."""
    table = search.table
    best: int | None = None
    for atom, coeff in p.coeffs.items():
        if atom.op != "pow" or coeff < 0:
            continue
        base, exponent = atom.args
        if not at_least(search.least(base, depth, 1), 1):
            continue
        line = table.add(table.one, table.mul(table.sub(base, table.one), exponent))
        scale = table.const(coeff)
        rest = table.sub(p, table.mul(scale, atom))
        swapped = table.add(rest, table.mul(scale, line))
        best = better(best, search.least(swapped, depth, goal))
    return best
