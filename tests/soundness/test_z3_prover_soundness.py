"""The prover that asks z3, judged as the prover itself is."""

from __future__ import annotations

import functools

import pytest
import test_prover_soundness as judged
from profiles import many

from symfx.algebra.reasoning.prover import Prover
from symfx.algebra.reasoning.z3_prover import Z3Prover


def test_its_answers_hold_and_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    count = many(12)
    cases = range(judged.SEED + 9000, judged.SEED + 9000 + count)
    alone = sum(judged.one_case(seed) for seed in cases)
    assert judged.Prover is Prover
    made: list[Z3Prover] = []

    def remembered(facts, witness=None, **more):  # type: ignore[no-untyped-def]
        made.append(Z3Prover(facts, witness, budget_ms=300))
        return made[-1]

    monkeypatch.setattr(judged, "Prover", functools.wraps(Prover)(remembered))
    assert sum(judged.one_case(seed) for seed in cases) > alone
    assert sum(prover.asked for prover in made) > sum(prover.answered for prover in made) > 0
