"""Inference rules of linear maps, of bmm and of embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F_
from torch.fx import Node
from torch.fx.tensor_type import Dyn

from symfx.migrate_gradual_types.constraint import (
    BinConstraintD,
    Conj,
    Constraint,
    DGreatestUpperBound,
    Disj,
    DVar,
)
from symfx.migrate_gradual_types.constraint_builders import both_unknown, case_of, type_is
from symfx.migrate_gradual_types.inference.registry import (
    NUMBERED,
    Symbols,
    Written,
    argument_of,
    dims_by_rank,
    new_tensor,
    register_inference_rule,
    tensor_of,
)
from symfx.migrate_gradual_types.operation import op_consistency, op_eq
from symfx.migrate_gradual_types.util import gen_dvar, gen_tensor_dims
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.weights import weight_shape

__all__ = [
    "add_linear_constraints",
    "bmm_inference_rule",
    "embedding_inference_rule",
    "embedding_inference_rule_functional",
    "gen_embedding_rules",
    "linear_constraints",
    "linear_inference_rule",
    "torch_linear_inference_rule",
]


@register_inference_rule(torch.nn.Linear)
def linear_inference_rule(
    n: Node,
    module_instance: torch.nn.Linear,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """The last dimension is mapped from `in_features` to `out_features`."""
    m = module_instance
    out, in_ = weight_shape(m, "weight") or (m.out_features, m.in_features)
    return linear_constraints(n, in_, out, symbols, counter)


@register_inference_rule(torch._C._nn.linear)
def torch_linear_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """As `linear_inference_rule`, with a weight whose dimensions are the features."""
    weight = tensor_of(symbols, argument_of(n, 1, "weight"))
    [out, in_], counter = gen_tensor_dims(2, counter)
    linear, counter = linear_constraints(n, in_, out, symbols, counter)
    return [type_is(weight, [out, in_]), *linear], counter


def linear_constraints(
    n: Node, in_features: Any, out_features: Any, symbols: Symbols, counter: int
) -> Written:
    """The constraints of a linear map of the last dimension."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    output, counter = new_tensor(n, symbols, counter)
    ranks, counter = dims_by_rank(counter, lists=2, least=1)
    cases = [
        case_of(
            [(given, dims), (output, mapped)],
            *add_linear_constraints(dims, mapped, in_features, out_features),
        )
        for _, [dims, mapped] in ranks
    ]
    return [Disj([both_unknown(given, output), Disj(cases)])], counter


def add_linear_constraints(
    dims1: Sequence[Any], dims2: Sequence[Any], in_features: Any, out_features: Any
) -> list[Constraint]:
    """All dimensions but the last are equal; the last are consistent with the features.

    Raises:
        GradualError: input and output have different ranks.
    """
    if len(dims1) != len(dims2):
        raise GradualError(
            f"a linear map keeps the rank, but {dims1} has {len(dims1)} dimensions and {dims2} "
            f"has {len(dims2)}",
            fix="give as many dimensions for the output as for the input",
        )
    *batch, last = zip(dims1, dims2, strict=True)
    return [
        *(BinConstraintD(one, other, op_eq) for one, other in batch),
        BinConstraintD(last[0], in_features, op_consistency),
        BinConstraintD(last[1], out_features, op_eq),
    ]


@register_inference_rule(torch.bmm)
def bmm_inference_rule(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """Two tensors of rank 3 with one batch; one has as many columns as the other has rows."""
    one, other = (
        tensor_of(symbols, argument_of(n, i, name)) for i, name in ((0, "input"), (1, "mat2"))
    )
    output, counter = new_tensor(n, symbols, counter)
    a, counter = gen_tensor_dims(3, counter)
    b, counter = gen_tensor_dims(3, counter)
    batch, counter = gen_dvar(counter)
    known = Conj(
        [
            type_is(one, a),
            type_is(other, b),
            type_is(output, [batch, a[1], b[2]]),
            BinConstraintD(a[0], b[0], op_consistency),
            BinConstraintD(a[2], b[1], op_consistency),
            DGreatestUpperBound(batch, a[0], b[0]),
        ]
    )
    return [
        Disj(
            [
                both_unknown(one, other, output),
                Conj([type_is(one, Dyn), type_is(other, b), type_is(output, [b[0], Dyn, b[2]])]),
                Conj([type_is(other, Dyn), type_is(one, a), type_is(output, [a[0], a[1], Dyn])]),
                known,
            ]
        )
    ], counter


@register_inference_rule(F_.embedding)
def embedding_inference_rule_functional(
    n: Node, symbols: Symbols, constraints: list[Constraint], counter: int
) -> Written:
    """The output has the input's dimensions and the width of the weight."""
    weight = tensor_of(symbols, argument_of(n, 1, "weight"))
    dims, counter = gen_tensor_dims(2, counter)
    looked_up, counter = gen_embedding_rules(n, symbols, dims[1], counter)
    return [type_is(weight, dims), *looked_up], counter


@register_inference_rule(torch.nn.Embedding)
def embedding_inference_rule(
    n: Node,
    module_instance: torch.nn.Embedding,
    symbols: Symbols,
    constraints: list[Constraint],
    counter: int,
) -> Written:
    """As `embedding_inference_rule_functional`, with the width of a module."""
    m = module_instance
    _, width = weight_shape(m, "weight") or (m.num_embeddings, m.embedding_dim)
    return gen_embedding_rules(n, symbols, width, counter)


def gen_embedding_rules(n: Node, symbols: Symbols, embedding_dim: Any, counter: int) -> Written:
    """The constraints of an embedding of this width."""
    given = tensor_of(symbols, argument_of(n, 0, "input"))
    output, counter = new_tensor(n, symbols, counter)
    name, cases = counter, []
    for rank in range(get_max_rank()):
        if rank in NUMBERED[:3]:
            dims, counter = gen_tensor_dims(rank, counter)
        else:
            dims = [DVar(f"{name}r{rank}.{i}") for i in range(rank)]
        cases.append(case_of([(given, dims), (output, [*dims, embedding_dim])]))
    return [Disj([both_unknown(given, output), Disj(cases)])], counter
