"""Tensors that depend on sizes and constants alone are computed once for inputs of the same sizes.

Masks, tables of positions and rotary embeddings are such tensors. A `KeptValues` module takes the
sizes and the constants, and computes them all.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from symfx.optimization.graphs.aliases import Aliases
from symfx.optimization.graphs.effects import attribute_of, effect_of, is_plain
from symfx.optimization.graphs.surgery import clean, inlined
from symfx.optimization.report import Report
from symfx.optimization.runtime.graph_functions import laid_out_as
from symfx.optimization.runtime.kept_values import KeptValues
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.optimization.runtime.packed_layer import PackedLayer

__all__ = ["compute_each_time", "keep_values"]

#: Functions that make a tensor of sizes and numbers. Those whose memory is not set are left out.
_MAKERS = frozenset(
    {
        torch.arange,
        torch.eye,
        torch.full,
        torch.linspace,
        torch.logspace,
        torch.ones,
        torch.scalar_tensor,
        torch.tril_indices,
        torch.triu_indices,
        torch.zeros,
    }
)
#: Properties of tensors that do not depend on their values.
_ATTRIBUTES = ("shape", "ndim", "dtype", "device")
_METHODS = ("size", "dim", "ndimension", "numel", "nelement")


def keep_values(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """Compute the tensors that depend on sizes and constants alone in a `KeptValues` module.

    Args:
        module: the graph, which is changed.
        report: gets the values that are kept.

    Returns:
        the graph without its unused nodes.
    """
    found = _Found(module)
    outputs = found.outputs()
    if not outputs:
        return module
    found.move_up(found.needed(outputs))
    for group in found.groups(outputs):
        _keep(module, found, group, report)
    return clean(module)


def _keep(module: fx.GraphModule, found: _Found, outputs: list[fx.Node], report: Report) -> None:
    """Compute some tensors in one `KeptValues` module."""
    graph, inner = module.graph, fx.Graph()
    needed = found.needed(outputs)
    inputs = [node for node in needed if found.is_given(node)]
    copies = {node: inner.placeholder(node.name) for node in inputs}
    for node in needed:
        if node not in copies:
            copies[node] = inner.node_copy(node, copies.__getitem__)
    inner.output(tuple(copies[node] for node in outputs))
    name = "kept_values"
    while hasattr(module, name):
        name += "_"
    module.add_submodule(name, KeptValues(fx.GraphModule(nn.Module(), inner, "ValuesOfSizes")))
    with graph.inserting_after(found.last_before(inputs, outputs)):
        call = at = graph.call_module(name, tuple(inputs))
    for place, node in enumerate(outputs):
        with graph.inserting_after(at):
            at = graph.call_function(operator.getitem, (call, place))
        for user in list(node.users):
            if found.is_outside(user):
                user.replace_input_with(node, at)
    report.rewrote("kept for inputs of the same sizes", outputs, call)


def compute_each_time(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of a graph with the nodes of its `KeptValues` modules in their place."""
    return inlined(module, KeptValues)


