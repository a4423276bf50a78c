"""A broadcast of two tensors as one constraint, in place of the three that the generator writes.

`ConstraintGenerator` writes a broadcast as PyTorch does: two tensors are expanded, the expanded
types are consistent, and the result is the most precise type of the two. Each of these three
constraints has one case for each rank. `fuse_broadcasts` joins them to one `Broadcast`, which has
one case for each pair of ranks; in all cases a dimension has the same formula (`Stretched`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintT,
    Conj,
    Constraint,
    Disj,
    DVar,
    TGreatestUpperBound,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import type_is
from symfx.migrate_gradual_types.operation import op_consistency
from symfx.migrate_gradual_types.possible_ranks import DYN, ranks_of, register_rank_rule
from symfx.migrate_gradual_types.transformation.registry import register_transformation_rule
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims

__all__ = ["Broadcast", "Stretched", "fuse_broadcasts"]


@dataclass(repr=False)
class Broadcast(Constraint):
    """Two tensors broadcast.

    Args:
        result: the result.
        one: the first tensor, expanded.
        other: the second tensor, expanded.
        input1: the first tensor.
        input2: the second tensor.
    """

    result: TVar
    one: TVar
    other: TVar
    input1: Any
    input2: Any

    @property
    def tensors(self) -> tuple[Any, Any, Any, Any, Any]:
        """The five tensors, in the order of the fields."""
        return self.result, self.one, self.other, self.input1, self.input2

    def __repr__(self) -> str:
        return f"{self.result} = {self.one}, {self.other} = broadcast({self.input1}, {self.input2})"


@dataclass(repr=False)
class Stretched(Constraint):
    """Two tensors of these dimensions broadcast: a simple constraint.

    Args:
        result: the result.
        one: the first tensor, expanded.
        other: the second tensor, expanded.
        dims1: the first tensor's dimensions.
        dims2: the second tensor's dimensions.
    """

    result: TVar
    one: TVar
    other: TVar
    dims1: list[Any]
    dims2: list[Any]

    def rewritten(self, dim: Callable[[Any], Any]) -> Stretched:
        """The same constraint with each dimension replaced."""
        dims1, dims2 = ([*map(dim, dims)] for dims in (self.dims1, self.dims2))
        return Stretched(self.result, self.one, self.other, dims1, dims2)

    @property
    def pairs(self) -> list[tuple[Any, Any]]:
        """The aligned dimensions from the first on, with ``None`` for missing ones."""
        aligned = itertools.zip_longest(reversed(self.dims1), reversed(self.dims2))
        return [*aligned][::-1]

    def __repr__(self) -> str:
        return f"{self.result} = {self.one}, {self.other} = stretched({self.dims1}, {self.dims2})"


def fuse_broadcasts(constraints: Sequence[Constraint]) -> list[Constraint]:
    """Join the three constraints of each broadcast."""
    fused: list[Constraint] = []
    i = 0
    while i < len(constraints):
        bound, stretched, agree = [*constraints[i : i + 3], None, None, None][:3]
        if (
            isinstance(bound, TGreatestUpperBound)
            and isinstance(stretched, ApplyBroadcasting)
            and isinstance(agree, BinConstraintT)
            and agree.op == op_consistency
            and (bound.rhs1, bound.rhs2)
            == (agree.lhs, agree.rhs)
            == (stretched.res1, stretched.res2)
        ):
            inputs = stretched.input1, stretched.input2
            fused.append(Broadcast(bound.res, bound.rhs1, bound.rhs2, *inputs))
            i += 3
        else:
            fused.append(constraints[i])
            i += 1
    return fused


def _cases(constraint: Broadcast, known: Any) -> list[tuple[int, ...]]:
    """The possible combinations of ranks of the five tensors."""
    allowed = [ranks_of(tensor, known) for tensor in constraint.tensors]
    cases: list[tuple[int, ...]] = []
    for a, b in itertools.product(*allowed[3:]):
        case = (DYN, a, b, a, b) if DYN in (a, b) else (*(max(a, b),) * 3, a, b)
        if all(rank in ranks for rank, ranks in zip(case, allowed, strict=True)):
            cases.append(case)
    return cases


@register_rank_rule(Broadcast)
def _ranks_of_broadcast(constraint: Broadcast, known: Any) -> None:
    by_tensor = zip(*_cases(constraint, known), strict=True)
    found = [frozenset(ranks) for ranks in by_tensor] or [frozenset[int]()] * 5
    for tensor, ranks in zip(constraint.tensors, found, strict=True):
        known.allow(tensor, ranks)


@register_transformation_rule(Broadcast)
def transform_broadcast(constraint: Broadcast, counter: int) -> tuple[Constraint, int]:
    """Rewrite to one alternative for each pair of ranks; with ``Dyn``, both are unchanged."""
    result, one, other, input1, input2 = constraint.tensors
    cases = _cases(constraint, None)
    # One list of dimensions serves all ranks of a tensor, which takes its last few.
    lists = []
    for i in (3, 4):
        dims, counter = gen_tensor_dims(max([0, *(case[i] for case in cases)]), counter)
        lists.append(dims)
    alternatives: list[Constraint] = []
    for _, _, _, rank1, rank2 in cases:
        if DYN not in (rank1, rank2):
            dims1, dims2 = _last(lists[0], rank1), _last(lists[1], rank2)
            named = (type_is(input1, dims1), type_is(input2, dims2))
            alternatives.append(Conj([*named, Stretched(result, one, other, dims1, dims2)]))
    unchanged = [type_is(input1, one), type_is(input2, other), type_is(result, Dyn)]
    for i, tensor in ((3, input1), (4, input2)):
        if any(case[i] == DYN for case in cases):
            alternatives.append(Conj([type_is(tensor, Dyn), *unchanged]))
    return Conj([Disj(alternatives), *gen_nat_constraints(lists[0] + lists[1])]), counter


def _last(dims: list[DVar], count: int) -> list[DVar]:
    return dims[len(dims) - count :]
