"""Inference rules of operators that keep the shape, normalize, or broadcast."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F_
from torch.fx import Node
from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import (
    ApplyBroadcasting,
    BinConstraintD,
    BinConstraintT,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    T,
    TGreatestUpperBound,
    TVar,
)
from symfx.migrate_gradual_types.constraint_builders import both_unknown, case_of, type_is
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
    op_add,
    op_consistency,
    op_eq,
    op_leq,
    op_mul,
    op_neq,
)
from symfx.migrate_gradual_types.util import gen_dvar, gen_tvar
from symfx.shape_rules.graphs import is_shape

__all__ = [
    "add_layer_norm_constraints",
    "broadcasting_inference_rule",
    "cumsum_inference_rule",
    "equality_inference_rule",
    "gen_broadcasting_constraints",
    "gen_layer_norm_constraints",
    "layer_norm_functional",
    "layer_norm_inference_rule",
    "masked_fill_inference_rule",
    "range_check",
    "relu_inference_rule",
    "type_inference_rule",
]


@register_inference_rule(torch.zeros)
@register_inference_rule(torch.ones)
@register_inference_rule("contiguous")
@register_inference_rule("detach")
@register_inference_rule("int")
@register_inference_rule("long")
@register_inference_rule("to")
@register_inference_rule(F_.dropout)
@register_inference_rule(F_.gelu)
@register_inference_rule(F_.softmax)
def equality_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the input's shape; for ``torch.ones(a, b)`` the arguments are the shape."""
    sizes = n.args
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    if n.args and isinstance(n.args[0], Node) and isinstance(symbols.get(n.args[0]), TVar):
        if n.target in (torch.ones, torch.zeros) and n.args[0] in _shapes(symbols):
            raise NotCovered
        given = symbols[n.args[0]]
        output, counter = new_tensor(n, symbols, counter)
        return [type_is(given, output)], counter
    if n.target not in (torch.ones, torch.zeros) or not sizes:
        raise NotCovered
    dims = [dimension_of(symbols, size) for size in sizes]
    output, counter = new_tensor(n, symbols, counter)
    return [type_is(output, dims)], counter


def _shapes(symbols: Symbols) -> set[Node]:
    """The nodes whose value is the shape of a tensor, not the tensor."""
    return {node for node in symbols if is_shape(node)}


