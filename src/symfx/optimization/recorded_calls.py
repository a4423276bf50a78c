"""Recording the calls of the submodules of a model, in one run of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from symfx.optimization.checking import copy_inputs, opened

__all__ = ["RecordedCall", "record_calls"]


@dataclass
class RecordedCall:
    """The first call of a submodule.

    Attributes:
        args, kwargs: copies of the arguments.
        draws: the state of the random number generator before the call.
        result: a copy of the result, opened; None if the call failed.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    draws: torch.Tensor
    result: Any = None

    @contextlib.contextmanager
    def same_draws(self) -> Iterator[None]:
        """A context in which random numbers are those of the call."""
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self.draws)
            yield


def record_calls(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, RecordedCall]:
    """The first call of each submodule that a run of a model calls, by the submodule's path.

    Args:
        model: the model; it is run, so pass a copy if it keeps a state.
        args: the positional arguments of the run.
        kwargs: the keyword arguments of the run.
    """
    calls: dict[str, RecordedCall] = {}
    handles = []

    def watch(path: str, module: nn.Module) -> None:
        def before(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            if path not in calls:
                given, named = copy_inputs((given, named))
                calls[path] = RecordedCall(given, named, torch.random.get_rng_state())

        def after(_: nn.Module, given: tuple[Any, ...], result: Any) -> None:
            if calls[path].result is None:
                calls[path].result = copy_inputs(opened(result))

        # The first of all hooks is called with the caller's arguments.
        handles.append(module.register_forward_pre_hook(before, prepend=True, with_kwargs=True))
        handles.append(module.register_forward_hook(after, prepend=True))

    for path, module in model.named_modules():
        if path:
            watch(path, module)
    args, named = copy_inputs((args, dict(kwargs)))
    try:
        with contextlib.suppress(Exception), torch.random.fork_rng(devices=[]):
            model(*args, **named)  # a run that fails ends the recording
    finally:
        for handle in handles:
            handle.remove()
    return calls
