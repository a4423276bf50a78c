"""Questions to the prover as text: ``facts |- conditions``, and the readers of such text.

Facts and conditions are Python expressions, each list separated by semicolons; comparisons may be
chained. Where the facts hold, each condition must hold (``|-``), or each must be open (``|?``):
`test_answers.py` tries both on all small models.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Mapping
from functools import reduce
from types import CodeType
from typing import Any

import compiler_questions
import later_questions
import more_questions

from symfx.algebra import Table, Term

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


def read(text: str, table: Table) -> Term:
    """The term of a Python expression; names that start with r are doubles, others integers."""
    return _read(ast.parse(text.strip(), mode="eval").body, table)


def _read(node: ast.expr, table: Table) -> Term:
    match node:
        case ast.Constant(value):
            return table.const(value)  # type: ignore[arg-type]
        case ast.Name(name):
            return table.symbol(name, "real" if name.startswith("r") else "int")
        case ast.BinOp(left, op, right):
            made: Term = getattr(table, _BINARY[type(op)])(_read(left, table), _read(right, table))
            return made
        case ast.UnaryOp(ast.USub(), operand):
            return table.neg(_read(operand, table))
        case ast.UnaryOp(ast.Not(), operand):
            return table.not_(_read(operand, table))
        case ast.BoolOp(op, values):
            join = table.and_ if isinstance(op, ast.And) else table.or_
            return join(*(_read(value, table) for value in values))
        case ast.Compare(left, ops, rights):
            sides = [_read(side, table) for side in (left, *rights)]
            pairs = zip(ops, sides, sides[1:], strict=False)
            return table.and_(*(_compare(op, a, b, table) for op, a, b in pairs))
        case ast.Call(ast.Name(name), args):
            return _call(name, [_read(arg, table) for arg in args], table)
    raise AssertionError(ast.dump(node))


def _compare(op: ast.cmpop, a: Term, b: Term, table: Table) -> Term:
    match op:
        case ast.Eq():
            return table.eq(a, b)
        case ast.NotEq():
            return table.ne(a, b)
        case ast.Lt():
            return table.lt(a, b)
        case ast.LtE():
            return table.le(a, b)
        case ast.Gt():
            return table.lt(b, a)
    return table.le(b, a)


def _call(name: str, args: list[Term], table: Table) -> Term:
    if name in ("min", "max"):
        combine: Callable[[Term, Term], Term] = getattr(table, name)
        return reduce(combine, args)
    if name == "float":
        return table.to_real(args[0])
    made: Term = getattr(table, name)(*args)
    return made


def split(question: str) -> tuple[list[str], list[str], bool]:
    """The facts, the conditions, and whether these follow (``|-``) or are open (``|?``)."""
    follows = "|-" in question
    known, _, asked = question.partition("|-" if follows else "|?")
    facts = [fact for fact in known.split(";") if fact.strip()]
    return facts, asked.split(";"), follows


@functools.cache
def _compiled(text: str) -> CodeType:
    return compile(text.strip(), "<question>", "eval")


def value(text: str, point: Mapping[str, Any]) -> Any:
    """The value that Python computes; `where` evaluates all its operands."""
    scope = {
        "__builtins__": {},
        "min": min,
        "max": max,
        "abs": abs,
        "float": float,
        "where": _where,
    }
    return eval(_compiled(text), scope, dict(point))


def _where(condition: bool, a: Any, b: Any) -> Any:
    return a if condition else b


QUESTIONS: dict[str, str] = {
    "history": """
0 <= y < 32 |- y % 32 == y
0 <= y < d |- y % d == y
-7 <= y < 0 |- y % 7 == y + 7
0 <= y; y + 2 <= 9 |- (y + 2) % 10 == y + 2
a >= 0; b >= a |- b*b >= a*a
a >= 1; b > a |- b*b > a*a; b*b*b > a*a*b
5 <= y < 10 |- y % 5 == y - 5
a >= b; b >= 0; c >= 0 |- a*a*c >= b*b*c
""",
    "remainders": """
