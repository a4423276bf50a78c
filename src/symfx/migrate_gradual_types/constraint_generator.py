"""The constraints of a program: one set for each node of its graph.

`ConstraintGenerator` walks the graph. The operators that PyTorch's module covers have inference
rules of their own, which use the composite constraints of `constraint`; each other operator is
typed from the table of `symfx.shape_rules` by a `Typing` constraint. An operator without any rule
is typed ``Dyn``, and its name is kept.

A rule takes a node, and a rule of a module also the module that the node calls. It takes the
variable of each node so far, the constraints so far, and the number last given to a variable. The
rule enters the variable of its node, and returns its constraints and the new number. The numbers of
the nodes' variables are PyTorch's: they do not depend on the bound on ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.migrate_gradual_types.constraint import BinConstraintD, BinConstraintT, Conj, Constraint
from symfx.migrate_gradual_types.constraint_builders import type_is
from symfx.migrate_gradual_types.inference.layout import (
    expand_inference_rule,
    flatten_inference_rule,
    generate_flatten_constraints,
    index_select_inference_rule,
    reshape_inference_rule,
    transpose_inference_rule,
    view_inference_rule,
)
from symfx.migrate_gradual_types.inference.linear import (
    add_linear_constraints,
    bmm_inference_rule,
    embedding_inference_rule,
    embedding_inference_rule_functional,
    gen_embedding_rules,
    linear_constraints,
    linear_inference_rule,
    torch_linear_inference_rule,
)
from symfx.migrate_gradual_types.inference.pointwise import (
    add_layer_norm_constraints,
    broadcasting_inference_rule,
    cumsum_inference_rule,
    equality_inference_rule,
    gen_broadcasting_constraints,
    gen_layer_norm_constraints,
    layer_norm_functional,
    layer_norm_inference_rule,
    masked_fill_inference_rule,
    range_check,
    relu_inference_rule,
    type_inference_rule,
)
from symfx.migrate_gradual_types.inference.registry import (
    RULES,
    NotCovered,
    Symbols,
    Written,
    new_tensor,
    register_inference_rule,
    within_bound,
)
from symfx.migrate_gradual_types.inference.sizes import (
    arange_inference_rule,
    assert_inference_rule,
    eq_inference_rule,
    full_inference_rule,
    get_attr_inference_rule,
    getitem_inference_rule,
    gt_inference_rule,
    lt_inference_rule,
    neq_inference_rule,
    size_inference_rule,
    tensor_inference_rule,
    torch_dim_inference_rule,
)
from symfx.migrate_gradual_types.inference.windows import (
    adaptive_inference_rule,
    batchnorm_inference_rule,
    conv2d_inference_rule,
    maxpool_inference_rule,
)
from symfx.migrate_gradual_types.operation import op_leq, op_precision
from symfx.migrate_gradual_types.table_rules import generate_typing, outputs_of
from symfx.migrate_gradual_types.util import gen_dvar
from symfx.shape_rules.element_types import SHAPED_BY_DTYPE, ElementTypes, operator_of
from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.graphs import annotation_of, graph_of, parameter_of
from symfx.shape_rules.ranks import get_max_rank
from symfx.shape_rules.table import lookup, operator_name

__all__ = [
    "ConstraintGenerator",
    "adaptive_inference_rule",
    "add_layer_norm_constraints",
    "add_linear_constraints",
    "arange_inference_rule",
    "assert_inference_rule",
    "batchnorm_inference_rule",
    "bmm_inference_rule",
    "broadcasting_inference_rule",
    "conv2d_inference_rule",
    "cumsum_inference_rule",
    "embedding_inference_rule",
    "embedding_inference_rule_functional",
    "eq_inference_rule",
    "equality_inference_rule",
    "expand_inference_rule",
    "flatten_inference_rule",
    "full_inference_rule",
    "gen_broadcasting_constraints",
    "gen_embedding_rules",
    "gen_layer_norm_constraints",
    "generate_flatten_constraints",
    "get_attr_inference_rule",
    "getitem_inference_rule",
    "gt_inference_rule",
    "index_select_inference_rule",
    "layer_norm_functional",
    "layer_norm_inference_rule",
    "linear_constraints",
    "linear_inference_rule",
    "lt_inference_rule",
    "masked_fill_inference_rule",
    "maxpool_inference_rule",
    "neq_inference_rule",
    "range_check",
    "register_inference_rule",
    "relu_inference_rule",
    "reshape_inference_rule",
    "size_inference_rule",
    "tensor_inference_rule",
    "torch_dim_inference_rule",
    "torch_linear_inference_rule",
    "transpose_inference_rule",
    "type_inference_rule",
    "view_inference_rule",
]


class ConstraintGenerator:
    """Walks a graph and generates its constraints.

    Args:
        traced: a GraphModule, or the root that is being traced.
        graph: the graph so far, if `traced` has none.

    Attributes:
        symbol_dict: the variable of each node.
        unknown_operators: the nodes whose operator has no rule, typed ``Dyn``, with its name.
    """

    def __init__(self, traced: torch.nn.Module, graph: Graph | None = None) -> None:
        found = getattr(traced, "graph", None)
        self.graph: Graph | None = found if isinstance(found, Graph) else graph
        self.traced = traced
        self.traced_params = dict(traced.named_parameters())
        self.symbol_dict: Symbols = {}
        self.constraints: list[Constraint] = []
        self.unknown_operators: dict[Node, str] = {}
        self._dtypes = ElementTypes(traced)

    def generate_constraints(self, counter: int = 0) -> tuple[Conj, int]:
        """Generate the constraints of all nodes.

        Args:
            counter: the number last given to a variable.

        Returns:
            The conjunction of the constraints, and the new number. `constraints` keeps them too.

        Raises:
            GradualError: the module has no graph, or the graph is empty or cyclic.
            RankBoundError: an annotation has more dimensions than the bound allows.
        """
        self.constraints = []
        for node in graph_of(self.traced, self.graph).nodes:
            written, counter = self.generate_constraints_node(node, counter)
            self.constraints += written
        return Conj(self.constraints), counter

    def generate_constraints_node(self, n: Node, counter: int) -> Written:
        """Generate the constraints of one node; the nodes that it uses come before it."""
        if n.op == "placeholder":
            return self._placeholder(n, counter)
        if n.op == "get_attr":
            return self._attribute(n, counter)
        if n.op == "output":
            return [], counter
        if n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            found, arguments = RULES.get(type(module)), (n, module)
        else:
            found, arguments = RULES.get(n.target), (n,)  # type: ignore[assignment]
        if found is not None:
            try:
                return found(*arguments, self.symbol_dict, self.constraints, counter)
            except NotCovered:
                self.symbol_dict.pop(n, None)
        return self._from_table(n, counter)

    def _placeholder(self, n: Node, counter: int) -> Written:
        annotation: Any = annotation_of(n)
        if annotation is int:
            self.symbol_dict[n], counter = gen_dvar(counter)
            return [BinConstraintD(0, self.symbol_dict[n], op_leq)], counter
        if annotation is torch.nn.Parameter and "example_value" in n.meta:
            annotation = TensorType(tuple(n.meta["example_value"].size()))
        if not isinstance(annotation, TensorType):
            annotation = (
                Dyn  # an annotation without a shape: torch.Tensor, Optional, or no annotation
            )
        else:
            within_bound(len(annotation.dims), n)
            for dim in annotation.dims:
                if dim != Dyn and (isinstance(dim, bool) or not isinstance(dim, int)):
                    raise GradualError(
                        f"{dim!r} is not a dimension, in the annotation {annotation} of {n.name}",
                        where=f"the annotation of {n.name}",
                        fix="write an int or Dyn",
                    )
        tensor, counter = new_tensor(n, self.symbol_dict, counter)
        precise = BinConstraintT(annotation, tensor, op_precision)
        return [precise, BinConstraintT(tensor, get_max_rank(), op_leq)], counter

    def _attribute(self, n: Node, counter: int) -> Written:
        value = parameter_of(self.traced, str(n.target))
        if not isinstance(value, torch.Tensor) or not value.dim():
            return [], counter
        output, counter = new_tensor(n, self.symbol_dict, counter)
        return [type_is(output, [*value.shape])], counter

    def _from_table(self, n: Node, counter: int) -> Written:
        entry, module = lookup(n, self.traced)
        if entry is None:
            self.unknown_operators[n] = operator_name(n, module)
            self.symbol_dict[n], counter = outputs_of(n, counter)
            return [], counter
        if operator_of(n) in SHAPED_BY_DTYPE and any(map(self._is_mask, n.all_input_nodes[1:])):
            # The shape that a mask selects depends on data.
            self.symbol_dict[n], counter = outputs_of(n, counter)
            return [], counter
        return generate_typing(n, entry, module, self.symbol_dict, counter)

    def _is_mask(self, used: Node) -> bool:
        return self._dtypes.of(used) in (torch.bool, torch.uint8)
