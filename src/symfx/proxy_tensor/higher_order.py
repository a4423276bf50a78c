"""Higher-order operators: their functions become subgraphs of the graph."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._higher_order_ops.base_hop import BaseHOP
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import traceback as fx_traceback
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.metadata import extract_val
from symfx.proxy_tensor.mode import ProxyTorchDispatchMode, maybe_handle_decomp
from symfx.proxy_tensor.running_graphs import runnable
from symfx.symbolic_shapes import ShapeEnv
from symfx.torch_bridge.modes import active_fake_mode

__all__ = [
    "copied",
    "described",
    "first_slice",
    "of_any_iteration",
    "outputs",
    "record_higher_order",
    "require_same_kind",
]


Rule = Callable[..., Any]

_RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    """Make a function the rule of the higher-order operators of those names."""

    def register(function: Rule) -> Rule:
        for name in names:
            _RULES[name] = function
        return function

    return register


def record_higher_order(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Record a call of a higher-order operator, and run it on the values of the call.

    Args:
        mode: the mode that is tracing. It must not be active.
        op: the operator.
        args, kwargs: the operator's arguments.

    Raises:
        TracingError: a function among the arguments cannot become a subgraph.
    """
    out = maybe_handle_decomp(mode, op, args, kwargs)
    if out is not NotImplemented:
        return out
    if isinstance(op, BaseHOP):
        return _subgraph_first(mode, op, *args, **kwargs)
    rule = _RULES.get(op._name)
    if rule is not None:
        return rule(mode, op, *args, **kwargs)
    return _without_subgraphs(mode, op, *args, **kwargs)


# -- parts of rules --------------------------------------------------------------------------------


def _node(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
) -> fx.Proxy:
    """Record the call, with nodes in place of tensors, symbolic numbers and subgraphs."""
    tracer = mode.tracer
    proxies = pytree.tree_map(tracer.unwrap_proxy, (args, dict(kwargs or {})))
    return tracer.create_proxy("call_function", op, proxies[0], proxies[1], name=op._name)


def _finish(mode: ProxyTorchDispatchMode, out: Any, proxy: fx.Proxy) -> Any:
    if "val" not in proxy.node.meta and not isinstance(out, (torch.Tensor, list, tuple, dict)):
        proxy.node.meta["val"] = extract_val(out)
    return slots.track_tensor_tree(out, proxy, constant=None, tracer=mode.tracer)


def _install(
    mode: ProxyTorchDispatchMode, prefix: str, *graphs: tuple[str, fx.GraphModule]
) -> None:
    """Make graphs submodules of the traced module, all with the same number.

    Args:
        mode: the mode.
        prefix: the prefix whose first free number is taken.
        graphs: for each graph the prefix of its name, and the graph.
    """
    root = mode.tracer.root
    number = 0
    while hasattr(root, f"{prefix}{number}"):
        number += 1
    for name, graph in graphs:
        root.add_module(f"{name}{number}", graph)


def outputs(graph: fx.GraphModule) -> Any:
    """The values of a subgraph's results, from the metadata of its nodes."""
    (result,) = graph.graph.output_node().args
    return fx.node.map_arg(result, lambda n: n.meta["val"])


def _leaf_count(graph: fx.GraphModule) -> int:
    return len(pytree.tree_leaves(outputs(graph)))


def copied(value: Any) -> Any:
    """A copy of a tensor; any other value itself."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def first_slice(value: torch.Tensor) -> torch.Tensor:
    """A copy of the first element along dimension 0, which stands for each of them."""
    return torch.select_copy(value, 0, 0)


def _same_kind(a: Any, b: Any) -> bool:
    """Whether two values of a loop agree in sizes, dtype and device."""
    if not isinstance(a, torch.Tensor) or not isinstance(b, torch.Tensor):
        return not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor)
    return (
        a.dtype is b.dtype
        and a.device == b.device
        and a.dim() == b.dim()
        and all(x is y or bool(x == y) for x, y in zip(a.shape, b.shape, strict=True))
    )


def require_same_kind(op: str, role: str, expected: Sequence[Any], actual: Sequence[Any]) -> None:
    """Refuse a loop whose step does not return values of the kinds that it takes.

    Args:
        op: the operator.
        role: a name of the values, in the plural.
        expected: what the step takes.
        actual: what it returns in their places.

    Raises:
        TracingError: two of them differ in size, dtype or device, or their numbers differ.
    """
    if len(expected) != len(actual):
        raise TracingError(
            f"{op}: the function takes {len(expected)} {role}, but returns {len(actual)}",
            fix=f"return as many {role} as the function takes",
        )
    for i, (a, b) in enumerate(zip(expected, actual, strict=True)):
        if not _same_kind(a, b):
            raise TracingError(
                f"{op}: Expected {role} to keep the same metadata, but number {i} goes in as "
                f"{described(a)} and comes out as {described(b)}",
                fix="return each value with the size, dtype and device of the value that came in",
            )


def described(value: Any) -> str:
    """A value of a loop in words."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {tuple(value.shape)} on {value.device}"
    return type(value).__name__


