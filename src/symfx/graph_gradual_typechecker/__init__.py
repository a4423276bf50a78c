"""A gradual type checker for graphs, and the inference of symbolic shapes.

`GraphTypeChecker` walks a graph once and writes the type of each node's value into ``node.type``,
as precisely as the annotations allow; an unknown part is ``Dyn``. `Refine` then puts variables in
place of ``Dyn`` and collects the equalities between them.

Both use the table of `symfx.shape_rules`. The rules of this package are those whose results PyTorch
defines; rules that a user registers come first.
"""

from __future__ import annotations

from symfx.graph_gradual_typechecker.checker import GraphTypeChecker
from symfx.graph_gradual_typechecker.refinement import (
    Refine,
    all_eq,
    conv_refinement_rule,
    conv_rule,
    element_wise_eq,
    first_two_eq,
    flatten_refinement_rule,
    linear_refinement_rule,
)
from symfx.graph_gradual_typechecker.registry import (
    register_algebraic_expressions_inference_rule,
    register_inference_rule,
    register_refinement_rule,
)
from symfx.graph_gradual_typechecker.rules import (
    adaptiveavgpool2d_inference_rule,
    add_inference_rule,
    bn2d_inference_rule,
    conv2d_inference_rule,
    flatten_inference_rule,
    get_attr_inference_rule,
    get_parameter,
    linear_inference_rule,
    maxpool2d_inference_rule,
    relu_inference_rule,
    reshape_inference_rule,
    transpose_inference_rule,
)
from symfx.graph_gradual_typechecker.types import (
    adaptiveavgpool2d_check,
    broadcast_types,
    calculate_out_dimension,
    expand_to_tensor_dim,
    flatten_check,
    get_greatest_upper_bound,
    linear_check,
    maxpool2d_check,
)

__all__ = [
    "GraphTypeChecker",
    "Refine",
    "adaptiveavgpool2d_check",
    "adaptiveavgpool2d_inference_rule",
    "add_inference_rule",
    "all_eq",
    "bn2d_inference_rule",
    "broadcast_types",
    "calculate_out_dimension",
    "conv2d_inference_rule",
    "conv_refinement_rule",
    "conv_rule",
    "element_wise_eq",
    "expand_to_tensor_dim",
    "first_two_eq",
    "flatten_check",
    "flatten_inference_rule",
    "flatten_refinement_rule",
    "get_attr_inference_rule",
    "get_greatest_upper_bound",
    "get_parameter",
    "linear_check",
    "linear_inference_rule",
    "linear_refinement_rule",
    "maxpool2d_check",
    "maxpool2d_inference_rule",
    "register_algebraic_expressions_inference_rule",
    "register_inference_rule",
    "register_refinement_rule",
    "relu_inference_rule",
    "reshape_inference_rule",
    "transpose_inference_rule",
]
