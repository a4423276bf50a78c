"""make_fx inside of vmap, grad and jvp: the graph is that of one member of a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from symfx.errors import TracingError
from symfx.torch_bridge.functorch import inside_transform, outside_transforms, sample_of

__all__ = ["outside_of_transforms"]

_T = TypeVar("_T")


def outside_of_transforms(trace: Callable[..., _T], args: tuple[Any, ...]) -> _T:
    """Call a function that traces. Transforms that run apply where the graph is called.

    Args:
        trace: the function.
        args: its arguments. A batch of vmap becomes its first member.

    Raises:
        TracingError: the traced program uses a tensor of a transform in another way.
    """
    if not inside_transform(args):
        return trace(*args)
    args = sample_of(args)
    try:
        with outside_transforms():
            return trace(*args)
    except RuntimeError as error:
        if "escaped" not in str(error):
            raise
        raise TracingError(
            "the function uses a tensor of vmap, grad or jvp that is not among its arguments",
            fix="pass the tensor to the function as an argument",
        ) from error
