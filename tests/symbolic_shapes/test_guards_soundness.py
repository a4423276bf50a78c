"""Checks out of random programs, and solutions of random constraints, against brute force."""

import random
import re

import pytest
import sympy
import torch
from torch._dynamo.source import LocalSource, TensorProperty, TensorPropertySource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._sympy.functions import FloorDiv, Mod

from symfx.symbolic_shapes import DimConstraints, ShapeEnv

_QUESTIONS = [
    lambda a, b, c, k: a < b,
    lambda a, b, c, k: a + k <= c,
    lambda a, b, c, k: a == b + k,
    lambda a, b, c, k: c == a + b,
    lambda a, b, c, k: c == 2 * a,
    lambda a, b, c, k: a * b > c + k,
    lambda a, b, c, k: (a + k) % 3 == 0,
    lambda a, b, c, k: c // 2 > b,
    lambda a, b, c, k: c // (k + 2) == a,
    lambda a, b, c, k: a != k + 2,
    lambda a, b, c, k: torch.sym_max(a, b) >= c - k,
    lambda a, b, c, k: 2 * a - 3 * b <= k,
    lambda a, b, c, k: a >= k + 2,
    lambda a, b, c, k: b == k + 3,
]


@pytest.mark.parametrize("seed", range(40))
def test_inputs_pass_where_every_answer_is_the_same(seed):
    """The checks admit exactly the sizes for which the program would have taken the same course."""
    chosen = random.Random(seed)
    sizes = chosen.sample(range(2, 12), 3)
    asked = [
        (chosen.choice(_QUESTIONS), chosen.sample(range(3), 3), chosen.randrange(5))
        for _ in range(chosen.randrange(1, 5))
    ]

    def answers(numbers):
        return [bool(f(*(numbers[i] for i in order), k)) for f, order, k in asked]

    env = ShapeEnv()
    mode = FakeTensorMode(shape_env=env)
    made = [
        mode.from_tensor(torch.zeros(n), source=LocalSource(f"t{i}")) for i, n in enumerate(sizes)
    ]
    expected = answers(sizes)
    assert answers([t.shape[0] for t in made]) == expected
    code = env.produce_guards_expression(made, ignore_static=False)
    for _ in range(150):
        others = [chosen.randrange(2, 14) for _ in range(3)]
        passes = env.evaluate_guards_expression(code, [torch.zeros(n) for n in others])
        assert passes == (answers(others) == expected), (sizes, others, code)
    assert env.evaluate_guards_expression(code, [torch.zeros(n) for n in sizes])


def _constraint(chosen, s, value):
    while True:
        k = chosen.randrange(6)
        side = (
            FloorDiv(s * chosen.randint(1, 3) + chosen.randint(0, 5), chosen.randint(2, 5))
            if k == 3
            else Mod(s + chosen.randint(0, 4), chosen.randint(2, 6))
            if k == 4
            else s**2
            if k == 5
            else s * chosen.randint(1, 4) + chosen.randint(-6, 6)
        )
        relation = chosen.choice([sympy.Le, sympy.Ge, sympy.Lt, sympy.Gt, sympy.Eq, sympy.Ne])
        made = relation(side, chosen.randint(0, 60))
        if made.free_symbols and made.xreplace({s: sympy.Integer(value)}) == sympy.true:
            return made


def _admitted(results, n):
    """Whether a size passes results about it; a new root stands for every integer."""
    for text in results:
        multiple = re.fullmatch(r"L\['a'\]\.size\(\)\[0\] == (\d+)\*_\S+(?: \+ (\d+))?", text)
        if multiple:
            modulus, remainder = int(multiple[1]), int(multiple[2] or 0)
            if (n - remainder) % modulus:
                return False
        elif not eval(text.replace("L['a'].size()[0]", "n"), {"n": n}):
            return False
    return True


@pytest.mark.parametrize("seed", range(12))
def test_no_size_is_suggested_that_a_constraint_excludes(seed):
    chosen = random.Random(seed)
    s = sympy.Symbol("s", positive=True, integer=True)
    source = TensorPropertySource(LocalSource("a"), TensorProperty.SIZE, 0)
    for _ in range(4):
        value = chosen.randint(2, 30)
        constraints = [_constraint(chosen, s, value) for _ in range(chosen.randint(1, 4))]
        dims = DimConstraints({s: [source]}, {s: sympy.Integer(value)}, set(), {})
        for constraint in constraints:
            dims.add(constraint)
        dims.solve()
        results = dims.static_results | dims.dynamic_results
        assert _admitted(results, value)
        for n in range(2, 60):
            if _admitted(results, n):
                at = {s: sympy.Integer(n)}
                assert all(c.xreplace(at) == sympy.true for c in constraints), (n, constraints)
