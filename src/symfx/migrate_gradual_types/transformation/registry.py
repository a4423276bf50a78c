"""The registry of transformation rules, and their common parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from symfx.migrate_gradual_types.constraint import Constraint, Disj, DVar, F
from symfx.shape_rules.errors import InvalidConstraintError
from symfx.shape_rules.registry import Registry

__all__ = [
    "RULES",
    "Dims",
    "Reduced",
    "cases_by_rank",
    "expect",
    "register_transformation_rule",
    "transform_constraint",
]

Reduced: TypeAlias = tuple[Constraint, int]
Dims: TypeAlias = list[DVar]
_R = TypeVar("_R", bound=Callable[[Any, int], tuple[Constraint, int]])
RULES: Registry[type[Constraint], Callable[[Any, int], Reduced]] = Registry(
    "a transformation rule", fix="give the new rule a class of its own"
)


def register_transformation_rule(call_target: type[Constraint]) -> Callable[[_R], _R]:
    """Make a function the rule of a class of constraints.

    Args:
        call_target: the class.

    Raises:
        DuplicateRuleError: the class has a rule.
    """

    return RULES.registering(call_target)


def transform_constraint(constraint: Constraint, counter: int) -> Reduced:
    """Rewrite a constraint by one step.

    Args:
        constraint: any constraint; a constraint without a rule is simple and is returned unchanged.
        counter: the number last given to a variable.

    Example:
        >>> from symfx.migrate_gradual_types.constraint import BinConstraintD, DVar
        >>> from symfx.migrate_gradual_types.operation import op_precision
        >>> transform_constraint(BinConstraintD(8, DVar(1), op_precision), 1)
        ((8 = DV(1)), 1)
    """
    reduce = RULES.get(type(constraint))
    return (constraint, counter) if reduce is None else reduce(constraint, counter)


def cases_by_rank(make: Callable[[int], Constraint], allowed: Iterable[int]) -> list[Constraint]:
    """Four cases, for ranks up to 1, for 2, for 3, and for 4 and more, as PyTorch has four."""
    groups: list[list[Constraint]] = [[], [], [], []]
    for rank in sorted(allowed):
        groups[min(max(rank, 1), 4) - 1].append(make(rank))
    return [group[0] if len(group) == 1 else Disj(group) if group else F() for group in groups]


def expect(holds: bool, value: Any, what: str) -> None:
    """Check a part of a constraint.

    Raises:
        InvalidConstraintError: the part is not `what`.
    """
    if not holds:
        raise InvalidConstraintError(f"{value!r} is not {what}", fix=f"give {what}")
