"""The line and the variables of the program that Dynamo interprets, which runs in no frame."""

from __future__ import annotations

import os
import sys
import traceback
from types import FrameType
from typing import Any

import torch
from torch._guards import TracingContext
from torch.utils._traceback import shorten_filename

__all__ = ["asking_place", "interpreted_lines", "interpreted_stack", "interpreted_variables"]

_TORCH = os.path.dirname(torch.__file__)
_SYMFX = os.path.dirname(os.path.dirname(__file__))
#: Files and folders of torch that pass a question on.
_PASSING = tuple(
    os.path.join(_TORCH, *path.split("/"))
    for path in (
        "__init__.py",
        "_compile.py",
        "_higher_order_ops/",
        "_logging/",
        "_subclasses/fake_",
        "_subclasses/meta_utils.py",
        "fx/experimental/",
        "fx/interpreter.py",
    )
)


def interpreted_lines() -> list[tuple[str, int, str]]:
    """The calls in the program that Dynamo interprets, the innermost last.

    Returns:
        File, line and function of each; an empty list where Dynamo interprets no program.
    """
    context = TracingContext.try_get()
    if context is None or context.loc_in_frame is None:
        return []
    around = [
        (frame.filename, frame.lineno or 0, frame.name) for frame in context.frame_summary_stack
    ]
    return [*around, context.loc_in_frame]


def asking_place(frame: FrameType | None) -> str | None:
    """The place in torch, on the stack above a frame, that asks a symbolic number for its value.

    Example:
        >>> asking_place(None) is None
        True
    """
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith((_SYMFX, *_PASSING)):
            file: str = shorten_filename(code.co_filename)  # type: ignore[no-untyped-call]
            return f"{file}:{frame.f_lineno} in {code.co_name}"
        frame = frame.f_back
    return None


def interpreted_stack() -> list[traceback.FrameSummary]:
    """The same calls with the text of their lines, as tracebacks have them."""
    return [
        traceback.FrameSummary(filename, line, function)
        for filename, line, function in interpreted_lines()
    ]


def interpreted_variables() -> dict[str, Any]:
    """The local variables that hold symbolic numbers or tensors, by name, each as its fake value.

    They are those of the innermost function that Dynamo interprets. Empty where it interprets none.
    """
    if not interpreted_lines():
        return {}
    from torch._dynamo.symbolic_convert import InstructionTranslatorBase
    from torch._dynamo.variables.tensor import SymNodeVariable, TensorVariable

    # Each function of the program has a translator, whose methods are on Python's stack.
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not issubclass(
        type(frame.f_locals.get("self")), InstructionTranslatorBase
    ):
        frame = frame.f_back
    if frame is None:  # an exported graph is run again, by no translator
        return {}
    found: dict[str, Any] = {}
    for name, variable in frame.f_locals["self"].symbolic_locals.items():
        # By type: isinstance has Dynamo look at a variable that it has not looked at yet, which
        # may add a guard.
        known: Any = variable.unwrap()
        if issubclass(type(known), SymNodeVariable):
            found[name] = known.sym_num
        elif issubclass(type(known), TensorVariable):
            value = known.proxy.node.meta.get("example_value")
            if value is not None:
                found[name] = value
    return found
