"""A kernel's questions are guarded only if the description of its results depends on them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from symfx.algebra import Table, Term
from symfx.algebra.reasoning.facts import Facts
from symfx.fake_operators.both_answers import (
    AbandonedError,
    Answers,
    Outcome,
    results_on_all_paths,
)
from symfx.fake_operators.rules import New, Number

_CPU = torch.device("cpu")


class Kernel:
    """Runs a function of two sizes and an `ask` on trial, and collects the guards."""

    def __init__(self, function: Any, hints: dict[str, int]) -> None:
        table = Table()
        self.facts = Facts(table)
        self.n, self.m = table.symbol("n"), table.symbol("m")
        for symbol in (self.n, self.m):
            self.facts.assume(symbol >= 0)
        self._function = function
        self._hints = hints
        self.runs = 0
        self.guards: list[str] = []

    def outcome(self) -> Outcome | None:
        return results_on_all_paths(self.facts, self._run, self._guard)

    def _holds(self, condition: Term) -> bool:
        return bool(eval(str(condition), {}, self._hints))

    def _run(self, answers: Answers) -> Outcome | None:
        self.runs += 1

        def ask(condition: Term) -> bool:
            known = self.facts.known.get(condition)
            if known is None:
                known = answers(condition, self._holds(condition), None)
            assert known is not None
            return known

        made = self._function(ask, self.n, self.m)
        return None if made is None else (New(torch.float32, *made, _CPU),)

    def _guard(self, question: Term) -> None:
        fact = question if self._holds(question) else ~question
        self.guards.append(str(fact))
        self.facts.assume(fact)


Made = tuple[tuple[Number, ...], tuple[Number, ...]] | None


def test_a_question_without_effect_needs_no_guard() -> None:
    def contiguous(ask: Any, n: Term, m: Term) -> Made:
        ask(n.eq(1))
        return (n, 4), (4, 1)

    kernel = Kernel(contiguous, {"n": 3, "m": 2})
    assert kernel.outcome() is not None
    assert kernel.guards == []


def test_results_are_compared_under_the_answers() -> None:
    def sized(ask: Any, n: Term, m: Term) -> Made:
        return ((1, 4), (4, 1)) if ask(n.eq(1)) else ((n, 4), (4, 1))

    kernel = Kernel(sized, {"n": 1, "m": 2})
    (result,) = kernel.outcome() or ()
    assert isinstance(result, New)
    assert result.sizes == (kernel.n, 4)
    assert kernel.guards == []


def test_strides_of_size_1_and_of_empty_tensors_mean_nothing() -> None:
    def strided(ask: Any, n: Term, m: Term) -> Made:
        if ask(n.eq(1)):
            return (n, m), (77, 1)
        return ((n, m), (5, 9)) if ask(m.eq(0)) else ((n, m), (m, 1))

    kernel = Kernel(strided, {"n": 3, "m": 2})
    assert kernel.outcome() is not None
    assert kernel.guards == []


@pytest.mark.parametrize("n", [2, 3])
def test_a_question_with_effect_is_guarded(n: int) -> None:
    def transposed(ask: Any, n: Term, m: Term) -> Made:
        return ((n, m), (1, n)) if ask(n.eq(2)) else ((n, m), (m, 1))

    kernel = Kernel(transposed, {"n": n, "m": 5})
    assert kernel.outcome() is not None
    assert kernel.guards == ["n == 2" if n == 2 else "n != 2"]


def test_an_error_on_a_path_is_guarded_away_and_no_other_question() -> None:
    def broadcast(ask: Any, n: Term, m: Term) -> Made:
        ask(n.eq(7))
        if ask(n.eq(m)):
            return (n,), (1,)
        return None

    kernel = Kernel(broadcast, {"n": 3, "m": 3})
    assert kernel.outcome() is not None
    assert kernel.guards in (["n == m"], ["m == n"])


def test_an_impossible_path_counts_for_nothing() -> None:
    def twice(ask: Any, n: Term, m: Term) -> Made:
        small, large = ask(n <= 3), ask(n >= 10)
        return None if small and large else ((n,), (1,))

    kernel = Kernel(twice, {"n": 5, "m": 2})
    assert kernel.outcome() is not None
    assert kernel.guards == []


def test_the_paths_beside_an_impossible_one_count() -> None:
    def refuses_many(ask: Any, n: Term, m: Term) -> Made:
        # Of the answers at tracing, n <= 3 and n < 2, the second is impossible after n > 3.
        few = ask(n <= 3)
        return ((n,), (1,)) if ask(n < 2) and few else None

    kernel = Kernel(refuses_many, {"n": 1, "m": 2})
    assert kernel.outcome() is not None
    assert kernel.facts.known or kernel.guards
    assert any(
        "n <= 1" in guard or "n < 2" in guard or "n <= 3" in guard for guard in kernel.guards
    )


def test_an_error_at_tracing_is_left_to_the_kernel() -> None:
    kernel = Kernel(lambda ask, n, m: None, {"n": 5, "m": 2})
    assert kernel.outcome() is None
    assert kernel.guards == []


def test_a_number_cannot_have_two_answers() -> None:
    def pinned(ask: Any, n: Term, m: Term) -> Made:
        ask(n.eq(1))
        raise AbandonedError

    assert Kernel(pinned, {"n": 5, "m": 2}).outcome() is None


def test_the_number_of_runs_is_bounded() -> None:
    def curious(ask: Any, n: Term, m: Term) -> Made:
        for i in range(20):
            ask((n * m + i * n).eq(977 + i * m))
        return (n,), (1,)

    kernel = Kernel(curious, {"n": 5, "m": 2})
    assert kernel.outcome() is None
    assert kernel.runs <= 24
