"""The context of a trace in which the user's program uses sizes as Python numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from symfx.proxy_tensor.rewritten_functions import symbolic_numbers
from symfx.proxy_tensor.symint_methods import symint_methods
from symfx.proxy_tensor.tensor_types import tensor_types

__all__ = ["sizes_as_numbers"]


@contextlib.contextmanager
def sizes_as_numbers(program: Any) -> Iterator[None]:
    """Inside, Python's functions, SymInt's methods and types of tensors take symbolic numbers.

    Args:
        program: the function or module that is traced.
    """
    with symbolic_numbers(program), symint_methods(), tensor_types():
        yield
