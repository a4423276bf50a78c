"""Compiled kernels that follow each other become one call; see `KernelChain`."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn

from symfx.optimization.graphs.surgery import clean, fresh_name, inlined
from symfx.optimization.report import Report
from symfx.optimization.runtime.assumed import assumed_length, assumed_truth
from symfx.optimization.runtime.attention import attend, self_attend
from symfx.optimization.runtime.compiled import kernels
from symfx.optimization.runtime.conv_kernels import COMPILED_WAYS
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.graph_functions import all_finite, laid_out_as
from symfx.optimization.runtime.image_kernels import concatenates, image_kernel
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
        elif node.op == "get_attr" or _is_free(node, modules):
            # A copy in front of the first kernel may belong to it, and a check of its numbers.
            if run or tail or node.target in ("contiguous", all_finite):
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


def _is_free(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node is a view, a question about sizes, or an operator that has a kernel too."""
    called = modules.get(str(node.target)) if node.op == "call_module" else node.target
    if _is_check(node) or called is laid_out_as or type(called) is nn.Flatten:
        return True
    if node.op != "call_method":
        given: Any = called, node.args, node.kwargs
        if image_kernel(*given) is not None or concatenates(*given):
            return True
    if node.op == "call_method":
        return node.target in _METHODS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _ATTRIBUTES
    plain = node.target in _FUNCTIONS or node.target in SUMS
    return plain and "out" not in node.kwargs and (node.target not in SUMS or not node.kwargs)


def _is_check(node: fx.Node) -> bool:
    """Whether a node checks the inputs of the graph for NaN, which no compiled kernel needs."""
    inputs = [each for each in node.args if isinstance(each, fx.Node)]
    return node.target is all_finite and [each.op for each in inputs] == ["placeholder"] * len(
        node.args
    )


def _sources(node: fx.Node) -> list[fx.Node]:
    """The nodes that a node reads; instead of a check of the graph's inputs, these inputs."""
    found: list[fx.Node] = []
    for each in node.all_input_nodes:
        found += each.all_input_nodes if _is_check(each) else [each]
    return found


def _chain(module: fx.GraphModule, nodes: list[fx.Node], report: Report) -> None:
    """One call of a `KernelChain` in the place of some nodes."""
    graph, inner = module.graph, fx.Graph()
    inside = set(nodes)
    for node in nodes:
        if _is_check(node) and not inside.issuperset(node.users):
            nodes[0].prepend(node)  # nodes outside need it, and those inside get a copy
    nodes = [n for n in nodes if not _is_check(n) or inside.issuperset(n.users)]
    inside = set(nodes)
    outputs = [n for n in nodes if n.op != "get_attr" and any(u not in inside for u in n.users)]
    inputs: list[fx.Node] = []
    copies: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        for source in _sources(node):
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
    return inlined(module, KernelChain)
