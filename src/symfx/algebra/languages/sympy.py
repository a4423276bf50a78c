"""Terms as sympy expressions, and sympy expressions as terms.

torch's internals read shapes as sympy; symfx thinks in terms. `to_sympy` shows a term in the
vocabulary that torch's own tools know (``FloorDiv``, ``PythonMod``, ``Max``, …), `SympyReader`
reads such expressions back. Nothing else of the floor imports sympy, and nothing converts
until somebody asks.

The view is built unevaluated wherever sympy's or torch's automatic evaluation could change a
value: ``FloorDiv(FloorDiv(a, b), c)`` evaluates to ``FloorDiv(a, b*c)``, wrong for ``c < 0``;
``PythonMod(p, q)`` with ``p < q < 0`` to ``p``; sums of doubles reassociate. Terms are in
normal form already, so that evaluating them would find little and cost much.

What sympy cannot say: it has no negative zero, and its real symbols are never NaN. Integers,
conditions and finite doubles keep their exact value in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy
from sympy.core.function import UndefinedFunction
from sympy.core.relational import Relational
from sympy.core.sorting import ordered
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.logic.boolalg import Boolean
from torch.utils._sympy import functions as torch_fn
from torch.utils._sympy.numbers import int_oo

from symfx.algebra.terms.interpret import relation
from symfx.algebra.terms.table import MATH_FUNCTIONS, Sort, Table, Term
from symfx.errors import SymfxError

__all__ = ["SympyReadError", "SympyReader", "register_function", "to_sympy"]


# How many nodes of an expression sympy may walk to put it in its order.
_WALKED_NODES = 2000


class SympyReadError(SymfxError, ValueError):
    """A sympy expression that is no integer, double or condition of the algebra."""


# -- functions that torch has no class for ---------------------------------------------------


def _as_float(value: sympy.Basic) -> float:
    return float(value)


class FloatFloorDiv(sympy.Function):  # type: ignore[misc]
    """``a // b`` of doubles: a double, which is not always ``floor(a / b)``."""

    nargs = (2,)
    is_real = True

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:
        """The quotient of two numbers."""
        if a.is_Number and b.is_Number:
            return sympy.Float(_as_float(a) // _as_float(b))
        return None


class FloatMod(sympy.Function):  # type: ignore[misc]
    """``a % b`` of doubles, with the sign of b."""

    nargs = (2,)
    is_real = True

    @classmethod
    def eval(cls, a: sympy.Expr, b: sympy.Expr) -> sympy.Expr | None:
        """The remainder of two numbers."""
        if a.is_Number and b.is_Number:
            return sympy.Float(_as_float(a) % _as_float(b))
        return None


class IntRound(sympy.Function):  # type: ignore[misc]
    """``round(a, n)`` of an integer, for a negative number of digits n."""

    nargs = (2,)
    is_integer = True

    @classmethod
    def eval(cls, a: sympy.Expr, digits: sympy.Expr) -> sympy.Expr | None:
        """The rounded value of a number."""
        if a.is_Integer and digits.is_Integer:
            return sympy.Integer(round(int(a), int(digits)))
        return None


# -- uninterpreted functions -----------------------------------------------------------------

_CLASS_OF_CALL: dict[tuple[str, Sort], Any] = {}
_CALL_OF_CLASS: dict[Any, tuple[str, Sort]] = {}


def register_function(name: str, sort: Sort, function: Any) -> None:
    """Let `function`, a class of sympy functions, stand for calls of `name`.

    A call of a name that nobody registered gets a class of its own at its first conversion.

    Args:
        name: the name that `Table.call` was given.
        sort: the sort of its result.
        function: the class whose instances show such calls.

    Raises:
        ValueError: the name or the class stands for something else already.
    """
    key = (name, sort)
    if _CLASS_OF_CALL.get(key, function) != function or _CALL_OF_CLASS.get(function, key) != key:
        raise ValueError(f"{name!r} of sort {sort} or {function!r} is registered otherwise already")
    _CLASS_OF_CALL[key] = function
    _CALL_OF_CLASS[function] = key


def _function_class(name: str, sort: Sort) -> Any:
    """The class that shows calls of `name`."""
    found = _CLASS_OF_CALL.get((name, sort))
    if found is None:
        if sort == "bool":
            found = type(name, (sympy.Function, Boolean), {"__doc__": f"The condition {name}."})
        elif sort == "int":
            found = UndefinedFunction(name, integer=True)
        else:
            found = UndefinedFunction(name, real=True)
        register_function(name, sort, found)
    return found


register_function(
    "is_non_overlapping_and_dense_indicator", "int", torch_fn.IsNonOverlappingAndDenseIndicator
)


# -- from terms to sympy -----------------------------------------------------------------------


def to_sympy(term: Term) -> sympy.Basic:
    """The term as sympy; made once, then remembered in ``term.sympy``.

    A symbol shows as the ``sympy.Symbol`` that its owner put into ``symbol.sympy`` when it
    made the symbol; one without becomes a symbol of its name and sort with no further
    assumption.

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
    """The terms whose sympy a term's own is made of."""
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
    **{name: getattr(torch_fn, f"OpaqueUnaryFn_{name}") for name in MATH_FUNCTIONS},
}


