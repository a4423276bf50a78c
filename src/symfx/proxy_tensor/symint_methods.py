"""Methods of torch.SymInt that torch leaves wrong or out, mended for the time of a trace.

``round(n, -1)`` of a symbolic n is n in torch. A symbolic n has no hash in torch, so that it can be
neither the key of a dict nor a member of a set. In a trace the user's program may use it as such:
the trace holds for its value alone then, and says at which line.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch

from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.sym_node import SymNode, wrap_node
from symfx.torch_bridge.process_wide import ProcessWide
from symfx.user_code import is_user_file

__all__ = ["symint_methods"]

_SymInt: Any = torch.SymInt
_torchs_round, _torchs_hash = _SymInt.__round__, _SymInt.__hash__


def _round(self: Any, ndigits: Any = None) -> Any:
    if ndigits is None or type(self.node) is not SymNode:
        return _torchs_round(self, ndigits)
    digits = int(ndigits)
    return self if digits >= 0 else wrap_node(self.node.round(digits))


def _hash(self: Any) -> int:
    # torch's own code relies on the error of torch's form.
    if (
        type(self.node) is SymNode
        and not self.node.is_nested_int()
        and in_trace()
        and is_user_file(sys._getframe(1).f_code.co_filename)
    ):
        return hash(int(self))
    result: int = _torchs_hash(self)
    return result


_ROUND, _HASH = ProcessWide(_SymInt, "__round__"), ProcessWide(_SymInt, "__hash__")


@contextlib.contextmanager
def symint_methods() -> Iterator[None]:
    """A context in which the methods are mended."""
    with _ROUND.set_to(_round), _HASH.set_to(_hash):
        yield