|- (x - x % y) % y == 0
|- x % 2 + (x + 1) % 2 == 1
0 <= a <= 6; b >= 0 |- a % b <= 6
|- x//6*6 + x//3 % 2*3 + x % 3 == x
|- (x - x % 5) % 5 == 0; (x + y - y % 3) % 3 == (x + y//3*3) % 3
|- x % 3 + (x + 1) % 3 + (x + 2) % 3 == 3
|- x//4*4 + x//2 % 2*2 + x % 2 == x
|- x//12*12 + x//4 % 3*4 + x//2 % 2*2 + x % 2 == x
b >= 0; a >= 0 |- a % b <= a
|- (x % y + y) % y == x % y
|- x % 4 - x % 2 <= 2; x % 4 - x % 2 >= 0
|- (x + 1) % 2 <= 1; x % 2 * (x % 2 - 1) == 0
|? x % 2 + (y + 1) % 2 == 1
""",
    "quotients in facts": """
a // -8 > 3 |- a <= -32
(b - a)//8 >= 4 |- b - a >= 32
a//8 >= b; b >= 1 |- a >= 8
a//4 <= b |- a <= 4*b + 3
a//3 + b//2 >= 5; b <= 3 |- a >= 12
2*(a//4) >= b; b >= 5 |- a >= 12
a//5 - b >= 2; b >= a//7 |- a >= 10 or a <= -1 or b >= 1 or b <= 0
(a + b)//6 <= 2; b >= 3 |- a <= 14
a//8 >= b; b >= 1 |- a - 8*b >= 0
a//8 == b |- a >= 8*b; a < 8*b + 8
(b - a)//8 >= 4 |? b - a >= 33
""",
    "symbolic divisors": """
0 <= x < m |- x//m == 0
d >= 1; d*a <= e |- a <= e//d
a <= b; c > 0 |- a//c <= b//c
d >= 1; a <= e//d |- d*a <= e
d >= 1; a > e//d |- d*a > e
d <= -1; d*a >= e |- a <= e//d
a <= b; c < 0 |- a//c >= b//c
0 <= x < m; 0 <= y < m |- x//m == y//m
d >= 1; e >= d |- e//d >= 1
d >= 1; e >= 2*d |- e//d >= 2
x >= 0; m > x |- x % m == x
m >= 1; x >= m; x < 2*m |- x//m == 1; x % m == x - m
a <= b; c > 0 |? a//c < b//c
""",
    "choices in facts": """
max(a, b) == 5 |- a <= 5
max(a, b) >= 6; b <= 3 |- a >= 6
max(a, 2) >= 6 |- a >= 6
min(a, b) == b - min(b, 2); a >= 1; b >= 1 |- b >= 2
min(a, b) <= 2; b >= 5 |- a <= 2
max(a, b) == a; b >= 4 |- a >= 4
abs(a) >= 3; a >= 0 |- a >= 3
where(a > 0, a, b) >= 5; b <= 2 |- a >= 5
max(a, b, 3) >= 8; b <= 7 |- a >= 8
min(a, 3) + b >= 8 |- b >= 5; a + b >= 8
max(a, b) == 5 |? a <= 4
""",
    "linear": """
a + b >= 10; a - b >= 2 |- a >= 6; a != 5; not (a == 4)
a >= 1; b >= 1; 2*a + 3*b <= 10 |- b <= 2; a <= 3; 2*b - a <= 3
x//10 == 5; x % 10 > 7 |- x > 57
a + b + c == 12; a - b >= 2; b - c >= 2 |- a >= 6; c <= 2
3*a + 5*b <= 30; a >= b; b >= 2 |- a <= 6; b <= 3
2*a <= b; 2*b <= c; c <= 11 |- a <= 2
a + 2*b >= 7; 3*a - b <= 2; b <= 4 |- a <= 2; a + b >= 3
x % 6 == 1; y % 4 == 3; x + y <= 9; x >= 0; y >= 3 |- x <= 6
5*a - 3*b >= 4; 2*b - 3*a >= 1 |- a >= 11
a + b >= 10; a - b >= 2 |? a >= 7
""",
    "and or": """
|- (a < b or b < c or c < d) == (c < d or a < b or b < c)
|- not (a < b and b < c and c < d and d < a)
|- not (a < b and b < c and c < d and d < e and e < a)
|- a < b or b < c or c < d or d < e or e <= a
|- (a < b and b < c and c > d) == (c > d and b < c and a < b)
|- a > 0 or b > 0 or c > 0 or a + b + c <= 0
|- a > 3 or a < -3 or a*a <= 9
|- not (a >= 1 and b >= 1 and c >= 1 and a + b + c <= 2)
|? a < b or b < c or c < d
""",
    "boxes": """
0 < x < 4096; 0 < y < 4096 |- x*y < 2048*(x + y)
1 <= x <= 9; 1 <= y <= 9 |- (x - 1)*(y - 1) <= 64; x*y - x - y >= -1
0 <= x <= 100; y >= 0 |- x*y <= 100*y
-5 <= x <= 5; -5 <= y <= 5 |- x*y >= -25; x*y + 5*x + 5*y >= -75
0 <= x <= 7; 0 <= y <= 7 |- 8*x + y <= 63
2 <= x <= 50; 2 <= y <= 50 |- x + y <= x*y; x*y <= 25*(x + y)
0 < x < 64; 0 < y < 64 |? x*y < 31*(x + y)
""",
    "bits": """
x >= 0; y >= 0 |- x & y <= x; x & y >= 0
x >= 0; y >= 0 |- x | y >= x; x | y <= x + y
0 <= x < 8; 0 <= y < 8 |- x ^ y < 8; x | y < 8
|- x & 7 == x % 8; x & 1 <= 1
x >= 0 |- x & 15 <= x
0 <= x < 6; 0 <= y < 20 |- x ^ y < 32; x & y < 6
x >= 0; y >= 0 |- x ^ y <= x | y; x ^ y <= x + y
0 <= x <= 3 |- x & 3 == x
x >= 0; y >= 0 |? x ^ y >= x
""",
    "squares and signs": """
a < b; a*d < b*d |- d > 0
a >= 0; b >= 0; a*a <= b*b |- a <= b
a >= 0; b >= 0; a*a == b*b |- a == b
a < b; a*d > b*d |- d < 0
a >= 1; a*d >= 0 |- d >= 0
a >= 1; a*d <= 0 |- d <= 0
a > b; b >= 0 |- a*a - b*b > 0
a >= 1; b >= 1; a*b == 1 |- a == 1; b == 1
a >= 2; b >= 1; a*b <= 5 |- b <= 2
a < b; a*d < b*d |? d > 1
""",
    "from the tracer": """
b >= 2; s >= 2; b*s % 7 == 0 |- b*s == 7*(b*s//7); b*s//7 >= 1; b*s//(b*s//7) == 7
h == 2*(h//2) |- h//(h//2) == 2
h >= 1; w >= 1; h*w == 4*(h//2)*(w//2) |- h % 2 == 0; w % 2 == 0
|- c*(a//c) == a - a % c
|- 3*(x % 6//3) == x % 6 - x % 3
b >= 2; s >= 2; b*s % 8 == 0 |- 8*(b*s//8) == b*s; b*s//(b*s//8) == 8
h >= 2; h == 4*(h//4) |- h//(h//4) == 4; h >= 4; h % 2 == 0
h >= 1; h*w == 2*(h//2)*w; w >= 1 |- h % 2 == 0
s >= 2; s % 2 == 0 |- s//(s//2) == 2; s*s//(s//2) == 2*s
c >= 1; a % c == 0; a >= 1 |- a >= c; a//c >= 1
""",
    "powers": """
a**3 == b**3 |- a == b; a**2 == b**2; a*c == b*c; a % 2 == b % 2
a**3 < b**3 |- a < b; a**5 < b**5
a**5 <= b**5 |- a <= b
a**3 != b**3 |- a != b
a != b |- a**3 != b**3; a**5 != b**5
a**3 + b**3 == 0 |- a == -b
8*a**3 < 27*b**3 |- 2*a < 3*b
a**3*c == b**3*c; c >= 1 |- a == b
(a + 1)**3 == (b + 1)**3 |- a == b
(a + b)**3 < c**3 |- a + b < c
(a - b)**3 >= 8 |- a >= b + 2
(x//2)**3 == (y//2)**3 |- x//2 == y//2
a >= 0; b >= 0; a**2 == b**2 |- a == b
a >= 0; b >= 0; a**4 < b**4 |- a < b
a >= 0; b >= 0; a**4 >= b**4 |- a >= b
a >= 0; b >= 0; a**6 == b**6 |- a == b
a >= 0; b >= 0; c >= 0; (a + b)**2 == c**2 |- a + b == c
a**2 == b**2; a != b |- a == -b
a**2 != b**2 |- a != b; a != -b
a < b; b <= 0 |- a**4 > b**4
abs(a) == abs(b) |- a*a == b*b
abs(a) < abs(b) |- a*a < b*b
a*a < b*b |- abs(a) < abs(b)
|- abs(a)*abs(a) == a*a
(a - 3)*(a + 4) == 0 |- a == 3 or a == -4
(a - 3)*(a + 4) > 0; a >= 0 |- a >= 4
(2*a - 3)*(a + 4) <= 0 |- a <= 1; a >= -4
max(a, b) != a |- a != b
min(a, 7) != 7 |- a <= 6
a**4 == b**4 |? a == b
a**3 <= b**3 |? a < b
a >= 0; a**2 == b**2 |? a == b
""",
    "masks of high bits": """
|- (x & -16) % 16 == 0; (x & -16) <= x; ((x + 15) & -16) >= x; ((x + 15) & -16) - x <= 15
x % 16 == 0 |- (x & -16) == x
k >= 0 |- ((x << k) >> k) == x
|? (x & -16) >= y
""",
}


_ALL = {
    **QUESTIONS,
    **compiler_questions.QUESTIONS,
    **more_questions.QUESTIONS,
    **later_questions.QUESTIONS,
}


def questions() -> list[tuple[str, str]]:
    """(kind, question) for each line above."""
    return [
        (kind, line) for kind, text in _ALL.items() for line in text.splitlines() if line.strip()
    ]
