"""From sympy to terms."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sympy
from sympy.core.relational import Relational
from sympy.functions.elementary.piecewise import ExprCondPair
from torch.utils._sympy import functions as torch_fn
from torch.utils._sympy.numbers import int_oo

from symfx.algebra.languages.sympy.functions import (
    CALL_OF_CLASS,
    MATH_CLASSES,
    FloatFloorDiv,
    FloatMod,
    IntRound,
)
from symfx.algebra.terms.table import MATH_FUNCTIONS, Sort, Table, Term
from symfx.errors import SymfxError

__all__ = ["SympyReadError", "SympyReader"]


class SympyReadError(SymfxError, ValueError):
    """A sympy expression has no integer, double or condition of the algebra for its value."""


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


# For each class of functions, the function that makes the term in a table.
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
    **{MATH_CLASSES[name]: _math(name) for name in MATH_FUNCTIONS},
    # sympy's sqrt is a power, and it lacks some of the functions.
    **{
        getattr(sympy, name): _math(name)
        for name in MATH_FUNCTIONS
        if name != "sqrt" and hasattr(sympy, name)
    },
}


@dataclass(frozen=True)
class _Ratio:
    """``num / den``: an intermediate result that an integer or a comparison is made of."""

    num: Term
    den: Term


class SympyReader:
    """Reads sympy expressions as terms of one table.

    A reader keeps the term of every expression that it has read. So the meaning of a symbol must
    not change during the life of a reader; new symbols may be added.

    Args:
        table: the table of the terms.
        symbols: for each sympy symbol, its term.

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
        """The term of a sympy expression.

        Raises:
            SympyReadError: the expression has an unknown symbol or function, an infinite
                integer, or a fraction that need not be an integer; the message names it.
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

    # Below, `args` are the results of reading `expr.args`.

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
        call = CALL_OF_CLASS.get(expr.func)
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
            why = "the reader does not know that symbol"
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
        raise _refusal(number, "it is not a finite number")

    def _no_integer_meets_infinity(self, expr: Any, args: list[Any]) -> None:
        # Doubles have an infinity; integers have none.
        infinite = [a for a in expr.args if a in _INFINITIES]
        if infinite and any(isinstance(a, _Ratio) or _sort(a) == "int" for a in args):
            raise _refusal(expr, f"an integer cannot be {infinite[0]}")

    # -- operands --

    def _term(self, expr: Any, value: Any) -> Term:
        """An operand that must not be a fraction."""
        if isinstance(value, Term):
            return value
        if isinstance(value, _Ratio):
            raise _refusal(expr, f"({value.num})/({value.den}) in it need not be an integer")
        raise _refusal(expr, "a branch of a Piecewise cannot be an operand")

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
        """``num / den`` in lowest terms: an integer if the form shows that it is one."""
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
            raise _refusal(expr, "the square root is the only fractional power in symfx")
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
            # Both sides are multiplied by the denominators, twice if the sign is not known.
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
