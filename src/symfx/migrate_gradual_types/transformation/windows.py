"""Transformation rules of convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence

from symfx.migrate_gradual_types.constraint import (
    CalcConv,
    CalcMaxPool,
    Conj,
    Constraint,
    Disj,
    DVar,
)
from symfx.migrate_gradual_types.constraint_builders import is_, known, type_is, unknown
from symfx.migrate_gradual_types.constraint_sizes import ConstraintSizes
from symfx.migrate_gradual_types.transformation.registry import (
    Reduced,
    register_transformation_rule,
)
from symfx.migrate_gradual_types.util import gen_nat_constraints, gen_tensor_dims
from symfx.shape_rules.errors import InvalidConstraintError
from symfx.shape_rules.rules.windows import per_dimension, window
from symfx.shape_rules.sizes import Size

__all__ = ["calc_last_two_dims", "generate_calc_conv", "generate_calc_maxpool"]


@register_transformation_rule(CalcConv)
def generate_calc_conv(constraint: CalcConv, counter: int) -> Reduced:
    """The batch is kept, the channels are the convolution's, the window moves over the rest."""
    d, counter = gen_tensor_dims(4, counter)
    return Conj(
        [
            type_is(constraint.conv_result, d),
            Conj([is_(d[1], constraint.c_out), known(d[1])]),
            is_(constraint.matching_constraint[0], d[0]),
            *calc_last_two_dims(constraint, d),
            Conj(gen_nat_constraints(d)),
        ]
    ), counter


@register_transformation_rule(CalcMaxPool)
def generate_calc_maxpool(constraint: CalcMaxPool, counter: int) -> Reduced:
    """Batch and channels are kept, the window moves over the rest."""
    d, counter = gen_tensor_dims(4, counter)
    same = [is_(constraint.matching_constraint[i], d[i]) for i in (1, 0)]
    return Conj(
        [
            type_is(constraint.maxpool_result, d),
            *same,
            *calc_last_two_dims(constraint, d),
            Conj(gen_nat_constraints(d)),
        ]
    ), counter


def calc_last_two_dims(
    constraint: CalcConv | CalcMaxPool, d: Sequence[DVar]
) -> tuple[Constraint, Constraint]:
    """Height and width of the result of a window.

    Args:
        constraint: a convolution or a pooling.
        d: the four dimensions of its result.

    Returns:
        For each of the two: input and result are ``Dyn``, or known and related by the window.
    """
    if not isinstance(constraint, (CalcConv, CalcMaxPool)):
        raise InvalidConstraintError(f"{constraint!r} is neither a CalcConv nor a CalcMaxPool")
    sizes = ConstraintSizes(0)
    stride = constraint.kernel if constraint.stride is None else constraint.stride
    settings = [
        per_dimension(value, 2)
        for value in (constraint.kernel, constraint.padding, stride, constraint.dilation)
    ]

    def moved(i: int) -> Constraint:
        size, result = constraint.matching_constraint[2 + i], d[2 + i]
        left = window(Size(sizes, size), *(values[i] for values in settings))
        return Disj(
            [
                Conj([unknown(result), unknown(size)]),
                Conj([Conj([known(result), known(size)]), is_(result, sizes.payload(left))]),
            ]
        )

    return moved(0), moved(1)
