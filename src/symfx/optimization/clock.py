"""The clock that times forms and ways against each other."""

from __future__ import annotations

import time

import torch

__all__ = ["now"]


def now() -> float:
    """The seconds of a clock that stands still while other programs have the processor.

    With several threads there is no such clock: this thread would not count the others' work.
    """
    return time.thread_time() if torch.get_num_threads() == 1 else time.perf_counter()
