"""Fresh variables; a function takes the number last given to a variable and returns the new one."""

from __future__ import annotations

from collections.abc import Iterable

from symfx.migrate_gradual_types.constraint import BinConstraintD, BVar, DVar, TVar
from symfx.migrate_gradual_types.operation import op_leq

__all__ = ["gen_bvar", "gen_dvar", "gen_nat_constraints", "gen_tensor_dims", "gen_tvar"]


def gen_tvar(curr: int) -> tuple[TVar, int]:
    """A variable for the type of a tensor.

    Example:
        >>> gen_tvar(4)
        (TV(5), 5)
    """
    return TVar(curr + 1), curr + 1


def gen_dvar(curr: int) -> tuple[DVar, int]:
    """A variable for a dimension."""
    return DVar(curr + 1), curr + 1


def gen_bvar(curr: int) -> tuple[BVar, int]:
    """A variable for a truth value."""
    return BVar(curr + 1), curr + 1


def gen_tensor_dims(n: int, curr: int) -> tuple[list[DVar], int]:
    """Variables for the `n` dimensions of a tensor."""
    return [DVar(curr + i) for i in range(1, n + 1)], curr + n


def gen_nat_constraints(list_of_dims: Iterable[DVar]) -> list[BinConstraintD]:
    """Constraints that each dimension is not negative."""
    return [BinConstraintD(0, dim, op_leq) for dim in list_of_dims]
