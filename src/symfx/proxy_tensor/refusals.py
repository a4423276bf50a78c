"""Errors for operators that fake kernels refuse: the text of data-dependent errors of make_fx."""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    UnsupportedOperatorException,
)
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.user_code import here

__all__ = [
    "REFUSALS",
    "DataDependentError",
    "DynamicOutputError",
    "FakeKernelError",
    "RealTensorError",
    "ambiguous_truth",
    "refusal",
    "refuse_real_tensor",
    "value_read",
]

REFUSALS = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedOperatorException,
)
"""The exceptions of torch's fake kernels: for results that depend on data, and for operators
that have no fake kernel."""


# Each derives from torch's class too, which torch's own code and programs catch.
class DataDependentError(TracingError, DataDependentOutputException):
    """An operator returns a number or a truth that depends on the data of a tensor."""


class DynamicOutputError(TracingError, DynamicOutputShapeException):
    """An operator's result has a size that depends on data, where no symbol may stand for it."""


class FakeKernelError(TracingError, UnsupportedOperatorException):
    """An operator has no fake kernel, so that the size of its result is not known."""


class RealTensorError(TracingError, AssertionError):
    """A real tensor, such as a weight, that the program closes over meets fake ones."""


def refuse_real_tensor(error: AssertionError, func: Any, args: Any, kwargs: Any) -> None:
    """Refuse a real tensor among the arguments of an operator on fake tensors.

    Args:
        error: the error of the operator.
        func: the operator.
        args, kwargs: its arguments.

    Raises:
        RealTensorError: an argument is a real tensor.
    """
    tensors = [a for a in pytree.tree_leaves((args, kwargs)) if isinstance(a, torch.Tensor)]
    real = [t for t in tensors if not isinstance(t, FakeTensor)]
    if not real:
        return
    kind = type(real[0]).__name__
    raise RealTensorError(
        f"{func} meets a {kind} of shape {tuple(real[0].shape)} that the program closes over, but "
        "the trace runs on fake tensors",
        where=here(),
        fix="symfx.trace traces a module with its parameters; for make_fx pass them as arguments "
        "(torch.func.functional_call), or pass _allow_non_fake_inputs=True, which makes them "
        "constants of the graph",
    ) from error


def ambiguous_truth(tensor: torch.Tensor) -> str:
    """The message for a tensor that has not one element, in torch's words."""
    count = "no values" if tensor.numel() == 0 else "more than one value"
    return f"Boolean value of Tensor with {count} is ambiguous"


def value_read(func: Any) -> TracingError:
    """The error for a program that reads a value out of a real tensor."""
    return TracingError(
        f"data-dependent: {func} reads a value from a tensor, which the trace would bake in",
        where=here(),
        fix='trace with tracing_mode="symbolic", or compute with the tensor '
        "instead of the number (torch.where instead of if)",
    )


def refusal(error: BaseException, func: Any) -> TracingError:
    """The error to raise in place of one of `REFUSALS`.

    Args:
        error: the exception of the fake kernel.
        func: the operator.
    """
    if isinstance(error, DataDependentOutputException):
        result: Any = DataDependentError(
            f"data-dependent: the result of {func} depends on the data of a tensor, which is not "
            "known while tracing",
            where=here(),
            fix="compute with tensors instead (torch.where or torch.cond instead of if)",
        )
    elif isinstance(error, DynamicOutputShapeException):
        result = DynamicOutputError(
            f"data-dependent: the size of the result of {func} depends on the data of a tensor",
            where=here(),
            fix='trace with tracing_mode="symbolic"',
        )
    else:
        result = FakeKernelError(
            f"{func} has no kernel for fake tensors",
            where=here(),
            fix="register one (torch.library.register_fake), or a decomposition",
        )
    result.func = func
    found: TracingError = result
    return found
