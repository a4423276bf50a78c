"""Compiled kernels that follow each other become one call; see `KernelChain`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.optimization.graphs.surgery import clean, fresh_name
from symfx.optimization.report import Report
from symfx.optimization.runtime.assumed import assumed_length, assumed_truth
from symfx.optimization.runtime.attention import attend, self_attend
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.conv_kernels import COMPILED_WAYS
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.kernel_chain import COPIES, SUMS, KernelChain
from symfx.optimization.runtime.linear_kernels import COMPILED
from symfx.optimization.runtime.one_pass import layer_norm, rms_norm, rotated, sdpa

__all__ = ["chain_kernels", "unchained"]

_KERNELS = frozenset({attend, layer_norm, rms_norm, rotated, sdpa, self_attend})
#: Functions of sizes, and functions whose result is a view.
_FUNCTIONS = frozenset(
    {
        assumed_length,
        assumed_truth,
        getattr,
        operator.add,
        operator.eq,
        operator.floordiv,
        operator.ge,
        operator.getitem,
        operator.gt,
        operator.le,
        operator.lt,
        operator.mod,
        operator.mul,
        operator.ne,
        operator.neg,
        operator.sub,
        torch.chunk,
        torch.permute,
        torch.split,
        torch.squeeze,
        torch.transpose,
        torch.unsqueeze,
    }
)
_METHODS = COPIES | {
    "chunk",
    "dim",
    "expand",
    "narrow",
    "ndimension",
    "numel",
    "permute",
    "select",
    "size",
    "split",
    "squeeze",
    "stride",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
}
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "mT", "T")
#: Chains of fewer kernels are left as they are.
_LEAST = 2


def chain_kernels(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """Let kernels that follow each other run in one call.

    Args:
        module: the graph, which is changed.
        report: gets the nodes that are called at once.

    Returns:
        the graph without its unused nodes.
    """
    if kernels() is None:
        return module
    modules = dict(module.named_modules())
    done = 0
    for nodes in list(_runs(module.graph, modules)):
        if sum(_computes(node, modules) for node in nodes) >= _LEAST:
            _chain(module, nodes, report)
            done += 1
    return clean(module) if done else module


def _runs(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[list[fx.Node]]:
    """The longest runs of nodes from one kernel to another with nothing else between."""
    run: list[fx.Node] = []
    tail: list[fx.Node] = []
    for node in graph.nodes:
        if _computes(node, modules):
            run += [*tail, node]
            tail = []
        elif node.op == "get_attr" or _is_free(node):
            # A copy in front of the first kernel may belong to it.
            if run or tail or node.target == "contiguous":
                tail.append(node)
        else:
            yield run
            run, tail = [], []
    yield run


def _computes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a compiled kernel computes a node."""
    if node.op == "call_module":
        called = modules[str(node.target)]
        if isinstance(called, FusedConv):
            return bool(called.ways) and all(way in COMPILED_WAYS for way in called.ways.values())
        return isinstance(called, FusedLinear) and COMPILED in called.ways.values()
    return node.op == "call_function" and node.target in _KERNELS


def _is_free(node: fx.Node) -> bool:
    """Whether a node is a view, a question about sizes, or a sum or product."""
    if node.op == "call_method":
        return node.target in _METHODS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _ATTRIBUTES
    plain = node.target in _FUNCTIONS or node.target in SUMS
    return plain and "out" not in node.kwargs and (node.target not in SUMS or not node.kwargs)


def _chain(module: fx.GraphModule, nodes: list[fx.Node], report: Report) -> None:
    """One call of a `KernelChain` in the place of some nodes."""
    graph, inner = module.graph, fx.Graph()
    inside = set(nodes)
    outputs = [n for n in nodes if n.op != "get_attr" and any(u not in inside for u in n.users)]
    inputs: list[fx.Node] = []
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for source in node.all_input_nodes:
            if source not in inside and source not in copies and source.op != "get_attr":
                inputs.append(source)
                copies[source] = inner.placeholder(source.name)
    for node in nodes:
        for source in node.all_input_nodes:
            if source not in copies:
                copies[source] = inner.node_copy(source, copies.__getitem__)
        if node not in copies:
            copies[node] = inner.node_copy(node, copies.__getitem__)
    inner.output(tuple(copies[node] for node in outputs))
    name = fresh_name(module, "kernels")
    found = fx.GraphModule(module, inner, "Kernels")
    found.training = module.training
    for part in found.modules():
        if isinstance(part, FusedConv):
            part.accumulates = False  # a node that writes to its argument could not run twice
    chain = KernelChain(found)
    chain.training = module.training
    module.add_submodule(name, chain)
    with graph.inserting_before(nodes[0]):
        call = graph.call_module(name, tuple(inputs))
        for place, node in enumerate(outputs):
            value = graph.call_function(operator.getitem, (call, place))
            node.replace_all_uses_with(value, lambda user: user not in inside)
    report.rewrote("kernels in one call", [n for n in nodes if n.op != "get_attr"], call)
    for node in reversed(nodes):
        if not node.users:
            graph.erase_node(node)


def unchained(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a graph with the nodes of its chains in their place."""
    modules = dict(module.named_modules())
    calls = {
        node: modules[str(node.target)]
        for node in module.graph.nodes
        if node.op == "call_module" and isinstance(modules[str(node.target)], KernelChain)
    }
    if not calls:
        return module
    graph = fx.Graph()
    copies: dict[fx.Node, Any] = {}
    held: dict[str, Any] = {}

    def holds(node: fx.Node, owner: nn.Module) -> None:
        if node.op in ("call_module", "get_attr"):
            held[str(node.target)] = operator.attrgetter(str(node.target))(owner)

    for node in module.graph.nodes:
        if node in calls:
            chain: Any = calls[node]
            own: dict[fx.Node, Any] = {}
            arguments = iter(node.args)
            for each in chain.graph_module.graph.nodes:
                if each.op == "placeholder":
                    own[each] = copies[next(arguments)]
                elif each.op == "output":
                    copies[node] = tuple(own[value] for value in each.args[0])
                else:
                    own[each] = graph.node_copy(each, own.__getitem__)
                    holds(each, chain.graph_module)
        elif node.target is operator.getitem and node.args[0] in calls:
            copies[node] = copies[node.args[0]][node.args[1]]
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            holds(node, module)
    root: dict[str, Tensor | nn.Module] = held
    result = fx.GraphModule(root, graph, type(module).__name__)
    result.training = module.training
    return result
