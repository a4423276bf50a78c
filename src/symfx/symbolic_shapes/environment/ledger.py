"""Questions that need an answer: from the facts, else from the values at tracing with a guard."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import sympy
import torch

from symfx import config
from symfx.algebra import Scalar, Term, evaluate, substitute
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.reasoning.proofs import Proof, prove
from symfx.errors import SymfxError
from symfx.symbolic_shapes.environment.knowledge import Learning
from symfx.symbolic_shapes.environment.switches import _suppress_guards
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode, _ShapeEnvGuardError
from symfx.symbolic_shapes.explain.data_dependent import data_dependent_error
from symfx.symbolic_shapes.explain.logs import log_guard
from symfx.symbolic_shapes.explain.provenance import current_provenance, in_assert_statement
from symfx.symbolic_shapes.records import RuntimeAssert, ShapeGuard
from symfx.symbolic_shapes.settings import ShapeEnvSettings

__all__ = ["Decisions", "plain"]

log = logging.getLogger("symfx.symbolic_shapes")

_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}

# Sizes of memory are far below; sentinels such as sys.maxsize are above.
_NO_SIZE = 2**48


class Decisions(Learning):
    """Evaluating, guarding, expecting; see `ShapeEnv`."""

    def __init__(self, settings: ShapeEnvSettings) -> None:
        super().__init__(settings)
        self.ignored_guards: list[ShapeGuard] = []
        self._updates = 0
        self._guards_on: dict[Term, int] = {}
        # Switches that would cost too much to look up at each question.
        self._validates_version: bool = config.validate_shape_env_version_key
        self._flips_equalities: bool = config.inject_EVALUATE_EXPR_flip_equality_TESTING_ONLY
        self._guard_limit: int | None = config.symbol_guard_limit_before_specialize
        mode: int = config.aggressive_guard_free_semantics
        self._skips_proofs = mode >= config.AggressiveGuardFreeMode.SKIP_RANGE_ANALYSIS
        self._seen_at: dict[int, tuple[int, int, int]] = {}

    @property
    def _version_counter(self) -> int:
        """A number that grows whenever something is learned."""
        return self.facts.version + len(self._asserts) + self._updates

    def _update_version_counter(self) -> None:
        """Called by torch after it changed what is known directly."""
        self._updates += 1

    def evaluate_term(
        self, term: Term, *, size_oblivious: bool = False, fallback: Scalar | None = None
    ) -> Scalar:
        """The value of a term: what follows from the facts, else its hint, guarded.

        Args:
            term: an integer, real or boolean term.
            size_oblivious: take unbacked symbols that are sizes to be at least 2.
            fallback: what to answer where the value depends on data.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        term = self.facts.resolve(term)
        if term.op == "const":
            value: Scalar = term.args[0]
            return value
        if self._validates_version:
            self._check_version()
        if self._skips_proofs and fallback is not None and self.hint_of(term) is None:
            return fallback
        if term.sort == "bool":
            known = self.decide(term)
            if known is not None:
                return known
            term = self.prover.reduce(term)
        hint = self.hint_of(term)
        if hint is None:
            return self._without_hint(term, size_oblivious, fallback)
        if (size_oblivious or fallback is not None) and config.backed_size_oblivious:
            # Sizes of inputs are taken for what only data tells: no guard where one can do without.
            general = self._in_general(term, size_oblivious, fallback)
            if general is not None:
                return general
        if self._suppressed.depth == 0:
            self._guard(term, hint, size_oblivious)
        return hint

    def decide(self, condition: Term) -> bool | None:
        """Whether the facts imply a condition, True, or its opposite, False; None where neither."""
        answer = self.prover.decide(condition)
        if answer is not None and self.validator is not None:
            self.validator.rely(condition, answer, self.current_operator)
        return answer

    def _check_version(self) -> None:
        """Refuse facts that changed behind the back of `_version_counter`, on which caches rely."""
        facts = self.facts
        now = len(facts.known), len(facts.replacements), len(self._asserts)
        before = self._seen_at.setdefault(self._version_counter, now)
        if before != now:
            raise SymfxError(
                "what a ShapeEnv knows has changed, and its version has not: before there were "
                f"{before}, now there are {now} conditions, replacements and assertions",
                fix="change it by its methods, or call _update_version_counter() after a change",
            )

    def _in_general(
        self, term: Term, size_oblivious: bool, fallback: Scalar | None
    ) -> Scalar | None:
        """What holds for sizes of two and more, where that is asked for; else the fallback."""
        if size_oblivious and term.sort == "bool":
            general = self._decide_as_size(term)
            if general is not None:
                return general
        return fallback

    def _without_hint(self, term: Term, size_oblivious: bool, fallback: Scalar | None) -> Scalar:
        """The value of a term that depends on data."""
        general = self._in_general(term, size_oblivious, fallback)
        if general is not None:
            return general
        if self.is_backed(term):
            return evaluate(term, self._hints)  # undefined: Python says what is wrong with it
        if self.real_tensor_prop_unbacked_vals:
            values = {self.read(s): v for s, v in self.real_tensor_prop_unbacked_vals.items()}
            if term.free_symbols <= self._hints.keys() | values.keys():
                observed = evaluate(term, self._hints | {s: plain(v) for s, v in values.items()})
                self.expect(self._fixing(term, observed), "propagate_real_tensors")
                return observed
        if self.trace_asserts and term.sort == "bool" and in_assert_statement():
            self.expect(term, "assert")
            return True
        raise self._data_dependent(term)

    def settle_extremum(self, term: Term) -> Term:
        """A minimum or maximum without the operands that the facts show another one to beat."""
        kept: list[Term] = []
        for part in term.args:
            if any(self._beats(term.op, other, part) for other in kept):
                continue
            kept = [k for k in kept if not self._beats(term.op, part, k)]
            kept.append(part)
        result = kept[0]
        for part in kept[1:]:
            result = getattr(self.table, term.op)(result, part)
        return result

    def _beats(self, op: str, a: Term, b: Term) -> bool:
        """Whether `a` makes `b` superfluous in a minimum or maximum."""
        order = self.table.le(a, b) if op == "min" else self.table.le(b, a)
        return self.prover.decide(order) is True

    def _decide_as_size(self, term: Term) -> bool | None:
        """Decide a condition as if every unbacked size in it were at least 2 and no sentinel."""
        table = self.table
        shadows = {}
        for symbol in term.free_symbols:
            low, high = self.prover.range(symbol) if symbol.sort == "int" else (None, None)
            backed = symbol in self._hints
            if backed and not (config.backed_size_oblivious and to_sympy(symbol) in self.size_like):
                continue
            if low is None or low < 0:
                continue
            if high is not None and high < 2:
                continue  # never 2: nothing to suppose
            shadow = table.symbol(f"{symbol.name}@size")
            self.facts.assume(table.le(table.const(max(2, low)), shadow))
            top = _NO_SIZE if high is None else min(high, _NO_SIZE)
            self.facts.assume(table.le(shadow, table.const(top)))
            shadows[symbol] = shadow
        return self.prover.decide(substitute(term, shadows)) if shadows else None

    # -- guards ---------------------------------------------------------------------------------

    def _fixing(self, term: Term, value: Scalar) -> Term:
        """The condition that a term has a value."""
        if term.sort == "bool":
            return term if value else self.table.not_(term)
        if isinstance(value, torch.SymInt):
            raise SymfxError(
                f"{term} is {value}, the ragged size of a nested tensor, which is no one number",
                where=str(current_provenance(self.current_operator)).removeprefix("at "),
                fix="compute with it without asking for its value",
            )
        return self.table.eq(term, self.table.const(value))

    def _guard(self, term: Term, value: Scalar, size_oblivious: bool = False) -> None:
        condition = self._fixing(term, value)
        provenance = current_provenance(self.current_operator)
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
            # The guards of this trace have been handed out: nobody will check another one.
            self.ignored_guards.append(guard)
            log.warning("the guards are frozen: %s is relied on, but never checked", guard)
            return
        if self.validator is not None:
            self.validator.rely(term, value, self.current_operator)
        if self._flips_equalities and term.op in ("eq", "not"):
            guard = ShapeGuard(self.table.not_(condition), provenance, size_oblivious)
        self.guards.append(guard)
        log_guard(guard)
        self._learn(guard.term, provenance, stated=False)
        self._specialize_much_guarded(condition)

    def _specialize_much_guarded(self, condition: Term) -> None:
        """Pin symbols to their values once they have more guards than a switch allows."""
        limit = self._guard_limit
        if limit is None:
            return
        for symbol in condition.free_symbols:
            guards = self._guards_on[symbol] = self._guards_on.get(symbol, 0) + 1
            if guards > limit and self.facts.resolve(symbol).op != "const":
                log.info(
                    "%s has more than %d guards "
                    "(symbol_guard_limit_before_specialize) and is specialised",
                    symbol.name,
                    limit,
                )
                self.evaluate_term(symbol)

    def freeze(self) -> None:
        """Guards are settled: what is asked from now on is answered from the hints.

        An answer that would have needed a guard is logged as a warning and kept in
        `ignored_guards`. Symbols that the guards leave one value are logged, with the reason.
        """
        self.frozen = True
        for pinned in self._specializations:
            log.info("%s is always %s (%s)", pinned.symbol_name, pinned.value, pinned.provenance)

    def freeze_runtime_asserts(self) -> None:
        """Assertions at run time are settled: a new one is logged as a warning."""
        self.runtime_asserts_frozen = True

    @contextlib.contextmanager
    def error_on_new_guards(self) -> Iterator[None]:
        """Inside, a question that would need a guard is a `_ShapeEnvGuardError`."""
        before = self._error_on_new_guards
        self._error_on_new_guards = True
        try:
            yield
        finally:
            self._error_on_new_guards = before

    def suppress_guards(self) -> contextlib.AbstractContextManager[None]:
        """Inside, questions are answered from hints and leave no guards."""
        return _suppress_guards(self)

    def _suppress_guards_enter(self) -> None:
        self._suppressed.depth += 1

    def _suppress_guards_exit(self) -> None:
        self._suppressed.depth -= 1

    def _suppress_guards_tls(self) -> bool:
        return self._suppressed.depth > 0

    # -- expectations ---------------------------------------------------------------------------

    def expect(self, condition: Term, message: str = "") -> bool:
        """Rely on a condition: a guard where it has a value, else an assertion at run time.

        Returns:
            Whether it may hold. Where it does not, the caller has to stop the program: it knows
            the exception and the message that the user chose (`torch._check_value` and kin).
        """
        condition = self.facts.resolve(condition)
        known = self.decide(condition)
        if known is not None:
            return known
        hint = self.hint_of(condition)
        if hint is not None and not self.prefer_deferred_runtime_asserts_over_guards:
            return bool(self.evaluate_term(condition))
        if self._suppressed.depth:
            return True
        provenance = current_provenance(self.current_operator)
        if self._error_on_new_guards:
            raise _ShapeEnvGuardError(
                f"{condition} needs an assertion where none may be added", where=str(provenance)
            )
        if self.runtime_asserts_frozen:
            log.warning("the assertions are frozen, but %s was needed (%s)", condition, provenance)
        asked = self.asked.get(condition)
        self._asserts.append(RuntimeAssert(condition, message, provenance, asked))
        self._learn(condition, provenance)
        return True

    # -- errors ---------------------------------------------------------------------------------

    def _data_dependent(self, term: Term) -> GuardOnDataDependentSymNode:
        return data_dependent_error(self, term)

    # -- explanations ---------------------------------------------------------------------------

    def has_value(self, symbol: Term) -> bool:
        """Whether a symbol has a value at tracing."""
        return symbol in self._hints

    def values(self) -> Mapping[Term, Scalar]:
        """The value at tracing of each symbol that has one."""
        return self._hints

    def origin_of(self, symbol: Term) -> str:
        """Where a symbol came up, in words."""
        record = self._symbols.get(symbol)
        if record is None:
            return "by a rewrite"
        provenance = record.provenance
        return f"by {provenance}" if provenance.operator else str(provenance)

    def proof(self, condition: Any) -> Proof:
        """Why a condition holds, or why its opposite does, as far as the facts say.

        Args:
            condition: a torch.SymBool, a bool, a term or a sympy condition.

        Returns:
            The answer with the facts that give it, those that z3 used included where the
            environment has the z3 tier.

        Example:
            >>> import torch
            >>> from symfx.symbolic_shapes import ShapeEnv
            >>> env = ShapeEnv()
            >>> u, v = env.create_unbacked_symint(), env.create_unbacked_symint()
            >>> torch._check(u >= 4); torch._check(v > u)
            >>> print(env.proof(v >= 5))
            u1 >= 5 holds, because u0 >= 4 and u1 > u0
        """
        return prove(self.facts, self.read(condition), self.prover)


def plain(value: Any) -> Scalar:
    """A number as Python's."""
    if not isinstance(value, sympy.Basic):
        number: Scalar = value
        return number
    if value in (sympy.true, sympy.false):
        return bool(value)
    return int(value) if value.is_Integer else float(value)
