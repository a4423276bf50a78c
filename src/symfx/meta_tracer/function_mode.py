"""The mode for torch functions that a trace runs under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from symfx.meta_tracer.proxies import MetaProxy, named_devices, proxies_in

__all__ = ["RecordsArguments"]

_RANDOM = frozenset({
    torch.bernoulli, torch.normal, torch.rand, torch.randint, torch.randn, torch.randperm,
})  # fmt: skip


class RecordsArguments(TorchFunctionMode):
    """A mode that records calls with a proxy in a place where torch does not look for one.

    ``torch.zeros(2, device=x.device)`` is such a call. Calls that draw random numbers are
    recorded with any arguments, because otherwise every run would have the same numbers.

    Args:
        record: the tracer's ``create_proxy``.
        on_meta_values: returns whether the tracer is running a call on meta values, which is
            not recorded.
    """

    def __init__(self, record: Callable[..., Any], on_meta_values: Callable[[], bool]) -> None:
        super().__init__()
        self._record = record
        self._on_meta_values = on_meta_values

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        args, kwargs = named_devices(args), dict(named_devices(dict(kwargs or {})))
        if self._on_meta_values() or any(issubclass(t, fx.Proxy) for t in types):
            return func(*args, **kwargs)
        if proxies_in((args, kwargs)):
            return MetaProxy.__torch_function__(func, types, args, kwargs)
        if func in _RANDOM and kwargs.get("out") is None and kwargs.get("generator") is None:
            return self._record("call_function", func, args, kwargs)
        return func(*args, **kwargs)
