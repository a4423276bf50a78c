"""The reasons why torch.compile compiled a function again: the guard, the input and the line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import TYPE_CHECKING, Any

from symfx.errors import SpecError
from symfx.torch_bridge.recompilations import code_of_compiled, failures_by_code

if TYPE_CHECKING:
    from symfx.explanation.answers import Explanation

__all__ = ["Recompile", "explain_recompiles"]

_REASON = re.compile(
    r"(?P<graph>\d+/\d+(?:_\d+)?): (?P<guard>.*?)(?:\s+# (?P<lines>.*))?", re.DOTALL
)
_MISMATCH = re.compile(
    r"tensor '(?P<tensor>[^']+)' (?P<what>size|stride) mismatch at index (?P<dim>\d+)"
)
_TENSOR = re.compile(r"tensor '(?P<tensor>[^']+)'")
_MEASURE = re.compile(r"(?P<tensor>[\w.\[\]']+)\.(?P<what>size|stride)\(\)\[(?P<dim>\d+)\]")
_NAME = re.compile(r"\b[A-Za-z_][\w.\[\]']*")
#: How Dynamo calls the rest of a function behind a graph break.
_RESUMED = re.compile(r"torch_dynamo_resume_in_(?P<name>.*)_at_(?P<line>\d+)")
#: How torch writes the line of a guard: its text, the end of the path, the function, the reason.
_TORCH_LINE = re.compile(
    r"(?P<text>\S.*?)\s+# (?P<place>\S+:\d+) in \S+"
    r"(?: \([^()]*(?:\([^()]*\)[^()]*)*\))?(?: and |$)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Recompile:
    """A guard of a compiled graph that new inputs failed, so that torch compiled again.

    Attributes:
        function: the name of the function.
        graph: torch's number of the graph whose guard failed, such as ``0/1``.
        guard: the guard; for a property of a tensor, torch's sentence about it.
        inputs: the inputs in the guard, such as ``dimension 0 of x``.
        lines: the lines of the program that needed the guard; empty where torch gave the
            dimension its value because it had not varied before.
        fix: what to do about it.
    """

    function: str
    graph: str
    guard: str
    inputs: tuple[str, ...]
    lines: tuple[str, ...]
    fix: str

    def explain(self) -> Explanation:
        """The failed guard, the lines that needed it, and what to do about it."""
        from symfx.explanation.answers import Explanation, Reason  # costs time

        reasons = [Reason(self.guard, "recompile", note=f"needed at {line}") for line in self.lines]
        inputs = ", ".join(self.inputs)
        return Explanation(
            self.function,
            "recompile",
            f"{self.function} was compiled again: new inputs failed a guard of graph {self.graph}",
            tuple(reasons) or (Reason(self.guard, "recompile"),),
            (("inputs", inputs),) if inputs else (),
            self.fix,
        )

    def __str__(self) -> str:
        lines = [
            f"{self.function}, graph {self.graph}: new inputs failed {self.guard}",
            f"  input: {', '.join(self.inputs) or 'none'}",
        ]
        lines += [f"  needed at: {line}" for line in self.lines]
        lines.append(f"  to fix: {self.fix}")
        return "\n".join(lines)


def explain_recompiles(function: Callable[..., Any] | None = None) -> list[Recompile]:
    """Which guards failed in calls of a compiled function, on which input, by which line.

    torch.compile compiles a function again where the new inputs fail a guard of each graph that it
    has. torch keeps the reasons until `torch.compiler.reset`.

    Args:
        function: the function or the module, or what `torch.compile` made of it. The parts of it
            behind a graph break count too. None for all functions of the process.

    Returns:
        The failed guards, one for each graph that did not fit; print them to read them.

    Raises:
        SpecError: the argument is no function and no module.

    Example:
        >>> import symfx, torch
        >>> def f(x):
        ...     return x.sum() if x.shape[0] > 4 else x.mean()
        >>> with symfx.installed():
        ...     compiled = torch.compile(f, backend="eager", dynamic=True)
        ...     _ = compiled(torch.ones(3)), compiled(torch.ones(8))
        >>> [(r.guard, r.inputs) for r in explain_recompiles(compiled)]
        [('2 <= x.size()[0] <= 4', ('dimension 0 of x',))]
    """
    failures = failures_by_code()
    if function is not None:
        code = code_of_compiled(function)
        if code is None:
            raise SpecError(
                f"{function!r} is no function and no module",
                where="explain_recompiles",
                fix="pass the function that torch.compile took or returned",
            )
        failures = {key: reasons for key, reasons in failures.items() if _is_part_of(key, code)}
    return [_read(code.co_name, reason) for code, rs in failures.items() for reason in rs]


def _is_part_of(code: CodeType, whole: CodeType) -> bool:
    """Whether code is a function's, or that of its rest behind a graph break."""
    rest = f"torch_dynamo_resume_in_{whole.co_name}_at_"
    return code is whole or (
        code.co_filename == whole.co_filename and code.co_name.startswith(rest)
    )


