"""A prover that asks z3 about open conditions, within a budget of time.

z3 is imported when the first such prover is made, and nowhere else in symfx's algebra. The claims
that z3 gets are true wherever the facts hold. Operations that z3 is weak at (powers, bit
operations, doubles) become numbers with a few known bounds. So "proved" and "refuted" are as sound
as z3 is, and any other answer is "unknown".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import reduce
from typing import Any

from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.terms.table import Scalar, Term
from symfx.algebra.terms.term import postorder
from symfx.extras import importing

__all__ = ["Z3Prover", "Z3Terms", "needs_z3"]

# Powers with larger exponents would only slow z3 down.
_LARGEST_POWER = 16


def needs_z3() -> Any:
    """The module z3.

    Raises:
        MissingPackageError: z3-solver is not installed.
    """
    with importing("z3", "the prover that asks z3"):
        import z3
    return z3


class Z3Prover(Prover):
    """A prover that asks z3 about the conditions that it leaves open itself.

    Args:
        facts: the store of facts.
        witness: see `Prover`.
        budget_ms: the milliseconds that z3 may take for one question.

    Attributes:
        asked: the number of questions that z3 was asked.
        answered: the number of them that z3 decided.

    Raises:
        MissingPackageError: z3-solver is not installed.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); x, y = t.symbol("x"), t.symbol("y")
        >>> question = (x * x + y * y).ne(3)
        >>> facts = Facts(t)
        >>> print(Prover(facts).decide(question), Z3Prover(facts, budget_ms=2000).decide(question))
        None True
    """

    def __init__(
        self,
        facts: Facts,
        witness: Callable[[Term], Scalar | None] | None = None,
        *,
        budget_ms: int = 100,
    ) -> None:
        super().__init__(facts, witness)
        self._z3 = needs_z3()
        self.budget_ms = budget_ms
        self.asked = 0
        self.answered = 0
        self._translated = Z3Terms(self._z3)
        self._beyond: dict[Term, int] = {}
        self._inside = 0

    def decide(self, condition: Term) -> bool | None:
        """True if the facts imply the condition, False if they refute it, else None."""
        self._inside += 1
        try:
            answer = super().decide(condition)
        finally:
            self._inside -= 1
        # Only the question as a whole goes to z3, not the steps of an answer to it.
        if answer is not None or self._inside:
            return answer
        condition = self.facts.resolve(condition)
        stamp = self.facts.stamp(condition)
        if self._beyond.get(condition) == stamp:
            return None
        answer, _ = self._ask(condition)
        if answer is None:
            self._beyond[condition] = stamp
        else:
            self._decided[condition] = answer
        return answer

    def core(self, condition: Term) -> tuple[bool | None, list[Term]]:
        """z3's answer about a condition, and the facts that it used: the unsatisfiable core."""
        return self._ask(self.facts.resolve(condition))

    def _ask(self, condition: Term) -> tuple[bool | None, list[Term]]:
        z3 = self._z3
        self.asked += 1
        deadline = time.monotonic() + self.budget_ms / 1000
        seen = self.witness(condition)
        facts = self.facts.connected(condition)
        told = self._translated
        question = told.formula(condition)
        claims = [*told.meaning(condition, *facts), *told.has_value(condition)]
        named = {f"fact {i}": fact for i, fact in enumerate(facts)}
        # A condition cannot be refuted if the witness satisfies it, nor proved if it does not.
        for answer in (True, False):
            if seen is not None and bool(seen) is not answer:
                continue
            left = int(1000 * (deadline - time.monotonic()))
            if left <= 0:
                break
            solver = z3.Solver()
            solver.set("timeout", left if seen is not None or not answer else max(left // 2, 1))
            solver.set("core.minimize", True)
            solver.add(*claims, z3.Not(question) if answer else question)
            for name, fact in named.items():
                solver.assert_and_track(z3.And(told.formula(fact), *told.has_value(fact)), name)
            if solver.check() == z3.unsat:
                self.answered += 1
                return answer, [named[str(c)] for c in solver.unsat_core()]
        return None, []


class Z3Terms:
    """Terms as z3's expressions, each made once."""

    def __init__(self, z3: Any) -> None:
        self.z3 = z3
        self._made: dict[Term, Any] = {}
        # For an operation that z3 has as an unknown number, the claims about it.
        self._defining: dict[Term, list[Any]] = {}

    def meaning(self, *terms: Term) -> list[Any]:
        """The claims about the operations in some conditions."""
        claims: list[Any] = []
        seen: set[Term] = set()
        for term in terms:
            self.formula(term)
            for part in postorder(term, lambda t: t not in seen):
                seen.add(part)
                claims += self._defining.get(part, ())
        return claims

    def has_value(self, condition: Term) -> list[Any]:
        """The claims that a condition has a value: a divisor that is always computed is not 0."""
        self.formula(condition)
        return [self.formula(b) != 0 for b in _divisors(condition)]

    def formula(self, term: Term) -> Any:
        """The term in z3."""
        for part in postorder(term, lambda t: t not in self._made):
            self._made[part] = self._make(part)
        return self._made[term]

    def values(self, model: Any, terms: Iterable[Term]) -> dict[Term, Scalar]:
        """The values of the integers and booleans in terms, in a model that z3 found."""
        found: dict[Term, Scalar] = {}
        for symbol in {s for term in terms for s in term.free_symbols}:
            value = model.eval(self.formula(symbol), model_completion=True)
            if symbol.sort == "int":
                found[symbol] = value.as_long()
            elif symbol.sort == "bool":
                found[symbol] = bool(self.z3.is_true(value))
            else:
                fraction = value.as_fraction() if self.z3.is_rational_value(value) else 0
                found[symbol] = float(fraction)
        return found

    def _make(self, term: Term) -> Any:
        z3, op = self.z3, term.op
        if op == "const" and term.sort != "real":
            value = term.args[0]
            return z3.BoolVal(value) if term.sort == "bool" else z3.IntVal(value)
        below = [self._made[t] for t in term.operands]
        if op == "sum":
            scaled = [c * self._made[m] for m, c in term.coeffs.items()]
            return z3.Sum([*scaled, z3.IntVal(term.const)])
        if op == "product":
            return z3.Product(below)
        if op == "eq":
            return below[0] == 0
        if op == "ge":
            return below[0] >= 0
        if op in ("not", "and", "or"):
            return {"not": z3.Not, "and": z3.And, "or": z3.Or}[op](*below)
        if op == "where" and term.sort != "real":
            return z3.If(*below)
        if op == "abs":
            return z3.If(below[0] < 0, -below[0], below[0])
        if op == "min":
            return reduce(lambda a, b: z3.If(b < a, b, a), below)
        if op == "max":
            return reduce(lambda a, b: z3.If(b > a, b, a), below)
        if op == "pow" and term.args[1].op == "const" and term.args[1].const <= _LARGEST_POWER:
            return z3.Product([below[0]] * term.args[1].const)
        unknown = self._unknown(term)
        if op in ("floordiv", "mod"):
            self._defining[term] = self._division(op, unknown, *below)
        elif op in ("bit_and", "lshift", "rshift", "pow"):
            self._defining[term] = self._bounds(op, unknown, *below)
        return unknown

    def _unknown(self, term: Term) -> Any:
        # No two terms have the same name: a symbol's is its own, the others' have a number.
        name = f"={term.name}" if term.op == "symbol" else f"{term.op}#{term.uid}"
        if term.sort == "bool":
            return self.z3.Bool(name)
        return self.z3.Int(name) if term.sort == "int" else self.z3.Real(name)

    def _division(self, op: str, result: Any, a: Any, b: Any) -> list[Any]:
        """a = b*q + r with r between 0 and b, for b that is not 0: Python's division."""
        z3 = self.z3
        if z3.is_int_value(b):  # positive: terms have no negative constant divisors
            return [result == (a / b if op == "floordiv" else a % b)]
        other = z3.Int(f"{result}'")
        q, r = (result, other) if op == "floordiv" else (other, result)
        inside = z3.If(b > 0, z3.And(r >= 0, r < b), z3.And(r <= 0, r > b))
        return [z3.Implies(b != 0, z3.And(a == b * q + r, inside))]

    def _bounds(self, op: str, result: Any, a: Any, b: Any) -> list[Any]:
        """A few claims about an operation that z3 is weak at."""
        z3 = self.z3
        if op == "bit_and":
            return [
                z3.Implies(a >= 0, z3.And(result >= 0, result <= a)),
                z3.Implies(b >= 0, z3.And(result >= 0, result <= b)),
            ]
        if op == "pow":
            return [z3.Implies(z3.And(a >= 1, b >= 0), result >= 1)]
        grown = op == "lshift"
        return [
            z3.Implies(z3.And(a >= 0, b >= 0), result >= a if grown else result <= a),
            z3.Implies(a >= 0, result >= 0),
        ]


def _divisors(term: Term) -> list[Term]:
    """The divisors that are always computed with a condition: none within and, or, if."""
    found: list[Term] = []
    seen: set[Term] = set()
    stack = [term]
    while stack:
        top = stack.pop()
        if top in seen or top.op in ("and", "or"):
            continue
        seen.add(top)
        if top.op in ("floordiv", "mod") and top.args[1].op != "const":
            found.append(top.args[1])
        stack.extend(top.args[:1] if top.op == "where" else top.operands)
    return found
