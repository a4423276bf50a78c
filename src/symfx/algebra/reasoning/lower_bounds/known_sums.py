"""Lower bounds from known ones: chains of orders between atoms, and known bounds of sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

from symfx.algebra.reasoning.condition_forms import is_order
from symfx.algebra.reasoning.intervals import better
from symfx.algebra.reasoning.limits import ADDED
from symfx.algebra.terms.term import Term

if TYPE_CHECKING:
    from symfx.algebra.reasoning.lower_bounds.search import LowerBounds

__all__ = ["by_known_sums", "by_orders"]


def by_orders(search: LowerBounds, p: Term) -> int | None:
    """x - y >= k through a chain of known differences (longest path from y to x)."""
    if len(p.coeffs) != 2:
        return None
    (x, c), (y, d) = p.coeffs.items()
    if c == -1 and d == 1:
        x, y = y, x
    elif not (c == 1 and d == -1):
        return None
    after = search.facts.after
    if y not in after:
        return None
    # Bellman and Ford's relaxation of the atoms that are reachable from y. Facts that contradict
    # each other would make it run for ever, hence the limit.
    distance: dict[Term, int] = {y: 0}
    frontier = [y]
    for _ in range(4 * len(after) + 4):
        changed: dict[Term, None] = {}
        for at in frontier:
            for target, least in after.get(at, {}).items():
                reached = distance[at] + least
                if target not in distance or distance[target] < reached:
                    if target is y:
                        return None  # a cycle that grows: the facts contradict
                    distance[target] = reached
                    changed[target] = None
        if not changed:
            break
        frontier = list(changed)
    else:
        return None
    return distance.get(x)


def by_known_sums(search: LowerBounds, p: Term, depth: int, goal: float) -> int | None:
    """p = q + f with a known bound of f: least(q) + least(f), where f shortens p."""
    table = search.table
    lower = search.facts.lower
    best: int | None = None
    tried: set[Term] = set()
    coeffs = p.coeffs
    # For a sum of symbols alone, orders and intervals have used every fact that is an order.
    simple = len(coeffs) <= 2 and is_order(p)
    for monomial in coeffs:
        for fact in search.facts.touching.get(monomial, ()):
            if fact in tried or fact is p:
                continue
            tried.add(fact)
            if len(tried) > ADDED:
                return best
            theirs = fact.coeffs
            if simple and is_order(fact):
                continue
            if len(theirs) == 1:
                continue  # a plain bound: interval arithmetic has used it
            ratio, odd = divmod(coeffs[monomial], theirs[monomial])
            if odd or ratio <= 0:
                continue
            gone = sum(coeffs.get(m) == ratio * c for m, c in theirs.items())
            new = sum(m not in coeffs for m in theirs)
            if new - gone >= (depth > 1):
                continue  # the rest would be no shorter
            rest = table.sub(p, table.mul(table.const(ratio), fact))
            known = ratio * lower[fact]
            low = search.least(rest, depth, goal - known)
            if low is not None:
                best = better(best, low + known)
                if best is not None and best >= goal:
                    return best
    return best
