"""Equal variables replaced by one variable.

The rewriting of constraints gives each operator fresh dimensions for its tensors, and equations
with the dimensions of earlier operators. `Aliases` reads the equations that stand outside of any
alternative, and replaces each dimension by its number or by the first variable that equals it.
Variables of the program keep their equations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeGuard

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    Prod,
    T,
    TVar,
    is_dim,
)
from symfx.migrate_gradual_types.operation import op_eq, op_leq, op_neq
from symfx.migrate_gradual_types.transformation.fused_broadcasts import Stretched

__all__ = ["Aliases"]


class Aliases:
    """The dimensions that the equations of a program make equal.

    Args:
        constraints: simple constraints that hold together.
        visible: the variables of the program's nodes, which the formula must keep.
    """

    def __init__(self, constraints: Iterable[Constraint], visible: Collection[Any]) -> None:
        self._visible = frozenset(v for v in visible if isinstance(v, DVar))
        self._dims: dict[DVar, Any] = {}
        self._tensors: dict[TVar, TVar] = {}
        self._shapes: dict[TVar, TensorType] = {}
        self._facts = [*_conjuncts(constraints)]
        for fact in self._facts:
            if isinstance(fact, BinConstraintT) and fact.op == op_eq:
                self._same_types(fact.lhs, fact.rhs)
            elif _equates_dims(fact):
                self._same_dims(fact.lhs, fact.rhs)

    # -- reading equations ------------------------------------------------------------------------

    def _tensor(self, tensor: TVar) -> TVar:
        while tensor in self._tensors:
            tensor = self._tensors[tensor]
        return tensor

    def dim(self, dim: Any) -> Any:
        """The number or variable that replaces a dimension."""
        path = []
        while isinstance(dim, DVar) and dim in self._dims:
            path.append(dim)
            dim = self._dims[dim]
        for passed in path:
            self._dims[passed] = dim
        return dim

    def _same_types(self, one: Any, other: Any) -> None:
        if isinstance(one, TVar) and isinstance(other, TVar):
            one, other = self._tensor(one), self._tensor(other)
            if one == other:
                return
            self._tensors[other] = one
            shape = self._shapes.pop(other, None)
            if shape is not None:
                self._same_types(one, shape)
            return
        if isinstance(one, TensorType):
            one, other = other, one
        if not isinstance(one, TVar) or not isinstance(other, TensorType):
            return
        tensor = self._tensor(one)
        known = self._shapes.setdefault(tensor, other)
        if known is not other and len(known.dims) == len(other.dims):
            for a, b in zip(known.dims, other.dims, strict=True):
                self._same_dims(a, b)

    def _same_dims(self, one: Any, other: Any) -> None:
        one, other = self.dim(one), self.dim(other)
        if one == other or Dyn in (one, other):
            return
        # A number replaces a variable; a visible variable replaces others.
        if isinstance(other, int) or (other in self._visible and one not in self._visible):
            one, other = other, one
        if isinstance(other, DVar):
            self._dims[other] = one

    # -- replacing variables ----------------------------------------------------------------------

    def apply(self) -> list[Constraint]:
        """The program's constraints with equal dimensions replaced, each constraint once."""
        kept: list[Constraint] = []
        shapes: set[str] = set()
        naturals: set[Any] = set()
        for fact in self._facts:
            new = self.rewrite(fact)
            if isinstance(new, T):
                continue
            if isinstance(new, BinConstraintD) and new.op == op_leq:
                if new.rhs in naturals and new.lhs == 0:
                    continue
                naturals.add(new.rhs if new.lhs == 0 and isinstance(new.rhs, DVar) else None)
            if isinstance(new, BinConstraintT):
                text = repr(new)
                if text in shapes:
                    continue
                shapes.add(text)
            kept.append(new)
        for variable in self._visible:
            value = self.dim(variable)
            if value != variable:
                kept.append(BinConstraintD(variable, value, op_eq))
        return kept

    def rewrite(self, constraint: Any) -> Any:
        """A constraint, or a part of one, with equal dimensions replaced."""
        if isinstance(constraint, DVar):
            return self.dim(constraint)
        if isinstance(constraint, TensorType):
            return TensorType([*map(self.dim, constraint.dims)])
        if isinstance(constraint, Prod):
            return Prod([*map(self.rewrite, constraint.products)])
        if isinstance(constraint, BinConstraintD):
            left, right = self.rewrite(constraint.lhs), self.rewrite(constraint.rhs)
            if constraint.op == op_eq and is_dim(left) and is_dim(right):
                if left == right and left != Dyn:
                    return T()
                if _apart(left, right):
                    return F()
            if constraint.op == op_neq and _apart(left, right):
                return T()
            if constraint.op == op_leq and isinstance(left, int) and isinstance(right, int):
                return T() if left <= right else F()
            return BinConstraintD(left, right, constraint.op)
        if isinstance(constraint, BinConstraintT):
            return BinConstraintT(
                self.rewrite(constraint.lhs), self.rewrite(constraint.rhs), constraint.op
            )
        if isinstance(constraint, Stretched):
            return constraint.rewritten(self.dim)
        if isinstance(constraint, Conj):
            return _joined(map(self.rewrite, constraint.conjucts), T, F, Conj)
        if isinstance(constraint, Disj):
            return _joined(map(self.rewrite, constraint.disjuncts), F, T, Disj)
        return constraint


def _equates_dims(fact: Constraint) -> TypeGuard[BinConstraintD]:
    if not isinstance(fact, BinConstraintD) or fact.op != op_eq:
        return False
    return is_dim(fact.lhs) and is_dim(fact.rhs)


def _apart(one: Any, other: Any) -> bool:
    """Whether two dimensions differ: two different numbers, or a number and ``Dyn``."""
    both = [one, other]
    return (
        any(isinstance(side, int) for side in both)
        and all(isinstance(side, int) or side == Dyn for side in both)
        and one != other
    )


def _joined(
    parts: Iterable[Constraint],
    neutral: type[Constraint],
    absorbing: type[Constraint],
    join: Callable[[list[Constraint]], Constraint],
) -> Constraint:
    kept: list[Constraint] = []
    for part in parts:
        if isinstance(part, absorbing):
            return part
        if not isinstance(part, neutral):
            kept.append(part)
    return kept[0] if len(kept) == 1 else join(kept) if kept else neutral()


def _conjuncts(constraints: Iterable[Constraint]) -> Iterable[Constraint]:
    for constraint in constraints:
        if isinstance(constraint, Conj):
            yield from _conjuncts(constraint.conjucts)
        else:
            yield constraint
