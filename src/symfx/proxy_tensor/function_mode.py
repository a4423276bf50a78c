"""What a trace sees of torch above the dispatcher: functions, before they become operators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from symfx.proxy_tensor.cache import forget
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES

__all__ = ["TracingFunctionMode"]

_aten = torch.ops.aten
_DATA: Any = torch.Tensor.data
# The type of a setter; each look at one makes a new object.
_Setter = type(_DATA.__set__)


class TracingFunctionMode(TorchFunctionMode):
    """Active while a trace runs.

    That it is there keeps torch.nn from taking fused paths which it takes only where nobody
    looks (the fast path of TransformerEncoderLayer in eval mode).
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if type(func) is _Setter:
            if func.__self__ is _DATA:
                # The one way to change a tensor's sizes that no operator shows.
                forget(args[0])
        elif func is _aten.size.default and len(args) == 1:
            sizes = args[0].size()
            if any(isinstance(s, SYMBOLIC_TYPES) for s in sizes):
                return _aten.sym_size.default(*args, **(kwargs or {}))
        return func(*args, **kwargs) if kwargs else func(*args)