def _build(term: Term, parts: tuple[Term, ...], bounds: dict[Term, int | None]) -> sympy.Basic:
    """The sympy of a term whose `_parts` have theirs."""
    op = term.op
    args = [part.sympy for part in parts]
    if op == "const":
        return _constant(term)
    if op == "symbol":
        return _symbol(term)
    if op == "sum":
        scaled = [
            m.sympy if c == 1 else sympy.Mul(sympy.Integer(c), m.sympy)
            for m, c in term.coeffs.items()
        ]
        return sympy.Add(*scaled, sympy.Integer(term.const))
    if op == "product":
        return sympy.Mul(*args)
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
        # Mod is torch's name for the remainder of two numbers that are not negative.
        least = [_least(part, bounds) for part in parts]
        signless = all(bound is not None and bound >= 0 for bound in least)
        return (torch_fn.Mod if signless else torch_fn.PythonMod)(*args, evaluate=False)
    if op == "pow":
        if parts[1].op == "const":
            return sympy.Pow(*args)
        return torch_fn.PowByNatural(*args, evaluate=False)
    if op in ("lshift", "rshift"):
        # As torch has it: shifts are products with, and quotients by, powers of two.
        power = torch_fn.PowByNatural(sympy.Integer(2), args[1], evaluate=False)
        if op == "lshift":
            return sympy.Mul(args[0], power)
        return torch_fn.FloorDiv(args[0], power, evaluate=False)
    if op in ("fadd", "fmul", "fneg"):
        if op == "fneg":
            args = [sympy.Integer(-1), *args]
        return _as_it_is(sympy.Add if op == "fadd" else sympy.Mul, args)
    if op == "is_integer":
        rounded = torch_fn.FloorToInt(args[0], evaluate=False)
        return sympy.Eq(torch_fn.ToFloat(rounded, evaluate=False), args[0], evaluate=False)
    if op == "call":
        return _function_class(term.name, term.sort)(*args, evaluate=False)
    return _FUNCTIONS[op](*args, evaluate=False)


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
    """And, Or, Min or Max of `args`, as it stands.

    The constructors of And and Or compare canonical forms of relations, which takes ``x < 1
    or x >= 1`` of doubles for a tautology, and cannot be told not to.
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
    """Operands in the order that sympy gives them, where finding it is affordable."""
    return ordered(args) if _is_small(args) else sorted(args, key=hash)


def _as_it_is(cls: Any, args: list[sympy.Basic]) -> sympy.Basic:
    """Add or Mul of doubles in sympy's order where that is all it changes, else unevaluated."""
    if _is_small(args):
        evaluated = cls(*args)
        unchanged = len(evaluated.args) == len(args) and set(evaluated.args) == set(args)
        if isinstance(evaluated, cls) and unchanged:
            return evaluated
    return cls(*args, evaluate=False)


def _is_small(args: Iterable[sympy.Basic]) -> bool:
    """Whether sympy may walk the expressions.

    It walks them as trees, which takes time exponential in the depth of an expression whose
    parts occur often.
    """
    stack = list(args)
    for _ in range(_WALKED_NODES):
        if not stack:
            return True
        stack.extend(stack.pop().args)
    return False


