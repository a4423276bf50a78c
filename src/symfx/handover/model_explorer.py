"""A trace in the JSON format of Model Explorer, Google's viewer of large graphs.

The format is that of the dataclasses in ``model_explorer.graph_builder`` (pip:
ai-edge-model-explorer), whose field names the JSON has.
"""

from __future__ import annotations

from typing import Any

from symfx.handover.drawings import Drawing, Edge, Guards, Node, drawings_of
from symfx.tracing.traced_model import TracedModel

__all__ = ["model_explorer_graphs"]


def model_explorer_graphs(trace: TracedModel, guards: Guards) -> dict[str, Any]:
    """The graphs of a trace as a collection of Model Explorer; see the module.

    Args:
        trace: the trace.
        guards: the guards that each node of the graph caused, by its name.
    """
    return {
        "label": trace.name,
        "graphs": [_graph(drawing) for drawing in drawings_of(trace, guards)],
    }


def _graph(drawing: Drawing) -> dict[str, Any]:
    incoming: dict[str, list[Edge]] = {}
    for edge in drawing.edges:
        incoming.setdefault(edge.target, []).append(edge)
    classes = {_namespace(path): kind for path, kind in drawing.classes.items() if path}
    return {
        "id": drawing.name,
        "nodes": [_node(node, incoming.get(node.name, [])) for node in drawing.nodes],
        "groupNodeAttributes": {path: {"class": kind} for path, kind in classes.items()},
    }


def _node(node: Node, incoming: list[Edge]) -> dict[str, Any]:
    attributes = {"name": node.name, **node.details}
    return {
        "id": node.name,
        "label": node.label,
        "namespace": _namespace(node.group),
        "subgraphIds": list(node.graphs),
        "attrs": [{"key": key, "value": value} for key, value in attributes.items()],
        "incomingEdges": [
            {
                "sourceNodeId": edge.source,
                "sourceNodeOutputId": str(edge.output),
                "targetNodeInputId": str(i),
            }
            for i, edge in enumerate(incoming)
        ],
        # The viewer shows a shape under this key on the edges of the result.
        "outputsMetadata": [
            {"id": str(i), "attrs": [{"key": "tensor_shape", "value": shape}]}
            for i, shape in enumerate(node.shapes)
        ],
    }


def _namespace(path: tuple[str, ...]) -> str:
    """The modules around a node; a slash in the name of one would begin another."""
    return "/".join(part.replace("/", "_") for part in path)
