"""Graphs of two traces of one model, compared node by node."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

import symfx
from symfx.proxy_tensor.repeated import RepeatedBlocks

__all__ = ["difference", "stamped_calls", "traces"]


def traces(model: Any, args: Any, repeated: str = "inline", **options: Any) -> tuple[Any, Any]:
    """The trace of a model, and its trace with each block run."""
    mine = symfx.trace(model, args, repeated=repeated, **options)
    return mine, symfx.trace(model, args, repeated="off", **options)


def stamped_calls(monkeypatch: Any) -> list[RepeatedBlocks]:
    """The list that gets the repeated blocks of each trace from now on."""
    made: list[RepeatedBlocks] = []
    init = RepeatedBlocks.__init__

    def noting(self: RepeatedBlocks, root: torch.nn.Module, **options: Any) -> None:
        init(self, root, **options)
        made.append(self)

    monkeypatch.setattr(RepeatedBlocks, "__init__", noting)
    return made


def difference(mine: Any, other: Any) -> str | None:
    """The first difference between the graphs, the guards or the texts of two traces."""
    ours, theirs = (list(t.graph_module.graph.nodes) for t in (mine, other))
    for a, b in zip(ours, theirs, strict=False):
        for what in ("name", "op", "target"):
            if getattr(a, what) != getattr(b, what):
                return f"{what}: {a.format_node()} | {b.format_node()}"
        if str((a.args, a.kwargs)) != str((b.args, b.kwargs)):
            return f"arguments: {a.format_node()} | {b.format_node()}"
        if list(a.meta) != list(b.meta):
            return f"keys of {a}: {[*a.meta]} | {[*b.meta]}"
        for key in a.meta:
            one, two = _told(a.meta[key]), _told(b.meta[key])
            if one != two:
                return f"{key} of {a}: {one} | {two}"
    if len(ours) != len(theirs):
        return f"{len(ours)} nodes | {len(theirs)} nodes"
    if _storages(ours) != _storages(theirs):
        return "the values share storages in other ways"
    guards = [[(str(g), g.provenance) for g in t.guards] for t in (mine, other)]
    if str(guards[0]) != str(guards[1]):
        return f"guards: {guards[0]} | {guards[1]}"
    return None if str(mine) == str(other) else f"{mine}\n{other}"


def _told(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        layout = (*map(str, value.shape), *map(str, value.stride()), str(value.storage_offset()))
        return layout, value.dtype, value.device, value.requires_grad
    if isinstance(value, (list, tuple)):
        return type(value), [_told(v) for v in value]
    if isinstance(value, dict):
        return {k: _told(v) for k, v in value.items()}
    return str(value)


def _storages(nodes: list[fx.Node]) -> list[int]:
    """The storage of each value, numbered as they are met."""
    found: dict[int, int] = {}
    order = []
    for node in nodes:
        val = node.meta.get("val")
        for tensor in val if isinstance(val, (list, tuple)) else (val,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()._cdata
                order.append(found.setdefault(storage, len(found)))
    return order
