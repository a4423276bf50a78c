"""Comparisons of integers with doubles are exact, as Python's."""

from __future__ import annotations

import itertools
import math
import operator
from typing import Any

import pytest

from symfx.algebra import Facts, Prover, Table, evaluate, to_python

INTEGERS = [0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**54 + 2, 10**300, 10**400]
DOUBLES = [0.0, -0.0, 0.5, -1.5, 2.0**53, 2.0**53 + 2, -(2.0**53), 1e300, math.inf, -math.inf]
DOUBLES.append(math.nan)
COMPARISONS = {
    "==": (operator.eq, Table.eq),
    "!=": (operator.ne, Table.ne),
    "<": (operator.lt, Table.lt),
    "<=": (operator.le, Table.le),
    ">": (operator.gt, lambda t, a, b: t.lt(b, a)),
    ">=": (operator.ge, lambda t, a, b: t.le(b, a)),
}


@pytest.mark.parametrize("sign", COMPARISONS)
def test_each_way_to_compare(sign: str) -> None:
    python, make = COMPARISONS[sign]
    t = Table()
    x, r = t.symbol("x"), t.symbol("r", "real")
    for n, d in itertools.product(INTEGERS, DOUBLES):
        for left, right in ((n, d), (d, n)):
            expected = python(left, right)
            values: dict[Any, Any] = {x: n, r: d}
            symbols = (x, r) if left is n else (r, x)
            consts = t.const(left), t.const(right)
            for a, b in ((symbols[0], consts[1]), (consts[0], symbols[1]), symbols, consts):
                made = make(t, a, b)
                assert evaluate(made, values) is expected, (sign, left, right, str(made))
                assert eval(to_python(made), {"x": n, "r": d, "math": math}) is expected


def test_facts_and_questions_with_both() -> None:
    t = Table()
    x, y, r = t.symbol("x"), t.symbol("y"), t.symbol("r", "real")
    facts = Facts(t)
    prover = Prover(facts)
    facts.assume(x < 7.5)
    facts.assume(x > 2.0)
    facts.assume(y >= 2**53 + 1)
    facts.assume(r < 2.0**53 + 1)
    assert prover.range(x) == (3, 7)
    assert prover.decide(x <= 7) is True and prover.decide(x < 6.5) is None
    assert prover.decide(y > 2.0**53) is True
    assert prover.decide(y.eq(2.0**53)) is False
    assert prover.decide(y > r) is True and prover.decide(r >= y) is False
    assert prover.decide(x.eq(3.5)) is False
    z = t.symbol("z")
    facts.assume(z >= 10**400)
    facts.assume(z <= 10**401)
    assert prover.real_range(t.to_real(z)) == (math.inf, math.inf)
    assert prover.real_range(t.truediv(z, t.one + x * x)) == (math.inf, math.inf)
    # float(y) rounds, the comparison of y itself does not.
    assert prover.decide(t.lt(t.const(2.0**53), t.to_real(y))) is None