@register_inference_rule(torch.nn.ReLU)
@register_inference_rule(torch.nn.Dropout)
def relu_inference_rule(
    n: Node,
    module_instance: torch.nn.Module,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The output has the input's type."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    output, counter = new_tensor(n, symbols, counter)
    return [type_is(given, output)], counter


@register_inference_rule("type_as")
def type_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the second tensor's type, with which the first is consistent."""
    given, other = (tensor_of(symbols, arg) for arg in n.args[:2])
    output, counter = new_tensor(n, symbols, counter)
    return [BinConstraintT(given, other, op_consistency), type_is(output, other)], counter


@register_inference_rule(torch.cumsum)
def cumsum_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the input's type, which has the summed dimension."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    along = argument_of(n, 1, "dim")
    if not isinstance(along, int):
        raise NotCovered
    output, counter = new_tensor(n, symbols, counter)
    ranks, counter = dims_by_rank(counter)
    cases = [
        case_of([(given, dims), (output, dims)], range_check(along, max(rank, 1)))
        for rank, [dims] in ranks
    ]
    return [Disj([both_unknown(given, output), Disj(cases)])], counter


def range_check(i: int, n: int) -> T | F:
    """Whether `i` is the index of a dimension of a tensor of rank `n`."""
    return T() if -n <= i < n else F()


@register_inference_rule(F_.layer_norm)
def layer_norm_functional(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the input's type; its last dimensions are the normalized shape."""
    shape = argument_of(n, 1, "normalized_shape")
    if not isinstance(shape, (tuple, list)) or not all(isinstance(s, int) for s in shape):
        raise NotCovered
    return gen_layer_norm_constraints(n, shape, symbols, counter)


@register_inference_rule(torch.nn.LayerNorm)
def layer_norm_inference_rule(
    n: Node,
    module_instance: torch.nn.LayerNorm,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """As `layer_norm_functional`, of a module."""
    return gen_layer_norm_constraints(n, module_instance.normalized_shape, symbols, counter)


def gen_layer_norm_constraints(
    n: Node, normalized_shape: Sequence[int], symbols: Symbols, counter: int
) -> Written:
    """The constraints of a layer normalization over a normalized shape."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    output, counter = new_tensor(n, symbols, counter)
    ranks, counter = dims_by_rank(counter)
    cases = [
        case_of(
            [(given, dims), (output, dims)],
            *add_layer_norm_constraints(dims, list(normalized_shape)),
        )
        for _, [dims] in ranks
    ]
    return [Disj([both_unknown(given, output), Disj(cases)])], counter


def add_layer_norm_constraints(
    input_dim: Sequence[Any], normalized_dim: Sequence[int]
) -> list[Constraint]:
    """The last dimensions of a tensor are consistent with the normalized shape."""
    if len(normalized_dim) > len(input_dim):
        return [F()]
    last = zip(reversed(input_dim), reversed(normalized_dim), strict=False)
    return [BinConstraintD(dim, size, op_consistency) for dim, size in last]


def gen_broadcasting_constraints(
    e1: TVar, e2: TVar, symbols: Symbols, counter: int, output_var: TVar
) -> Written:
    """The output is the type that two tensors broadcast to: expanded, they are consistent."""
    one, counter = gen_tvar(counter)
    other, counter = gen_tvar(counter)
    return [
        TGreatestUpperBound(output_var, one, other),
        ApplyBroadcasting(one, other, e1, e2),
        BinConstraintT(one, other, op_consistency),
    ], counter


@register_inference_rule(operator.add)
@register_inference_rule(torch.add)
@register_inference_rule(operator.mul)
@register_inference_rule("ne")
@register_inference_rule(torch.ne)
def broadcasting_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """Two tensors broadcast; a tensor and a number have the tensor's type; sizes are computed."""
    if len(n.args) < 2:
        raise NotCovered
    sides = [symbols.get(arg) if isinstance(arg, Node) else arg for arg in n.args[:2]]
    tensors = [side for side in sides if isinstance(side, TVar)]
    if any(isinstance(arg, Node) and is_shape(arg) for arg in n.args[:2]):
        raise NotCovered
    if len(tensors) == 2:
        output, counter = new_tensor(n, symbols, counter)
        return gen_broadcasting_constraints(tensors[0], tensors[1], symbols, counter, output)
    if len(tensors) == 1 and any(isinstance(side, (int, float)) for side in sides):
        output, counter = new_tensor(n, symbols, counter)
        return [type_is(output, tensors[0])], counter
    sizes = [side for side in sides if isinstance(side, (DVar, int))]
    signs = {operator.mul: op_mul, operator.add: op_add, torch.add: op_add}
    if tensors or len(sizes) != 2 or n.target not in signs:
        raise NotCovered
    variables_first = sorted(sizes, key=lambda size: isinstance(size, int))
    symbols[n], counter = gen_dvar(counter)
    value = BinConstraintD(variables_first[0], variables_first[1], signs[n.target])
    return [_computed(symbols[n], value, sizes)], counter


def _computed(result: DVar, value: BinConstraintD, parts: Sequence[Any]) -> Conj:
    """A computed size is not negative; it is ``Dyn`` if one of its parts is."""
    variables = [part for part in parts if isinstance(part, DVar)]
    unknown = Disj([BinConstraintD(part, Dyn, op_eq) for part in variables])
    known = [BinConstraintD(dim, Dyn, op_neq) for dim in (*variables, result)]
    return Conj(
        [
            BinConstraintD(0, result, op_leq),
            Disj(
                [
                    Conj([unknown, BinConstraintD(result, Dyn, op_eq)]),
                    Conj([*known, BinConstraintD(result, value, op_eq)]),
                ]
            ),
        ]
    )


@register_inference_rule("masked_fill_")
def masked_fill_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output is the type that the tensor and the mask broadcast to."""
    given, mask = tensor_of(symbols, n.args[0]), tensor_of(symbols, argument_of(n, 1, "mask"))
    output, counter = new_tensor(n, symbols, counter)
    return gen_broadcasting_constraints(given, mask, symbols, counter, output)
