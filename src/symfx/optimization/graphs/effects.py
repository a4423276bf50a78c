"""What running a node does beside computing: does it write, can it alias, does it draw numbers?

Rewriting is only right where nothing looks on. This room answers, for any node of an fx graph,
with one of five `Effect`\\ s, and never guesses: what it does not know is `Effect.UNKNOWN`, and
no rewrite touches that.
"""

from __future__ import annotations

import enum
import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import fx, nn

from symfx.optimization.graphs.effect_tables import (
    ACTIVATIONS_WITH_INPLACE,
    ATTRIBUTES_WITHOUT_TENSOR,
    BATCH_NORMS,
    COMPOSITE_FRESH,
    DROPOUT_FUNCTIONS,
    DROPOUT_MODULES,
    FUNCTIONS_FRESH,
    HIDDEN_VIEWS,
    METHODS_VIEW,
    METHODS_WITHOUT_TENSOR,
    MODULES_FRESH,
    MODULES_VIEW,
    MODULES_WITH_INPLACE,
    OPERATORS_FRESH,
    OPERATORS_WRITE,
)

__all__ = [
    "Effect",
    "attribute_of",
    "effect_of",
    "is_plain",
    "keeps_no_state",
    "one_call",
    "one_node",
    "read_argument",
    "storage_of",
]


Function = TypeVar("Function", bound=Callable[..., Any])


class Effect(enum.Enum):
    """What a node does.

    Attributes:
        FRESH: reads its arguments and returns new memory, or no tensor at all.
        VIEW: writes nothing, but what it returns may share memory with its arguments.
        WRITES: changes its first argument and returns it.
        RANDOM: draws from the generator.
        UNKNOWN: anything at all.
    """

    FRESH = enum.auto()
    VIEW = enum.auto()
    WRITES = enum.auto()
    RANDOM = enum.auto()
    UNKNOWN = enum.auto()


def one_node(effect: Effect, *, keeps: bool = False) -> Callable[[Function], Function]:
    """Make a function one node of each graph that it is traced into, as torch's own are.

    Unpickling a `torch.fx.GraphModule` traces it again, as users may: looked into, a function
    that asks its arguments something would be decided there and then, for proxies.

    Args:
        effect: what the function does.
        keeps: must it be called though nobody uses its result?
    """

    def mark(function: Function) -> Function:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            for value in (*args, *kwargs.values()):
                if isinstance(value, fx.Proxy):
                    return value.tracer.create_proxy("call_function", called, args, kwargs)
            return function(*args, **kwargs)

        called.symfx_effect = effect  # type: ignore[attr-defined]
        called.symfx_keeps = keeps  # type: ignore[attr-defined]
        return cast("Function", called)

    return mark


def one_call(forward: Function) -> Function:
    """Make a module whose ``forward`` this is one node of each graph that it is traced into.

    What it does depends on what comes in, which a proxy cannot tell.
    """

    @functools.wraps(forward)
    def called(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, fx.Proxy):
                tracer: Any = value.tracer
                path = tracer.path_of_module(self)
                return tracer.create_proxy("call_module", path, args, kwargs)
        return forward(self, *args, **kwargs)

    return cast("Function", called)


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def is_plain(module: nn.Module) -> bool:
    """Does the module compute what its class says, with nothing hung on it?

    False for one with hooks, with a ``forward`` of its own in the instance, or compiled.
    """
    return not (
        any(
            not getattr(hook, "symfx_transparent", False)
            for hooks in _HOOKS
            for hook in (getattr(module, hooks, None) or {}).values()
        )
        or "forward" in vars(module)
        or vars(module).get("_compiled_call_impl") is not None
    )


def read_argument(node: fx.Node, place: int, name: str, default: Any = None) -> Any:
    """A node's argument, however it was passed.

    Args:
        node: the call.
        place: its position in ``node.args``.
        name: its keyword.
        default: what it is when not passed.
    """
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def effect_of(node: fx.Node, modules: dict[str, nn.Module]) -> Effect:
    """What running the node does.

    Args:
        node: of a graph.
        modules: the graph's modules by name, as ``dict(graph_module.named_modules())``.
    """
    if node.op in ("placeholder", "get_attr"):
        return Effect.VIEW  # memory that others hold too
    if node.op == "output":
        return Effect.VIEW
    if "out" in node.kwargs:
        return Effect.UNKNOWN
    if node.op == "call_module":
        module = modules.get(str(node.target))
        return Effect.UNKNOWN if module is None else _effect_of_module(module)
    if node.op == "call_method":
        return _effect_of_method(str(node.target), node)
    return _effect_of_function(node.target, node)


def _effect_of_module(module: nn.Module) -> Effect:
    kind = type(module)
    own: Effect | None = getattr(module, "symfx_effect", None)
    if own is not None:
        return own
    if not is_plain(module):
        return Effect.UNKNOWN
    if kind in MODULES_FRESH:
        return Effect.UNKNOWN if getattr(module, "max_norm", None) is not None else Effect.FRESH
    if kind in MODULES_WITH_INPLACE:
        return Effect.WRITES if module.inplace else Effect.FRESH
    if kind in MODULES_VIEW:
        return Effect.VIEW
    if kind in DROPOUT_MODULES:
        return Effect.RANDOM if module.training else Effect.VIEW
    if kind in BATCH_NORMS:
        return Effect.UNKNOWN if module.training else Effect.FRESH
    parts = list(module.modules())
    if all(
        type(part).__module__.startswith("torch.nn.modules.") and is_plain(part) for part in parts
    ) and not any(part.training or getattr(part, "inplace", False) for part in parts):
        return Effect.VIEW  # such as attention and recurrent layers: they write nothing
    return Effect.UNKNOWN


