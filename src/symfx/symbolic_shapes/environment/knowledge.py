"""The knowledge of an environment: facts, a prover over them, and hints (values at tracing)."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy
import torch

from symfx import config
from symfx.algebra import Scalar, Term, evaluate, relation, substitute
from symfx.algebra.languages.sympy import to_sympy
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.terms.interpret import rebuild
from symfx.algebra.terms.term import postorder
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.validation import TranslationValidator
from symfx.symbolic_shapes.environment.symbols import Symbols, as_python_number
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.explain.logs import log_specialization
from symfx.symbolic_shapes.explain.provenance import Provenance
from symfx.symbolic_shapes.records import SpecializationRecord
from symfx.symbolic_shapes.settings import ShapeEnvSettings

__all__ = ["Knowledge"]

# Sizes of memory are far below; sentinels such as sys.maxsize are above.
_NO_SIZE = 2**48
# The least size that a symbol has by default.
_USUAL = 2
# Longer sums are no simpler than the symbol that they would replace.
_FEW = 5


class Knowledge:
    """The facts about the symbols of one environment.

    Facts only grow, apart from those learned inside of `supposing`. `facts` and `prover` are
    the same objects for the life of the environment, so other parts may keep them.

    Args:
        symbols: the symbols.
        settings: choose the prover.
        here: returns the current provenance: the user's line and the operator that run now.
        validator: notes each answer that tracing relies on, where translation validation is on.

    Attributes:
        symbols: the symbols.
        table: the terms.
        facts: the conditions that hold.
        prover: decides conditions from the facts.
        validator: the validator that was passed.
        size_like: the unbacked symbols that the program declared to be sizes.
        unbacked_renamings: the unbacked symbols of a later run, with the ones of the first run.
        eliminated: the symbols that torch gave a replacement, which it wants to see from then on.
        specializations: the symbols that turned out to have one value, and why.
        replacement_origins: the provenance of each replacement.
        bound_origins: the provenance of each symbol's "lower" and "upper" bound.
        given: the conditions that hold by the way in which the symbols were made.
    """

    def __init__(
        self,
        symbols: Symbols,
        settings: ShapeEnvSettings,
        here: Callable[[], Provenance],
        validator: TranslationValidator | None = None,
    ) -> None:
        self.symbols = symbols
        self.table = symbols.table
        self.validator = validator
        self._here = here
        self._hints = symbols.hints
        self._hint_memo: dict[Term, Any] = {}
        self.facts = Facts(self.table)
        self.prover = self._make_prover(settings)
        self.size_like: set[sympy.Symbol] = set()
        self.unbacked_renamings: dict[sympy.Symbol, sympy.Symbol] = {}
        self.eliminated: set[Term] = set()
        self.specializations: list[SpecializationRecord] = []
        self.replacement_origins: dict[Term, Provenance] = {}
        self.bound_origins: dict[Term, dict[str, Provenance]] = {}
        self.given: list[Term] = []

    def _make_prover(self, settings: ShapeEnvSettings) -> Prover:
        if settings.prover == "z3":
            from symfx.algebra.reasoning.z3_prover import Z3Prover

            return Z3Prover(self.facts, self.hint_of, budget_ms=settings.prover_budget_ms)
        return Prover(self.facts, self.hint_of)

    # -- values at tracing ----------------------------------------------------------------------

    def hint_of(self, term: Term) -> Scalar | None:
        """The value of a term at tracing; None where it depends on unbacked symbols."""
        known = self._hint_memo.get(term)
        if known is not None:
            result: Scalar = known
            return result
        term = self.facts.resolve(term)
        hints = self._hints
        if not term.free_symbols <= hints.keys():
            return None
        return self._evaluate(term, hints, self._hint_memo)

    def set_hint(self, symbol: Term, value: Scalar | None) -> None:
        """Give an unbacked symbol a value at tracing, as if it were backed; or take it back."""
        if value is None:
            del self._hints[symbol]
            self._hint_memo.clear()
        else:
            self._hints[symbol] = value

    def observed(self, term: Term) -> Scalar | None:
        """The value of a term in the run on real tensors; None where that run does not say."""
        by_symbol = self.symbols.real_tensor_prop_unbacked_vals
        if not by_symbol:
            return None
        values = dict(self._hints)
        for symbol, value in by_symbol.items():
            values[self.facts.resolve(self.symbols.term_of(symbol))] = as_python_number(value)
        return evaluate(term, values) if term.free_symbols <= values.keys() else None

    def _evaluate(
        self, term: Term, values: Mapping[Term, Scalar], memo: dict[Term, Any] | None = None
    ) -> Scalar | None:
        """The value of a term; None where the operation is undefined."""
        try:
            return evaluate(term, values, memo)
        except (ZeroDivisionError, OverflowError, ValueError):
            # The value at tracing is undefined. Python raises in the user's code on its use.
            return None
        except (RuntimeError, AttributeError):
            # torch's number for a ragged size lacks some methods of numbers.
            if any(isinstance(values[s], torch.SymInt) for s in term.free_symbols):
                return self._evaluate_ragged(term, values)
            raise

    def _evaluate_ragged(self, term: Term, values: Mapping[Term, Scalar]) -> Scalar | None:
        """The value of a comparison of ragged sizes, which cannot be subtracted from each other.

        None where torch refuses the comparison, as that of a ragged size with a number above 2.
        """
        inner = term.args[0] if term.op == "not" else term
        if inner.op not in ("eq", "ge"):
            return None
        name, left, right = relation(inner)
        try:
            holds: Any = getattr(operator, name)(evaluate(left, values), evaluate(right, values))
            return bool(holds) is (inner is term)
        except RuntimeError:
            return None

    # -- deciding -------------------------------------------------------------------------------

    def decide(self, condition: Term) -> bool | None:
        """True where the facts imply a condition, False where they refute it, else None."""
        answer = self.prover.decide(condition)
        if answer is not None and self.validator is not None:
            self.validator.rely(condition, answer)
        return answer

    def decide_as_size(self, term: Term) -> bool | None:
        """Decide a condition as if each unbacked size in it were at least 2 and no sentinel."""
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

    def settled(self, term: Term) -> Term:
        """A term as simple as the facts allow: its one value, or `with_settled_extrema`."""
        result = self.with_settled_extrema(term)
        if result.sort == "int" and result.op != "const":
            low, high = self.prover.range(result)
            if low is not None and low == high:
                return self.table.const(low)
        return result

    def with_settled_extrema(self, term: Term) -> Term:
        """A term without the operands of minima and maxima that the facts make superfluous."""
        done: dict[Term, Term] = {}
        for part in postorder(term, lambda t: t not in done):
            changed = any(done[below] is not below for below in part.operands)
            new = rebuild(part, done) if changed else part
            done[part] = self.settle_extremum(new) if new.op in ("min", "max") else new
        return done[term]

    def settle_extremum(self, term: Term) -> Term:
        """Drop the operands of a minimum or maximum that the facts show to be superfluous."""
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

    # -- learning -------------------------------------------------------------------------------

    def begin_with(self, condition: Term) -> None:
        """Learn a condition that holds by the way in which a symbol was made."""
        self.given.append(condition)
        self.facts.assume(condition)
        if self.validator is not None and not self.symbols.is_backed(condition):
            self.validator.state(condition)

    def begin_at(self, low: int, symbol: Term) -> None:
        """Learn the least value of a new symbol."""
        self.begin_with(self.table.le(self.table.const(low), symbol))

    def learn(
        self, condition: Term, provenance: Provenance | None = None, *, stated: bool = True
    ) -> None:
        """Learn a condition; symbols that it fixes are replaced from now on.

        Args:
            condition: the condition.
            provenance: its cause; the current one where not given.
            stated: whether the program states it, rather than the inputs at tracing.
        """
        condition = self.facts.resolve(condition)
        if stated and self.validator is not None:
            self.validator.state(condition)
        parts = condition.args if condition.op == "and" else (condition,)
        self.facts.assume(condition)
        for part in parts:
            if part.op == "eq":
                self._replace_a_symbol_of(self._plain_equation(part).args[0], provenance)
            elif part.op == "ge":
                self._note_bound(part.args[0], provenance)
        solved = self.facts.solved
        # Several facts together may leave a symbol one value, and that another one.
        while pinned := [(s, by) for s, by in solved.items() if by.op == "const"]:
            self.replace(*pinned[0], provenance)

    def constrain_range(self, term: Term, low: int | None, high: int | None) -> None:
        """Learn that a term is between two bounds, which may be infinite.

        Raises:
            ConstraintViolationError: no value is between them.
        """
        low = int(low) if low is not None and _is_finite(low) else None
        high = int(high) if high is not None and _is_finite(high) else None
        const, le = self.table.const, self.table.le
        bounds = [] if low is None else [le(const(low), term)]
        bounds += [] if high is None else [le(term, const(high))]
        crossed = low is not None and high is not None and high < low
        if crossed or any(self.decide(bound) is False for bound in bounds):
            raise ConstraintViolationError(_nothing_left(term, low, high, self.prover.range(term)))
        for bound in bounds:
            self.learn(bound)

    def constrain_as_size(
        self, symbol: sympy.Symbol, low: int | None = None, high: int | None = None
    ) -> None:
        """Learn that a sympy symbol is a size: at least 0, or else `low`, and at most `high`."""
        term = self.facts.resolve(self.symbols.reader.read(symbol))
        self.constrain_range(term, 0 if low is None else low, high)
        self.size_like.add(symbol)

    def _note_bound(self, p: Term, provenance: Provenance | None) -> None:
        """Note the cause of the bound that ``p >= 0`` is, where p is a symbol and a constant."""
        coeffs = p.coeffs
        if len(coeffs) == 1:
            ((symbol, coeff),) = coeffs.items()
            if symbol.op == "symbol" and coeff in (1, -1):
                side = "lower" if coeff == 1 else "upper"
                origin = provenance or self._here()
                self.bound_origins.setdefault(symbol, {})[side] = origin

    # -- equalities -----------------------------------------------------------------------------

    def _plain_equation(self, equation: Term) -> Term:
        """An equation that was learned, without the minima and maxima that it settles itself.

        ``a + min(4, b) == b`` for a positive `a` says that `b` is above 4, and so that it is a + 4.
        """
        if equation not in self.facts.choosing:
            return equation
        plain = self.with_settled_extrema(equation)
        if plain is equation or plain.op != "eq":
            return equation
        self.facts.assume(plain)
        return plain

    def _replace_a_symbol_of(self, p: Term, provenance: Provenance | None) -> None:
        """Solve p == 0 for a symbol, and replace the symbol by the solution.

        Unbacked symbols go first, young ones before old ones; then those of inputs that do not
        outlast the trace; then the symbol whose value at tracing is largest, which is more
        likely the sum or product of the others.
        """
        symbols = self.symbols
        candidates = []
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "symbol" or coeff not in (1, -1):
                continue
            rest = self.table.sub(p, self.table.mul(self.table.const(coeff), monomial))
            if monomial in rest.free_symbols:
                continue
            hint = self._hints.get(monomial)
            unbacked = [s for s in rest.free_symbols if s not in self._hints]
            if hint is not None and unbacked:
                continue  # a size of an input must not come to depend on data
            if hint is not None and not _is_polynomial(rest):
                continue  # a symbol is read more easily than a quotient of symbols
            if hint is None and any(
                s.uid > monomial.uid for s in unbacked if not symbols.is_unbacked_input(s)
            ):
                continue  # a value that the program has at hand must not wait for a later one
            size = hint if isinstance(hint, int) else 0
            # Of equal sizes the last name goes, as in torch.
            last = -monomial.uid if hint is None else [-ord(letter) for letter in monomial.name]
            rank = hint is not None, not symbols.is_ephemeral(monomial), -size, last
            candidates.append((rank, monomial, coeff, rest))
        if not candidates:
            return
        _, symbol, coeff, rest = min(candidates, key=lambda c: c[0])
        by = self.table.mul(self.table.const(-coeff), rest)
        self.replace(symbol, by, provenance)

    def replace(self, symbol: Term, by: Term, provenance: Provenance | None = None) -> None:
        """Replace a symbol by a term that it equals, from now on.

        Args:
            symbol: the symbol.
            by: the term.
            provenance: the cause; the current one where not given.
        """
        # A symbol that was replaced by a term with this one in it may have one value now, too.
        open_ = [s for s, t in self.facts.replacements.items() if symbol in t.free_symbols]
        self._pass_bound_origins_on(symbol, by)
        self.facts.replace(symbol, by)
        where = provenance or self._here()
        self.replacement_origins[symbol] = where
        if by.op == "const":
            record = self.symbols.records.get(symbol)
            sources = record.sources if record is not None else ()
            log_specialization(symbol, by.args[0], sources, where)
        view, target = to_sympy(symbol), to_sympy(by)
        if view in self.size_like and isinstance(target, sympy.Symbol):
            self.size_like.add(target)
        for pinned in (symbol, *open_):
            value = self.facts.replacements[pinned]
            if value.op == "const":
                self.specializations.append(SpecializationRecord(pinned.name, value.args[0], where))

    def _pass_bound_origins_on(self, symbol: Term, by: Term) -> None:
        """Note why the symbol in `by` has its bounds: they may be those of the replaced symbol."""
        sides = self.bound_origins.get(symbol)
        if not sides or len(by.coeffs) != 1:
            return
        ((other, factor),) = by.coeffs.items()
        if other.op != "symbol" or factor < 1:
            return
        low, high = self.facts.bounds(symbol)
        least = None if low is None else -((by.const - low) // factor)
        greatest = None if high is None else (high - by.const) // factor
        for side, bound, own in zip(
            ("lower", "upper"), (least, greatest), self.prover.range(other), strict=True
        ):
            if side in sides and bound is not None and bound == own and bound > _USUAL:
                self.bound_origins.setdefault(other, {}).setdefault(side, sides[side])

    def equate(self, symbol: Term, by: Term) -> None:
        """Learn that a symbol equals a term, and replace the symbol where nothing speaks against.

        Args:
            symbol: the symbol, which may have been replaced already.
            by: the term.
        """
        now = self.facts.resolve(symbol)
        if now is by or now in by.free_symbols:
            return
        if now.op == "symbol":
            self.replace(now, by)
        else:
            self.learn(self.table.eq(now, by))

    def unify(self, left: Term, right: Term) -> None:
        """Learn that two terms are equal.

        Raises:
            ConstraintViolationError: the facts say that they are not.
        """
        equal = self.table.eq(left, right)
        known = self.prover.decide(equal)
        if known is False:
            raise ConstraintViolationError(f"{left} and {right} cannot be equal")
        if known is None:
            self.learn(equal)

    def rename_unbacked(self, later: sympy.Symbol, first: sympy.Symbol) -> None:
        """Learn that a symbol of a second run stands in the place of one of the first run.

        Each is known to equal the other; expressions keep the symbol of the first run.

        Raises:
            SymfxError: one of them is not unbacked.
        """
        symbol, by = self.symbols.term_of(later), self.symbols.term_of(first)
        for either in (symbol, by):
            if either in self._hints:
                raise SymfxError(
                    f"{either} is {self._hints[either]} at tracing, so it is not unbacked",
                    fix="rename only symbols that come from data",
                )
        by, now = self.facts.resolve(by), self.facts.resolve(symbol)
        if now is symbol:
            if by is not symbol:
                self.replace(symbol, by)
        elif now is not by:
            self.learn(self.table.eq(now, by))
        self.unbacked_renamings[later] = first

    def first_name(self, symbol: Term) -> Term:
        """What torch has to see of a replaced symbol that data gave.

        The symbol of the first run that it stands for, or itself; and the replacement only where
        torch itself eliminated the symbol.
        """
        if self.unbacked_renamings:
            later: sympy.Symbol = to_sympy(symbol)
            first = later
            while first in self.unbacked_renamings:
                first = self.unbacked_renamings[first]
            symbol = symbol if first is later else self.symbols.term_of(first)
        return self.facts.resolve(symbol) if symbol in self.eliminated else symbol

    # -- scopes ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def supposing(self, condition: Term) -> Iterator[None]:
        """Inside, a condition is a fact; afterwards all that was learned inside is forgotten."""
        validator, self.validator = self.validator, None
        specialized = len(self.specializations)
        replacements = self.replacement_origins.copy()
        bounds = {symbol: sides.copy() for symbol, sides in self.bound_origins.items()}
        size_like = self.size_like.copy()
        # A value at tracing that breaks the condition must not answer for it.
        self._hint_memo.clear()
        try:
            with self.facts.scope():
                self.learn(condition)
                yield
        finally:
            self.prover.forget()
            self._hint_memo.clear()
            self.replacement_origins, self.bound_origins = replacements, bounds
            self.size_like = size_like
            del self.specializations[specialized:]
            self.validator = validator


def _is_polynomial(term: Term) -> bool:
    """Whether a term is a short sum of products of symbols."""
    monomials = term.coeffs
    if len(monomials) > _FEW:
        return False
    return all(f.op == "symbol" for m in monomials for f in m.factors)


def _is_finite(bound: Any) -> bool:
    # torch passes int_oo and sympy.oo for "no bound"; int_oo calls itself finite.
    return isinstance(bound, (int, sympy.Integer))


def _nothing_left(term: Term, low: int | None, high: int | None, known: tuple[Any, Any]) -> str:
    """The message about bounds that exclude all values of a term, with torch's words."""
    least = max((b for b in (low, known[0]) if b is not None), default="-int_oo")
    most = min((b for b in (high, known[1]) if b is not None), default="int_oo")
    return f"{term} cannot be between {low} and {high} (Invalid ranges [{least}:{most}])"
