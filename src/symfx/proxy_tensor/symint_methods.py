"""Methods of symbolic numbers that torch leaves wrong or out, mended for the time of a trace.

``round(n, -1)`` of a symbolic n is n in torch. A symbolic n has no hash in torch, so that it can be
neither the key of a dict nor a member of a set. In a trace the user's program may use it as such:
the trace holds for its value alone then, and says at which line.

The text of a symbolic number is the name of its symbol, which stays where it is only shown. A
program that computes with the text gets the digits of the value, for which alone the trace holds.

``x.shape.numel()`` is a number of C++ in torch. In a trace it stays symbolic.
"""

from __future__ import annotations

import contextlib
import dis
import math
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch

from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.shown_texts import only_shown
from symfx.sym_node import SymNode, wrap_node
from symfx.torch_bridge.process_wide import ProcessWide
from symfx.torch_bridge.size_type import SIZE_METHODS
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


def _is_open(number: Any) -> bool:
    """Whether a number of this trace has no known value."""
    node = number.node
    if type(node) is not SymNode or node.is_nested_int() or not in_trace():
        return False
    return node.term.op != "const"


def _repr_of(own: Callable[[Any], str], value: Callable[[Any], Any]) -> Callable[[Any], str]:
    def form(self: Any) -> str:
        if _is_open(self) and not only_shown(sys._getframe(1)):
            return repr(value(self))
        return own(self)

    return form


def _format_of(own: Callable[[Any, str], str], value: Callable[[Any], Any]) -> Callable[..., str]:
    def form(self: Any, spec: str) -> str:
        if type(self.node) is not SymNode or self.node.is_nested_int() or not in_trace():
            return own(self, spec)
        if not _is_open(self) or not only_shown(sys._getframe(1)):
            return format(value(self), spec)
        shown = str(self.node)
        try:
            return format(shown, spec)
        except ValueError:  # the spec is one for digits
            return shown

    return form


def _int_of(own: Callable[[Any], int]) -> Callable[[Any], int]:
    def form(self: Any) -> int:
        # An error or a log may say "%d": then the number of the example is shown.
        frame = sys._getframe(1)
        if _is_open(self) and self.node.has_hint() and _formats(frame) and only_shown(frame):
            return int(self.node.hint)
        return own(self)

    return form


def _remainder() -> bytes:
    """The instruction of ``a % b``, which formats texts too."""
    code = compile("a % b", "", "eval")
    found = next(i for i in dis.get_instructions(code) if i.opname.startswith("BINARY_"))
    return code.co_code[found.offset : found.offset + 2]


_REMAINDER = _remainder()


def _formats(frame: FrameType) -> bool:
    """Whether a frame of the user's asks for a number in ``text % number``."""
    code, at = frame.f_code, frame.f_lasti
    return is_user_file(code.co_filename) and code.co_code[at : at + 2] == _REMAINDER


_torchs_numel = SIZE_METHODS.numel


def _numel(self: torch.Size) -> Any:
    if (
        in_trace()
        and any(isinstance(n, _SymInt) for n in self)
        and not torch.compiler.is_dynamo_compiling()
    ):
        return math.prod(self)
    return _torchs_numel(self)


_FLOAT: Any = torch.SymFloat
_BOOL: Any = torch.SymBool
_METHODS: tuple[tuple[ProcessWide, Callable[..., Any]], ...] = (
    (ProcessWide(SIZE_METHODS, "numel"), _numel),
    (ProcessWide(_SymInt, "__round__"), _round),
    (ProcessWide(_SymInt, "__hash__"), _hash),
    (ProcessWide(_SymInt, "__int__"), _int_of(_SymInt.__int__)),
    (ProcessWide(_SymInt, "__index__"), _int_of(_SymInt.__index__)),
    *(
        (ProcessWide(kind, name), form(getattr(kind, name), value))
        for kind, value in ((_SymInt, int), (_FLOAT, float), (_BOOL, bool))
        for name, form in (("__repr__", _repr_of), ("__format__", _format_of))
    ),
)


@contextlib.contextmanager
def symint_methods() -> Iterator[None]:
    """A context in which the methods are mended."""
    with contextlib.ExitStack() as stack:
        for method, form in _METHODS:
            stack.enter_context(method.set_to(form))
        yield
