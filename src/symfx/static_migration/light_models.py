"""Models built without drawing the first values of their parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["without_weights"]


class without_weights(TorchFunctionMode):
    """A context in which the parameters of new models keep arbitrary values.

    No shape depends on these values, and drawing them takes most of the time of building a model.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call a function, unless it would fill a parameter with random numbers."""
        options = kwargs or {}
        filled = args[0] if args else options.get("tensor")
        name = getattr(func, "__name__", "")
        if getattr(func, "__module__", "") == "torch.nn.init":
            at_random = name not in ("zeros_", "ones_", "constant_", "eye_")
        else:
            at_random = name in ("uniform_", "normal_") and isinstance(filled, torch.nn.Parameter)
        return filled if at_random else func(*args, **options)
