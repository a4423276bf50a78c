"""Capturing a model as a graph that returns the model's results before any rewrite.

A graph that differs lacks an effect of the model's code that tracing does not record. The module
whose code has that effect is found, and kept whole.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx, nn

from symfx.errors import SymfxError
from symfx.optimization.checking import CapturedPart, Trials, agree
from symfx.optimization.graphs.aliases import keeps_no_state
from symfx.optimization.graphs.arguments import Arguments, bind_arguments
from symfx.optimization.graphs.assumptions import has_assumptions, runs_again
from symfx.optimization.graphs.capture import capture, copy_of
from symfx.optimization.graphs.effects import is_plain
from symfx.optimization.graphs.whole_models import is_whole
from symfx.optimization.parts import has_parts
from symfx.optimization.recorded_calls import RecordedCall, record_calls
from symfx.optimization.report import Report

__all__ = ["capture_exactly", "capture_parts"]

_DIFFERS = "a graph of its operators does not return its results"


def capture_exactly(
    model: nn.Module,
    captured: fx.GraphModule,
    trials: Trials,
    tracer: type[fx.Tracer],
    arguments: Arguments,
    report: Report,
) -> fx.GraphModule:
    """A graph of a model that returns the model's results, before any rewrite.

    Args:
        model: the model.
        captured: the graph that `capture` made of a copy.
        trials: runs of the model.
        tracer: see `capture`.
        arguments: see `capture`.
        report: the report of ``captured``; it is replaced by that of the returned graph.

    Returns:
        ``captured``, or a graph in which more modules are kept whole.
    """
    closed: dict[str, str] = {}
    while not is_whole(captured):
        runnable = captured if keeps_no_state(captured) else copy_of(captured)
        if trials.are_reproduced_by(runnable):
            break
        path = _culprit(model, trials, tracer, closed) or ""
        closed[path] = _DIFFERS
        report.left_alone.clear()
        captured = capture(copy_of(model), tracer, report, arguments, closed)
    return captured


def capture_parts(
    model: nn.Module,
    copied: nn.Module,
    trials: Trials,
    tracer: type[fx.Tracer],
    arguments: Arguments,
    report: Report,
    *,
    exactly: bool,
) -> fx.GraphModule:
    """A graph of a model in which modules are kept whole that call other modules.

    It is a call of the model, if fewer modules are kept whole in a graph for calls like the
    example's, with the model's own forward for other inputs. That graph is the part of the trials.

    Args:
        model: the model.
        copied: a copy of it, whose modules and tensors the graph shares.
        trials: runs of the model.
        tracer: see `capture`.
        arguments: see `capture`.
        report: gets the modules that are kept whole.
        exactly: the graph is compared with the model.
    """
    part, found = _as_one_part(copied, trials, tracer, arguments)
    if part is None or found.left_alone:
        captured = capture(copied, tracer, report, arguments)
        if exactly:
            captured = capture_exactly(model, captured, trials, tracer, arguments, report)
        fewer = len(found.left_alone) < len(report.left_alone)
        if part is None or not fewer or is_whole(captured) or not has_parts(captured):
            return captured
    trials.part = CapturedPart(part.graph, found)
    trials.changes_nothing = trials.left_unchanged and keeps_no_state(part)
    report.left_alone.clear()
    why = "its code asks for sizes: a graph runs for inputs with the answers of the example"
    return capture(copied, report=report, closed={"": why})


def _as_one_part(
    copied: nn.Module, trials: Trials, tracer: type[fx.Tracer], arguments: Arguments
) -> tuple[fx.GraphModule | None, Report]:
    """A graph for calls like the example's, and the modules that it keeps whole.

    None if there is no such graph, or if it returns other results than the model.
    """
    found = Report()
    part = capture(copied, tracer, found, arguments, assumes=True)
    if is_whole(part) or not has_assumptions(part) or not runs_again(part):
        return None, found
    runnable = part if keeps_no_state(part) else copy_of(part)
    return part if trials.are_reproduced_by(runnable, everywhere=True) else None, found


def _culprit(
    model: nn.Module, trials: Trials, tracer: type[fx.Tracer], closed: Mapping[str, str]
) -> str | None:
    """The innermost module whose own graph does not return its results; None if it is the model."""
    calls = record_calls(copy_of(model), trials.args, trials.kwargs)
    for path in sorted(calls, key=lambda path: -path.count(".")):
        module = model.get_submodule(path)
        inner = {
            name.removeprefix(path + "."): why
            for name, why in closed.items()
            if name.startswith(path + ".")
        }
        is_closed = any(path == name or path.startswith(name + ".") for name in closed)
        own = not type(module).__module__.startswith("torch.nn.modules.")
        candidate = own and not is_closed and is_plain(module)
        if candidate and _differs(module, calls[path], tracer, inner):
            return path
    return None


def _differs(
    module: nn.Module, call: RecordedCall, tracer: type[fx.Tracer], closed: Mapping[str, str]
) -> bool:
    """Whether a graph of the module, run on the recorded arguments, returns other results."""
    try:
        arguments = bind_arguments(module, call.args, call.kwargs)
        graph = capture(copy_of(module), tracer, arguments=arguments, closed=closed)
    except SymfxError:
        return False
    if is_whole(graph):
        return False
    with call.same_draws():
        return not agree(graph, call.args, call.kwargs, call.result)