class _Found:
    """The nodes of a graph whose values depend on sizes and constants alone.

    Args:
        module: the graph; calls of embeddings become calls of their function.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        modules = dict(module.named_modules())
        self._graph = module.graph
        self._aliases = Aliases(module, modules)
        #: Properties of tensors that depend on data.
        self._properties: set[fx.Node] = set()
        self._constants: set[fx.Node] = set()
        self._tensors: set[fx.Node] = set()
        self._numbers: set[fx.Node] = set()
        #: The tensors that share memory with others.
        self._views: set[fx.Node] = set()
        #: The nodes that are run beside the kept values.
        self._outside: set[fx.Node] = set()
        for node in list(module.graph.nodes):
            if node.op == "get_attr":
                if isinstance(attribute_of(module, str(node.target)), Tensor):
                    self._add_constant(node)
            elif (of := _owner(node)) is not None:
                if "device" in node.args:
                    of = _on_same_device(of, modules)
                    node.args = (of, "device")
                if self._aliases.is_quiet(of):  # a write may change the sizes, too
                    known = self._numbers if of in self._tensors else self._properties
                    known.add(node)
            elif node.op == "call_module":
                self._add_embedding(module, node, modules)
            elif node.op in ("call_function", "call_method"):
                self._add_call(node, effect_of(node, modules))

    def _add_constant(self, node: fx.Node) -> None:
        if self._aliases.is_quiet(node):
            self._constants.add(node)
            self._tensors.add(node)

    def _add_call(self, node: fx.Node, effect: Effect) -> None:
        inputs = node.all_input_nodes
        if effect not in (Effect.FRESH, Effect.VIEW) or getattr(node.target, "symfx_keeps", False):
            return
        if not all(each in self._tensors or each in self._sizes for each in inputs):
            return
        if node.target in _MAKERS or any(each in self._tensors for each in inputs):
            if self._aliases.is_quiet(node) and not self._aliases.escapes(node):
                self._tensors.add(node)
                if effect is Effect.VIEW:
                    self._views.add(node)
        elif inputs:
            self._numbers.add(node)

    def _add_embedding(
        self, module: fx.GraphModule, node: fx.Node, modules: dict[str, nn.Module]
    ) -> None:
        """Add the rows of an embedding's table, as a call of `embedding` with its weight."""
        called = modules[str(node.target)]
        inputs = node.all_input_nodes
        if type(called) is not nn.Embedding or not is_plain(called) or len(node.args) != 1:
            return
        plain = called.max_norm is None and not called.sparse and not node.kwargs
        if not plain or not all(each in self._tensors for each in inputs):
            return
        if self._aliases.escapes(node) or not self._aliases.is_quiet(node):
            return
        graph = module.graph
        with graph.inserting_before(node):
            weight = graph.get_attr(f"{node.target}.weight")
            rows = graph.call_function(
                F.embedding, (node.args[0], weight), {"padding_idx": called.padding_idx}
            )
        node.replace_all_uses_with(rows)
        graph.erase_node(node)
        self._constants.add(weight)
        self._tensors.update((weight, rows))

    @property
    def _sizes(self) -> set[fx.Node]:
        return self._properties | self._numbers

    def is_given(self, node: fx.Node) -> bool:
        """Whether a node is an input of the kept values: a property of a tensor, or a constant."""
        return node in self._properties or node in self._constants

    def needed(self, outputs: list[fx.Node]) -> list[fx.Node]:
        """The nodes from which the outputs are computed, in their order."""
        found: set[fx.Node] = set()
        waiting = list(outputs)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += [] if self.is_given(node) else node.all_input_nodes
        return [node for node in self._graph.nodes if node in found]

    def outputs(self) -> list[fx.Node]:
        """The tensors that other nodes use, that depend on sizes, and that no view gives."""
        for node in reversed(self._graph.nodes):
            inside = node in self._tensors or self.is_given(node)
            if not inside and (
                node not in self._numbers or any(map(self._outside.__contains__, node.users))
            ):
                self._outside.add(node)
        computed: set[fx.Node] = set()
        found = []
        for node in self._graph.nodes:
            if node not in self._tensors or node in self._constants:
                continue
            if node not in self._views or any(each in computed for each in node.all_input_nodes):
                computed.add(node)
                if any(map(self._outside.__contains__, node.users)):
                    found.append(node)
        return [n for n in found if any(each in self._properties for each in self.needed([n]))]

    def is_outside(self, node: fx.Node) -> bool:
        """Whether a node is run beside the kept values, and not in their place."""
        return node in self._outside

    def move_up(self, nodes: list[fx.Node]) -> None:
        """Move those of the nodes that are inputs to where they can first be computed."""
        for node in nodes:
            of = _owner(node)
            if of is not None and node.all_input_nodes == [of]:
                if of.op == "placeholder":
                    self._first().prepend(node)
                else:
                    of.append(node)
            elif node in self._constants:
                self._first().prepend(node)

    def _first(self) -> fx.Node:
        """The first node that is no input of the graph."""
        nodes: Iterator[fx.Node] = iter(self._graph.nodes)
        return next(node for node in nodes if node.op != "placeholder")

    def last_before(self, inputs: Iterable[fx.Node], outputs: list[fx.Node]) -> fx.Node:
        """The last node that must run before the outputs: an input of theirs, or a check.

        A check stops the graph for inputs that it was not traced for. With such inputs, the nodes
        behind the check may raise errors of their own.
        """
        awaited, computed = set(inputs), set(outputs)
        check: fx.Node | None = None
        for node in self._graph.nodes:
            if getattr(node.target, "symfx_keeps", False):
                check = node
            elif node in computed and check is not None:
                awaited.add(check)
        last: fx.Node = [node for node in self._graph.nodes if node in awaited][-1]
        return last

    def groups(self, outputs: list[fx.Node]) -> Iterator[list[fx.Node]]:
        """The outputs in groups: all inputs of a group come before all uses of its outputs."""
        order = {node: place for place, node in enumerate(self._graph.nodes)}
        known = {
            node: order[self.last_before(filter(self.is_given, self.needed([node])), [node])]
            for node in outputs
        }
        group: list[fx.Node] = []
        used = len(order)
        for node in sorted(outputs, key=known.__getitem__):
            if known[node] > used:
                yield group
                group, used = [], len(order)
            group.append(node)
            used = min(used, *(order[user] for user in node.users if self.is_outside(user)))
        yield group


def _on_same_device(node: fx.Node, modules: dict[str, nn.Module]) -> fx.Node:
    """An earlier tensor on the device of a tensor, so that a question about it can come earlier."""
    while node.args and isinstance(node.args[0], fx.Node):
        called = modules.get(str(node.target)) if node.op == "call_module" else None
        view = node.op == "call_method" and node.target in ("permute", "reshape", "transpose")
        if not view and not isinstance(called, PackedLayer) and node.target is not laid_out_as:
            break
        node = node.args[0]
    return node


def _owner(node: fx.Node) -> fx.Node | None:
    """The tensor whose size, dtype or device a node reads; None for another node."""
    by_method = node.op == "call_method" and node.target in _METHODS
    by_name = node.op == "call_function" and node.target is getattr
    if by_method or (by_name and node.args[1] in _ATTRIBUTES):
        of = node.args[0] if node.args else None
        return of if isinstance(of, fx.Node) else None
    return None
