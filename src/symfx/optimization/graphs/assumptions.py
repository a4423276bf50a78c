"""Answers that a part's code needs while it is traced, and that shapes and dtypes of inputs give.

The code of a layer asks how many dimensions a tensor has, whether there is more than one query,
and which dtype it computes in. torch.fx cannot answer, because a proxy has no shape. For the
inputs of one example the answer is known: the graph so far runs on tensors without numbers. The
graph then checks each answer where it was given, and a call with another answer runs the module's
own forward.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.optimization.graphs.effects import attribute_of, effect_of
from symfx.optimization.runtime.assumed import assumed_length, assumed_truth
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = ["Answers", "has_assumptions", "runs_again"]


class Answers:
    """The values of a graph's nodes that depend on no number in a tensor.

    Args:
        root: the module that the graph calls into.
        given: the arguments of the example, by the names of the graph's placeholders.

    Attributes:
        running: nodes are being computed, and calls of modules belong to that.
    """

    def __init__(self, root: nn.Module, given: Mapping[str, Any]) -> None:
        self._root, self._given = root, given
        self._modules = dict(root.named_modules())
        self._mode = FakeTensorMode()
        self._values: dict[fx.Node, Any] = {}
        self.running = False

    def truth(self, node: fx.Node) -> bool | None:
        """Whether the node's value is true; None if that depends on numbers in tensors."""
        value = self._value(node)
        return None if value is _UNKNOWN or isinstance(value, Tensor) else bool(value)

    def length(self, node: fx.Node) -> int | None:
        """The length of a node's value; None if it has none, or depends on numbers in tensors."""
        value = self._value(node)
        return len(value) if isinstance(value, tuple | list) else None

    def lacks(self, node: fx.Node, attribute: str) -> bool:
        """Whether the node's value is known to have no such attribute."""
        value = self._value(node)
        return value is not _UNKNOWN and not hasattr(value, attribute)

    def _value(self, node: fx.Node) -> Any:
        if node not in self._values:
            # The calls are no calls of the model's code.
            watch = sys.getprofile()
            sys.setprofile(None)
            self.running = True
            try:
                with torch._C.DisableTorchFunction(), self._mode:
                    for each in _ancestors(node, self._values):
                        self._values[each] = self._run(each)
            finally:
                self.running = False
                sys.setprofile(watch)
        return self._values[node]

    def _run(self, node: fx.Node) -> Any:
        sources = [self._values[source] for source in node.all_input_nodes]
        if any(source is _UNKNOWN for source in sources):
            return _UNKNOWN
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._values.__getitem__)
        target = str(node.target)
        try:
            if node.op == "placeholder":
                return self._fake(self._given[target.lstrip("*")])
            if node.op == "get_attr":
                return self._fake(attribute_of(self._root, target))
            if node.op == "call_method":
                return getattr(args[0], target)(*args[1:], **kwargs)
            if node.op == "call_module":
                return self._called(node, args, kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]
        except Exception:  # noqa: BLE001 - an operator that needs numbers may raise anything
            return _UNKNOWN

    def _called(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if effect_of(node, self._modules) is Effect.UNKNOWN:
            return _UNKNOWN
        module = self._modules[str(node.target)]
        tensors = {
            name: self._fake(tensor)
            for name, tensor in (*module.named_parameters(), *module.named_buffers())
        }
        return torch.func.functional_call(module, tensors, args, kwargs)

    def _fake(self, value: Any) -> Any:
        def fake(tensor: Tensor) -> Tensor:
            return self._mode.from_tensor(tensor, static_shapes=True)

        return pytree.tree_map_only(Tensor, fake, value)


_UNKNOWN = object()


def _ancestors(node: fx.Node, known: Mapping[fx.Node, Any]) -> list[fx.Node]:
    """The node and those that its value is computed from, without the known ones, in order."""
    needed = {node}
    waiting = [node]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source not in needed and source not in known:
                needed.add(source)
                waiting.append(source)
    return [each for each in node.graph.nodes if each in needed]


_CHECKS = (assumed_truth, assumed_length)


def has_assumptions(module: fx.GraphModule) -> bool:
    """Whether a graph is only for calls that give the answers that it was traced with."""
    return any(node.target in _CHECKS for node in module.graph.nodes)


def runs_again(module: fx.GraphModule) -> bool:
    """Whether the model may run after a check of the graph has failed.

    It may not if a node before the check has an effect that a second run would repeat.
    """
    modules = dict(module.named_modules())
    checks = [node for node in module.graph.nodes if node.target in _CHECKS]
    for node in module.graph.nodes:
        if not checks or node is checks[-1]:
            return True
        if effect_of(node, modules) not in (Effect.FRESH, Effect.VIEW):
            return False
    return True
