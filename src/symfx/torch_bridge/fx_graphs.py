"""Graphs of torch.fx, built quickly: one node costs what the node costs, and no more."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.fx import _symbolic_trace
from torch.fx._lazy_graph_module import _LazyGraphModule
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.utils import _pytree as pytree

__all__ = [
    "append_call",
    "forget_wrapped_functions_that_are_gone",
    "graph_module",
    "take_pytree_inputs",
    "takes_pytree_inputs",
]


def append_call(
    graph: fx.Graph,
    target: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    name: str,
) -> fx.Node:
    """`Graph.create_node` for a call of a function whose arguments are known to be in order.

    `create_node` walks all arguments to warn about symbolic numbers among them; the tracer
    has just put nodes in their place, and does without.
    """
    namespace = graph._graph_namespace
    name = namespace.create_name(name, None)
    node = fx.Node(graph, name, "call_function", target, args, kwargs)
    namespace.associate_name_with_obj(name, node)
    graph._insert(node)
    graph._find_nodes_lookup_table.insert(node)
    graph._len += 1
    return node


def graph_module(root: torch.nn.Module, graph: fx.Graph, name: str) -> fx.GraphModule:
    """A module that runs a graph; its Python code is generated when it is first needed."""
    return _LazyGraphModule(root, graph, name)


def forget_wrapped_functions_that_are_gone() -> None:
    """Repair torch.fx's list of functions that `torch.fx.wrap` makes leaves.

    Reading a pickled graph module with a wrapped function of another module lists that function
    by its full name as one of the generated code's globals, where it never is; from then on
    every trace of torch.fx in the process would end in a KeyError.
    """
    listed = _symbolic_trace._wrapped_fns_to_patch
    for key, namespace in list(listed.items()):
        name = key[1]
        if name not in namespace and not hasattr(builtins, name):
            del listed[key]


def take_pytree_inputs(graph: fx.Graph, names: list[str], spec: pytree.TreeSpec) -> None:
    """The graph's code takes arguments of a tree's shape and flattens them itself."""
    graph._codegen = _PyTreeCodeGen(_PyTreeInfo(names, spec, None))


def takes_pytree_inputs(graph: fx.Graph, out_spec: pytree.TreeSpec | None = None) -> bool:
    """Whether `take_pytree_inputs` was called; gives the outputs their shape too."""
    codegen = graph._codegen
    if not isinstance(codegen, _PyTreeCodeGen):
        return False
    if out_spec is not None:
        codegen.pytree_info = codegen.pytree_info._replace(out_spec=out_spec)
    return True
