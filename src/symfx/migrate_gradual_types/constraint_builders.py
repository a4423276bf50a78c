"""Short functions that build the constraints which rules use most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    DVar,
)
from symfx.migrate_gradual_types.operation import op_eq, op_neq
from symfx.migrate_gradual_types.util import gen_nat_constraints

__all__ = ["both_unknown", "case_of", "is_", "known", "type_is", "unknown"]


def type_is(tensor: Any, type_: Any) -> BinConstraintT:
    """A tensor has a type, given as a variable, ``Dyn``, or the list of its dimensions."""
    return BinConstraintT(tensor, TensorType(type_) if isinstance(type_, list) else type_, op_eq)


def both_unknown(*tensors: Any) -> Conj:
    """All of these tensors are ``Dyn``."""
    return Conj([type_is(tensor, Dyn) for tensor in tensors])


def case_of(tensors: Sequence[tuple[Any, list[Any]]], *demands: Constraint) -> Conj:
    """Tensors have these dimensions, none of them is negative, and the demands hold."""
    types = [type_is(tensor, dims) for tensor, dims in tensors]
    named = {dim: None for _, dims in tensors for dim in dims if isinstance(dim, DVar)}
    return Conj([*types, *demands, *gen_nat_constraints(named)])


def is_(one: Any, other: Any) -> BinConstraintD:
    """Two dimensions are equal."""
    return BinConstraintD(one, other, op_eq)


def unknown(dim: Any) -> BinConstraintD:
    """A dimension is ``Dyn``."""
    return is_(dim, Dyn)


def known(dim: Any) -> BinConstraintD:
    """A dimension is a number."""
    return BinConstraintD(dim, Dyn, op_neq)