def _read(function: str, reason: str) -> Recompile:
    behind = _RESUMED.fullmatch(function)
    if behind:
        function = f"{behind['name']} behind the graph break at line {behind['line']}"
    found = _REASON.fullmatch(reason.partition("\nUser stack trace:")[0])
    if found is None:  # a form that this release does not have
        return Recompile(function, "?", reason, (), (), _LOOK)
    guard = found["guard"].strip()
    inputs = _inputs(guard)
    return Recompile(
        function, found["graph"], guard, inputs, _lines(found["lines"]), _fix(guard, inputs)
    )


def _inputs(guard: str) -> tuple[str, ...]:
    mismatch = _MISMATCH.match(guard)
    if mismatch:
        return (_measure(mismatch),)
    tensor = _TENSOR.match(guard)
    if tensor:
        return (tensor["tensor"],)
    measures = [_measure(m) for m in _MEASURE.finditer(guard)]
    if not measures:
        words = {"and", "or", "not", "is", "None", "True", "False", "Eq", "Ne", "len"}
        measures = [m[0] for m in _NAME.finditer(guard) if m[0] not in words]
    return tuple(dict.fromkeys(measures))


def _measure(found: re.Match[str]) -> str:
    kind = "dimension" if found["what"] == "size" else "stride"
    return f"{kind} {found['dim']} of {found['tensor']}"


def _lines(comment: str | None) -> tuple[str, ...]:
    """The lines in the comment of a guard, in symfx's form or in torch's."""
    if not comment:
        return ()
    if comment.startswith("at ") or " at " in comment.partition(":")[0]:
        return tuple(part.removeprefix("at ") for part in comment.split(" and at "))
    torchs = [f"{os.path.basename(m['place'])}: {m['text']}" for m in _TORCH_LINE.finditer(comment)]
    return tuple(dict.fromkeys(torchs)) or (comment,)


_LOOK = "set TORCH_LOGS=recompiles_verbose to see more"


def _fix(guard: str, inputs: tuple[str, ...]) -> str:
    mismatch = _MISMATCH.match(guard)
    if mismatch and mismatch["what"] == "size":
        at = f"{mismatch['tensor']}, {mismatch['dim']}"
        return (
            f"torch._dynamo.mark_dynamic({at}) before the first call, or torch.compile(..., "
            "dynamic=True), makes the first graph serve other sizes"
        )
    if mismatch or _TENSOR.match(guard):
        return "pass tensors of one dtype, device, layout and requires_grad"
    if len(inputs) == 1 and re.fullmatch(rf"{re.escape(inputs[0])} == \S+", guard):
        return (
            f"torch took {inputs[0]} for a constant; pass it as a tensor, or call with few values"
        )
    return (
        "the program takes another path, or needs another graph, for such inputs; rewrite the "
        "lines above so that they ask for no size, or accept a graph for each case"
    )
