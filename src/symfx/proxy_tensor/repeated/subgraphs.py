"""Repeated blocks as one subgraph, which the graph calls for each block (``invoke_subgraph``)."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph

from symfx.torch_bridge.fx_graphs import append_named, graph_module, set_metadata

if TYPE_CHECKING:
    from symfx.proxy_tensor.repeated.stamping import Recorded
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["Body", "nodes_after"]


def nodes_after(last: fx.Node) -> list[fx.Node]:
    """The nodes of a graph after one of them."""
    nodes = []
    node = last.next
    while node.op != "root":
        nodes.append(node)
        node = node.next
    return nodes


class Body:
    """The subgraph of the blocks that are equal to a recorded call.

    Args:
        tracer: the tracer of the trace.
        recorded: the call.
        name: the name of the class of the block.

    Attributes:
        calls: the number of blocks that call it.
        operands: the nodes from outside that the recorded call uses, in the order of the inputs.
    """

    def __init__(self, tracer: PythonKeyTracer, recorded: Recorded, name: str) -> None:
        self._tracer = tracer
        self.calls = 0
        self._outputs = [position for position, _ in recorded.outputs.values()]
        own = {step.node for step in recorded.steps}
        used = (n for step in recorded.steps for n in step.node.all_input_nodes)
        self.operands = list(dict.fromkeys(n for n in used if n not in own))
        graph = fx.Graph()
        new: dict[fx.Node, fx.Node] = {}
        for i, node in enumerate(self.operands):
            new[node] = graph.placeholder(f"arg{i}")
            new[node].meta["val"] = node.meta.get("val")
        for step in recorded.steps:
            node = step.node
            args: Any = fx.node.map_arg(node.args, lambda n: new[n])
            kwargs: Any = fx.node.map_arg(node.kwargs, lambda n: new[n])
            new[node] = append_named(graph, node.op, node.target, args, kwargs, node.name)
            set_metadata(new[node], dict(node.meta))
        graph.output(tuple(new[recorded.steps[i].node] for i in self._outputs))
        self._inputs = [new[node] for node in self.operands]
        self._copied = [step.node for step in recorded.steps]
        self._nodes = [new[node] for node in self._copied]
        root = tracer.root
        number = 0
        while hasattr(root, f"repeated_subgraph{number}"):
            number += 1
        self._target = f"repeated_subgraph{number}"
        self._identifier = f"{name}_{number}"
        root.add_module(self._target, graph_module(torch.nn.Module(), graph, name))

    def call(self, operands: Sequence[fx.Node], vals: Sequence[Any]) -> list[fx.Node]:
        """Record a call of the subgraph at the graph's end; the nodes of its results.

        Args:
            operands: the nodes that the call uses from outside.
            vals: the values of the results, for the metadata.
        """
        self.calls += 1
        tracer = self._tracer
        body = tracer.create_attribute(self._target)
        args = (body, self._identifier, *operands)
        node = tracer.call(invoke_subgraph, args, {}, "invoke_subgraph")
        node.meta["val"] = tuple(vals)
        results = []
        for i, val in enumerate(vals):
            item = tracer.call(operator.getitem, (node, i), {}, "getitem")
            item.meta["val"] = val
            results.append(item)
        return results

    def fold(self, nodes: Sequence[fx.Node]) -> bool:
        """Replace the nodes of a call that was run by a call of the subgraph.

        Returns:
            False where they are other nodes than those of the subgraph, and so stay.
        """
        steps = [n for n in nodes if not _is_number(n)]
        found = self._matched(steps)
        if found is None:
            return False
        own = set(steps)
        outputs = [steps[i] for i in self._outputs]
        if any(user not in own for n in own.difference(outputs) for user in n.users):
            return False
        if any(n in own for number in nodes if _is_number(number) for n in number.all_input_nodes):
            return False
        origins = self._tracer.origins
        self._tracer.origins = None  # the origin of the call is that of its last node
        try:
            with self._tracer.graph.inserting_after(nodes[-1]):
                results = self.call(
                    [found[n] for n in self._inputs], [n.meta["val"] for n in outputs]
                )
        finally:
            self._tracer.origins = origins
        call: fx.Node = results[0].args[0] if results else nodes[-1].next  # type: ignore[assignment]
        _in_order(nodes[-1], [call.args[0], call, *results])  # type: ignore[list-item]
        for made in (call.args[0], call, *results):
            made.meta = {**_origin_of(steps[-1]), **made.meta}  # type: ignore[union-attr]
        for old, new in zip(outputs, results, strict=True):
            old.replace_all_uses_with(new, lambda user: user not in own)
        for node in reversed(steps):
            self._tracer.graph.erase_node(node)
        return True

    def _matched(self, nodes: Sequence[fx.Node]) -> dict[fx.Node, fx.Node] | None:
        """For each node of the subgraph the one of a call, if both compute the same."""
        if len(nodes) != len(self._nodes):
            return None
        compared = nodes != self._copied
        found: dict[fx.Node, fx.Node] = {}
        own, theirs_own = set(self._nodes), set(nodes)
        for mine, theirs in zip(self._nodes, nodes, strict=True):
            if theirs.op != mine.op or theirs.target != mine.target:
                return None
            for a, b in zip(mine.all_input_nodes, theirs.all_input_nodes, strict=False):
                if (a in own) != (b in theirs_own) or found.setdefault(a, b) is not b:
                    return None
            if found.setdefault(mine, theirs) is not theirs:
                return None
            if not compared:
                continue
            if not _agree((mine.args, mine.kwargs), (theirs.args, theirs.kwargs), found):
                return None
            if _told(mine.meta.get("val")) != _told(theirs.meta.get("val")):
                return None
        return found


def _agree(mine: Any, theirs: Any, found: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether arguments of two nodes are the same, with nodes that stand for each other."""
    if isinstance(mine, fx.Node):
        return found.get(mine, mine) is theirs
    if isinstance(mine, (list, tuple)) and isinstance(theirs, (list, tuple)):
        pairs = zip(mine, theirs, strict=False)
        kinds = isinstance(mine, tuple) is isinstance(theirs, tuple)
        return kinds and len(mine) == len(theirs) and all(_agree(a, b, found) for a, b in pairs)
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return _agree(list(mine.items()), list(theirs.items()), found)
    if isinstance(mine, slice) and isinstance(theirs, slice):
        return _agree(
            (mine.start, mine.stop, mine.step), (theirs.start, theirs.stop, theirs.step), found
        )
    return mine is theirs or repr(mine) == repr(theirs)  # 0.0 equals -0.0, and 1 equals True


def _in_order(after: fx.Node, nodes: Sequence[fx.Node]) -> None:
    """Move nodes behind another, in their order."""
    for node in nodes:
        after.append(node)
        after = node


def _origin_of(node: fx.Node) -> dict[str, Any]:
    keys = ("nn_module_stack", "symfx_calls", "stack_trace")
    return {key: node.meta[key] for key in keys if key in node.meta}


def _is_number(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool))


def _told(val: Any) -> Any:
    if isinstance(val, torch.Tensor):
        numbers = (*val.shape, *val.stride(), val.storage_offset())
        return val.dtype, val.device, val.dim(), *(_term(n) for n in numbers)
    return [_told(v) for v in val] if isinstance(val, (list, tuple)) else val


def _term(number: Any) -> Any:
    return number.node.term if isinstance(number, torch.SymInt) else number
