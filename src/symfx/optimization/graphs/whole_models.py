"""Graphs whose only operation is a call of the model, which is kept whole."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from symfx.optimization.graphs.arguments import Arguments
from symfx.optimization.runtime.graph_functions import only_default

__all__ = [
    "HOOKS",
    "SAVED_INSTEAD",
    "STARS",
    "call_of_model",
    "is_whole",
    "model_of",
    "pin",
    "whole",
    "whole_as_called",
]

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
#: The key in the `meta` of a graph of `whole` under which a graph of the same operators stands: a
#: file cannot describe the code of the model.
SAVED_INSTEAD = "symfx.saved_instead"
STARS: dict[Any, str] = {
    inspect.Parameter.VAR_POSITIONAL: "*",
    inspect.Parameter.VAR_KEYWORD: "**",
}


class _OfWhole(fx.Tracer):
    """Marks the graphs of `whole`."""


def pin(graph: fx.Graph, bound: Mapping[str, Any]) -> None:
    """Let the graph refuse other values than those that it was traced with."""
    first = next((n for n in graph.nodes if n.op != "placeholder"), None)
    for node in [n for n in graph.nodes if n.op == "placeholder" and n.target in bound]:
        with graph.inserting_before(first):
            graph.call_function(only_default, (node, bound[str(node.target)], str(node.target)))


class _Caller(nn.Module):
    """Calls a module; some of the arguments stand in a tuple and in a dictionary."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, *groups: Any, **named: Any) -> Any:
        *single, args, kwargs = groups
        return self.whole(*single, *args, **named, **kwargs)

    whole: nn.Module


class _Holder(nn.Module):
    """The root module of the graph of `whole`."""

    def __init__(self, call: nn.Module) -> None:
        super().__init__()
        self.call = call


def whole(model: nn.Module) -> fx.GraphModule:
    """A graph whose only operation is a call of the model."""
    graph = fx.Graph(tracer_cls=_OfWhole)
    single: list[fx.Node] = []
    args: fx.Node | tuple[()] = ()
    kwargs: fx.Node | None = None
    named: dict[str, Any] = {}
    parameters = inspect.signature(model.forward).parameters.values()
    # Arguments with a default are passed by keyword, as most callers do: decorators look for them
    # there. Hooks look for them among the positional arguments.
    by_place = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters) or any(
        getattr(model, hooks, None) for hooks in HOOKS
    )
    for parameter in parameters:
        default = () if parameter.default is parameter.empty else (parameter.default,)
        prefix = STARS.get(parameter.kind, "")
        node = graph.create_node("placeholder", prefix + parameter.name, default)
        if prefix == "*":
            args = node
        elif prefix:
            kwargs = node
        elif parameter.kind is parameter.KEYWORD_ONLY or (
            default and not by_place and parameter.kind is not parameter.POSITIONAL_ONLY
        ):
            named[parameter.name] = node
        else:
            single.append(node)
    call: nn.Module = model
    given: tuple[Any, ...] = tuple(single)
    if args or kwargs is not None:
        call, given = _Caller(model), (*single, args, {} if kwargs is None else kwargs)
    graph.output(graph.call_module("call", given, named))
    return fx.GraphModule(_Holder(call), graph, type(model).__name__)


def whole_as_called(model: nn.Module, arguments: Arguments) -> fx.GraphModule:
    """A graph that calls the model with the arguments of an example, and refuses others.

    The passes can read which arguments the call gives, as they read the other calls of a graph.
    """
    graph = whole(model).graph
    pin(graph, arguments.fixed)
    (call,) = graph.find_nodes(op="call_module", target="call")

    def constant(node: fx.Node) -> Any:
        return arguments.fixed.get(str(node.target), node)

    call.args, call.kwargs = fx.map_arg((call.args, call.kwargs), constant)
    graph._tracer_cls = None
    result = fx.GraphModule(_Holder(model), graph, type(model).__name__)
    result.training = model.training
    return result


def model_of(module: fx.GraphModule) -> tuple[str, nn.Module]:
    """The path and the module that a graph of `whole` calls."""
    called = module.get_submodule("call")
    return ("call.whole", called.whole) if isinstance(called, _Caller) else ("call", called)


def call_of_model(
    module: fx.GraphModule, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that a graph of `whole` passes to the model, which is not run.

    Args:
        module: the graph.
        args: the positional arguments of the graph.
        kwargs: the keyword arguments of the graph.
    """
    path, model = model_of(module)
    owner, _, name = path.rpartition(".")
    recorder = _Recorder()
    modules = module.get_submodule(owner)._modules
    modules[name] = recorder
    try:
        module(*args, **kwargs)
    finally:
        modules[name] = model
    return recorder.args, recorder.kwargs


class _Recorder(nn.Module):
    """Keeps the arguments that it is called with."""

    def forward(self, *args: Any, **kwargs: Any) -> None:
        self.args, self.kwargs = args, kwargs


def is_whole(module: fx.GraphModule) -> bool:
    """Whether a graph of `capture` is only a call of the model, which is kept whole."""
    return module.graph._tracer_cls is _OfWhole
