"""Small work on symbolic integers, all through ``torch.SymInt`` as a traced program would do it.

A piece of work is prepared at a size ``n`` (untimed) and then run once, on a fresh environment each
time. sympy's caches are emptied too: symbols have the same names in every round, and a peer that
stands on sympy would otherwise find the results of the round before. A peer that takes more than
the budget at one size is skipped at the larger sizes. Times are CPU times, because all the work is
one thread's.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import operator
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from sympy.core.cache import clear_cache
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.goals import Finding, Goal
from benchmarks.peers import PEERS
from benchmarks.timing import Contestant, Timings, fitted_exponent, measure

__all__ = [
    "CONTESTANTS",
    "WORKS",
    "AlgebraResult",
    "Prepared",
    "Work",
    "backed",
    "run_algebra",
    "unbacked",
]

CONTESTANTS = (*PEERS, "jax")

Prepared = Callable[[], object]


def unbacked(env: Any, n: int) -> list[Any]:
    """``n`` symbols without a value, as data-dependent sizes have."""
    return [env.create_unbacked_symint() for _ in range(n)]


def backed(env: Any, hints: Sequence[int]) -> list[Any]:
    """One symbol for each hint: the sizes of fake tensors, as a tracer makes them."""
    return [fake.size(0) for fake in fakes(env, hints)]


def fakes(env: Any, hints: Sequence[int]) -> list[Any]:
    """Fake vectors, the inputs t0, t1, ... of a program, each with a symbol for its size."""
    from torch._dynamo.source import LocalSource
    from torch.fx.experimental.symbolic_shapes import DimDynamic, StatelessSymbolicContext

    mode = FakeTensorMode(shape_env=env)
    context: Any = StatelessSymbolicContext(dynamic_sizes=[DimDynamic.DYNAMIC])
    return [
        mode.from_tensor(torch.empty(hint), source=LocalSource(f"t{i}"), symbolic_context=context)
        for i, hint in enumerate(hints)
    ]


def _add_up(env: Any, n: int) -> Prepared:
    symbols = unbacked(env, n)
    return lambda: functools.reduce(operator.add, symbols)


def _add_weighted(env: Any, n: int) -> Prepared:
    terms = [(i + 2) * symbol for i, symbol in enumerate(unbacked(env, n))]
    return lambda: functools.reduce(operator.add, terms)


def _sym_sum(env: Any, n: int) -> Prepared:
    symbols = unbacked(env, n)
    sym_sum: Callable[[Any], object] = torch.sym_sum
    return lambda: sym_sum(symbols)


def _add_same(env: Any, n: int) -> Prepared:
    a, b = backed(env, [7, 11])

    def run() -> None:
        for _ in range(n):
            a + b

    return run


def _add_new(env: Any, n: int) -> Prepared:
    symbols = backed(env, [7 + 2 * i for i in range(n + 1)])

    def run() -> None:
        for a, b in itertools.pairwise(symbols):
            a + b

    return run


def _empty_strided(env: Any, n: int) -> Prepared:
    a, b = backed(env, [7, 11])
    mode = FakeTensorMode(shape_env=env)
    strides = (b * 3, 3, 1)

    def run() -> None:
        with mode:
            for _ in range(n):
                torch.empty_strided((a, b, 3), strides)

    return run


def _guards(env: Any, n: int) -> Prepared:
    symbols = backed(env, [7 + 2 * i for i in range(n + 1)])

    def run() -> None:
        for a, b in itertools.pairwise(symbols):
            if not 2 * a + 1 < 3 * b + 4:
                raise AssertionError("the hints were chosen so that each guard holds")

    return run


def _check_guards(env: Any, n: int) -> Prepared:
    hints = [7 + 2 * i for i in range(n + 1)]
    inputs = fakes(env, hints)
    for a, b in itertools.pairwise(inputs):
        if not 2 * a.size(0) + 1 < 3 * b.size(0) + 4:
            raise AssertionError("the hints were chosen so that each guard holds")
    args = [torch.empty(hint) for hint in hints]
    if hasattr(env, "guard_program"):
        check = env.guard_program().check
    else:
        code = env.produce_guards_expression(inputs)

        def check(*args: torch.Tensor) -> Any:
            return env.evaluate_guards_expression(code, args)

    def run() -> None:
        for _ in range(20):
            if not check(*args):
                raise AssertionError("the tensors have the sizes of the trace")

    return run


def _horner(env: Any, n: int) -> Prepared:
    (x,) = backed(env, [7])

    def run() -> Any:
        value: Any = 1
        for coefficient in range(1, n + 1):
            value = value * x + coefficient
        return value

    return run


@dataclass(frozen=True)
class Work:
    """A piece of algebra at several sizes.

    Attributes:
        name: its name on the command line.
        title: the work in words, and the meaning of ``n``.
        prepare: the function that takes a fresh environment and ``n``, and returns the timed call.
        sizes: the values of ``n``.
        quick_sizes: the values of ``n`` under ``--quick``.
        per_item: whether the table shows the time of one of the ``n`` items, in place of growth.
        jax: the same work on `jax.export.symbolic_shape`, or None if JAX cannot do it.
        largest: the largest ``n`` for each peer whose preparation takes too long above it.
        goal: the goal of symfx, if it has one.
    """

    name: str
    title: str
    prepare: Callable[[Any, int], Prepared]
    sizes: tuple[int, ...]
    quick_sizes: tuple[int, ...]
    per_item: bool = False
    jax: Callable[[int], Prepared] | None = None
    largest: Mapping[str, int] = field(default_factory=dict)
    goal: Goal | None = None


WORKS: dict[str, Work] = {
    work.name: work
    for work in (
        Work(
            "sum",
            "u0 + u1 + ... of n unbacked symbols, one by one",
            _add_up,
            (100, 400, 1600, 6400),
            (100, 400, 1600),
            goal=Goal(growth=1.3),
        ),
        Work(
            "weighted-sum",
            "2*u0 + 3*u1 + ... of n unbacked symbols, one by one",
            _add_weighted,
            (100, 400, 1600, 6400),
            (100, 400, 1600),
            goal=Goal(growth=1.3),
        ),
        Work(
            "sym-sum",
            "torch.sym_sum of n unbacked symbols",
            _sym_sum,
            (100, 400, 1600, 6400),
            (100, 400, 1600),
            goal=Goal(growth=1.3),
        ),
        Work(
            "guards",
            "n guards 2*x[i] + 1 < 3*x[i+1] + 4",
            _guards,
            (50, 100, 200, 400),
            (50, 100, 200),
            goal=Goal(at=200, stock=1 / 50, growth=1.2),
        ),
        Work(
            "check-guards",
            "n such guards checked for other tensors, 20 times over: stock's "
            "evaluate_guards_expression, symfx's guard_program().check",
            _check_guards,
            (10, 100, 400),
            (10, 100),
            goal=Goal(at=100, stock=1 / 10),
        ),
        Work(
            "polynomial",
            "a polynomial in one symbol, n terms, by Horner's scheme",
            _horner,
            (8, 16, 32, 64),
            (8, 16, 32),
        ),
        Work(
            "add-same",
            "a + b, n times over",
            _add_same,
            (2000,),
            (1000,),
            per_item=True,
            goal=Goal(at=2000, stock=0.3),
        ),
        Work(
            "add-new",
            "x[i] + x[i+1] for n new pairs",
            _add_new,
            (1000,),
            (300,),
            per_item=True,
            goal=Goal(at=1000, stock=0.3),
        ),
        Work(
            "empty-strided",
            "torch.empty_strided((a, b, 3), ...) under FakeTensorMode, n times",
            _empty_strided,
            (500,),
            (200,),
            per_item=True,
            goal=Goal(at=500, stock=0.2),
        ),
    )
}


@dataclass
class AlgebraResult:
    """The timings of one piece of work.

    Attributes:
        work: the work.
        timings: the seconds of each peer, by size.
    """

    work: Work
    timings: dict[int, Timings] = field(default_factory=dict)

    def medians(self, peer: str) -> dict[int, float]:
        """The median seconds of a peer at each size that it ran at."""
        found = {n: timings.median(peer) for n, timings in self.timings.items()}
        return {n: median for n, median in found.items() if median is not None}

    def exponent(self, peer: str) -> float | None:
        """The fitted ``k`` of a time that grows as ``n**k``."""
        return fitted_exponent(self.medians(peer))

    def growth(self, peer: str) -> str:
        """The exponent as text, with the largest size if the peer was skipped above it."""
        exponent = self.exponent(peer)
        if exponent is None:
            return "-"
        last = max(self.medians(peer))
        return f"n^{exponent:.2f}" + ("" if last == max(self.timings) else f" to {last}")

    def findings(self) -> list[Finding]:
        """The figures of the work's goal as they were measured."""
        name, goal = self.work.name, self.work.goal or Goal()
        found = []
        for peer, most in (("stock", goal.stock), ("jax", goal.jax)):
            if most is not None and goal.at is not None:
                timings = self.timings.get(goal.at)
                ratio = None if timings is None else timings.ratio("symfx", peer)
                found.append(Finding(name, f"symfx / {peer} at n = {goal.at}", most, ratio))
        if goal.growth is not None:
            sizes = sorted(self.medians("symfx"))
            span = f", n = {sizes[0]}..{sizes[-1]}" if sizes else ""
            found.append(Finding(name, f"k of n^k{span}", goal.growth, self.exponent("symfx")))
        return found


