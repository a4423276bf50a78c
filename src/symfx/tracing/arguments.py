"""The arguments of a call as the flat, named inputs of a graph, and the way back."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils import _pytree as pytree

from symfx.errors import InputMismatchError, describe
from symfx.torch_bridge.nested_tensors import with_parts, with_wholes

__all__ = ["Layout", "Leaf"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


# Compared and hashed by identity: an example may be a tensor, or a value without a hash.
@dataclass(frozen=True, eq=False)
class Leaf:
    """One input of the graph: a tensor or another leaf of the arguments.

    Attributes:
        name: the name of the graph's placeholder, an identifier.
        path: the Python that reads it from the parameters: ``cache[0]['keys']``.
        example: its value in the traced call.
    """

    name: str
    path: str
    example: Any


class Layout:
    """The arguments of one example call, laid out as leaves in the order of the parameters.

    Args:
        model: the module or function; the signature of a module is that of its ``forward``.
        args: the positional arguments of the example call.
        kwargs: its keyword arguments.
        signature: the signature, where it is known and `model` is not at hand.

    Raises:
        InputMismatchError: the model's signature does not take these arguments.
    """

    def __init__(
        self,
        model: Callable[..., Any] | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        signature: inspect.Signature | None = None,
    ) -> None:
        #: What to pass instead of a function that makes the model.
        self._made = f"{model.__name__}()" if inspect.isfunction(model) else None
        called = model.forward if isinstance(model, torch.nn.Module) else model
        try:
            self.signature = signature or inspect.signature(cast("Callable[..., Any]", called))
        except (TypeError, ValueError):  # a builtin such as torch.relu has none
            self.signature = inspect.Signature(
                [
                    inspect.Parameter(f"arg{i}", inspect.Parameter.POSITIONAL_ONLY)
                    for i in range(len(args))
                ]
                + [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in kwargs]
            )
        #: The arguments by parameter. A default that was not passed is not an input.
        self.given: dict[str, Any] = with_parts(dict(self._bind(args, kwargs).arguments))
        with_path, self._spec = pytree.tree_flatten_with_path(self.given)
        taken = {"self", *keyword.kwlist}
        leaves = []
        for keys, example in with_path:
            path = self._path(keys)
            stem = re.sub(r"\W+", "_", path).strip("_") or "input"
            name, n = stem, 1
            while name in taken:
                n += 1
                name = f"{stem}_{n}"
            taken.add(name)
            leaves.append(Leaf(name, path, example))
        self.leaves: tuple[Leaf, ...] = tuple(leaves)

    @property
    def structure(self) -> pytree.TreeSpec:
        """The arguments by parameter, without their leaves."""
        return self._spec

    def names(self) -> dict[str, Any]:
        """The arguments by parameter name; members of ``**kwargs`` go by their keys."""
        named: dict[str, Any] = {}
        for name, value in self.given.items():
            if self._kind(name) is inspect.Parameter.VAR_KEYWORD:
                named.update(value)
            else:
                named[name] = value
        return named

    def flatten(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
        """The leaves of another call, in the order of ``self.leaves``.

        Only the structure is checked: a leaf may be of another type than the traced one.

        Raises:
            InputMismatchError: the arguments have another structure than those of the traced call.
        """
        given = with_parts(dict(self._bind(args, kwargs).arguments))
        for name, value in given.items():
            if name not in self.given and not self._is_default(name, value):
                raise InputMismatchError(
                    f"{name} is {describe(value)}; the traced call did not pass it, and the graph "
                    "holds its default",
                    fix=f"trace again with {name} as an argument",
                )
        now = {}
        for name, then in self.given.items():
            value = given.get(name, self._default(name))
            self._same_structure(name, then, value)
            now[name] = value
        return self._spec.flatten_up_to(now)

    def unflatten(self, leaves: Sequence[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments that have these leaves."""
        bound = inspect.BoundArguments(self.signature, dict(self._unflatten(leaves)))
        return bound.args, bound.kwargs

    def unflattened(self, leaves: Sequence[Any]) -> dict[str, Any]:
        """The arguments by parameter that have these leaves, nested tensors as their parts."""
        given: dict[str, Any] = pytree.tree_unflatten(leaves, self._spec)
        return given

    def _unflatten(self, leaves: Sequence[Any]) -> dict[str, Any]:
        given: dict[str, Any] = with_wholes(self.unflattened(leaves))
        return given

    def _bind(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            return self.signature.bind(*args, **kwargs)
        except TypeError as error:
            fix = "pass the arguments that the model takes"
            if self._made is not None and not self.signature.parameters:
                fix += f"; if this function makes the model, trace {self._made}"
            raise InputMismatchError(
                f"the arguments do not fit: {error}",
                where=f"the signature {self.signature}",
                fix=fix,
            ) from None

    def _kind(self, name: str) -> Any:
        return self.signature.parameters[name].kind

    def _default(self, name: str) -> Any:
        if self._kind(name) in _VARIADIC:
            return () if self._kind(name) is inspect.Parameter.VAR_POSITIONAL else {}
        return self.signature.parameters[name].default

    def _is_default(self, name: str, value: Any) -> bool:
        default = self._default(name)
        if value is default:
            return True
        plain = (bool, int, float, str, tuple, dict)
        return isinstance(value, plain) and type(value) is type(default) and value == default

    def _same_structure(self, name: str, then: Any, now: Any) -> None:
        spec = pytree.tree_structure(then)
        try:
            spec.flatten_up_to(now)
        except ValueError:
            raise InputMismatchError(
                f"{name} has another structure than in the traced call: "
                f"{_outline(now)}, not {_outline(then)}",
                fix=f"give {name} the traced structure, or trace again",
            ) from None

    def _path(self, keys: tuple[Any, ...]) -> str:
        """The Python that reads a leaf from the parameters."""
        first, *rest = keys
        name = str(first.key)
        if self._kind(name) is inspect.Parameter.VAR_KEYWORD:
            name, rest = str(rest[0].key), rest[1:]
        return name + pytree.keystr(tuple(rest))


def _outline(value: Any) -> str:
    """A nested value with its leaves in words: ``(a float32 tensor of shape (2,), [3])``."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_outline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_outline, value)) + "]"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_outline, value)) + ("," if len(value) == 1 else "") + ")"
    return describe(value)
