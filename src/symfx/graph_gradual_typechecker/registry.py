"""The registries of rules by operator: for typing, for refinement, for symbolic sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from symfx.shape_rules.errors import DuplicateRuleError

__all__ = [
    "ALGEBRAIC",
    "INFERENCE",
    "REFINEMENT",
    "register_algebraic_expressions_inference_rule",
    "register_inference_rule",
    "register_refinement_rule",
]

_R = TypeVar("_R", bound=Callable[..., Any])
_Registry = dict[Any, Callable[..., Any]]
#: By what a node calls: a function, the name of a method, a class of modules.
INFERENCE: _Registry = {}
REFINEMENT: _Registry = {}
ALGEBRAIC: _Registry = {}


def _registrar(registry: _Registry, kind: str, target: Any) -> Callable[[_R], _R]:
    def register(function: _R) -> _R:
        if target in registry:
            raise DuplicateRuleError(
                f"{getattr(target, '__name__', target)} has {kind} rule already",
                where=f"the rule {getattr(function, '__name__', function)}",
            )
        registry[target] = function
        return function

    return register


def register_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the typing rule of an operator, before the table's.

    Args:
        call_target: a function, the name of a method, or a class of modules. The rule takes the
            node (for modules, the module too; for ``getattr``, the GraphModule) and sets its type.

    Raises:
        DuplicateRuleError: the operator has a rule here.
    """
    return _registrar(INFERENCE, "a typing", call_target)


def register_refinement_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the refinement rule of an operator: from a node to a list of `Equality`."""
    return _registrar(REFINEMENT, "a refinement", call_target)


def register_algebraic_expressions_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the algebraic rule of an operator: it writes sizes as expressions."""
    return _registrar(ALGEBRAIC, "an algebraic", call_target)
