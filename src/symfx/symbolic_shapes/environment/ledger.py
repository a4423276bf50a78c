"""The ledger of a trace: the guards and runtime assertions that its questions left behind.

`Ledger.value_of` answers a question from the facts, else from the hint, for which
`Ledger.record_guard` records a guard. `Ledger.expect` relies on a condition, for which it
records a guard or, where data decides, a runtime assertion.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from symfx import config
from symfx.algebra import Scalar, Term, evaluate
from symfx.errors import SymfxError
from symfx.sym_node.comparisons import as_asked
from symfx.symbolic_shapes.environment.deferred import DeferredFacts
from symfx.symbolic_shapes.environment.knowledge import Knowledge
from symfx.symbolic_shapes.environment.switches import Suppression
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode, _ShapeEnvGuardError
from symfx.symbolic_shapes.explain.logs import log_guard, log_observed
from symfx.symbolic_shapes.explain.provenance import Provenance, in_assert_statement
from symfx.symbolic_shapes.records import RuntimeAssert, ShapeGuard
from symfx.symbolic_shapes.settings import ShapeEnvSettings
from symfx.torch_bridge.bookkeeping import compares_for_itself

__all__ = ["Ledger"]

log = logging.getLogger("symfx.symbolic_shapes")

_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}


class Answers(Protocol):
    """The answers that a kernel gets instead of guards.

    Attributes:
        on_trial: whether the kernel runs on trial, so that its results are not those of the trace.
    """

    on_trial: bool

    def __call__(self, term: Term, hint: Scalar, fallback: Scalar | None) -> bool | None:
        """The answer to an open question; None for a question that is to be guarded."""

    def refuse(self) -> None:
        """End the trial if it cannot have a runtime assertion."""


class Ledger:
    """The guards and runtime assertions of one environment.

    Args:
        knowledge: the facts.
        settings: `prefer_deferred_runtime_asserts_over_guards` and `trace_asserts` count here.
        here: returns the current provenance: the user's line and the operator that run now.
        data_dependent: returns the error for a term whose value depends on data.

    Attributes:
        asked: the method and both sides of each comparison, as the program wrote it.
        guards: the conditions on the inputs that tracing relied on.
        ignored_guards: the guards that would have been needed after `freeze`.
        asserts: the conditions that the running program has to check.
        frozen: whether guards are no longer recorded.
        runtime_asserts_frozen: whether a new runtime assertion is logged as a warning.
        suppression: counts the open blocks in which no guards are recorded.
        answers: answers open questions in place of guards while a kernel runs on trial; else None.
        deferred: facts that are learned before a guard depends on them.
        assumed: collects the conditions that answers without a hint stand for; else None.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        settings: ShapeEnvSettings,
        here: Callable[[], Provenance],
        data_dependent: Callable[[Term], GuardOnDataDependentSymNode],
    ) -> None:
        self._knowledge = knowledge
        self._facts = knowledge.facts
        self._prover = knowledge.prover
        self._table = knowledge.table
        self._settings = settings
        self._here = here
        self._data_dependent = data_dependent
        self.asked: dict[Term, tuple[str, Term, Term]] = {}
        self.guards: list[ShapeGuard] = []
        self.ignored_guards: list[ShapeGuard] = []
        self.asserts: list[RuntimeAssert] = []
        self.frozen = False
        self.runtime_asserts_frozen = False
        self.suppression = Suppression()
        self.answers: Answers | None = None
        self.deferred = DeferredFacts(knowledge)
        self.assumed: list[Term] | None = None
        self._error_on_new_guards = False
        self._updates = 0
        self._guards_on: dict[Term, int] = {}
        # Switches that would cost too much to look up at each question.
        self._validates_version: bool = config.validate_shape_env_version_key
        self._flips_equalities: bool = config.inject_EVALUATE_EXPR_flip_equality_TESTING_ONLY
        self._guard_limit: int | None = config.symbol_guard_limit_before_specialize
        mode: int = config.aggressive_guard_free_semantics
        self._skips_proofs = mode >= config.AggressiveGuardFreeMode.SKIP_RANGE_ANALYSIS
        self._seen_at: dict[int, tuple[int, int, int]] = {}

    # -- questions ------------------------------------------------------------------------------

    def value_of(
        self, term: Term, *, size_oblivious: bool = False, fallback: Scalar | None = None
    ) -> Scalar:
        """The value of a term: the one that the facts imply, else its hint, guarded.

        Args:
            term: an integer, real or boolean term.
            size_oblivious: take unbacked symbols that are sizes to be at least 2.
            fallback: the answer where the value depends on data.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        term = self._facts.resolve(term)
        if term.op == "const":
            value: Scalar = term.args[0]
            return value
        if self._validates_version:
            self._check_version()
        knowledge = self._knowledge
        if self._skips_proofs and fallback is not None and knowledge.hint_of(term) is None:
            return fallback
        if term.sort == "bool":
            known = knowledge.decide(term)
            if known is not None:
                return known
            term = self._prover.reduce(term)
        hint = knowledge.hint_of(term)
        if hint is None:
            return self._value_without_hint(term, size_oblivious, fallback)
        if (size_oblivious or fallback is not None) and config.backed_size_oblivious:
            # Backed sizes are treated as unbacked ones: no guard where an answer needs none.
            general = self._value_for_sizes(term, size_oblivious, fallback)
            if general is not None:
                return general
        if self.suppression.depth == 0 and not self._needs_no_guard(term, hint):
            if self.answers is not None:
                answer = self.answers(term, hint, fallback)
                if answer is not None:
                    return bool(answer)
            if self.deferred.learn_about(term):
                return self.value_of(term, size_oblivious=size_oblivious, fallback=fallback)
            self.record_guard(term, hint, size_oblivious)
        return hint

    def _needs_no_guard(self, term: Term, hint: Scalar) -> bool:
        """Whether a question needs no guard, although it is open whether it has one answer."""
        if term.sort == "int":
            return self._prover.range(term) == (hint, hint)
        if term.sort == "real":
            # The guards leave one value already. An equality of floats does not replace the
            # symbol, because 0.0 equals -0.0.
            return self._prover.real_range(term) == (hint, hint)
        compared = term.args[0] if term.op == "not" else term
        if compared.op == "eq" and len(compared.free_symbols) == 1:
            # A ragged size is equal to itself and to no number.
            return isinstance(self._knowledge.hint_of(*compared.free_symbols), torch.SymInt)
        return _is_of_one_float(compared) and compares_for_itself()

    def _value_for_sizes(
        self, term: Term, size_oblivious: bool, fallback: Scalar | None
    ) -> Scalar | None:
        """The answer for sizes of at least 2, where `size_oblivious` asks so; else the fallback."""
        if size_oblivious and term.sort == "bool":
            general = self._knowledge.decide_as_size(term)
            if general is not None:
                return general
        return fallback

    def _value_without_hint(
        self, term: Term, size_oblivious: bool, fallback: Scalar | None
    ) -> Scalar:
        """The value of a term that has no hint: most often, because it depends on data."""
        general = self._value_for_sizes(term, size_oblivious, fallback)
        if general is not None:
            if self.assumed is not None:
                self.assumed.append(self.has_value(term, general))
            return general
        if term.sort == "int":
            # Facts replace a symbol that has one value left, and no other term.
            low, high = self._prover.range(term)
            if low is not None and low == high:
                return low
        knowledge = self._knowledge
        if knowledge.symbols.is_backed(term):
            return evaluate(term, knowledge.symbols.hints)  # undefined: raises Python's error
        observed = knowledge.observed(term)
        if observed is not None:
            if not compares_for_itself():
                expr = as_asked(term, self.asked.get(term))
                log_observed(expr, observed, knowledge.symbols.source_name, self._here())
                self.expect(self.has_value(term, observed), "propagate_real_tensors")
            return observed
        compared = term.args[0] if term.op == "not" else term
        if _is_of_one_float(compared) and compares_for_itself():
            return term is compared
        if self._settings.trace_asserts and term.sort == "bool" and in_assert_statement():
            self.expect(term, "assert")
            return True
        raise self._data_dependent(term)

    # -- guards ---------------------------------------------------------------------------------

    def record_guard(self, term: Term, value: Scalar, size_oblivious: bool = False) -> None:
        """Record the guard that a term has its value at tracing, and learn it as a fact.

        Raises:
            _ShapeEnvGuardError: inside of `error_on_new_guards`.
        """
        condition = self.has_value(term, value)
        if self._is_checked_by_the_program(condition):
            self._record_assert(condition, f"evaluate_expr: {term}")
            return
        provenance = self._here()
        asked = self.asked.get(term)
        if asked is not None and not value:
            asked = (_OPPOSITE[asked[0]], *asked[1:])
        guard = ShapeGuard(condition, provenance, size_oblivious, asked)
        if self._error_on_new_guards:
            raise _ShapeEnvGuardError(
                f"{condition} needs a guard where none may be added",
                where=str(provenance),
                fix="ask before, or use guard_or_false where either answer is right",
            )
        if self.frozen:
            # The guards of this trace have been handed out: a later one would not be checked.
            self.ignored_guards.append(guard)
            log.warning("the guards are frozen: %s is relied on, but never checked", guard)
            return
        knowledge = self._knowledge
        if knowledge.validator is not None:
            knowledge.validator.rely(term, value)
        if self._flips_equalities and term.op in ("eq", "not"):
            guard = ShapeGuard(self._table.not_(condition), provenance, size_oblivious)
        self.guards.append(guard)
        log_guard(guard, knowledge.symbols.source_name, at_run_time=False)
        knowledge.learn(guard.term, provenance, stated=False)
        self._specialize_much_guarded(condition)

    def _is_checked_by_the_program(self, condition: Term) -> bool:
        """Whether the exported program checks a condition itself, in place of a guard.

        Bounds of a symbol, and equations that give a symbol its value, are guards in any case:
        the promises about dimensions are compared with them.
        """
        settings = self._settings
        if not settings.prefer_deferred_runtime_asserts_over_guards or self.frozen:
            return False
        if not torch.compiler.is_exporting():
            return False
        if condition.op not in ("eq", "ge"):
            return True
        coeffs = condition.args[0].coeffs
        if condition.op == "ge":
            return len(coeffs) > 1 or any(part.op != "symbol" for part in coeffs)
        return all(part.op != "symbol" or abs(factor) != 1 for part, factor in coeffs.items())

    def has_value(self, term: Term, value: Scalar) -> Term:
        """The condition that a term has a value."""
        if term.sort == "bool":
            return term if value else self._table.not_(term)
        if isinstance(value, torch.SymInt):
            raise SymfxError(
                f"{term} is {value}, the ragged size of a nested tensor, which is no one number",
                where=str(self._here()).removeprefix("at "),
                fix="compute with it without asking for its value",
            )
        return self._table.eq(term, self._table.const(value))

    def _specialize_much_guarded(self, condition: Term) -> None:
        """Pin symbols to their values once they have more guards than a switch allows."""
        limit = self._guard_limit
        if limit is None:
            return
        for symbol in condition.free_symbols:
            guards = self._guards_on[symbol] = self._guards_on.get(symbol, 0) + 1
            if guards > limit and self._facts.resolve(symbol).op != "const":
                log.info(
                    "%s has more than %d guards "
                    "(symbol_guard_limit_before_specialize) and is specialized",
                    symbol.name,
                    limit,
                )
                self.value_of(symbol)

    def freeze(self) -> None:
        """Record no more guards; see `ShapeEnv.freeze`."""
        self.frozen = True
        for pinned in self._knowledge.specializations:
            log.info("%s is always %s (%s)", pinned.symbol_name, pinned.value, pinned.provenance)

    @contextlib.contextmanager
    def error_on_new_guards(self) -> Iterator[None]:
        """Inside, a question that would need a guard is a `_ShapeEnvGuardError`."""
        before = self._error_on_new_guards
        self._error_on_new_guards = True
        try:
            yield
        finally:
            self._error_on_new_guards = before

    @contextlib.contextmanager
    def collecting_assumptions(self) -> Iterator[list[Term]]:
        """Yield a list that gets the conditions which answers rely on that have no hint.

        Such an answer is the one for the general case, or a fallback, and is not asserted. The
        list ends where `assumed` is set to None.
        """
        before, self.assumed = self.assumed, []
        try:
            yield self.assumed
        finally:
            self.assumed = before

    @contextlib.contextmanager
    def without_guards(self) -> Iterator[None]:
        """Inside, `freeze` is in effect; afterwards it is if it was before."""
        before = self.frozen
        self.frozen = True
        try:
            yield
        finally:
            self.frozen = before

    # -- runtime assertions ---------------------------------------------------------------------

    def expect(self, condition: Term, message: str = "") -> bool:
        """Rely on a condition: record a guard where it has a hint, else a runtime assertion.

        Returns:
            Whether the condition may hold. Where it does not, the caller has to stop the
            program: only the caller knows the exception and the message that the user chose
            (`torch._check_value` and others).
        """
        knowledge = self._knowledge
        condition = self._facts.resolve(condition)
        known = knowledge.decide(condition)
        if known is not None:
            return known
        prefers_asserts = self._settings.prefer_deferred_runtime_asserts_over_guards
        if knowledge.hint_of(condition) is not None and not prefers_asserts:
            return bool(self.value_of(condition))
        if self.suppression.depth:
            return True
        if self.deferred.learn_about(condition):
            return self.expect(condition, message)
        self._record_assert(condition, message)
        return True

    def _record_assert(self, condition: Term, message: str) -> None:
        """Record a runtime assertion, and learn its condition as a fact."""
        if self.answers is not None:
            self.answers.refuse()
        provenance = self._here()
        if self._error_on_new_guards:
            raise _ShapeEnvGuardError(
                f"{condition} needs an assertion where none may be added", where=str(provenance)
            )
        if self.runtime_asserts_frozen:
            log.warning("the assertions are frozen, but %s was needed (%s)", condition, provenance)
        asked = self.asked.get(condition)
        signless = self._remainders_are_signless(condition)
        record = RuntimeAssert(condition, message, provenance, asked, signless)
        self.asserts.append(record)
        log_guard(record, self._knowledge.symbols.source_name, at_run_time=True)
        self._knowledge.learn(condition, provenance)

    def _remainders_are_signless(self, condition: Term) -> bool:
        """Whether a term has remainders, all of numbers that are known not to be negative."""
        if condition.op in ("eq", "ge"):  # mostly of symbols alone
            for monomial in condition.args[0].coeffs:
                if monomial.op != "symbol":
                    break
            else:
                return False
        remainders: set[Term] = set()
        waiting, seen = [condition], {condition}
        while waiting:
            top = waiting.pop()
            if top.op == "mod":
                remainders.add(top)
            for part in top.operands:
                if part not in seen:
                    seen.add(part)
                    waiting.append(part)
        lows = [self._prover.range(part)[0] for r in remainders for part in r.operands]
        return bool(lows) and all(low is not None and low >= 0 for low in lows)

    # -- versions -------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """A number that grows whenever something is learned."""
        return self._facts.version + len(self.asserts) + self._updates

    def raise_version(self) -> None:
        """Raise `version`, after torch changed state directly."""
        self._updates += 1

    def _check_version(self) -> None:
        """Refuse facts that changed while `version` did not, since caches rely on it."""
        facts = self._facts
        now = len(facts.known), len(facts.replacements), len(self.asserts)
        before = self._seen_at.setdefault(self.version, now)
        if before != now:
            raise SymfxError(
                "the knowledge of a ShapeEnv has changed, and its version has not: before there "
                f"were {before}, now there are {now} conditions, replacements and assertions",
                fix="change it by its methods, or call _update_version_counter() after a change",
            )


def _is_of_one_float(term: Term) -> bool:
    """Whether a term compares a float with itself: whether it asks for NaN."""
    return term.op == "feq" and term.args[0] is term.args[1]
