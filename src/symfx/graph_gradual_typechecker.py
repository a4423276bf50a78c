"""A gradual type checker for graphs, and the inference of symbolic shapes.

`GraphTypeChecker` walks a graph once and writes the type of each node's value into ``node.type``,
as precisely as the annotations allow; what it cannot know is ``Dyn``. `Refine` then puts variables
where types say ``Dyn`` and collects which of them are equal.

Both type operators from the table of `symfx.shape_rules`; the rules that stand here are those whose
results PyTorch fixed, and the registries take rules of the user's own, which come first.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.fx.tensor_type import Dyn, TensorType

from symfx.graph_typing.refinement import (
    Refine,
    all_eq,
    conv_refinement_rule,
    conv_rule,
    element_wise_eq,
    first_two_eq,
    flatten_refinement_rule,
    linear_refinement_rule,
)
from symfx.graph_typing.registry import (
    INFERENCE,
    register_algebraic_expressions_inference_rule,
    register_inference_rule,
    register_refinement_rule,
)
from symfx.graph_typing.rules import (
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
    typed_from_table,
)
from symfx.graph_typing.types import (
    adaptiveavgpool2d_check,
    broadcast_types,
    calculate_out_dimension,
    expand_to_tensor_dim,
    flatten_check,
    get_greatest_upper_bound,
    linear_check,
    maxpool2d_check,
)
from symfx.shape_rules.graphs import annotation_of, graph_of, parameter_of
from symfx.shape_rules.table import lookup, operator_name

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


class GraphTypeChecker:
    """Types the nodes of a graph, one after the other.

    Args:
        env: not used; it is there because PyTorch's checker takes it.
        traced: the GraphModule. Annotations are what ``node.type`` says before.

    Attributes:
        unknown_operators: the nodes whose operator nobody knows, typed ``Dyn``, with its name.

    Example:
        >>> class Program(torch.nn.Module):
        ...     def forward(self, x: TensorType((2, Dyn)), y: TensorType((Dyn, 3))):
        ...         return torch.matmul(x, y)
        >>> traced = torch.fx.symbolic_trace(Program())
        >>> GraphTypeChecker({}, traced).type_check()
        True
        >>> [node.type for node in traced.graph.nodes][-1]
        TensorType[(2, 3)]
    """

    def __init__(self, env: dict[str, Any], traced: GraphModule) -> None:
        self.env = env
        self.traced = traced
        self.unknown_operators: dict[Node, str] = {}
        self._values: dict[Node, Any] = {}

    def type_check(self) -> bool:
        """Type all nodes.

        Returns:
            True; what is wrong is raised. Operators that are not known are named in a warning.

        Raises:
            IllTypedError: a node's operator does not take the types of its arguments.
            GradualError: the graph is empty or cyclic.
        """
        self.unknown_operators = {}
        self._values = {}
        for node in graph_of(self.traced).nodes:
            self.type_check_node(node)
        if self.unknown_operators:
            names = ", ".join(sorted(set(self.unknown_operators.values())))
            warnings.warn(
                f"no shape rule for {names}: typed Dyn (symfx.shape_rules.rule adds one)",
                stacklevel=2,
            )
        return True

    def type_check_node(self, n: Node) -> Any:
        """Type one node, whose arguments are typed; returns its type."""
        n.type = Dyn if n.type is None else annotation_of(n)
        if n.op == "placeholder":
            return n.type
        if n.op == "output":
            n.type = map_arg(n.args[0], lambda node: node.type)
            return n.type
        if n.op == "get_attr":
            value = parameter_of(self.traced, str(n.target))
            if isinstance(value, torch.Tensor):
                n.type = TensorType(tuple(value.shape))
            return n.type
        if n.op == "call_module":
            module = self.traced.get_submodule(str(n.target))
            if type(module) in INFERENCE:
                return INFERENCE[type(module)](n, module)
        elif n.target is not getattr and n.target in INFERENCE:
            return INFERENCE[n.target](n)
        rule, called = lookup(n, self.traced)
        if rule is None:
            self.unknown_operators[n] = operator_name(n, called)
            return n.type
        return typed_from_table(n, called, root=self.traced, values=self._values)
