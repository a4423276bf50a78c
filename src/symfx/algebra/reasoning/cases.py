"""Decisions case by case: a condition is decided if all cases give the same answer."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from symfx.algebra.reasoning.condition_forms import (
    DIVISIONS,
    choices,
    is_large,
    is_linear,
    is_long,
    moduli,
    nonlinear_symbols,
    options,
)
from symfx.algebra.reasoning.intervals import ANYTHING, at_least
from symfx.algebra.reasoning.limits import (
    BRANCHES,
    CARRIED,
    CHOSEN,
    DISJUNCTIONS,
    DIVIDED,
    PARTS,
    QUOTIENTS,
    REMAINDERS,
    SIGNS,
    VALUES,
)
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.interpret import substitute
from symfx.algebra.terms.table import Term
from symfx.algebra.terms.term import by_uid, postorder

if TYPE_CHECKING:
    from symfx.algebra.reasoning.prover import Prover

__all__ = [
    "agreed",
    "by_all_remainders",
    "by_cases",
    "by_choices_in_facts",
    "by_few_quotients",
    "by_remainders_in_facts",
    "by_signs",
    "by_supposing_the_opposite",
    "by_values_found",
    "by_values_supposed",
    "each",
]


def by_cases(prover: Prover, condition: Term) -> bool | None:
    """Decide a condition by each distinction of cases that suits its form."""
    if is_long(condition):
        return None
    ways: list[Callable[[Prover, Term], bool | None]] = []
    if not is_linear(condition):
        if is_large(condition):
            return None
        ways += by_values, by_remainders, by_choices_made
    if prover.splits and prover.facts.alternatives:
        ways.append(by_alternatives)
    if prover.splits and condition.op in ("and", "or"):
        ways.append(by_denial)
    for way in ways:
        # A case in which the condition has no value says nothing.
        with contextlib.suppress(*UNDEFINED):
            answer = way(prover, condition)
            if answer is not None:
                return answer
    return None


def by_values(prover: Prover, condition: Term) -> bool | None:
    """Decide for each value of the symbols that have few."""
    if condition.op not in ("eq", "ge", "not"):
        return None
    facts, table = prover.facts, prover.table
    chosen: list[Term] = []
    values: list[list[int]] = []
    cases = 1
    for symbol in sorted(nonlinear_symbols(condition), key=lambda s: s.uid):
        low, high = prover.intervals.of_atom(symbol)
        if low is None or high is None or not 0 <= high - low < VALUES // cases:
            continue
        m, r = facts.congruences.get(symbol, ANYTHING)
        excluded = facts.excluded.get(symbol, ())
        chosen.append(symbol)
        values.append(
            [v for v in range(low, high + 1) if v not in excluded and (m < 2 or v % m == r)]
        )
        cases *= high - low + 1
    if not chosen:
        return None
    return agreed(
        prover.decide(substitute(condition, dict(zip(chosen, map(table.const, case), strict=True))))
        for case in itertools.product(*values)
    )


def by_values_found(prover: Prover, condition: Term) -> bool | None:
    """Decide for each value of a symbol that has few, also by more than its interval.

    So ``a*b <= 16`` where a and b are at least 1 and ``a + b <= 8``.
    """
    if not prover.splits:
        return None
    facts, table = prover.facts, prover.table
    symbols = condition.free_symbols
    if condition.op in ("eq", "ge"):
        factors = {f for m in condition.args[0].coeffs for f in m.factors if m.op == "product"}
        symbols = symbols & (factors | facts.apart)
    for symbol in sorted(symbols, key=by_uid)[:SIGNS]:
        low, high = prover.range(symbol)
        if low is not None and high is not None and 0 <= high - low < VALUES // 2:
            cases = [table.eq(symbol, table.const(v)) for v in range(low, high + 1)]
            answer = each(prover, condition, cases)
            if answer is not None:
                return answer
    return None


def by_values_supposed(prover: Prover, condition: Term) -> bool | None:
    """Refute a condition, or its opposite, by the few values that it leaves to a symbol.

    So a is not ``2*a % 3`` for a >= 1: it would be at most 2.
    """
    if condition.op not in ("eq", "ge") or not prover.splits:
        return None
    table = prover.table
    opposite = () if condition.op == "eq" else (table.not_(condition),)
    for supposed in (condition, *opposite):
        branch = None if prover.witness(supposed) else prover.under(supposed)
        if branch is None:
            continue
        for symbol in sorted(condition.free_symbols, key=by_uid)[:SIGNS]:
            low, high = branch.range(symbol)
            if low is None or high is None or high - low >= QUOTIENTS:
                continue
            values = map(table.const, range(low, high + 1))
            cases = (substitute(supposed, {symbol: value}) for value in values)
            if all(prover.decide(case) is False for case in cases):
                return supposed is not condition
    return None


def by_remainders(prover: Prover, condition: Term) -> bool | None:
    """Decide for each remainder of the symbols in products that are divided by a constant.

    So ``s * (s + 1) % 2`` is 0: s is 2*q or 2*q + 1.
    """
    return _by_remainders_of(prover, condition, moduli(condition))


def by_all_remainders(prover: Prover, condition: Term) -> bool | None:
    """Decide for each remainder of all symbols that are divided by a constant."""
    return _by_remainders_of(prover, condition, moduli(condition, in_products=False))


def _by_remainders_of(prover: Prover, condition: Term, by: dict[Term, int]) -> bool | None:
    # The quotients q are symbols that could be divided in turn, for ever.
    if not by or math.prod(by.values()) > VALUES or prover.divided >= DIVIDED:
        return None
    table = prover.table
    forms: list[list[Term]] = []
    for symbol, m in by.items():
        q = table.symbol(f"({symbol.name} by {m})")
        known, rest = prover.facts.congruences.get(symbol, ANYTHING)
        shared = math.gcd(known, m)
        forms.append([m * q + r for r in range(m) if (r - rest) % shared == 0])
    prover.divided += 1
    try:
        return agreed(
            prover.decide(substitute(condition, dict(zip(by, case, strict=True))))
            for case in itertools.product(*forms)
        )
    finally:
        prover.divided -= 1


def by_remainders_in_facts(prover: Prover, condition: Term) -> bool | None:
    """Decide for each remainder of a symbol that is divided by a constant, which facts may exclude.

    So h is even where ``h % 2 == w % 2`` and ``h * w % 2 == 0``.
    """
    if not prover.splits:
        return None
    table = prover.table
    for symbol, m in moduli(condition, in_products=False).items():
        facts = prover.facts
        if m > REMAINDERS or (symbol not in facts.nonlinear and symbol not in facts.barred):
            continue
        rest = table.mod(symbol, table.const(m))
        answer = each(prover, condition, [table.eq(rest, table.const(r)) for r in range(m)])
        if answer is not None:
            return answer
    return None


def by_few_quotients(prover: Prover, condition: Term) -> bool | None:
    """Decide for each value of a quotient that has few, its remainder among the cases.

    So ``(i*m + j + l//k) % m == j`` where ``0 <= l < k``, and ``(i - j) % 8 != 0`` for different
    i and j below 8.
    """
    if condition.op not in ("eq", "ge", "not"):
        return None
    table = prover.table
    inside = postorder(condition, lambda t: t.op not in ("const", "symbol"))
    divisions = (atom for atom in inside if atom.op in DIVISIONS)
    for atom in list(itertools.islice(divisions, CHOSEN)):
        x, d = atom.args
        x = _nearest_multiple_apart(x, d.const) if d.op == "const" else x
        quotient = table.floordiv(x, d)
        low, high = prover.range(quotient)
        if d.op != "const" and quotient is atom and _is_zero(prover, quotient, condition):
            low = high = 0
        if low is None or high is None or not 0 <= high - low < QUOTIENTS:
            continue
        known = atom - quotient if atom.op == "floordiv" else x
        answers = []
        for value in map(table.const, range(low, high + 1)):
            form = substitute(
                condition, {atom: known + value if atom.op == "floordiv" else known - d * value}
            )
            if low == high:
                return prover.decide(form)
            if not prover.splits:
                return None
            branch = prover.under(table.eq(quotient, value), condition)
            if branch is not None:
                answers.append(branch.decide(form))
        answer = agreed(answers)
        if answer is not None:
            return answer
    return None


def _is_zero(prover: Prover, quotient: Term, condition: Term) -> bool:
    """Whether a quotient is zero, as a question of its own beside another one."""
    asked = prover.table.eq(quotient, prover.table.zero)
    return asked is not condition and prover.decide(asked) is True


def _nearest_multiple_apart(x: Term, d: int) -> Term:
    """x less the multiple of d > 0 that leaves the smallest coefficients."""
    half = d // 2
    coeffs = {m: (c + half) % d - half for m, c in x.coeffs.items()}
    return x.table.linear({m: c for m, c in coeffs.items() if c}, x.const)


def by_signs(prover: Prover, condition: Term) -> bool | None:
    """Decide for each sign of a factor in the condition or in the facts near it.

    So ``a*b >= a`` follows from ``a*b > 0``.
    """
    if not prover.splits or condition.op not in ("eq", "ge"):
        return None
    table = prover.table
    for symbol in itertools.islice(_signless_factors(prover, condition), SIGNS):
        above, below = symbol >= 1, symbol <= -1
        zero = table.eq(symbol, table.zero)
        cases = [case for case in (above, zero, below) if prover.by_form(case) is not False]
        answer = each(prover, condition, cases)
        if answer is not None:
            return answer
    return None


def _signless_factors(prover: Prover, condition: Term) -> Iterator[Term]:
    """The symbols that stand in products and have no known sign."""
    near = prover.facts.connected(condition)
    seen: set[Term] = set()
    for said in (condition, *(near if len(near) <= CARRIED else ())):
        if said.op not in ("eq", "ge"):
            continue
        for monomial in said.args[0].coeffs:
            for symbol in monomial.args if monomial.op == "product" else ():
                if symbol.op != "symbol" or symbol in seen:
                    continue
                seen.add(symbol)
                low, high = prover.intervals.of_atom(symbol)
                if not at_least(low, 0) and (high is None or high > 0):
                    yield symbol


def each(prover: Prover, condition: Term, cases: Iterable[Term]) -> bool | None:
    """The answer that all cases give, if they agree. At least one of the cases holds."""
    answers: list[bool | None] = []
    for case in cases:
        branch = prover.under(case, condition)
        if branch is None:
            continue
        answer = branch.decide(condition)
        if answer not in answers and branch.refuter.facts_contradict(condition):
            continue
        answers.append(answer)
        if answer is None:
            return None
    return agreed(answers)


def by_choices_made(prover: Prover, condition: Term) -> bool | None:
    """Decide for each branch of a min, max, abs or where in the condition."""
    for atom in choices(condition):
        ways = [(c, v) for c, v in options(atom) if prover.decide(c) is not False]
        for assumed, value in ways:
            if len(ways) == 1 or prover.decide(assumed):
                return prover.decide(substitute(condition, {atom: value}))
        if not prover.splits:
            continue
        answer = agreed(
            branch.decide(substitute(condition, {atom: value}))
            for assumed, value in ways
            if (branch := prover.under(assumed, condition)) is not None
        )
        if answer is not None:
            return answer
    return None


def by_denial(prover: Prover, condition: Term) -> bool | None:
    """Decide each part of a short "or" supposing that the others fail; of an "and", hold."""
    return _by_denial(prover, condition) if len(condition.args) <= DISJUNCTIONS else None


def _by_denial(prover: Prover, condition: Term) -> bool | None:
    settles = condition.op == "or"
    seen = prover.witness(condition)
    if seen is not None and bool(seen) is not settles:
        return None
    table = prover.table
    for last in condition.args:
        others = [part for part in condition.args if part is not last]
        supposed = table.and_(*(map(table.not_, others) if settles else others))
        branch = prover.under(supposed, condition)
        # If the others cannot all fail, one of them holds.
        if branch is None or branch.decide(last) is settles:
            return settles
    return None


def by_supposing_the_opposite(prover: Prover, condition: Term) -> bool | None:
    """`by_denial` of an "and" or "or" that may be longer."""
    if condition.op in ("and", "or") and len(condition.args) <= PARTS:
        return _by_denial(prover, condition)
    return None


def by_choices_in_facts(prover: Prover, condition: Term) -> bool | None:
    """Decide for each branch of a min, max, abs or where in the facts near the condition."""
    if not prover.splits or condition.op not in ("eq", "ge", "and", "or"):
        return None
    choosing = prover.facts.choosing
    if not choosing:
        return None
    near = [fact for fact in prover.facts.connected(condition) if fact in choosing]
    if len(near) > CARRIED:
        return None
    table = prover.table
    tried: set[Term] = set()
    for fact in near:
        for atom in choosing[fact]:
            if atom in tried or len(tried) == DISJUNCTIONS:
                continue
            tried.add(atom)
            branches = [
                table.and_(c, table.eq(atom, value), _chosen(fact, atom, value))
                for c, value in options(atom)
            ]
            common = each(prover, condition, branches)
            if common is not None:
                return common
    return None


def _chosen(fact: Term, atom: Term, value: Term) -> Term:
    """The fact at one branch of a choice between constants: there is no equation of the choice."""
    constant = value.op == "const" and atom.op == "where"
    return substitute(fact, {atom: value}) if constant else fact.table.true


def by_alternatives(prover: Prover, condition: Term) -> bool | None:
    """Decide under each alternative of a disjunction that is known to hold."""
    facts = prover.facts
    near = facts.connected(condition)
    if len(near) > CARRIED:
        return None
    tried = 0
    for fact in near:
        for either in tuple(facts.alternatives.get(fact, ())):
            if len(either.args) > BRANCHES:
                continue
            if any(facts.known.get(part) for part in either.args):
                facts.settle(either, fact)
                continue
            live = [p for p in either.args if not facts.known.get(prover.table.not_(p))]
            if len(live) == 1:
                # The fact settles the disjunction, which otherwise would lead back to here.
                facts.settle(either, fact)
                facts.assume(live[0], because=fact)
                return prover.decide(condition)
            answer = agreed(
                branch.decide(condition)
                for part in live
                if (branch := prover.under(part, either, condition)) is not None
            )
            if answer is not None:
                return answer
            tried += 1
            if tried == DISJUNCTIONS:
                return None
    return None


def agreed(answers: Iterable[bool | None]) -> bool | None:
    """The answer that all cases give; None if one is open, two differ, or there are no cases."""
    common: bool | None = None
    for answer in answers:
        if answer is None or (common is not None and answer is not common):
            return None
        common = answer
    return common
