"""Which node stands for which value: proxies of tensors and of symbolic numbers, per tracer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from symfx.errors import TracingError
from symfx.proxy_tensor.cache import state_of
from symfx.proxy_tensor.metadata import extract_val, paths_to_symbols, tensor_metadata
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.torch_bridge.modes import active_fake_mode

if TYPE_CHECKING:
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = [
    "ProxyTensor",
    "fetch_object_proxy",
    "fetch_sym_proxy",
    "get_proxy_slot",
    "has_proxy_slot",
    "set_meta",
    "set_proxy_slot",
    "track_tensor",
    "track_tensor_tree",
]


class ProxyTensor:
    """What stands for a tensor in a graph.

    Attributes:
        proxy: its proxy.
        constant: its value, where that is known while tracing.
    """

    __slots__ = ("constant", "proxy")

    def __init__(self, proxy: fx.Proxy, constant: torch.Tensor | None = None) -> None:
        self.proxy = proxy
        self.constant = constant

    def __repr__(self) -> str:
        return f"ProxyTensor({self.proxy}, constant={self.constant})"


_NOTHING: Any = object()


def node_of_tensor(
    tensor: torch.Tensor, tracer: PythonKeyTracer
) -> tuple[fx.Node, torch.Tensor | None] | None:
    """The node that stands for a tensor, with its constant value if known; None without one."""
    if type(tensor) is FakeTensor:
        state = getattr(tensor, "_symfx", None)
        if state is not None and state.tracer is tracer:
            return state.node, None
    found = tracer.tensor_tracker.get(tensor)
    return None if found is None else (found.proxy.node, found.constant)


def set_node_of_tensor(
    tensor: torch.Tensor, tracer: PythonKeyTracer, node: fx.Node, constant: torch.Tensor | None
) -> None:
    """A node stands for a tensor from now on."""
    if type(tensor) is FakeTensor and constant is None:
        state = state_of(tensor)
        # The slot on the tensor serves the first tracer; one inside another keeps a list.
        if state.tracer is None or state.tracer is tracer:
            state.tracer = tracer
            state.node = node
            return
    tracer.tensor_tracker[tensor] = ProxyTensor(fx.Proxy(node, tracer), constant)
    if type(tensor) is FakeTensor:
        state = state_of(tensor)
        if state.tracer is tracer:
            state.tracer = state.node = None


def set_proxy_slot(obj: Any, tracer: PythonKeyTracer, proxy: Any) -> None:
    """Say what stands for a value in a tracer's graph.

    A tensor's proxy replaces an earlier one (an operator wrote to the tensor); a symbolic
    number keeps its first.

    Args:
        obj: a tensor, or a torch.SymInt, SymFloat or SymBool.
        tracer: the tracer.
        proxy: for a tensor a `ProxyTensor`; for a number a proxy, or a callable that gives it.

    Raises:
        TypeError: `obj` is neither.
    """
    if isinstance(obj, torch.Tensor):
        if not isinstance(proxy, ProxyTensor):
            raise TypeError(f"a tensor's slot holds a ProxyTensor, not a {type(proxy).__name__}")
        set_node_of_tensor(obj, tracer, proxy.proxy.node, proxy.constant)
    elif isinstance(obj, SYMBOLIC_TYPES):
        if not tracer.symbols.known(obj):
            found = proxy if isinstance(proxy, fx.Proxy) else proxy()
            tracer.symbols.offer_number(obj, found.node)
    else:
        raise TypeError(f"a {type(obj).__name__} has no slot for a proxy")


def get_proxy_slot(
    obj: Any,
    tracer: PythonKeyTracer,
    default: Any = _NOTHING,
    transform: Callable[[Any], Any] = lambda found: found,
) -> Any:
    """What stands for a value in a tracer's graph.

    Args:
        obj: a tensor, or a torch.SymInt, SymFloat or SymBool.
        tracer: the tracer.
        default: what to return for a value that the graph does not know.
        transform: applied to what is found, not to the default.

    Returns:
        For a tensor a `ProxyTensor`, for a number its proxy (or value, for a literal).

    Raises:
        TracingError: the graph does not know the value, and there is no default.
    """
    found: Any = None
    if isinstance(obj, torch.Tensor):
        pair = node_of_tensor(obj, tracer)
        if pair is not None:
            found = ProxyTensor(fx.Proxy(pair[0], tracer), pair[1])
    elif isinstance(obj, SYMBOLIC_TYPES):
        try:
            node = tracer.symbols.node_of(obj)
        except TracingError:
            if default is _NOTHING:
                raise
            return default
        found = fx.Proxy(node, tracer) if isinstance(node, fx.Node) else node
    if found is None:
        if default is _NOTHING:
            raise TracingError(
                f"a {type(obj).__name__} reached the graph that the trace has not seen",
                fix="make it in the traced function, or pass it as an argument",
            )
        return default
    return transform(found)


def has_proxy_slot(obj: Any, tracer: PythonKeyTracer) -> bool:
    """Whether the graph knows a value.

    Args:
        obj: a tensor, or a torch.SymInt, SymFloat or SymBool.
        tracer: the tracer.
    """
    if isinstance(obj, torch.Tensor):
        return node_of_tensor(obj, tracer) is not None
    return isinstance(obj, SYMBOLIC_TYPES) and tracer.symbols.known(obj)


def is_tracked(value: Any) -> bool:
    """Whether a value is of a kind that a node can stand for."""
    return isinstance(value, (torch.Tensor, *SYMBOLIC_TYPES))


def fetch_sym_proxy(tracer: PythonKeyTracer) -> Callable[[Any], Any]:
    """A function from a symbolic number to what stands for it: its proxy, or its literal value.

    Args:
        tracer: the tracer whose graph is meant.
    """
    return lambda number: get_proxy_slot(number, tracer)


def fetch_object_proxy(tracer: PythonKeyTracer, t: Any) -> Any:
    """What stands for a value in the graph, or the value itself where nothing does.

    Args:
        tracer: the tracer whose graph is meant.
        t: a tensor or a symbolic number.
    """
    return get_proxy_slot(t, tracer, t)


def set_meta(proxy: fx.Proxy, val: Any) -> fx.Proxy:
    """Record a value's metadata on its node: ``val``, and ``tensor_meta`` for a tensor.

    Args:
        proxy: stands for the value.
        val: the value.

    Returns:
        The proxy.
    """
    set_node_meta(proxy.node, val, getattr(proxy.tracer, "cache", None))
    return proxy


def set_node_meta(node: fx.Node, val: Any, cache: Any) -> None:
    """`set_meta` for a node."""
    node.meta["val"] = extract_val(val, include_real=node.op == "placeholder")
    if isinstance(val, FakeTensor) or (
        isinstance(val, torch.Tensor) and val.layout is torch.strided
    ):
        node.meta["tensor_meta"] = tensor_metadata(val, cache)


def track_tensor(
    tensor: torch.Tensor,
    proxy: fx.Proxy,
    *,
    constant: torch.Tensor | None,
    tracer: PythonKeyTracer,
) -> None:
    """A proxy stands for a tensor, and the tensor's symbolic sizes can be asked of it.

    Args:
        tensor: the tensor.
        proxy: what stands for it.
        constant: its value where that is known while tracing.
        tracer: the tracer whose graph is meant.
    """
    set_node_of_tensor(tensor, tracer, proxy.node, constant)
    tracer.symbols.offer_tensor(proxy.node, tensor)


def track_tensor_tree(
    inner_res: Any, proxy_res: Any, *, constant: Any, tracer: PythonKeyTracer
) -> Any:
    """Proxies stand for the tensors and symbolic numbers in a value; metadata is recorded.

    Args:
        inner_res: the value: a tensor, a number, or lists, tuples and dictionaries of such.
        proxy_res: one proxy for the whole, or a structure of proxies of the same shape.
        constant: the value as known while tracing, of the same shape, or None.
        tracer: the tracer whose graph is meant.

    Returns:
        `inner_res`.
    """
    _bind_fresh_symbols(inner_res, proxy_res)
    _track(inner_res, proxy_res, constant, tracer)
    return inner_res


def _bind_fresh_symbols(value: Any, proxy: Any) -> None:
    """Record on the node which unbacked symbols come up in its value."""
    mode = active_fake_mode()
    pending = getattr(getattr(mode, "shape_env", None), "pending_fresh_unbacked_symbols", None)
    if not pending:
        return
    wanted = set(pending)
    pending.clear()
    found = paths_to_symbols(value, wanted)
    if wanted:
        names = ", ".join(sorted(map(str, wanted)))
        raise TracingError(
            f"an operator made the symbols {names} but they are not in what it returned",
            fix="have the operator's fake kernel call new_dynamic_size() or item() once for "
            "each size that it returns",
        )
    if found and isinstance(proxy, fx.Proxy):
        proxy.node.meta["unbacked_bindings"] = found


def _track(value: Any, proxy: Any, constant: Any, tracer: PythonKeyTracer) -> None:
    if isinstance(value, torch.Tensor):
        track_tensor(value, proxy, constant=constant, tracer=tracer)
        set_node_meta(proxy.node, value, tracer.cache)
    elif isinstance(value, SYMBOLIC_TYPES):
        set_node_meta(proxy.node, value, tracer.cache)
        tracer.symbols.offer_number(value, proxy.node)
    elif isinstance(value, (list, tuple)):
        if isinstance(proxy, fx.Proxy):
            set_node_meta(proxy.node, value, tracer.cache)
        for i, item in enumerate(value):
            _track(item, proxy[i], None if constant is None else constant[i], tracer)
    elif isinstance(value, dict):
        if isinstance(proxy, fx.Proxy):
            set_node_meta(proxy.node, value, tracer.cache)
        for key, item in value.items():
            _track(item, proxy[key], None if constant is None else constant[key], tracer)
    # Other values are part of the program as they are.