# -- the operators -------------------------------------------------------------------------------


def _without_subgraphs(
    mode: ProxyTorchDispatchMode, op: HigherOrderOperator, *args: Any, **kw: Any
) -> Any:
    """Record an operator without a rule; a module among its arguments is kept whole."""
    for value in pytree.tree_leaves((args, kw)):
        if isinstance(value, torch.nn.Module):
            if not any(value is m for m in mode.tracer.root.modules()):
                _install(mode, "subgraph_", ("subgraph_", value))  # type: ignore[arg-type]
        elif callable(value) and not isinstance(
            value, (OpOverload, HigherOrderOperator, torch.Tensor, type)
        ):
            raise TracingError(
                f"symfx does not know the arguments with which {op._name} calls its function "
                f"{getattr(value, '__qualname__', value)}",
                fix="pass it as a traced torch.fx.GraphModule",
            )
    out = op(*args, **kw)
    return _finish(mode, out, _node(mode, op, args, kw))


@_rule("cond")
def _cond(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    pred: Any,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: Sequence[Any] = (),
) -> Any:
    true_graph = mode.trace_subgraph(true_fn, *operands)
    false_graph = mode.trace_subgraph(false_fn, *operands)
    counts = _leaf_count(true_graph), _leaf_count(false_graph)
    if counts[0] != counts[1]:
        raise TracingError(
            f"cond: the true branch returns {counts[0]} values, the false branch {counts[1]}",
            fix="return the same number of values from both branches",
        )
    _install(mode, "true_graph_", ("true_graph_", true_graph), ("false_graph_", false_graph))
    proxy = _node(mode, op, (pred, true_graph, false_graph, operands))
    out = op(pred, runnable(true_graph), runnable(false_graph), operands)
    return _finish(mode, out, proxy)


@_rule("while_loop", "while_loop_stack_output")
def _while_loop(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carried_inputs: Sequence[Any],
    additional_inputs: Sequence[Any] = (),
    **kwargs: Any,
) -> Any:
    # Carried values differ from one iteration to the next, so the graphs must not depend on
    # the numbers of the first iteration.
    fake_mode = _numbers_can_vary(carried_inputs)
    arguments = (*carried_inputs, *additional_inputs)
    if fake_mode is not None and fake_mode is not active_fake_mode():
        arguments = pytree.tree_map_only(torch.Tensor, fake_mode.from_tensor, arguments)
    with fake_mode or contextlib.nullcontext():
        carried = tuple(of_any_iteration(v, fake_mode) for v in arguments[: len(carried_inputs)])
        others = arguments[len(carried_inputs) :]
        graphs = [
            mode.trace_subgraph(f, *map(copied, carried), *others) for f in (cond_fn, body_fn)
        ]
    prefix = "while_loop_cond_graph_"
    _install(mode, prefix, (prefix, graphs[0]), ("while_loop_body_graph_", graphs[1]))
    proxy = _node(mode, op, (*graphs, carried_inputs, additional_inputs), kwargs)
    first = carried_inputs if active_fake_mode() is None else carried
    return _finish(mode, op(*map(runnable, graphs), first, additional_inputs, **kwargs), proxy)


def _is_count(value: Any) -> bool:
    return isinstance(value, (int, torch.SymInt)) and type(value) is not bool


def _numbers_can_vary(carried: Sequence[Any]) -> FakeTensorMode | None:
    """The active fake mode, or a new one where a trace on real tensors carries a number."""
    mode = active_fake_mode()
    if mode is None and any(map(_is_count, carried)):
        mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)  # type: ignore[arg-type]
    return mode


