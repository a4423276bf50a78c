"""What a trace takes for granted: guards, stated conditions, assertions and ranges, with causes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from symfx.algebra import Term
from symfx.algebra.reasoning.proofs import prove_from
from symfx.explanation.answers import Reason, ReasonKind
from symfx.symbolic_shapes import Provenance, ShapeEnv, ShapeGuard

__all__ = ["Assumptions", "reason_of"]

#: torch's bound of a size that is anything a machine word holds.
_WORD = 1 << 62


@dataclass(frozen=True)
class _Assumption:
    """A condition that a trace takes for granted.

    Attributes:
        term: the condition.
        kind: what it is; see `Reason`.
        cause: what caused it.
        note: more about it, in words.
    """

    term: Term
    kind: ReasonKind
    cause: Provenance
    note: str = ""

    def as_reason(self) -> Reason:
        return reason_of(self.term, self.kind, self.cause, self.note)


def reason_of(term: Term, kind: ReasonKind, cause: Provenance, note: str = "") -> Reason:
    """A condition with its cause, as a leaf of a proof tree."""
    if cause.stated:
        return Reason(str(term), "stated", note=note, term=term)
    return Reason(str(term), kind, cause.operator, cause.frame, note, term=term)


class Assumptions:
    """The conditions that a trace takes for granted, and proofs from them.

    Args:
        env: the environment of the trace.
    """

    def __init__(self, env: ShapeEnv) -> None:
        self.env = env
        self.causes: dict[Term, _Assumption] = {}
        for each in self._causes():
            self.causes.setdefault(each.term, each)
        #: What else is known: without a cause, or a conclusion of symfx from the conditions above.
        self.others: dict[Term, _Assumption] = {}
        for each in self._others():
            if each.term not in self.causes:
                self.others.setdefault(each.term, each)

    def _causes(self) -> Iterator[_Assumption]:
        env = self.env
        for guard in env.guards:
            yield _Assumption(guard.term, "guard", guard.provenance)
        for asserted in env.deferred_asserts():
            note = f"with the message {asserted.message!r}" if asserted.message else ""
            yield _Assumption(asserted.term, "assertion", asserted.provenance, note)
        for condition in env.knowledge.given:
            yield self._range(condition)

    def _others(self) -> Iterator[_Assumption]:
        facts, knowledge = self.env.facts, self.env.knowledge
        records = self.env.symbols.records.keys()
        for symbol, by in facts.replacements.items():
            if symbol in records:
                cause = knowledge.replacement_origins.get(symbol, Provenance())
                yield _Assumption(self.env.table.eq(symbol, by), "fact", cause)
        for condition, because in facts.reasons.items():
            if because is condition and condition.free_symbols <= records:
                bound = condition.op == "ge" and len(condition.free_symbols) == 1
                yield (
                    self._range(condition)
                    if bound
                    else _Assumption(condition, "fact", Provenance())
                )

    def _range(self, condition: Term) -> _Assumption:
        """A bound of a symbol, in which it began or which the program stated."""
        (symbol,) = condition.free_symbols
        knowledge, record = self.env.knowledge, self.env.symbols.records[symbol]
        if condition not in knowledge.given and condition.op == "ge":
            side = "lower" if condition.args[0].coeffs.get(symbol, 0) > 0 else "upper"
            cause = knowledge.bound_origins.get(symbol, {}).get(side)
            if cause is None and record.unbacked:
                cause = record.provenance
            if cause is not None:
                return _Assumption(condition, "fact", cause)
        return _Assumption(condition, "range", Provenance(), f"where {symbol} begins")

    def proof(self, condition: Term) -> tuple[bool | None, tuple[Reason, ...]]:
        """Whether a condition holds, and a smallest set of assumptions that gives the answer.

        Conditions that have a cause are preferred to what else is known.

        Returns:
            True, False or, for an open condition, None; and the reasons.
        """
        found = prove_from([*self.causes], condition)
        if found.holds is None and self.others:
            found = prove_from([*self.causes, *self.others], condition)
        every = self.causes | self.others
        return found.holds, tuple(every[fact].as_reason() for fact in found.facts)

    def reason(self, condition: Term) -> Reason:
        """A condition that holds, with the assumptions that give it.

        A condition that is an assumption itself, or one in other words, is a leaf: a guard reads
        ``n % 2 == 0`` where the program asked for ``n == 2*((n + 1)//2)``.
        """
        itself = self.causes.get(condition)
        if itself is not None:
            return itself.as_reason()
        _, because = self.proof(condition)
        if len(because) == 1:
            (only,) = because
            if only.term is not None and prove_from([condition], only.term).holds is True:
                return replace(only, statement=str(condition), term=condition)
        return Reason(str(condition), "follows", because=because, term=condition)

    def guard(self, guard: ShapeGuard) -> Reason:
        """A guard that the trace lists, with the questions of the program from which it follows.

        The trace may list a guard in other words than the program's: ``n >= 5`` for ``n != min(n,
        4)``. Where the prover does not see that the two are the same, the guard has the question's
        cause.
        """
        reason = self.reason(guard.term)
        if reason.kind == "follows" and not reason.because:
            return reason_of(guard.term, "guard", guard.provenance)
        return reason

    def bounds(self, symbol: Term) -> Iterator[Reason]:
        """The reasons for the bounds of a symbol, those of a machine word left out."""
        low, high = self.env.prover.range(symbol)
        table = self.env.table
        if low is not None and low > -_WORD:
            yield self.reason(table.le(table.const(low), symbol))
        if high is not None and high < _WORD:
            yield self.reason(table.le(symbol, table.const(high)))
