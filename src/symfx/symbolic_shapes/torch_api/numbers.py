"""Methods of ShapeEnv that make numbers: from sympy expressions, and from data.

Each function is a method of `ShapeEnv`, apart from `read_question`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra import Scalar, Term
from symfx.errors import SymfxError
from symfx.sym_node import SymTypes
from symfx.sym_node.comparisons import RELATIONS
from symfx.symbolic_shapes.environment.inputs import is_nested_int
from symfx.symbolic_shapes.environment.switches import (
    _ignore_fresh_unbacked_symbols_tls_context,
    ignoring_fresh_symbols,
    set_ignoring_fresh_symbols,
)

if TYPE_CHECKING:
    from torch._guards import Source

    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "_ignore_fresh_unbacked_symbols_set",
    "_ignore_fresh_unbacked_symbols_tls",
    "add_backed_var_to_val",
    "create_symboolnode",
    "create_symfloatnode",
    "create_symintnode",
    "create_unbacked_symbool",
    "create_unbacked_symfloat",
    "create_unbacked_symint",
    "ignore_fresh_unbacked_symbols",
    "is_unbacked_symint",
    "read_question",
    "read_registering",
    "register_symbol",
    "term_from_outside",
]

_METHODS = {in_sympy: name for name, in_sympy in RELATIONS.items()}
_SORTS = {int: "int", float: "real", bool: "bool"}

# -- terms of sympy expressions -----------------------------------------------------------------


def read_registering(env: ShapeEnv, expr: Any, hint: Scalar | None = None) -> Term:
    """`read`, making unknown sympy symbols symbols of this environment.

    Args:
        expr: the expression.
        hint: its value at tracing; where the expression is a symbol, that of the symbol.
    """
    if isinstance(expr, sympy.Basic):
        known = env.symbols.by_sympy
        for symbol in sorted(expr.free_symbols, key=str):
            if symbol not in known:
                env.register_symbol(symbol, hint if symbol == expr else None)
    return env.read(expr)


def read_question(env: ShapeEnv, expr: sympy.Basic, hint: Any = None) -> Term:
    """`read_registering`, noting both sides of a comparison as the program wrote them."""
    term = env.read_registering(expr, hint)
    if isinstance(expr, sympy.core.relational.Relational) and term.op != "const":
        left, right = (env.read(side) for side in expr.args)
        env.asked.setdefault(term, (_METHODS[type(expr)], left, right))
    return term


def register_symbol(env: ShapeEnv, symbol: sympy.Symbol, hint: Scalar | None = None) -> Term:
    """Make a sympy symbol from outside one of this environment, of the sort that it claims.

    Args:
        symbol: the symbol.
        hint: its value at tracing; None makes it unbacked.

    Raises:
        SymfxError: another symbol has the name.
    """
    term = env.symbols.adopt(symbol, hint)
    if term.sort == "int" and symbol.is_nonnegative:
        env.knowledge.begin_at(1 if symbol.is_positive else 0, term)
    return term


def add_backed_var_to_val(env: ShapeEnv, expr: sympy.Symbol, val: Scalar) -> None:
    """Make a sympy symbol one of this environment, with a value at tracing.

    Args:
        expr: the symbol. Other expressions are left alone: `torch.export.load` tells the value of
            each expression that it reads.
        val: its value.

    Raises:
        SymfxError: it has one already.
    """
    if not isinstance(expr, sympy.Symbol):
        return
    term = env.symbols.by_sympy.get(expr)
    hints = env.symbols.hints
    if term is None:
        env.register_symbol(expr, val)
    elif term in hints:
        raise SymfxError(f"{expr} has the value {hints[term]} at tracing already")
    else:
        hints[term] = val
        env.symbols.records[term].unbacked = False


def term_from_outside(env: ShapeEnv, expr: Any, pytype: type, hint: Any) -> tuple[Term, Any]:
    """The term and hint of a sympy expression from which a `SymNode` is made.

    Args:
        expr: the expression.
        pytype: ``int``, ``float`` or ``bool``.
        hint: its value at tracing; None where it is not known.

    Raises:
        SymfxError: the expression is not of the type.
    """
    if isinstance(hint, SymTypes) and not is_nested_int(hint):
        hint = hint.node.hint
    term = env.read_registering(expr, hint)
    if pytype is float and term.sort == "int":
        term = env.table.to_real(term)
    elif pytype is bool and term.sort == "int":
        # `create_symbol` knows no conditions: of True it makes the expression 1.
        term = env.table.to_bool(term)
    if term.sort != _SORTS.get(pytype):
        raise SymfxError(f"{term} is no {pytype.__name__}")
    return term, hint


# -- torch's numbers ----------------------------------------------------------------------------


def create_symintnode(
    env: ShapeEnv, sym: sympy.Basic, *, hint: Any = None, source: Source | None = None
) -> Any:
    """The torch.SymInt (or int, for a constant) of a sympy expression.

    Args:
        sym: the expression.
        hint: its value at tracing; used where the environment has none of its own.
        source: kept for callers of torch's method.

    Raises:
        SymfxError: the expression is a constant other than `hint`.
    """
    term = env.read_registering(sym, hint)
    if hint is not None and term.op == "const" and term.args[0] != hint:
        raise SymfxError(f"{term} was said to be {hint} at tracing")
    return env.wrap(term)


def create_symfloatnode(
    env: ShapeEnv, sym: sympy.Basic, *, hint: Any = None, source: Source | None = None
) -> Any:
    """The torch.SymFloat (or float) of a sympy expression; see `create_symintnode`."""
    return env.wrap(env.table.to_real(env.read_registering(sym, hint)))


def create_symboolnode(env: ShapeEnv, sym: sympy.Basic) -> Any:
    """The torch.SymBool of a sympy condition."""
    node = env.node_for(env.read_registering(sym))
    return torch.SymBool(node)  # type: ignore[no-untyped-call]


# -- numbers that depend on data ----------------------------------------------------------------


def create_unbacked_symint(env: ShapeEnv, source: Source | None = None) -> torch.SymInt:
    """Make an integer that only the running program knows."""
    result: torch.SymInt = env.wrap(env.symbols.new_unbacked("int", source))
    return result


def create_unbacked_symfloat(env: ShapeEnv) -> torch.SymFloat:
    """Make a float that only the running program knows."""
    result: torch.SymFloat = env.wrap(env.symbols.new_unbacked("real"))
    return result


def create_unbacked_symbool(env: ShapeEnv) -> torch.SymBool:
    """Make a bool that only the running program knows."""
    table, symbol = env.table, env.symbols.new_unbacked("int")
    env.knowledge.begin_at(0, symbol)
    env.knowledge.begin_with(table.le(symbol, table.one))
    result: torch.SymBool = env.wrap(table.eq(symbol, table.one))
    return result


def is_unbacked_symint(env: ShapeEnv, symbol: sympy.Symbol) -> bool:
    """Whether a symbol is an integer that only the running program knows."""
    return env.symbols.is_unbacked_symint(symbol)


@contextlib.contextmanager
def ignore_fresh_unbacked_symbols(env: ShapeEnv) -> Iterator[None]:
    """Unbacked symbols made inside need not show up in an operator's output."""
    with _ignore_fresh_unbacked_symbols_tls_context():
        yield


def _ignore_fresh_unbacked_symbols_tls(env: ShapeEnv) -> bool:
    """Whether unbacked symbols made now need not show up in an operator's output."""
    return ignoring_fresh_symbols()


def _ignore_fresh_unbacked_symbols_set(env: ShapeEnv, b: bool) -> bool:
    """Switch `ignore_fresh_unbacked_symbols` on or off, and return what it was before."""
    return set_ignoring_fresh_symbols(b)
