"""A run of a graph without data, which finds the views that the layout in memory does not allow.

The shapes of a program tell nothing about layouts: ``x.permute(0, 2, 1).view(n, -1)`` has the right
number of elements and fails in eager. Fake kernels of torch compute layouts, so the graph runs on
the meta device, at sizes that satisfy all conditions. A view that fails there is tried in eager,
since some kernels lay out their results otherwise than the fake ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node
from torch.nn.parameter import is_lazy

from symfx.static_migration.conditions import InputType
from symfx.static_migration.printing import input_name

__all__ = ["view_that_fails"]

#: What torch says of a view that the layout does not allow.
_REASONS = ("view size is not compatible", "must be 1 to view", "must be divisible by")
#: The names of the operators that can fail so.
_VIEWS = frozenset({"view", "view_as", "unflatten"})
#: Inputs with more elements than this are not tried in eager.
_LARGEST = 4_000_000
#: How a run fails; on the meta device also since a value is data.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError, KeyError)


def view_that_fails(
    graph: GraphModule,
    types: Mapping[str, InputType],
    shapes: Mapping[str, tuple[int, ...]],
    run_eager: Callable[[], Any],
) -> Node | None:
    """The node of a view that fails in eager at these sizes; ``None`` if no view is known to fail.

    Args:
        graph: the graph of the program.
        types: the types of the inputs, by name.
        shapes: sizes of the inputs, by name.
        run_eager: runs the program in eager at these sizes.
    """
    if not _has_view(graph) or any(map(is_lazy, graph.parameters())):
        return None
    given: list[Any] = []
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            name = input_name(node)
            if name not in shapes:
                return None
            dtype: torch.dtype = getattr(torch, types[name].dtype)
            given.append(torch.empty(shapes[name], dtype=dtype, device="meta"))
    run = _MetaRun(graph)
    try:
        with torch.no_grad(), torch.device("meta"):
            run.run(*given)
    except _FAILURES as error:
        if not any(reason in str(error) for reason in _REASONS):
            return None
    else:
        return None
    if sum(x.numel() for x in given) > _LARGEST:
        return None
    try:
        run_eager()
    except _FAILURES as error:
        return run.last if any(reason in str(error) for reason in _REASONS) else None
    return None


def _has_view(graph: GraphModule) -> bool:
    """Whether an operator of a graph needs a certain layout of its argument."""
    return any(
        isinstance(graph.get_submodule(str(node.target)), torch.nn.Unflatten)
        if node.op == "call_module"
        else _VIEWS.intersection(str(getattr(node.target, "__name__", node.target)).split("."))
        for node in graph.graph.nodes
    )


class _MetaRun(Interpreter):
    """Runs a graph on the meta device, and keeps the node that ran last."""

    def __init__(self, graph: GraphModule) -> None:
        tensors = [*graph.parameters(), *graph.buffers()]
        # The copy has tensors without data in place of the weights.
        memo: dict[int, Any] = {id(x): _without_data(x) for x in tensors}
        super().__init__(copy.deepcopy(graph, memo), garbage_collect_values=False)
        copied: Any = self.module.graph
        self._originals = dict(zip(copied.nodes, graph.graph.nodes, strict=True))
        self.last: Node | None = None
        self.extra_traceback = False

    def run_node(self, n: Node) -> Any:
        """Run a node."""
        self.last = self._originals[n]
        return super().run_node(n)


def _without_data(x: torch.Tensor) -> torch.Tensor:
    made = x.detach().to("meta")
    if isinstance(x, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad=x.requires_grad)
    return made
