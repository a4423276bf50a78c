"""The user's line under torch's names: its frame, its files, and checks to insert before it."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import traceback
from collections import defaultdict
from types import FrameType
from typing import Any

import sympy
from torch.utils._sympy.printers import PythonPrinter

from symfx.errors import SymfxError
from symfx.symbolic_shapes.explain.data_dependent import symbolic_variables
from symfx.user_code import SYMFX_FOLDER, UserFrame, user_frame

__all__ = [
    "_find_user_code_frame",
    "_suggest_fixes_for_data_dependent_error_non_strict",
    "uninteresting_files",
]


@functools.cache
def uninteresting_files() -> set[str]:
    """Files whose lines never caused a guard: torch's machinery, and symfx."""
    import torch._higher_order_ops

    modules = (
        "torch", "torch._compile", "torch._dynamo.eval_frame", "torch._dynamo.guards",
        "torch._inductor.sizevars", "torch._library.custom_ops", "torch._library.fake_impl",
        "torch._logging._internal", "torch._logging.structured", "torch._subclasses.fake_tensor",
        "torch._subclasses.meta_utils", "torch.export._trace", "torch.fx._symbolic_trace",
        "torch.fx.interpreter",
    )  # fmt: skip
    files = {inspect.getfile(sys.modules[name]) for name in modules if name in sys.modules}
    for folder in (os.path.dirname(torch._higher_order_ops.__file__), SYMFX_FOLDER):
        for path, _, names in os.walk(folder):
            files |= {os.path.join(path, name) for name in names if name.endswith(".py")}
    return files | {"<string>"}


def _find_user_code_frame() -> FrameType | None:
    """The innermost frame of the user's program; None where only library code is running."""
    return user_frame()


class _LocalNames(PythonPrinter):
    """Prints a symbol as the user's code names it."""

    def __init__(self, names: dict[str, list[str]]) -> None:
        super().__init__()
        self.names = names

    def _print_Symbol(self, expr: sympy.Symbol) -> str:
        return self.names[expr.name][0]


def _suggest_fixes_for_data_dependent_error_non_strict(e: Any) -> None:
    """Add the user's line, and checks in the names of its variables, to an error about data.

    Args:
        e: a `GuardOnDataDependentSymNode`; its message is changed.
    """
    frame = user_frame()
    if frame is None:
        return
    at = UserFrame(frame.f_code, frame.f_lineno)
    line = traceback.FrameSummary(at.code.co_filename, at.lineno, at.code.co_name)
    shown = "".join(traceback.StackSummary.from_list([line]).format())
    text = f"{e.args[0]}\n\nThe following call raised this error:\n{shown}"
    names: dict[str, list[str]] = defaultdict(list)
    for name, number in symbolic_variables(frame.f_locals):
        names[str(number.node.expr)].append(name)
    condition = e.cond
    if isinstance(condition, sympy.logic.boolalg.Boolean) and all(
        str(s) in names for s in condition.free_symbols
    ):
        printer = _LocalNames(names)
        checks = [printer.doprint(c) for c in (condition, sympy.Not(condition))]
        text += "\nTo fix the error, insert one of the following checks before this call:"
        text += "".join(f"\n  {i}. torch._check({check})" for i, check in enumerate(checks, 1))
        replaced = ", ".join(
            f"`{s}` with {' or '.join(names[s])}" for s in sorted(map(str, condition.free_symbols))
        )
        text += (
            f"\n\n(These suggested fixes were derived by replacing {replaced} in {condition} "
            "and its negation.)"
        )
    e.args = (text,)
    if isinstance(e, SymfxError):
        e.message = text
