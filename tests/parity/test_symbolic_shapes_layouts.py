"""Layouts of tensors as conditions on sizes and strides, and dynamic ints, as in torch."""

import itertools
import random

import pytest
import sympy
import torch
from both import BOTH, SYMFX, TORCH, symint
from torch.fx.experimental.proxy_tensor import make_fx as torch_make_fx

from symfx.proxy_tensor import make_fx as symfx_make_fx

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
MAKE_FX = {"torch": torch_make_fx, "symfx": symfx_make_fx}


_LAYOUTS = ["is_contiguous", "is_channels_last_contiguous_2d", "is_channels_last_contiguous_3d",
            "is_channels_last_strides_2d", "is_channels_last_strides_3d"]  # fmt: skip


def some_layouts():
    chosen = random.Random(7)
    for rank in (1, 2, 3, 4, 5):
        for _ in range(25):
            sizes = [chosen.choice([0, 1, 2, 3]) for _ in range(rank)]
            real = torch.empty(sizes)
            order = chosen.sample(range(rank), rank)
            real = real.permute(order)
            strides = list(real.stride())
            if chosen.random() < 0.3:
                strides[chosen.randrange(rank)] = chosen.choice([0, 1, 2, 6])
            yield list(real.shape), strides


@pytest.mark.parametrize("name", _LAYOUTS)
def test_layouts_of_numbers(name):
    for sizes, strides in some_layouts():
        assert getattr(SYMFX, name)(sizes, strides) == getattr(TORCH, name)(sizes, strides), (
            sizes,
            strides,
        )


@pytest.mark.parametrize("name", _LAYOUTS)
def test_layouts_in_sympy(name):
    rank = 5 if name.endswith("3d") else 4
    for sizes, strides in ([sympy.symbols(f"{k}0:{rank}", integer=True, positive=True) for k in "nt"],
                           [(1, *sympy.symbols("a:c", integer=True, nonnegative=True)), sympy.symbols("t0:4", integer=True)]):  # fmt: skip
        ours, theirs = (getattr(m, f"sympy_{name}")(list(sizes), list(strides)) for m in BOTH)
        if ours != theirs:
            free = sorted(ours.free_symbols | theirs.free_symbols, key=str)
            for values in itertools.islice(itertools.product([0, 1, 2, 4], repeat=len(free)), 3000):
                at = dict(zip(free, values))
                assert bool(ours.subs(at)) == bool(theirs.subs(at))


def test_layouts_in_any_order(m):
    n = sympy.symbols("n0:3", integer=True, positive=True)
    assert m.sympy_is_contiguous_generic(n, (1, n[0], n[0] * n[1]), [0, 1, 2]) == sympy.true
    assert m.sympy_is_contiguous_generic(n, (1, 2, 3), [0, 1]) == sympy.false
    assert m.sympy_is_channels_last_strides_generic(n, (1, 2, 3), [0, 1]) == sympy.false
    assert m.sympy_is_contiguous([], []) == sympy.true


def test_dense_layouts(m):
    for sizes, strides in some_layouts():
        if 0 in sizes:
            continue  # torch's two implementations disagree on these layouts
        expected = TORCH.eval_is_non_overlapping_and_dense(sizes, strides)
        assert m.eval_is_non_overlapping_and_dense(sizes, strides) == expected, (sizes, strides)
        assert m.is_non_overlapping_and_dense_indicator(sizes, strides) == expected


def test_symbolic_layouts(m, env):
    a, b = symint(m, env, 4), symint(m, env, 6)
    assert bool(m.is_contiguous([a, b], [b, 1]))
    assert not bool(m.is_contiguous([a, b], [1, a]))
    assert bool(m.is_channels_last_contiguous_2d([a, 3, b, b], [3 * b * b, 1, 3 * b, 3]))
    assert bool(m.is_channels_last_strides_2d([a, 3, b, b], [3 * b * b, 1, 3 * b, 3]))
    assert int(m.is_non_overlapping_and_dense_indicator([a, b], [1, a])) == 1


def test_dynamic_ints(m):
    x = m.DynamicInt(4)
    assert repr(x) == "DynamicInt(4)" and x == 4 and hash(x) == hash(4) and isinstance(x, int)
    for result, value in ((x + 1, 5), (1 + x, 5), (x - 1, 3), (9 - x, 5), (x * 2, 8), (x // 3, 1),
                          (9 // x, 2), (x % 3, 1), (9 % x, 1), (x**2, 16), (2**x, 16), (-x, -4),
                          (abs(-x), 4), (x & 6, 4), (x | 1, 5), (x << 1, 8), (x >> 1, 2)):  # fmt: skip
        assert result == value and type(result) is m.DynamicInt, (result, value)
    assert type(x / 2) is float and x / 2 == 2.0 and type(x > 3) is bool and type(x == 4) is bool
    assert x + 0.5 == 4.5 and x**-1 == 0.25 and pow(x, 2, 7) == 2
    assert (
        list(range(x)) == [0, 1, 2, 3] and [1, 2, 3, 4, 5][x] == 5 and torch.ones(x).shape == (4,)
    )
    with pytest.raises(Exception):
        m.DynamicInt(2.5)
    with pytest.raises(TypeError):
        m._DynamicScalar()
    assert isinstance(x, TORCH.DynamicInt) and isinstance(x, SYMFX.DynamicInt)
