"""The inputs of a trace's graph: placeholders for arguments, attributes for the model's state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from symfx.torch_bridge.fx_graphs import become_attribute
from symfx.tracing.arguments import Leaf
from symfx.tracing.model_state import Attributes

__all__ = ["attach_state", "name_inputs"]


def attach_state(
    traced: torch.fx.GraphModule, nodes: list[torch.fx.Node], state: Mapping[str, torch.Tensor]
) -> dict[str, str]:
    """Make the placeholders of parameters and buffers attributes, near their first use.

    Returns:
        The names of these tensors in the model, by the names of the attributes.
    """
    graph = traced.graph
    names: dict[str, str] = {}
    attributes = Attributes(traced)
    pending = dict(zip(nodes, state.items(), strict=True))
    for user in list(graph.nodes):
        for node in user.all_input_nodes:
            if node not in pending:
                continue
            name, tensor = pending.pop(node)
            target = attributes.add(name, tensor)
            names[target] = name
            become_attribute(node, target)
            user.prepend(node)
    for node in pending:
        graph.erase_node(node)
    return names


def name_inputs(
    graph: torch.fx.Graph,
    nodes: list[torch.fx.Node],
    leaves: Sequence[Leaf],
    through: Sequence[bool],
) -> None:
    """Give each leaf a placeholder of its name, in order; that of a static leaf has no user."""
    traced = iter(nodes)
    anchor = next(node for node in graph.nodes if node.op != "placeholder")
    for leaf, is_input in zip(leaves, through, strict=True):
        old = next(traced) if is_input else None
        if old is not None and old.target == leaf.name:
            anchor.prepend(old)
            continue
        with graph.inserting_before(anchor):
            node = graph.placeholder(leaf.name)
        node.meta = dict(old.meta) if old is not None else {"val": leaf.example}
        if old is not None:
            old.replace_all_uses_with(node)
            graph.erase_node(old)
