"""Terms as Python expressions, which people can read and which compute the value of the term."""

from __future__ import annotations

from collections.abc import Mapping

from symfx.algebra.terms.interpret import relation
from symfx.algebra.terms.sharing import plan
from symfx.algebra.terms.table import MATH_FUNCTIONS, Term
from symfx.algebra.terms.term import postorder

__all__ = ["to_python"]

# How strongly the outermost operation of a text binds, as in Python's grammar.
_OR, _AND, _NOT, _COMPARE, _BITOR, _XOR, _BITAND, _SHIFT, _SUM, _PRODUCT, _UNARY, _POWER, _ATOM = (
    range(13)
)

# Longer texts name the parts that they have more than once.
_LONG = 20_000

_RELATIONS = {"eq": "==", "ne": "!=", "ge": ">=", "le": "<=", "gt": ">", "lt": "<"}
_INFIX = {
    "floordiv": ("//", _PRODUCT),
    "ffloordiv": ("//", _PRODUCT),
    "mod": ("%", _PRODUCT),
    "fmod": ("%", _PRODUCT),
    "truediv": ("/", _PRODUCT),
    "fdiv": ("/", _PRODUCT),
    "fmul": ("*", _PRODUCT),
    "fadd": ("+", _SUM),
    "lshift": ("<<", _SHIFT),
    "rshift": (">>", _SHIFT),
    "bit_and": ("&", _BITAND),
    "bit_xor": ("^", _XOR),
    "bit_or": ("|", _BITOR),
    "feq": ("==", _COMPARE),
    "fle": ("<=", _COMPARE),
    "flt": ("<", _COMPARE),
}
_FUNCTIONS = {
    "min": "min",
    "max": "max",
    "fmin": "min",
    "fmax": "max",
    "abs": "abs",
    "fabs": "abs",
    "to_real": "float",
    "floor": "math.floor",
    "ceil": "math.ceil",
    "trunc": "math.trunc",
    "round": "round",
    "round_int": "round",
    "round_digits": "round",
    **{name: f"math.{name}" for name in MATH_FUNCTIONS},
}


def to_python(term: Term, names: Mapping[Term, str] | None = None) -> str:
    """The term as a Python expression.

    Monomials stand in the order of sympy's printer: highest powers of the alphabetically
    first names first, the constant last. A very long text names the parts that it has more than
    once, as in ``(t0 := x//2, t1 := t0 + t0*y, t1*t1)[-1]``: nested quotients that are rounded
    towards zero would otherwise double their text at each step.

    Args:
        term: the term to print.
        names: the text of a symbol, or of any other term that has a name; other symbols print
            their own names.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); b, s = t.symbol("batch"), t.symbol("seq")
        >>> to_python(2 * s * b - 1)
        '2*batch*seq - 1'
        >>> to_python((s - 1) // 2 >= b, {b: "x.shape[0]"})
        '(seq + 1)//2 > x.shape[0]'
    """
    names = names or {}
    done: dict[Term, tuple[str, int]] = {t: (text, _ATOM) for t, text in names.items()}
    for part in postorder(term, lambda t: t not in done):
        done[part] = printed = _print(part, done)
        if len(printed[0]) > _LONG:
            return _print_with_names(term, names)
    return done[term][0]


def _print_with_names(term: Term, names: Mapping[Term, str]) -> str:
    """`to_python` of a term whose shared parts are computed once, each under a name."""
    done: dict[Term, tuple[str, int]] = {t: (text, _ATOM) for t, text in names.items()}
    taken = {symbol.name for symbol in term.free_symbols}.union(names.values())
    texts = []
    for step in plan([term], taken):
        for part in postorder(step.term, lambda t: t not in done):
            done[part] = _print(part, done)
        text = done[step.term][0] if step.term in done else _print(step.term, done)[0]
        if step.name is not None:
            done[step.term] = step.name, _ATOM
            text = f"{step.name} := {text}"
        texts.append(text)
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})[-1]"


def _bind(done: Mapping[Term, tuple[str, int]], term: Term, least: int) -> str:
    """The text of an operand, in parentheses if it binds more loosely than `least`."""
    text, strength = done[term] if term in done else _print(term, done)
    return f"({text})" if strength < least else text