def _effect_of_method(name: str, node: fx.Node) -> Effect:
    if name in METHODS_WITHOUT_TENSOR:
        return Effect.FRESH
    if name in METHODS_VIEW:
        return Effect.VIEW
    if name.endswith("_") and not name.endswith("__"):
        return Effect.WRITES if _draws(name) is False else Effect.UNKNOWN
    return _effect_of_operator(name, node)


def _effect_of_function(target: Any, node: fx.Node) -> Effect:
    own: Effect | None = getattr(target, "symfx_effect", None)
    if own is not None:
        return own
    if target is getattr:
        return Effect.FRESH if node.args[1] in ATTRIBUTES_WITHOUT_TENSOR else Effect.VIEW
    if target is torch._assert:
        return Effect.FRESH
    name = getattr(target, "__name__", "")
    if getattr(target, "__module__", "") == "_operator":
        if name == "getitem":
            return Effect.VIEW
        if name in OPERATORS_FRESH:
            return Effect.FRESH
        return Effect.WRITES if name in OPERATORS_WRITE else Effect.UNKNOWN
    if target in ACTIVATIONS_WITH_INPLACE:
        return Effect.WRITES if _inplace(target, node) else Effect.FRESH
    if target in FUNCTIONS_FRESH:
        return Effect.FRESH
    if target in DROPOUT_FUNCTIONS:
        default = target is not F.alpha_dropout and target is not F.feature_alpha_dropout
        active = read_argument(node, 2, "training", default)
        if active is False:
            return Effect.VIEW
        return Effect.RANDOM if active is True else Effect.UNKNOWN
    if target is F.batch_norm:
        return (
            Effect.FRESH if read_argument(node, 5, "training", False) is False else Effect.UNKNOWN
        )
    if target is F.embedding:
        return Effect.FRESH if read_argument(node, 3, "max_norm") is None else Effect.UNKNOWN
    if target is F.scaled_dot_product_attention:
        quiet = read_argument(node, 4, "dropout_p", 0.0) == 0.0
        return Effect.FRESH if quiet else Effect.RANDOM
    if any(getattr(home, name, None) is target for home in (torch, torch._C._nn)):
        return _effect_of_operator(name, node)
    return Effect.UNKNOWN


def _inplace(target: Callable[..., Any], node: fx.Node) -> bool:
    if "inplace" in node.kwargs:
        return node.kwargs["inplace"] is not False
    # In each of these `inplace` comes last, behind as many numbers as the function has.
    return len(node.args) > 1 and any(argument is True for argument in node.args[1:])


def _effect_of_operator(name: str, node: fx.Node) -> Effect:
    effect = _schema_effect(name)
    if effect is Effect.UNKNOWN and name in COMPOSITE_FRESH:
        return Effect.FRESH
    return effect


@functools.cache
def _schema_effect(name: str) -> Effect:
    """What an operator's schemas, all of them, say."""
    if name in HIDDEN_VIEWS:
        return Effect.VIEW
    packet = _packet(name)
    if packet is None:
        return Effect.UNKNOWN
    overloads = list(_overloads(packet))
    # TorchScript has names there that are no operators on tensors, such as `save` and `append`.
    found = Effect.FRESH if overloads else Effect.UNKNOWN
    for overload in overloads:
        schema = overload._schema
        if any(argument.is_out for argument in schema.arguments):
            continue  # only ever chosen by out=
        if torch.Tag.nondeterministic_seeded in overload.tags:
            return Effect.RANDOM
        if any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments):
            first = schema.arguments[0].alias_info
            others = schema.arguments[1:]
            if (
                first is None
                or not first.is_write
                or any(a.alias_info is not None and a.alias_info.is_write for a in others)
            ):
                return Effect.UNKNOWN
            found = Effect.WRITES
        elif any(value.alias_info is not None for value in schema.returns):
            found = Effect.VIEW if found is Effect.FRESH else found
        elif found is Effect.FRESH and _is_composite(overload):
            return Effect.UNKNOWN
    return found


def _packet(name: str) -> Any:
    """The operator of a name, with all its overloads; None when there is none."""
    found = None if name.startswith("__") else getattr(torch.ops.aten, name, None)
    # The namespace has attributes of its own, such as `name`.
    return found if isinstance(found, torch._ops.OpOverloadPacket) else None


def _overloads(packet: Any) -> Iterator[Any]:
    for name in packet.overloads():
        overload = getattr(packet, name)
        # Some are known to TorchScript alone, such as the sum of a list of numbers.
        if torch._C._dispatch_has_kernel(overload.name()):
            yield overload


def _is_composite(overload: Any) -> bool:
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd")
    )


@functools.cache
def _draws(name: str) -> bool | None:
    """Does an in-place operator draw random numbers? None when there is no such operator."""
    packet = _packet(name)
    if packet is None:
        return None
    return any(torch.Tag.nondeterministic_seeded in o.tags for o in _overloads(packet))


def keeps_no_state(module: fx.GraphModule) -> bool:
    """Does a run of this graph leave the graph's modules and tensors as they are?"""
    modules = dict(module.named_modules())
    changing = (Effect.WRITES, Effect.UNKNOWN)
    return not any(effect_of(node, modules) in changing for node in module.graph.nodes)


def attribute_of(module: nn.Module, path: str) -> Any:
    """What stands at a dotted path below a module.

    Raises:
        AttributeError: nothing does.
    """
    return operator.attrgetter(path)(module)


def storage_of(value: object) -> int | None:
    """Which memory a tensor lies in; None for what is no tensor or has no memory of its own."""
    if not isinstance(value, torch.Tensor):
        return None
    try:
        found: int = value.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # opaque layouts such as oneDNN's
        found = id(value)
    return found
