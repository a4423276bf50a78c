"""Runs of a program in eager, on inputs of example sizes."""

from __future__ import annotations

import contextlib
import copy
import dis
import io
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from symfx.static_migration.conditions import InputType
from symfx.static_migration.nested_inputs import built, flat_types
from symfx.user_code import is_user_file

__all__ = [
    "PROGRAM_ERRORS",
    "example_tensor",
    "has_lazy_weights",
    "raised_by_user",
    "run_at",
    "run_on",
]

#: How a program fails, by itself or in an operator that does not take its arguments.
PROGRAM_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AssertionError,
    AttributeError,
    NameError,
    ArithmeticError,
)


def example_tensor(shape: Sequence[int], dtype_name: str, integer: int = 0) -> torch.Tensor:
    """An input to run a program on.

    Args:
        shape: its shape.
        dtype_name: its dtype.
        integer: the value of integers: 0 is an index of any dimension, 1 can be divided by. With 1
            the matrices of floats are positive definite.
    """
    dtype: torch.dtype = getattr(torch, dtype_name)
    if dtype.is_floating_point or dtype.is_complex:
        drawn = torch.rand(shape, dtype=dtype)
        if integer and len(shape) >= 2 and shape[-1] == shape[-2]:
            drawn += shape[-1] * torch.eye(shape[-1], dtype=dtype)
        return drawn
    return torch.full(tuple(shape), integer, dtype=dtype)


def has_lazy_weights(module: torch.nn.Module) -> bool:
    """Whether a run would give layers their sizes."""
    return any(map(is_lazy, module.parameters()))


def run_at(
    module: torch.nn.Module,
    types: Mapping[str, InputType],
    sizes: Mapping[str, tuple[int, ...] | int],
    integer: int = 0,
    dtypes: Mapping[str, str] | None = None,
) -> Any:
    """Run a program on inputs of these shapes, and on these numbers.

    Args:
        module: the program.
        types: the types of its inputs.
        sizes: the shapes of the tensors and the values of the numbers, by name.
        integer: the value of the integers in tensors.
        dtypes: the dtypes of inputs whose types have none, by name; float32 by default.
    """

    def value_of(name: str, given: InputType) -> Any:
        size = sizes[name]
        if isinstance(size, int):
            return size
        return example_tensor(size, (dtypes or {}).get(name, given.dtype), integer)

    given = {n: t for n, t in types.items() if flat_types({n: t}).keys() <= sizes.keys()}
    return run_on(module, {name: built(name, type_, value_of) for name, type_ in given.items()})


def run_on(module: torch.nn.Module, inputs: Mapping[str, Any]) -> Any:
    """Run a program on inputs, which stay as they are, and so does the program.

    What the program prints is dropped.
    """
    program = module if has_lazy_weights(module) else _copied(module)
    inputs = copy.deepcopy(dict(inputs))
    with torch.no_grad(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # such as torch's own on the broadcast of a loss
        return program(**inputs)


def _copied(module: torch.nn.Module) -> torch.nn.Module:
    """A copy with buffers of its own, since running statistics change; it shares parameters."""
    try:
        return copy.deepcopy(module, {id(p): p for p in module.parameters()})
    except PROGRAM_ERRORS:
        return module  # it holds something that cannot be copied, such as a result of a model


def raised_by_user(error: BaseException) -> bool:
    """Whether a ``raise`` or an ``assert`` of the user's program made an exception."""
    last: TracebackType | None = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or not is_user_file(last.tb_frame.f_code.co_filename):
        return False
    return any(
        instruction.offset == last.tb_lasti and instruction.opname == "RAISE_VARARGS"
        for instruction in dis.get_instructions(last.tb_frame.f_code)
    )
