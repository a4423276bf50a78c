"""torch.cond in a trace: its branches become graphs, and what they close over becomes operands.

torch compiles the branches with Dynamo before it records them. Dynamo takes no part of a trace that
runs: it knows neither its symbols nor symfx's forms of Python's functions. Here the trace itself
records the branches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx
from torch._higher_order_ops import utils as higher_order_utils
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.proxy_tensor.rewritten_functions import in_trace
from symfx.proxy_tensor.running_graphs import interpreted
from symfx.proxy_tensor.tracing import TraceRun, current_trace
from symfx.torch_bridge.modes import active_fake_mode, without_proxy_mode
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["recording_branches"]

_torchs_compile: Any = higher_order_utils._hop_compile_and_call
_COMPILE = ProcessWide(higher_order_utils, "_hop_compile_and_call")


def _compile(function: Any, args: Any, kwargs: Any = None) -> Any:
    trace = current_trace()
    name = getattr(function, "__qualname__", "")
    if (
        name.startswith("cond.")
        and in_trace()
        and trace is not None
        and trace.mode.tracing_mode == "symbolic"
        and not trace.mode.pre_dispatch
        and not kwargs
    ):
        return _cond(trace, *args)
    return _torchs_compile(function, args, kwargs)


@contextlib.contextmanager
def recording_branches() -> Iterator[None]:
    """A context in which the trace records the branches of torch.cond itself."""
    with _COMPILE.set_to(_compile):
        yield


def _cond(
    trace: TraceRun,
    pred: Any,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: Sequence[Any],
) -> Any:
    values, spec = pytree.tree_flatten(tuple(operands))
    with without_proxy_mode():
        branches = [_Branch(trace, function, values, spec) for function in (true_fn, false_fn)]
    if branches[0].result != branches[1].result:
        raise TracingError(
            "cond: the true branch returns another structure of values than the false branch",
            fix="return the same lists, tuples and dicts of values from both branches",
        )
    # Equal symbols are one operand: an operand that the branches share is one value.
    extra: dict[Any, Any] = {}
    for branch in branches:
        for value in branch.lifted:
            extra.setdefault(_key(value), value)
    places = {key: len(values) + i for i, key in enumerate(extra)}
    calls = [branch.with_operands(len(values), places) for branch in branches]
    found = torch.ops.higher_order.cond(pred, *calls, (*values, *extra.values()))
    return pytree.tree_unflatten(list(found), branches[0].result)


def _key(value: Any) -> Any:
    return value.node.term if isinstance(value, torch.SymInt) else id(value)


class _Branch:
    """A branch as a graph.

    Attributes:
        lifted: the values of the trace that the branch closes over.
        result: the structure of its result.
    """

    def __init__(
        self,
        trace: TraceRun,
        function: Callable[..., Any],
        values: Sequence[Any],
        spec: pytree.TreeSpec,
    ) -> None:
        specs = []

        def flat(*leaves: Any) -> tuple[Any, ...]:
            found, result = pytree.tree_flatten(function(*pytree.tree_unflatten(leaves, spec)))
            specs.append(result)
            return tuple(found)

        inner = trace.mode.for_subgraph()
        inner.tracer.lift_from(trace.tracer)
        names = [f"operand_{i}" for i in range(len(values))]
        run = TraceRun(flat, values, names, inner, active_fake_mode(), inside=True)
        self._graph: fx.GraphModule = run.run()
        self.lifted: list[Any] = inner.tracer.lifted
        (self.result,) = specs

    def with_operands(self, count: int, places: dict[Any, int]) -> Callable[..., Any]:
        """The branch as a function of the operands of both branches.

        Args:
            count: how many operands the branch takes itself.
            places: for each lifted value the number of its operand.
        """
        run = interpreted(self._graph)
        further = [places[_key(value)] for value in self.lifted]

        def branch(*operands: Any) -> Any:
            return run(*operands[:count], *[operands[place] for place in further])

        return branch
