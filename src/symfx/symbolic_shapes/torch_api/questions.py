"""Methods of ShapeEnv that answer questions in sympy: values, bounds, simplifications, hints.

Each function is a method of `ShapeEnv`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._sympy.functions import CleanDiv, FloorDiv
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra import Scalar, Term, evaluate
from symfx.algebra.languages.sympy import to_sympy
from symfx.errors import SymfxError
from symfx.symbolic_shapes.errors import GuardOnDataDependentSymNode
from symfx.symbolic_shapes.explain.data_dependent import data_dependent_error
from symfx.symbolic_shapes.torch_api.canonical import canonicalize_bool_expr
from symfx.symbolic_shapes.torch_api.numbers import read_question
from symfx.symbolic_shapes.torch_api.standalone_questions import decide_under
from symfx.symbolic_shapes.torch_api.state import as_value_ranges

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "_default_unspecified_value_range",
    "_default_value_range",
    "_make_data_dependent_error",
    "_maybe_evaluate_static",
    "bound_sympy",
    "evaluate_expr",
    "evaluate_sym_node",
    "get_axioms",
    "get_implications",
    "guard_or_defer_runtime_assert",
    "guarding_hint_or_throw",
    "has_guarding_hint",
    "optimization_hint",
    "replace",
    "simplify",
    "size_hint",
]

# The size to assume of an unbacked symbol in decisions about speed, without other advice.
DEFAULT_HINT = 8192

# -- values -------------------------------------------------------------------------------------


def evaluate_sym_node(
    env: ShapeEnv, sym_node: Any, size_oblivious: bool = False, fallback_value: Any = None
) -> Scalar:
    """The value of a node, guarded; see `evaluate_term`."""
    node = env.adopt(sym_node)
    return env.evaluate_term(node.term, size_oblivious=size_oblivious, fallback=fallback_value)


def evaluate_expr(
    env: ShapeEnv,
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
        hint: its value at tracing, which only counts for symbols from outside.
        fx_node: kept for callers of torch's method, as is `forcing_spec`.
        size_oblivious: take unbacked sizes to be neither 0 nor 1.
        fallback_value: the answer where the value depends on data.
        forcing_spec: see `fx_node`.

    Raises:
        GuardOnDataDependentSymNode: the value depends on data and there is no fallback.
    """
    value = env.evaluate_term(
        read_question(env, orig_expr, hint),
        size_oblivious=size_oblivious,
        fallback=fallback_value,
    )
    return sympy.sympify(value)


def guard_or_defer_runtime_assert(
    env: ShapeEnv, orig_expr: sympy.Basic, msg: str, fx_node: Any = None
) -> bool:
    """Rely on a condition; see `expect`."""
    return env.expect(read_question(env, orig_expr), msg)


