"""Watching a model's code while it is traced, for effects that a graph of operators cannot hold.

torch.fx records operators. It does not record that they ran without gradients or under autocast,
that the random number generator was seeded, or that a module was given a hook: such calls happen
once, while tracing, and each run of the graph would lack them. `Watch` stops the trace at the first
of them, before it takes effect, and the module whose code makes the call is then kept whole.

Reading the grad mode or autocast stops the trace too, because the graph would hold the answer that
was given while tracing.
"""

from __future__ import annotations

import cProfile
import re
import sys
from collections.abc import Sequence
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._device import DeviceContext
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["LeavesTheGraph", "Watch"]


class LeavesTheGraph(Exception):
    """The traced code makes a call whose effect a graph cannot hold. Its text is the reason."""


#: The functions of torch, written in C++, that change or read a setting, and the reasons.
_SETTERS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), reason)
    for pattern, reason in (
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
_GENERATOR_METHODS = frozenset({"manual_seed", "seed", "set_state", "graphsafe_set_state"})


def _code_of(function: Any) -> CodeType:
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code: CodeType = function.__code__
    return code


_HOOKS = (
    "register_forward_hook",
    "register_forward_pre_hook",
    "register_full_backward_hook",
    "register_full_backward_pre_hook",
)
#: The functions of torch, written in Python, and the reasons.
_CODES: dict[CodeType, str] = {
    _code_of(torch.inference_mode.__enter__): "it sets or reads the grad mode",
    _code_of(torch.set_default_device): "it sets the default device",
    _code_of(TorchFunctionMode.__enter__): "it enters a mode of torch functions",
    _code_of(DeviceContext.__init__): "it sets the default device",
    _code_of(TorchDispatchMode.__enter__): "it enters a dispatch mode",
    _code_of(torch.autograd.grad): "it computes gradients",
    _code_of(torch.autograd.backward): "it computes gradients",
    _code_of(torch.Tensor.backward): "it computes gradients",
    **{_code_of(getattr(nn.Module, name)): "it gives a module a hook" for name in _HOOKS},
}
_SET_ATTRIBUTE = _code_of(nn.Module.__setattr__)


class Watch:
    """A context that raises `LeavesTheGraph` inside code that makes such a call.

    It sets a profile function, which Python calls at each call of this thread. A profiler that was
    active before is active again afterwards.

    Args:
        paths: the paths of the modules whose forward is running, from the outermost to the
            innermost; the root has none.

    Attributes:
        reason: the reason of the first such call, or None. It is kept even if the code that made
            the call catches the exception.
        blamed: the path of the module whose forward made the call; None for the root.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self.reason: str | None = None
        self.blamed: str | None = None
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
            reason = _reason_of_builtin(arg)
        elif event == "call":
            reason = _reason_of_code(frame)
        else:
            reason = None
        if callable(self._before):
            self._before(frame, event, arg)
        if reason is not None:
            self.reason, self.blamed = reason, self._paths[-1] if self._paths else None
            raise LeavesTheGraph(reason)


def _reason_of_builtin(function: Any) -> str | None:
    module = function.__module__
    if module is None:
        if function.__name__ in _GENERATOR_METHODS and isinstance(
            getattr(function, "__self__", None), torch.Generator
        ):
            return "it seeds a random number generator, or sets its state"
        return None
    if module not in _HOMES:
        return None
    return _reason_of_name(function.__name__)


_HOMES = frozenset({"torch", "torch._C", "torch._C._autograd"})


def _reason_of_name(name: str) -> str | None:
    for pattern, setting in _SETTERS:
        if pattern.fullmatch(name):
            return f"it sets or reads {setting}"
    return None


def _reason_of_code(frame: FrameType) -> str | None:
    code = frame.f_code
    if code is _SET_ATTRIBUTE:
        name = frame.f_locals.get("name")
        return "it replaces the forward of a module" if name == "forward" else None
    return _CODES.get(code)