def of_any_iteration(value: Any, fake_mode: FakeTensorMode | None) -> Any:
    """A value that stands for a carried value in every iteration."""
    if isinstance(value, torch.Tensor):
        value = value.clone()
        if getattr(value, "constant", None) is not None:
            value.constant = None
        return value
    env = None if fake_mode is None else fake_mode.shape_env
    if not _is_count(value) or env is None:
        return value
    # The symbol stands for an input of the subgraph alone, so no node has to bind it.
    with env.ignore_fresh_unbacked_symbols():
        return env.create_unbacked_symint()


@_rule("scan")
def _scan(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    combine_fn: Callable[..., Any],
    init: Sequence[Any],
    xs: Sequence[torch.Tensor],
    additional_inputs: Sequence[Any] = (),
) -> Any:
    inits = [*map(copied, init)]
    arguments = [*inits, *map(first_slice, xs), *map(copied, additional_inputs)]
    graph = mode.trace_subgraph(combine_fn, *arguments)
    results = pytree.tree_leaves(outputs(graph))
    require_same_kind("scan", "carried values", inits, results[: len(init)])
    _install(mode, "scan_combine_graph_", ("scan_combine_graph_", graph))
    proxy = _node(mode, op, (graph, init, xs, additional_inputs))
    return _finish(mode, op(graph, init, xs, additional_inputs), proxy)


@_rule("associative_scan")
def _associative_scan(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    combine_fn: Callable[..., Any],
    xs: Sequence[torch.Tensor],
    additional_inputs: Sequence[Any] = (),
) -> Any:
    slices = [*map(first_slice, xs)]
    arguments = [*slices, *map(first_slice, xs), *map(copied, additional_inputs)]
    graph = mode.trace_subgraph(combine_fn, *arguments)
    results = pytree.tree_leaves(outputs(graph))
    require_same_kind("associative_scan", "elements", slices, results)
    prefix = "associative_scan_combine_graph_"
    _install(mode, prefix, (prefix, graph))
    proxy = _node(mode, op, (graph, xs, additional_inputs))
    return _finish(mode, op(graph, xs, additional_inputs), proxy)


@_rule("map_impl")
def _map(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    f: Callable[..., Any],
    xs: Sequence[torch.Tensor],
    pos_args: Sequence[Any] = (),
    **kwargs: Any,
) -> Any:
    # From torch 2.14 on the operator has an option for the arguments that `f` writes to.
    graph = mode.trace_subgraph(f, *map(first_slice, xs), *pos_args)
    _install(mode, "body_graph_", ("body_graph_", graph))
    out = op(graph, xs, pos_args, **kwargs)
    return _finish(mode, out, _node(mode, op, (graph, list(xs), list(pos_args)), kwargs))


def _subgraph_first(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    subgraph: Callable[..., Any],
    *operands: Any,
    **kwargs: Any,
) -> Any:
    """Record an operator that calls its function on its operands."""
    graph = mode.trace_subgraph(subgraph, *operands)
    _install(mode, "subgraph", ("subgraph", graph))
    proxy = _node(mode, op, (graph, *operands), kwargs)
    return _finish(mode, op(graph, *operands, **kwargs), proxy)


@_rule("invoke_subgraph")
def _invoke_subgraph(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    subgraph: Callable[..., Any],
    identifier: str | None,
    *operands: Any,
) -> Any:
    # Calls with one identifier share a graph, because the program marked the region as repeated.
    known = mode.tracer.subgraphs.get(identifier) if identifier is not None else None
    if known is None:
        known = mode.trace_subgraph(subgraph, *operands)
        _install(mode, "repeated_subgraph", ("repeated_subgraph", known))
        if identifier is not None:
            mode.tracer.subgraphs[identifier] = known
    proxy = _node(mode, op, (known, identifier, *operands))
    return _finish(mode, op(known, identifier, *operands), proxy)


@_rule("hints_wrapper")
def _hints_wrapper(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    body_fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    hints: Mapping[str, Any],
) -> Any:
    operands = tuple(pytree.tree_leaves(args))
    body = functools.partial(body_fn, **kwargs) if kwargs else body_fn
    graph = mode.trace_subgraph(body, *operands)
    prefix = "hints_wrapper_body_graph_"
    _install(mode, prefix, (prefix, graph))
    proxy = _node(mode, op, (graph, operands, {}), {"hints": hints})
    return _finish(mode, op(graph, operands, {}, hints), proxy)


