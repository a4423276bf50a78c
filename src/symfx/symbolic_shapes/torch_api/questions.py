"""The questions that torch asks a ShapeEnv in sympy: values, bounds, simplifications, hints."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

import sympy
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra import Scalar, Term, evaluate
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.torch_api.canonical import canonicalize_bool_expr
from symfx.symbolic_shapes.torch_api.standalone_questions import decide_under
from symfx.symbolic_shapes.torch_api.state import StateViews, as_value_ranges

__all__ = ["SympyQuestions"]

# What an unbacked size is taken to be where only speed is at stake and nobody said otherwise.
DEFAULT_HINT = 8192


class SympyQuestions(StateViews):
    """Questions and answers in sympy; see `ShapeEnv`."""

    # -- values ---------------------------------------------------------------------------------

    def evaluate_sym_node(
        self, sym_node: Any, size_oblivious: bool = False, fallback_value: Any = None
    ) -> Scalar:
        """The value of a node, guarded; see `evaluate_term`."""
        node = self.adopt(sym_node)
        return self.evaluate_term(node.term, size_oblivious=size_oblivious, fallback=fallback_value)

    def evaluate_expr(
        self,
        orig_expr: sympy.Basic,
        hint: Any = None,
        fx_node: Any = None,
        size_oblivious: bool = False,
        fallback_value: Any = None,
        *,
        forcing_spec: bool = False,
    ) -> sympy.Basic:
        """The value of a sympy expression, guarded, as sympy.

        Args:
            orig_expr: the expression.
            hint: its value at tracing, which the environment knows by itself.
            fx_node: kept for callers of torch's method, as is `forcing_spec`.
            size_oblivious: take unbacked sizes to be neither 0 nor 1.
            fallback_value: the answer where the value depends on data.
            forcing_spec: see `fx_node`.

        Raises:
            GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
        """
        value = self.evaluate_term(
            self._read_asked(orig_expr, hint),
            size_oblivious=size_oblivious,
            fallback=fallback_value,
        )
        return sympy.sympify(value)

    def guard_or_defer_runtime_assert(
        self, orig_expr: sympy.Basic, msg: str, fx_node: Any = None
    ) -> bool:
        """Rely on a condition; see `expect`."""
        return self.expect(self._read_asked(orig_expr), msg)

    def _maybe_evaluate_static(
        self,
        expr: sympy.Basic,
        *,
        unbacked_only: bool = False,
        compute_hint: bool = False,
        size_oblivious: bool = False,
        axioms: Iterable[sympy.Basic] | None = None,
        var_to_range: Any = None,
    ) -> sympy.Basic | None:
        """The value of a sympy expression where the facts fix it, as sympy; never guards.

        Args:
            expr: the expression.
            unbacked_only: give the expression itself, simplified, where it has no single value.
            compute_hint: take the values at tracing for what is known.
            size_oblivious: take unbacked sizes to be neither 0 nor 1.
            axioms: what is known beside the ranges, in place of what this environment knows.
            var_to_range: the ranges of symbols, in place of what this environment knows.
        """
        if axioms is not None or var_to_range is not None:
            ranges = self.var_to_range if var_to_range is None else dict(var_to_range)
            known = self.get_axioms() if axioms is None else tuple(axioms)
            return decide_under(expr, ranges, known)
        term = self.read_registering(expr)
        if term.op == "const":
            return sympy.sympify(term.args[0])
        if compute_hint:
            hint = self.hint_of(term)
            if hint is None and self.real_tensor_prop_unbacked_vals:
                hint = self._observed(term)
            return None if hint is None else sympy.sympify(hint)
        if term.sort == "bool":
            answer = self.prover.decide(term)
            if answer is None and size_oblivious:
                answer = self._decide_as_size(term)
            if answer is not None:
                return sympy.sympify(answer)
        elif term.sort == "int":
            low, high = self.prover.range(term)
            if low is not None and low == high:
                return sympy.Integer(low)
        return to_sympy(term) if unbacked_only else None

    def _observed(self, term: Term) -> Scalar | None:
        """The value of a term in the run on real tensors, where there is one."""
        values: dict[Term, Any] = dict(self._hints)
        for symbol, value in self.real_tensor_prop_unbacked_vals.items():
            values[self.symbol_term(symbol)] = int(value) if value.is_Integer else float(value)
        if not term.free_symbols <= values.keys():
            return None
        return evaluate(term, values)

    def bound_sympy(self, expr: sympy.Expr, size_oblivious: bool = False) -> Any:
        """The bounds of a sympy expression, as torch's value range.

        Args:
            expr: an expression; a condition has the bounds true and false.
            size_oblivious: take unbacked sizes to be at least 2.
        """
        term = self.read_registering(expr)
        if term.sort == "bool":
            answer = self.prover.decide(term)
            return ValueRanges(answer is True, answer is not False)
        if term.sort == "real":
            value = term.value
            if value is not None:
                return ValueRanges(sympy.Float(value), sympy.Float(value))
            return ValueRanges(-sympy.oo, sympy.oo)
        low, high = self.prover.range(term)
        if size_oblivious and term.op == "symbol" and to_sympy(term) in self.size_like:
            low, high = 2, None
        return as_value_ranges(low, high)

    # -- forms ----------------------------------------------------------------------------------

    def simplify(self, expr: sympy.Basic, size_oblivious: bool = False) -> sympy.Basic:
        """A sympy expression in symfx's normal form, replacements and what is known applied."""
        term = self.read_registering(expr)
        if term.sort == "bool":
            known = self.prover.decide(term) if term.op == "const" else None
            if known is not None:
                return sympy.sympify(known)
        result: sympy.Basic = to_sympy(term)
        return result

    def replace(self, expr: sympy.Basic) -> sympy.Basic:
        """A sympy expression with each replaced symbol gone."""
        result: sympy.Basic = to_sympy(self.read_registering(expr))
        return result

    def get_axioms(
        self, symbols: Iterable[sympy.Symbol] | None = None, compute_hint: bool = False
    ) -> tuple[sympy.Basic, ...]:
        """The guards and assertions at run time, as sympy.

        Args:
            symbols: give only the assertions that end with one of these.
            compute_hint: put in the values at tracing.
        """
        asserts = self.deferred_runtime_asserts
        keys = asserts if symbols is None else [s for s in symbols if s in asserts]
        found = [g.expr for g in self.guards]
        found += [record.expr for key in keys for record in asserts[key]]
        if compute_hint:
            found = [canonicalize_bool_expr(e.xreplace(self.backed_var_to_val)) for e in found]
        return tuple(dict.fromkeys(found))

    @property
    def axioms(self) -> dict[sympy.Basic, sympy.Basic]:
        """What guards and assertions settle by themselves; see `get_implications`."""
        settled: dict[sympy.Basic, sympy.Basic] = {}
        for condition in self.get_axioms():
            settled.update(self.get_implications(self.replace(condition)))
        return settled

    def get_implications(
        self, e: sympy.Basic
    ) -> tuple[tuple[sympy.Basic, sympy.logic.boolalg.BooleanAtom], ...]:
        """Conditions that a condition settles by itself: each with whether it holds then.

        Args:
            e: a comparison, or any other condition, which settles itself and its negation.
        """
        settled: dict[sympy.Basic, sympy.Basic] = {}

        def settle(condition: sympy.Basic) -> None:
            form = canonicalize_bool_expr(condition)
            if isinstance(form, (sympy.Eq, sympy.Ne)):
                other = sympy.Ne if isinstance(form, sympy.Eq) else sympy.Eq
                for sides in (form.args, form.args[::-1]):
                    settled[form.func(*sides, evaluate=False)] = sympy.true
                    settled[other(*sides, evaluate=False)] = sympy.false
            else:
                settled[form] = sympy.true
                settled[canonicalize_bool_expr(sympy.Not(form))] = sympy.false

        settle(e)
        if isinstance(e, (sympy.Eq, sympy.Lt, sympy.Le)):
            left, right = e.args
            whole = left.is_integer and right.is_integer
            follows: list[tuple[Any, sympy.Expr]] = {
                sympy.Eq: [(sympy.Le, right), (sympy.Ge, right)],
                sympy.Lt: [(sympy.Le, right), (sympy.Ne, right)]
                + ([(sympy.Le, right - 1)] if whole else []),
                sympy.Le: [(sympy.Lt, right + 1)] if whole else [],
            }[type(e)]
            for relation, bound in follows:
                settle(relation(left, bound, evaluate=False))
        return tuple(settled.items())

    # -- hints ----------------------------------------------------------------------------------

    def size_hint(self, expr: sympy.Basic, *, allow_none: bool = False) -> sympy.Basic | None:
        """The value of an expression at tracing, as sympy; no guard.

        Args:
            expr: the expression.
            allow_none: give None where the value depends on data.

        Raises:
            GuardOnDataDependentSymNode: it does, and None is not allowed.
        """
        term = self.read_registering(expr)
        hint = self.hint_of(term)
        if hint is None and self.real_tensor_prop_unbacked_vals and not allow_none:
            hint = self._observed(term)
            if hint is not None:
                self.expect(self._fixing(term, hint), "propagate_real_tensors")
        if hint is None:
            if allow_none:
                return None
            raise self._data_dependent(term)
        return sympy.sympify(hint)

    def guarding_hint_or_throw(self, expr: Any) -> int | bool:
        """The value of an expression at tracing, to guard on.

        Raises:
            GuardOnDataDependentSymNode: it depends on data.
        """
        term = self.read_registering(expr)
        hint: Any = self.hint_of(term)
        if hint is None:
            raise self._data_dependent(term)
        result: int | bool = hint
        return result

    def has_guarding_hint(self, expr: Any) -> bool:
        """Whether the value of an expression at tracing is known."""
        return self.hint_of(self.read_registering(expr)) is not None

    def optimization_hint(self, expr: Any, fallback: int | None = None) -> int:
        """A value of an expression that is good enough for decisions about speed.

        Unbacked symbols get what `var_to_hint_override` says, else `fallback`, moved into their
        bounds; equalities that are known hold.

        Args:
            expr: the expression.
            fallback: what to take an unbacked symbol for; torch's inductor's setting where not
                given.

        Raises:
            SymfxError: a complex number.
        """
        if isinstance(expr, sympy.Expr):
            if expr.has(sympy.I):
                raise SymfxError(f"{expr} is complex; sizes are integers")
            if expr in (int_oo, sympy.oo):
                return sys.maxsize
            if expr in (-int_oo, -sympy.oo):
                return -sys.maxsize
        if fallback is None:
            fallback = _inductors_fallback()
        if expr is sympy.nan:
            return fallback
        term = self.read_registering(expr)
        values = dict(self._hints)
        for symbol in term.free_symbols - self._hints.keys():
            told = self.var_to_hint_override.get(to_sympy(symbol))
            values[symbol] = self._inside(symbol, fallback) if told is None else told
        try:
            value = evaluate(term, values)
        except ZeroDivisionError:
            return fallback
        return int(value)

    def _inside(self, symbol: Term, value: int) -> int:
        """The value nearest to `value` that a symbol's bounds admit."""
        low, high = self.prover.range(symbol) if symbol.sort == "int" else (None, None)
        if low is not None:
            value = max(value, low)
        return value if high is None else min(value, high)

    # -- names of torch's that change what is known ---------------------------------------------

    def _make_data_dependent_error(
        self, expr: sympy.Basic, unhinted_expr: sympy.Basic, **_: Any
    ) -> GuardOnDataDependentSymNode:
        """The error for an expression whose value depends on data."""
        return self._data_dependent(self.read_registering(unhinted_expr))

    def _default_value_range(self, do_not_specialize_zero_one: bool = False) -> Any:
        """The range of a size of which nothing else is known."""
        low = 0 if do_not_specialize_zero_one or not self.specialize_zero_one else 2
        return ValueRanges(low, int_oo)

    def _default_unspecified_value_range(self) -> Any:
        """The range of an integer input of which nothing is known."""
        return ValueRanges(-int_oo, int_oo)


def _inductors_fallback() -> int:
    from torch._inductor import config

    return int(getattr(config, "unbacked_symint_fallback", DEFAULT_HINT))
