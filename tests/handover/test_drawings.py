"""Graphs for other programs: Model Explorer's JSON, Mermaid and DOT, read by readers of their own."""

from __future__ import annotations

import json
import operator
import re
from typing import Any

import jsonschema
import pydot
import pytest
import torch
from torch import Tensor, nn

import symfx
from small_models import WithBlock

HOSTILE = '"]; x -> y [label="a\\"]\n</script><b>`#;&|%%{init: {}}%% end\\'


class Model(WithBlock):
    def forward(self, x: Tensor) -> Any:
        y = self.block(x).view(16, -1)
        first, second = torch.split(x, 4, dim=1)
        z = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,))
        return y, first * second, z, x.shape[0] * 2


class Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(HOSTILE.replace(".", ""), nn.Linear(4, 4))
        self.add_module("a/b", nn.Linear(4, 4))

    def forward(self, x: Tensor, mode: str) -> Tensor:
        for module in self.children():
            x = module(x)
        return x


@pytest.fixture(scope="module")
def t() -> symfx.Trace:
    return symfx.trace(Model(), torch.randn(8, 8), dynamic={"x": ("n", None)})


@pytest.fixture(scope="module")
def hostile() -> symfx.Trace:
    Hostile.__name__ = HOSTILE
    try:
        yield symfx.trace(Hostile(), (torch.randn(4, 4), HOSTILE), dynamic={"x": ("n", None)})
    finally:
        Hostile.__name__ = "Hostile"


def nodes_of(t: symfx.Trace) -> list[torch.fx.Node]:
    modules = [m for m in t.graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    return [node for module in modules for node in module.graph.nodes]


def edges_of(t: symfx.Trace) -> int:
    return sum(len(node.all_input_nodes) for node in nodes_of(t))


# -- Model Explorer --------------------------------------------------------------------------------


def _object(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": [*required],
        "additionalProperties": False,
    }


TEXT = {"type": "string"}
PAIRS = {"type": "array", "items": _object({"key": TEXT, "value": TEXT})}
METADATA = {"type": "array", "items": _object({"id": TEXT}, attrs=PAIRS)}
#: The dataclasses of model_explorer.graph_builder 0.1.34, without those that are not used here.
COLLECTION = _object(
    {
        "label": TEXT,
        "graphs": {
            "type": "array",
            "items": _object(
                {
                    "id": TEXT,
                    "nodes": {
                        "type": "array",
                        "items": _object(
                            {"id": TEXT, "label": TEXT},
                            namespace=TEXT,
                            subgraphIds={"type": "array", "items": TEXT},
                            attrs=PAIRS,
                            incomingEdges={
                                "type": "array",
                                "items": _object(
                                    {"sourceNodeId": TEXT},
                                    sourceNodeOutputId=TEXT,
                                    targetNodeInputId=TEXT,
                                ),
                            },
                            outputsMetadata=METADATA,
                        ),
                    },
                },
                groupNodeAttributes={
                    "type": "object",
                    "additionalProperties": {"type": "object", "additionalProperties": TEXT},
                },
            ),
        },
    }
)


def attributes(node: dict[str, Any]) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in node["attrs"]}


def test_model_explorer_has_the_form_of_its_dataclasses(
    t: symfx.Trace, hostile: symfx.Trace
) -> None:
    for trace in (t, hostile):
        data = json.loads(json.dumps(trace.to_model_explorer()))
        jsonschema.validate(data, COLLECTION)
        for graph in data["graphs"]:
            outputs = {n["id"]: {m["id"] for m in n["outputsMetadata"]} for n in graph["nodes"]}
            assert len(outputs) == len(graph["nodes"])
            for node in graph["nodes"]:
                for edge in node["incomingEdges"]:
                    made = outputs[edge["sourceNodeId"]]
                    assert edge["sourceNodeOutputId"] in made or not made
            groups = {n["namespace"] for n in graph["nodes"]}
            assert all(
                any(f"{g}/".startswith(f"{a}/") for g in groups)
                for a in graph["groupNodeAttributes"]
            )
        names = {graph["id"] for graph in data["graphs"]}
        assert {
            g for graph in data["graphs"] for n in graph["nodes"] for g in n["subgraphIds"]
        } <= names
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**t.to_model_explorer(), "more": 1}, COLLECTION)


def test_model_explorer_has_groups_shapes_lines_and_guards(t: symfx.Trace) -> None:
    main, *branches = t.to_model_explorer()["graphs"]
    nodes = {node["id"]: node for node in main["nodes"]}
    assert nodes["relu"]["namespace"] == "block" and nodes["addmm"]["namespace"] == "block/lin"
    assert nodes["block_lin_weight"]["namespace"] == "block/lin"
    assert main["groupNodeAttributes"]["block"] == {"class": "Block"}
    assert nodes["relu"]["outputsMetadata"][0]["attrs"][0]["value"] == "f32[n, 8]"
    assert len(nodes["split"]["outputsMetadata"]) == 2
    second = next(n for n in nodes.values() if attributes(n).get("expression") == "split[1]")
    assert second["incomingEdges"][0]["sourceNodeOutputId"] == "1"
    assert "torch.relu(self.lin(x))" in attributes(nodes["relu"])["line"]
    assert attributes(nodes["relu"])["operator"] == "aten.relu.default"
    assert attributes(second)["operator"] == "operator.getitem"
    (guarded,) = [n for n in nodes.values() if "guards" in attributes(n)]
    assert guarded["label"] == "view"
    assert attributes(guarded)["guards"] == str(t.guards[0].term)
    assert nodes["cond"]["subgraphIds"] == [graph["id"] for graph in branches]


