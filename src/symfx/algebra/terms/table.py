"""The table that makes terms: one class of all operations, each a function of a module beside it.

`symfx.algebra.terms.term` explains terms.
"""

from __future__ import annotations

import random
from typing import Any

from symfx.algebra.terms import (
    bits,
    conditions,
    divisions,
    extrema,
    interning,
    reals,
    sums,
)
from symfx.algebra.terms.reals import MATH_FUNCTIONS
from symfx.algebra.terms.term import Scalar, Sort, Term

__all__ = ["MATH_FUNCTIONS", "Scalar", "Sort", "Table", "Term"]


class Table:
    """The home of interned terms, and the operations that make them.

    Every operation takes terms of this table and gives one of this table in normal form.
    Operations on constants compute with Python's own semantics, and raise Python's errors
    (`ZeroDivisionError`). A rewrite may assume that the rewritten term is defined: ``x // x`` is
    1, although it raises for ``x == 0``.

    Attributes:
        symbols: the symbols by name.
        products: for a sum that came about as a product, by the sum without its constant: the
            whole sum and its factors. The normal form multiplies out, and would lose the
            facts about the factors (that none is 0, say).

    Example:
        >>> t = Table()
        >>> s = t.symbol("s")
        >>> (2 * s + 4) // 2 is s + 2
        True
        >>> str((s + 1) * (s - 1))
        's**2 - 1'
    """

    def __init__(self) -> None:
        self.symbols: dict[str, Term] = {}
        self.products: dict[Term, tuple[Term, tuple[Term, ...]]] = {}
        # The state of `interning`: the number of terms made so far, and where each is found.
        self._uids = 0
        self._random = random.Random(20260711)
        self._consts: dict[tuple[type, str], Term] = {}
        self._ints: dict[int, Term] = {}
        self._sums: dict[tuple[int, int], Term] = {}
        # Sums whose fingerprint an older sum has too.
        self._collisions: dict[tuple[int, int], list[Term]] = {}
        self._interned: dict[tuple[Any, ...], Term] = {}
        self._monomial_prints: set[int] = set()
        # Results of operations, by operands; of `_op_memo`, by operation and operands.
        self._add_memo: dict[tuple[Term, Term], Term] = {}
        self._mul_memo: dict[tuple[Term, Term], Term] = {}
        self._neg_memo: dict[Term, Term] = {}
        self._not_memo: dict[Term, Term] = {}
        self._op_memo: dict[tuple[str, Term, Term], Term] = {}
        self.zero = self.const(0)
        self.one = self.const(1)
        self.minus_one = self.const(-1)
        self.true = self.const(True)
        self.false = self.const(False)

    def __len__(self) -> int:
        """The number of terms that the table has made."""
        return self._uids

    const, symbol, call = interning.const, interning.symbol, interning.call
    linear = interning.linear

    add, sub, neg, mul, pow = sums.add, sums.sub, sums.neg, sums.mul, sums.power
    sum = sums.sum_of
    floordiv, mod = divisions.floordiv, divisions.mod
    abs, min, max = extrema.absolute, extrema.minimum, extrema.maximum
    bit_and, bit_or, bit_xor = bits.bit_and, bits.bit_or, bits.bit_xor
    lshift, rshift = bits.lshift, bits.rshift

    eq, ne, le, lt = conditions.eq, conditions.ne, conditions.le, conditions.lt
    ge_zero = conditions.ge_zero
    not_, and_, or_ = conditions.not_, conditions.and_, conditions.or_
    where, to_bool = conditions.where, conditions.to_bool

    to_int, to_real, is_integer = reals.to_int, reals.to_real, reals.is_integer
    truediv, function = reals.truediv, reals.function
    floor, ceil, trunc, round = reals.floor, reals.ceil, reals.trunc, reals.round_to
