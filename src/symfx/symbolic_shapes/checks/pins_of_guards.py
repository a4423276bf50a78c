"""The symbols that guards leave one value, where no single guard names it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from symfx.symbolic_shapes.checks.needed_guards import implied_by_ranges
from symfx.symbolic_shapes.records import ShapeGuard, SpecializationRecord

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["pins_of_guards"]


def pins_of_guards(
    env: ShapeEnv, guards: Sequence[ShapeGuard], known: Collection[str]
) -> list[SpecializationRecord]:
    """The symbols of inputs that guards pin together, such as ``n <= 3`` and ``n % 2 == 0``.

    A symbol whose range has one value from the beginning is not pinned by a guard.

    Args:
        env: the environment.
        guards: its guards.
        known: the names of symbols to leave out.

    Returns:
        A record for each symbol, with the cause of the last guard about it.
    """
    found = []
    for info in env.symbol_table():
        value = env.symbols.hints.get(info.term)
        if info.unbacked or info.name in known or type(value) is not int:
            continue
        causes = [guard for guard in guards if info.term in guard.term.free_symbols]
        only = env.table.eq(info.term, env.table.const(value))
        if causes and env.knowledge.decide(only) and not implied_by_ranges(only, env):
            found.append(SpecializationRecord(info.name, value, causes[-1].provenance))
    return found
