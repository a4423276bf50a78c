"""Whole programs of random operators: graphs equal eager, and refuse few shapes needlessly.

``python -m pytest -s tests/soundness/test_whole_programs.py`` prints the share of the shapes at
which a graph equals eager mode and its trace refuses the inputs.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import layout_programs
import pytest
from layout_programs import Program
from profiles import LONG
from test_layout_programs import admitted_runs, difference

import symfx
from symfx.errors import TracingError
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

SOUND = 5000 if LONG else 24
MEASURED = 1000 if LONG else 80
SHAPES = 8
# The largest share of needlessly refused shapes, in percent, for programs whose inputs are
# row-major with sizes from 2, and for those with any layout and sizes from 0.
MOST_REFUSED = {"plain": 6.0, "any layout": 12.0}

# Operators warn of degrees of freedom for a dimension of one element.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def seed() -> int:
    return random.SystemRandom().randrange(2**32) if LONG else 0


def traced(
    picks: random.Random, count: int, steps: tuple[int, int], kinds: tuple[bool, ...]
) -> Iterator[tuple[int, Program, symfx.Trace]]:
    for number in range(count):
        plain = kinds[number % len(kinds)]
        program = layout_programs.draw_program(picks, picks.randint(*steps), plain=plain)
        try:
            trace = program.trace()
        except GuardOnDataDependentSymNode:
            continue  # the program branches on the stride of a dimension of size 1, or on data
        except TracingError as error:
            # torch broadcasts a size that is data as if it were not 1.
            if re.search(r"must match the size of tensor .*\bu\d|\bu\d.* must match", str(error)):
                continue
            # torch's squeeze keeps a dimension whose size is data.
            if "only supported on matrices" in str(error) and "squeeze" in str(program):
                continue
            # The program uses the stride of a dimension of size 1, which means nothing.
            if "kernels choose such a stride as they like" in str(error):
                continue
            raise
        yield number, program, trace


def test_graphs_of_whole_programs_equal_eager_at_admitted_shapes() -> None:
    start = seed()
    picks = random.Random(start)
    programs = compared = 0
    for number, program, trace in traced(picks, SOUND, (20, 28), (True, False)):
        programs += 1
        for at, args, expected in admitted_runs(picks, program, trace):
            try:
                actual = trace.graph_module(*args)
            except RuntimeError as error:
                # The graph asserts that sizes which are data are not 1, and not broadcast.
                if re.search(r"\bu\d+\b.* does not hold; asserted aten\.", str(error)):
                    continue
                raise
            compared += 1
            said = difference(expected, actual)
            assert said is None, (
                f"program {number} of seed {start} at {at}: {said}\n{program}\n"
                f"{trace.graph_module.code}"
            )
    print(f"\n{programs} programs of 20 to 28 steps, {compared} shapes compared, all equal")
    assert programs > 0.6 * SOUND
    assert compared > 2 * programs


@pytest.mark.parametrize("kind", MOST_REFUSED)
def test_few_shapes_are_refused_at_which_the_graph_equals_eager(kind: str) -> None:
    picks = random.Random(seed())
    equal = refused = 0
    for _, program, trace in traced(picks, MEASURED, (8, 13), (kind == "plain",)):
        function = program.function()
        for values in layout_programs.other_sizes(picks, program, SHAPES):
            args = program.arguments(values)
            try:
                expected = function(*args)
                actual = trace.graph_module(*args)
            except (ArithmeticError, RuntimeError, IndexError, ValueError, AssertionError):
                continue
            if difference(expected, actual) is None:
                equal += 1
                refused += not trace.check(*args)
    share = 100 * refused / equal
    print(f"\n{kind}: {share:.1f} % of {equal} shapes are refused although the graph equals eager")
    assert equal > MEASURED
    assert share <= MOST_REFUSED[kind]
