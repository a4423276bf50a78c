"""torch.cond, while_loop and scan in a trace: their functions become graphs.

What the functions close over becomes operands. torch compiles the functions with Dynamo before it
records them. Dynamo takes no part of a trace that runs: it knows neither its symbols nor symfx's
forms of Python's functions. Here the trace itself records the functions.
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
from symfx.proxy_tensor.higher_order import (
    copied,
    described,
    first_slice,
    of_any_iteration,
    outputs,
    require_same_kind,
)
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
    name, _, _ = getattr(function, "__qualname__", "").partition(".")
    if (
        name in _RECORDED
        and in_trace()
        and trace is not None
        and trace.mode.tracing_mode == "symbolic"
        and not trace.mode.pre_dispatch
        and not kwargs
    ):
        return _RECORDED[name](trace, *args)
    return _torchs_compile(function, args, kwargs)


@contextlib.contextmanager
def recording_branches() -> Iterator[None]:
    """A context in which the trace itself records the functions of cond, while_loop and scan."""
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
    calls, extra = _with_lifted(branches, len(values))
    found = torch.ops.higher_order.cond(pred, *calls, (*values, *extra))
    return pytree.tree_unflatten(list(found), branches[0].result)


def _while_loop(
    trace: TraceRun,
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carried: Sequence[Any],
    additional: Sequence[Any],
) -> Any:
    spec = pytree.tree_structure(tuple(carried))
    with without_proxy_mode():
        later = [of_any_iteration(value, active_fake_mode()) for value in carried]
        branches = [_Branch(trace, function, later, spec) for function in (cond_fn, body_fn)]
    goes_on, body = branches
    if not (goes_on.result.is_leaf() and _is_truth(goes_on.values[0])):
        raise TracingError(
            f"while_loop: the condition returns {', '.join(map(described, goes_on.values))}",
            fix="return one bool, or one boolean tensor without dimensions",
        )
    require_same_kind("while_loop", "carried values", later, body.values)
    (condition, step), extra = _with_lifted(branches, len(carried))
    found = torch.ops.higher_order.while_loop(
        lambda *operands: condition(*operands)[0], step, tuple(carried), (*additional, *extra)
    )
    return pytree.tree_unflatten(list(found), body.result)


def _scan(
    trace: TraceRun,
    combine_fn: Callable[..., Any],
    init: Sequence[torch.Tensor],
    xs: Sequence[torch.Tensor],
) -> Any:
    spec = pytree.tree_structure((*init, *xs))
    with without_proxy_mode():
        step = [*map(copied, init), *map(first_slice, xs)]
        branch = _Branch(trace, combine_fn, step, spec)
    (call,), extra = _with_lifted([branch], len(step))
    found = torch.ops.higher_order.scan(call, list(init), list(xs), tuple(extra))
    return pytree.tree_unflatten(list(found), branch.result)


def _is_truth(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.dtype is torch.bool and value.dim() == 0
    return isinstance(value, (bool, torch.SymBool))


_RECORDED: dict[str, Callable[..., Any]] = {
    "cond": _cond,
    "while_loop": _while_loop,
    "scan": _scan,
}
"""For a function of torch, its form in a trace, which gets what torch would compile and call."""


def _with_lifted(
    branches: Sequence[_Branch], count: int
) -> tuple[list[Callable[..., Any]], list[Any]]:
    """Functions of the operands and of what all branches close over, and these values."""
    # Equal symbols are one operand: an operand that the branches share is one value.
    extra: dict[Any, Any] = {}
    for branch in branches:
        for value in branch.lifted:
            extra.setdefault(_key(value), value)
    places = {key: count + i for i, key in enumerate(extra)}
    return [branch.with_operands(count, places) for branch in branches], [*extra.values()]


def _key(value: Any) -> Any:
    return value.node.term if isinstance(value, torch.SymInt) else id(value)


class _Branch:
    """A branch, or the body of a loop, as a graph.

    Attributes:
        lifted: the values of the trace that the branch closes over.
        values: the values of its result.
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
        self.values: list[Any] = list(outputs(self._graph))
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
