"""Code of torch whose questions about sizes and numbers need no guard."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["BOOKKEEPING_FILES", "compares_for_itself"]

BOOKKEEPING_FILES = ("ATen/EmptyTensor.cpp", "ATen/native/Resize.h")
"""The ends of the paths of files of C++.

``EmptyTensor.cpp`` asks whether a size is 0, to count the bytes of a new storage. A fake tensor's
storage holds no data, so either answer makes the same graph. ``Resize.h`` asks whether a tensor is
empty, because an empty one may lie anywhere. A tensor outside of its storage is an error of the
kernel that makes it, when the graph runs.
"""

_COMPARING = (
    ("torch/_dynamo/variables/tensor.py", "create"),
    ("torch/_subclasses/fake_utils.py", "_check_fake_real_tensors"),
)


def compares_for_itself() -> bool:
    """Whether torch's code, and not the program, compares two numbers at this moment.

    Dynamo checks that the number of a graph's node is the number that it holds. Both are one
    number, and either answer makes the same graph. For a float, the answer needs a guard that the
    float is not NaN. A draft export compares the sizes of fake tensors with those of real ones; an
    answer that became a fact would give the numbers that data decides one value.
    """
    at: FrameType | None = sys._getframe(1)
    for _ in range(12):
        if at is None:
            return False
        code = at.f_code
        path = code.co_filename.replace("\\", "/")
        if any(path.endswith(end) and code.co_name == name for end, name in _COMPARING):
            return True
        at = at.f_back
    return False
