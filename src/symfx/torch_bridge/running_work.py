"""Whether torch traces or compiles a program now, in this thread or in another one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch._guards import CompileContext, TracingContext

from symfx.torch_bridge.identity import proxy_tensor_of_torch
from symfx.torch_bridge.modes import active_fake_mode, active_proxy_mode

__all__ = ["between_compilations", "running_work"]


def running_work() -> str | None:
    """The work of torch that is under way, in words; None for none.

    torch's flags for exports and compilations are of the process, so they tell no thread.
    """
    if active_proxy_mode() is not None:
        return "a trace of make_fx"
    if torch.compiler.is_exporting():
        return "an export of this or another thread"
    if torch.compiler.is_compiling() or CompileContext.try_get() is not None:
        return "a compilation of this or another thread"
    if TracingContext.try_get() is not None:
        return "a trace of torch.compile or torch.export"
    mode = active_fake_mode()
    if mode is not None and mode.shape_env is not None:
        return "a FakeTensorMode with symbolic shapes"
    if proxy_tensor_of_torch._CURRENT_MAKE_FX_TRACER is not None:
        return "a trace of make_fx of another thread"
    return None


@contextlib.contextmanager
def between_compilations() -> Iterator[bool]:
    """A context manager: no thread begins a compilation inside.

    It gives whether that could be had: False while Dynamo compiles in another thread.
    """
    from torch._dynamo.convert_frame import compile_lock

    free = compile_lock.acquire(blocking=False)
    try:
        yield free
    finally:
        if free:
            compile_lock.release()
