"""Graphs and their nodes as all analyses read them: annotations, parameters, source lines."""

from __future__ import annotations

import ast
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.tensor_type import Dyn, TensorType

from symfx.shape_rules.errors import GradualError
from symfx.shape_rules.program_lines import program_line_of_trace

__all__ = ["annotation_of", "graph_of", "is_shape", "parameter_of", "where_of"]


def graph_of(module: Any, graph: Graph | None = None) -> Graph:
    """The graph of a traced module, checked: not empty, and each value computed before its use.

    Args:
        module: a GraphModule, or the root that was traced.
        graph: the graph, if the module has none.

    Raises:
        GradualError: the module has no graph, or the graph is empty or cyclic.
    """
    found = getattr(module, "graph", None)
    if not isinstance(found, Graph):
        found = graph
    if not isinstance(found, Graph):
        raise GradualError(
            f"{type(module).__name__} has no graph",
            fix="trace it first: torch.fx.symbolic_trace(module)",
        )
    if not len(found.nodes):
        raise GradualError("the graph is empty", fix="trace a program that computes something")
    seen: set[Node] = set()
    for node in found.nodes:
        for used in node.all_input_nodes:
            if used not in seen:
                raise GradualError(
                    f"{node.name} uses {used.name}, which is computed after it or nowhere: "
                    "the graph is cyclic, or out of order",
                    where=where_of(node),
                    fix="repair the graph; graph.lint() checks it",
                )
        seen.add(node)
    return found


def where_of(node: Node) -> str:
    """The user's source line that a node comes from, if tracing recorded it; else the node."""
    line = program_line_of_trace(node.stack_trace or "")
    if line:
        return line
    called = f", a call of {node._pretty_print_target(node.target)}" if "call" in node.op else ""
    return f"node {node.name}{called}"


def annotation_of(node: Node) -> Any:
    """The annotation of a node, parsed if it is text.

    ``from __future__ import annotations`` keeps annotations as text. The forms
    ``TensorType((2, Dyn))``, ``TensorType[2, Dyn]``, ``Dyn`` and ``int`` are read; any other text
    counts as ``Dyn``.
    """
    text = node.type
    if not isinstance(text, str):
        return text
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError:
        return Dyn
    if isinstance(tree, ast.Name) and tree.id == "int":
        return int
    if isinstance(tree, ast.Call) and len(tree.args) == 1:
        called, dims = tree.func, tree.args[0]
    elif isinstance(tree, ast.Subscript):
        called, dims = tree.value, tree.slice
    else:
        return Dyn
    if ast.unparse(called).split(".")[-1] != "TensorType":
        return Dyn
    parts = dims.elts if isinstance(dims, (ast.Tuple, ast.List)) else [dims]
    return TensorType(tuple(_number(part) for part in parts))


def _number(part: ast.expr) -> Any:
    return part.value if isinstance(part, ast.Constant) and type(part.value) is int else Dyn


def is_shape(node: Node) -> bool:
    """Whether a node's value is the shape of a tensor: ``x.size()`` or ``x.shape``."""
    if node.op == "call_method" and node.target == "size":
        return len(node.args) == 1 and not node.kwargs
    return node.op == "call_function" and node.target is getattr and node.args[1:2] == ("shape",)


def parameter_of(root: torch.nn.Module, target: str) -> Any:
    """The value that a ``get_attr`` node reads.

    Raises:
        GradualError: the module has no such attribute.
    """
    value: Any = root
    for name in target.split("."):
        try:
            value = _member(value, name)
        except AttributeError:
            raise GradualError(
                f"{type(root).__name__} has no attribute {target}", fix="trace the module again"
            ) from None
    return value


def _member(value: Any, name: str) -> Any:
    """An attribute; while torch.fx traces a module, the getter of its parameters gives proxies."""
    if isinstance(value, torch.nn.Module):
        for members in (value._parameters, value._buffers, value._modules):
            if name in members:
                return members[name]
    return getattr(value, name)
