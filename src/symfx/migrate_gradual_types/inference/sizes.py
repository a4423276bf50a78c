"""Inference rules of sizes, of tensors made from sizes, and of conditions."""

from __future__ import annotations

import operator
import warnings
from typing import Any

import torch
from torch.fx import Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    BVar,
    Conj,
    Constraint,
    Disj,
    DVar,
    GetItem,
    GetItemTensor,
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
)
from symfx.migrate_gradual_types.operation import (
    op_div,
    op_eq,
    op_gt,
    op_leq,
    op_lt,
    op_neq,
    op_sub,
)
from symfx.migrate_gradual_types.util import gen_bvar, gen_dvar, gen_tensor_dims
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import is_shape, where_of
from symfx.shape_rules.ranks import get_max_rank

__all__ = [
    "arange_inference_rule",
    "assert_inference_rule",
    "eq_inference_rule",
    "full_inference_rule",
    "get_attr_inference_rule",
    "getitem_inference_rule",
    "gt_inference_rule",
    "lt_inference_rule",
    "neq_inference_rule",
    "size_inference_rule",
    "tensor_inference_rule",
    "torch_dim_inference_rule",
]


@register_inference_rule(getattr)
def get_attr_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """``x.device`` stands for the tensor; ``x.shape`` has its type."""
    if n.args[1] not in ("device", "shape"):
        raise NotCovered
    given = tensor_of(symbols, n.args[0])
    output, counter = new_tensor(n, symbols, counter)
    return [type_is(given, output)], counter


@register_inference_rule("size")
def size_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """``x.size()`` has the tensor's type, ``x.size(0)`` is one of its dimensions."""
    given = tensor_of(symbols, n.args[0])
    index = argument_of(n, 1, "dim")
    if index is None:
        output, counter = new_tensor(n, symbols, counter)
        return [type_is(given, output)], counter
    if not isinstance(index, int):
        raise NotCovered
    return _one_dimension(n, given, index, symbols, counter)


def _one_dimension(n: Node, given: TVar, index: int, symbols: Symbols, counter: int) -> Written:
    symbols[n], counter = gen_dvar(counter)
    size = symbols[n]
    ranks = range(1, get_max_rank() + 1)
    picked = Disj([GetItem(rank, index, size, given) for rank in ranks])
    unknown = Conj([type_is(given, Dyn), BinConstraintD(size, Dyn, op_eq)])
    return [Disj([unknown, Conj([picked, BinConstraintD(0, size, op_leq)])])], counter


@register_inference_rule(operator.getitem)
def getitem_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """One dimension of a shape, or a part of a tensor by a tuple of indices."""
    source, index = n.args
    given = tensor_of(symbols, source)
    assert isinstance(source, Node)
    if isinstance(index, int):
        if not is_shape(source) and source.op != "placeholder":
            raise NotCovered
        if isinstance(source.type, TensorType) and not is_shape(source):
            raise NotCovered  # the index takes a row of a tensor
        return _one_dimension(n, given, index, symbols, counter)
    plain = (type(None), slice, int, type(Ellipsis))
    if not isinstance(index, tuple) or is_shape(source) or n.all_input_nodes != [source]:
        raise NotCovered
    if not all(isinstance(entry, plain) for entry in index):
        raise NotCovered
    output, counter = new_tensor(n, symbols, counter)
    ranks = range(get_max_rank() + 1)
    cases = [GetItemTensor(rank, index, output, given) for rank in ranks]
    return [Disj([both_unknown(given, output), *cases])], counter


@register_inference_rule("dim")
def torch_dim_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The rank of a tensor."""
    given = tensor_of(symbols, n.args[0])
    symbols[n], counter = gen_dvar(counter)
    rank_of = symbols[n]
    ranks, counter = dims_by_rank(counter)
    cases = [
        Conj([type_is(given, dims), BinConstraintD(rank_of, rank, op_eq)]) for rank, [dims] in ranks
    ]
    unknown = Conj([type_is(given, Dyn), BinConstraintD(rank_of, Dyn, op_eq)])
    return [Disj([unknown, Disj(cases)])], counter


@register_inference_rule(torch.tensor)
def tensor_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A tensor of a number in the program, which has rank 0.

    It broadcasts as a number does, so it gets no variable and no constraint.
    """
    return [], counter


