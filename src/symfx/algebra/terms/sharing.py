"""Programs that check conditions: a part that several conditions share is computed once.

The steps of a program run in their order. A shared part is computed ahead only where that cannot
raise an error that Python's lazy ``and``, ``or`` and ``if`` would have avoided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from symfx.algebra.terms.definedness import definedness
from symfx.algebra.terms.interpret import relation
from symfx.algebra.terms.table import Term

__all__ = ["Step", "plan", "print_bottom_up", "printed_parts"]


@dataclass(frozen=True)
class Step:
    """One line of a program.

    Attributes:
        term: the condition to check, or the part to compute.
        name: the variable for the computed part; None for a condition to check.
    """

    term: Term
    name: str | None = None


def printed_parts(term: Term) -> tuple[Term, ...]:
    """The different terms whose texts the text of a term is made of."""
    op = term.op
    if op in ("const", "symbol"):
        return ()
    if op in ("eq", "ge") or (op == "not" and term.args[0].op == "eq"):
        _, left, right = relation(term)
        return left, right
    return tuple(dict.fromkeys(term.operands))


def print_bottom_up(
    term: Term, done: dict[Term, str], write: Callable[[Term, dict[Term, str]], str]
) -> str:
    """A term's text, each shared part written once; no recursion.

    Args:
        term: the term to print.
        done: the texts of terms that are known already; the call adds those that it finds.
        write: the function that gives the text of a term whose parts are done.
    """
    stack = [term]
    while stack:
        top = stack[-1]
        if top in done:
            stack.pop()
            continue
        waiting = [part for part in printed_parts(top) if part not in done]
        if waiting:
            stack.extend(waiting)
        else:
            done[top] = write(top, done)
    return done[term]


def plan(conditions: Sequence[Term], taken: Iterable[str] = (), prefix: str = "t") -> list[Step]:
    """The steps that check the conditions one after the other.

    Args:
        conditions: the conditions to check.
        taken: names that variables must not have.
        prefix: the beginning of each variable's name.

    Example:
        >>> from symfx.algebra import Table, to_python
        >>> t = Table(); a, b = t.symbol("a"), t.symbol("b")
        >>> for step in plan([a // b >= 2, (a // b).ne(a)]):
        ...     print(step.name, step.term)
        t0 a//b
        None a//b >= 2
        None a != a//b
    """
    roots = list(dict.fromkeys(conditions))
    uses = _count_uses(roots)
    defined: dict[Term, Term] = {}
    avoid = set(taken)
    named: set[Term] = set()
    steps: list[Step] = []
    number = 0
    for root in roots:
        for part, sure in _ahead(root, named):
            if uses[part] < 2 or part is root or part.op in ("const", "symbol"):
                continue
            if not sure and definedness(part, defined) is not part.table.true:
                continue
            while (name := f"{prefix}{number}") in avoid:
                number += 1
            number += 1
            named.add(part)
            steps.append(Step(part, name))
        steps.append(Step(root))
    return steps


def _count_uses(roots: Sequence[Term]) -> dict[Term, int]:
    """For each part of the conditions, how often the texts of other parts have it."""
    uses = dict.fromkeys(roots, 1)
    stack = list(roots)
    while stack:
        top = stack.pop()
        for part in printed_parts(top):
            times = top.args.count(part) if top.op == "product" else 1
            if part in uses:
                uses[part] += times
            else:
                uses[part] = times
                stack.append(part)
    return uses


def _ahead(root: Term, named: set[Term]) -> list[tuple[Term, bool]]:
    """The parts of a condition, operands first, each with whether Python always computes it."""
    sure: dict[Term, bool] = {root: True}
    # A part is sure if one of the ways down to it is.
    stack = [root]
    while stack:
        top = stack.pop()
        for i, part in enumerate(printed_parts(top)):
            lazy = top.op in ("and", "or", "where") and i > 0
            now = sure[top] and not lazy
            if part in named or (part in sure and (sure[part] or not now)):
                continue
            sure[part] = now
            stack.append(part)
    order: list[tuple[Term, bool]] = []
    seen: set[Term] = set()
    walk = [root]
    while walk:
        top = walk[-1]
        below = [p for p in printed_parts(top) if p in sure and p not in seen]
        if below and top not in seen:
            walk.extend(reversed(below))
            continue
        walk.pop()
        if top not in seen:
            seen.add(top)
            order.append((top, sure[top]))
    return order
