"""The second try at a condition that the prover left open: stronger ways, each at a higher cost."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from symfx.algebra.reasoning import cases, consequences, intervals
from symfx.algebra.reasoning.condition_forms import (
    is_large,
    is_linear,
    is_long,
    with_masks_as_remainders,
    with_nested_quotients,
    without_exact_quotients,
    without_quotient,
    without_remainders,
)
from symfx.algebra.reasoning.digits import digits_of_zero
from symfx.algebra.reasoning.factors import factors_of, has_no_root
from symfx.algebra.reasoning.intervals import Interval, at_least
from symfx.algebra.reasoning.limits import LONG, TRIES_AGAIN, TRIES_OF_A_WAY
from symfx.algebra.reasoning.powers import with_powers_apart
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.term import Term, by_uid

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = ["is_hopeless", "second_try"]


def is_hopeless(prover: Prover, condition: Term) -> bool:
    """Whether a condition is too long, or no fact bounds its symbols from the sides that matter."""
    if condition.op not in ("ge", "eq"):
        return is_long(condition)
    p, facts, refuter = condition.args[0], prover.facts, prover.refuter
    if len(p.coeffs) > LONG:
        return True
    if condition.op == "ge" and refuter.leaves_open(p):
        return True
    if (
        facts.barred
        or facts.tiled
        or facts.multiplied
        or facts.choosing
        or refuter.may_bound(p, 1)
        or refuter.may_bound(p, -1)
    ):
        return False
    refuter.note_open(p)
    return True


def second_try(prover: Prover, condition: Term, *, first: bool) -> bool | None:
    """Decide a condition by each of the stronger ways.

    Args:
        prover: the prover.
        condition: the condition.
        first: whether no other condition has its second try at the time. Each way then starts with
            all tries, whatever the ways before it have used.
    """
    ways: tuple[_Way, ...]
    if not is_linear(condition):
        ways = (by_parts,) if is_large(condition) else _WAYS
    elif condition.op == "not":
        return by_parts(prover, condition)
    else:
        answer = by_refutation(prover, condition)
        facts = prover.facts
        multiplied = facts.multiplied
        products = bool(multiplied) and not multiplied.isdisjoint(condition.free_symbols)
        if answer is None and (
            not facts.barred.isdisjoint(condition.free_symbols) or _has_gaps(condition)
        ):
            answer = by_supposing(prover, condition)
        if answer is None and not facts.barred.isdisjoint(condition.free_symbols):
            answer = consequences.by_excluded_ends(prover, condition)
        if answer is None and not facts.tiled.isdisjoint(condition.free_symbols):
            answer = consequences.by_digits(prover, condition)
        if answer is None and not facts.apart.isdisjoint(condition.free_symbols):
            answer = cases.by_values_found(prover, condition)
        if answer is not None or not (products or facts.choosing):
            if answer is None and condition.op == "ge":
                prover.refuter.note_open(condition.args[0], prover.witness(condition.args[0]))
            return answer
        ways = (*_FROM_PRODUCTS, cases.by_choices_in_facts) if products else _FROM_CHOICES
    effort, rest = prover.effort, TRIES_AGAIN
    for way in ways:
        if first:
            given = effort.left = min(TRIES_OF_A_WAY, rest)
        # A form or a case in which the condition has no value says nothing.
        with contextlib.suppress(*UNDEFINED):
            answer = way(prover, condition)
            if answer is not None:
                return answer
        if first:
            rest -= given - effort.left
    return None


def _has_gaps(condition: Term) -> bool:
    """Whether a linear equation has solutions for some values of a symbol only: x == 25*y."""
    if condition.op != "eq":
        return False
    large = [abs(c) > 1 for c in condition.args[0].coeffs.values()]
    return any(large) and not all(large)


def by_rewriting(prover: Prover, condition: Term) -> bool | None:
    """Decide a comparison in another form: without remainders, or with known multiples, ..."""
    if condition.op in ("and", "or"):
        return None  # its parts are rewritten one by one

    def divides(k: Term, x: Term) -> bool:
        return prover.by_form(prover.table.mod(x, k).eq(0)) is True

    for rewrite in (
        partial(_with_fixed_symbols, prover),
        without_remainders,
        with_nested_quotients,
        partial(without_exact_quotients, divides=divides),
        partial(without_quotient, is_positive=lambda d: prover.decide(d >= 1) is True),
        with_masks_as_remainders,
        prover.by_known_multiples,
        partial(with_powers_apart, prover),
    ):
        form = rewrite(condition)
        if form is not condition:
            answer = prover.decide(form)
            if answer is not None:
                return answer
    return None


def _with_fixed_symbols(prover: Prover, condition: Term) -> Term:
    """A condition with the numbers of symbols whose bounds and remainders leave one value.

    So ``h*w == 4*h`` where ``w//4 == 1`` and ``w % 4 == 0``.
    """
    fixed: dict[Term, Term] = {}
    for symbol in condition.free_symbols & prover.facts.congruences.keys():
        low = prover.intervals.of_atom(symbol)[0]
        # The question is linear, so that it does not lead here again.
        if low is not None and prover.decide(symbol <= low) is True:
            fixed[symbol] = prover.table.const(low)
    return substitute(condition, fixed) if fixed else condition


def by_parts(prover: Prover, condition: Term) -> bool | None:
    """Decide the parts of a negation, a conjunction or a disjunction, each with a second try."""
    return prover.by_form(condition) if condition.op in ("not", "and", "or") else None


def by_factors(prover: Prover, condition: Term) -> bool | None:
    """Decide the sign of a sum by the signs of its factors, differences of squares among them."""
    if condition.op not in ("eq", "ge"):
        return None
    p = condition.args[0]
    if p.op != "sum":
        return None
    if condition.op == "eq" and has_no_root(p):
        return False
    # p + 1 > 0 and p - 1 < 0 are the comparisons that p itself decides.
    for shift in (0, 1) if condition.op == "ge" else (0,):
        shifted = p.table.add(p, p.table.const(shift))
        factors = factors_of(shifted)
        if factors == (shifted,):
            continue
        low, high = _product_of(prover, factors)
        if condition.op == "ge":
            if at_least(low, shift):
                return True
            if high is not None and high < shift:
                return False
        elif at_least(low, 1) or (high is not None and high < 0):
            return False
        else:
            answers = [prover.decide(f.eq(0)) for f in factors]
            if any(answers):
                return True
            if all(answer is False for answer in answers):
                return False
    return None


def _product_of(prover: Prover, factors: tuple[Term, ...]) -> Interval:
    total: Interval = (1, 1)
    for factor, times in Counter(factors).items():
        found = intervals.power(prover.range(factor), times)
        if not at_least(found[0], 1) and not (found[1] is not None and found[1] < 0):
            found = intervals.intersect(found, _sign(prover, factor, times))
        total = intervals.multiply(total, found)
        if total == intervals.ANY:
            break
    return total


def _sign(prover: Prover, factor: Term, times: int) -> Interval:
    """The widest interval of the sign of a power that the facts imply."""
    decide, table = prover.decide, prover.table
    if times % 2 == 0:
        return (1, None) if decide(factor.eq(0)) is False else (0, None)
    if decide(table.ge_zero(factor)):
        return (1, None) if decide(factor.eq(0)) is False else (0, None)
    if decide(table.ge_zero(table.neg(factor))):
        return (None, -1) if decide(factor.eq(0)) is False else (None, 0)
    return intervals.ANY


def by_refutation(prover: Prover, condition: Term) -> bool | None:
    """Decide a comparison by showing that its opposite contradicts the facts."""
    if condition.op not in ("eq", "ge"):
        return None
    p = condition.args[0]
    proves = prover.refuter.proves
    seen = prover.witness(p)
    # A comparison that holds for the witness cannot be refuted, one that fails not be proved.
    if condition.op == "ge":
        if (seen is None or seen >= 0) and proves(p, 1, 0):
            return True
        return False if (seen is None or seen < 0) and proves(p, -1, 1) else None
    if (seen is None or seen > 0) and proves(p, 1, 1):
        return False
    if (seen is None or seen < 0) and proves(p, -1, 1):
        return False
    if (seen is None or seen == 0) and proves(p, 1, 0) and proves(p, -1, 0):
        return True
    return None


def by_extrema(prover: Prover, condition: Term) -> bool | None:
    """Decide ``max(a, b) <= k`` as a <= k and b <= k, and each such comparison by its operands."""
    if condition.op != "ge":
        return None
    table, p = prover.table, condition.args[0]
    for atom, coeff in p.coeffs.items():
        if atom.op in ("min", "max"):
            operands = atom.args
        elif atom.op == "abs":
            operands = (atom.args[0], table.neg(atom.args[0]))
        else:
            continue
        scale = table.const(coeff)
        rest = p - scale * atom
        parts = [table.ge_zero(rest + scale * x) for x in operands]
        # c*max(a, b) is the larger of c*a and c*b for c > 0, the smaller for c < 0.
        join = table.or_ if (atom.op == "min") == (coeff < 0) else table.and_
        return prover.decide(join(*parts))
    return None


def by_digits(prover: Prover, condition: Term) -> bool | None:
    """Decide an equation of flattened indices by those of their parts."""
    if condition.op != "eq":
        return None
    digits = digits_of_zero(prover, condition.args[0])
    return prover.decide(prover.table.and_(*(d.eq(0) for d in digits))) if digits[1:] else None


def by_supposing(prover: Prover, condition: Term) -> bool | None:
    """Refute an equation that the facts exclude once it is supposed, as ``x*x == 2``.

    Beside equations that are known not to hold, prove an order whose opposite they exclude.
    """
    if condition.op not in ("eq", "ge") or not prover.splits:
        return None
    if not prover.witness(condition) and prover.under(condition) is None:
        return False
    if condition.op == "eq" or prover.facts.barred.isdisjoint(condition.free_symbols):
        return None
    opposite = prover.table.not_(condition)
    return True if not prover.witness(opposite) and prover.under(opposite) is None else None


def by_ends(prover: Prover, condition: Term) -> bool | None:
    """Decide p >= 0, where p is linear in a symbol, at both ends of the symbol's interval.

    p is least, and greatest, at one of them.
    """
    if condition.op != "ge":
        return None
    p = condition.args[0]
    if all(m.op != "product" for m in p.coeffs):
        return None
    for symbol in sorted(p.free_symbols, key=by_uid):
        low, high = prover.intervals.of_atom(symbol)
        if low is None or high is None or not _is_linear_in(p, symbol):
            continue
        const = prover.table.const
        return cases.agreed(
            prover.decide(substitute(condition, {symbol: const(end)})) for end in (low, high)
        )
    return None


def _is_linear_in(p: Term, symbol: Term) -> bool:
    """Whether a symbol occurs in a product, and nowhere but as a factor of degree 1."""
    counts = [m.factors.count(symbol) for m in p.coeffs]
    if max(counts) != 1 or all(m is symbol for m, n in zip(p.coeffs, counts, strict=True) if n):
        return False
    return all(f is symbol or symbol not in f.free_symbols for m in p.coeffs for f in m.factors)


_Way: TypeAlias = "Callable[[Prover, Term], bool | None]"
_FROM_CHOICES: tuple[_Way, ...] = (cases.by_choices_in_facts,)
_FROM_PRODUCTS: tuple[_Way, ...] = (
    by_supposing,
    consequences.by_divisors,
    consequences.by_symbolic_moduli,
    consequences.by_factors_of_zero,
    consequences.by_signs_of_factors,
    consequences.by_product_equations,
    consequences.by_ranges,
    cases.by_signs,
    consequences.by_known_quotients,
    by_digits,
    consequences.by_digits,
    consequences.by_powers,
)
_WAYS: tuple[_Way, ...] = (
    by_parts,
    by_extrema,
    by_rewriting,
    by_factors,
    by_refutation,
    by_ends,
    by_supposing,
    cases.by_all_remainders,
    cases.by_choices_in_facts,
    cases.by_choices_made,
    cases.by_supposing_the_opposite,
    cases.by_few_quotients,
    cases.by_values_found,
    consequences.by_excluded_ends,
    *_FROM_PRODUCTS[1:],
    cases.by_values_supposed,
    cases.by_remainders_in_facts,
)