@register_inference_rule(torch.full)
def full_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the given shape."""
    sizes = argument_of(n, 0, "size")
    if not isinstance(sizes, (tuple, list)):
        raise NotCovered
    dims = [dimension_of(symbols, size) for size in sizes]
    output, counter = new_tensor(n, symbols, counter)
    return [type_is(output, dims)], counter


@register_inference_rule(torch.arange)
def arange_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A vector with one value for each step."""
    if len(n.args) != 1 or {"start", "end", "step"} & set(n.kwargs):
        raise NotCovered
    end = dimension_of(symbols, n.args[0])
    length, counter = gen_dvar(counter)
    output, counter = new_tensor(n, symbols, counter)
    steps = BinConstraintD(BinConstraintD(end, 0, op_sub), 1, op_div)
    unknown = [BinConstraintD(dim, Dyn, op_eq) for dim in (end, length)]
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in (end, length)]
    return [
        type_is(output, [length]),
        Disj([Conj(unknown), Conj([*known, BinConstraintD(length, steps, op_eq)])]),
    ], counter


@register_inference_rule(operator.gt)
def gt_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A condition on sizes, or the type that two tensors broadcast to."""
    return _comparison(n, symbols, counter, op_gt)


@register_inference_rule(operator.lt)
def lt_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A condition on sizes, or the type that two tensors broadcast to."""
    return _comparison(n, symbols, counter, op_lt)


@register_inference_rule(operator.eq)
def eq_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """A condition on sizes, or the type that two tensors broadcast to."""
    return _comparison(n, symbols, counter, op_eq)


@register_inference_rule(operator.le)
@register_inference_rule(operator.ge)
def _weak_order_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    return _comparison(n, symbols, counter, op_leq)


def _comparison(n: Node, symbols: Symbols, counter: int, op: str) -> Written:
    sides = [symbols.get(arg) if isinstance(arg, Node) else arg for arg in n.args]
    left, right = sides
    if isinstance(left, TVar) and isinstance(right, TVar):
        if any(is_shape(arg) for arg in n.all_input_nodes):
            raise NotCovered
        output, counter = new_tensor(n, symbols, counter)
        return gen_broadcasting_constraints(left, right, symbols, counter, output)
    argument = n.args[0]
    if not isinstance(argument, Node):
        raise NotCovered
    ends_here = all(user.op == "output" for user in n.users)
    if isinstance(left, TVar) and isinstance(right, int) and op == op_gt and ends_here:
        # A comparison that only the output uses is the condition of a branch, so on a size.
        warnings.warn(
            f"{argument} is compared with {right} in node {n}: it counts as a size from here on, "
            "not as a tensor",
            stacklevel=2,
        )
        left, counter = gen_dvar(counter)
        symbols[argument] = left
    if not isinstance(left, DVar) or not isinstance(right, (DVar, int)):
        raise NotCovered
    symbols[n], counter = gen_bvar(counter)
    if n.target is operator.ge:
        left, right = right, left
    return [BinConstraintD(symbols[n], BinConstraintD(left, right, op), op_eq)], counter


@register_inference_rule(operator.ne)
def neq_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """Two sizes differ, or a shape differs from a tuple of sizes.

    A shape differs if the tensor has the rank of the tuple and one of its known dimensions is
    another size.
    """
    given, written = n.args
    if not isinstance(written, tuple):
        return _comparison(n, symbols, counter, op_neq)
    tensor = tensor_of(symbols, given)
    wanted = [dimension_of(symbols, size) for size in written]
    dims, counter = gen_tensor_dims(4 if len(wanted) == 3 else len(wanted), counter)
    dims = dims[: len(wanted)]
    # As PyTorch, the numbering skips one number.
    symbols[n], counter = gen_bvar(counter + 1)
    differ = [
        Conj([BinConstraintD(a, b, op_neq) for a, b in ((one, Dyn), (dim, Dyn), (one, dim))])
        for one, dim in zip(wanted, dims, strict=True)
    ]
    condition = Conj([type_is(tensor, dims), Disj(differ)])
    return [BinConstraintD(symbols[n], condition, op_eq)], counter


@register_inference_rule(torch._assert)
@register_inference_rule(torch._check)
@register_inference_rule(torch.fx._symbolic_trace._assert_is_none)
def assert_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The asserted condition on sizes holds; an assertion of the tracer adds nothing.

    Raises:
        GradualError: a node uses the assertion, which has no result.
    """
    if n.users:
        raise GradualError(
            f"{next(iter(n.users)).name} uses {n.name}, which has no value", where=where_of(n)
        )
    asserted = argument_of(n, 0, "cond" if n.target is torch._check else "condition")
    condition = symbols.get(asserted) if isinstance(asserted, Node) else None
    holds: list[Any] = [condition] if isinstance(condition, BVar) else []
    return [Conj(holds)] if holds else [], counter
