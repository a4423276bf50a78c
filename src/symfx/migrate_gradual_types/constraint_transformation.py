"""Composite constraints rewritten to comparisons of types and of dimensions.

Each class of composite constraints has one rule, from a constraint and the number last given to a
variable to simpler constraints and the new number. `transform_constraint` applies the rules once;
its result may contain composite constraints again, so it is repeated until nothing changes.

A constraint has one case for each possible rank of its tensors: up to the bound that the user sets
(`symfx.shape_rules.ranks`), without those that `possible_ranks` rules out.
"""

from __future__ import annotations

from symfx.migrate_gradual_types.transformation.broadcasting import (
    apply_padding,
    broadcast_dim,
    create_equality_constraints_for_broadcasting,
    gen_broadcasting_constraints,
    generate_all_broadcasting_possibilities_no_padding,
    generate_broadcasting,
    no_broadcast_dim_with_index,
)
from symfx.migrate_gradual_types.transformation.elements import (
    gen_all_reshape_possibilities,
    generate_all_int_dyn_dim_possibilities,
    generate_calc_product,
    generate_reshape,
    is_dim_div_by_target,
    is_target_div_by_dim,
)
from symfx.migrate_gradual_types.transformation.one_rank import (
    transform_get_item,
    transform_get_item_tensor,
    transform_index_select,
    transform_transpose,
    valid_index,
    valid_index_tensor,
)
from symfx.migrate_gradual_types.transformation.registry import (
    register_transformation_rule,
    transform_constraint,
)
from symfx.migrate_gradual_types.transformation.relations import (
    gen_consistency_constraints,
    gen_greatest_upper_bound,
    gen_lists_of_dims,
    generate_binconstraint_d,
    generate_binconstraint_t,
    generate_conj,
    generate_d_gub,
    generate_disj,
    generate_gub,
)
from symfx.migrate_gradual_types.transformation.windows import (
    calc_last_two_dims,
    generate_calc_conv,
    generate_calc_maxpool,
)

__all__ = [
    "apply_padding",
    "broadcast_dim",
    "calc_last_two_dims",
    "create_equality_constraints_for_broadcasting",
    "gen_all_reshape_possibilities",
    "gen_broadcasting_constraints",
    "gen_consistency_constraints",
    "gen_greatest_upper_bound",
    "gen_lists_of_dims",
    "generate_all_broadcasting_possibilities_no_padding",
    "generate_all_int_dyn_dim_possibilities",
    "generate_binconstraint_d",
    "generate_binconstraint_t",
    "generate_broadcasting",
    "generate_calc_conv",
    "generate_calc_maxpool",
    "generate_calc_product",
    "generate_conj",
    "generate_d_gub",
    "generate_disj",
    "generate_gub",
    "generate_reshape",
    "is_dim_div_by_target",
    "is_target_div_by_dim",
    "no_broadcast_dim_with_index",
    "register_transformation_rule",
    "transform_constraint",
    "transform_get_item",
    "transform_get_item_tensor",
    "transform_index_select",
    "transform_transpose",
    "valid_index",
    "valid_index_tensor",
]
