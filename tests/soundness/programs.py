"""Little programs, as Python source: run by Python itself, built as terms, translated for z3.

Python's own evaluation of the source gives the meaning of a program; the algebra takes no part
in it. Conditionals are written ``where(c, a, b)`` and conjunctions
``c & d``, because both sides of them count: a program is undefined at a point where any
part of it raises.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache, reduce
from types import CodeType
from typing import Any

import z3

from symfx.algebra import Table, Term

Point = Mapping[str, Any]


class UndefinedError(Exception):
    """The program has no value at this point."""


# -- run by Python -------------------------------------------------------------------------------


def _where(condition: bool, a: Any, b: Any) -> Any:
    value = a if condition else b
    return float(value) if isinstance(a, float) or isinstance(b, float) else value


MATH = ("sqrt", "exp", "log", "cos", "atan", "log10", "log1p", "expm1", "asinh", "acosh", "atanh")
FUNCTIONS: dict[str, Any] = {
    "where": _where,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "is_integer": lambda x: x.is_integer(),
    "min": min,
    "max": max,
    "abs": abs,
    "float": float,
    "int": int,
    "round": round,
    **{name: getattr(math, name) for name in MATH},
}
_REAL_FUNCTIONS = ("float", "floor", "ceil", "trunc", *MATH)
_SCOPE = {"__builtins__": {}, **FUNCTIONS}
# Programs with integers of more bits count as undefined.
_BITS = 4096


@cache
def _compiled(source: str) -> CodeType:
    return compile(source, "<program>", "eval")


def run(source: str, point: Point) -> Any:
    """The value that Python computes; UndefinedError if it raises or leaves the real numbers."""
    try:
        value = eval(_compiled(source), _SCOPE, dict(point))
    except (ZeroDivisionError, ValueError, OverflowError) as error:
        raise UndefinedError from error
    except TypeError as error:
        # A negative base under a fractional power gives a complex number, without order or floor.
        if "complex" in str(error):
            raise UndefinedError from error
        raise
    if isinstance(value, complex) or (type(value) is int and value.bit_length() > _BITS):
        raise UndefinedError
    return value


def same(a: Any, b: Any) -> bool:
    """Equal values, down to NaN and the sign of zero; True counts as 1."""
    if isinstance(a, float) or isinstance(b, float):
        if not (isinstance(a, float) and isinstance(b, float)):
            return False
        if math.isnan(a) or math.isnan(b):
            return math.isnan(a) and math.isnan(b)
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


def points(names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All points of a grid given by the values of each name."""
    for values in itertools.product(*names.values()):
        yield dict(zip(names, values, strict=True))


# -- built from other operations -----------------------------------------------------------------

_BINARY = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.FloorDiv: "floordiv",
    ast.Mod: "mod",
    ast.Div: "truediv",
    ast.Pow: "pow",
    ast.BitAnd: "bit_and",
    ast.BitOr: "bit_or",
    ast.BitXor: "bit_xor",
    ast.LShift: "lshift",
    ast.RShift: "rshift",
}
_COMPARE = {
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}


