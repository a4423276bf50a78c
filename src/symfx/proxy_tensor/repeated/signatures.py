"""The signature of a call of a module: equal signatures mean that the calls record equal nodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from symfx.proxy_tensor.repeated.reads import NOT_READ, Reads, ReadState, can_be_watched
from symfx.proxy_tensor.repeated.values import Tokens, UnknownStateError, static_attribute
from symfx.torch_bridge.modes import torch_settings

if TYPE_CHECKING:
    from symfx.fake_operators.cache import OperationCache

__all__ = ["BLOCK", "BlockModules", "Facts", "Signature", "facts_of_env"]

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
    "_is_full_backward_hook",
)  # fmt: skip
_HOOKS_BY_ID = ("_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs",
                "_forward_hooks_always_called")  # fmt: skip
#: The attribute of the functions by which a trace follows the calls of blocks.
BLOCK = "symfx_block"
_TREES = (list, tuple, dict)
Facts = tuple[int, ...]


def facts_of_env(env: Any) -> Facts:
    """Numbers that grow with each symbol, fact, guard and assertion of an environment."""
    ledger = env.ledger
    return (
        env.facts.version,
        env.facts.epoch,
        len(env.symbols.records),
        len(ledger.guards),
        len(ledger.ignored_guards),
        len(ledger.asserts),
        ledger.suppression.depth,
    )


def shape_alone(module: torch.nn.Module, numbers: dict[tuple[Any, ...], int]) -> int:
    """A number for what a module and another one must share alone to be worth a comparison.

    Args:
        module: the module.
        numbers: these numbers; the function adds to them.
    """
    parts, parameters, buffers = module._modules, module._parameters, module._buffers
    own = (
        type(module),
        tuple([(name, part is None) for name, part in parts.items()]) if parts else (),
        tuple([(name, *_size(t)) for name, t in parameters.items()]) if parameters else (),
        tuple([(name, *_size(t)) for name, t in buffers.items()]) if buffers else (),
    )
    return numbers.setdefault(own, len(numbers))


class BlockModules:
    """A module and its submodules, in order, each once.

    Args:
        modules: the module first.
        own_hooks: whether a hook was registered by the trace itself.

    Attributes:
        modules: the modules.
    """

    def __init__(self, modules: list[torch.nn.Module], own_hooks: Callable[[Any], bool]) -> None:
        self.modules = modules
        self._own_hooks = own_hooks

    @property
    def can_repeat(self) -> bool:
        """Whether calls of the module can be watched at all."""
        return all(
            can_be_watched(kind) and not issubclass(kind, torch.fx.GraphModule)
            for kind in set(map(type, self.modules))
        )

    def tensors(self) -> Iterator[torch.Tensor]:
        """The parameters and buffers as the modules have them now."""
        for module in self.modules:
            for registry in (module._parameters, module._buffers):
                for tensor in registry.values():
                    if tensor is not None:
                        yield tensor

    def add_to(self, tokens: Tokens, reads: Reads) -> None:
        """Append the tokens of the modules: hooks, modes, and the attributes that are read.

        Raises:
            UnknownStateError: an attribute has no tokens.
        """
        found = tokens.found
        first = self.modules[0]
        for kind in dict.fromkeys(map(type, self.modules)):
            tokens.add_class(kind)
        of_classes: dict[tuple[type, str], None] = {}
        for module, names in zip(self.modules, reads.names, strict=True):
            own = vars(module)
            kind = type(module)
            found += (kind, own["training"])
            # The hooks of the block itself run for each call.
            if module is not first and not self._has_own_hooks_alone(own):
                for name in _HOOKS:
                    hooks = own.get(name)
                    if hooks:
                        self._add_hooks(tokens, module, name, hooks)
            for name in sorted(own.keys() - NOT_READ) if names is None else names:
                if name in own and not (name == "forward" and hasattr(own[name], BLOCK)):
                    found.append(name)
                    tokens.add(own[name])
                elif not (
                    name in own["_parameters"] or name in own["_buffers"] or name in own["_modules"]
                ):
                    found.append(("class", name))
                    of_classes[kind, name] = None
        for kind, name in of_classes:
            tokens.add(static_attribute(kind, name))

    def _has_own_hooks_alone(self, own: dict[str, Any]) -> bool:
        """Whether the trace alone has registered hooks: a quick look, which may miss it."""
        before, after = own["_forward_pre_hooks"], own["_forward_hooks"]
        return (
            len(before) == 1 == len(after)
            and not own.get("_backward_hooks")
            and not own.get("_backward_pre_hooks")
            and own.get("_is_full_backward_hook") is None
            and self._own_hooks(*before.values())
            and self._own_hooks(*after.values())
        )

    def _add_hooks(self, tokens: Tokens, module: torch.nn.Module, name: str, hooks: Any) -> None:
        if not isinstance(hooks, dict):
            tokens.add(hooks)
        else:
            for key, hook in hooks.items():
                if not self._own_hooks(hook):
                    tokens.add(hook)
                    tokens.found.append(tuple(key in vars(module).get(n, ()) for n in _HOOKS_BY_ID))


@functools.cache
def _module_places(count: int) -> tuple[tuple[str, int], ...]:
    return tuple(("module", i) for i in range(count))


def _size(tensor: torch.Tensor | None) -> tuple[Any, ...]:
    return () if tensor is None else (tensor.dtype, tensor.dim())


class Signature:
    """All that a call depends on.

    Args:
        block: the modules of the call.
        args, kwargs: its arguments.
        reads: what such a call reads.
        state: the values outside of the module among them.
        cache: describes tensors.

    Attributes:
        tokens: equal for calls that record equal nodes.
        modules: the modules of the call.
        tensors: the tensors of the call, each once; those of an equal call correspond.
        shared: the ids of the tensors that the call reads in other places.

    Raises:
        UnknownStateError: the call depends on something that cannot be compared.
    """

    def __init__(
        self,
        block: BlockModules,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reads: Reads,
        state: ReadState,
        cache: OperationCache,
    ) -> None:
        self._cache = cache
        self.modules = block.modules
        self.tensors: list[torch.Tensor] = []
        places = _module_places(len(block.modules))
        self._places: dict[int, Any] = dict(zip(map(id, block.modules), places, strict=True))
        tokens = Tokens(self._places, state.names)
        tokens.found.append(torch_settings())
        with torch._C.DisableTorchFunction():  # the mode of the trace must not see these looks
            for tensor in block.tensors():
                self._add_tensor(tokens, tensor)
            self._add_tree(tokens, args)
            self._add_tree(tokens, kwargs)
            block.add_to(tokens, reads)
            state.add_to(tokens)
        self.tokens = tokens.found
        self.shared = tokens.shared
        self._kept = tokens.kept

    def _add_tree(self, tokens: Tokens, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            self._add_tensor(tokens, value)
        elif type(value) in _TREES:
            tokens.found.append((type(value), len(value)))
            if type(value) is dict:
                for key, item in value.items():
                    tokens.add(key)
                    self._add_tree(tokens, item)
            else:
                for item in value:
                    self._add_tree(tokens, item)
        else:
            tokens.add(value)

    def _add_tensor(self, tokens: Tokens, tensor: torch.Tensor) -> None:
        place = self._places.get(id(tensor))
        if place is not None:
            tokens.found.append(place)
            return
        place = self._places[id(tensor)] = ("own", len(self.tensors))
        self.tensors.append(tensor)
        description = self._cache.describe(tensor) if type(tensor) is FakeTensor else None
        if description is None:
            raise UnknownStateError(f"it takes a {type(tensor).__name__} of a kind of its own")
        tokens.found.append(
            (place, description, tensor.requires_grad, tensor.is_leaf, tensor._is_view())
        )

    def maps_onto(self, other: Signature) -> bool:
        """Whether the nodes of this call become those of the other by replacing its tensors."""
        if self.tokens != other.tokens or len(self.tensors) != len(other.tensors):
            return False
        return all(
            mine is theirs or (id(mine) not in self.shared and id(theirs) not in other.shared)
            for mine, theirs in zip(self.tensors, other.tensors, strict=True)
        )
