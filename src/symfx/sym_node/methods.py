"""The methods of symbolic numbers: the Python operator of each, and its function in sympy."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import sympy
import torch
from torch.utils._sympy import functions as torch_fn

from symfx.algebra.terms.table import MATH_FUNCTIONS
from symfx.errors import SymfxError
from symfx.sym_node import layout_functions
from symfx.torch_bridge.releases import SYMBOOL_HAS_XOR

__all__ = [
    "METHOD_TO_OPERATOR",
    "also_bool_magic_methods",
    "always_bool_magic_methods",
    "always_float_magic_methods",
    "always_int_magic_methods",
    "bitwise_ops",
    "bool_becomes_int_magic_methods",
    "bool_magic_methods",
    "magic_methods",
    "method_to_operator",
    "only_bool_magic_methods",
    "only_float_magic_methods",
    "reflectable_magic_methods",
    "sizes_strides_methods",
    "unary_magic_methods",
    "unary_methods",
    "unary_nonmagic_methods",
]

# Of the functions of the algebra, those that symbolic floats have as methods.
_MATH = {f"sym_{name}": name for name in MATH_FUNCTIONS if hasattr(torch, f"_sym_{name}")}


def _python_mod(a: Any, b: Any) -> Any:
    signless = a.is_nonnegative and b.is_nonnegative
    return (torch_fn.Mod if signless else torch_fn.PythonMod)(a, b)


def _round(number: Any, ndigits: Any = None) -> Any:
    if ndigits is None:
        return torch_fn.RoundToInt(number)
    return torch_fn.RoundDecimal(number, ndigits)


# A method: the operator or function that Python code calls for it, and its function in sympy.
_REFLECTABLE: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "add": (operator.add, operator.add),
    "sub": (operator.sub, operator.sub),
    "mul": (operator.mul, operator.mul),
    "mod": (operator.mod, _python_mod),
    "pow_by_natural": (operator.pow, torch_fn.PowByNatural),
    "float_pow": (operator.pow, torch_fn.FloatPow),
    "and": (operator.and_, sympy.And),
    "bitwise_and": (operator.and_, torch_fn.BitwiseFn_bitwise_and),
    "or": (operator.or_, sympy.Or),
    "bitwise_or": (operator.or_, torch_fn.BitwiseFn_bitwise_or),
    "bitwise_xor": (operator.xor, torch_fn.BitwiseFn_bitwise_xor),
    **({"xor": (operator.xor, sympy.Xor)} if SYMBOOL_HAS_XOR else {}),
    "float_truediv": (operator.truediv, torch_fn.FloatTrueDiv),
    "int_truediv": (operator.truediv, torch_fn.IntTrueDiv),
    "int_floordiv": (operator.floordiv, torch_fn.FloorDiv),
    "lshift": (operator.lshift, torch_fn.LShift),
    "rshift": (operator.rshift, torch_fn.RShift),
}
_OTHERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "eq": (operator.eq, sympy.Eq),
    "ne": (operator.ne, sympy.Ne),
    "gt": (operator.gt, sympy.Gt),
    "lt": (operator.lt, sympy.Lt),
    "le": (operator.le, sympy.Le),
    "ge": (operator.ge, sympy.Ge),
    "sym_min": (torch.sym_min, torch_fn.Min),
    "sym_max": (torch.sym_max, torch_fn.Max),
    "sym_not": (torch.sym_not, operator.invert),
    "sym_ite": (torch.sym_ite, lambda cond, a, b: sympy.Piecewise((a, cond), (b, True))),
    "sym_float": (torch.sym_float, torch_fn.ToFloat),
    "neg": (operator.neg, operator.neg),
    "pos": (operator.pos, operator.pos),
    "abs": (operator.abs, sympy.Abs),
    "floor": (math.floor, torch_fn.FloorToInt),
    "ceil": (math.ceil, torch_fn.CeilToInt),
    "trunc": (math.trunc, torch_fn.TruncToInt),
    "round": (round, _round),
    "is_integer": (
        lambda number: number.is_integer(),
        lambda a: sympy.Eq(torch_fn.ToFloat(torch_fn.FloorToInt(a)), a),
    ),
    **{
        method: (getattr(torch, f"_{method}"), getattr(torch_fn, f"OpaqueUnaryFn_{name}"))
        for method, name in _MATH.items()
    },
}

METHOD_TO_OPERATOR: dict[str, Callable[..., Any]] = {
    method: python for method, (python, _) in (_REFLECTABLE | _OTHERS).items()
}
"""The operator or function that Python code calls for each method."""

reflectable_magic_methods: dict[str, Callable[..., Any]] = {
    method: in_sympy for method, (_, in_sympy) in _REFLECTABLE.items()
}
"""The sympy function of each method of two operands that Python also calls with them swapped."""

magic_methods: dict[str, Callable[..., Any]] = {
    method: in_sympy for method, (_, in_sympy) in (_REFLECTABLE | _OTHERS).items()
}
"""The sympy function of each method."""

sizes_strides_methods: dict[str, Callable[..., Any]] = {
    "is_contiguous": layout_functions.sympy_is_contiguous,
    "is_channels_last_contiguous_2d": layout_functions.sympy_is_channels_last_contiguous_2d,
    "is_channels_last_contiguous_3d": layout_functions.sympy_is_channels_last_contiguous_3d,
    "is_channels_last_strides_2d": layout_functions.sympy_is_channels_last_strides_2d,
    "is_channels_last_strides_3d": layout_functions.sympy_is_channels_last_strides_3d,
    "is_non_overlapping_and_dense_indicator": (
        layout_functions.sympy_is_non_overlapping_and_dense_indicator
    ),
}
"""The sympy function of each method that takes the sizes and strides of a tensor."""

unary_magic_methods = {
    "abs", "sym_float", "sym_int", "ceil", "floor", "neg", "sym_not", "pos", "trunc", *_MATH,
}  # fmt: skip
"""Methods of one operand that Python calls by an operator or a function."""

unary_nonmagic_methods = {"is_integer"}
"""Methods of one operand that Python code calls by their names."""

unary_methods = unary_magic_methods | unary_nonmagic_methods
"""Methods of one operand."""

# torch.SymBool has these from torch 2.14 on.
_XOR = {"xor"} if SYMBOOL_HAS_XOR else set()
_NE = {"ne"} if SYMBOOL_HAS_XOR else set()

only_bool_magic_methods = {"and", "or", "sym_not", "sym_ite"} | _XOR
"""Methods of torch.SymBool alone."""

also_bool_magic_methods = {"eq"} | _NE
"""Methods of torch.SymBool and of other types."""

bool_magic_methods = only_bool_magic_methods | also_bool_magic_methods
"""Methods of torch.SymBool."""

bool_becomes_int_magic_methods = {"add", "sub", "mul"}
"""Methods for which a torch.SymBool first becomes a torch.SymInt."""

only_float_magic_methods = {"is_integer", "round", "sym_int", "sym_log2"}
"""Methods of torch.SymFloat alone."""

always_float_magic_methods = {"int_truediv", "float_truediv", "sym_float", "float_pow", *_MATH}
"""Methods whose result is a float."""

always_int_magic_methods = {"ceil", "floor", "trunc", "pow_by_natural"}
"""Methods whose result is an int."""

always_bool_magic_methods = {
    "eq", "ne", "gt", "lt", "le", "ge", "and", "or", "sym_not", "is_non_overlapping_and_dense",
    "is_integer", *_XOR,
}  # fmt: skip
"""Methods whose result is a bool."""

bitwise_ops = {"bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor"}
"""Methods of integers that share an operator with a method of booleans: the operator's name."""


def method_to_operator(method: str) -> Callable[..., Any]:
    """The operator or function that Python code calls for a method of symbolic numbers.

    Args:
        method: the name of the method, such as ``int_floordiv``.

    Raises:
        SymfxError: symbolic numbers have no such method.

    Example:
        >>> method_to_operator("int_floordiv")(7, 2)
        3
    """
    found = METHOD_TO_OPERATOR.get(method)
    if found is None:
        raise SymfxError(
            f"symbolic numbers have no method {method!r}",
            fix=f"use one of {', '.join(sorted(METHOD_TO_OPERATOR))}",
        )
    return found
