"""Inference rules of operators that rearrange a shape."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    CalcProduct,
    CanReshape,
    Conj,
    Constraint,
    Disj,
    DVar,
    IndexSelect,
    Transpose,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import both_unknown, type_is
from symfx.migrate_gradual_types.inference.pointwise import gen_broadcasting_constraints
from symfx.migrate_gradual_types.inference.registry import (
    NotCovered,
    Symbols,
    Written,
    argument_of,
    dimension_of,
    dims_by_rank,
    new_tensor,
    register_inference_rule,
    tensor_of,
    within_bound,
)
from symfx.migrate_gradual_types.operation import op_neq
from symfx.migrate_gradual_types.util import (
    gen_dvar,
    gen_nat_constraints,
    gen_tensor_dims,
    gen_tvar,
)
from symfx.shape_rules.ranks import get_max_rank

__all__ = [
    "expand_inference_rule",
    "flatten_inference_rule",
    "generate_flatten_constraints",
    "index_select_inference_rule",
    "reshape_inference_rule",
    "transpose_inference_rule",
    "view_inference_rule",
]


@register_inference_rule("transpose")
def transpose_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """Two dimensions are exchanged."""
    given = tensor_of(symbols, n.args[0])
    one, other = argument_of(n, 1, "dim0"), argument_of(n, 2, "dim1")
    if not isinstance(one, int) or not isinstance(other, int):
        raise NotCovered
    output, counter = new_tensor(n, symbols, counter)
    cases = [Transpose(r, given, one, other, output) for r in range(1, get_max_rank() + 1)]
    return [Disj([both_unknown(given, output), Disj(cases)])], counter


@register_inference_rule("index_select")
def index_select_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """One dimension has the length of the vector of indices."""
    given = tensor_of(symbols, n.args[0])
    along, indices = argument_of(n, 1, "dim"), tensor_of(symbols, argument_of(n, 2, "index"))
    if not isinstance(along, int):
        raise NotCovered
    output, counter = new_tensor(n, symbols, counter)
    [length], counter = gen_tensor_dims(1, counter)

    def selected(by: Any) -> Disj:
        every = range(1, get_max_rank() + 1)
        return Disj([IndexSelect(rank, given, by, along, output) for rank in every])

    cases = [
        Conj([type_is(indices, [length]), selected(length)]),
        Conj([type_is(indices, Dyn), selected(Dyn)]),
        # The result for an unknown tensor is unknown.
        Conj([both_unknown(given, output), Disj([type_is(indices, t) for t in ([length], Dyn)])]),
    ]
    return [Disj(cases)], counter


@register_inference_rule(torch.flatten)
def flatten_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A run of dimensions is replaced by their product."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    start, end = argument_of(n, 1, "start_dim", 0), argument_of(n, 2, "end_dim", -1)
    if not isinstance(start, int) or not isinstance(end, int):
        raise NotCovered
    output, counter = new_tensor(n, symbols, counter)
    ranks, counter = dims_by_rank(counter)
    cases: list[Constraint] = []
    for rank, [dims] in ranks:
        if rank:
            cases.append(_flattened(start, end, given, output, dims))
        elif {start, end} <= {0, -1}:
            cases.append(Conj([type_is(given, []), type_is(output, [1])]))
    return [Disj([both_unknown(given, output), *cases])], counter


def generate_flatten_constraints(
    start_dim: int, end_dim: int, input: TVar, flattened: TVar, n: int, counter: int
) -> tuple[Conj, int]:
    """The constraints of flattening a tensor of rank `n` from one dimension to another."""
    dims, counter = gen_tensor_dims(n, counter)
    return _flattened(start_dim, end_dim, input, flattened, dims), counter


def _flattened(start: int, end: int, given: TVar, output: TVar, dims: list[DVar]) -> Conj:
    rank = len(dims)
    first, last = (i + rank if i < 0 else i for i in (start, end))
    product = CalcProduct(first, last + 1, output, dims)
    return Conj([type_is(given, dims), product, *gen_nat_constraints(dims)])


@register_inference_rule(torch.reshape)
def reshape_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the given shape, with ``Dyn`` for -1."""
    target = argument_of(n, 1, "shape")
    if not isinstance(target, (tuple, list)):
        raise NotCovered
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    dims = [Dyn if size == -1 else dimension_of(symbols, size) for size in target]
    within_bound(len(dims), n)
    output, counter = new_tensor(n, symbols, counter)
    return [type_is(output, dims), CanReshape(given, TensorType(dims))], counter


@register_inference_rule("reshape")
@register_inference_rule("view")
def view_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the given shape; -1 is the remaining size."""
    given = tensor_of(symbols, n.args[0])
    sizes = n.args[1:]
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if n.kwargs or any(isinstance(size, torch.dtype) for size in sizes):
        raise NotCovered
    wanted = [None if size == -1 else dimension_of(symbols, size) for size in sizes]
    within_bound(len(wanted), n)
    output, counter = new_tensor(n, symbols, counter)
    dims: list[Any] = []
    for asked in wanted:
        remaining, counter = gen_dvar(counter) if asked is None else (asked, counter)
        dims.append(remaining)
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in dims]
    return [type_is(output, dims), CanReshape(given, TensorType(dims)), *known], counter


@register_inference_rule("expand")
def expand_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output is the input broadcast to the given shape."""
    given = tensor_of(symbols, n.args[0])
    sizes = n.args[1:]
    if (
        n.kwargs
        or not sizes
        or any(size == -1 or not isinstance(size, (Node, int)) for size in sizes)
    ):
        raise NotCovered
    wanted = [dimension_of(symbols, size) for size in sizes]
    output, counter = new_tensor(n, symbols, counter)
    shape, counter = gen_tvar(counter)
    broadcast, counter = gen_broadcasting_constraints(given, shape, symbols, counter, output)
    dims, counter = gen_tensor_dims(len(wanted), counter)
    return [
        *broadcast,
        type_is(output, dims),
        *gen_nat_constraints(dims),
        type_is(shape, wanted),
        *gen_nat_constraints(dim for dim in wanted if isinstance(dim, DVar)),
    ], counter
