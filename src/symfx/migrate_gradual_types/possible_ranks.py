"""Which ranks each tensor can have at all, found before any constraint is taken apart.

A composite constraint has a case for every rank of every tensor in it. Most cases contradict
what other constraints say: the result of a convolution has rank 4, so what is added to it is
stretched to rank 4. `narrow` finds, for each tensor variable, the *kinds* it may be (``Dyn`` or a
rank) by passing what each constraint allows along until nothing changes, and drops the cases that
are impossible. What is dropped has no solution, so the formula keeps all of its solutions.
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

__all__ = ["DYN", "Kinds", "known_kinds", "narrow", "possible"]

#: The kind of a tensor that is typed ``Dyn``; the others are ranks, from 0.
DYN = -1
Kinds = frozenset[int]

_NOTHING: Mapping[TVar, Kinds] = {}
#: What `narrow` found, for the rules that take constraints apart.
known_kinds: ContextVar[Mapping[TVar, Kinds]] = ContextVar("symfx_kinds", default=_NOTHING)


def _everything() -> Kinds:
    return frozenset(range(DYN, get_max_rank() + 1))


def possible(tensor: Any, kinds: Mapping[TVar, Kinds] | None = None) -> Kinds:
    """The kinds that a type can be: of a variable what is known, of a written type that one."""
    if isinstance(tensor, TVar):
        found = (known_kinds.get() if kinds is None else kinds).get(tensor)
        return _everything() if found is None else found
    if isinstance(tensor, TensorType):
        return frozenset({len(tensor.dims)})
    return frozenset({DYN})


class _Contradiction(Exception):
    """No kinds are left for some tensor."""


class _Scope(dict[TVar, Kinds]):
    """What is known within one alternative, on top of what is known outside."""

    def __init__(self, outer: Mapping[TVar, Kinds]) -> None:
        super().__init__()
        self.outer = outer

    def __missing__(self, tensor: TVar) -> Kinds:
        found = self.outer.get(tensor)
        return _everything() if found is None else found

    def get(self, tensor: TVar, default: Any = None) -> Any:
        return self[tensor]

    def allow(self, tensor: Any, kinds: Kinds) -> None:
        """Keep these kinds of a tensor, of those it has."""
        left = possible(tensor, self) & kinds
        if not left:
            raise _Contradiction
        if isinstance(tensor, TVar) and left != self[tensor]:
            self[tensor] = left


def narrow(constraints: Sequence[Constraint]) -> tuple[list[Constraint], dict[TVar, Kinds]]:
    """Find what kinds tensors can be, and drop the alternatives that are impossible.

    Args:
        constraints: what holds, all of it.

    Returns:
        The constraints without impossible alternatives (``[F()]`` if nothing is left), and the
        kinds of each tensor variable that something was found about.
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
    """Pass on what a constraint says, and return it without its impossible alternatives."""
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
    # A tensor keeps what any alternative leaves it; one that an alternative is silent of, all.
    for tensor in set.intersection(*({*scope} for scope in scopes)):
        known.allow(tensor, frozenset().union(*(scope[tensor] for scope in scopes)))
    return left[0] if len(left) == 1 else Disj(left)


# -- what each constraint says of kinds ---------------------------------------------------------


def _binary(c: BinConstraintT, known: _Scope) -> None:
    left, right = c.lhs, c.rhs
    if c.op == op_eq:
        shared = possible(left, known) & possible(right, known)
        known.allow(left, shared)
        known.allow(right, shared)
    elif c.op == op_precision and left != Dyn:
        known.allow(right, possible(left, known))
    elif c.op == op_leq:
        known.allow(left, frozenset(range(DYN, c.rhs + 1)))
    elif c.op == op_matching:
        known.allow(left, possible(right, known) | {DYN})
    elif c.op == op_consistency:
        for one, other in ((left, right), (right, left)):
            if DYN not in possible(other, known):
                known.allow(one, possible(other, known) | {DYN})


def _upper_bound(c: TGreatestUpperBound, known: _Scope) -> None:
    one, other = possible(c.rhs1, known), possible(c.rhs2, known)
    unknown = {DYN} if DYN in one | other else set()
    known.allow(c.res, (one & other) - {DYN} | unknown)
    if DYN not in possible(c.res, known):
        known.allow(c.rhs1, possible(c.res, known))
        known.allow(c.rhs2, possible(c.res, known))


def _broadcast(c: ApplyBroadcasting, known: _Scope) -> None:
    one, other = possible(c.input1, known), possible(c.input2, known)
    pairs = [(a, b) for a in one for b in other]
    known.allow(c.res1, frozenset(max(a, b) if DYN not in (a, b) else a for a, b in pairs))
    known.allow(c.res2, frozenset(max(a, b) if DYN not in (a, b) else b for a, b in pairs))
    # Back from the results: one that is stretched has at least the rank that it came from.
    for tensor, result in ((c.input1, c.res1), (c.input2, c.res2)):
        reached = possible(result, known)
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


def register_kinds(constraint: type[Constraint]) -> Callable[[Any], Any]:
    """Say what a class of constraints tells of kinds: a function of one and the scope."""

    def register(says: Callable[[Any, _Scope], None]) -> Callable[[Any, _Scope], None]:
        _SAYS[constraint] = says
        return says

    return register


def ranks(tensors: Iterable[Any]) -> Kinds:
    """The ranks, without ``Dyn``, that all of some tensors can have."""
    shared = _everything() - {DYN}
    for tensor in tensors:
        shared &= possible(tensor)
    return shared
