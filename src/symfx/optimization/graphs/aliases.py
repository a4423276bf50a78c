"""The values of a graph that may share memory, and those whose memory is written to."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx, nn

from symfx.optimization.graphs.effects import (
    attribute_of,
    effect_of,
    read_argument,
    storage_of,
)
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["Aliases", "keeps_no_state"]


class Aliases:
    """The values of a graph that may share memory, and those whose memory is written to.

    An instance is out of date once the graph is rewritten; `adopt` keeps it up to date with one
    new node.

    Args:
        module: the graph with its modules.
        modules: the modules by name.
    """

    def __init__(self, module: fx.GraphModule, modules: dict[str, nn.Module]) -> None:
        self._modules = modules
        self._group: dict[fx.Node, int] = {}
        self._members: dict[int, list[fx.Node]] = {}
        self._storages: dict[int, fx.Node] = {}
        self._touched: set[int] = set()
        self._effects: dict[fx.Node, Effect] = {}
        disturbed: list[fx.Node] = []
        sizes: set[fx.Node] = set()
        for index, node in enumerate(module.graph.nodes):
            self._group[node] = index
            self._members[index] = [node]
            effect = self._effects[node] = effect_of(node, self._modules)
            if node.op == "get_attr":
                self._share_storage(node, attribute_of(module, str(node.target)))
            if _is_size(node, sizes):
                sizes.add(node)  # numbers, which share no memory
            elif effect is not Effect.FRESH and node.op != "output":
                for other in _may_return(node, effect):
                    if other not in sizes:
                        self._join(node, other)
            if effect in (Effect.WRITES, Effect.UNKNOWN):
                disturbed.append(node)
        opaque_storages = self._storages_of_opaque_modules(disturbed)
        self._touched = {self._group[node] for node in disturbed} | {
            self._group[node]
            for node in module.graph.nodes
            if node.op == "get_attr"
            and storage_of(attribute_of(module, str(node.target))) in opaque_storages
        }
        #: The memory of the parameters and buffers that a run may write to; see `storage_of`.
        self.written_storages = opaque_storages | {
            storage_of(attribute_of(module, str(node.target)))
            for node in module.graph.nodes
            if node.op == "get_attr" and self._group[node] in self._touched
        }

    def effect(self, node: fx.Node) -> Effect:
        """The node's effect, as `effect_of` returned it."""
        return self._effects[node]

    def is_quiet(self, node: fx.Node) -> bool:
        """Whether no node, known or unknown, can write to the memory of this value."""
        return self._group[node] not in self._touched

    def family(self, node: fx.Node) -> list[fx.Node]:
        """The values that may share memory with this one, and this one."""
        return self._members[self._group[node]]

    def adopt(self, new: fx.Node, old: fx.Node) -> None:
        """Add a new node, which returns the value of an old one and may alias the same."""
        self._group[new] = self._group[old]
        self._members[self._group[old]].append(new)
        self._effects[new] = effect_of(new, self._modules)

    def escapes(self, node: fx.Node) -> bool:
        """Whether the caller may be given this value's memory."""
        return any(user.op == "output" for member in self.family(node) for user in member.users)

    def _join(self, one: fx.Node, other: fx.Node) -> None:
        into, gone = self._group[one], self._group[other]
        if into == gone:
            return
        if len(self._members[into]) < len(self._members[gone]):
            into, gone = gone, into
        for node in self._members.pop(gone):
            self._group[node] = into
            self._members[into].append(node)

    def _share_storage(self, node: fx.Node, value: object) -> None:
        key = storage_of(value)
        if key is not None:
            self._join(node, self._storages.setdefault(key, node))

    def _storages_of_opaque_modules(self, disturbed: list[fx.Node]) -> set[int | None]:
        """The memory of modules of unknown effect, such as batch norms in train mode."""
        found: set[int | None] = set()
        for node in disturbed:
            module = self._modules.get(str(node.target)) if node.op == "call_module" else None
            if module is not None and self._effects[node] is Effect.UNKNOWN:
                found.update(storage_of(tensor) for tensor in module.parameters())
                found.update(storage_of(tensor) for tensor in module.buffers())
        return found


def keeps_no_state(module: fx.GraphModule) -> bool:
    """Whether a run of this graph changes none of the graph's modules and tensors."""
    modules = dict(module.named_modules())
    effects = {effect_of(node, modules) for node in module.graph.nodes}
    if Effect.UNKNOWN in effects:
        return False
    return Effect.WRITES not in effects or not Aliases(module, modules).written_storages


def _is_size(node: fx.Node, sizes: Collection[fx.Node]) -> bool:
    """Whether a node's value is a size, several sizes, or computed from sizes alone.

    Args:
        node: the node.
        sizes: the earlier nodes for which this is true.
    """
    if node.op == "call_method":
        return node.target in ("size", "dim")
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim")
    inputs = node.all_input_nodes
    own = node.op == "call_function" and getattr(node.target, "__module__", "") == "_operator"
    return own and bool(inputs) and all(each in sizes for each in inputs)


def _may_return(node: fx.Node, effect: Effect) -> list[fx.Node]:
    """The arguments whose memory a node may return: a write returns its first argument."""
    if effect is Effect.WRITES:
        written = read_argument(node, 0, "input")
        return [written] if isinstance(written, fx.Node) else node.all_input_nodes
    return node.all_input_nodes
