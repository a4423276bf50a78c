"""The registry of transformation rules, and what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, TypeVar

from symfx.migrate_gradual_types.constraint import Constraint, Disj, DVar, F
from symfx.shape_rules.errors import DuplicateRuleError, InvalidConstraintError

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
RULES: dict[type[Constraint], Callable[[Any, int], Reduced]] = {}


def register_transformation_rule(call_target: type[Constraint]) -> Callable[[_R], _R]:
    """Make a function the rule of a class of constraints.

    Args:
        call_target: the class.

    Raises:
        DuplicateRuleError: the class has a rule.
    """

    def register(function: _R) -> _R:
        if call_target in RULES:
            raise DuplicateRuleError(
                f"{call_target.__name__} has a transformation rule already",
                where=f"the rule {getattr(function, '__name__', function)}",
                fix="give the new rule a class of its own",
            )
        RULES[call_target] = function
        return function

    return register


def transform_constraint(constraint: Constraint, counter: int) -> Reduced:
    """Take a constraint apart by one step.

    Args:
        constraint: any constraint; one that has no rule is simple, and comes back as it is.
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
    """The cases of ranks up to 1, 2, 3, and 4 and more: the form of four that PyTorch's have."""
    groups: list[list[Constraint]] = [[], [], [], []]
    for rank in sorted(allowed):
        groups[min(max(rank, 1), 4) - 1].append(make(rank))
    return [group[0] if len(group) == 1 else Disj(group) if group else F() for group in groups]


def expect(holds: bool, value: Any, what: str) -> None:
    """A part of a constraint is what it must be.

    Raises:
        InvalidConstraintError: it is not.
    """
    if not holds:
        raise InvalidConstraintError(f"{value!r} is not {what}", fix=f"give {what}")
