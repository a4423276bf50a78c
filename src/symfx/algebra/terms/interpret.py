"""Taking terms apart: one level of a term, a term run by a table of operations, its value."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

from symfx.algebra.terms.table import MATH_FUNCTIONS, Scalar, Table, Term
from symfx.algebra.terms.term import postorder

__all__ = [
    "MIXED",
    "PYTHON_OPS",
    "as_operation",
    "evaluate",
    "interpret",
    "make",
    "mixed_comparison",
    "rebuild",
    "relation",
    "substitute",
]


def relation(condition: Term) -> tuple[str, Term, Term]:
    """An integer comparison as people write it: (operator, left side, right side).

    The operator is ``"eq"``, ``"ne"``, ``"ge"``, ``"le"``, ``"gt"`` or ``"lt"``. The negative
    parts of the normal form ``p >= 0`` stand on the right.

    Raises:
        ValueError: the condition does not compare integers.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); a, b = t.symbol("a"), t.symbol("b")
        >>> relation((a - b).eq(0))
        ('eq', <int a>, <int b>)
        >>> relation(t.ge_zero(a - b - 1))
        ('gt', <int a>, <int b>)
    """
    negated = condition.op == "not"
    inner: Term = condition.args[0] if negated else condition
    if inner.op not in ("eq", "ge"):
        raise ValueError(f"{condition} is not an integer comparison")
    table = inner.table
    p: Term = inner.args[0]
    plus = {m: c for m, c in p.coeffs.items() if c > 0}
    minus = {m: -c for m, c in p.coeffs.items() if c < 0}
    const = p.const
    if inner.op == "eq":
        left, right = table.linear(plus), table.linear(minus)
        if not plus:
            left, right = right, table.const(const)
        elif const > 0 and minus:
            left, right = right, table.add(left, table.const(const))
        else:
            right = table.add(right, table.const(-const))
        return ("ne" if negated else "eq"), left, right
    if not plus:  # k - m >= 0
        return "le", table.linear(minus), table.const(const)
    if not minus:  # m >= -k
        return "ge", table.linear(plus), table.const(-const)
    if const == -1:
        return "gt", table.linear(plus), table.linear(minus)
    if const > 0:
        return "ge", table.linear(plus, const), table.linear(minus)
    return "ge", table.linear(plus), table.linear(minus, -const)


MIXED = ("feq", "fle", "flt")
"""The comparisons of doubles, one of whose operands may be an integer."""


def mixed_comparison(condition: Term) -> tuple[str, tuple[Term, Term]]:
    """A comparison of an integer with a double: (operator, (the integer, the double))."""
    a, b = condition.args
    name = condition.op[1:]
    if a.sort == "int":
        return name, (a, b)
    return {"eq": "eq", "le": "ge", "lt": "gt"}[name], (b, a)


def as_operation(term: Term) -> tuple[str, tuple[Any, ...]]:
    """A term as one operation on the terms below it.

    A constant is ``("const", (value,))``, a symbol ``("symbol", (name,))``, an uninterpreted
    function ``("call", (name, *operands))``. A sum is ``("add", parts)``, a part with a
    coefficient ``("mul", (coefficient, *factors))``; a comparison has both its sides. All
    other operations have the name and operands of the term.
    """
    op = term.op
    if op == "sum":
        table = term.table
        coeffs = term.coeffs
        if len(coeffs) == 1 and not term.const:
            ((monomial, coeff),) = coeffs.items()
            return "mul", (table.const(coeff), *monomial.factors)
        parts = [table.linear({m: c}) for m, c in coeffs.items()]
        if term.const:
            parts.append(table.const(term.const))
        return "add", tuple(parts)
    if op == "product":
        return "mul", term.args
    if op in ("eq", "ge") or (op == "not" and term.args[0].op == "eq"):
        name, left, right = relation(term)
        return name, (left, right)
    return op, term.args


def _prod(*values: Any) -> Any:
    return reduce(operator.mul, values)


def _sum(*values: Any) -> Any:
    return reduce(operator.add, values)


PYTHON_OPS: dict[str, Callable[..., Any]] = {
    "add": _sum,
    "mul": _prod,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "abs": operator.abs,
    "min": min,
    "max": max,
    "where": lambda cond, a, b: a if cond else b,
    "bit_and": operator.and_,
    "bit_or": operator.or_,
    "bit_xor": operator.xor,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "to_real": float,
    "fadd": operator.add,
    "fmul": operator.mul,
    "fneg": operator.neg,
    "fabs": operator.abs,
    "fdiv": operator.truediv,
    "truediv": operator.truediv,
    "ffloordiv": operator.floordiv,
    "fmod": operator.mod,
    "fpow": operator.pow,
    "fmin": min,
    "fmax": max,
    "floor": math.floor,
    "ceil": math.ceil,
    "trunc": math.trunc,
    "round": round,
    "round_int": round,
    "round_digits": round,
    "is_integer": float.is_integer,
    "eq": operator.eq,
    "ne": operator.ne,
    "ge": operator.ge,
    "le": operator.le,
    "gt": operator.gt,
    "lt": operator.lt,
    "feq": operator.eq,
    "fle": operator.le,
    "flt": operator.lt,
    "not": operator.not_,
    "and": lambda *values: all(values),
    "or": lambda *values: any(values),
    **{name: getattr(math, name) for name in MATH_FUNCTIONS},
}
"""For each operation of `as_operation`, its function of Python numbers."""


def interpret(
    term: Term,
    leaf: Callable[[Term], Any],
    ops: Mapping[str, Callable[..., Any]] | None = None,
    memo: dict[Term, Any] | None = None,
) -> Any:
    """Run a term bottom-up, each shared part once, without recursion.

    Args:
        term: the term to run.
        leaf: the function that gives the value of a symbol.
        ops: the function of each operation, `PYTHON_OPS` by default. ``ops["const"]`` and
            ``ops["call"]`` (called with the function's name and the operands) are optional.
        memo: values of terms that are known already; the call adds those that it finds.

    Raises:
        KeyError: `ops` lacks an operation, which the message names.
    """
    ops = PYTHON_OPS if ops is None else ops
    values: dict[Term, Any] = {} if memo is None else memo
    const = ops.get("const")
    stack = [term]
    while stack:
        top = stack[-1]
        if top in values:
            stack.pop()
            continue
        if top.op == "symbol":
            values[top] = leaf(top)
            continue
        op, args = as_operation(top)
        if op == "const":
            values[top] = args[0] if const is None else const(args[0])
            continue
        waiting = [a for a in args if isinstance(a, Term) and a not in values]
        if waiting:
            stack.extend(reversed(waiting))
            continue
        handler = ops.get(op)
        if handler is None:
            raise KeyError(f"no operation {op!r} to interpret {top}")
        values[top] = handler(*(values[a] if isinstance(a, Term) else a for a in args))
    return values[term]


# The bits of the largest integer that `evaluate` computes.
_MOST_BITS = 100_000


def _check_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise OverflowError(f"an integer of {bits} bits")


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > 0:
        _check_bits(base.bit_length() * exponent)
    result = base**exponent
    if isinstance(result, complex):
        raise ValueError(f"{base} to the power of {exponent} is no real number")
    return result


def _shifted_left(value: int, count: int) -> int:
    if value and count > 0:
        _check_bits(value.bit_length() + count)
    return value << count


_BOUNDED_OPS = {**PYTHON_OPS, "pow": _power, "fpow": _power, "lshift": _shifted_left}


def evaluate(
    term: Term, values: Mapping[Term, Scalar], memo: dict[Term, Any] | None = None
) -> Scalar:
    """The value that Python computes for a term, given the values of its symbols.

    Args:
        term: the term.
        values: the value of each symbol.
        memo: values of terms that are known already; the call adds those that it finds.

    Raises:
        KeyError: a symbol has no value, or the term calls an uninterpreted function.
        ZeroDivisionError, ValueError, OverflowError: as Python raises them. An integer of more
            than 100,000 bits is an OverflowError too: it could take all memory.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); s = t.symbol("s")
        >>> evaluate((s + 1) // 2, {s: 8})
        4
    """
    done: dict[Term, Any] = {} if memo is None else memo
    for part in postorder(term, lambda t: t not in done):
        op = part.op
        if op == "symbol":
            if part not in values:
                raise KeyError(f"no value for {part.name}")
            done[part] = values[part]
        elif op == "const":
            done[part] = part.args[0]
        elif op == "sum":
            total = part.const
            for monomial, coeff in part.coeffs.items():
                total += coeff * done[monomial]
            done[part] = total
        elif op == "product":
            product = _prod(*[done[factor] for factor in part.args])
            if isinstance(product, int):  # of integers to negative powers it is a double
                _check_bits(product.bit_length())
            done[part] = product
        elif op == "eq":
            done[part] = done[part.args[0]] == 0
        elif op == "ge":
            done[part] = done[part.args[0]] >= 0
        elif op == "call":
            raise KeyError(f"{part.name} is an uninterpreted function, so {part} has no value")
        else:
            done[part] = _BOUNDED_OPS[op](*[done[a] for a in part.args])
    result: Scalar = done[term]
    return result


def rebuild(term: Term, parts: Mapping[Term, Term]) -> Term:
    """The term with each operand one level below replaced by its entry in `parts`."""
    table = term.table
    op = term.op
    if op == "sum":
        scaled = [table.mul(table.const(c), parts[m]) for m, c in term.coeffs.items()]
        return table.add(table.sum(scaled), table.const(term.const))
    if op == "call":
        return table.call(term.args[0], term.sort, *(parts[a] for a in term.args[1:]))
    return make(table, op, [parts[a] for a in term.args])


def make(table: Table, op: str, operands: Sequence[Term]) -> Term:
    """The term in normal form of an operation, which is named as `Term.op` names it.

    The table itself makes constants, symbols, sums and uninterpreted functions, which are more
    than an operation with operands.

    Raises:
        KeyError: no operation has that name.
    """
    combine: dict[str, Callable[[Term, Term], Term]] = {
        "product": table.mul,
        "fadd": table.add,
        "fmul": table.mul,
        "min": table.min,
        "max": table.max,
        "fmin": table.min,
        "fmax": table.max,
    }
    if op in combine:
        return reduce(combine[op], operands)
    if op in ("round_int", "round_digits"):
        return table.round(operands[0], operands[1].const)
    if op in MATH_FUNCTIONS:
        return table.function(op, operands[0])
    made: dict[str, Callable[..., Term]] = {
        "floordiv": table.floordiv,
        "ffloordiv": table.floordiv,
        "mod": table.mod,
        "fmod": table.mod,
        "pow": _integer_power,
        "fpow": table.pow,
        "abs": table.abs,
        "fabs": table.abs,
        "where": table.where,
        "bit_and": table.bit_and,
        "bit_or": table.bit_or,
        "bit_xor": table.bit_xor,
        "lshift": table.lshift,
        "rshift": table.rshift,
        "to_real": table.to_real,
        "fneg": table.neg,
        "fdiv": table.truediv,
        "truediv": table.truediv,
        "floor": table.floor,
        "ceil": table.ceil,
        "trunc": table.trunc,
        "round": table.round,
        "is_integer": table.is_integer,
        "feq": table.eq,
        "fle": table.le,
        "flt": table.lt,
        "not": table.not_,
        "and": table.and_,
        "or": table.or_,
        "eq": lambda p: table.eq(p, table.zero),
        "ge": table.ge_zero,
    }
    return made[op](*operands)


def _integer_power(a: Term, b: Term) -> Term:
    """a ** b of integers, which has no value where b is negative."""
    if b.op == "const" and b.const < 0:
        raise ValueError(f"({a}) ** {b} is not an integer")
    return a.table.pow(a, b)


def substitute(
    term: Term, mapping: Mapping[Term, Term], memo: dict[Term, Term] | None = None
) -> Term:
    """The term with symbols (or whole atoms) replaced, in normal form again.

    Nothing is replaced within a replacement: ``{a: b, b: a}`` swaps.

    Args:
        term: the term.
        mapping: for each symbol or atom to replace, the term of equal sort to put there.
        memo: results of earlier calls with the same mapping; the call adds those that it finds.
    """
    done: dict[Term, Term] = {} if memo is None else memo
    done.update(mapping)
    for part in postorder(term, lambda t: t not in done):
        if part.op in ("const", "symbol") or not any(
            done[below] is not below for below in part.operands
        ):
            done[part] = part
        else:
            done[part] = rebuild(part, done)
    return done[term]
