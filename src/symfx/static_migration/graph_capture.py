"""The graph of a program, captured in the way that suits it.

A layer that the table of shape rules knows is one call. Any other program is traced by torch.fx,
with its branches decided. Some programs cannot be traced by torch.fx: they compute Python numbers
from data, or have keyword arguments that depend on each other. symfx's own tracer traces those,
operator by operator.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.proxy import TraceError

from symfx.errors import SymfxError, TracingError
from symfx.shape_rules.errors import IllTypedError, OperatorFailsError, PinnedSizeError
from symfx.shape_rules.table import rule, rule_of_module
from symfx.static_migration.branches import BranchTracer
from symfx.static_migration.conditions import read_annotation
from symfx.static_migration.decisions import Decisions
from symfx.static_migration.eager_runs import PROGRAM_ERRORS, raised_by_user
from symfx.static_migration.mends import Mend
from symfx.static_migration.nested_inputs import flat_types
from symfx.static_migration.programs import input_parameters, program_name

__all__ = ["program_graph"]

#: The exceptions of a program that torch.fx cannot trace.
_UNTRACEABLE = (TraceError, *PROGRAM_ERRORS)


def program_graph(
    module: torch.nn.Module,
    inputs: Mapping[str, Any],
    where: Sequence[str] = (),
    timeout: float = 10.0,
    *,
    allow_pinned: bool = False,
    decisions: Decisions | None = None,
    mend: Mend | None = None,
) -> GraphModule:
    """The graph of a program for these inputs.

    The graph of an ill-typed program ends at the operator that fails.

    Args:
        module: the program.
        inputs: the types of its inputs, by name, as `migrate` takes them.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each branch.
        allow_pinned: trace a program that needs the number of a size at an example of the size.
        decisions: the outcomes of the branches that the types of the inputs leave open.
        mend: a change of the program to trace it with.

    Raises:
        OpenBranchError: the types leave a branch open, and there are no decisions.
        PinnedSizeError: the program needs the number of a size that differs between inputs.
        IllTypedError: the program fails, and has no graph that shows where.
        SymfxError: the program cannot be traced; the message has the reason.
    """
    if isinstance(module, GraphModule):
        return module
    if rule_of_module(module) is not None:
        return _one_call(module, inputs)
    types = {name: read_annotation(given) for name, given in inputs.items()}
    left_out = {
        name: parameter.default
        for name, parameter in input_parameters(module).items()
        if name not in inputs and parameter.default is not inspect.Parameter.empty
    }
    first: Exception | None = None
    follow_tries = True
    ways = [False, True]
    while ways:
        all_factories = ways.pop(0)
        if decisions is not None:
            decisions.restart()
        tracer = BranchTracer(
            types,
            where,
            timeout,
            all_factories=all_factories,
            decisions=decisions,
            follow_tries=follow_tries,
            mend=mend,
        )
        try:
            graph = tracer.trace(module, left_out or None)
        except OperatorFailsError:
            follow_tries = False  # the program does not catch the error: the operator is to blame
            ways.insert(0, all_factories)
            continue
        except IllTypedError as error:
            graph = tracer.graph  # `migrate` explains the operator that fails
            _end_with_failure(graph, tracer, error.what, error)
        except PinnedSizeError as error:
            if not allow_pinned:
                raise
            first = first or error
            continue
        except SymfxError as error:
            if type(error) is not TracingError:
                raise
            first = first or error  # such as a source that cannot be read
            continue
        except _UNTRACEABLE as error:
            reason = _reason_of(error)
            handles = isinstance(error.__context__, OperatorFailsError)
            if reason is not None and handles and not tracer.refused_by_plan:
                follow_tries = False  # the handler only tells of the operator that is to blame
                ways.insert(0, all_factories)
                continue
            # A raise that no size decided may be torch.fx's fault: eager will tell.
            if reason is None or (tracer.last_condition is None and not handles):
                first = first or error
                continue
            graph = tracer.graph
            _end_with_failure(graph, tracer, reason, error)
        starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        named = {n for n, p in input_parameters(module).items() if p.kind not in starred}
        _without_left_out(graph, {*named, *flat_types(types)})
        return GraphModule(tracer.root, graph, type(module).__name__)
    assert first is not None
    if decisions is not None:
        decisions.restart()
    # Few programs need symfx's own tracer, and its import takes half a second.
    from symfx.static_migration.operator_tracing import trace_operators

    try:
        return trace_operators(module, types, where, timeout)
    except TracingError as second:
        raise TracingError(
            f"{program_name(module)} cannot be traced: torch.fx stops with "
            f"{_first_line(first)}; operator by operator: {second.what}",
            where=second.where,
            fix=second.fix,
        ) from second


def _without_left_out(graph: Graph, inputs: Collection[str]) -> None:
    """Remove the inputs that are not given and not used.

    torch.fx makes and asserts arguments that keep their defaults, and makes one of ``**options``.
    """
    left_out = {
        node
        for node in graph.nodes
        if node.op == "placeholder" and str(node.target).lstrip("*") not in inputs
    }
    for node in graph.nodes:
        if node.all_input_nodes and left_out.issuperset(node.all_input_nodes):
            left_out.add(node)
    for node in reversed(graph.nodes):
        if node in left_out and node.op != "output" and not node.users:
            graph.erase_node(node)


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


# -- programs that raise ---------------------------------------------------------------------------


def program_raises(message: str, *conditions: Any) -> None:
    """Stand in a graph for a ``raise`` of the program."""
    raise RuntimeError(message)


@rule(program_raises, takes_unknown=True)
def _raises(d: Any, message: str, *conditions: Any) -> None:
    raise IllTypedError(message)


def _reason_of(error: Exception) -> str | None:
    """The message of an exception that the program itself raises; ``None`` for other exceptions."""
    if raised_by_user(error):
        return f"the program raises {_first_line(error)}"
    return str(error) if "values to unpack" in str(error) else None


def _end_with_failure(
    graph: Graph, tracer: BranchTracer, reason: str, error: BaseException
) -> None:
    """End a graph with the statement of the program that raises."""
    condition: Node | None = tracer.last_condition
    made = graph.call_function(program_raises, (reason, *((condition,) if condition else ())))
    made.stack_trace = "".join(traceback.format_tb(error.__traceback__))
    graph.output(None)


# -- layers ----------------------------------------------------------------------------------------


def _one_call(module: torch.nn.Module, inputs: Mapping[str, Any]) -> GraphModule:
    root = torch.nn.Module()
    root.add_module("layer", module)
    graph = Graph()
    given: dict[str, Any] = {}
    for name, parameter in input_parameters(module).items():
        if name in inputs or parameter.default is inspect.Parameter.empty:
            given[name] = graph.placeholder(name)
    graph.output(graph.call_module("layer", (), given))
    return GraphModule(root, graph, type(module).__name__)
