"""Terms as C, which computes the value that Python computes or says that it cannot.

An integer is an ``int128``. Every operation whose result 128 bits cannot hold sets ``bad``; so does
each operation for which Python raises. A result counts only if ``bad`` is not set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

from symfx.algebra.terms.interpret import MIXED, mixed_comparison, relation
from symfx.algebra.terms.sharing import Step, print_bottom_up
from symfx.algebra.terms.table import MATH_FUNCTIONS, Scalar, Term
from symfx.errors import ExpressionError
from symfx.untrusted import one_line

__all__ = ["C_SUPPORT", "c_comment", "c_function", "to_c"]

C_TYPES = {"int": "int128", "real": "double", "bool": "bool"}

C_SUPPORT = r"""#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Python's arithmetic. *bad is set where Python raises and where 128 bits are too few.
   Doubles are rounded after each operation: compile with -ffp-contract=off. */
typedef __int128 int128;

static inline int128 py_add(int128 a, int128 b, bool *bad) {
    int128 r;
    *bad |= __builtin_add_overflow(a, b, &r);
    return r;
}
static inline int128 py_mul(int128 a, int128 b, bool *bad) {
    int128 r;
    *bad |= __builtin_mul_overflow(a, b, &r);
    return r;
}
static inline int128 py_neg(int128 a, bool *bad) {
    int128 r;
    *bad |= __builtin_sub_overflow((int128)0, a, &r);
    return r;
}
/* a // b and a % b: rounded down, so that the remainder has the sign of b. */
static inline int128 py_floordiv(int128 a, int128 b, bool *bad) {
    if (b == 0) { *bad = true; return 0; }
    if (b == -1) return py_neg(a, bad);
    return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}
static inline int128 py_mod(int128 a, int128 b, bool *bad) {
    if (b == 0) { *bad = true; return 0; }
    if (b == -1) return 0;
    return a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
}
static inline int128 py_power(int128 a, int128 n, bool *bad) {
    int128 r = 1;
    if (n < 0) { *bad = true; return 0; }
    if (a == 0 || a == 1) return n ? a : 1;
    if (a == -1) return n % 2 ? -1 : 1;
    for (; n; n--) {
        r = py_mul(r, a, bad);
        if (*bad) return 0;
    }
    return r;
}
static inline int128 py_lshift(int128 a, int128 n, bool *bad) {
    return n < 0 || a ? py_mul(a, py_power(2, n, bad), bad) : 0;
}
static inline int128 py_rshift(int128 a, int128 n, bool *bad) {
    if (n < 0) { *bad = true; return 0; }
    return n > 126 ? -(a < 0) : a >> n;
}
static inline int128 py_absolute(int128 a, bool *bad) { return a < 0 ? py_neg(a, bad) : a; }
static inline int128 py_least(int128 a, int128 b) { return b < a ? b : a; }
static inline int128 py_most(int128 a, int128 b) { return b > a ? b : a; }
/* a to a multiple of unit, half to even; `more` says that a is a little further from zero. */
static inline int128 py_round_to(int128 a, int128 unit, bool more, bool *bad) {
    int128 q = py_floordiv(a, unit, bad), r = py_mod(a, unit, bad), half = unit - r;
    bool up = r > half || (r == half && (more ? a > 0 : q % 2 != 0));
    return py_mul(py_add(q, up, bad), unit, bad);
}

/* Doubles. A function sets *bad where it makes NaN or infinity out of other numbers. */
/* These two are functions because GCC otherwise takes 0.0 - (double)a for -(double)a, and
   -fabs(a) + 0.0 for -fabs(a), which for a = 0 are zeros of different signs. */