@_rule("strict_mode")
def _strict_mode(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    f: Callable[..., Any],
    operands: Sequence[Any],
) -> Any:
    graph = mode.trace_subgraph(f, *operands)
    _install(mode, "strict_graph_", ("strict_graph_", graph))
    return _finish(mode, op(graph, operands), _node(mode, op, (graph, operands)))


@_rule("tag_activation_checkpoint")
def _checkpoint(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    body: fx.GraphModule,
    *args: Any,
    **kwargs: Any,
) -> Any:
    out = op(body, *args, **kwargs)
    with fx_traceback.preserve_node_meta():
        graph = mode.trace_subgraph(body, *pytree.tree_leaves(args))
    if "_checkpoint_context_fn" in body.meta:
        graph.meta["_checkpoint_context_fn"] = body.meta["_checkpoint_context_fn"]
    _install(mode, "wrap_body", ("wrap_body", graph))
    return _finish(mode, out, _node(mode, op, (graph, *args), kwargs))


@_rule("local_map_hop")
def _local_map(
    mode: ProxyTorchDispatchMode, op: HigherOrderOperator, body: Any, *args: Any, **kwargs: Any
) -> Any:
    graph = mode.trace_subgraph(body, *args)
    _install(mode, "subgraph", ("subgraph", graph))
    return _finish(mode, op(body, *args, **kwargs), _node(mode, op, (graph, *args), kwargs))


# -- attention with a score function ---------------------------------------------------------------


@contextlib.contextmanager
def _tensors_index_tensors() -> Iterator[None]:
    """Inside, a scalar tensor indexes a tensor as it does under vmap; score functions do that."""
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex

    with TransformGetItemToIndex():
        yield


def _score_arguments(query: torch.Tensor, requires_grad: bool) -> tuple[list[Any], list[Any]]:
    """The arguments of score and mask functions: a score, and four positions."""
    score = query.new_zeros((), requires_grad=requires_grad)
    return [score], [query.new_zeros((), dtype=torch.int) for _ in range(4)]


@_rule("flex_attention")
def _flex_attention(
    mode: ProxyTorchDispatchMode,
    op: HigherOrderOperator,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    score_mod: Callable[..., Any],
    block_mask: tuple[Any, ...],
    scale: float,
    kernel_options: dict[str, Any],
    score_mod_other_buffers: tuple[Any, ...] = (),
    mask_mod_other_buffers: tuple[Any, ...] = (),
) -> Any:
    others = (scale, kernel_options, score_mod_other_buffers, mask_mod_other_buffers)
    out = op(query, key, value, score_mod, block_mask, *others)
    score, positions = _score_arguments(query, query.requires_grad)
    with _tensors_index_tensors():
        scores = mode.trace_subgraph(score_mod, *score, *positions, *score_mod_other_buffers)
        mask = mode.trace_subgraph(block_mask[-1], *positions, *mask_mod_other_buffers)
    _install(mode, "sdpa_score", ("sdpa_score", scores))
    _install(mode, "sdpa_mask", ("sdpa_mask", mask))
    blocks = (*block_mask[:-1], mask)
    return _finish(mode, out, _node(mode, op, (query, key, value, scores, blocks, *others)))


@_rule("flex_attention_backward")
def _flex_attention_backward(
    mode: ProxyTorchDispatchMode, op: HigherOrderOperator, *args: Any
) -> Any:
    # query, key, value, out, logsumexp, grad_out, grad_logsumexp, the graphs, the block mask, ...
    tensors, (forward, joint, block_mask), others = args[:7], args[7:10], args[10:]
    query, key = tensors[:2]
    out = op(*args)
    score_buffers = others[2] if len(others) > 2 else ()
    mask_buffers = others[3] if len(others) > 3 else ()
    score, positions = _score_arguments(query, query.requires_grad or key.requires_grad)
    gradient = query.new_zeros(())
    with _tensors_index_tensors():
        # Both graphs are None for the identity as score function.
        if forward is not None:
            forward = mode.trace_subgraph(forward, *score, *positions, *score_buffers)
        if joint is not None:
            joint = mode.trace_subgraph(joint, *score, *positions, gradient, *score_buffers)
        mask = mode.trace_subgraph(block_mask[-1], *positions, *mask_buffers)
    for name, graph in (("fw_graph", forward), ("joint_graph", joint), ("mask_graph", mask)):
        if graph is not None:
            _install(mode, name, (name, graph))
    blocks = (*block_mask[:-1], mask)
    return _finish(mode, out, _node(mode, op, (*tensors, forward, joint, blocks, *others)))
