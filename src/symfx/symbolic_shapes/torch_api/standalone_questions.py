"""Questions in sympy under given ranges and conditions, without an environment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import sympy

from symfx.algebra import Facts, Prover, Table, Term
from symfx.algebra.languages.sympy import SympyReader

__all__ = ["decide_under", "known_bounds"]


def decide_under(
    expr: sympy.Basic, ranges: Mapping[sympy.Symbol, Any], axioms: Iterable[sympy.Basic] = ()
) -> sympy.Basic | None:
    """The value of a sympy expression where ranges and conditions fix it, as sympy.

    The symbols need not belong to any environment.

    Args:
        expr: an integer expression or a condition.
        ranges: bounds of symbols; a symbol without an entry has the bounds of its assumptions.
        axioms: conditions that hold.

    Returns:
        The value; None where it is open.
    """
    axioms = [a for a in axioms if isinstance(a, sympy.Basic)]
    symbols = set(expr.free_symbols).union(*(a.free_symbols for a in axioms))
    table = Table()
    by_sympy: dict[sympy.Symbol, Term] = {}
    facts = Facts(table)
    for symbol in sorted(symbols, key=str):
        real = symbol.is_integer is False or (symbol.is_integer is None and symbol.is_real)
        term = table.symbol(symbol.name, "real" if real else "int")
        term.sympy = symbol
        by_sympy[symbol] = term
        if real:
            continue
        low, high = known_bounds(symbol, ranges.get(symbol))
        if low is not None:
            facts.assume(table.le(table.const(low), term))
        if high is not None:
            facts.assume(table.le(term, table.const(high)))
    reader = SympyReader(table, by_sympy)
    for axiom in axioms:
        facts.assume(reader.read(axiom))
    term = reader.read(expr)
    prover = Prover(facts)
    if term.op == "const":
        return sympy.sympify(term.args[0])
    if term.sort == "bool":
        answer = prover.decide(term)
        return None if answer is None else sympy.sympify(answer)
    if term.sort == "int":
        low, high = prover.range(term)
        if low is not None and low == high:
            return sympy.Integer(low)
    return None


def known_bounds(symbol: sympy.Symbol, value_range: Any) -> tuple[int | None, int | None]:
    """The bounds of an integer symbol, from a value range or else from its assumptions."""
    if value_range is None:
        return (1 if symbol.is_positive else 0 if symbol.is_nonnegative else None), None
    low, high = value_range.lower, value_range.upper
    return (
        int(low) if getattr(low, "is_Integer", isinstance(low, int)) else None,
        int(high) if getattr(high, "is_Integer", isinstance(high, int)) else None,
    )