def _print(term: Term, done: Mapping[Term, tuple[str, int]]) -> tuple[str, int]:
    op = term.op
    if op == "const":
        return _constant(term)
    if op == "symbol":
        return term.name, _ATOM
    if op == "product":
        return _monomial(term, 1, done)
    if op == "sum":
        return _print_sum(term, done)
    if op in ("eq", "ge") or (op == "not" and term.args[0].op == "eq"):
        name, left, right = relation(term)
        sides = (_bind(done, left, _BITOR), _bind(done, right, _BITOR))
        return f"{sides[0]} {_RELATIONS[name]} {sides[1]}", _COMPARE
    if op in _INFIX:
        sign, strength = _INFIX[op]
        left_text = _bind(done, term.args[0], strength + (strength == _COMPARE))
        right_text = _bind(done, term.args[1], strength + 1)
        gap = "" if strength == _PRODUCT and sign != "%" else " "
        return f"{left_text}{gap}{sign}{gap}{right_text}", strength
    if op in ("pow", "fpow"):
        base, exponent = term.args
        return f"{_bind(done, base, _ATOM)}**{_bind(done, exponent, _UNARY)}", _POWER
    if op == "fneg":
        return f"-{_bind(done, term.args[0], _UNARY)}", _UNARY
    if op == "not":
        return f"not {_bind(done, term.args[0], _NOT)}", _NOT
    if op in ("and", "or"):
        strength = _AND if op == "and" else _OR
        return f" {op} ".join(_bind(done, a, strength + 1) for a in term.args), strength
    if op == "where":
        cond, a, b = (_bind(done, x, _OR) for x in term.args)
        return f"({a} if {cond} else {b})", _ATOM
    if op == "is_integer":
        return f"{_bind(done, term.args[0], _ATOM)}.is_integer()", _ATOM
    name = term.args[0] if op == "call" else _FUNCTIONS[op]
    inner = ", ".join(_bind(done, a, _OR) for a in term.operands)
    return f"{name}({inner})", _ATOM


def _constant(term: Term) -> tuple[str, int]:
    value = term.args[0]
    text = repr(value)
    if isinstance(value, float) and text.lstrip("-") in ("inf", "nan"):
        return f"float({text!r})", _ATOM
    return text, _UNARY if text.startswith("-") else _ATOM


def _factor_order(atom: Term, done: Mapping[Term, tuple[str, int]]) -> tuple[bool, str]:
    """The sort key of a factor: plain names first, then operations, both by their text."""
    return atom.op != "symbol", _bind(done, atom, _OR)


def _monomial(term: Term, coeff: int, done: Mapping[Term, tuple[str, int]]) -> tuple[str, int]:
    """The text of ``coeff * term`` for a coefficient that is not -1."""
    powers: dict[Term, int] = {}
    name, strength = done.get(term, ("", _PRODUCT))
    if term.op == "product" and strength == _ATOM:  # it has a name
        return (name, _ATOM) if coeff == 1 else (f"{coeff}*{name}", _PRODUCT)
    for factor in term.factors:
        powers[factor] = powers.get(factor, 0) + 1
    texts = [] if coeff == 1 else [str(coeff)]
    for atom in sorted(powers, key=lambda a: _factor_order(a, done)):
        if powers[atom] > 1:
            texts.append(f"{_bind(done, atom, _ATOM)}**{powers[atom]}")
        else:
            # A division standing first may lose its parentheses, `a//b*c` is (a//b)*c.
            alone = coeff == 1 and len(powers) == 1
            texts.append(_bind(done, atom, _OR if alone else _UNARY))
    if len(powers) == 1 and len(texts) == 1:
        atom, power = next(iter(powers.items()))
        return (texts[0], _POWER) if power > 1 else done.get(atom, (texts[0], _ATOM))
    return "*".join(texts), _PRODUCT


def _print_sum(term: Term, done: Mapping[Term, tuple[str, int]]) -> tuple[str, int]:
    coeffs = term.coeffs
    atoms = sorted({f for m in coeffs for f in m.factors}, key=lambda a: _factor_order(a, done))
    rank = {atom: i for i, atom in enumerate(atoms)}

    def order(monomial: Term) -> list[tuple[int, int]]:
        powers: dict[int, int] = {}
        for factor in monomial.factors:
            powers[rank[factor]] = powers.get(rank[factor], 0) + 1
        # Lexicographic on exponents, highest first; the marker puts x*y before x.
        return [*sorted((i, -p) for i, p in powers.items()), (len(atoms), 0)]

    text = ""
    for monomial in sorted(coeffs, key=order):
        coeff = coeffs[monomial]
        part, strength = _monomial(monomial, abs(coeff), done)
        if strength < _PRODUCT:
            part = f"({part})"
        if text:
            text += f" - {part}" if coeff < 0 else f" + {part}"
        elif coeff < 0:
            # Without parentheses, a minus would bind to the dividend of `a % b` and `a//b`.
            divides = coeff == -1 and strength == _PRODUCT and len(monomial.factors) == 1
            text = f"-({part})" if divides else f"-{part}"
        else:
            text = part
    if term.const:
        text += f" - {-term.const}" if term.const < 0 else f" + {term.const}"
    elif len(coeffs) == 1:
        ((monomial, coeff),) = coeffs.items()
        # -x*y reads as (-x)*y: a product, to be put in parentheses as one.
        return text, _UNARY if coeff == -1 and len(set(monomial.factors)) == 1 else _PRODUCT
    return text, _SUM
