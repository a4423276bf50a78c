"""torch's functions of symbolic numbers: their values, hints and kinds, and facts about them.

Inside `torch.compile` torch's functions answer; see `torch_bridge/dynamo.py`.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import Any, NoReturn

import sympy
import torch
from torch.compiler import is_dynamo_compiling
from torch.utils._sympy.numbers import int_oo

from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.torch_bridge.dynamo import torch_answers_in_dynamo

__all__ = [
    "_advise_is_bounded",
    "_advise_is_size",
    "_constrain_range_for_size",
    "cast_symbool_to_symint_guardless",
    "check_consistent",
    "constrain_range",
    "constrain_unify",
    "create_contiguous",
    "error",
    "expect_true",
    "guard_bool",
    "guard_float",
    "guard_int",
    "guard_or_false",
    "guard_or_true",
    "guard_scalar",
    "guard_size_oblivious",
    "guarding_hint_or_throw",
    "has_guarding_hint",
    "has_hint",
    "has_static_value",
    "has_symbolic_sizes_strides",
    "hint_int",
    "is_concrete_bool",
    "is_concrete_float",
    "is_concrete_int",
    "is_nested_int",
    "is_symbolic",
    "optimization_hint",
    "size_hint",
    "statically_known_false",
    "statically_known_true",
    "sym_and",
    "sym_eq",
    "sym_or",
]

_Scalar = bool | int | float | torch.SymBool | torch.SymInt | torch.SymFloat


def _not_a(kind: str, a: object) -> TypeError:
    return TypeError(f"expected {kind}, symbolic or not, got {type(a).__name__}: {a!r}")


def _bool_node(a: Any) -> Any:
    if isinstance(a, torch.SymBool):
        return a.node
    if isinstance(a, bool):
        return None
    raise _not_a("a bool", a)


@torch_answers_in_dynamo
def guard_bool(a: bool | torch.SymBool) -> bool:
    """The value of a bool; where it is symbolic, a guard keeps later inputs to it."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_bool("", 0))


@torch_answers_in_dynamo
def guard_int(a: int | torch.SymInt) -> int:
    """The value of an int; where it is symbolic, a guard keeps later inputs to it."""
    if isinstance(a, torch.SymInt):
        return int(a.node.guard_int("", 0))
    if type(a) is int:
        return a
    raise _not_a("an int", a)


@torch_answers_in_dynamo
def guard_float(a: float | torch.SymFloat) -> float:
    """The value of a float; where it is symbolic, a guard keeps later inputs to it."""
    if isinstance(a, torch.SymFloat):
        return float(a.node.guard_float("", 0))
    if isinstance(a, float):
        return a
    raise _not_a("a float", a)


