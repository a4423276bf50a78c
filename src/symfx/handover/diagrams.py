"""A trace as text that draws it: a flowchart of Mermaid, a graph of Graphviz (DOT)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from symfx.handover.drawings import Drawing, Group, Guards, Node, drawings_of
from symfx.tracing.traced_model import TracedModel

__all__ = ["dot_text", "mermaid_text"]

#: What a text of Mermaid may hold as it is; any other character is written by its number.
_PLAIN = re.compile(r"[^A-Za-z0-9 _.,:()\[\]*+/=-]")
#: The shape of a node by its kind: what stands around its text.
_MERMAID = {"placeholder": ("([", "])"), "output": ("([", "])"), "get_attr": ("[(", ")]")}
_DOT = {"placeholder": "ellipse", "output": "ellipse", "get_attr": "cylinder"}

_Id = Callable[[str], str]


# -- Mermaid ---------------------------------------------------------------------------------------


def mermaid_text(trace: TracedModel, guards: Guards) -> str:
    """The graphs of a trace as a flowchart of Mermaid.

    Args:
        trace: the trace.
        guards: the guards that each node of the graph caused, by its name.
    """
    lines = ["flowchart TD"]
    for number, drawing in enumerate(drawings_of(trace, guards)):
        ids = _ids(drawing, number)
        if number:  # a graph that a node of the first one calls
            lines.append(f'  subgraph g{number}["{_mermaid(drawing.name)}"]')
        lines += _mermaid_group(drawing.grouped(), drawing, ids, f"m{number}", 1 + bool(number))
        lines += ["  end"] if number else []
        for edge in drawing.edges:
            shape = f'|"{_mermaid(edge.shape)}"|' if edge.shape else ""
            lines.append(f"  {ids(edge.source)} -->{shape} {ids(edge.target)}")
    return "\n".join(lines) + "\n"


def _mermaid_group(
    group: Group, drawing: Drawing, ids: _Id, prefix: str, depth: int
) -> Iterator[str]:
    indent = "  " * depth
    for node in group.nodes:
        left, right = _MERMAID.get(node.kind, ("[", "]"))
        yield f'{indent}{ids(node.name)}{left}"{_mermaid(_text(node))}"{right}'
    for number, inner in enumerate(group.groups.values()):
        name = f"{prefix}_{number}"
        yield f'{indent}subgraph {name}["{_mermaid(_title(inner, drawing))}"]'
        yield from _mermaid_group(inner, drawing, ids, name, depth + 1)
        yield f"{indent}end"


def _mermaid(text: str) -> str:
    """A text for quotes of Mermaid, in which no character has a meaning."""
    return _PLAIN.sub(lambda found: f"#{ord(found[0])};", text)


# -- DOT -------------------------------------------------------------------------------------------


def dot_text(trace: TracedModel, guards: Guards) -> str:
    """The graphs of a trace in DOT, the language of Graphviz.

    Args:
        trace: the trace.
        guards: the guards that each node of the graph caused, by its name.
    """
    lines = [
        f"digraph {_dot(trace.name)} {{",
        '  node [shape=box, fontname="sans-serif"];',
        '  edge [fontname="sans-serif"];',
    ]
    for number, drawing in enumerate(drawings_of(trace, guards)):
        ids = _ids(drawing, number)
        if number:
            lines += [f"  subgraph cluster_g{number} {{", f"    label={_dot(drawing.name)};"]
        lines += _dot_group(drawing.grouped(), drawing, ids, f"m{number}", 1 + bool(number))
        lines += ["  }"] if number else []
        for edge in drawing.edges:
            shape = f" [label={_dot(edge.shape)}]" if edge.shape else ""
            lines.append(f"  {ids(edge.source)} -> {ids(edge.target)}{shape};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot_group(group: Group, drawing: Drawing, ids: _Id, prefix: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for node in group.nodes:
        shape = f", shape={_DOT[node.kind]}" if node.kind in _DOT else ""
        tip = _dot("\n".join(f"{label}: {text}" for label, text in node.details.items()))
        yield f"{indent}{ids(node.name)} [label={_dot(_text(node))}, tooltip={tip}{shape}];"
    for number, inner in enumerate(group.groups.values()):
        name = f"{prefix}_{number}"
        yield f"{indent}subgraph cluster_{name} {{"
        yield f"{indent}  label={_dot(_title(inner, drawing))};"
        yield from _dot_group(inner, drawing, ids, name, depth + 1)
        yield f"{indent}}}"


def _dot(text: str) -> str:
    """A text quoted for DOT, so that each character stands for itself."""
    plain = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    escaped = plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


# -- both ------------------------------------------------------------------------------------------


def _ids(drawing: Drawing, number: int) -> _Id:
    """Identifiers of the nodes of a graph, which no text of the model is a part of."""
    order = {node.name: f"n{number}_{i}" for i, node in enumerate(drawing.nodes)}
    return order.__getitem__


def _text(node: Node) -> str:
    """A node in one line: ``relu: f32[batch, 64]``."""
    if node.kind == "output":
        return "output"
    shapes = ", ".join(node.shapes)
    return f"{node.label}: {shapes}" if shapes else node.label


def _title(group: Group, drawing: Drawing) -> str:
    """The name of a module among those of the module around it, and its class."""
    kind = drawing.classes.get(group.path)
    return group.path[-1] + (f" ({kind})" if kind else "")
