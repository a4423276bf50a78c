"""Questions about symbolic values, from those that never guard to those that insist."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["expect_true", "guard_bool", "guard_float", "guard_int", "guard_or_false",
           "guard_or_true", "guard_size_oblivious", "has_hint", "hint_int", "is_concrete_bool",
           "is_concrete_float", "is_concrete_int", "statically_known_false",
           "statically_known_true"]  # fmt: skip


def _not_a(kind: str, a: object) -> TypeError:
    return TypeError(f"expected {kind}, symbolic or not, got {type(a).__name__}: {a!r}")


def _bool_node(a: Any) -> Any:
    if isinstance(a, torch.SymBool):
        return a.node
    if isinstance(a, bool):
        return None
    raise _not_a("a bool", a)


def guard_bool(a: bool | torch.SymBool) -> bool:
    """The value of a bool; where it is symbolic, a guard keeps later inputs to it."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_bool("", 0))


def guard_int(a: int | torch.SymInt) -> int:
    """The value of an int; where it is symbolic, a guard keeps later inputs to it."""
    if isinstance(a, torch.SymInt):
        return int(a.node.guard_int("", 0))
    if type(a) is int:
        return a
    raise _not_a("an int", a)


def guard_float(a: float | torch.SymFloat) -> float:
    """The value of a float; where it is symbolic, a guard keeps later inputs to it."""
    if isinstance(a, torch.SymFloat):
        return float(a.node.guard_float("", 0))
    if isinstance(a, float):
        return a
    raise _not_a("a float", a)


def guard_or_false(a: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded; False where it depends on data."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_or_false("", 0))


def guard_or_true(a: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded; True where it depends on data."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_or_true("", 0))


def guard_size_oblivious(a: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded, taking unbacked sizes to be neither 0 nor 1."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_size_oblivious("", 0))


def statically_known_true(a: bool | torch.SymBool) -> bool:
    """Whether a condition holds for every admissible input. Never guards; False is "unknown"."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.statically_known_true("", 0))


def statically_known_false(a: bool | torch.SymBool) -> bool:
    """Whether a condition fails for every admissible input. Never guards."""
    node = _bool_node(a)
    if node is None:
        return not a
    return bool(node.sym_not().statically_known_true("", 0))


def expect_true(a: bool | torch.SymBool, skip: int = 0) -> bool:
    """Rely on a condition: a guard where it has a value, else an assertion at run time.

    Args:
        a: the condition.
        skip: kept for callers of torch's function; the user's line is found without it.
    """
    node = _bool_node(a)
    if node is None:
        return bool(a)
    return bool(node.expect_true("", 0))


def has_hint(a: Any) -> bool:
    """Whether a value is known at tracing."""
    if isinstance(a, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return bool(a.node.has_hint())
    return True


def hint_int(a: int | torch.SymInt, fallback: int | None = None) -> int:
    """The value of an int at tracing; no guard.

    Args:
        a: the int.
        fallback: the answer where the value depends on data.

    Raises:
        GuardOnDataDependentSymNode: it depends on data and there is no fallback.
    """
    if not isinstance(a, torch.SymInt):
        return a
    hint = a.node.hint
    if hint is not None:
        return int(hint)
    if fallback is not None:
        return fallback
    return int(a.node.evaluate())


def is_concrete_int(a: int | torch.SymInt) -> bool:
    """Whether a value is one integer for every admissible input."""
    return isinstance(a, int) or a.node.maybe_as_int() is not None


def is_concrete_float(a: float | torch.SymFloat) -> bool:
    """Whether a value is one float for every admissible input."""
    return isinstance(a, float) or a.node.maybe_as_float() is not None


def is_concrete_bool(a: bool | torch.SymBool) -> bool:
    """Whether a value is one bool for every admissible input."""
    return isinstance(a, bool) or a.node.maybe_as_bool() is not None