@torch_answers_in_dynamo
def guard_or_false(a: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded; False where it depends on data."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_or_false("", 0))


@torch_answers_in_dynamo
def guard_or_true(a: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded; True where it depends on data."""
    node = _bool_node(a)
    return bool(a) if node is None else bool(node.guard_or_true("", 0))


@torch_answers_in_dynamo
def guard_size_oblivious(expr: bool | torch.SymBool) -> bool:
    """The value of a condition, guarded, taking unbacked sizes to be neither 0 nor 1."""
    node = _bool_node(expr)
    return bool(expr) if node is None else bool(node.guard_size_oblivious("", 0))


@torch_answers_in_dynamo
def statically_known_true(x: bool | torch.SymBool) -> bool:
    """Whether a condition is known to hold for every admissible input; no guard."""
    node = _bool_node(x)
    return bool(x) if node is None else bool(node.statically_known_true("", 0))


@torch_answers_in_dynamo
def statically_known_false(x: bool | torch.SymBool) -> bool:
    """Whether a condition is known to fail for every admissible input; no guard."""
    node = _bool_node(x)
    if node is None:
        return not x
    return bool(node.sym_not().statically_known_true("", 0))


@torch_answers_in_dynamo
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


@torch_answers_in_dynamo
def guard_scalar(a: Any) -> bool | int | float:
    """The value of a bool, an int or a float; where it is symbolic, guarded."""
    if isinstance(a, (bool, torch.SymBool)):
        return guard_bool(a)
    if isinstance(a, (int, torch.SymInt)):
        return guard_int(a)
    if isinstance(a, (float, torch.SymFloat)):
        return guard_float(a)
    raise _not_a("a number", a)


# -- values at tracing --------------------------------------------------------------------------


@torch_answers_in_dynamo
def has_guarding_hint(a: Any) -> bool:
    """Whether a value is known at tracing."""
    known = getattr(a.node, "has_hint", None) if isinstance(a, SymTypes) else None
    return True if known is None else bool(known())  # torch's constant nodes have no such method


has_hint = has_guarding_hint


def hint_int(a: int | torch.SymInt, fallback: int | None = None) -> int:
    """The value of an int at tracing; no guard.

    Args:
        a: the int.
        fallback: the answer where the value depends on data.

    Raises:
        GuardOnDataDependentSymNode: it depends on data and there is no fallback.
    """
    if is_dynamo_compiling():  # torch has no function of this name any more
        return (
            int(guarding_hint_or_throw(a)) if fallback is None else optimization_hint(a, fallback)
        )
    if not isinstance(a, torch.SymInt):
        return a
    hint = a.node.hint
    if hint is not None:
        return int(hint)
    if fallback is not None:
        return fallback
    return int(a.node.shape_env.guarding_hint_or_throw(a.node.expr))


def size_hint(
    a: int | torch.SymInt, fallback: int | None = None, *, allow_none: bool = False
) -> int | None:
    """`hint_int`, but None, where that is allowed, for a value that depends on data.

    Args:
        a: the int.
        fallback: the answer where the value depends on data.
        allow_none: answer None where the value depends on data.

    Raises:
        GuardOnDataDependentSymNode: the value depends on data, and neither argument is given.
    """
    if allow_none and fallback is None and not has_hint(a):
        return None
    return hint_int(a, fallback)


@torch_answers_in_dynamo
def guarding_hint_or_throw(a: Any) -> int | bool:
    """The value of an int or a bool at tracing, to guard on.

    Args:
        a: an int, a bool, a torch.SymInt or SymBool, or a node of one.

    Raises:
        GuardOnDataDependentSymNode: it depends on data.
    """
    node = a.node if isinstance(a, SymTypes) else a
    if isinstance(node, (int, bool)):
        return node
    if not hasattr(node, "shape_env"):
        raise _not_a("an int or a bool", a)
    hint: Any = node.hint
    if hint is None:
        hint = node.shape_env.guarding_hint_or_throw(node.expr)
    result: int | bool = hint
    return result


@torch_answers_in_dynamo
def optimization_hint(a: int | torch.SymInt, fallback: int | None = None) -> int:
    """A value of an int that is good enough for decisions about speed; no guard.

    Args:
        a: the int.
        fallback: the value to assume of an unbacked symbol; see `ShapeEnv.optimization_hint`.
    """
    if isinstance(a, torch.SymInt):
        hint = a.node.hint
        if hint is not None:
            return hint if is_nested_int(hint) else int(hint)
        return int(a.node.shape_env.optimization_hint(a.node.expr, fallback=fallback))
    if type(a) is not int:
        raise _not_a("an int", a)
    return a


# -- kinds of values ----------------------------------------------------------------------------


@torch_answers_in_dynamo
def is_symbolic(val: Any) -> bool:
    """Whether a number is symbolic; a ragged size that is a constant is not."""
    return isinstance(val, SymTypes) and bool(val.node.is_symbolic())


def is_nested_int(s: Any) -> bool:
    """Whether a number is the ragged size of a nested tensor."""
    return isinstance(s, torch.SymInt) and bool(s.node.is_nested_int())


@torch_answers_in_dynamo
def has_symbolic_sizes_strides(elem: torch.Tensor) -> bool:
    """Whether a tensor has a symbolic size, stride or storage offset."""
    return bool(elem._has_symbolic_sizes_strides)


@torch_answers_in_dynamo
def is_concrete_int(a: int | torch.SymInt) -> bool:
    """Whether a value is one integer for every admissible input."""
    return _is_concrete(a, int, torch.SymInt, "an int")


@torch_answers_in_dynamo
def is_concrete_float(a: float | torch.SymFloat) -> bool:
    """Whether a value is one float for every admissible input."""
    return _is_concrete(a, float, torch.SymFloat, "a float")


@torch_answers_in_dynamo
def is_concrete_bool(a: bool | torch.SymBool) -> bool:
    """Whether a value is one bool for every admissible input."""
    return _is_concrete(a, bool, torch.SymBool, "a bool")


def _is_concrete(a: Any, plain: type, symbolic: Any, kind: str) -> bool:
    if isinstance(a, plain):
        return True
    if not isinstance(a, symbolic):
        raise _not_a(kind, a)
    return bool(a.node.expr.is_number or a.node.expr in (sympy.true, sympy.false))


@torch_answers_in_dynamo
def has_static_value(a: _Scalar) -> bool:
    """Whether a number is a constant, or symbolic with one possible value."""
    if isinstance(a, (bool, int, float)):
        return True
    if not isinstance(a, SymTypes):
        raise _not_a("a number", a)
    return bool(a.node.shape_env.bound_sympy(a.node.expr).is_singleton())


# -- conditions put together --------------------------------------------------------------------


@torch_answers_in_dynamo
def sym_and(x: Any, *others: Any) -> Any:
    """Whether all conditions hold: a bool or torch.SymBool; no guard."""
    return functools.reduce(operator.and_, others, x)


@torch_answers_in_dynamo
def sym_or(x: Any, *others: Any) -> Any:
    """Whether any of the conditions holds: a bool or torch.SymBool; no guard."""
    return functools.reduce(operator.or_, others, x)


@torch_answers_in_dynamo
def sym_eq(x: Any, y: Any) -> Any:
    """Whether two integers, or two sequences of sequences of them, are equal; no guard.

    Sequences of different lengths are not equal.
    """
    if isinstance(x, (tuple, list)) and isinstance(y, (tuple, list)):
        if len(x) != len(y):
            return False
        return sym_and(True, *map(sym_eq, x, y))
    if isinstance(x, (int, torch.SymInt)) and isinstance(y, (int, torch.SymInt)):
        return x == y
    raise _not_a("two integers or two sequences", (x, y))


@torch_answers_in_dynamo
def cast_symbool_to_symint_guardless(symbool: bool | torch.SymBool) -> int | torch.SymInt:
    """1 for true and 0 for false; symbolic where the condition is, and no guard.

    Example:
        >>> cast_symbool_to_symint_guardless(True)
        1
    """
    if isinstance(symbool, bool):
        return int(symbool)
    node = symbool.node
    env = node.shape_env
    result: int | torch.SymInt = env.wrap(env.table.to_int(env.adopt(node).term))
    return result


@torch_answers_in_dynamo
def create_contiguous(shape: Sequence[Any]) -> list[Any]:
    """The strides of a row-major tensor without gaps.

    Example:
        >>> create_contiguous([2, 3, 4])
        [12, 4, 1]
    """
    steps = itertools.accumulate(reversed(shape[1:]), lambda step, size: size * step, initial=1)
    return list(steps)[::-1]


# -- promises -----------------------------------------------------------------------------------


@torch_answers_in_dynamo
def check_consistent(new: Any, old: Any) -> None:
    """Rely on two values of the same place in a program being the same.

    Args:
        new: a tensor or a number.
        old: the other one. Tensors are compared by their sizes, values of other kinds not at all.

    Raises:
        RuntimeError: they differ.
        TypeError: only one of them is a tensor.
    """
    if isinstance(new, torch.Tensor):
        if not isinstance(old, torch.Tensor):
            raise _not_a("a tensor", old)
        pairs: list[tuple[Any, Any]] = list(zip(old.shape, new.shape, strict=False))
        torch._check(  # type: ignore[no-untyped-call]
            old.dim() == new.dim(), lambda: f"{old.shape} became {new.shape}"
        )
    elif isinstance(new, (int, float, torch.SymInt, torch.SymFloat)) and type(new) is not bool:
        if not isinstance(old, (int, float, torch.SymInt, torch.SymFloat)) or type(old) is bool:
            raise _not_a("a number", old)
        pairs = [(old, new)]
    else:
        return
    for before, after in pairs:
        torch._check(  # type: ignore[no-untyped-call]
            before == after, lambda: f"{old} became {new}"
        )


@torch_answers_in_dynamo
def constrain_range(a: Any, *, min: int | None, max: int | None = None) -> None:
    """An int is between two bounds, from now on and without a guard.

    Args:
        a: the int; an expression of several symbols is left alone.
        min: the least value; None for no bound.
        max: the greatest value.

    Raises:
        ConstraintViolationError: no int is between the bounds, or this one is not.
    """
    if min is not None and max is not None and max < min:
        raise ConstraintViolationError(f"no int is at least {min} and at most {max}")
    if isinstance(a, torch.SymInt):
        node = a.node
        node.shape_env._constrain_range(
            node.expr, -int_oo if min is None else min, int_oo if max is None else max
        )
    elif (min is not None and a < min) or (max is not None and a > max):
        raise ConstraintViolationError(f"{a} is not between {min} and {max}")


@torch_answers_in_dynamo
def constrain_unify(a: Any, b: Any) -> None:
    """Two ints are equal, from now on and without a guard.

    Raises:
        ConstraintViolationError: they are not.
    """
    for number in (a, b):
        if isinstance(number, torch.SymInt):
            number.node.shape_env._constrain_unify(a, b)
            return
    if a != b:
        raise ConstraintViolationError(f"{a} and {b} are not equal")


@torch_answers_in_dynamo
def _constrain_range_for_size(a: Any, min: int | None = None, max: int | None = None) -> None:
    """An unbacked int is a size: at least 0 and between two bounds; no guard.

    Raises:
        ConstraintViolationError: no size is between the bounds.
        TypeError: the int is no torch.SymInt of one symbol.
    """
    if not isinstance(a, torch.SymInt) or not isinstance(a.node.expr, sympy.Symbol):
        raise _not_a("a torch.SymInt of one symbol", a)
    if max is not None and max < (min or 0):
        raise ConstraintViolationError(f"no size is at least {min or 0} and at most {max}")
    a.node.shape_env._constrain_range_for_size(a.node.expr, min, max)


def _unbacked_symbol(a: Any) -> Any:
    """The unbacked symbol that an int is; None where it is another int."""
    if not isinstance(a, torch.SymInt) or not isinstance(a.node.expr, sympy.Symbol):
        return None
    return a.node.expr if a.node.shape_env.is_unbacked_symint(a.node.expr) else None


@torch_answers_in_dynamo
def _advise_is_size(a: Any) -> None:
    """An int is a size; the environment learns it of an unbacked symbol."""
    if _unbacked_symbol(a) is not None:
        _constrain_range_for_size(a)


@torch_answers_in_dynamo
def _advise_is_bounded(a: Any, upper_bound: Any) -> None:
    """An int has an upper bound; the environment learns it of an unbacked symbol."""
    symbol = _unbacked_symbol(a)
    if symbol is not None and isinstance(upper_bound, int):
        a.node.shape_env._constrain_is_bounded(symbol, upper_bound)


def error() -> NoReturn:
    """Raise, at a place that a program must never reach."""
    raise AssertionError("this place must never be reached")
