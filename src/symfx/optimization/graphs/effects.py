"""The effect of each node: whether it writes, aliases its arguments, or draws random numbers.

A rewrite is right only where no other node can see the difference. `effect_of` gives the `Effect`
of any node of an fx graph, and never guesses: a node that it does not know is `Effect.UNKNOWN`,
and no rewrite touches it.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Sized
from typing import Any

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
from symfx.optimization.runtime.leaf_calls import Effect

__all__ = [
    "attribute_of",
    "effect_of",
    "is_plain",
    "read_argument",
    "state_of",
    "storage_of",
]


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def is_plain(module: nn.Module) -> bool:
    """Whether calling the module runs the ``forward`` of its class, and nothing else.

    False for a module with hooks, with a ``forward`` in the instance, or compiled.
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
    """An argument of a call, passed by position or by keyword.

    Args:
        node: the call.
        place: the argument's position in ``node.args``.
        name: its keyword.
        default: its value if it is not passed.
    """
    return node.args[place] if place < len(node.args) else node.kwargs.get(name, default)


def effect_of(node: fx.Node, modules: dict[str, nn.Module]) -> Effect:
    """The effect of running the node.

    Args:
        node: of a graph.
        modules: the graph's modules by name, as ``dict(graph_module.named_modules())``.
    """
    if node.op in ("placeholder", "get_attr"):
        return Effect.VIEW  # the caller or the module holds the same memory
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
        return Effect.VIEW  # attention and recurrent layers, for example, write nothing
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
    # In each of these functions `inplace` comes last, behind the function's numbers.
    return len(node.args) > 1 and any(argument is True for argument in node.args[1:])


def _effect_of_operator(name: str, node: fx.Node) -> Effect:
    effect = _schema_effect(name)
    if effect is Effect.UNKNOWN and name in COMPOSITE_FRESH:
        return Effect.FRESH
    return effect


@functools.cache
def _schema_effect(name: str) -> Effect:
    """The effect that the schemas of all overloads of an operator state."""
    if name in HIDDEN_VIEWS:
        return Effect.VIEW
    packet = _packet(name)
    if packet is None:
        return Effect.UNKNOWN
    overloads = list(_overloads(packet))
    # The namespace also has TorchScript functions without tensors, such as `save` and `append`.
    found = Effect.FRESH if overloads else Effect.UNKNOWN
    for overload in overloads:
        schema = overload._schema
        if any(argument.is_out for argument in schema.arguments):
            continue  # chosen only by out=
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
    """The operator of a name, with all its overloads; None if the name has no operator."""
    found = None if name.startswith("__") else getattr(torch.ops.aten, name, None)
    # The namespace also has plain attributes, such as `name`.
    return found if isinstance(found, torch._ops.OpOverloadPacket) else None


def _overloads(packet: Any) -> Iterator[Any]:
    for name in packet.overloads():
        overload = getattr(packet, name)
        # Some overloads exist only in TorchScript, such as the sum of a list of numbers.
        if torch._C._dispatch_has_kernel(overload.name()):
            yield overload


def _is_composite(overload: Any) -> bool:
    return bool(
        torch._C._dispatch_has_kernel_for_dispatch_key(overload.name(), "CompositeImplicitAutograd")
    )


@functools.cache
def _draws(name: str) -> bool | None:
    """Whether an in-place operator draws random numbers; None if there is no such operator."""
    packet = _packet(name)
    if packet is None:
        return None
    return any(torch.Tag.nondeterministic_seeded in o.tags for o in _overloads(packet))


def state_of(model: nn.Module) -> list[tuple[Any, ...]]:
    """The attributes of a model's modules, each with a mark that a change of its content changes.

    Two lists of it are equal if the attributes are the same objects, no tensor was written to, and
    no container got longer or shorter.
    """
    found: list[tuple[Any, ...]] = []
    for module in model.modules():
        for holder in (vars(module), module._parameters, module._buffers):
            found += [(name, *_marked(value)) for name, value in holder.items()]
    return found


def _marked(value: Any) -> tuple[Any, ...]:
    """A value's identity or, of a plain value, the value; and the mark of its content."""
    if isinstance(value, torch.Tensor):
        return _Same(value), None if value.is_inference() else value._version
    if value is None or isinstance(value, int | float | str):
        return type(value), value
    return _Same(value), len(value) if isinstance(value, Sized) else None


class _Same:
    """An object that is equal to itself alone, and is kept alive, so that no other gets its id."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    __hash__ = None  # type: ignore[assignment]


def attribute_of(module: nn.Module, path: str) -> Any:
    """The attribute at a dotted path below a module.

    Raises:
        AttributeError: there is no such attribute.
    """
    return operator.attrgetter(path)(module)


def storage_of(value: object) -> int | None:
    """A number that two tensors share if they share memory; None if ``value`` is no tensor."""
    if not isinstance(value, torch.Tensor):
        return None
    try:
        found: int = value.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):  # opaque layouts such as oneDNN's
        found = id(value)
    return found
