"""What a ShapeEnv comes to know: bounds, equalities, names that turn out to mean the same."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from symfx.algebra import Term
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.environment.core import EnvCore
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.explain.logs import log_specialization
from symfx.symbolic_shapes.explain.provenance import Provenance, current_provenance
from symfx.symbolic_shapes.records import SpecializationRecord
from symfx.symbolic_shapes.settings import ShapeEnvSettings

__all__ = ["Learning"]


class Learning(EnvCore):
    """Facts that the program states; see `ShapeEnv`.

    Attributes:
        size_like: the unbacked symbols that were said to be sizes.
        unbacked_renamings: unbacked symbols of a later run, by those of the first.
        unbacked_inputs: unbacked symbols that stand for inputs rather than for data.
        real_tensor_prop_unbacked_vals: values of unbacked symbols in a run on real tensors.
    """

    def __init__(self, settings: ShapeEnvSettings) -> None:
        super().__init__(settings)
        self.size_like: set[sympy.Symbol] = set()
        self.unbacked_renamings: dict[sympy.Symbol, sympy.Symbol] = {}
        self.unbacked_inputs: dict[sympy.Symbol, None] = {}
        self.real_tensor_prop_unbacked_vals: dict[sympy.Symbol, sympy.Basic] = {}
        self.replacement_origins: dict[Term, Provenance] = {}
        self.bound_origins: dict[Term, dict[str, Provenance]] = {}

    # -- bounds ---------------------------------------------------------------------------------

    def _constrain_range_for_size(
        self, a: sympy.Symbol, min: int | None = None, max: int | None = None
    ) -> None:
        """An unbacked symbol is a size: not negative, and between `min` and `max`."""
        self.constrain_range(self.read(a), 0 if min is None else min, max)
        self.size_like.add(a)

    def _constrain_range(self, a: sympy.Expr, min: int, max: int) -> None:
        """A symbol (or a number) is between two bounds; other expressions are left alone.

        Raises:
            ConstraintViolationError: a number that is not.
        """
        if isinstance(a, sympy.Symbol):
            self.constrain_range(self.read(a), min, max)
        elif isinstance(a, sympy.Integer) and not min <= int(a) <= max:
            raise ConstraintViolationError(f"{a} is not between {min} and {max}")

    def constrain_symbol_range(self, s: sympy.Symbol, compiler_min: int, compiler_max: int) -> None:
        """A symbol is between two bounds; one that is not known becomes an unbacked one."""
        self.constrain_range(self.read_registering(s), compiler_min, compiler_max)

    def _constrain_is_bounded(self, a: sympy.Symbol, upper_bound: int) -> None:
        """A symbol is at most `upper_bound`."""
        self.constrain_range(self.read(a), None, upper_bound)

    def constrain_range(self, term: Term, low: int | None, high: int | None) -> None:
        """A term is between two bounds, which may be infinite.

        Raises:
            ConstraintViolationError: no value is.
        """
        low = int(low) if low is not None and _is_finite(low) else None
        high = int(high) if high is not None and _is_finite(high) else None
        if low is not None and high is not None and high < low:
            raise ConstraintViolationError(f"{term} cannot be between {low} and {high}")
        if low is not None:
            self._learn(self.table.le(self.table.const(low), term))
        if high is not None:
            self._learn(self.table.le(term, self.table.const(high)))

    # -- conditions -----------------------------------------------------------------------------

    def _learn(
        self, condition: Term, provenance: Provenance | None = None, *, stated: bool = True
    ) -> None:
        """Take a condition as a fact; symbols that it fixes are replaced from now on.

        Args:
            condition: the condition.
            provenance: what caused it.
            stated: whether the program says so, rather than the inputs at tracing.
        """
        condition = self.facts.resolve(condition)
        if stated and self.validator is not None:
            self.validator.state(condition)
        parts = condition.args if condition.op == "and" else (condition,)
        self.facts.assume(condition)
        for part in parts:
            if part.op == "eq":
                self._replace_by(part.args[0], provenance)
            elif part.op == "ge":
                self._note_bound(part.args[0], provenance)
        solved = self.facts.solved
        # Several facts together may leave a symbol one value, and that another one.
        while pinned := [(s, by) for s, by in solved.items() if by.op == "const"]:
            self._set_term(*pinned[0], provenance)

    def _note_bound(self, p: Term, provenance: Provenance | None) -> None:
        """Remember where a bound of a symbol came from, ``p >= 0`` being one."""
        coeffs = p.coeffs
        if len(coeffs) == 1:
            ((symbol, coeff),) = coeffs.items()
            if symbol.op == "symbol" and coeff in (1, -1):
                side = "lower" if coeff == 1 else "upper"
                origin = provenance or current_provenance(self.current_operator)
                self.bound_origins.setdefault(symbol, {})[side] = origin

    def _replace_by(self, p: Term, provenance: Provenance | None) -> None:
        """Solve p == 0 for a symbol, and let the solution stand for it.

        Unbacked symbols go first, young ones before old ones; then those of inputs that do not
        outlast the trace; then the symbol whose value at tracing is largest, which is more
        likely the sum or product of the others.
        """
        candidates = []
        for monomial, coeff in p.coeffs.items():
            if monomial.op != "symbol" or coeff not in (1, -1):
                continue
            rest = self.table.sub(p, self.table.mul(self.table.const(coeff), monomial))
            if monomial in rest.free_symbols:
                continue
            hint = self._hints.get(monomial)
            data = [s for s in rest.free_symbols if s not in self._hints]
            if hint is not None and data:
                continue  # a size of an input must not come to depend on data
            if hint is not None and not _is_polynomial(rest):
                continue  # names are read more easily than quotients of them
            if hint is None and any(s.uid > monomial.uid for s in data if not self._is_input(s)):
                continue  # a value that the program has at hand must not wait for a later one
            size = hint if isinstance(hint, int) else 0
            # Of equal sizes the last name goes, as in torch.
            last = -monomial.uid if hint is None else [-ord(letter) for letter in monomial.name]
            rank = hint is not None, not self._is_ephemeral(monomial), -size, last
            candidates.append((rank, monomial, coeff, rest))
        if not candidates:
            return
        _, symbol, coeff, rest = min(candidates, key=lambda c: c[0])
        by = self.table.mul(self.table.const(-coeff), rest)
        self._set_term(symbol, by, provenance)

    def _is_ephemeral(self, symbol: Term) -> bool:
        """Whether a symbol only stands for inputs that do not outlast the trace."""
        record = self._symbols.get(symbol)
        sources = record.sources if record is not None else []
        return bool(sources) and all(source.is_ephemeral() for source in sources)

    def _is_input(self, symbol: Term) -> bool:
        return to_sympy(symbol) in self.unbacked_inputs

    def _set_term(self, symbol: Term, by: Term, provenance: Provenance | None = None) -> None:
        """A symbol stands for a term from now on."""
        # What stood for another symbol may now be one value too.
        open_ = [s for s, t in self.facts.replacements.items() if symbol in t.free_symbols]
        self.facts.replace(symbol, by)
        where = provenance or current_provenance(self.current_operator)
        self.replacement_origins[symbol] = where
        if by.op == "const":
            sources = self._symbols[symbol].sources if symbol in self._symbols else ()
            log_specialization(sources[0].name if sources else symbol.name, by.args[0])
        view, target = to_sympy(symbol), to_sympy(by)
        if view in self.size_like and isinstance(target, sympy.Symbol):
            self.size_like.add(target)
        for pinned in (symbol, *open_):
            value = self.facts.replacements[pinned]
            if value.op == "const":
                record = SpecializationRecord(pinned.name, value.args[0], where)
                self._specializations.append(record)

    # -- names that turn out to mean the same ---------------------------------------------------

    def _set_replacement(self, a: sympy.Symbol, tgt: sympy.Expr, msg: str = "") -> None:
        """A symbol equals an expression, and is replaced by it."""
        symbol, by = self.symbol_term(a), self.read(tgt)
        now = self.facts.resolve(symbol)
        if now is by or now in by.free_symbols:
            return
        if now.op == "symbol":
            self._set_term(now, by)
        else:
            self._learn(self.table.eq(now, by))

    def _find(self, a: sympy.Symbol) -> sympy.Expr:
        """What a symbol is replaced by: itself, where by nothing."""
        result: sympy.Expr = to_sympy(self.read(a))
        return result

    def _rename_unbacked_to(self, orig_s: sympy.Symbol, new_s: sympy.Symbol) -> None:
        """A symbol that a second run made is the one that the first run made in its place.

        What is known of one is known of the other; the name of the first run stays.

        Args:
            orig_s: the symbol of the second run.
            new_s: the symbol of the first.

        Raises:
            SymfxError: one of them is not unbacked.
        """
        later, first = self.symbol_term(orig_s), self.symbol_term(new_s)
        for symbol in (later, first):
            if symbol in self._hints:
                raise SymfxError(
                    f"{symbol} is {self._hints[symbol]} at tracing, so it is not unbacked",
                    fix="only symbols that come from data are renamed",
                )
        by, known = self.facts.resolve(first), self.facts.resolve(later)
        if known is later:
            if by is not later:
                self._set_term(later, by)
        elif known is not by:
            self._learn(self.table.eq(known, by))
        self.unbacked_renamings[orig_s] = new_s

    def _eliminate_unbacked(self, orig_s: sympy.Symbol, new_s: sympy.Expr) -> None:
        """An unbacked symbol equals an expression that is known by other means."""
        self._set_replacement(orig_s, new_s, "eliminate_unbacked")

    def _constrain_unify(self, a: Any, b: Any) -> None:
        """Two integers are equal, without a guard.

        Raises:
            ConstraintViolationError: they cannot be.
        """
        left, right = self.read(a), self.read(b)
        difference = self.prover.decide(self.table.eq(left, right))
        if difference is False:
            raise ConstraintViolationError(f"{left} and {right} cannot be equal")
        if difference is None:
            self._learn(self.table.eq(left, right))

    def set_real_tensor_prop_unbacked_vals(self, k: sympy.Symbol, v: float | torch.Tensor) -> None:
        """The value of an unbacked symbol in a run on real tensors beside the fake ones.

        It answers where tracing would have to stop otherwise; an assertion is left behind.
        """
        self.real_tensor_prop_unbacked_vals[k] = sympy.sympify(v)


# Longer sums are no simpler than the name that they would stand for.
_FEW = 5


def _is_polynomial(term: Term) -> bool:
    """Whether a term is a short sum of products of symbols."""
    monomials = term.coeffs
    if len(monomials) > _FEW:
        return False
    return all(f.op == "symbol" for m in monomials for f in m.factors)


def _is_finite(bound: Any) -> bool:
    # torch passes int_oo and sympy.oo for "no bound", the first of which calls itself finite.
    return isinstance(bound, (int, sympy.Integer))
