"""``torch.LongTensor([n])`` and its kin: tensors of numbers made by a type of tensors.

No mode of torch sees these calls, and torch reads a symbolic number in them. So for the time of a
trace the names lead to stand-ins, which act as torch's types for all else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from symfx.proxy_tensor.active_mode import get_proxy_mode
from symfx.proxy_tensor.number_tensors import has_symbol, tensor_of_numbers
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["TensorType", "tensor_types"]


class TensorType:
    """A type of tensors such as `torch.LongTensor` that takes symbolic numbers.

    Args:
        own: torch's type.

    Attributes:
        own: torch's type.
    """

    def __init__(self, own: Any) -> None:
        self.own = own

    def __call__(self, *args: Any, **options: Any) -> Any:
        """A tensor: of the numbers of a list, or of these sizes."""
        if (
            len(args) == 1
            and not options
            and type(args[0]) in (list, tuple)  # a torch.Size gives the sizes of the result
            and has_symbol(args[0])
            and get_proxy_mode() is not None
        ):
            return tensor_of_numbers(args[0], dtype=self.own.dtype)
        return self.own(*args, **options)

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, self.own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.own, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.own == (other.own if isinstance(other, TensorType) else other))

    def __hash__(self) -> int:
        return hash(self.own)


_KINDS = ("Float", "Double", "Half", "BFloat16", "Byte", "Char", "Short", "Int", "Long", "Bool")
_TYPES = {f"{kind}Tensor": TensorType(getattr(torch, f"{kind}Tensor")) for kind in _KINDS}
_NAMES = {name: ProcessWide(torch, name) for name in _TYPES}


@contextlib.contextmanager
def tensor_types() -> Iterator[None]:
    """A context in which the types of tensors take symbolic numbers."""
    with contextlib.ExitStack() as stack:
        for name, stand_in in _TYPES.items():
            stack.enter_context(_NAMES[name].set_to(stand_in))
        yield
