"""Questions to z3 about sizes: do conditions hold together, which contradict, which follow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from symfx.algebra import Term, interpret
from symfx.extras import importing
from symfx.shape_rules.errors import GradualError

with importing("types", "symfx typecheck"):
    import z3

__all__ = ["Answer", "Solver", "smallest_conflict"]

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "const": lambda value: z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(int(value)),
    "add": lambda *parts: z3.Sum(parts),
    "mul": lambda *parts: z3.Product(parts),
    # For sizes and positive divisors z3's rounding is Python's.
    "floordiv": lambda a, b: a / b,
    "mod": lambda a, b: a % b,
    "min": lambda *parts: functools.reduce(lambda a, b: z3.If(a <= b, a, b), parts),
    "max": lambda *parts: functools.reduce(lambda a, b: z3.If(a >= b, a, b), parts),
    "abs": lambda a: z3.If(a >= 0, a, -a),
    "where": z3.If,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "le": lambda a, b: a <= b,
    "lt": lambda a, b: a < b,
    "and": lambda *parts: z3.And(parts),
    "or": lambda *parts: z3.Or(parts),
    "not": z3.Not,
    "pow": lambda a, b: a**b,
}


@dataclass(frozen=True)
class Answer:
    """The answer of z3 to a question.

    Args:
        verdict: ``"sat"``, ``"unsat"`` or ``"unknown"``.
        values: for ``"sat"``, a size for each name, for which all conditions hold.
        conflict: for ``"unsat"``, the positions of conditions that contradict each other.
    """

    verdict: str
    values: Mapping[str, int]
    conflict: tuple[int, ...] = ()


class Solver:
    """Asks z3 questions, each with a time budget.

    Args:
        timeout: seconds.
    """

    def __init__(self, timeout: float) -> None:
        if not timeout > 0:
            raise GradualError(
                f"the time budget must be a positive number of seconds, not {timeout}"
            )
        self.timeout = timeout
        self._terms: dict[Term, Any] = {}
        self._symbols: dict[str, Any] = {}

    def formula(self, term: Term) -> Any:
        """Translate a condition or a size into z3."""

        def leaf(symbol: Term) -> Any:
            return self._symbols.setdefault(symbol.name, z3.Int(symbol.name))

        try:
            return interpret(term, leaf, _OPERATIONS, self._terms)
        except KeyError:
            # An operation on floats, which z3 has not: the term may have any value.
            kind = z3.BoolSort() if term.sort == "bool" else z3.IntSort()
            return self._terms.setdefault(term, z3.FreshConst(kind, "unknown"))

    def _solver(self) -> Any:
        solver = z3.Solver()
        solver.set("timeout", max(1, int(self.timeout * 1000)))
        return solver

    def ask(
        self, conditions: Sequence[Term], *, wishes: Sequence[Term] = (), small: bool = False
    ) -> Answer:
        """Decide whether conditions hold together.

        Args:
            conditions: the conditions.
            wishes: further conditions, each kept if it is possible with those before it.
            small: look for small sizes.
        """
        solver = self._solver()
        labels = [z3.Bool(f"condition {i}") for i in range(len(conditions))]
        for label, condition in zip(labels, conditions, strict=True):
            solver.add(z3.Implies(label, self.formula(condition)))
        verdict = str(solver.check(*labels))
        if verdict == "unsat":
            core = {str(label) for label in solver.unsat_core()}
            found = tuple(i for i, label in enumerate(labels) if str(label) in core)
            return Answer(verdict, {}, found)
        if verdict != "sat":
            return Answer(verdict, {})
        model = solver.model()
        for wish in map(self.formula, wishes):
            solver.push()
            solver.add(wish)
            if str(solver.check(*labels)) == "sat":
                model = solver.model()
            else:
                solver.pop()
        if small:
            for bound in (2, 4, 8, 16, 64, 256, 1024, 65536):
                solver.push()
                solver.add([symbol <= bound for symbol in self._symbols.values()])
                if str(solver.check(*labels)) == "sat":
                    model = solver.model()
                    break
                solver.pop()
        values = {
            name: model.eval(symbol, model_completion=True).as_long()
            for name, symbol in self._symbols.items()
        }
        return Answer("sat", values)

    def follows(self, conditions: Iterable[Term], conclusion: Term) -> bool:
        """Whether a condition follows from others; False if z3 does not know."""
        solver = self._solver()
        solver.add([self.formula(condition) for condition in conditions])
        solver.add(z3.Not(self.formula(conclusion)))
        return str(solver.check()) == "unsat"

    def equal(self, conditions: Iterable[Term], one: Term | int, other: Term | int) -> bool:
        """Whether two sizes are equal where conditions hold; False if z3 does not know.

        The sizes and the conditions may be terms of different tables: names count.
        """
        a, b = (side if isinstance(side, int) else self.formula(side) for side in (one, other))
        if isinstance(a, int) and isinstance(b, int):
            return a == b
        solver = self._solver()
        solver.add([self.formula(condition) for condition in conditions])
        solver.add(a != b)
        return str(solver.check()) == "unsat"


def smallest_conflict(solver: Solver, conditions: Sequence[Term]) -> tuple[int, ...]:
    """Find conditions that contradict each other, and that do not without any one of them.

    Args:
        solver: answers the questions.
        conditions: conditions that do not hold together.

    Returns:
        The positions of the conditions; empty if z3 does not find a contradiction in time.
    """
    answer = solver.ask(conditions)
    if answer.verdict != "unsat":
        return ()
    core = [*answer.conflict]
    for i in [*core]:
        fewer = [j for j in core if j != i]
        again = solver.ask([conditions[j] for j in fewer])
        if again.verdict == "unsat":
            core = [fewer[j] for j in again.conflict]
    return tuple(core)
