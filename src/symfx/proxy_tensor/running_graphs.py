"""Graphs run node by node inside of a trace, which records them anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx
from torch.fx import traceback as fx_traceback

from symfx.proxy_tensor.symbols import OF_SYMBOLS

__all__ = ["interpreted", "runnable"]


class _OnSymbols(fx.Interpreter):
    """Runs a graph whose functions of numbers may meet symbolic numbers."""

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return OF_SYMBOLS.get(target, target)(*args, **kwargs)

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        found = super().get_attr(target, args, kwargs)
        return runnable(found) if isinstance(found, fx.GraphModule) else found


def interpreted(module: fx.GraphModule) -> Callable[..., Any]:
    """A function that runs a graph node by node, so that new nodes keep the metadata of old."""

    def run(*args: Any) -> Any:
        with fx_traceback.preserve_node_meta():
            return _OnSymbols(module).run(*args)

    return run


def runnable(module: fx.GraphModule) -> Callable[..., Any]:
    """A graph module as a function that takes symbolic numbers; mostly the module itself."""
    graphs = (m.graph for m in module.modules() if isinstance(m, fx.GraphModule))
    targets = {node.target for graph in graphs for node in graph.nodes}
    return module if targets.isdisjoint(OF_SYMBOLS) else interpreted(module)