def _least(term: Term, bounds: dict[Term, int | None]) -> int | None:
    """A lower bound of an integer term that its symbols' sympy assumptions give, or None.

    `bounds` keeps those found. The sympy of the term's parts must be there.
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


# -- from sympy to terms -----------------------------------------------------------------------


def _fold(combine: Callable[[Table, Term, Term], Term]) -> Callable[..., Term]:
    """An operation of two terms as one of any number."""

    def folded(table: Table, first: Term, *rest: Term) -> Term:
        for term in rest:
            first = combine(table, first, term)
        return first

    return folded


def _of_reals(make: Callable[[Table, Term, Term], Term]) -> Callable[..., Term]:
    """An operation of doubles, whatever sort the operands were read as."""
    return lambda table, a, b: make(table, table.to_real(a), table.to_real(b))


def _math(name: str) -> Callable[..., Term]:
    return lambda table, a: table.function(name, a)


# Functions of terms: what makes them in a table.
_FROM_TERMS: dict[Any, Callable[..., Term]] = {
    sympy.And: Table.and_,
    sympy.Or: Table.or_,
    sympy.Xor: _fold(Table.bit_xor),
    sympy.Not: Table.not_,
    sympy.ITE: Table.where,
    torch_fn.Where: Table.where,
    torch_fn.Min: _fold(Table.min),
    torch_fn.Max: _fold(Table.max),
    sympy.Min: _fold(Table.min),
    sympy.Max: _fold(Table.max),
    sympy.Abs: Table.abs,
    torch_fn.BitwiseFn_bitwise_and: Table.bit_and,
    torch_fn.BitwiseFn_bitwise_or: Table.bit_or,
    torch_fn.BitwiseFn_bitwise_xor: Table.bit_xor,
    torch_fn.LShift: Table.lshift,
    torch_fn.RShift: Table.rshift,
    torch_fn.ToFloat: Table.to_real,
    torch_fn.IntTrueDiv: Table.truediv,
    torch_fn.FloatTrueDiv: _of_reals(Table.truediv),
    torch_fn.FloatPow: _of_reals(Table.pow),
    FloatFloorDiv: _of_reals(Table.floordiv),
    FloatMod: _of_reals(Table.mod),
    torch_fn.TruncToInt: Table.trunc,
    torch_fn.TruncToFloat: lambda table, a: table.to_real(table.trunc(a)),
    torch_fn.RoundToInt: Table.round,
    torch_fn.RoundDecimal: lambda table, a, n: table.round(table.to_real(a), n.const),
    IntRound: lambda table, a, n: table.round(a, n.const),
    **{getattr(torch_fn, f"OpaqueUnaryFn_{name}"): _math(name) for name in MATH_FUNCTIONS},
    # sympy's sqrt is a power, its log2 does not exist.
    **{
        getattr(sympy, name): _math(name) for name in MATH_FUNCTIONS if name not in ("sqrt", "log2")
    },
}


@dataclass(frozen=True)
class _Ratio:
    """``num / den``, a number on its way to becoming an integer or a side of a comparison."""

    num: Term
    den: Term


class SympyReader:
    """Reads sympy expressions as terms of one table.

    Every expression is read once; what was read stays read, so the meaning of a symbol must
    not change during the life of a reader (symbols may be added).

    Args:
        table: the table that the terms shall belong to.
        symbols: what each sympy symbol stands for.

    Example:
        >>> t = Table(); n = t.symbol("n")
        >>> reader = SympyReader(t, {sympy.Symbol("n", integer=True): n})
        >>> reader.read(torch_fn.FloorDiv(to_sympy(n) * 6 + 4, 2)) is 3 * n + 2
        True
    """

    def __init__(self, table: Table, symbols: Mapping[sympy.Symbol, Term]) -> None:
        self.table = table
        self.symbols = symbols
        self._memo: dict[sympy.Basic, Any] = {}

    def read(self, expr: sympy.Basic | complex) -> Term:
        """The term that `expr` shows.

        Raises:
            SympyReadError: an unknown symbol or function, an infinite integer, or a fraction
                that is not known to be an integer; the message names it.
        """
        root = sympy.sympify(expr)
        memo = self._memo
        stack = [root]
        while stack:
            top = stack[-1]
            if top in memo:
                stack.pop()
                continue
            waiting = [arg for arg in top.args if arg not in memo]
            if waiting:
                stack.extend(reversed(waiting))
                continue
            memo[top] = self._convert(top, [memo[arg] for arg in top.args])
            stack.pop()
        result = memo[root]
        if isinstance(result, tuple):
            raise _refusal(root, "it is a branch of a Piecewise, not a value")
        if isinstance(result, _Ratio):
            raise _refusal(root, "it is a fraction that need not be an integer")
        if root in _INFINITIES:
            raise _refusal(root, "it is infinite")
        term: Term = result
        return term

    # Below, `args` are what was read of `expr.args`.

    def _convert(self, expr: Any, args: list[Any]) -> Any:
        table = self.table
        if isinstance(expr, sympy.Symbol):
            return self._symbol(expr)
        if expr.is_Number or expr in (sympy.true, sympy.false, int_oo, -int_oo):
            return self._number(expr)
        if not args and not isinstance(expr, sympy.Function):
            raise _refusal(expr, f"symfx has no {type(expr).__name__}")
        if isinstance(expr, ExprCondPair):
            return tuple(args)
        self._no_integer_meets_infinity(expr, args)
        if isinstance(expr, (sympy.Add, sympy.Mul)):
            return self._add(expr, args) if isinstance(expr, sympy.Add) else self._mul(expr, args)
        if isinstance(expr, sympy.Pow):
            return self._pow(expr, *args)
        if isinstance(expr, Relational):
            return self._relational(expr, *args)
        if isinstance(expr, sympy.Piecewise):
            return self._piecewise(expr, args)
        call = _CALL_OF_CLASS.get(expr.func)
        if call is not None:
            return table.call(*call, *(self._term(expr, a) for a in args))
        read = self._FROM_RATIOS.get(expr.func)
        if read is not None:
            return read(self, expr, *args)
        simple = _FROM_TERMS.get(expr.func)
        if simple is None:
            raise _refusal(
                expr,
                f"symfx knows no function {expr.func.__name__}",
                "register_function(name, sort, cls) makes it an uninterpreted function",
            )
        return simple(table, *(self._term(expr, a) for a in args))

    def _symbol(self, symbol: sympy.Symbol) -> Term:
        term = self.symbols.get(symbol)
        if term is None:
            alike = [s for s in self.symbols if s.name == symbol.name]
            why = "nobody told the reader of that symbol"
            if alike:
                why = (
                    f"the symbol known by that name has the assumptions {alike[0].assumptions0}, "
                    f"this one has {symbol.assumptions0}"
                )
            raise _refusal(symbol, why, "use the symbols that the shape environment made")
        return term

    def _number(self, number: Any) -> Term | _Ratio:
        table = self.table
        if number in (sympy.true, sympy.false):
            return table.const(bool(number))
        if isinstance(number, sympy.Integer):
            return table.const(int(number))
        if isinstance(number, sympy.Rational):
            return _Ratio(table.const(int(number.p)), table.const(int(number.q)))
        if isinstance(number, sympy.Float) or number in _INFINITIES or number is sympy.nan:
            return table.const(float(number))
        raise _refusal(number, "it is no finite number")

    def _no_integer_meets_infinity(self, expr: Any, args: list[Any]) -> None:
        # The infinity of doubles is a value; that of integers is a figure of speech.
        infinite = [a for a in expr.args if a in _INFINITIES]
        if infinite and any(isinstance(a, _Ratio) or _sort(a) == "int" for a in args):
            raise _refusal(expr, f"an integer cannot be {infinite[0]}")

    # -- operands --

    def _term(self, expr: Any, value: Any) -> Term:
        """An operand that must be a number of its own, no fraction."""
        if isinstance(value, Term):
            return value
        if isinstance(value, _Ratio):
            raise _refusal(expr, f"({value.num})/({value.den}) in it need not be an integer")
        raise _refusal(expr, "a branch of a Piecewise is no operand")

    def _real(self, expr: Any, value: Any) -> Term:
        """An operand as a double."""
        if isinstance(value, _Ratio):
            top, bottom = value.num.value, value.den.value
            if top is not None and bottom is not None:
                quotient = top / bottom
                p, q = quotient.as_integer_ratio()
                if p * bottom == q * top:
                    return self.table.const(quotient)
                raise _refusal(expr, f"no double equals {top}/{bottom}")
        return self.table.to_real(self._term(expr, value))

    def _ratio(self, expr: Any, value: Any) -> _Ratio:
        """An operand as a fraction of integers."""
        if isinstance(value, _Ratio):
            return value
        term = self._term(expr, value)
        if term.sort == "real":
            raise _refusal(expr, f"{term} in it is real where an integer is wanted")
        return _Ratio(self.table.to_int(term), self.table.one)

    def _lowest(self, num: Term, den: Term) -> Term | _Ratio:
        """``num / den`` as an integer where it is one by form."""
        table = self.table
        if den.op == "const" and den.const < 0:
            num, den = table.neg(num), table.neg(den)
        if den.op == "const":
            g = math.gcd(den.const, num.const, *num.coeffs.values())
            if g > 1:
                num = table.linear({m: c // g for m, c in num.coeffs.items()}, num.const // g)
                den = table.const(den.const // g)
        if den is table.one:
            return num
        return _Ratio(num, den)

    # -- arithmetic --

    def _add(self, expr: Any, args: list[Any]) -> Term | _Ratio:
        table = self.table
        whole = table.sum(table.to_int(a) for a in args if isinstance(a, Term) and a.sort != "real")
        broken = [a for a in args if isinstance(a, _Ratio)]
        reals = [a for a in args if _sort(a) == "real"]
        total: Term | _Ratio = whole
        if broken:
            num, den = whole, table.one
            for part in broken:
                num = table.add(table.mul(num, part.den), table.mul(part.num, den))
                den = table.mul(den, part.den)
            total = self._lowest(num, den)
        if not reals:
            return total
        if len(reals) < len(args):
            reals.insert(0, self._real(expr, total))
        return _fold(Table.add)(table, *reals)

    def _mul(self, expr: Any, args: list[Any]) -> Term | _Ratio:
        table = self.table
        num, den = table.one, table.one
        reals: list[Term] = []
        for arg in args:
            if _sort(arg) == "real":
                reals.append(arg)
                continue
            part = self._ratio(expr, arg)
            num, den = table.mul(num, part.num), table.mul(den, part.den)
        exact = self._lowest(num, den)
        if not reals:
            return exact
        if exact is table.minus_one:
            reals[0] = table.neg(reals[0])
        elif len(reals) < len(args):
            reals.insert(0, self._real(expr, exact))
        return _fold(Table.mul)(table, *reals)

    def _pow(self, expr: Any, base: Any, exponent: Any) -> Term | _Ratio:
        table = self.table
        if isinstance(exponent, _Ratio):
            if exponent.num.value == 1 and exponent.den.value == 2:
                return table.function("sqrt", self._real(expr, base))
            raise _refusal(expr, "of the fractional powers symfx has only the square root")
        exponent = self._term(expr, exponent)
        if _sort(base) == "real" and exponent.op == "const" and exponent.sort == "int":
            # sympy writes x*x of doubles as a power.
            count = abs(exponent.const)
            if 0 < count <= 8:
                product = base
                for _ in range(count - 1):
                    product = table.mul(product, base)
                one = table.const(1.0)
                return product if exponent.const > 0 else table.truediv(one, product)
        if _sort(base) == "real" or exponent.sort == "real":
            return table.pow(self._real(expr, base), table.to_real(exponent))
        part = self._ratio(expr, base)
        exponent = table.to_int(exponent)
        if exponent.op == "const" and exponent.const < 0:
            part, exponent = _Ratio(part.den, part.num), table.neg(exponent)
        return self._lowest(table.pow(part.num, exponent), table.pow(part.den, exponent))

    def _quotient(self, expr: Any, a: Any, b: Any) -> tuple[Term, Term]:
        """Two integers whose quotient is ``a / b``."""
        left, right = self._ratio(expr, a), self._ratio(expr, b)
        table = self.table
        return table.mul(left.num, right.den), table.mul(left.den, right.num)

    def _floordiv(self, expr: Any, a: Any, b: Any) -> Term:
        if "real" in (_sort(a), _sort(b)):
            return self.table.floordiv(self._real(expr, a), self._real(expr, b))
        return self.table.floordiv(*self._quotient(expr, a, b))

    def _mod(self, expr: Any, a: Any, b: Any) -> Term | _Ratio:
        table = self.table
        if "real" in (_sort(a), _sort(b)):
            return table.mod(self._real(expr, a), self._real(expr, b))
        # a % b = a - b * (a // b), of fractions too.
        if not isinstance(a, _Ratio) and not isinstance(b, _Ratio):
            return table.mod(table.to_int(a), table.to_int(b))
        left, right = self._ratio(expr, a), self._ratio(expr, b)
        times = table.floordiv(*self._quotient(expr, a, b))
        subtrahend = table.mul(table.mul(right.num, times), left.den)
        num = table.sub(table.mul(left.num, right.den), subtrahend)
        return self._lowest(num, table.mul(left.den, right.den))

    def _floor(self, expr: Any, a: Any) -> Term:
        if _sort(a) == "real":
            return self.table.floor(a)
        return self.table.floordiv(*self._quotient(expr, a, self.table.one))

    def _ceil(self, expr: Any, a: Any) -> Term:
        if _sort(a) == "real":
            return self.table.ceil(a)
        part = self._ratio(expr, a)
        return self.table.neg(self.table.floordiv(self.table.neg(part.num), part.den))

    def _modular_indexing(self, expr: Any, a: Any, b: Any, c: Any) -> Term | _Ratio:
        return self._mod(expr, self._floordiv(expr, a, b), c)

    # -- conditions --

    def _relational(self, expr: Any, a: Any, b: Any) -> Term:
        table = self.table
        name = type(expr)
        if name is sympy.Eq:
            left, right = expr.args
            if isinstance(left, torch_fn.ToFloat) and left.args[0] in (
                torch_fn.FloorToInt(right, evaluate=False),
                sympy.floor(right, evaluate=False),
            ):
                return table.is_integer(b)
        make = self._COMPARISONS.get(name)
        if make is None:
            raise _refusal(expr, f"symfx knows no relation {name.__name__}")
        if isinstance(a, _Ratio) or isinstance(b, _Ratio):
            if "real" in (_sort(a), _sort(b)):
                return make(table, self._real(expr, a), self._real(expr, b))
            left_part, right_part = self._ratio(expr, a), self._ratio(expr, b)
            # Both sides times the denominators, and again where their sign is not known.
            a = table.mul(left_part.num, right_part.den)
            b = table.mul(right_part.num, left_part.den)
            scale = table.mul(left_part.den, right_part.den)
            if scale.op != "const" and name not in (sympy.Eq, sympy.Ne):
                a, b = table.mul(a, scale), table.mul(b, scale)
        return make(table, self._term(expr, a), self._term(expr, b))

    def _piecewise(self, expr: Any, branches: list[tuple[Term, Term]]) -> Term:
        value, condition = branches[-1]
        if condition is not self.table.true:
            raise _refusal(expr, "it has no value where none of its conditions holds")
        result = self._term(expr, value)
        for value, condition in reversed(branches[:-1]):
            result = self.table.where(condition, self._term(expr, value), result)
        return result

    _COMPARISONS: ClassVar[dict[Any, Callable[[Table, Term, Term], Term]]] = {
        sympy.Eq: Table.eq,
        sympy.Ne: Table.ne,
        sympy.Le: Table.le,
        sympy.Lt: Table.lt,
        sympy.Ge: lambda table, a, b: table.le(b, a),
        sympy.Gt: lambda table, a, b: table.lt(b, a),
    }
    # Functions that may have fractions as operands.
    _FROM_RATIOS: ClassVar[dict[Any, Callable[..., Any]]] = {
        torch_fn.FloorDiv: _floordiv,
        torch_fn.CleanDiv: _floordiv,
        torch_fn.Mod: _mod,
        torch_fn.PythonMod: _mod,
        sympy.Mod: _mod,
        torch_fn.ModularIndexing: _modular_indexing,
        torch_fn.FloorToInt: _floor,
        torch_fn.CeilToInt: _ceil,
        sympy.floor: _floor,
        sympy.ceiling: _ceil,
        torch_fn.PowByNatural: _pow,
        torch_fn.Identity: lambda self, expr, a: a,
    }


_INFINITIES = frozenset((sympy.oo, -sympy.oo))


def _sort(value: Any) -> Sort | None:
    return value.sort if isinstance(value, Term) else None


def _refusal(expr: sympy.Basic, why: str, fix: str | None = None) -> SympyReadError:
    return SympyReadError(f"sympy's {expr} cannot be read as a term: {why}", fix=fix)
