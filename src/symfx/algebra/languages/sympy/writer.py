"""From terms to sympy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import sympy
from sympy.core.sorting import ordered
from torch.utils._sympy import functions as torch_fn

from symfx.algebra.languages.sympy.functions import (
    MATH_CLASSES,
    FloatFloorDiv,
    FloatMod,
    IntRound,
    function_class,
)
from symfx.algebra.terms.interpret import relation
from symfx.algebra.terms.table import Term

__all__ = ["to_sympy"]

# The nodes of an expression, and the levels, that sympy may walk: to put operands in order, and to
# find what it assumes about them.
_WALKED_NODES = 2000
_WALKED_LEVELS = 60


def to_sympy(term: Term) -> sympy.Basic:
    """The term as sympy, which is made once and then kept in ``term.sympy``.

    A symbol shows as the ``sympy.Symbol`` in its ``symbol.sympy``, where the maker of a symbol may
    put one. By default it shows as a symbol of its name and sort without further assumptions.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); s = t.symbol("s")
        >>> to_sympy((2 * s + 1) // 4 + 3)
        ((s//2)) + 3
    """
    bounds: dict[Term, int | None] = {}
    stack = [term]
    while stack:
        top = stack[-1]
        if top.sympy is not None:
            stack.pop()
            continue
        below = _parts(top)
        waiting = [part for part in below if part.sympy is None]
        if waiting:
            stack.extend(waiting)
            continue
        top.sympy = _build(top, below, bounds)
        stack.pop()
    return term.sympy


def _parts(term: Term) -> tuple[Term, ...]:
    """The terms whose sympy the sympy of a term is made of."""
    op = term.op
    if op in ("eq", "ge"):
        return relation(term)[1:]
    if op == "not":
        inner: Term = term.args[0]
        return relation(term)[1:] if inner.op == "eq" else inner.operands
    return term.operands


_RELATIONS: dict[str, Any] = {
    "eq": sympy.Eq,
    "ne": sympy.Ne,
    "ge": sympy.Ge,
    "le": sympy.Le,
    "gt": sympy.Gt,
    "lt": sympy.Lt,
    "feq": sympy.Eq,
    "fle": sympy.Le,
    "flt": sympy.Lt,
}

_LATTICES: dict[str, Any] = {
    "and": sympy.And,
    "or": sympy.Or,
    "min": torch_fn.Min,
    "max": torch_fn.Max,
    "fmin": torch_fn.Min,
    "fmax": torch_fn.Max,
}

# Operations that are one unevaluated sympy function of their operands.
_FUNCTIONS: dict[str, Any] = {
    "floordiv": torch_fn.FloorDiv,
    "abs": sympy.Abs,
    "fabs": sympy.Abs,
    "where": torch_fn.Where,
    "bit_and": torch_fn.BitwiseFn_bitwise_and,
    "bit_or": torch_fn.BitwiseFn_bitwise_or,
    "bit_xor": torch_fn.BitwiseFn_bitwise_xor,
    "to_real": torch_fn.ToFloat,
    "truediv": torch_fn.IntTrueDiv,
    "fdiv": torch_fn.FloatTrueDiv,
    "fpow": torch_fn.FloatPow,
    "ffloordiv": FloatFloorDiv,
    "fmod": FloatMod,
    "floor": torch_fn.FloorToInt,
    "ceil": torch_fn.CeilToInt,
    "trunc": torch_fn.TruncToInt,
    "round": torch_fn.RoundToInt,
    "round_int": IntRound,
    "round_digits": torch_fn.RoundDecimal,
    **MATH_CLASSES,
}


def _build(term: Term, parts: tuple[Term, ...], bounds: dict[Term, int | None]) -> sympy.Basic:
    """The sympy of a term, given that its `_parts` have theirs."""
    op = term.op
    args = [part.sympy for part in parts]
    if op == "const":
        return _constant(term)
    if op == "symbol":
        return _symbol(term)
    if op == "sum":
        scaled = [
            m.sympy if c == 1 else _product([sympy.Integer(c), m.sympy])
            for m, c in term.coeffs.items()
        ]
        if _is_small(scaled):
            return sympy.Add(*scaled, sympy.Integer(term.const))
        const = [sympy.Integer(term.const)] if term.const else []
        return sympy.Add._from_args([*const, *_in_order(scaled)], is_commutative=True)
    if op == "product":
        return _product(args)
    if op in ("eq", "ge"):
        return _RELATIONS[relation(term)[0]](*args, evaluate=False)
    if op in ("feq", "fle", "flt"):
        return _RELATIONS[op](*args, evaluate=False)
    if op == "not":
        inner: Term = term.args[0]
        if inner.op in ("eq", "feq"):
            return sympy.Ne(*args, evaluate=False)
        return sympy.Not(to_sympy(inner), evaluate=False)
    if op in _LATTICES:
        return _lattice(_LATTICES[op], args)
    if op == "mod":
        # torch writes Mod for the remainder of two numbers that are not negative.
        least = [_least(part, bounds) for part in parts]
        signless = all(bound is not None and bound >= 0 for bound in least)
        return (torch_fn.Mod if signless else torch_fn.PythonMod)(*args, evaluate=False)
    if op == "pow":
        if parts[1].op == "const":
            return _power(*args)
        return torch_fn.PowByNatural(*args, evaluate=False)
    if op in ("lshift", "rshift"):
        # torch writes shifts as products with, and quotients by, powers of two.
        power = torch_fn.PowByNatural(sympy.Integer(2), args[1], evaluate=False)
        if op == "lshift":
            return _product([args[0], power])
        return torch_fn.FloorDiv(args[0], power, evaluate=False)
    if op in ("fadd", "fmul", "fneg"):
        if op == "fneg":
            args = [sympy.Integer(-1), *args]
        return _in_sympys_order(sympy.Add if op == "fadd" else sympy.Mul, args)
    if op == "is_integer":
        rounded = torch_fn.FloorToInt(args[0], evaluate=False)
        return sympy.Eq(torch_fn.ToFloat(rounded, evaluate=False), args[0], evaluate=False)
    if op == "call":
        return function_class(term.name, term.sort)(*args, evaluate=False)
    return _FUNCTIONS[op](*args, evaluate=False)


def _product(args: list[sympy.Basic]) -> sympy.Basic:
    """The product of integers.

    The constructors of Add, Mul and Pow ask for assumptions about operands, which walk these as
    trees.
    """
    if _is_small(args):
        return sympy.Mul(*args)
    factors = [f for a in args for f in (a.args if isinstance(a, sympy.Mul) else (a,))]
    number = math.prod(f for f in factors if f.is_Integer)
    counts = Counter(f for f in factors if not f.is_Integer)
    powers = [f if n == 1 else _power(f, sympy.Integer(n)) for f, n in counts.items()]
    numbers = [sympy.Integer(number)] if number != 1 else []
    return sympy.Mul._from_args([*numbers, *_in_order(powers)], is_commutative=True)


def _power(base: sympy.Basic, exponent: sympy.Integer) -> sympy.Basic:
    """The power of an integer."""
    if _is_small([base]):
        return sympy.Pow(base, exponent)
    power = sympy.Expr.__new__(sympy.Pow, base, exponent)
    power.is_commutative = True
    return power


def _constant(term: Term) -> sympy.Basic:
    value = term.args[0]
    if term.sort == "int":
        return sympy.Integer(value)
    if term.sort == "bool":
        return sympy.true if value else sympy.false
    return sympy.Float(value)


def _symbol(term: Term) -> sympy.Symbol:
    if term.sort == "int":
        return sympy.Symbol(term.name, integer=True)
    if term.sort == "real":
        return sympy.Symbol(term.name, real=True)
    return sympy.Symbol(term.name)


def _lattice(cls: Any, args: list[sympy.Basic]) -> sympy.Basic:
    """And, Or, Min or Max of `args`, without any evaluation.

    The constructors of And and Or always compare canonical forms of relations, and so take
    ``x < 1 or x >= 1`` of doubles for a tautology.
    """
    different = frozenset(args)
    if len(different) == 1:
        return args[0]
    lattice = sympy.Basic.__new__(cls, *_in_order(different))
    lattice._argset = different
    if cls in (torch_fn.Min, torch_fn.Max):
        lattice.unique_summations_symbols = None
    return lattice


def _in_order(args: Iterable[sympy.Basic]) -> Iterable[sympy.Basic]:
    """Operands in sympy's order if they are small, else in an order by hash."""
    return ordered(args) if _is_small(args) else sorted(args, key=hash)


def _in_sympys_order(cls: Any, args: list[sympy.Basic]) -> sympy.Basic:
    """Add or Mul of doubles: evaluated if that only changes the order of operands."""
    if _is_small(args):
        evaluated = cls(*args)
        unchanged = len(evaluated.args) == len(args) and set(evaluated.args) == set(args)
        if isinstance(evaluated, cls) and unchanged:
            return evaluated
    return cls(*args, evaluate=False)


def _is_small(args: Iterable[sympy.Basic]) -> bool:
    """Whether sympy may walk the expressions in a short time, and by recursion.

    sympy walks an expression as a tree, so the time may be exponential in the depth of an
    expression whose parts occur often.
    """
    level = list(args)
    walked = 0
    for _ in range(_WALKED_LEVELS):
        walked += len(level)
        if not level or walked > _WALKED_NODES:
            return not level
        level = [below for expr in level for below in expr.args]
    return False


def _least(term: Term, bounds: dict[Term, int | None]) -> int | None:
    """A lower bound of an integer term from the sympy assumptions of its symbols, or None.

    The call adds the bounds that it finds to `bounds`. The parts of the term must have their sympy.
    """
    stack = [term]
    while stack:
        top = stack[-1]
        if top in bounds:
            stack.pop()
            continue
        waiting = [t for t in top.operands if t.sort == "int" and t not in bounds]
        if waiting:
            stack.extend(waiting)
            continue
        bounds[top] = _least_of(top, bounds)
        stack.pop()
    return bounds[term]


def _least_of(term: Term, known: Mapping[Term, int | None]) -> int | None:
    """`_least` of a term, given that of its operands."""
    op = term.op
    if op == "const":
        return term.const
    if op == "symbol":
        symbol = to_sympy(term)
        return 1 if symbol.is_positive else 0 if symbol.is_nonnegative else None
    below = [known[t] for t in term.operands if t.sort == "int"]
    if op == "abs":
        return 0
    if op == "mod" and (known[term.args[1]] or 0) > 0:
        return 0
    if op == "max":
        return max((b for b in below if b is not None), default=None)
    least: list[int] = [b for b in below if b is not None]
    if len(least) < len(below):
        return None
    if op == "sum":
        if any(c < 0 for c in term.coeffs.values()):
            return None
        return term.const + sum(c * b for c, b in zip(term.coeffs.values(), least, strict=True))
    if op in ("min", "where"):
        return min(least)
    if min(least, default=-1) < 0:
        return None
    if op == "product":
        return math.prod(least)
    return 0 if op in ("floordiv", "mod", "pow", "bit_and", "lshift", "rshift") else None
