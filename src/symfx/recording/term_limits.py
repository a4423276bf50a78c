"""How large the terms of a file get, told from a packed part before its term is made.

A few lines of a file can describe a number that takes all memory: ``10**(10**9)``, or a symbol
squared forty times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from symfx.algebra import Term
from symfx.errors import ExpressionError
from symfx.untrusted import shown

__all__ = ["TermLimits"]

# The bits of a value, about 3,900 decimal digits: Python refuses to print more than 4,300.
_BITS = 13_000
# The bits that the value of a symbol may have, and the largest value of an exponent that is no
# constant.
_SYMBOL_BITS = 64
_SYMBOLIC_EXPONENT = 64
# The bits of a double before the point.
_DOUBLE_BITS = 1_024
# How deep operations are nested in one another. sympy and z3 handle terms by recursion.
_DEPTH = 300
# The operations and leaves of one term when it is written out: a shared part counts at each use.
_LENGTH = 100_000

_CONDITIONS = frozenset(["eq", "ge", "feq", "fle", "flt", "not", "and", "or", "is_integer"])
_ADDITIONS = frozenset(["fadd", "abs", "fabs", "fneg", "bit_and", "bit_or", "bit_xor"])


class _Size(NamedTuple):
    """The size of a term.

    Attributes:
        bits: the most bits that its value may have, at values of the symbols with 64 bits.
        depth: how deep its operations are nested.
        length: its operations and leaves; a shared part counts at each use.
    """

    bits: int
    depth: int = 0
    length: int = 1


class TermLimits:
    """Refuses a packed term whose values, nesting or written length are too large.

    An instance is the `check` of one call of `symfx.algebra.terms.portable.unpack`.
    """

    def __init__(self) -> None:
        self._sizes: list[_Size] = []

    def __call__(self, packed: Sequence[Any], made: Sequence[Term]) -> None:
        """Check a part before its term is made.

        Args:
            packed: the part. `unpack` refuses a part of a wrong form.
            made: the terms of the parts before it.

        Raises:
            ExpressionError: the term would be too large; the message shows the part.
        """
        size = _size(packed, self._sizes, made)
        if size.bits > _BITS:
            raise ExpressionError(
                f"the part {shown(packed)} of an expression has values of up to {size.bits} bits; "
                f"the limit is {_BITS}"
            )
        if size.depth > _DEPTH:
            raise ExpressionError(f"an expression is nested more than {_DEPTH} operations deep")
        if size.length > _LENGTH:
            raise ExpressionError(f"an expression has more than {_LENGTH} operations written out")
        self._sizes.append(size)


def _size(packed: Sequence[Any], sizes: Sequence[_Size], made: Sequence[Term]) -> _Size:
    op, rest = (packed[0] if packed else None), packed[1:]
    if op == "const":
        return _Size(_bits_of_constant(rest[0] if rest else None))
    if op == "symbol":
        return _Size(_SYMBOL_BITS)
    if op == "sum":
        scaled = [
            _scaled(item, sizes) for item in rest[1:] if isinstance(item, list) and len(item) == 2
        ]
        bits = [_bits_of_constant(rest[0] if rest else None), *(s.bits for s in scaled)]
        return _combined(max(bits) + len(scaled).bit_length(), scaled)
    numbers = [n for n in rest if type(n) is int and 0 <= n < len(sizes)]
    operands = [sizes[n] for n in numbers]
    if op == "call":
        return _combined(_SYMBOL_BITS, operands)
    # The sorts of the operands decide what an operation is: "fpow" of integers is their power.
    if any(made[n].sort == "real" for n in numbers):
        return _combined(max(_DOUBLE_BITS, *(s.bits for s in operands)), operands)
    exponent = _largest_exponent(made[numbers[1]]) if len(numbers) == 2 else 0
    return _combined(_bits(op, operands, exponent), operands)


def _bits(op: Any, operands: Sequence[_Size], exponent: int) -> int:
    """The bits of the value of an operation."""
    most = max((s.bits for s in operands), default=0)
    if op in _CONDITIONS:
        return 1
    if op in ("product", "fmul"):
        return sum(s.bits for s in operands)
    if op in ("pow", "fpow"):
        return operands[0].bits * exponent if operands else 0
    if op in ("lshift", "rshift"):
        # A shift by a constant multiplies or divides by a power of 2, which is made first.
        return most + exponent
    return most + 1 if op in _ADDITIONS else most


def _largest_exponent(term: Term) -> int:
    """The absolute value of a constant exponent, or the limit that other terms have."""
    return _SYMBOLIC_EXPONENT if term.value is None else abs(int(term.value))


def _bits_of_constant(value: Any) -> int:
    if type(value) is int:
        return value.bit_length()
    if isinstance(value, float) and math.isfinite(value):
        return max(math.frexp(value)[1], 1)
    return 1


def _scaled(item: Sequence[Any], sizes: Sequence[_Size]) -> _Size:
    """The size of a coefficient times a part."""
    coefficient, number = item
    known = type(number) is int and 0 <= number < len(sizes)
    part = sizes[number] if known else _Size(0)
    return part._replace(bits=part.bits + _bits_of_constant(coefficient))


def _combined(bits: int, operands: Sequence[_Size]) -> _Size:
    depth = 1 + max((s.depth for s in operands), default=0)
    return _Size(bits, depth, 1 + sum(s.length for s in operands))
