"""Terms as SMT-LIB 2.6, for any solver: integers as Int, doubles as Float64, Python's rounding.

SMT-LIB's functions are total, so the text of a term has some value where Python raises. A
script asserts each condition and, beside it, that the condition is defined
(`symfx.algebra.terms.definedness`).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce

from symfx.algebra.terms.definedness import definedness
from symfx.algebra.terms.interpret import MIXED, mixed_comparison, relation
from symfx.algebra.terms.sharing import plan, print_bottom_up
from symfx.algebra.terms.table import MATH_FUNCTIONS, Scalar, Term
from symfx.algebra.terms.term import postorder
from symfx.untrusted import one_line

__all__ = ["SMTLIB_SUPPORT", "smtlib_script", "to_smtlib"]

SORTS = {"int": "Int", "real": "Float64", "bool": "Bool"}

#: Bit operations are exact for integers of so many bits, powers for exponents of so many.
_BITS_OF_INTS, _POWER_BITS = 64, 6


def _unrolled(name: str, depth: int, last: str, step: str) -> dict[str, str]:
    """A function that halves an argument, as a chain of functions that each call the one below.

    z3 defines a recursive function once in a context, so a second script could not be read in it.
    What is left after `depth` steps is an uninterpreted function: a proof without its value holds.

    Args:
        name: the function.
        depth: the number of steps.
        last: the body without a step, which calls ``{rest}``.
        step: the body of a step, which calls ``{below}``.
    """
    signature = "((a Int) (b Int)) Int"
    lines = [
        f"(declare-fun {name}.rest (Int Int) Int)",
        f"(define-fun {name}.0 {signature}\n  {last.format(rest=f'({name}.rest a b)')})",
    ]
    for i in range(1, depth):
        lines.append(
            f"(define-fun {name}.{i} {signature}\n  {step.format(below=f'{name}.{i - 1}')})"
        )
    lines.append(f"(define-fun {name} {signature} ({name}.{depth - 1} a b))")
    return {name: "\n".join(lines)}


SMTLIB_SUPPORT: dict[str, str] = {
    "py.floordiv": """(define-fun py.floordiv ((a Int) (b Int)) Int
  (ite (> b 0) (div a b) (div (- a) (- b))))""",
    "py.mod": """(define-fun py.mod ((a Int) (b Int)) Int
  (ite (> b 0) (mod a b) (- (mod (- a) (- b)))))""",
    **_unrolled(
        "py.pow",
        _POWER_BITS,
        "(ite (<= b 0) 1 {rest})",
        "(ite (<= b 0) 1 (let ((root ({below} a (div b 2))))\n"
        "    (ite (= (mod b 2) 0) (* root root) (* a (* root root)))))",
    ),
    **_unrolled(
        "py.and",
        _BITS_OF_INTS,
        "(ite (or (= a 0) (= b 0)) 0 (ite (= a (- 1)) b (ite (= b (- 1)) a {rest})))",
        "(ite (or (= a 0) (= b 0)) 0 (ite (= a (- 1)) b (ite (= b (- 1)) a\n"
        "    (+ (* 2 ({below} (div a 2) (div b 2))) (* (mod a 2) (mod b 2))))))",
    ),
    "py.or": "(define-fun py.or ((a Int) (b Int)) Int (- (+ a b) (py.and a b)))",
    "py.xor": "(define-fun py.xor ((a Int) (b Int)) Int (- (+ a b) (* 2 (py.and a b))))",
    "py.min": "(define-fun py.min ((a Int) (b Int)) Int (ite (< b a) b a))",
    "py.max": "(define-fun py.max ((a Int) (b Int)) Int (ite (> b a) b a))",
    "py.round_int": """(define-fun py.round_int ((a Int) (unit Int)) Int
  (let ((q (div a unit)) (r (* 2 (mod a unit))))
    (* unit (+ q (ite (or (> r unit) (and (= r unit) (= (mod q 2) 1))) 1 0)))))""",
    "py.float": "(define-fun py.float ((a Int)) Float64 ((_ to_fp 11 53) RNE (to_real a)))",
    "py.signed": """(define-fun py.signed ((a Float64) (negative Bool)) Float64
  (ite negative (fp.neg (fp.abs a)) (fp.abs a)))""",
    "py.truediv": """(define-fun py.truediv ((a Int) (b Int)) Float64
  (py.signed ((_ to_fp 11 53) RNE (/ (to_real a) (to_real b))) (not (= (< a 0) (< b 0)))))""",
    "py.fmin": "(define-fun py.fmin ((a Float64) (b Float64)) Float64 (ite (fp.lt b a) b a))",
    "py.fmax": "(define-fun py.fmax ((a Float64) (b Float64)) Float64 (ite (fp.gt b a) b a))",
    "py.remainder": """(define-fun py.remainder ((a Float64) (b Float64)) Float64
  (let ((x (fp.to_real (fp.abs a))) (y (fp.to_real (fp.abs b))))
    (ite (or (fp.isNaN a) (fp.isNaN b) (fp.isInfinite a)) (_ NaN 11 53)
      (ite (fp.isInfinite b) a
        (py.signed ((_ to_fp 11 53) RNE (- x (* y (to_real (to_int (/ x y))))))
                   (fp.isNegative a))))))""",
    "py.fmod": """(define-fun py.fmod ((a Float64) (b Float64)) Float64
  (let ((r (py.remainder a b)))
    (ite (fp.isZero r) (py.signed r (fp.isNegative b))
      (ite (= (fp.isNegative r) (fp.isNegative b)) r (fp.add RNE r b)))))""",
    "py.ffloordiv": """(define-fun py.ffloordiv ((a Float64) (b Float64)) Float64
  (let ((r (py.remainder a b)))
    (let ((p (fp.div RNE (fp.sub RNE a r) b)))
      (let ((q (ite (or (fp.isZero r) (= (fp.isNegative r) (fp.isNegative b))) p
                    (fp.sub RNE p ((_ to_fp 11 53) RNE 1.0)))))
        (let ((whole (fp.roundToIntegral RTN q)))
          (ite (fp.isZero q) (py.signed q (not (= (fp.isNegative a) (fp.isNegative b))))
            (ite (fp.gt (fp.sub RNE q whole) ((_ to_fp 11 53) RNE 0.5))
                 (fp.add RNE whole ((_ to_fp 11 53) RNE 1.0)) whole)))))))""",
    "py.floor": "(define-fun py.floor ((a Float64)) Int (to_int (fp.to_real a)))",
    "py.ceil": "(define-fun py.ceil ((a Float64)) Int (- (to_int (- (fp.to_real a)))))",
    "py.trunc": """(define-fun py.trunc ((a Float64)) Int
  (to_int (fp.to_real (fp.roundToIntegral RTZ a))))""",
    "py.round": """(define-fun py.round ((a Float64)) Int
  (to_int (fp.to_real (fp.roundToIntegral RNE a))))""",
    "py.round_digits": """(define-fun py.round_digits ((a Float64) (scale Real)) Float64
  (let ((x (* scale (fp.to_real a))))
    (let ((q (to_int x)))
      (let ((rest (- x (to_real q))))
        (let ((whole (+ q (ite (or (> rest 0.5) (and (= rest 0.5) (= (mod q 2) 1))) 1 0))))
          (ite (or (fp.isNaN a) (fp.isInfinite a)) a
            (py.signed ((_ to_fp 11 53) RNE (/ (to_real whole) scale))
                       (fp.isNegative a))))))))""",
    "py.is_integer": """(define-fun py.is_integer ((a Float64)) Bool
  (and (not (fp.isNaN a)) (not (fp.isInfinite a)) (fp.eq a (fp.roundToIntegral RTZ a))))""",
    **{
        f"py.int_{name}": f"""(define-fun py.int_{name} ((a Int) (b Float64)) Bool
  (ite (fp.isInfinite b) ({infinite})
    (and (not (fp.isNaN b)) ({sign} (to_real a) (fp.to_real b)))))"""
        for name, sign, infinite in (
            ("eq", "=", "= 0 1"),
            ("le", "<=", "fp.isPositive b"),
            ("lt", "<", "fp.isPositive b"),
            ("ge", ">=", "fp.isNegative b"),
            ("gt", ">", "fp.isNegative b"),
        )
    },
    "py.fpow": "(declare-fun py.fpow (Float64 Float64) Float64)",
    **{
        f"math.{name}": f"(declare-fun math.{name} (Float64) Float64)"
        for name in MATH_FUNCTIONS
        if name != "sqrt"
    },
}
"""The functions that the texts of `to_smtlib` call, by name. SMT-LIB lacks the functions of `math`
other than the square root, and powers of doubles: these are declared and stay uninterpreted."""

_CALLS = {
    "floordiv": "py.floordiv",
    "mod": "py.mod",
    "pow": "py.pow",
    "abs": "abs",
    "to_real": "py.float",
    "truediv": "py.truediv",
    "fadd": "fp.add RNE",
    "fmul": "fp.mul RNE",
    "fdiv": "fp.div RNE",
    "fneg": "fp.neg",
    "fabs": "fp.abs",
    "sqrt": "fp.sqrt RNE",
    "ffloordiv": "py.ffloordiv",
    "fmod": "py.fmod",
    "fpow": "py.fpow",
    "floor": "py.floor",
    "ceil": "py.ceil",
    "trunc": "py.trunc",
    "round": "py.round",
    "is_integer": "py.is_integer",
    "feq": "fp.eq",
    "fle": "fp.leq",
    "flt": "fp.lt",
    "not": "not",
    "and": "and",
    "or": "or",
    "where": "ite",
    "eq": "=",
    "ge": ">=",
    "le": "<=",
    "gt": ">",
    "lt": "<",
}
_BITS = {"bit_and": "py.and", "bit_or": "py.or", "bit_xor": "py.xor"}
_CHAINS = {
    "min": "py.min",
    "max": "py.max",
    "fmin": "py.fmin",
    "fmax": "py.fmax",
}


def to_smtlib(term: Term, names: Mapping[Term, str] | None = None) -> str:
    """The term as an SMT-LIB expression, over the functions of `SMTLIB_SUPPORT`.

    Args:
        term: the term to print.
        names: the text of a symbol, or of any other term that has a name. A name is put between
            bars where SMT-LIB asks for that.

    Returns:
        An expression of sort Int, Float64 or Bool. It has the value that Python computes, and
        where Python raises, any value.

    Example:
        >>> from symfx.algebra import Table
        >>> t = Table(); b, s = t.symbol("batch"), t.symbol("seq")
        >>> to_smtlib((2 * s + 1) // b >= 4)
        '(>= (py.floordiv (+ (* 2 seq) 1) batch) 4)'
    """
    done = {t: _name(text) for t, text in (names or {}).items()}
    return print_bottom_up(term, done, _print)


def _print(term: Term, done: Mapping[Term, str]) -> str:
    op = term.op
    if op == "const":
        return _constant(term.args[0])
    if op == "symbol":
        return _name(term.name)
    if op == "call":
        args = [done[t] for t in term.operands]
        return f"({_name(term.name)} {' '.join(args)})" if args else _name(term.name)
    if op == "product":
        return f"(* {' '.join(done[t] for t in term.args)})"
    if op == "sum":
        parts = [
            done[m] if c == 1 else f"(* {_constant(c)} {done[m]})" for m, c in term.coeffs.items()
        ]
        if term.const:
            parts.append(_constant(term.const))
        return parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})"
    if op in ("eq", "ge") or (op == "not" and term.args[0].op == "eq"):
        name, left, right = relation(term)
        if name == "ne":
            return f"(not (= {done[left]} {done[right]}))"
        return f"({_CALLS[name]} {done[left]} {done[right]})"
    if op in MIXED and term.args[0].sort != term.args[1].sort:
        name, (x, r) = mixed_comparison(term)
        return f"(py.int_{name} {done[x]} {done[r]})"
    args = [done[t] for t in term.args]
    if op in _CALLS:
        return f"({_CALLS[op]} {' '.join(args)})"
    if op in _CHAINS:
        return _chain(_CHAINS[op], args)
    if op in MATH_FUNCTIONS:
        return f"(math.{op} {args[0]})"
    if op in _BITS:
        return _bits(op, term, args)
    if op == "lshift":
        return f"(* {args[0]} (py.pow 2 {args[1]}))"
    if op == "rshift":
        return f"(div {args[0]} (py.pow 2 {args[1]}))"
    digits = int(term.args[1].const)
    if op == "round_int":
        return f"(py.round_int {args[0]} {10**-digits})"
    assert op == "round_digits", op
    # With more digits every double stays the same, with fewer it becomes 0.
    digits = max(-400, min(digits, 1200))
    scale = f"{10**digits}.0" if digits >= 0 else f"(/ 1.0 {10**-digits}.0)"
    return f"(py.round_digits {args[0]} {scale})"


def _bits(op: str, term: Term, args: list[str]) -> str:
    """A bit operation; of a constant, without recursion. Each operand is written once."""
    for constant, other in ((term.args[0], args[1]), (term.args[1], args[0])):
        if constant.op != "const":
            continue
        mask = constant.const
        both = _masked("bits_", mask) if mask >= 0 else f"(- bits_ {_masked('bits_', ~mask)})"
        if op == "bit_or":
            both = f"(- (+ bits_ {_constant(mask)}) {both})"
        elif op == "bit_xor":
            both = f"(- (+ bits_ {_constant(mask)}) (* 2 {both}))"
        return f"(let ((bits_ {other})) {both})"
    return f"({_BITS[op]} {args[0]} {args[1]})"


def _masked(text: str, mask: int) -> str:
    """``a & mask`` for a mask that is not negative: the bits of `a`, one run of ones at a time."""
    parts = []
    for run in re.finditer("1+", f"{mask:b}"[::-1]):
        low, width = 1 << run.start(), 1 << (run.end() - run.start())
        bits = f"(mod {text} {width})" if low == 1 else f"(mod (div {text} {low}) {width})"
        parts.append(bits if low == 1 else f"(* {low} {bits})")
    return parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})" if parts else "0"


def _chain(function: str, args: list[str]) -> str:
    return reduce(lambda a, b: f"({function} {a} {b})", args)


_SIMPLE = re.compile(r"[A-Za-z~!@$%^&*_+=<>.?/-][A-Za-z0-9~!@$%^&*_+=<>.?/-]*")
# Words with a meaning in SMT-LIB or the support; a symbol of such a name gets an underscore.
_TAKEN_LIST = (
    "abs and or not xor ite let forall exists div mod to_real to_int is_int true false "
    "as par assert push pop bits_ Int Real Bool Float64 RNE RTZ RTN distinct"
)
_TAKEN = frozenset(_TAKEN_LIST.split())


def _name(text: str) -> str:
    """A text as a symbol of SMT-LIB."""
    if text in _TAKEN or text.startswith(("py.", "math.", "fp.")):
        text += "_"
    if _SIMPLE.fullmatch(text):
        return text
    return "|" + text.replace("\\", "/").replace("|", "!") + "|"


def _constant(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value >= 0 else f"(- {-value})"
    if math.isnan(value):
        return "(_ NaN 11 53)"
    bits = f"{struct.unpack('>Q', struct.pack('>d', value))[0]:064b}"
    return f"(fp #b{bits[0]} #b{bits[1:12]} #b{bits[12:]})"


def smtlib_script(
    conditions: Sequence[Term],
    names: Mapping[Term, str] | None = None,
    *,
    comments: Mapping[Term, str] | None = None,
    declare: Sequence[Term] = (),
    defined: bool = True,
) -> str:
    """A script that declares the symbols and asserts that all the conditions hold.

    Shared parts are defined once. A solver answers ``sat`` to the script with ``(check-sat)``
    just when some values of the symbols satisfy all conditions.

    Bit operations are exact for integers of up to 64 bits, and powers with a symbolic exponent
    for exponents below 64: beyond, their values are left open.

    Args:
        conditions: the conditions to assert.
        names: the names of symbols in the script.
        comments: the comment on a condition.
        declare: symbols that the script always declares, first and in this order.
        defined: whether to assert as well that Python can compute each condition.
    """
    called = dict(names or {})
    stated = []
    for condition in dict.fromkeys(conditions):
        table = condition.table
        need = definedness(condition) if defined else table.true
        stated.append((condition, need if need is not table.true else None))
    asserted = [t for pair in stated for t in reversed(pair) if t is not None]
    everything = _all_parts([*declare, *asserted])
    symbols = [t for t in everything if t.op == "symbol"]
    taken = [_name(called.get(s, s.name)) for s in symbols]
    # All functions are total here, so a shared part may be defined before its first use.
    steps = plan(asserted, taken)
    body: list[str] = []
    for step in steps:
        if step.name is not None:
            sort = SORTS[step.term.sort]
            text = to_smtlib(step.term, called)
            body.append(f"(define-fun {step.name} () {sort} {text})")
            called[step.term] = step.name
            continue
        if (comments or {}).get(step.term):
            body.append(f"; {one_line((comments or {})[step.term])}")
        body.append(f"(assert {to_smtlib(step.term, called)})")
    head = ["(set-logic ALL)", *_support(body)]
    head += [_declaration(t) for t in everything if t.op == "call"]
    head += [
        f"(declare-const {name} {SORTS[s.sort]})" for s, name in zip(symbols, taken, strict=True)
    ]
    return "\n".join(dict.fromkeys(head)) + "\n" + "\n".join(body) + "\n"


def _declaration(call: Term) -> str:
    sorts = " ".join(SORTS[t.sort] for t in call.operands)
    return f"(declare-fun {_name(call.name)} ({sorts}) {SORTS[call.sort]})"


def _all_parts(terms: Iterable[Term]) -> list[Term]:
    seen: dict[Term, None] = {}
    for term in terms:
        for part in postorder(term, lambda t: t not in seen):
            seen[part] = None
    return list(seen)


def _support(texts: Iterable[str]) -> list[str]:
    """The support functions that the texts call, each before those that call it."""
    wanted: set[str] = set()
    waiting = list(texts)
    while waiting:
        for name in re.findall(r"\((py\.\w+|math\.\w+)", waiting.pop()):
            if name not in wanted:
                wanted.add(name)
                waiting.append(SMTLIB_SUPPORT[name])
    return [text for name, text in SMTLIB_SUPPORT.items() if name in wanted]
