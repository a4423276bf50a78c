"""Values of two runs of programs, compared for all sizes that satisfy some conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from symfx.algebra import Term
from symfx.shape_rules.sizes import UNKNOWN, Shape, Size
from symfx.static_migration.solver import Solver

__all__ = ["same_values"]


def same_values(one: Any, two: Any, conditions: Sequence[Term], solver: Solver) -> bool:
    """Whether two values are equal for all sizes that satisfy some conditions.

    The values may have sizes of different tables: names count.

    Args:
        one: shapes, sizes, and tuples and dictionaries of them.
        two: another value.
        conditions: the conditions.
        solver: answers the questions.
    """
    if isinstance(one, (Size, int)) and isinstance(two, (Size, int)):
        sides = [size.value if isinstance(size, Size) else size for size in (one, two)]
        return solver.equal(conditions, *sides)
    if isinstance(one, Shape) is not isinstance(two, Shape) or type(one) is not type(two):
        return False
    if isinstance(one, dict):
        return [*one] == [*two] and same_values(
            (*one.values(),), (*two.values(),), conditions, solver
        )
    if isinstance(one, (tuple, list)):
        return len(one) == len(two) and all(
            same_values(a, b, conditions, solver) for a, b in zip(one, two, strict=True)
        )
    return one is not UNKNOWN and bool(one is two or one == two)
