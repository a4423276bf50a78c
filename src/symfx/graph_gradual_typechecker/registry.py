"""The registries of typing rules, refinement rules and algebraic rules, by operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from symfx.shape_rules.registry import Registry

__all__ = [
    "ALGEBRAIC",
    "INFERENCE",
    "REFINEMENT",
    "register_algebraic_expressions_inference_rule",
    "register_inference_rule",
    "register_refinement_rule",
]

_R = TypeVar("_R", bound=Callable[..., Any])
_Rules = Registry[Any, Callable[..., Any]]
# The keys are what nodes call: a function, the name of a method, a class of modules.
INFERENCE: _Rules = Registry("a typing rule")
REFINEMENT: _Rules = Registry("a refinement rule")
ALGEBRAIC: _Rules = Registry("an algebraic rule")


def register_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the typing rule of an operator; it comes before the table's rule.

    Args:
        call_target: a function, the name of a method, or a class of modules. The rule takes the
            node (for modules, the module too; for ``getattr``, the GraphModule) and sets its type.

    Raises:
        DuplicateRuleError: the operator has a typing rule.
    """
    return INFERENCE.registering(call_target)


def register_refinement_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the refinement rule of an operator: from a node to a list of `Equality`."""
    return REFINEMENT.registering(call_target)


def register_algebraic_expressions_inference_rule(call_target: Any) -> Callable[[_R], _R]:
    """Make a function the algebraic rule of an operator: it writes sizes as expressions."""
    return ALGEBRAIC.registering(call_target)
