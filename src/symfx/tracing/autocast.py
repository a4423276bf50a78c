"""The autocast settings under which a model is traced: remembered, and set again to verify it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

__all__ = ["Autocast"]


@dataclass(frozen=True)
class Autocast:
    """Whether autocast is on, by type of device.

    Attributes:
        dtypes: for each type of device the dtype that autocast casts to; None where it is off.
    """

    dtypes: tuple[tuple[str, torch.dtype | None], ...] = (("cpu", None),)

    @classmethod
    def now(cls, values: Iterable[Any]) -> Autocast:
        """The present settings for the devices of these tensors, and for the CPU."""
        devices = {value.device.type for value in values if isinstance(value, torch.Tensor)}
        found = []
        for device in sorted({"cpu", *devices}):
            if torch.amp.is_autocast_available(device):
                on = torch.is_autocast_enabled(device)
                found.append((device, torch.get_autocast_dtype(device) if on else None))
        return cls(tuple(found))

    def restored(self) -> contextlib.ExitStack:
        """A context in which these settings hold."""
        stack = contextlib.ExitStack()
        for device, dtype in self.dtypes:
            stack.enter_context(torch.autocast(device, dtype=dtype, enabled=dtype is not None))
        return stack

    def off(self) -> contextlib.ExitStack:
        """A context in which autocast is off for these devices."""
        return Autocast(tuple((device, None) for device, _ in self.dtypes)).restored()

    @property
    def is_on(self) -> bool:
        """Whether autocast is on for a device."""
        return any(dtype is not None for _, dtype in self.dtypes)

    def __str__(self) -> str:
        on = [f"torch.autocast({d!r}, dtype={dtype})" for d, dtype in self.dtypes if dtype]
        return " and ".join(on) or "no autocast"