def walk(source: str, names: Mapping[str, Any], ops: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of the program with `ops` for its operations; ``ops["const"]`` makes its constants."""

    def visit(node: ast.AST) -> Any:
        if isinstance(node, ast.Expression):
            return visit(node.body)
        if isinstance(node, ast.Constant):
            return ops["const"](node.value)
        if isinstance(node, ast.Name):
            return names[node.id]
        if isinstance(node, ast.BinOp):
            return ops[_BINARY[type(node.op)]](visit(node.left), visit(node.right))
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
                return ops["const"](-node.operand.value)
            return ops["neg" if isinstance(node.op, ast.USub) else "not"](visit(node.operand))
        if isinstance(node, ast.Compare):
            (op,), (right,) = node.ops, node.comparators
            return ops[_COMPARE[type(op)]](visit(node.left), visit(right))
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return ops[node.func.id](*map(visit, node.args))
        raise AssertionError(ast.dump(node))

    return visit(ast.parse(source, mode="eval"))


def build(source: str, table: Table, names: Mapping[str, Term]) -> Term:
    """The program as a term, made by the table's operations."""

    def fold(combine: Callable[[Term, Term], Term]) -> Callable[..., Term]:
        return lambda *terms: reduce(combine, terms)

    def digits(a: Term, n: Term | None = None) -> Term:
        return table.round(a, None if n is None else n.const)

    ops: dict[str, Callable[..., Term]] = {
        name: getattr(table, name)
        for name in (
            *("const", "add", "sub", "mul", "neg", "floordiv", "mod", "truediv", "pow", "abs"),
            *("bit_and", "bit_or", "bit_xor", "lshift", "rshift", "where", "eq", "ne", "lt", "le"),
            *("floor", "ceil", "trunc", "is_integer"),
        )
    }
    ops |= {
        "gt": lambda a, b: table.lt(b, a),
        "ge": lambda a, b: table.le(b, a),
        "not": table.not_,
        "min": fold(table.min),
        "max": fold(table.max),
        "float": table.to_real,
        "int": lambda a: table.trunc(a) if a.sort == "real" else table.to_int(a),
        "round": digits,
    }
    ops |= {f: (lambda a, f=f: table.function(f, a)) for f in MATH}
    term: Term = walk(source, names, ops)
    return term


# -- for z3 ------------------------------------------------------------------------------------------


class BeyondZ3Error(Exception):
    """An operation that is not translated for z3."""


class Z3Program:
    """A program of integers and booleans for z3, with the conditions under which it is defined.

    z3's own division rounds so that the remainder is never negative; Python's rounds down.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names
        self.defined: list[Any] = []

    def read(self, source: str) -> Any:
        return walk(source, self.names, self._ops())

    def _floordiv(self, a: Any, b: Any) -> Any:
        a, b = as_int(a), as_int(b)
        self.defined.append(b != 0)
        return z3.If(b > 0, a / b, (-a) / (-b))

    def _mod(self, a: Any, b: Any) -> Any:
        return as_int(a) - as_int(b) * self._floordiv(a, b)

    def _pow(self, a: Any, b: Any) -> Any:
        count = self._constant(b)
        return reduce(operator.mul, [as_int(a)] * count, z3.IntVal(1))

    def _shift(self, b: Any) -> Any:
        return z3.IntVal(2 ** self._constant(b))

    def _constant(self, a: Any) -> int:
        value = z3.simplify(as_int(a))
        if not z3.is_int_value(value):
            raise BeyondZ3Error("an exponent that depends on symbols")
        return int(value.as_long())

    @staticmethod
    def _real(*args: Any) -> Any:
        raise BeyondZ3Error("doubles")

    def _const(self, value: Any) -> Any:
        if isinstance(value, float):
            self._real()
        return z3.BoolVal(value) if isinstance(value, bool) else z3.IntVal(value)

    def _ops(self) -> dict[str, Callable[..., Any]]:
        def ints(combine: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *args: combine(*map(as_int, args))

        def logical(of_bools: Callable[..., Any]) -> Callable[..., Any]:
            def combined(a: Any, b: Any) -> Any:
                if not (z3.is_bool(a) and z3.is_bool(b)):
                    raise BeyondZ3Error("bit operations of integers")
                return of_bools(a, b)

            return combined

        def equal(a: Any, b: Any) -> Any:
            return a == b if z3.is_bool(a) and z3.is_bool(b) else as_int(a) == as_int(b)

        return {
            **dict.fromkeys(("truediv", "round", "is_integer", *_REAL_FUNCTIONS), self._real),
            "const": self._const,
            "add": ints(operator.add),
            "sub": ints(operator.sub),
            "mul": ints(operator.mul),
            "neg": ints(operator.neg),
            "floordiv": self._floordiv,
            "mod": self._mod,
            "pow": self._pow,
            "lshift": lambda a, b: as_int(a) * self._shift(b),
            "rshift": lambda a, b: self._floordiv(a, self._shift(b)),
            "min": ints(lambda *args: reduce(lambda a, b: z3.If(b < a, b, a), args)),
            "max": ints(lambda *args: reduce(lambda a, b: z3.If(b > a, b, a), args)),
            "abs": ints(lambda a: z3.If(a < 0, -a, a)),
            "where": lambda c, a, b: (
                z3.If(c, a, b)
                if z3.is_bool(a) and z3.is_bool(b)
                else z3.If(c, as_int(a), as_int(b))
            ),
            "int": as_int,
            "eq": equal,
            "ne": lambda a, b: z3.Not(equal(a, b)),
            "lt": ints(operator.lt),
            "le": ints(operator.le),
            "gt": ints(operator.gt),
            "ge": ints(operator.ge),
            "not": z3.Not,
            "bit_and": logical(z3.And),
            "bit_or": logical(z3.Or),
            "bit_xor": logical(z3.Xor),
        }


def as_int(value: Any) -> Any:
    """A boolean of z3 as 0 or 1."""
    return z3.If(value, z3.IntVal(1), z3.IntVal(0)) if z3.is_bool(value) else value


def z3_names(ints: str = "", bools: str = "") -> dict[str, Any]:
    """Fresh z3 constants by name."""
    return {**{n: z3.Int(n) for n in ints}, **{n: z3.Bool(n) for n in bools}}


# -- made at random --------------------------------------------------------------------------------

INTS, BOOLS, REALS = ("x", "y", "z"), ("p", "q"), ("r", "s")
SORTS: dict[str, Any] = {
    **dict.fromkeys(INTS, "int"),
    **dict.fromkeys(BOOLS, "bool"),
    **dict.fromkeys(REALS, "real"),
}

# One operation a line. hypothesis shrinks towards the plain ones, which come first. I, B and R
# stand for a program of that sort, K for a small constant above zero.
_INT = """
I + I;I - I;I * I;K*I + K;I // K;I % K;I // -K;I % -K;I // I;I % I;min(I, I);max(I, I);abs(I);-I;
where(B, I, I);I ** 2;I ** 3;I ** (I % 4);I & I;I | I;I ^ I;I << (I % 4);I >> (I % 4);I >> 1;
K*I;(I + K) // K;(I*I + I) // I;(K*I) % (K*I);B + I;B * I;int(B);B + B;I // B;min(B, I);
min(I, max(I, I));max(I, I + K);floor(R);ceil(R);trunc(R);round(R);round(I, -1);-B
"""
_BOOL = """
I < I;I <= I;I > I;I >= I;I == I;I != I;B & B;B | B;not B;B ^ B;B == B;B != B;where(B, B, B);
K*I >= K;K*I == K*I + K;I % K == 0;R < R;R <= R;R == R;R != R;R >= R;is_integer(R);I < R;B == I
"""
_REAL = """
float(I);R + R;R - R;R * R;R / R;I / I;-R;abs(R);min(R, R);max(R, R);where(B, R, R);R + I;I * R;
R // R;R % R;R - I;I / K;I - R;R / I;where(B, R, I);round(R, 1);float(B);sqrt(abs(R));atan(R);
R ** 2.0;I // R;cos(R);I ** -1;B * R
"""
_WAYS = {
    "I": [w.strip() for w in _INT.replace("\n", "").split(";")],
    "B": [w.strip() for w in _BOOL.replace("\n", "").split(";")],
    "R": [w.strip() for w in _REAL.replace("\n", "").split(";")],
}
_LEAVES = {
    "I": [*INTS, "0", "1", "2", "-1", "3", "-2", "7"],
    "B": [*BOOLS, "x < y", "x == z", "True"],
    "R": [*REALS, "0.5", "-0.0", "2.0", "1e10", "float(x)"],
}


def random_program(
    choose: Callable[[int], int], sort: str, depth: int, *, exclude: frozenset[str] = frozenset()
) -> str:
    """A program of sort "I", "B" or "R"; ``choose(n)`` picks one of ``range(n)``."""
    leaves = _LEAVES[sort]
    if depth <= 0:
        return leaves[choose(len(leaves))]
    ways = [w for w in _WAYS[sort] if not exclude.intersection(w)]
    way = choose(len(ways) + 2)
    if way < 2:
        return leaves[choose(len(leaves))]
    parts = []
    for letter in ways[way - 2]:
        if letter in _WAYS:
            part = random_program(choose, letter, depth - 1, exclude=exclude)
            parts.append(f"({part})" if len(part) > 1 else part)
        elif letter == "K":
            parts.append("123468"[choose(6)])
        else:
            parts.append(letter)
    return "".join(parts)


def sample_points(seed: int, count: int) -> list[dict[str, Any]]:
    """Points for the symbols of random programs: small numbers of both signs, zero often."""
    picks = random.Random(seed)
    reals = (0.0, -0.0, 0.5, 1.0, -1.5, 2.0, 3.7, -4.0, 1e10, math.inf, -math.inf, math.nan)
    made = []
    for i in range(count):
        wide = 3 if i % 2 else 12
        made.append(
            {n: picks.randint(-wide, wide) for n in INTS}
            | {n: picks.random() < 0.5 for n in BOOLS}
            | {n: picks.choice(reals) for n in REALS}
        )
    return made


def symbols(table: Table) -> dict[str, Term]:
    """The symbols of random programs."""
    return {name: table.symbol(name, sort) for name, sort in SORTS.items()}