def _contestant(peer: str, work: Work, n: int) -> Contestant | None:
    """A peer at a piece of work, or None if the peer cannot do it."""
    if n > work.largest.get(peer, n):
        return None
    if peer in PEERS:

        def make() -> Prepared:
            return work.prepare(PEERS[peer].shape_env(), n)
    elif work.jax is not None and importlib.util.find_spec("jax"):
        make = functools.partial(work.jax, n)
    else:
        return None
    prepared: list[Prepared] = []

    def prepare() -> None:
        clear_cache()
        prepared[:] = [make()]

    return Contestant(peer, lambda: prepared[0](), prepare)


def run_algebra(
    works: Sequence[Work],
    repeat: int,
    *,
    quick: bool,
    budget: float,
    done: Callable[[AlgebraResult], object],
) -> list[AlgebraResult]:
    """Time pieces of work; a peer that takes over ``budget`` seconds is skipped at larger sizes."""
    results = []
    for work in works:
        result = AlgebraResult(work)
        too_slow: dict[str, str] = {}
        for n in work.quick_sizes if quick else work.sizes:
            candidates = [_contestant(p, work, n) for p in CONTESTANTS if p not in too_slow]
            timings = measure(
                [c for c in candidates if c is not None], repeat, budget, time.process_time
            )
            timings.skipped.update(too_slow)
            too_slow.update((peer, f"{why} at {n}") for peer, why in timings.skipped.items())
            result.timings[n] = timings
        results.append(result)
        done(result)
    return results
