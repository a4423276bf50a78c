"""Work for the prover: facts of many kinds, then questions about them."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch

from benchmarks.algebra import Prepared, Work, backed, unbacked
from benchmarks.goals import Goal

__all__ = ["REASONING"]


def _shapes(env: Any) -> Any:
    """The `symbolic_shapes` module that an environment belongs to."""
    package = type(env).__module__.partition(".symbolic_shapes")[0]
    return import_module(f"{package}.symbolic_shapes")


def _jax_symbols(n: int) -> list[Any]:
    from jax import export

    return list(export.symbolic_shape(", ".join(f"x{i}" for i in range(n))))


def _bounds(env: Any, n: int) -> Prepared:
    symbols = unbacked(env, n)
    check: Callable[[Any], object] = torch._check

    def run() -> None:
        for i, u in enumerate(symbols):
            check(u >= i)
        for a, b in itertools.pairwise(symbols):
            check(a <= b)

    return run


def _backed_sum(env: Any, n: int) -> Prepared:
    hints = [7 + 2 * i for i in range(n)]
    symbols = backed(env, hints)
    least = sum(hints)

    def run() -> None:
        total = functools.reduce(operator.add, symbols)
        held = (total > least - 1, 2 * total < 3 * least, total != 3)
        if not all(map(bool, held)):
            raise AssertionError("the hints were chosen so that each guard holds")

    return run


def _chain(symbols: Any, n: int) -> Prepared:
    a, b, c = symbols

    def run() -> Any:
        value: Any = 0
        for i in range(n):
            value = (a * b + i) * c // 2 + value
        return value

    return run


def _halved(symbols: Any, n: int) -> Prepared:
    return lambda: functools.reduce(operator.add, symbols) // 2


def _known(env: Any, n: int) -> Prepared:
    a, b, c = backed(env, [7, 11, 13])
    statically_known_true = _shapes(env).statically_known_true

    def run() -> None:
        for i in range(n):
            if not statically_known_true(a + i * b + c >= i):
                raise AssertionError("each condition follows, because sizes are positive")

    return run


def _known_to_jax(n: int) -> Prepared:
    a, b, c = _jax_symbols(3)

    def run() -> None:
        for i in range(n):
            if not a + i * b + c >= i:
                raise AssertionError("each condition follows, because sizes are positive")

    return run


_GUARDS_PER_PAIR = 8
_QUERIES = 10_000


def _queries(env: Any, n: int) -> Prepared:
    pairs = n // _GUARDS_PER_PAIR
    symbols = backed(env, [64 + i for i in range(2 * pairs)])
    couples = list(zip(symbols[::2], symbols[1::2], strict=True))
    for a, b in couples:
        for k in range(_GUARDS_PER_PAIR):
            if not (k + 2) * a < (k + 3) * b + k:
                raise AssertionError("the hints were chosen so that each guard holds")
    statically_known_true = _shapes(env).statically_known_true

    def run() -> int:
        known = 0
        for i in range(_QUERIES):
            a, b = couples[i % pairs]
            k = i // pairs
            # The first condition follows from the first guard, the second from no guard.
            known += statically_known_true(2 * a < 3 * b + 1 + k)
            known += statically_known_true(3 * a < 2 * b + k)
        if known < _QUERIES:
            raise AssertionError("half of the questions follow from the guards")
        return known

    return run


def _of_jax(count: Callable[[int], int], run: Callable[[Any, int], Prepared]) -> Any:
    return lambda n: run(_jax_symbols(count(n)), n)


REASONING: dict[str, Work] = {
    work.name: work
    for work in (
        Work(
            "bounds",
            "n torch._check bounds on unbacked symbols and n - 1 orders between them",
            _bounds,
            (50, 100, 200, 400),
            (50, 100, 200),
            goal=Goal(at=100, stock=1 / 20, growth=1.3),
        ),
        Work(
            "backed-sum",
            "the sum of n backed symbols, then three guards on it",
            _backed_sum,
            (50, 100, 200),
            (50, 100, 200),
            goal=Goal(at=200, stock=1 / 20),
        ),
        Work(
            "chain",
            "v = (a*b + i) * c // 2 + v, n times",
            lambda env, n: _chain(backed(env, [7, 11, 13]), n),
            (50, 100, 200),
            (100, 200),
            jax=_of_jax(lambda n: 3, _chain),
            goal=Goal(at=200, stock=1 / 20, jax=1),
        ),
        Work(
            "halved-sum",
            "n unbacked symbols summed, // 2",
            lambda env, n: _halved(unbacked(env, n), n),
            (100, 200, 400),
            (200, 400),
            jax=_of_jax(lambda n: n, _halved),
            goal=Goal(at=400, stock=1 / 5, jax=1),
        ),
        Work(
            "known",
            "statically_known_true of n distinct conditions",
            _known,
            (200,),
            (200,),
            per_item=True,
            jax=_known_to_jax,
            goal=Goal(at=200, stock=1 / 10, jax=1),
        ),
        Work(
            "queries",
            "10,000 questions after n unrelated guards, half of them implied",
            _queries,
            (500, 1000, 2000, 4000),
            (500, 1000),
            largest={"stock": 0},
            goal=Goal(growth=0.1),
        ),
    )
}
