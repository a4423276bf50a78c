"""`symfx.load`: a trace from a file that `Trace.save` wrote."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from symfx.errors import SpecError, describe
from symfx.tracing.traced_model import AbsentModel
from symfx.tracing.traces import Trace

__all__ = ["load"]


def load(
    path: str | Path,
    *,
    model: Callable[..., Any] | None = None,
    libraries: Collection[str] = (),
) -> Trace:
    """Read a trace that `Trace.save` wrote. Nothing in the file is run.

    The trace checks inputs, runs and prints as the one that was saved. With its model, it verifies
    itself again.

    Args:
        path: the file.
        model: the model that was traced. The graph then uses the model's own parameters and
            buffers instead of those of the file, which need not be there (``weights=False``).
        libraries: the names of libraries of operators beside torch's own, such as
            ``["torchvision"]``, whose operators the graph may call. They must be imported.

    Raises:
        TraceFileError: the file is no saved trace; it was written by a newer symfx; it names an
            operator or a class that this process does not have; or the model is another one.

    Example:
        >>> import symfx, tempfile, torch
        >>> linear, x = torch.nn.Linear(8, 4), torch.randn(3, 8)
        >>> t = symfx.trace(linear, x, dynamic={"input": ("n", None)})
        >>> path = tempfile.mkdtemp() + "/linear.symfx"
        >>> t.save(path)
        >>> again = symfx.load(path)
        >>> again(torch.randn(17, 8)).shape, str(again) == str(t)
        (torch.Size([17, 4]), True)
        >>> bool(symfx.load(path, model=linear).verify())
        True
    """
    if model is not None and not callable(model):
        raise SpecError(
            f"model is {describe(model)}", where="load(model=...)", fix="give the traced model"
        )
    from symfx.handover.trace_files import read_trace  # costs time, and few programs load traces

    arguments, verification = read_trace(Path(path), libraries, model)
    if model is None:
        arguments["model"] = AbsentModel(arguments["model"])
    trace = Trace(**arguments)
    trace.verification = verification
    return trace
