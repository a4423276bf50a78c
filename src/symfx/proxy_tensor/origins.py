"""What a trace notes of each node: the lines, the modules and the torch function that made it.

While the program runs, code objects and offsets are noted, which cost next to nothing to find. They
become text when the trace has ended, each line once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import fx
from torch._ops import OpOverload
from torch.fx import traceback as fx_traceback

from symfx.proxy_tensor.modules import ModuleStack
from symfx.proxy_tensor.program_calls import CallsOfProgram, calls_of_program

__all__ = ["Origins", "write_lines"]

#: The calls that made a node, in its ``meta`` until they are text.
_CALLS = "symfx_calls"
_ORIGIN = (_CALLS, "nn_module_stack", "torch_fn", "original_aten")


class Origins:
    """Notes the origin of each node in its ``meta``, under the names that torch.export uses.

    ``stack_trace`` has the lines of the program and of the layers of torch that led to the node;
    ``nn_module_stack`` the modules that were running, outermost first; ``torch_fn`` the torch
    function that was called, and which call of it; ``original_aten`` the operator.

    Args:
        modules: the stack of running modules; None for a program that is no module.
    """

    def __init__(self, modules: ModuleStack | None = None) -> None:
        self.modules = modules
        self._function: Any = None
        self._calls: Counter[Any] = Counter()
        self._torch_fn: tuple[str, str] | None = None

    def enter_function(self, function: Any) -> None:
        """Name the torch function that makes the nodes to come."""
        self._function = function
        self._torch_fn = None

    def mark(self, node: fx.Node) -> None:
        """Note the origin of a new node."""
        meta = node.meta
        earlier = fx_traceback.current_meta
        if _CALLS in earlier:
            # A graph that the trace has made is run again node by node: the origins stay.
            meta.update({key: earlier[key] for key in _ORIGIN if key in earlier})
            return
        around = None
        if self.modules is not None:
            around = self.modules.called
            meta["nn_module_stack"] = self.modules.snapshot()
        if self._function is not None:
            if self._torch_fn is None:
                self._torch_fn = self._named(self._function)
            meta["torch_fn"] = self._torch_fn
        if isinstance(node.target, OpOverload):
            meta["original_aten"] = node.target
        meta[_CALLS] = calls_of_program(around)

    def _named(self, function: Any) -> tuple[str, str]:
        """A function, and which of its calls that made nodes this is."""
        self._calls[function] += 1
        name = function.__name__
        return f"{name}_{self._calls[function]}", f"{type(function).__name__}.{name}"


def write_lines(graph_module: fx.GraphModule) -> None:
    """Put the lines of all nodes of a graph, and of the graphs in it, into words."""
    for module in graph_module.modules():
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            calls: CallsOfProgram | None = node.meta.pop(_CALLS, None)
            if calls is not None and calls.text:
                node.meta["stack_trace"] = calls.text
