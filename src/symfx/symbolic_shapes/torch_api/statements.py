"""Methods of ShapeEnv by which torch states facts in sympy.

Each function is a method of `ShapeEnv`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy
import torch

from symfx.algebra.languages.sympy import to_sympy
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.torch_bridge.modes import follow_renaming

if TYPE_CHECKING:
    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = [
    "_constrain_is_bounded",
    "_constrain_range",
    "_constrain_range_for_size",
    "_constrain_unify",
    "_eliminate_unbacked",
    "_find",
    "_rename_unbacked_to",
    "_set_replacement",
    "constrain_symbol_range",
    "set_real_tensor_prop_unbacked_vals",
]


def _constrain_range_for_size(
    env: ShapeEnv, a: sympy.Symbol, min: int | None = None, max: int | None = None
) -> None:
    """An unbacked symbol is a size: not negative, and between `min` and `max`."""
    env.knowledge.constrain_as_size(a, min, max)


def _constrain_range(env: ShapeEnv, a: sympy.Expr, min: int, max: int) -> None:
    """A symbol (or a number) is between two bounds; other expressions are left alone.

    Raises:
        ConstraintViolationError: a number that is not.
    """
    if isinstance(a, sympy.Symbol):
        env.constrain_range(env.read(a), min, max)
    elif isinstance(a, sympy.Integer) and not min <= int(a) <= max:
        raise ConstraintViolationError(f"{a} is not between {min} and {max}")


def constrain_symbol_range(
    env: ShapeEnv, s: sympy.Symbol, compiler_min: int, compiler_max: int
) -> None:
    """A symbol is between two bounds; an unknown one becomes an unbacked symbol."""
    env.constrain_range(env.read_registering(s), compiler_min, compiler_max)


def _constrain_is_bounded(env: ShapeEnv, a: sympy.Symbol, upper_bound: int) -> None:
    """A symbol is at most `upper_bound`."""
    env.constrain_range(env.read(a), None, upper_bound)


def _set_replacement(env: ShapeEnv, a: sympy.Symbol, tgt: sympy.Expr, msg: str = "") -> None:
    """A symbol equals an expression, and is replaced by it."""
    symbol = env.symbols.term_of(a)
    env.knowledge.eliminated.add(symbol)
    env.knowledge.equate(symbol, env.read(tgt))


def _find(env: ShapeEnv, a: sympy.Symbol) -> sympy.Expr:
    """The expression that replaces a symbol; the symbol itself where it is not replaced."""
    result: sympy.Expr = to_sympy(env.read(a))
    return result


def _rename_unbacked_to(env: ShapeEnv, orig_s: sympy.Symbol, new_s: sympy.Symbol) -> None:
    """A symbol that a second run made is the one that the first run made in its place.

    Args:
        orig_s: the symbol of the second run.
        new_s: the symbol of the first run, which expressions keep.

    Raises:
        SymfxError: one of them is not unbacked.
    """
    env.knowledge.rename_unbacked(orig_s, new_s)
    follow_renaming(env, orig_s, new_s)


def _eliminate_unbacked(env: ShapeEnv, orig_s: sympy.Symbol, new_s: sympy.Expr) -> None:
    """An unbacked symbol equals an expression that is known by other means."""
    env._set_replacement(orig_s, new_s, "eliminate_unbacked")


def _constrain_unify(env: ShapeEnv, a: Any, b: Any) -> None:
    """Two integers are equal, without a guard.

    Raises:
        ConstraintViolationError: they cannot be.
    """
    env.knowledge.unify(env.read(a), env.read(b))


def set_real_tensor_prop_unbacked_vals(
    env: ShapeEnv, k: sympy.Symbol, v: float | torch.Tensor
) -> None:
    """The value of an unbacked symbol in a run on real tensors beside the fake ones.

    Where tracing would have to stop for a value, this value answers, and a runtime assertion
    checks it.
    """
    env.symbols.real_tensor_prop_unbacked_vals[k] = sympy.sympify(v)
