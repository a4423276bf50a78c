"""Proofs from the fewest facts, and examples of values at which a condition holds.

A proof is a set of assumptions from which a new prover, which knows nothing else, comes to the
same conclusion. It is found by asking again, so it costs nothing until it is asked for. The search
first finds a minimal set: without any one of its facts the conclusion fails (Junker, "QuickXplain",
AAAI 2004). Then it finds a smallest set (Ignatiev et al., "Smallest MUS Extraction with Minimal
Hitting Set Dualization", CP 2015).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from symfx.algebra.reasoning.facts import UNDEFINED, Facts
from symfx.algebra.reasoning.limits import SYMBOLS, TRIES
from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.terms.interpret import evaluate
from symfx.algebra.terms.table import Scalar, Term
from symfx.algebra.terms.term import postorder

__all__ = ["Proof", "connected", "example", "prove", "prove_from"]

# A try of a condition with more parts than this counts as several.
_PARTS_OF_A_TRY = 25
#: A smallest set is searched among so many facts, with so many tries and candidates of each size.
_FACTS, _SETS, _CANDIDATES = 60, 400, 20_000


@dataclass(frozen=True)
class Proof:
    """The answer about a condition, and the facts that it needs.

    Attributes:
        condition: the condition.
        holds: True if it follows, False if its opposite does, None if neither does.
        facts: the fewest assumptions that decide it; empty if the condition needs none, or is
            open. Where the search for the fewest is cut short, none of them is superfluous, and
            there may be a smaller set.
    """

    condition: Term
    holds: bool | None
    facts: tuple[Term, ...]

    def __str__(self) -> str:
        if self.holds is None:
            return f"{self.condition}: open"
        verdict = "holds" if self.holds else "fails"
        if not self.facts:
            return f"{self.condition} {verdict} whatever the symbols are"
        return f"{self.condition} {verdict}, because " + " and ".join(map(str, self.facts))


def prove(facts: Facts, condition: Term, prover: Prover | None = None) -> Proof:
    """Decide a condition, and find the fewest facts that decide it.

    Args:
        facts: the store of facts.
        condition: the condition to decide.
        prover: a stronger prover from the same facts (`symfx.algebra.z3_tier.Z3Prover`), which
            is asked if the ordinary one leaves the condition open. It names the facts that it
            used; some of them may be superfluous.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); a, b, c, d = map(t.symbol, "abcd")
        >>> facts = Facts(t)
        >>> for fact in (a < b, b < c, c < d, a >= 3): facts.assume(fact)
        >>> print(prove(facts, a < c))
        c > a holds, because b > a and c > b
    """
    holds = Prover(facts).decide(condition)
    if holds is None:
        answer, core = (None, []) if prover is None else prover.core(condition)
        return Proof(condition, answer, tuple(core))

    near = facts.connected(condition)
    enough = _enough_for(condition, holds, facts)
    # A replacement has no condition that a proof could show; then all facts nearby are named.
    used = _smallest(near, enough) if enough(near) else near
    return Proof(condition, holds, tuple(used))


def prove_from(assumptions: Sequence[Term], condition: Term) -> Proof:
    """Decide a condition from assumptions alone, and find the fewest of them that decide it.

    Args:
        assumptions: conditions that hold, those first that a proof is to prefer.
        condition: the condition to decide.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); n, m = t.symbol("n"), t.symbol("m")
        >>> print(prove_from([n >= 2, n < m, n <= 16, n >= 16], n.eq(16)))
        n == 16 holds, because n <= 16 and n >= 16
    """
    facts = Facts(condition.table)
    near = connected(condition, list(dict.fromkeys(assumptions)))
    for assumption in near:
        facts.assume(assumption)
    holds = Prover(facts).decide(condition)
    if holds is None or facts.contradiction is not None:
        return Proof(condition, None, ())
    enough = _enough_for(condition, holds, facts)
    used = _smallest(near, enough) if enough(near) else near
    return Proof(condition, holds, tuple(used))


def connected(condition: Term, assumptions: Sequence[Term]) -> list[Term]:
    """The assumptions that share symbols with a condition, or with others that do."""
    reached, found = set(condition.free_symbols), set[Term]()
    while near := [t for t in assumptions if t not in found and t.free_symbols & reached]:
        found.update(near)
        reached.update(s for t in near for s in t.free_symbols)
    return [t for t in assumptions if t in found]


def _enough_for(condition: Term, holds: bool, facts: Facts) -> Callable[[Sequence[Term]], bool]:
    """Whether a prover that knows some assumptions alone comes to an answer about a condition."""

    def enough(assumed: Sequence[Term]) -> bool:
        alone = Facts(facts.table)
        for fact in assumed:
            alone.assume(fact)
        try:
            return Prover(alone).decide(condition) is holds
        except UNDEFINED:
            return False

    return enough


def _smallest(items: list[Term], enough: Callable[[Sequence[Term]], bool]) -> list[Term]:
    """A smallest subset that is enough; see the module for the cases where the search is cut short.

    For each set that is not enough, every set that is enough has one of the other items. The search
    looks for the smallest sets that have one of each of these others.
    """
    order = {item: i for i, item in enumerate(items)}

    def enough_in_order(some: Iterable[Term]) -> bool:
        # What a prover concludes may depend on the order in which it learns.
        return enough(sorted(some, key=order.__getitem__))

    found = sorted(_fewest(items, enough_in_order), key=order.__getitem__)
    others: list[frozenset[Term]] = []
    left = _SETS if len(items) <= _FACTS else 0
    while len(found) > 1 and left > 0:
        candidate = _smallest_hitting(others, items, len(found) - 1)
        if candidate is None:
            break
        left -= 1
        if enough_in_order(candidate):
            return candidate
        rest = []
        grown = set(candidate)
        for item in items:
            if item in grown:
                continue
            grown.add(item)
            left -= 1
            if enough_in_order(grown):
                grown.discard(item)
                rest.append(item)
        others.append(frozenset(rest))
    return found


def _smallest_hitting(
    sets: Sequence[frozenset[Term]], items: Sequence[Term], most: int
) -> list[Term] | None:
    """The fewest items, in their order, such that each set has one; None for more than `most`."""
    useful = [item for item in items if any(item in each for each in sets)]
    for size in range(most + 1):
        chosen = itertools.combinations(useful, size)
        for some in itertools.islice(chosen, _CANDIDATES):
            if all(not each.isdisjoint(some) for each in sets):
                return list(some)
    return None


def _fewest(items: list[Term], enough: Callable[[Sequence[Term]], bool]) -> list[Term]:
    """A minimal subset that is enough: none of its own subsets is."""

    def needed(background: list[Term], changed: bool, candidates: list[Term]) -> list[Term]:
        if changed and enough(background):
            return []
        if len(candidates) == 1:
            return candidates
        half = len(candidates) // 2
        first, second = candidates[:half], candidates[half:]
        from_second = needed(background + first, bool(first), second)
        from_first = needed(background + from_second, bool(from_second), first)
        return from_first + from_second

    return [] if not items or enough([]) else needed([], False, items)


def example(
    facts: Facts, condition: Term, prefer: Mapping[Term, Scalar] | None = None
) -> dict[Term, int] | None:
    """Small values at which a condition holds together with all facts.

    Args:
        facts: the store of facts.
        condition: the condition.
        prefer: values to try first (those at tracing).

    Returns:
        The value of each integer symbol of the condition and of the facts connected with it;
        None if the search found no such values, which may exist all the same.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); s = t.symbol("s"); facts = Facts(t)
        >>> facts.assume((s % 4).eq(0)); facts.assume(s >= 1)
        >>> example(facts, s > 4)[s]
        8
    """
    prefer = prefer or {}
    conditions = [facts.solve(c) for c in (condition, *facts.connected(condition))]
    conditions = [c for c in conditions if c.op != "const"]
    if facts.solve(condition).value is False:
        return None
    symbols = sorted(frozenset().union(*(c.free_symbols for c in conditions)), key=lambda s: s.uid)
    if len(symbols) > SYMBOLS or any(s.sort != "int" for s in symbols):
        return None
    prover = Prover(facts)
    values = {s: list(_candidates(prover, s, prefer.get(s), conditions)) for s in symbols}
    # Each condition is tried as soon as its last symbol has a value.
    due: dict[Term, list[Term]] = {s: [] for s in symbols}
    for c in conditions:
        due[max(c.free_symbols, key=symbols.index)].append(c)
    # To try a value counts more where its conditions have more parts.
    costs = {
        s: 1 + sum(1 for c in due[s] for _ in postorder(c, lambda t: True)) // _PARTS_OF_A_TRY
        for s in symbols
    }
    left = TRIES
    chosen: dict[Term, int] = {}

    def search(depth: int) -> bool:
        nonlocal left
        if depth == len(symbols):
            return True
        symbol = symbols[depth]
        for value in values[symbol]:
            left -= costs[symbol]
            if left < 0:
                return False
            chosen[symbol] = value
            if all(_holds(c, chosen) for c in due[symbol]) and search(depth + 1):
                return True
        chosen.pop(symbol, None)
        return False

    if not search(0):
        return None
    for known in (facts.solved, facts.replacements):
        for symbol, by in known.items():
            if by.sort == "int" and by.free_symbols <= chosen.keys():
                chosen[symbol] = int(evaluate(by, chosen))
    return dict(chosen)


def _holds(condition: Term, values: Mapping[Term, int]) -> bool:
    try:
        return bool(evaluate(condition, values))
    except UNDEFINED:
        return False


def _candidates(
    prover: Prover, symbol: Term, preferred: Scalar | None, conditions: Sequence[Term]
) -> Iterator[int]:
    """The values of a symbol to try, the likeliest first."""
    low, high = prover.range(symbol)
    m, r = prover.congruence(symbol)
    step = max(1, m)
    tried: set[int] = set()
    start = low if low is not None else 0 if high is None or high >= 0 else high
    near = [preferred] if isinstance(preferred, int) else []
    near += [start + k for k in range(4 * step)]
    for condition in conditions:  # constants that conditions compare with, and their neighbors
        if symbol in condition.free_symbols and condition.args and condition.op in ("eq", "ge"):
            const = abs(condition.args[0].const)
            near += [const - 1, const, const + 1]
    near += [16 * k for k in range(1, 5)]
    if high is not None:
        near += [high, high - 1]
    if low is None:
        near += [-1, -2, -step]
    for value in near:
        inside = (low is None or value >= low) and (high is None or value <= high)
        fits = value == r if m == 0 else (value - r) % step == 0
        if inside and fits and value not in tried:
            tried.add(value)
            yield value
