"""A dictionary of rules that refuses a second rule for one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from symfx.shape_rules.errors import DuplicateRuleError

__all__ = ["Registry", "name_of"]

_K = TypeVar("_K")
_V = TypeVar("_V")
_F = TypeVar("_F", bound=Callable[..., Any])


class Registry(dict[_K, _V]):
    """Rules by key: a function, the name of a method, a class of modules or of constraints.

    Args:
        kind: the kind of rule, for the message: ``"a typing rule"``.
        fix: the advice for a key that has a rule.
    """

    def __init__(self, kind: str, fix: str | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.fix = fix

    def add(self, key: _K, rule: _V, name: str) -> None:
        """Enter a rule, called `name` in the message.

        Raises:
            DuplicateRuleError: the key has a rule.
        """
        if key in self:
            raise DuplicateRuleError(
                f"{name_of(key)} has {self.kind} already: {name_of(self[key])}",
                where=f"the rule {name}",
                fix=self.fix,
            )
        self[key] = rule

    def registering(self: Registry[_K, Any], key: _K) -> Callable[[_F], _F]:
        """A decorator that enters a function as the rule of a key."""

        def register(function: _F) -> _F:
            self.add(key, function, name_of(function))
            return function

        return register


def name_of(target: Any) -> str:
    """The name of a function, a class, or a rule; text stands for itself."""
    name = getattr(target, "__qualname__", None) or str(getattr(target, "name", target))
    return str(getattr(target, "__name__", name)) if name.startswith("pybind11") else name