# -- Mermaid ---------------------------------------------------------------------------------------

QUOTED = r'"(?P<text>(?:[A-Za-z0-9 _.,:()\[\]*+/=-]|#\d+;)*)"'
MERMAID_LINES = {
    "node": re.compile(rf"(?P<id>n\d+_\d+)(?:\(\[|\[\(|\[){QUOTED}(?:\]\)|\)\]|\])"),
    "edge": re.compile(rf"(?P<source>n\d+_\d+) -->(?:\|{QUOTED}\|)? (?P<target>n\d+_\d+)"),
    "open": re.compile(rf"subgraph (?P<id>[gm]\d+(?:_\d+)*)\[{QUOTED}\]"),
    "close": re.compile("end"),
}


def read_mermaid(text: str) -> list[tuple[str, dict[str, str]]]:
    """The statements of a flowchart, of which each has one of four forms."""
    head, *lines = text.splitlines()
    assert head == "flowchart TD"
    found = []
    for line in lines:
        fits = {k: m for k, p in MERMAID_LINES.items() if (m := p.fullmatch(line.strip()))}
        assert len(fits) == 1, line
        ((kind, match),) = fits.items()
        fields = match.groupdict()
        if fields.get("text"):
            fields["text"] = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), fields["text"])
        found.append((kind, fields))
    return found


def test_mermaid(t: symfx.Trace) -> None:
    found = read_mermaid(t.to_mermaid())
    nodes = {fields["id"]: fields["text"] for kind, fields in found if kind == "node"}
    edges = [fields for kind, fields in found if kind == "edge"]
    assert len(nodes) == len(nodes_of(t)) and len(edges) == edges_of(t)
    assert all(edge["source"] in nodes and edge["target"] in nodes for edge in edges)
    assert "relu: f32[n, 8]" in nodes.values()
    titles = [fields["text"] for kind, fields in found if kind == "open"]
    assert titles[:2] == ["block (Block)", "lin (Linear)"] and len(titles) == 4
    depth = 0
    for kind, _ in found:
        depth += {"open": 1, "close": -1}.get(kind, 0)
        assert depth >= 0
    assert depth == 0


def test_hostile_texts_stay_texts_in_mermaid(hostile: symfx.Trace) -> None:
    found = read_mermaid(hostile.to_mermaid())
    assert sum(kind == "node" for kind, _ in found) == len(nodes_of(hostile))
    titles = [fields["text"] for kind, fields in found if kind == "open"]
    assert titles == [f"{HOSTILE.replace('.', '')} (Linear)", "a/b (Linear)"]


# -- DOT -------------------------------------------------------------------------------------------


def all_of(graph: Any, what: str) -> list[Any]:
    inner = [item for sub in graph.get_subgraphs() for item in all_of(sub, what)]
    return [*operator.methodcaller(f"get_{what}")(graph), *inner]


def plain(label: str) -> str:
    assert label[0] == label[-1] == '"'
    return re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], label[1:-1])


def test_dot(t: symfx.Trace) -> None:
    (graph,) = pydot.graph_from_dot_data(t.to_dot())
    nodes = {
        n.get_name(): n for n in all_of(graph, "nodes") if n.get_name() not in ("node", "edge")
    }
    edges = all_of(graph, "edges")
    assert len(nodes) == len(nodes_of(t)) and len(edges) == edges_of(t)
    assert all(e.get_source() in nodes and e.get_destination() in nodes for e in edges)
    labels = [plain(node.get_label()) for node in nodes.values()]
    assert "relu: f32[n, 8]" in labels and "output" in labels
    assert "f32[n, 8]" in {plain(e.get_label()) for e in edges if e.get_label()}
    clusters = all_of(graph, "subgraphs")
    titles = {plain(cluster.get_label()) for cluster in clusters}
    assert titles >= {"block (Block)", "lin (Linear)"} and len(clusters) == 4
    assert any("torch.relu(self.lin(x))" in plain(n.get("tooltip")) for n in nodes.values())


def test_hostile_texts_stay_texts_in_dot(hostile: symfx.Trace) -> None:
    (graph,) = pydot.graph_from_dot_data(hostile.to_dot())
    nodes = [n for n in all_of(graph, "nodes") if n.get_name() not in ("node", "edge")]
    assert len(nodes) == len(nodes_of(hostile))
    assert len(all_of(graph, "edges")) == edges_of(hostile)
    first, second = all_of(graph, "subgraphs")
    assert plain(first.get_label()) == f"{HOSTILE.replace('.', '')} (Linear)"
    assert plain(second.get_label()) == "a/b (Linear)"


def test_a_loaded_trace_is_drawn_alike(t: symfx.Trace, tmp_path: Any) -> None:
    t.save(tmp_path / "t.symfx")
    again = symfx.load(tmp_path / "t.symfx")
    assert again.to_dot() == t.to_dot() and again.to_mermaid() == t.to_mermaid()
    assert again.to_model_explorer() == t.to_model_explorer()
