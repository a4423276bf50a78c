"""The possible ranks of each tensor, found before composite constraints are rewritten.

A composite constraint has one case for each rank of each tensor in it. Most cases contradict other
constraints: the result of a convolution has rank 4, so a tensor that is added to it is expanded to
rank 4. `narrow_ranks` computes the possible ranks of each tensor variable: a rank, or `DYN` for a
tensor typed ``Dyn``. It propagates the ranks that each constraint allows until nothing changes, and
drops the impossible cases. A dropped case has no solution, so the formula keeps all solutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintT,
    CalcConv,
    CalcMaxPool,
    CalcProduct,
    Conj,
    Constraint,
    Disj,
    F,
    GetItem,
    GetItemTensor,
    IndexSelect,
    TGreatestUpperBound,
    Transpose,
    TVar,
)
from symfx.migrate_gradual_types.operation import (
    op_consistency,
    op_eq,
    op_leq,
    op_matching,
    op_precision,
)
from symfx.shape_rules.ranks import get_max_rank

__all__ = ["DYN", "Ranks", "found_ranks", "narrow_ranks", "ranks_of"]

#: Stands among ranks for a tensor that is typed ``Dyn``.
DYN = -1
Ranks = frozenset[int]

_NOTHING: Mapping[TVar, Ranks] = {}
#: The result of `narrow_ranks`, for the rules that rewrite composite constraints.
found_ranks: ContextVar[Mapping[TVar, Ranks]] = ContextVar("symfx_possible_ranks", default=_NOTHING)


def _everything() -> Ranks:
    return frozenset(range(DYN, get_max_rank() + 1))


def ranks_of(tensor: Any, known: Mapping[TVar, Ranks] | None = None) -> Ranks:
    """The possible ranks of a tensor variable, or the rank of a written type."""
    if isinstance(tensor, TVar):
        found = (found_ranks.get() if known is None else known).get(tensor)
        return _everything() if found is None else found
    if isinstance(tensor, TensorType):
        return frozenset({len(tensor.dims)})
    return frozenset({DYN})


class _Contradiction(Exception):
    """A tensor has no possible rank."""


class _Scope(dict[TVar, Ranks]):
    """The possible ranks within one alternative, on top of those outside of it."""

    def __init__(self, outer: Mapping[TVar, Ranks]) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, tensor: TVar) -> Ranks:
        found = self.outer.get(tensor)
        return _everything() if found is None else found

    def get(self, tensor: TVar, default: Any = None) -> Any:
        return self[tensor]

    def allow(self, tensor: Any, ranks: Ranks) -> None:
        """Restrict the possible ranks of a tensor to these."""
        left = ranks_of(tensor, self) & ranks
        if not left:
            raise _Contradiction
        if isinstance(tensor, TVar) and left != self[tensor]:
            self[tensor] = left


def narrow_ranks(constraints: Sequence[Constraint]) -> tuple[list[Constraint], dict[TVar, Ranks]]:
    """Find the possible ranks of tensors, and drop the impossible alternatives.

    Args:
        constraints: the constraints of a program, which hold together.

    Returns:
        The constraints without impossible alternatives (``[F()]`` if they contradict each other),
        and the possible ranks of each tensor variable whose ranks are restricted.
    """
    known = _Scope({})
    rest = [*constraints]
    try:
        backwards = False
        while True:
            before = dict(known)
            order = range(len(rest) - 1, -1, -1) if backwards else range(len(rest))
            for i in order:
                rest[i] = _visit(rest[i], known)
            if known == before:
                return rest, dict(known)
            backwards = not backwards
    except _Contradiction:
        return [F()], dict(known)


def _visit(constraint: Constraint, known: _Scope) -> Constraint:
    """Restrict ranks by a constraint, and return it without its impossible alternatives."""
    if isinstance(constraint, Conj):
        return Conj([_visit(part, known) for part in constraint.conjucts])
    if isinstance(constraint, Disj):
        return _visit_alternatives(constraint, known)
    if isinstance(constraint, F):
        raise _Contradiction
    says = _SAYS.get(type(constraint))
    if says is not None:
        says(constraint, known)
    return constraint


def _visit_alternatives(constraint: Disj, known: _Scope) -> Constraint:
    left: list[Constraint] = []
    scopes: list[_Scope] = []
    for alternative in constraint.disjuncts:
        scope = _Scope(known)
        try:
            left.append(_visit(alternative, scope))
        except _Contradiction:
            continue
        scopes.append(scope)
    if not scopes:
        raise _Contradiction
    # A tensor keeps the ranks of all alternatives, if each alternative restricts them.
    for tensor in set.intersection(*({*scope} for scope in scopes)):
        known.allow(tensor, frozenset().union(*(scope[tensor] for scope in scopes)))
    return left[0] if len(left) == 1 else Disj(left)


# -- the ranks that each constraint allows -------------------------------------------------------


def _binary(c: BinConstraintT, known: _Scope) -> None:
    left, right = c.lhs, c.rhs
    if c.op == op_eq:
        shared = ranks_of(left, known) & ranks_of(right, known)
        known.allow(left, shared)
        known.allow(right, shared)
    elif c.op == op_precision and left != Dyn:
        known.allow(right, ranks_of(left, known))
    elif c.op == op_leq:
        known.allow(left, frozenset(range(DYN, c.rhs + 1)))
    elif c.op == op_matching:
        known.allow(left, ranks_of(right, known) | {DYN})
    elif c.op == op_consistency:
        for one, other in ((left, right), (right, left)):
            if DYN not in ranks_of(other, known):
                known.allow(one, ranks_of(other, known) | {DYN})


def _upper_bound(c: TGreatestUpperBound, known: _Scope) -> None:
    one, other = ranks_of(c.rhs1, known), ranks_of(c.rhs2, known)
    unknown = {DYN} if DYN in one | other else set()
    known.allow(c.res, (one & other) - {DYN} | unknown)
    if DYN not in ranks_of(c.res, known):
        known.allow(c.rhs1, ranks_of(c.res, known))
        known.allow(c.rhs2, ranks_of(c.res, known))


def _broadcast(c: ApplyBroadcasting, known: _Scope) -> None:
    one, other = ranks_of(c.input1, known), ranks_of(c.input2, known)
    pairs = [(a, b) for a in one for b in other]
    known.allow(c.res1, frozenset(max(a, b) if DYN not in (a, b) else a for a, b in pairs))
    known.allow(c.res2, frozenset(max(a, b) if DYN not in (a, b) else b for a, b in pairs))
    # Backwards: an expanded tensor has at least the rank of the original.
    for tensor, result in ((c.input1, c.res1), (c.input2, c.res2)):
        reached = ranks_of(result, known)
        below = frozenset(range(max(reached) + 1)) if max(reached) > DYN else frozenset()
        known.allow(tensor, below | ({DYN} if DYN in reached else frozenset()))


def _convolution(c: CalcConv, known: _Scope) -> None:
    known.allow(c.input_var, frozenset({DYN, 4}))
    known.allow(c.conv_result, frozenset({4}))


def _pooling(c: CalcMaxPool, known: _Scope) -> None:
    known.allow(c.input_var, frozenset({DYN, 4}))
    known.allow(c.maxpool_result, frozenset({4}))


def _flatten(c: CalcProduct, known: _Scope) -> None:
    rank = len(c.dims_to_flatten)
    if not 0 <= c.start < c.end <= rank:
        raise _Contradiction
    known.allow(c.flattened, frozenset({rank - (c.end - c.start) + 1}))


def _same_rank(c: Transpose | IndexSelect, known: _Scope) -> None:
    known.allow(c.input_var, frozenset({c.tensor_size}))
    known.allow(c.output, frozenset({c.tensor_size}))


def _item(c: GetItem | GetItemTensor, known: _Scope) -> None:
    known.allow(c.input_var, frozenset({c.tensor_size}))


_SAYS: dict[type[Constraint], Callable[[Any, _Scope], None]] = {
    BinConstraintT: _binary,
    TGreatestUpperBound: _upper_bound,
    ApplyBroadcasting: _broadcast,
    CalcConv: _convolution,
    CalcMaxPool: _pooling,
    CalcProduct: _flatten,
    Transpose: _same_rank,
    IndexSelect: _same_rank,
    GetItem: _item,
    GetItemTensor: _item,
}


def register_rank_rule(constraint: type[Constraint]) -> Callable[[Any], Any]:
    """Make a function restrict the ranks by constraints of a class."""

    def register(says: Callable[[Any, _Scope], None]) -> Callable[[Any, _Scope], None]:
        _SAYS[constraint] = says
        return says

    return register


def shared_ranks(tensors: Iterable[Any]) -> Ranks:
    """The ranks, without `DYN`, that are possible for all of the tensors."""
    shared = _everything() - {DYN}
    for tensor in tensors:
        shared &= ranks_of(tensor)
    return shared
