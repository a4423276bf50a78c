"""Explanations are true: the facts of a proof imply its condition, and the nearest inputs fit.

``python -m pytest -s tests/soundness/test_explanations.py`` prints how many proofs and inputs were
checked.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

import layout_programs
import pytest
import torch
from profiles import LONG
from test_layout_programs import difference

import symfx
from benchmarks.models import WORKLOADS, build
from symfx.algebra import Term, evaluate
from symfx.algebra.reasoning.facts import UNDEFINED
from symfx.algebra.reasoning.proofs import prove_from
from symfx.errors import TracingError
from symfx.explanation import Reason
from symfx.explanation.assumptions import Assumptions
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

PROGRAMS = 2000 if LONG else 14
SHAPES = 8
# How many points, and how many sets of facts, are tried for one proof.
POINTS, SETS = 600, 200

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def holds(term: Term, values: dict[Term, int]) -> bool:
    try:
        return bool(evaluate(term, values))
    except UNDEFINED:
        return False


def points(symbols: Sequence[Term], picks: random.Random) -> Iterator[dict[Term, int]]:
    """All small values of few symbols, and random ones of more."""
    most = int(POINTS ** (1 / max(len(symbols), 1)))
    if most >= 6:
        for values in itertools.product(range(-1, min(most, 64)), repeat=len(symbols)):
            yield dict(zip(symbols, values, strict=True))
        return
    for _ in range(POINTS):
        yield {s: picks.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32)) for s in symbols}


def reasons_of(t: symfx.Trace) -> Iterator[Reason]:
    """Each conclusion of the answers about all dimensions and guards of a trace."""
    infos = t.shape_env.symbol_table()
    subjects = [info.name for info in infos]
    for info in infos:
        low = info.lower or 0
        subjects += [f"{info.name} {sign} {low + k}" for sign in (">=", "!=") for k in (-1, 0, 2)]
    subjects += [f"{a.name} + {b.name} >= 3" for a, b in itertools.pairwise(infos)]
    for subject in [*subjects, *t.guards, *t.shape_env.guards]:
        waiting = list(t.explain(subject).reasons)
        while waiting:
            reason = waiting.pop()
            waiting += reason.because
            yield reason


def proves(facts: Sequence[Term], condition: Term) -> bool:
    """Whether the prover comes to a conclusion, or sees that its opposite fails."""
    opposite = condition.table.not_(condition)
    return prove_from(facts, condition).holds is True or prove_from(facts, opposite).holds is False


def check_proofs(t: symfx.Trace, picks: random.Random) -> int:
    """Check each conclusion: by values, by the prover, and that no smaller set is enough."""
    known = Assumptions(t.shape_env)
    every = known.causes | known.others
    checked = 0
    for reason in reasons_of(t):
        if not reason.because:
            # A leaf is what the trace takes for granted, as it is recorded or in other words.
            listed = [*every, *(guard.term for guard in t.guards)]
            open_ = reason.term is None or reason.kind == "open" or reason.term in listed
            assert open_ or any(
                prove_from([said], reason.term).holds and prove_from([reason.term], said).holds
                for said in every
            ), f"{reason} comes from nowhere"
            continue
        assert reason.term is not None
        facts = [each.term for each in reason.because if each.term is not None]
        assert len(facts) == len(reason.because)
        assert all(fact in every for fact in facts)
        symbols = sorted({s for f in (reason.term, *facts) for s in f.free_symbols}, key=str)
        if all(symbol.sort == "int" for symbol in symbols):
            for values in points(symbols, picks):
                if all(holds(fact, values) for fact in facts):
                    assert holds(reason.term, values), f"{reason}\nis wrong at {values}"
        assert proves(facts, reason.term), f"the facts do not prove {reason}"
        base = list(known.causes) if all(f in known.causes for f in facts) else list(every)
        base = [f for f in base if f is not reason.term or f in facts]
        smaller = itertools.chain.from_iterable(
            itertools.combinations(base, size) for size in range(len(facts))
        )
        for some in itertools.islice(smaller, SETS):
            assert not proves(some, reason.term), f"{some} is enough for {reason}"
        checked += 1
    return checked


@pytest.fixture(scope="module", params=WORKLOADS)
def benchmark(request: pytest.FixtureRequest) -> symfx.Trace:
    workload = build(request.param, small=True, dropout=0.0)
    function, inputs = workload.closed()
    return symfx.trace(
        function, inputs, dynamic={"inputs": [*map(dict, workload.dims)]}, strict=False
    )


def test_proofs_over_the_models_of_the_benchmarks(benchmark: symfx.Trace) -> None:
    print(f"\n{benchmark!r}: {check_proofs(benchmark, random.Random(0))} proofs")
    assert benchmark.explain().kind == "trace"


def test_nearest_inputs_over_the_models_of_the_benchmarks(benchmark: symfx.Trace) -> None:
    picks = random.Random(0)
    rejected = 0
    names = [info.name for info in benchmark.symbols]
    leaves = benchmark.admission.layout.leaves
    for _ in range(6):
        sizes = {name: picks.choice((1, 2, 3, 5, 7, 40)) for name in names}
        texts = []
        for leaf in leaves:
            given = leaf.example
            terms = [str(n) for n in (given.shape if isinstance(given, torch.Tensor) else ())]
            dims = [
                str(benchmark.admission.facts[benchmark.admission.number_at(f"{leaf.name}.size()[{i}]")])
                for i in range(len(terms))
            ]  # fmt: skip
            texts.append(f"{str(given.dtype)[6:]}[{', '.join(str(sizes.get(d, d)) for d in dims)}]")
        found = benchmark.why_not(*texts)
        if not found:
            continue
        rejected += 1
        args, kwargs = found.nearest_call()
        assert benchmark.check(*args, **kwargs)
    print(f"\n{rejected} of 6 rejected")


def traced(picks: random.Random) -> Iterator[tuple[layout_programs.Program, symfx.Trace]]:
    for number in range(PROGRAMS):
        program = layout_programs.draw_program(picks, picks.randint(4, 10), plain=number % 2 == 0)
        try:
            yield program, program.trace()
        except (GuardOnDataDependentSymNode, TracingError):
            continue  # tests of whole programs look at these


def test_proofs_and_nearest_inputs_over_random_programs() -> None:
    seed = random.SystemRandom().randrange(2**32) if LONG else 0
    picks = random.Random(seed)
    programs = proofs = rejected = equal = 0
    for program, t in traced(picks):
        programs += 1
        proofs += check_proofs(t, picks)
        function = program.function()
        for values in layout_programs.other_sizes(picks, program, SHAPES):
            args = program.arguments(values)
            found = t.why_not(*args)
            assert bool(found) is not bool(t.check(*args))
            if not found:
                continue
            rejected += 1
            near, kwargs = found.nearest_call(seed=1)
            assert t.check(*near, **kwargs), f"seed {seed}: {values}\n{program}\n{found}"
            try:
                expected = function(*near)
            except (ArithmeticError, RuntimeError, IndexError, ValueError):
                continue
            said = difference(expected, t.graph_module(*near))
            assert said is None, f"seed {seed}: {values}: {said}\n{program}\n{found}"
            equal += 1
    print(
        f"\n{programs} programs: {proofs} proofs, {rejected} rejected, {equal} equal at the nearest"
    )
    # Traces refuse few shapes: of about 110 inputs, a dozen.
    assert programs > 0.6 * PROGRAMS and proofs > programs and equal > programs / 2
