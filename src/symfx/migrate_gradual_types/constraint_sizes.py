"""Sizes as variables that may be ``Dyn``: a shape rule that runs on them yields constraints.

A result computed from ``Dyn`` is ``Dyn``, and a demand on ``Dyn`` holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    DGreatestUpperBound,
    Disj,
    DVar,
    Prod,
)
from symfx.migrate_gradual_types.operation import (
    op_add,
    op_consistency,
    op_div,
    op_eq,
    op_gt,
    op_leq,
    op_lt,
    op_mod,
    op_mul,
    op_neq,
    op_sub,
)
from symfx.shape_rules.sizes import Dim, Shape, Size, Sizes

__all__ = ["ConstraintSizes"]

_SIGNS = {"+": op_add, "-": op_sub, "*": op_mul, "//": op_div, "%": op_mod}


class ConstraintSizes(Sizes):
    """Collects the demands of rules as constraints.

    Args:
        name: the prefix of the names of fresh variables, which must differ from all others. Fresh
            variables have names, so that the numbers of a program's own variables do not depend
            on them.
    """

    def __init__(self, name: object) -> None:
        self.name = name
        self.constraints: list[Constraint] = []
        self._made = 0

    # -- in and out -------------------------------------------------------------------------------

    def size(self, dimension: Any) -> Dim:
        """A dimension of the constraint language as a size."""
        return dimension if isinstance(dimension, int) else Size(self, dimension)

    def shape(self, dimensions: Iterable[Any]) -> Shape:
        """Dimensions of the constraint language as a shape."""
        return Shape(map(self.size, dimensions))

    def payload(self, size: Dim) -> Any:
        """A size as the constraint language writes it: a dimension or an expression."""
        return size.value if isinstance(size, Size) else size

    def dimension(self, size: Dim) -> Any:
        """A size as a dimension; an expression gets a variable, ``Dyn`` if a part of it is."""
        value = self.payload(size)
        if isinstance(value, (int, DVar)) or value == Dyn:
            return value
        result = self._value(value)
        self.constraints.append(BinConstraintD(0, result, op_leq))
        return result

    def _value(self, value: Any) -> Any:
        """A variable for the value of an expression, which may be negative."""
        if isinstance(value, (int, DVar)):
            return value
        result = self._variable()
        parts = _variables(value)
        unknown = [BinConstraintD(part, Dyn, op_eq) for part in parts]
        known = [BinConstraintD(part, Dyn, op_neq) for part in [*parts, result]]
        self.constraints += [
            Disj(
                [
                    Conj([Disj(unknown), BinConstraintD(result, Dyn, op_eq)]),
                    Conj([*known, BinConstraintD(result, value, op_eq)]),
                ]
            ),
        ]
        return result

    def type_is(self, tensor: Any, shape: Sequence[Dim]) -> BinConstraintT:
        """The constraint that a tensor has a shape."""
        return BinConstraintT(tensor, TensorType([*map(self.dimension, shape)]), op_eq)

    def _variable(self) -> DVar:
        self._made += 1
        return DVar(f"{self.name}.{self._made}")

    # -- the operations of rules ------------------------------------------------------------------

    def fresh(self, hint: str) -> Dim:
        """The size ``Dyn``."""
        return Size(self, Dyn)

    def _compute(self, op: str, a: Dim, b: Dim) -> Dim:
        one, other = self.payload(a), self.payload(b)
        if self._is_dyn(one) or self._is_dyn(other):
            return Size(self, Dyn)
        if op in _SIGNS:
            return Size(self, BinConstraintD(one, other, _SIGNS[op]))
        one, other, result = self._value(one), self._value(other), self._variable()
        less = BinConstraintD(one, other, op_leq)
        more = BinConstraintD(other, one, op_leq)
        smaller, larger = (one, other) if op == "min" else (other, one)
        self._unless_unknown(
            [one, other],
            Disj(
                [
                    Conj([less, BinConstraintD(result, smaller, op_eq)]),
                    Conj([more, BinConstraintD(result, larger, op_eq)]),
                ]
            ),
            also=[BinConstraintD(result, Dyn, op_eq)],
        )
        return Size(self, result)

    def _require(self, op: str, a: Dim, b: Dim, what: str) -> None:
        one, other = self.payload(a), self.payload(b)
        if self._is_dyn(one) or self._is_dyn(other):
            return
        relation: Constraint
        if op == "==":
            relation = BinConstraintD(one, other, op_eq)
        elif op == "!=":
            orders = [BinConstraintD(one, other, sign) for sign in (op_lt, op_gt)]
            relation = Disj(orders)
        elif op in ("<=", ">="):
            pair = (one, other) if op == "<=" else (other, one)
            relation = BinConstraintD(*pair, op_leq)
        else:
            relation = BinConstraintD(one, other, op_lt if op == "<" else op_gt)
        self._unless_unknown(_variables(one) + _variables(other), relation)

    def _unless_unknown(
        self, parts: Sequence[Any], relation: Constraint, also: Sequence[Constraint] = ()
    ) -> None:
        unknown: list[Constraint] = [
            BinConstraintD(part, Dyn, op_eq) for part in parts if isinstance(part, DVar)
        ]
        if also:
            unknown = [Conj([Disj(unknown), *also])]
        self.constraints.append(Disj([*unknown, relation]))

    def _equal(self, a: Dim, b: Dim, what: str) -> Dim:
        one, other = self.dimension(a), self.dimension(b)
        if self._is_dyn(one):
            return b
        if self._is_dyn(other):
            return a
        self.constraints.append(BinConstraintD(one, other, op_consistency))
        if isinstance(one, int) or isinstance(other, int):
            return one if isinstance(one, int) else other
        result = self._variable()
        self.constraints.append(DGreatestUpperBound(result, one, other))
        return Size(self, result)

    def _broadcast(self, a: Dim, b: Dim, what: str) -> Dim:
        one, other = self.dimension(a), self.dimension(b)
        if one == other:
            return a
        result = self._variable()

        def is_(dim: Any, value: Any, op: str = op_eq) -> Constraint:
            return BinConstraintD(dim, value, op)

        # If one is Dyn, the other is the result, unless it is 1: then the result is Dyn.
        self.constraints += [
            Disj(
                [
                    Conj([is_(one, 1), is_(result, other)]),
                    Conj([is_(other, 1), is_(result, one)]),
                    Conj([is_(one, other), is_(result, one)]),
                    Conj([is_(one, Dyn), is_(other, 1, op_neq), is_(result, other)]),
                    Conj([is_(other, Dyn), is_(one, 1, op_neq), is_(result, one)]),
                ]
            ),
            is_(0, result, op_leq),
        ]
        return Size(self, result)

    def _stretch(self, a: Dim, b: Dim, what: str) -> None:
        one, other = self.dimension(a), self.dimension(b)
        pairs = ((one, 1), (one, other), (one, Dyn), (other, Dyn))
        self.constraints.append(Disj([BinConstraintD(dim, value, op_eq) for dim, value in pairs]))

    @staticmethod
    def _is_dyn(value: Any) -> bool:
        return bool(value == Dyn)


def _variables(value: Any) -> list[DVar]:
    """The variables of an expression, each once."""
    found: dict[DVar, None] = {}
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, DVar):
            found[part] = None
        elif isinstance(part, BinConstraintD):
            left += [part.rhs, part.lhs]
        elif isinstance(part, Prod):
            left += reversed(part.products)
    return [*found]
