"""Watching a program while it is traced, for calls whose effect a graph of operators cannot hold.

torch.fx records operators. It does not record that they ran without gradients or under autocast,
that a random number generator was seeded, or that a module was given a hook: such calls take effect
once, while tracing, and each run of the graph would lack them. A `Watch` finds them, and also calls
that read such a setting, because a graph would hold the answer that was given while tracing.
"""

from __future__ import annotations

import cProfile
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Effect", "Watch"]


@dataclass(frozen=True)
class Effect:
    """A call whose effect a graph cannot hold.

    Attributes:
        verb: the kind of call, such as ``"sets"`` or ``"reads"``.
        thing: its object, such as ``"the grad mode"``.
    """

    verb: str
    thing: str

    def __str__(self) -> str:
        return f"{self.verb} {self.thing}"


#: The settings of torch, by the names of the C++ functions that set or read them.
_SETTINGS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(names), thing)
    for names, thing in (
        (r"_?set_grad_enabled|is_grad_enabled|is_inference_mode_enabled", "the grad mode"),
        (r"_set_fwd_grad_enabled", "the mode of forward gradients"),
        (r"set_autocast\w*|is_autocast\w*|get_autocast\w*|is_any_autocast_enabled", "autocast"),
        (r"_set_default_\w*", "the default dtype"),
        (r"_set_deterministic\w*", "whether operators are deterministic"),
        (r"set_num_(interop_)?threads", "the number of threads"),
        (r"set_flush_denormal", "whether denormal numbers are flushed to zero"),
        (r"set_anomaly_enabled", "the detection of anomalies"),
        (r"_push_saved_tensors_default_hooks", "the hooks of saved tensors"),
        (
            r"_set_(float32_matmul|fp32_precision|mkldnn|onednn|nnpack|sdp|math_sdp|linalg|blas|"
            r"cpu_allow|qengine)\w*",
            "the way in which operators compute",
        ),
    )
)
_HOMES = frozenset({"torch", "torch._C", "torch._C._autograd"})
_GENERATOR_METHODS = frozenset({"manual_seed", "seed", "set_state", "graphsafe_set_state"})
_HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)


def _code_of(function: Any) -> CodeType:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code: CodeType = function.__code__
    return code


#: The effects of functions of torch that are written in Python.
_CODES: dict[CodeType, Effect] = {
    _code_of(torch.inference_mode.__enter__): Effect("sets", "the grad mode"),
    _code_of(torch.set_default_device): Effect("sets", "the default device"),
    _code_of(DeviceContext.__init__): Effect("sets", "the default device"),
    _code_of(TorchFunctionMode.__enter__): Effect("enters", "a mode of torch functions"),
    _code_of(TorchDispatchMode.__enter__): Effect("enters", "a dispatch mode"),
    _code_of(torch.autograd.grad): Effect("computes", "gradients"),
    _code_of(torch.autograd.backward): Effect("computes", "gradients"),
    _code_of(torch.Tensor.backward): Effect("computes", "gradients"),
    **{_code_of(getattr(nn.Module, name)): Effect("gives", "a module a hook") for name in _HOOKS},
}
_SET_ATTRIBUTE = _code_of(nn.Module.__setattr__)


class Watch:
    """A context that calls a function at each such call of this thread, before it takes effect.

    It sets a profile function, which Python calls at each call. A profiler that was active before
    is active again afterwards.

    Args:
        found: called with the effect. An exception that it raises is raised where the program
            makes the call, and ends the watch.
    """

    def __init__(self, found: Callable[[Effect], None]) -> None:
        self._found = found
        self._before: Any = None

    def __enter__(self) -> Watch:
        self._before = sys.getprofile()
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *exception: object) -> None:
        if isinstance(self._before, cProfile.Profile):
            sys.setprofile(None)
            self._before.enable()
        else:
            sys.setprofile(self._before)

    def _profile(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call":
            effect = _effect_of_builtin(arg)
        elif event == "call":
            effect = _effect_of_code(frame)
        else:
            effect = None
        if callable(self._before):
            self._before(frame, event, arg)
        if effect is not None:
            self._found(effect)


def _effect_of_builtin(function: Any) -> Effect | None:
    module, name = function.__module__, function.__name__
    if module in _HOMES:
        for names, thing in _SETTINGS:
            if names.fullmatch(name):
                return Effect("reads" if name.startswith(("is_", "get_")) else "sets", thing)
    owner = getattr(function, "__self__", None) if name in _GENERATOR_METHODS else None
    if isinstance(owner, torch.Generator):
        return Effect("sets", "the state of a random number generator")
    return None


def _effect_of_code(frame: FrameType) -> Effect | None:
    code = frame.f_code
    if code is _SET_ATTRIBUTE:
        forward = frame.f_locals.get("name") == "forward"
        return Effect("replaces", "the forward of a module") if forward else None
    return _CODES.get(code)
