"""Every rewrite of the algebra's constructors and of the prover, one named rule a line.

The left side is the text of a program, and the right side is its normal form. `x`, `y`, `z` stand for any
integer, `p` and `q` for any condition, `r` and `s` for any double; a constant in braces takes
each of the values listed for it. A rule holds wherever its left side is defined.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    name: str
    left: str
    right: str
    consts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def instances(self) -> Iterator[tuple[str, str]]:
        """Both sides with each choice of constants."""
        for values in itertools.product(*self.consts.values()):
            given = {n: f"({v})" for n, v in zip(self.consts, values, strict=True)}
            yield self.left.format(**given), self.right.format(**given)

    def __str__(self) -> str:
        return self.name


C = (1, 2, 3, 6)  # constants above zero
N = (-5, -2, -1, 0, 1, 2, 3)  # any constants


def rule(name: str, left: str, right: str, **consts: tuple[int, ...]) -> Rule:
    return Rule(name, left, right, consts)


SUMS = [
    rule("addition commutes", "x + y", "y + x"),
    rule("addition associates", "(x + y) + z", "x + (y + z)"),
    rule("equal monomials are counted", "x + x + x", "3*x"),
    rule("opposites cancel", "(x + y) - x", "y"),
    rule("subtraction adds the negated", "x - y", "x + -1*y"),
    rule("negation is a factor", "-x", "-1*x"),
    rule("zero is no summand", "x + 0", "x"),
    rule("constants add", "(x + {a}) + {b}", "x + ({a} + {b})", a=N, b=N),
]

PRODUCTS = [
    rule("multiplication commutes", "x * y", "y * x"),
    rule("multiplication associates", "(x * y) * z", "x * (y * z)"),
    rule("multiplication distributes", "x * (y + z)", "x*y + x*z"),
    rule("sums multiply out", "(x + {a})*(y + {b})", "x*y + {b}*x + {a}*y + {a}*{b}", a=N, b=N),
    rule("zero absorbs", "x * 0", "0"),
    rule("one is no factor", "x * 1", "x"),
    rule("small powers are products", "x ** 3", "x * x * x"),
    rule("power 0 is 1", "x ** 0", "1"),
    rule("power 1 is the base", "x ** 1", "x"),
    rule("powers of sums multiply out", "(x + y) ** 2", "x*x + 2*x*y + y*y"),
    rule("powers of 1 are 1", "1 ** abs(x)", "1"),
]

DIVISIONS = [
    rule("// 1", "x // 1", "x"),
    rule("0 // y", "0 // y", "0"),
    rule("a negative divisor negates the dividend", "x // -{c}", "(-x) // {c}", c=C),
    rule("a whole part leaves //", "({c}*x + y) // {c}", "x + y // {c}", c=C),
    rule(
        "coefficients leave their remainder",
        "({a}*x + {k}) // {c}",
        "({a}//{c})*x + {k}//{c} + (({a}%{c})*x + {k}%{c}) // {c}",
        a=N,
        k=N,
        c=C,
    ),
    rule(
        "common divisors of coefficients and divisor cancel",
        "({g}*x + {k}) // ({g}*{d})",
        "(x + {k}//{g}) // {d}",
        g=C,
        d=C,
        k=N,
    ),
    rule(
        "quotients of quotients",
        "(x//{d} + {k}) // {c}",
        "(x + {k}*{d}) // ({c}*{d})",
        c=C,
        d=C,
        k=N,
    ),
    rule("whole multiples of a divisor", "(y*x + z) // y", "x + z // y"),
    rule(
        "whole multiples of a scaled divisor", "({c}*y*x + z) // ({c}*y)", "x + z // ({c}*y)", c=N
    ),
    rule("whole multiples of a sum", "({k}*(x + y) + z) // (x + y)", "{k} + z // (x + y)", k=N),
    rule("a divisor's sign moves to the dividend", "x // (-y)", "(-x) // y"),
    rule("a divisor's leading sign moves too", "z // (y - x)", "(-z) // (x - y)"),
    rule("x // x", "x // x", "1"),
    rule("x // -x", "x // (-x)", "-1"),
    rule("common factors cancel", "(x*y) // (z*y)", "x // z"),
    rule("common constants cancel", "({g}*x) // ({g}*y)", "x // y", g=(-3, -1, 2, 4)),
    rule("a shared factor of sums cancels", "(x*y + 2*x) // (x*z)", "(y + 2) // z"),
    rule("exact quotients of polynomials", "((x + y)*(x - y)) // (x + y)", "x - y"),
    rule("exact quotients of higher powers", "((x + 1)*(x + 1)*(y + 2)) // (x + 1)", "(x+1)*(y+2)"),
    rule("x >> k", "x >> {k}", "x // 2**{k}", k=(0, 1, 3)),
    rule("0 << x", "0 << abs(x)", "0"),
    rule("0 >> x", "0 >> abs(x)", "0"),
    rule("-1 >> x", "-1 >> abs(x)", "-1"),
    rule("x << k", "x << {k}", "2**{k} * x", k=(0, 1, 3)),
]

REMAINDERS = [
    rule("% 1", "x % 1", "0"),
    rule("0 % y", "0 % y", "0"),
    rule("a negative modulus negates", "x % -{c}", "-((-x) % {c})", c=C),
    rule(
        "coefficients are taken modulo",
        "({a}*x + {k}) % {c}",
        "(({a}%{c})*x + {k}%{c}) % {c}",
        a=N,
        k=N,
        c=C,
    ),
    rule("a multiple's remainder inside", "(x % ({c}*{d}) + y) % {c}", "(x + y) % {c}", c=C, d=C),
    rule(
        "scaled remainder inside",
        "({a}*(x % ({c}*{d})) + y) % {c}",
        "({a}*x + y) % {c}",
        a=N,
        c=C,
        d=C,
    ),
    rule(
        "a common divisor leaves",
        "({g}*x + {k}) % ({g}*{d})",
        "{g}*((x + {k}//{g}) % {d}) + {k}%{g}",
        g=C,
        d=C,
        k=N,
    ),
    rule("small remainders stay", "(x % {d}) % ({d} + {k})", "x % {d}", d=C, k=(0, 1, 4)),
    rule("whole multiples of a modulus", "(y*x + z) % y", "z % y"),
    rule("whole multiples of a scaled modulus", "({c}*y*x + z) % ({c}*y)", "z % ({c}*y)", c=N),
    rule("whole multiples of a sum leave %", "({k}*(x + y) + z) % (x + y)", "z % (x + y)", k=N),
    rule("a modulus's sign moves out", "x % (-y)", "-((-x) % y)"),
    rule("a modulus's leading sign moves too", "z % (y - x)", "-((-z) % (x - y))"),
    rule("x % x", "x % x", "0"),
    rule("x % -x", "x % (-x)", "0"),
    rule("common factors leave %", "(x*y) % (z*y)", "y * (x % z)"),
    rule("common constants leave %", "({g}*x) % ({g}*y)", "{g} * (x % y)", g=(-3, -1, 2, 4)),
    rule("a shared factor of sums leaves %", "(x*y + 2*x) % (x*z)", "x * ((y + 2) % z)"),
    rule("exact multiples of polynomials", "((x + y)*(x - y)) % (x + y)", "0"),
]

EXTREMES = [
    rule("min commutes", "min(x, y)", "min(y, x)"),
    rule("max commutes", "max(x, y)", "max(y, x)"),
    rule("min associates", "min(min(x, y), z)", "min(x, min(y, z))"),
    rule("max associates", "max(max(x, y), z)", "max(x, max(y, z))"),
    rule("min of equals", "min(x, x)", "x"),
    rule("max of equals", "max(x, x)", "x"),
    rule("min decides by the constant", "min(x + {a}, x + {b})", "x + min({a}, {b})", a=N, b=N),
    rule("max decides by the constant", "max(x + {a}, x + {b})", "x + max({a}, {b})", a=N, b=N),
    rule("min decides inside", "min(min(x, y), x + {a})", "min(x + min(0, {a}), y)", a=N),
    rule("max decides inside", "max(max(x, y), x + {a})", "max(x + max(0, {a}), y)", a=N),
    rule("min absorbs max", "min(x, max(x, y))", "x"),
    rule("max absorbs min", "max(x, min(x, y))", "x"),
    rule("min absorbs among others", "min(min(x, z), max(z, y))", "min(x, z)"),
    rule("abs of abs", "abs(abs(x))", "abs(x)"),
    rule("abs loses a sign", "abs(-x)", "abs(x)"),
    rule("abs loses the sign of a sum", "abs(y - x)", "abs(x - y)"),
    rule("abs of a multiple", "abs({a}*x)", "abs({a}) * abs(x)", a=N),
    rule("abs of a common divisor", "abs({c}*x + 2*{c}*y - 3*{c})", "{c} * abs(x + 2*y - 3)", c=C),
]

CHOICES = [
    rule("where of a known condition", "where(True, x, y)", "x"),
    rule("where of a refuted condition", "where(False, x, y)", "y"),
    rule("where of equals", "where(p, x, x)", "x"),
    rule("where of a negation", "where(not p, x, y)", "where(p, y, x)"),
    rule("where of !=", "where(x != y, x, z)", "where(x == y, z, x)"),
    rule("where of conditions", "where(p, q, x > 0)", "(p & q) | ((not p) & (x > 0))"),
    rule("where casts a condition", "where(p, q, x)", "where(p, where(q, 1, 0), x)"),
    rule("booleans count as 0 and 1 in sums", "p + x", "where(p, 1, 0) + x"),
    rule("booleans count as 0 and 1 in products", "p * q", "where(p, 1, 0) * where(q, 1, 0)"),
    rule("booleans count in differences", "p - q", "where(p, 1, 0) - where(q, 1, 0)"),
    rule("the negative of a boolean", "-p", "-where(p, 1, 0)"),
    rule("the absolute value of a boolean", "abs(p)", "where(p, 1, 0)"),
    rule("quotients by booleans", "x // p", "x // where(p, 1, 0)"),
    rule("remainders by booleans", "x % p", "x % where(p, 1, 0)"),
    rule("the smaller of a boolean", "min(p, x)", "min(where(p, 1, 0), x)"),
    rule("a boolean equals an integer", "p == x", "where(p, 1, 0) == x"),
    rule("a boolean is less than an integer", "p < x", "where(p, 1, 0) < x"),
]

BITS = [
    rule("& commutes", "x & y", "y & x"),
    rule("| commutes", "x | y", "y | x"),
    rule("^ commutes", "x ^ y", "y ^ x"),
    rule("& of equals", "x & x", "x"),
    rule("| of equals", "x | x", "x"),
    rule("^ of equals", "x ^ x", "0"),
    rule("& 0", "x & 0", "0"),
    rule("& -1", "x & -1", "x"),
    rule("& of a mask of low bits", "x & {m}", "x % ({m} + 1)", m=(1, 3, 7, 31)),
    rule("& of a mask of high bits", "x & -{m}", "x - x % {m}", m=(2, 4, 32)),
    rule("a shift and its opposite", "(x << abs(y)) >> abs(y)", "x"),
    rule("& of one of its operands", "x & (x & y)", "x & y"),
    rule("| of one of its operands", "x | (y | x)", "x | y"),
    rule("^ of one of its operands", "x ^ (x ^ y)", "y"),
    rule("& absorbs |", "x & (y | x)", "x"),
    rule("| absorbs &", "x | (x & y)", "x"),
    rule("| 0", "x | 0", "x"),
    rule("| -1", "x | -1", "-1"),
    rule("^ 0", "x ^ 0", "x"),
    rule("^ of conditions", "p ^ q", "(p & (not q)) | ((not p) & q)"),
    rule("a condition among bits", "p & x", "where(p, 1, 0) & x"),
]

COMPARISONS = [
    rule("== moves to one side", "x == y", "x - y == 0"),
    rule("== is symmetric", "x == y", "y == x"),
    rule("== loses a common divisor", "{c}*x == 2*{c}*y + 3*{c}", "x == 2*y + 3", c=C),
    rule("== of incongruent sides", "{c}*x == {c}*y + 1", "False", c=(2, 3, 6)),
    rule("== of equals", "x + y == y + x", "True"),
    rule("== of neighbors", "x == x + 1", "False"),
    rule("!= negates ==", "x != y", "not (x == y)"),
    rule("> turns around", "x > y", "y < x"),
    rule("< is <= of the neighbor", "x < y", "x + 1 <= y"),
    rule(">= moves to one side", "x >= y", "x - y >= 0"),
    rule(">= of a multiple", "{c}*x + {k} >= 0", "x + {k}//{c} >= 0", c=C, k=N),
    rule("<= of a multiple", "{k} - {c}*x >= 0", "{k}//{c} - x >= 0", c=C, k=N),
    rule(">= of equals", "x >= x", "True"),
    rule("> of equals", "x > x", "False"),
    rule("not >=", "not (x >= y)", "x < y"),
    rule("not >", "not (x > y)", "x <= y"),
    rule("not not", "not (not p)", "p"),
    rule("not of and", "not (p & q)", "(not p) | (not q)"),
    rule("not of or", "not (p | q)", "(not p) & (not q)"),
    rule("and commutes", "p & q", "q & p"),
    rule("or commutes", "p | q", "q | p"),
    rule("and of equals", "p & p", "p"),
    rule("or of equals", "p | p", "p"),
    rule("and True", "p & True", "p"),
    rule("and False", "p & False", "False"),
    rule("or True", "p | True", "True"),
    rule("or False", "p | False", "p"),
    rule("a condition and its negation", "p & (not p)", "False"),
    rule("a condition or its negation", "p | (not p)", "True"),
    rule("conditions and their negation", "(p | q) | ((not p) & (not q))", "True"),
    rule("conditions against their negation", "(p & q) & ((not p) | (not q))", "False"),
    rule("a disjunction and itself", "(p | q) == (q | p)", "True"),
    rule("an order and its negation", "(x > y) & (x <= y)", "False"),
    rule("an order or its negation", "(x > y) | (x <= y)", "True"),
    rule("and flattens", "(p & q) & (x > 0)", "p & (q & (x > 0))"),
    rule("or flattens", "(p | q) | (x > 0)", "p | (q | (x > 0))"),
    rule("== of conditions", "p == q", "((not p) | q) & (p | (not q))"),
    rule("a cast condition is 1", "where(p, 1, 0) == 1", "p"),
    rule("a cast condition is 0", "where(p, 1, 0) == 0", "not p"),
    rule("a cast condition is neither", "where(p, 1, 0) == 2", "False"),
    rule("a cast condition is above 0", "where(p, 1, 0) > 0", "p"),
    rule(
        "constants by cases, ==",
        "{c}*where(p, {a}, {b}) == {k}",
        "where(p, {c}*{a} == {k}, {c}*{b} == {k})",
        a=N,
        b=N,
        c=(1, 2),
        k=N,
    ),
    rule(
        "constants by cases, >=",
        "where(p, {a}, {b}) >= {k}",
        "where(p, {a} >= {k}, {b} >= {k})",
        a=N,
        b=N,
        k=N,
    ),
]

INTEGERS_AMONG_ROUNDINGS = [
    rule("floor of an integer", "floor(x)", "x"),
    rule("ceil of an integer", "ceil(x)", "x"),
    rule("trunc of an integer", "trunc(x)", "x"),
    rule("round of an integer", "round(x)", "x"),
    rule("round of an integer to digits", "round(x, {n})", "x", n=(0, 1, 3)),
    rule("an integer is one", "is_integer(float(x))", "True"),
    rule("x / 1", "x / 1", "float(x)"),
    rule("integers among doubles", "x + r", "float(x) + r"),
    rule("integers times doubles", "x * r", "float(x) * r"),
    rule("doubles less integers", "r - x", "r + -float(x)"),
    rule("doubles over integers", "r / x", "r / float(x)"),
    rule("doubles // integers", "r // x", "r // float(x)"),
    rule("doubles % integers", "r % x", "r % float(x)"),
    rule("integers equal to doubles", "x == r", "r == x"),
    rule("integers above doubles", "x > r", "r < x"),
    rule("integers at least doubles", "x >= r", "r <= x"),
    rule("integers below a fraction", "x < {k} + 0.5", "x <= {k}", k=N),
    rule("integers at most a fraction", "x <= {k} + 0.5", "x <= {k}", k=N),
    rule("integers above a fraction", "x > {k} + 0.5", "x > {k}", k=N),
    rule("integers at least a fraction", "x >= {k} + 0.5", "x > {k}", k=N),
    rule("integers equal to a fraction", "x == {k} + 0.5", "False", k=N),
    rule("integers below a whole double", "x < {k} * 1.0", "x < {k}", k=N),
    rule("integers at most a whole double", "x <= {k} * 1.0", "x <= {k}", k=N),
    rule("integers above a whole double", "x > {k} * 1.0", "x > {k}", k=N),
    rule("integers at least a whole double", "x >= {k} * 1.0", "x >= {k}", k=N),
    rule("integers equal to a whole double", "x == {k} * 1.0", "x == {k}", k=N),
    rule("cast integers below a fraction", "float(x) < {k} + 0.5", "x <= {k}", k=N),
    rule("cast integers at most a whole double", "float(x) <= {k} * 1.0", "x <= {k}", k=N),
    rule("cast integers above a whole double", "float(x) > {k} * 1.0", "x > {k}", k=N),
    rule("cast integers equal to a whole double", "float(x) == {k} * 1.0", "x == {k}", k=N),
    rule("cast integers equal to a fraction", "float(x) == {k} + 0.5", "False", k=N),
    rule("integers below a large double", "x < 1e300", "x < 10**300 + (int(1e300) - 10**300)"),
    rule("a constant integer below doubles", "{k} < r", "{k} * 1.0 < r", k=N),
    rule("a constant integer at most doubles", "{k} <= r", "{k} * 1.0 <= r", k=N),
    rule("doubles below a constant integer", "r < {k}", "r < {k} * 1.0", k=N),
    rule("doubles below an integer that none is", "r < 2**53 + 1", "r <= 2.0**53"),
    rule("doubles at most an integer that none is", "r <= 2**53 + 3", "r < 2.0**53 + 4.0"),
    rule("doubles above an integer that none is", "r > 2**53 + 1", "r > 2.0**53"),
    rule("doubles at least an integer that none is", "r >= 2**53 + 3", "r >= 2.0**53 + 4.0"),
    rule("doubles equal to an integer that none is", "r == 2**53 + 1", "False"),
    rule("conditions among doubles", "p + r", "float(where(p, 1, 0)) + r"),
]

DOUBLES = [
    rule("doubles add either way", "r + s", "s + r"),
    rule("doubles multiply either way", "r * s", "s * r"),
    rule("doubles subtract by negation", "r - s", "r + (-s)"),
    rule("minus minus", "-(-r)", "r"),
    rule("abs abs of doubles", "abs(abs(r))", "abs(r)"),
    rule("doubles are equal either way", "r == s", "s == r"),
    rule("doubles differ either way", "r != s", "not (s == r)"),
    rule("doubles > turn around", "r > s", "s < r"),
    rule("doubles >= turn around", "r >= s", "s <= r"),
]

# Identities by which the prover writes a condition in another form; the constructors do not.
FORMS = [
    rule("a remainder by its quotient", "x % y", "x - y*(x // y)"),
    rule("a multiple of a divisor divides once more", "x // ({c}*y)", "x // y // {c}", c=C),
    rule("a dividend less a multiple", "({c}*x + y) // 6", "((({c}-6)*x + y) // 6) + x", c=(4, 5)),
    rule("a difference of squares", "x*x - y*y", "(x - y)*(x + y)"),
    rule("odd powers keep the order", "x**{n} < y**{n}", "x < y", n=(3, 5, 7)),
    rule("odd powers of different numbers differ", "x**{n} == y**{n}", "x == y", n=(3, 5, 7)),
    rule("fourth powers keep the order of squares", "x**4 < y**4", "x*x < y*y"),
    rule("odd powers of opposites", "x**{n} + y**{n} > 0", "x + y > 0", n=(3, 5, 7)),
    rule(
        "even powers",
        "x**{n} - y**{n}",
        "(x**({n}//2) - y**({n}//2))*(x**({n}//2) + y**({n}//2))",
        n=(4, 6),
    ),
    rule(
        "a quadratic by its roots",
        "4*{a}*({a}*x*x + {b}*x - 1)",
        "(2*{a}*x + {b})**2 - {b}*{b} - 4*{a}",
        a=C,
        b=N,
    ),
    rule("the square of an absolute value", "abs(x)*abs(x)", "x*x"),
    rule("a square of a sum", "x*x + 2*{a}*x*y + {a}*{a}*y*y", "(x + {a}*y)**2", a=N),
    rule("the square of an integer", "x*x >= x", "True"),
    rule("a quotient at least", "x//{c} + y >= 0", "x + {c}*y >= 0", c=C),
    rule("a quotient at most", "y >= x//{c}", "{c}*y + {c} - 1 - x >= 0", c=C),
    rule("a quotient equal", "x//{c} == y", "({c}*y <= x) & (x <= {c}*y + {c} - 1)", c=C),
    rule("a quotient by a symbol at least", "x//(y*y + 1) >= z", "x >= z*(y*y + 1)"),
    rule(
        "a digit and the rest",
        "{c}*x + y % {c} - z % {c} == 0",
        "(x == 0) & (y % {c} - z % {c} == 0)",
        c=C,
    ),
    rule("a product of two sums", "x*y + {a}*x + {b}*y + {a}*{b}", "(x + {b})*(y + {a})", a=N, b=N),
]
FORMS_OF_BITS = [
    rule("| by &", "x | y", "x + y - (x & y)"),
    rule("^ by &", "x ^ y", "x + y - 2*(x & y)"),
    rule("| by the opposites", "x | y", "-1 - ((-1 - x) & (-1 - y))"),
    rule("^ of an opposite", "x ^ y", "-1 - ((-1 - x) ^ y)"),
    rule("& of a multiple and a smaller number", "({m}*x) & (y % {m})", "0", m=(1, 2, 4, 8)),
    rule("& of a mask of bits", "x & 12", "x % 16 - x % 4"),
    rule("& of a mask of bits in two runs", "x & 13", "x % 16 - x % 4 + x % 2"),
    rule("& of a mask of all other bits", "x & -13", "x - (x % 16 - x % 4)"),
    rule("| of a mask of bits", "x | 12", "x + 12 - (x % 16 - x % 4)"),
    rule("^ of a mask of bits", "x ^ 12", "x + 12 - 2*(x % 16 - x % 4)"),
]
# Exponents that are not negative.
FORMS_OF_POWERS = [
    rule("a constant leaves an exponent", "2**(abs(x) + {k})", "2**{k} * 2**abs(x)", k=(0, 1, 3)),
    rule("a power of a power", "4**abs(x)", "2**abs(x) * 2**abs(x)"),
    rule("a power of a sum", "3**(abs(x) + abs(y))", "3**abs(x) * 3**abs(y)"),
    rule("a shift to the left", "x << abs(y)", "x * 2**abs(y)"),
    rule("a shift to the right", "x >> abs(y)", "x // 2**abs(y)"),
    rule("powers keep the order", "2**abs(x) < 2**abs(y)", "abs(x) < abs(y)"),
    rule("a power at most", "2**abs(x) <= {k}", "abs(x) < {d}", k=(8, 15), d=(4,)),
    rule("a power at least", "3**abs(x) >= {k}", "abs(x) >= {d}", k=(10, 27), d=(3,)),
    rule("cast integers keep the order", "float(x) < float(y)", "x < y"),
]

_BY_Z3 = [*SUMS, *PRODUCTS, *DIVISIONS, *REMAINDERS, *EXTREMES, *CHOICES, *COMPARISONS]
_BY_GRID_ALONE = [*BITS, *INTEGERS_AMONG_ROUNDINGS, *DOUBLES]
REWRITES = [*_BY_Z3, *_BY_GRID_ALONE]
BY_Z3 = [*_BY_Z3, *FORMS]
ALL = [*REWRITES, *FORMS, *FORMS_OF_BITS, *FORMS_OF_POWERS]
