"""The type checker: one walk over a graph that writes the type of each value."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg
from torch.fx.tensor_type import Dyn, TensorType

from symfx.graph_gradual_typechecker.registry import INFERENCE
from symfx.graph_gradual_typechecker.rules import typed_from_table
from symfx.shape_rules.graphs import annotation_of, graph_of, parameter_of
from symfx.shape_rules.table import lookup, operator_name

__all__ = ["GraphTypeChecker"]


class GraphTypeChecker:
    """Computes the types of the nodes of a graph, one after the other.

    Args:
        env: not used; PyTorch's checker takes it.
        traced: the GraphModule; ``node.type`` of its nodes has the annotations.

    Attributes:
        unknown_operators: the nodes whose operator has no rule, typed ``Dyn``, with its name.

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
        """Compute the types of all nodes.

        Returns:
            True. Operators without a rule are named in a warning.

        Raises:
            IllTypedError: an operator does not take the types of its arguments.
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
        """Compute and return the type of one node, from the types of its arguments."""
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