static inline double py_float(int128 a) { return (double)a; }
static inline double py_minus(double a) { return -a; }
static inline double py_call(double function(double), double a, bool *bad) {
    double r = function(a);
    *bad |= (isnan(r) && !isnan(a)) || (isinf(r) && isfinite(a));
    return r;
}
static inline double py_fleast(double a, double b) { return b < a ? b : a; }
static inline double py_fmost(double a, double b) { return b > a ? b : a; }
static inline double py_fdiv(double a, double b, bool *bad) {
    if (b == 0) { *bad = true; return 0; }
    return a / b;
}
static inline double py_fmodulo(double a, double b, bool *bad) {
    if (b == 0) { *bad = true; return 0; }
    double r = fmod(a, b);
    if (r == 0) return copysign(0.0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}
static inline double py_ffloordiv(double a, double b, bool *bad) {
    if (b == 0) { *bad = true; return 0; }
    double r = fmod(a, b), q = (a - r) / b;
    if (r != 0 && (r < 0) != (b < 0)) q -= 1.0;
    if (q == 0) return copysign(0.0, a / b);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1.0 : whole;
}
static inline double py_fpower(double a, double b, bool *bad) {
    double r = pow(a, b);
    bool finite = isfinite(a) && isfinite(b);
    *bad |= (a == 0 && b < 0) || (finite && !isfinite(r));
    return r;
}
/* a / b of integers: the double nearest to the exact quotient. */
static inline double py_truediv(int128 a, int128 b, bool *bad) {
    const int128 limit = (int128)1 << 63;
    if (b == 0 || a <= -limit || a >= limit || b <= -limit || b >= limit) {
        *bad = true;
        return 0;
    }
    bool negative = (a < 0) != (b < 0);
    unsigned __int128 n = a < 0 ? -a : a, d = b < 0 ? -b : b;
    int shift = 0;
    /* 56 bits or more of quotient; the last bit says whether there is a rest. */
    while (n && n < d << 56) { n <<= 1; shift++; }
    double r = ldexp((double)(n / d | (n % d != 0)), -shift);
    return negative ? -r : r;
}
static inline int128 py_to_integer(double a, bool *bad) {
    if (!(fabs(a) < 0x1p126)) { *bad = true; return 0; }
    return (int128)a;
}
/* The sign of a - b, exactly, for b that is not NaN. */
static inline int py_order(int128 a, double b) {
    if (b >= 0x1p127) return -1;
    if (b < -0x1p127) return 1;
    double whole = floor(b);
    if (a != (int128)whole) return a < (int128)whole ? -1 : 1;
    return whole < b ? -1 : 0;
}
static inline bool py_int_eq(int128 a, double b) { return !isnan(b) && py_order(a, b) == 0; }
static inline bool py_int_le(int128 a, double b) { return !isnan(b) && py_order(a, b) <= 0; }
static inline bool py_int_lt(int128 a, double b) { return !isnan(b) && py_order(a, b) < 0; }
static inline bool py_int_ge(int128 a, double b) { return !isnan(b) && py_order(a, b) >= 0; }
static inline bool py_int_gt(int128 a, double b) { return !isnan(b) && py_order(a, b) > 0; }
static inline bool py_is_integer(double a) { return isfinite(a) && floor(a) == a; }
static inline double py_round_digits(double a, int128 digits, bool *bad) {
    char text[400];
    if (!isfinite(a) || digits > 323) return a;
    if (digits < -308) return copysign(0.0, a);
    if (digits >= 0) {
        /* Decimal digits are few where a is large, and of a double exact. */
        if (fabs(a) >= 0x1p53) return a;
        snprintf(text, sizeof text, "%.*f", (int)digits, a);
        return strtod(text, NULL);
    }
    int128 whole = py_to_integer(trunc(a), bad);
    if (digits < -38) return copysign(0.0, a);
    return copysign((double)py_round_to(whole, py_power(10, -digits, bad), a != trunc(a), bad), a);
}
"""

# The longest text of an expression. One that repeats its parts within each other grows without end.
_LONGEST = 1_000_000

_CALLS = {
    "floordiv": "py_floordiv",
    "mod": "py_mod",
    "pow": "py_power",
    "lshift": "py_lshift",
    "rshift": "py_rshift",
    "abs": "py_absolute",
    "fdiv": "py_fdiv",
    "truediv": "py_truediv",
    "ffloordiv": "py_ffloordiv",
    "fmod": "py_fmodulo",
    "fpow": "py_fpower",
    "round_digits": "py_round_digits",
}
_EXTREMA = {"min": "py_least", "max": "py_most", "fmin": "py_fleast", "fmax": "py_fmost"}
_ROUNDED = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "nearbyint"}
_INFIX = {
    "eq": "==",
    "ne": "!=",
    "ge": ">=",
    "le": "<=",
    "gt": ">",
    "lt": "<",
    "feq": "==",
    "fle": "<=",
    "flt": "<",
    "fadd": "+",
    "fmul": "*",
    "bit_and": "&",
    "bit_or": "|",
    "bit_xor": "^",
}
_ONE_OPERAND = {
    "not": "!{}",
    "fneg": "py_minus({})",
    "fabs": "fabs({})",
    "to_real": "py_float({})",
    "is_integer": "py_is_integer({})",
}


def to_c(term: Term, names: Mapping[Term, str] | None = None) -> str:
    """The term as a C expression, over the functions of `C_SUPPORT` and a ``bool bad``.

    Args:
        term: the term to print.
        names: the text of a symbol, or of any other term that is a variable in C.

    Returns:
        An expression of type ``int128``, ``double`` or ``bool``. It has the value that Python
        computes, unless its evaluation sets ``bad``.

    Raises:
        ExpressionError: the term has an uninterpreted function, or a constant of more than 127
            bits, or its text is longer than a million characters.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); b, s = t.symbol("batch"), t.symbol("seq")
        >>> to_c((2 * s + 1) // b >= 4)
        'py_floordiv(py_add(py_mul(2, seq, &bad), 1, &bad), batch, &bad) >= 4'
    """
    done: dict[Term, str] = dict(names or {})
    return print_bottom_up(term, done, _print_short)


def _print_short(term: Term, done: Mapping[Term, str]) -> str:
    text = _print(term, done)
    if len(text) > _LONGEST:
        raise ExpressionError(
            f"the C text of a {term.op} is longer than {_LONGEST:,} characters: an expression "
            "writes a part as often as it is used",
            fix="print a program by c_function, which computes such parts once, of the steps of "
            "symfx.algebra.terms.sharing.plan",
        )
    return text


def _print(term: Term, done: Mapping[Term, str]) -> str:
    op = term.op
    if op == "const":
        return _constant(term.args[0])
    if op == "symbol":
        return term.name
    if op == "call":
        raise ExpressionError(
            f"{term} calls {term.name}, an uninterpreted function, which has no code in C",
            fix="print it by to_smtlib, which declares such functions, or leave it out",
        )
    if op == "product":
        return _chain("py_mul", [done[t] for t in term.args])
    if op == "sum":
        parts = [
            done[m] if c == 1 else _chain("py_mul", [_constant(c), done[m]])
            for m, c in term.coeffs.items()
        ]
        return _chain("py_add", [*parts, _constant(term.const)] if term.const else parts)
    if op in ("eq", "ge") or (op == "not" and term.args[0].op == "eq"):
        op, *sides = relation(term)
        args = [done[t] for t in sides]
    else:
        args = [done[t] for t in term.args]
    if op in MIXED and term.args[0].sort != term.args[1].sort:
        name, (x, r) = mixed_comparison(term)
        return f"py_int_{name}({done[x]}, {done[r]})"
    if op in _INFIX:
        return f"{_operand(args[0])} {_INFIX[op]} {_operand(args[1])}"
    if op in _EXTREMA:
        return reduce(lambda a, b: f"{_EXTREMA[op]}({a}, {b})", args)
    if op in _CALLS:
        return f"{_CALLS[op]}({', '.join(args)}, &bad)"
    if op in _ROUNDED:
        return f"py_to_integer({_ROUNDED[op]}({args[0]}), &bad)"
    if op in MATH_FUNCTIONS:
        return f"py_call({op}, {args[0]}, &bad)"
    if op in ("and", "or"):
        return {"and": " && ", "or": " || "}[op].join(_operand(a) for a in args)
    if op == "where":
        cond, a, b = (_operand(x) for x in args)
        return f"({cond} ? {a} : {b})"
    if op == "round_int":
        unit = _constant(10 ** -int(term.args[1].const))
        return f"py_round_to({args[0]}, {unit}, false, &bad)"
    return _ONE_OPERAND[op].format(_operand(args[0]))


def _chain(function: str, args: list[str]) -> str:
    return reduce(lambda a, b: f"{function}({a}, {b}, &bad)", args)


def _operand(text: str) -> str:
    """A text as an operand: in parentheses, unless it is a name, a number or a call."""
    depth = 0
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0 and (letter in " -!" or (letter == ")" and i + 1 < len(text))):
            return f"({text})"
    return text


def _constant(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value):
            return "(double)NAN"
        if math.isinf(value):
            return "(double)INFINITY" if value > 0 else "-(double)INFINITY"
        return repr(value)
    if abs(value) < 1 << 31:
        return str(value)
    if abs(value) < 1 << 63:
        return f"INT64_C({value})"
    if abs(value) >= 1 << 126:
        raise ExpressionError(f"{value} is too large for C's integers of 128 bits")
    high, low = divmod(abs(value), 1 << 63)
    sign = "-" if value < 0 else ""
    return f"({sign}(((int128)INT64_C({high}) << 63) + INT64_C({low})))"


def c_comment(text: str) -> str:
    """A text on one line that a C comment can hold: it neither ends nor starts a comment.

    Example:
        >>> c_comment("x['*/ int f(void); /*']")
        "x['* / int f(void); / *']"
    """
    return one_line(text).replace("*/", "* /").replace("/*", "/ *")


def c_function(
    name: str,
    parameters: Sequence[tuple[str, str]],
    steps: Sequence[Step],
    names: Mapping[Term, str],
    comments: Mapping[Term, str] | None = None,
) -> str:
    """A C function that says whether all conditions of a program hold; it needs `C_SUPPORT`.

    A condition that Python cannot compute (a division by 0), or for which 128 bits are too few,
    counts as one that does not hold.

    Args:
        name: the function's name.
        parameters: its parameters, each a type of C and a name.
        steps: the program, as `symfx.algebra.terms.sharing.plan` makes it.
        names: the names of symbols in C.
        comments: the comment on a condition.
    """
    known = dict(names)
    lines = [f"bool {name}({', '.join(f'{kind} {p}' for kind, p in parameters) or 'void'}) {{"]
    lines.append("    bool bad = false;")
    for step in steps:
        text = to_c(step.term, known)
        if step.name is not None:
            lines.append(f"    {C_TYPES[step.term.sort]} {step.name} = {text};")
            known[step.term] = step.name
            continue
        said = (comments or {}).get(step.term)
        remark = f"  /* {c_comment(said)} */" if said else ""
        lines.append(f"    if (!({text}) || bad) return false;{remark}")
    lines += ["    return !bad;", "}"]
    return "\n".join(lines) + "\n"
