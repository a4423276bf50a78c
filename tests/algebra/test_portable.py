"""Terms as plain data that outlives their table."""

from __future__ import annotations

import math

import pytest

from symfx.algebra import Table
from symfx.algebra.terms.portable import carry, pack, unpack
from symfx.errors import ExpressionError


def test_terms_survive_their_table() -> None:
    t, other = Table(), Table()
    other.symbol("b"), other.symbol("a")  # in another order
    a, b = t.symbol("a"), t.symbol("b")
    p, r = t.symbol("p", "bool"), t.symbol("r", "real")
    terms = [a // b, a % 3 + 2 * b, t.min(a, t.abs(b)), t.where(p, a, b), t.pow(a, b) * b]
    terms += [a & b, a << b, r + a, t.round(r, 2), t.call("f", "int", a), t.or_(p, a > b, b.ne(2))]
    for term in terms:
        there = carry(term, other)
        assert there.table is other
        assert carry(there, t) is term
        assert unpack(pack(term), t) is term
        assert carry(term, t) is term
    for value in (math.nan, math.inf, -0.0, 2**200, True):
        assert unpack(pack(t.const(value)), t) is t.const(value)


def test_one_that_is_broken_is_refused() -> None:
    with pytest.raises(ExpressionError, match=r"\['launch', 0\] is not a part"):
        unpack([["const", 1], ["launch", 0]], Table())
    with pytest.raises(ExpressionError, match="has no parts"):
        unpack([], Table())
