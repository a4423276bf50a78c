"""How much faster a work of torch could be if symbolic shapes, make_fx and fake tensors were free.

The work runs with stock torch while a timer of CPU time takes samples of the stack. A sample
counts for the part of torch that is innermost on the stack; Python's library, and parts of torch
that everything calls, count for their callers. The code of torch.fx's graphs is kept: a trace that
makes fewer nodes, or makes them faster, may exceed the ceiling.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Literal

import torch

__all__ = ["ceiling"]

#: Seconds of CPU time between two samples.
_STEP = 0.002
_TORCH = os.path.dirname(torch.__file__) + os.sep
#: What would be free: symbolic shapes and make_fx, fake tensors, and the kernels that they run.
_FREE = (
    "fx/experimental/",
    "_subclasses/fake",
    "_subclasses/meta_utils.py",
    "_meta_registrations.py",
    "_prims",
    "_refs/",
    "_decomp/",
    "utils/_sympy/",
)
#: What counts for its caller.
_SHARED = (
    "__init__.py",
    "_compile.py",
    "_library/",
    "_logging/",
    "_ops.py",
    "_prims_common/",
    "_tensor.py",
    "overrides.py",
    "utils/",
)
_PEERS = (f"{os.sep}sympy{os.sep}", f"{os.sep}mpmath{os.sep}")
_Part = Literal["free", "kept", "shared"]


def _part_of(path: str) -> _Part:
    if any(peer in path for peer in _PEERS):
        return "free"
    if not path.startswith(_TORCH):
        return "shared"
    name = path.removeprefix(_TORCH)
    if name.startswith(_FREE) and not name.startswith("_prims_common/"):
        return "free"
    return "shared" if name.startswith(_SHARED) else "kept"


def ceiling(prepare: Callable[[], object], run: Callable[[], object]) -> float | None:
    """The ratio of the time of a work to that of its parts that would not be free.

    Args:
        prepare: what goes before the work and is not looked at.
        run: the work.

    Returns:
        The ratio; None where the system has no timer of CPU time.
    """
    if not hasattr(signal, "setitimer"):
        return None
    parts: dict[str, _Part] = {}
    found: Counter[str] = Counter()

    def sample(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            path = frame.f_code.co_filename
            part = parts.get(path)
            if part is None:
                part = parts[path] = _part_of(path)
            if part != "shared":
                found[part] += 1
                return
            frame = frame.f_back
        found["kept"] += 1

    prepare()
    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, _STEP, _STEP)
    try:
        run()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return sum(found.values()) / found["kept"] if found["kept"] else None
