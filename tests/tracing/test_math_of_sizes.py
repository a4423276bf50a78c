"""Python's functions of numbers, called with sizes: a trace pins none, and equals eager elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import symfx
import symfx.errors

SHAPES = ((5, 7), (4, 6), (9, 17), (18, 20), (7, 8), (3, 2), (36, 16))


def with_import(x: torch.Tensor) -> torch.Tensor:
    import math as m
    from math import ceil, log

    return x * m.sqrt(x.shape[0]) + log(x.shape[1]) + ceil(x.shape[0] / 2)


def typed(x: torch.Tensor) -> torch.Tensor:
    n = x.shape[0]
    kinds = type(n) is int, type(n / 2) in (float,), isinstance(n, int), isinstance(n > 2, bool)
    return x * (type(n)("2") if all(kinds) else 3)


NO_GUARD: dict[str, Callable[[torch.Tensor], Any]] = {
    "log": lambda x: x * math.log(x.shape[0]),
    "log of a base": lambda x: x * math.log(x.shape[0], 3),
    "log to a base": lambda x: x * math.log(3, x.shape[0]),
    "exact log": lambda x: x.new_zeros(int(math.log(x.shape[0], 2))),
    "log10": lambda x: x * math.log10(x.shape[0]),
    "log1p": lambda x: x * math.log1p(x.shape[0]),
    "exp": lambda x: x * math.exp(-x.shape[0]),
    "expm1": lambda x: x * math.expm1(-x.shape[0]),
    "asinh": lambda x: x * math.asinh(x.shape[0]),
    "acosh": lambda x: x * math.acosh(x.shape[0]),
    "atanh": lambda x: x * math.atanh(1 / x.shape[0]),
    "hypot": lambda x: x * math.hypot(x.shape[0], x.shape[1], 3),
    "dist": lambda x: x * math.dist(x.shape, [1, 2]),
    "isqrt": lambda x: x.new_zeros(math.isqrt(x.shape[0])),
    "isqrt by name": lambda x: x.new_zeros(isqrt(x.shape[0] * x.shape[1])),
    "gcd": lambda x: x.new_zeros(math.gcd(x.shape[0], 12)),
    "gcd of three": lambda x: x.new_zeros(math.gcd(12, x.shape[0], 18)),
    "gcd with zero": lambda x: x.new_zeros(math.gcd(x.shape[0], 0)),
    "lcm": lambda x: x.new_zeros(math.lcm(x.shape[0], 4)),
    "comb": lambda x: x.new_zeros(math.comb(x.shape[0], 2)),
    "perm": lambda x: x.new_zeros(math.perm(x.shape[1], 2)),
    "fabs": lambda x: x * math.fabs(x.shape[0] - 10),
    "copysign": lambda x: x * math.copysign(x.shape[0] - 10, -1.0),
    "copysign by size": lambda x: x * math.copysign(2, x.shape[0] - 5),
    "copysign of sizes": lambda x: x * math.copysign(x.shape[1], x.shape[0] - x.shape[1]),
    "copysign of a difference": lambda x: x * math.copysign(2.5, x.shape[0] - x.shape[1]),
    "copysign of both": lambda x: x * math.copysign(-x.shape[1], x.shape[0] - 6),
    "fmod": lambda x: x * math.fmod(x.shape[0], 3),
    "modf": lambda x: x * math.modf(x.shape[0] / 2)[0] + math.modf(x.shape[1] / 3)[1],
    "fsum": lambda x: x * math.fsum(x.shape),
    "degrees": lambda x: x * math.degrees(x.shape[0]) + math.radians(x.shape[1]),
    "finite": lambda x: x * (2 if math.isfinite(x.shape[0]) and not math.isnan(x.shape[0]) else 3),
    "own imports": with_import,
    "types": typed,
    "map int": lambda x: x.new_zeros(list(map(int, x.shape))),
    "map float": lambda x: x * sum(map(float, x.shape)),
    "int of a condition": lambda x: x.new_zeros(x.shape[0] // 2 + int(x.shape[0] % 2 != 0)),
    "pow": lambda x: x.new_zeros(pow(x.shape[0], 2) // 7),
    "pow modulo": lambda x: x.new_zeros(pow(x.shape[0], 3, 5)),
    "round to tens": lambda x: x * round(x.shape[0], -1),
    "round to hundreds": lambda x: x * round(x.shape[0] * 13, ndigits=-2),
    "round by map": lambda x: x * sum(map(round, x.shape, (-1, -1))),
    "round to a digit": lambda x: x * round(x.shape[0] / 3, 1) + round(x.shape[1], 2),
    "sorted": lambda x: x.new_zeros(sorted(x.shape)[0]),
    "sorted down": lambda x: x.new_zeros(sorted((*x.shape, 6), reverse=True)),
    "max by key": lambda x: x.new_zeros(max(x.shape, key=lambda n: -n)),
    "max by a remainder": lambda x: x.new_zeros(max(x.shape[0], 4, key=lambda n: n % 5) + 1),
    "min by key of a generator": lambda x: x.new_zeros(min((n for n in x.shape), key=lambda n: -n)),
    "max or default": lambda x: x.new_zeros(max((n * 2 for n in x.shape), default=1)),
    "default": lambda x: x * max([n for n in x.shape if isinstance(n, str)], default=3),
    "max of a mixed list": lambda x: x.new_zeros(max([16, x.shape[0], *x.shape[1:], 3])),
    "max of floats": lambda x: x * max(x.shape[0] / 2, 2.5),
    "bytes": lambda x: x * x.nbytes,
}


@pytest.mark.parametrize("name", NO_GUARD)
def test_neither_pinned_nor_guarded(name: str) -> None:
    f = NO_GUARD[name]
    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert [str(guard) for guard in t.guards] == []
    for n, m in SHAPES:
        x = torch.randn(n, m)
        assert t.check(x), t.check(x)
        torch.testing.assert_close(t(x), f(x))
    # The graph is a program as well, which can be traced anew.
    again = symfx.trace(t.graph_module, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert not again.guards
    x = torch.randn(9, 4)
    torch.testing.assert_close(again(x), f(x))


GUARDED: dict[str, Callable[[torch.Tensor], Any]] = {
    "max of an int and a float": lambda x: x * max(x.shape[0], 2.5),
    "isclose": lambda x: x * (2 if math.isclose(x.shape[0], 5.0) else 3),
    "five sorted": lambda x: x * sorted((*x.shape, 6, 9, 12))[0],
}


@pytest.mark.parametrize("name", GUARDED)
def test_a_guard_keeps_what_a_choice_depends_on(name: str) -> None:
    f = GUARDED[name]
    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),), strict=False)
    admitted = 0
    for n, m in SHAPES:
        x = torch.randn(n, m)
        if t.check(x):
            admitted += 1
            torch.testing.assert_close(t(x), f(x))
    assert admitted


NUMBERS = (2, 3, 4, 5, 8, 9, 10, 25, 27, 36, 49, 50, 125, 1000, 4096)


@pytest.mark.parametrize(
    "f",
    [
        lambda n: int(math.log(n, 5) * 1e6),
        lambda n: round(n * 5, -1),
        lambda n: round(n, -2),
        lambda n: math.isqrt(n * n - 1),
        lambda n: math.gcd(n, 36) * math.lcm(n, 6),
        lambda n: int(math.hypot(n, n)),
        lambda n: max(n, 7, key=lambda k: k % 4),
        lambda n: math.floor(math.log2(n)) + math.floor(math.log10(n) * 100),
    ],
)
def test_the_very_number_of_python(f: Callable[[int], int]) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return torch.tensor([f(x.shape[0])])

    t = symfx.trace(program, torch.randn(6), dynamic=(("n",),))
    assert not t.guards
    for n in NUMBERS:
        assert t(torch.randn(n)).item() == f(n), n


def test_a_size_that_is_known_divides_as_a_float() -> None:
    table = torch.randn(4, 6)

    def f(x: torch.Tensor) -> torch.Tensor:
        y = x + table
        n = x.shape[0]
        return y * (n / 2.0) * (2.0 / n) * (n // 2.0) * (n**0.5) * (n % 3.0)

    t = symfx.trace(f, torch.randn(4, 6), dynamic=(("n", "m"),), strict=False)
    x = torch.randn(4, 6)
    torch.testing.assert_close(t(x), f(x))


KEYS = {5: 2.0}


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * KEYS.get(x.shape[0], 3.0),
        lambda x: x * (2 if x.shape[0] in {4, 5} else 3),
        lambda x: x * len({x.shape[0], 5}),
        lambda x: x * {x.shape[0]: 2}[5],
    ],
)
def test_a_size_as_a_key_is_pinned_by_the_line(f: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with pytest.raises(symfx.errors.TracingError, match=r"specializes .*to 5") as error:
        symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert "lambda x" in str(error.value.where)
    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),), strict=False)
    assert not t.check(torch.randn(4, 7))
    x = torch.randn(5, 3)
    torch.testing.assert_close(t(x), f(x))


def test_torchs_own_methods_are_back_afterwards() -> None:
    before = torch.SymInt.__round__, torch.SymInt.__hash__, torch.LongTensor
    symfx.trace(lambda x: x * round(x.shape[0], -1), torch.randn(5), dynamic=(("n",),))
    assert (torch.SymInt.__round__, torch.SymInt.__hash__, torch.LongTensor) == before
    assert type(torch.LongTensor) is type(before[2])


ADVICE: dict[str, tuple[Callable[[torch.Tensor], Any], str]] = {
    "loop": (lambda x: sum(x[i] for i in range(x.shape[0])), "torch.while_loop"),
    "rows": (lambda x: torch.stack([row * 2 for row in x]), "torch.vmap"),
    "unbind": (lambda x: torch.stack(x.unbind(0)), "broadcasting"),
    "numpy": (lambda x: x * np.sqrt(x.shape[0]), r"math\.sqrt"),
    "numpy range": (lambda x: x + torch.from_numpy(np.arange(x.shape[1])), r"math\.sqrt"),
    "Tensor": (lambda x: torch.Tensor([x.shape[0], 2.5]), r"torch\.tensor\("),
    "factorial": (lambda x: x * math.factorial(x.shape[0]), r"torch\.sym_max"),
    "gcd of two": (lambda x: x * math.gcd(x.shape[0], x.shape[1]), r"\.item\(\)"),
    "dict": (lambda x: x * KEYS.get(x.shape[0], 3.0), r"torch\.sym_ite"),
    "list": (lambda x: x * len([0] * x.shape[0]), r"torch\.zeros"),
    "dict by index": (lambda x: x * KEYS[x.shape[0]], "a key of a dict"),
    "index": (lambda x: x * TABLE[x.shape[0]], r"torch\.tensor\(table\)"),
    "complex": (lambda x: x * complex(x.shape[0], 1), r"torch\.sym_ite"),
    "bits": (lambda x: x * x.shape[0].bit_length(), r"\.item\(\)"),
    "text": (lambda x: x * len("%d" % x.shape[0]), "a text with a size"),  # noqa: UP031 - the kind in question
    "dropout": (lambda x: F.dropout(x, 1 / x.shape[0]), "rand_like"),
    "histc": (lambda x: torch.histc(x, bins=x.shape[0]), "bincount"),
    "stft": (lambda x: torch.stft(x.mT, x.shape[0], return_complex=False), "return_complex=True"),
    "condition": (lambda x: x * 2 if x.shape[0] == 5 else x, "other branch"),
}
TABLE = list(range(30))


@pytest.mark.parametrize("name", ADVICE)
def test_a_pin_names_its_line_and_what_to_write_instead(name: str) -> None:
    f, advice = ADVICE[name]
    with pytest.raises(symfx.errors.TracingError) as error:
        symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert f'"{name}"' in str(error.value.where)
    assert re.search(advice, str(error.value.fix)), error.value.fix
    # The C++ stack of an error is no help to a user.
    assert "frame #" not in str(error.value)