def _maybe_evaluate_static(
    env: ShapeEnv,
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
        unbacked_only: return the simplified expression where it has no single value.
        compute_hint: take the values at tracing for facts.
        size_oblivious: take unbacked sizes to be neither 0 nor 1.
        axioms: the conditions that hold, instead of those of this environment.
        var_to_range: the ranges of symbols, instead of those of this environment.
    """
    if axioms is not None or var_to_range is not None:
        ranges = env.var_to_range if var_to_range is None else dict(var_to_range)
        known = env.get_axioms() if axioms is None else tuple(axioms)
        return decide_under(expr, ranges, known)
    if any(not _divides(env, *division.args) for division in expr.atoms(CleanDiv)):
        return None
    term = env.read_registering(expr)
    if term.op == "const":
        return sympy.sympify(term.args[0])
    if compute_hint:
        hint = env.hint_of(term)
        if hint is None:
            hint = env.knowledge.observed(term)
        return None if hint is None else sympy.sympify(hint)
    if term.sort == "bool":
        answer = env.prover.decide(term)
        if answer is None and size_oblivious:
            answer = env.knowledge.decide_as_size(term)
        if answer is not None:
            return sympy.sympify(answer)
    elif term.sort == "int":
        low, high = env.prover.range(term)
        if low is not None and low == high:
            return sympy.Integer(low)
    return to_sympy(term) if unbacked_only else None


def bound_sympy(env: ShapeEnv, expr: sympy.Expr, size_oblivious: bool = False) -> Any:
    """The bounds of a sympy expression, as torch's value range.

    Args:
        expr: an expression; the bounds of a condition are false and true.
        size_oblivious: take unbacked sizes to be at least 2.
    """
    term = env.read_registering(expr)
    if term.sort == "bool":
        answer = env.prover.decide(term)
        return ValueRanges(answer is True, answer is not False)
    if term.sort == "real":
        value = term.value
        if value is not None:
            return ValueRanges(sympy.Float(value), sympy.Float(value))
        return ValueRanges(-sympy.oo, sympy.oo)
    low, high = env.prover.range(term)
    if size_oblivious and term.op == "symbol" and to_sympy(term) in env.size_like:
        low, high = 2, None
    return as_value_ranges(low, high)


# -- forms --------------------------------------------------------------------------------------


def simplify(
    env: ShapeEnv,
    expr: sympy.Basic,
    size_oblivious: bool = False,
    *,
    axioms: Iterable[sympy.Basic] | None = None,
    var_to_range: Any = None,
) -> sympy.Basic:
    """A sympy expression in symfx's normal form, with replacements applied.

    Operands of minima and maxima that the facts show to be superfluous are dropped. A FloorDiv
    whose divisor divides becomes a CleanDiv.

    Args:
        env: the environment.
        expr: the expression.
        size_oblivious: unused; torch has it.
        axioms, var_to_range: unused; torch 2.14 has them, for facts that the normal form of a
            term does not need.
    """
    term = env.read_registering(expr)
    # A term of one value stays a term, as in torch: the answer to its questions is that value.
    result: sympy.Basic = to_sympy(env.knowledge.with_settled_extrema(term))
    exact = {d: CleanDiv(*d.args) for d in result.atoms(FloorDiv) if _divides(env, *d.args)}
    return result.xreplace(exact)


def _divides(env: ShapeEnv, base: sympy.Expr, divisor: sympy.Expr) -> bool:
    """Whether the facts imply that a division leaves no remainder."""
    table = env.table
    number, by = env.read_registering(base), env.read_registering(divisor)
    if number.sort != "int" or by.sort != "int" or by.value == 0:
        return False
    return env.prover.decide(table.eq(table.mod(number, by), table.zero)) is True


def replace(env: ShapeEnv, expr: sympy.Basic) -> sympy.Basic:
    """A sympy expression with replacements applied."""
    result: sympy.Basic = to_sympy(env.read_registering(expr))
    return result


def get_axioms(
    env: ShapeEnv, symbols: Iterable[sympy.Symbol] | None = None, compute_hint: bool = False
) -> tuple[sympy.Basic, ...]:
    """The guards and runtime assertions, as sympy.

    Args:
        symbols: return only the assertions whose newest unbacked symbol is one of these.
        compute_hint: put in the values at tracing.
    """
    asserts = env.deferred_runtime_asserts
    keys = asserts if symbols is None else [s for s in symbols if s in asserts]
    found = [g.expr for g in env.guards]
    found += [record.expr for key in keys for record in asserts[key]]
    if compute_hint:
        found = [canonicalize_bool_expr(e.xreplace(env.backed_var_to_val)) for e in found]
    return tuple(dict.fromkeys(found))


def get_implications(
    env: ShapeEnv, e: sympy.Basic
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


# -- hints --------------------------------------------------------------------------------------


def size_hint(env: ShapeEnv, expr: sympy.Basic, *, allow_none: bool = False) -> sympy.Basic | None:
    """The value of an expression at tracing, as sympy; no guard.

    Args:
        expr: the expression.
        allow_none: return None where the value depends on data.

    Raises:
        GuardOnDataDependentSymNode: it does, and None is not allowed.
    """
    term = env.read_registering(expr)
    hint = env.hint_of(term)
    if hint is None and not allow_none:
        hint = env.knowledge.observed(term)
        if hint is not None:
            env.expect(env.ledger.has_value(term, hint), "propagate_real_tensors")
    if hint is None:
        if allow_none:
            return None
        raise data_dependent_error(env, term)
    return sympy.sympify(hint)


def guarding_hint_or_throw(env: ShapeEnv, expr: Any) -> int | bool:
    """The value of an expression at tracing, to guard on.

    Raises:
        GuardOnDataDependentSymNode: it depends on data.
    """
    term = env.read_registering(expr)
    hint: Any = env.hint_of(term)
    if hint is None:
        raise data_dependent_error(env, term)
    result: int | bool = hint
    return result


def has_guarding_hint(env: ShapeEnv, expr: Any) -> bool:
    """Whether the value of an expression at tracing is known."""
    return env.hint_of(env.read_registering(expr)) is not None


def optimization_hint(env: ShapeEnv, expr: Any, fallback: int | None = None) -> int:
    """A value of an expression that is good enough for decisions about speed.

    Unbacked symbols get their values in `var_to_hint_override`, else `fallback`, moved into
    their bounds; replacements are applied first.

    Args:
        expr: the expression.
        fallback: the value to assume of an unbacked symbol; a setting of torch's inductor where
            not given.

    Raises:
        SymfxError: a complex number.
    """
    if isinstance(expr, sympy.Expr):
        if expr.has(sympy.I):
            raise SymfxError(f"{expr} is complex; sizes are integers")
        for infinity in (int_oo, sympy.oo):
            if expr in (infinity, -infinity):
                return sys.maxsize if expr == infinity else -sys.maxsize
    if fallback is None:
        fallback = _inductors_fallback()
    if expr is sympy.nan:
        return fallback
    term = env.read_registering(expr)
    values = dict(env.symbols.hints)
    for symbol in term.free_symbols - values.keys():
        told = env.var_to_hint_override.get(to_sympy(symbol))
        values[symbol] = _nearest_in_bounds(env, symbol, fallback) if told is None else told
    try:
        value = evaluate(term, values)
    except ZeroDivisionError:
        return fallback
    return int(value)


def _nearest_in_bounds(env: ShapeEnv, symbol: Term, value: int) -> int:
    """The value nearest to `value` that a symbol's bounds admit."""
    low, high = env.prover.range(symbol) if symbol.sort == "int" else (None, None)
    if low is not None:
        value = max(value, low)
    return value if high is None else min(value, high)


def _inductors_fallback() -> int:
    from torch._inductor import config

    return int(getattr(config, "unbacked_symint_fallback", DEFAULT_HINT))


# -- defaults and errors ------------------------------------------------------------------------


def _make_data_dependent_error(
    env: ShapeEnv, expr: sympy.Basic, unhinted_expr: sympy.Basic, **_: Any
) -> GuardOnDataDependentSymNode:
    """The error for an expression whose value depends on data."""
    return data_dependent_error(env, env.read_registering(unhinted_expr))


def _default_value_range(env: ShapeEnv, do_not_specialize_zero_one: bool = False) -> Any:
    """The range of a size about which nothing else is known."""
    low = 0 if do_not_specialize_zero_one or not env.specialize_zero_one else 2
    return ValueRanges(low, int_oo)


def _default_unspecified_value_range(env: ShapeEnv) -> Any:
    """The range of an integer input about which nothing is known."""
    return ValueRanges(-int_oo, int_oo)
