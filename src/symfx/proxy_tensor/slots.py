"""Slots: the proxies of tensors, symbolic numbers and objects in a tracer's graph."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx
from torch._library.fake_class_registry import FakeScriptObject
from torch._library.opaque_object import should_hoist
from torch._subclasses.fake_tensor import FakeTensor, get_plain_tensors
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._thunk import Thunk

from symfx.errors import TracingError
from symfx.fake_operators.cache import OperationCache, cache_of
from symfx.fake_operators.descriptions import state_of
from symfx.fake_operators.results import tensors_in
from symfx.proxy_tensor.metadata import extract_val, tensor_metadata
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES, SymbolNodes
from symfx.symbolic_shapes import compute_unbacked_bindings
from symfx.torch_bridge.identity import BackwardState
from symfx.torch_bridge.modes import active_fake_mode, active_proxy_mode
from symfx.torch_bridge.releases import is_constant_type, is_custom_object

__all__ = [
    "ProxyTensor",
    "TracerWithSlots",
    "attach_result",
    "cache_for",
    "fetch_object_proxy",
    "fetch_sym_proxy",
    "get_proxy_slot",
    "has_proxy_slot",
    "keep_first_proxies",
    "proxies_of",
    "set_meta",
    "set_proxy_slot",
    "track_tensor",
    "track_tensor_tree",
]


class TracerWithSlots(fx.Tracer):
    """A torch.fx tracer with the tables that hold slots.

    Attributes:
        tensors: the `ProxyTensor` of each tensor that does not keep its node itself.
        symbols: the nodes of symbolic numbers.
        script_object_tracker: the proxies of TorchScript objects, by the wrapped object, which
            Python sees through several wrappers.
        opaque_tracker: the proxies of other objects that operators take and return.
        tensors_seen: each tensor that got a node, where modules are recorded; else None.
        cache: the operation cache of the trace, or None.
    """

    tensors: Any
    symbols: SymbolNodes
    script_object_tracker: Any
    opaque_tracker: Any
    tensors_seen: list[tuple[weakref.ref[torch.Tensor], fx.Node]] | None
    cache: OperationCache | None


class ProxyTensor:
    """The slot of a tensor.

    Attributes:
        proxy: the tensor's proxy.
        constant: the tensor's value, where that is known while tracing; else None.
    """

    __slots__ = ("constant", "proxy")

    def __init__(self, proxy: fx.Proxy, constant: torch.Tensor | None = None) -> None:
        self.proxy = proxy
        self.constant = constant

    def __repr__(self) -> str:
        return f"ProxyTensor({self.proxy}, constant={self.constant})"


_NOTHING: Any = object()


def node_of_tensor(
    tensor: torch.Tensor, tracer: TracerWithSlots
) -> tuple[fx.Node, torch.Tensor | None] | None:
    """The node of a tensor, and the tensor's value if known; None for a tensor without node."""
    if type(tensor) is FakeTensor:
        state = getattr(tensor, "_symfx", None)
        if state is not None and state.tracer is tracer:
            return state.node, None
    found = tracer.tensors.get(tensor)
    return None if found is None else (found.proxy.node, found.constant)


def set_node_of_tensor(
    tensor: torch.Tensor, tracer: TracerWithSlots, node: fx.Node, constant: torch.Tensor | None
) -> None:
    """Make a node the node of a tensor."""
    if _frozen.tensors and node_of_tensor(tensor, tracer) is not None:
        return
    if tracer.tensors_seen is not None:
        tracer.tensors_seen.append((weakref.ref(tensor), node))
    if type(tensor) is FakeTensor and constant is None:
        state = state_of(tensor)
        # The slot on the tensor serves the first tracer; the tracer of a subgraph has a table.
        if state.tracer is None or state.tracer is tracer:
            state.tracer = tracer
            state.node = node
            return
    tracer.tensors[tensor] = ProxyTensor(fx.Proxy(node, tracer), constant)
    if type(tensor) is FakeTensor:
        state = state_of(tensor)
        if state.tracer is tracer:
            state.tracer = state.node = None


class TensorTracker:
    """The slots of a tracer's tensors, as a mapping.

    Args:
        tracer: the tracer.
    """

    def __init__(self, tracer: TracerWithSlots) -> None:
        self._tracer = tracer

    def get(self, tensor: torch.Tensor, default: Any = None) -> Any:
        """The slot of a tensor; the default for a tensor that has none."""
        return get_proxy_slot(tensor, self._tracer, default)

    def __getitem__(self, tensor: torch.Tensor) -> ProxyTensor:
        found: ProxyTensor | None = self.get(tensor)
        if found is None:
            raise KeyError(tensor)
        return found

    def __setitem__(self, tensor: torch.Tensor, proxy: ProxyTensor) -> None:
        set_proxy_slot(tensor, self._tracer, proxy)

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return has_proxy_slot(tensor, self._tracer)


class _Frozen(threading.local):
    """Whether tensors keep their first node, per thread."""

    tensors = False


_frozen = _Frozen()


@contextlib.contextmanager
def keep_first_proxies() -> Iterator[None]:
    """A context manager: a tensor that an operator writes to keeps its node.

    Outside, the operator's node becomes the tensor's, which chains operators that write to one
    tensor. A compiler that cuts the graph in two needs the first of those before the cut.
    """
    before = _frozen.tensors
    _frozen.tensors = True
    try:
        yield
    finally:
        _frozen.tensors = before


def set_proxy_slot(obj: Any, tracer: TracerWithSlots, proxy: Any) -> None:
    """Set the slot of a value in a tracer's graph.

    A tensor's new slot replaces an earlier one (an operator wrote to the tensor). A symbolic
    number keeps its first slot, and equal numbers share it.

    Args:
        obj: a tensor; a torch.SymInt, SymFloat or SymBool; or an object of TorchScript.
        tracer: the tracer.
        proxy: for a tensor a `ProxyTensor`; for a number a proxy, or an object whose
            ``force()`` returns one (see `thunkify`); for an object a proxy.

    Raises:
        TypeError: `obj` is none of these, or `proxy` is of the wrong type for it.

    Example:
        >>> tracer = PythonKeyTracer(); x = torch.ones(3)
        >>> set_proxy_slot(x, tracer, ProxyTensor(fx.Proxy(tracer.graph.placeholder("x"), tracer)))
        >>> has_proxy_slot(x, tracer)
        True
    """
    if isinstance(obj, torch.Tensor):
        if not isinstance(proxy, ProxyTensor):
            raise TypeError(f"a tensor's slot holds a ProxyTensor, not a {type(proxy).__name__}")
        set_node_of_tensor(obj, tracer, proxy.proxy.node, proxy.constant)
    elif isinstance(obj, SYMBOLIC_TYPES):
        if isinstance(proxy, fx.Proxy):
            tracer.symbols.offer_number(obj, proxy.node)
        elif callable(getattr(proxy, "force", None)):
            tracer.symbols.promise_number(obj, lambda: proxy.force().node)
        else:
            raise TypeError(f"a number's slot holds a proxy, not a {type(proxy).__name__}")
    elif is_object(obj):
        if not isinstance(proxy, fx.Proxy):
            raise TypeError(f"an object's slot holds a proxy, not a {type(proxy).__name__}")
        objects_of(tracer, obj)[obj] = proxy
    else:
        raise TypeError(f"a {type(obj).__name__} has no slot for a proxy")


def is_object(value: Any) -> bool:
    """Whether a value is an object, other than a tensor, that operators take and return."""
    return isinstance(value, (torch.ScriptObject, FakeScriptObject)) or is_custom_object(value)


def objects_of(tracer: TracerWithSlots, obj: Any) -> Any:
    """The tracer's mapping from objects of this kind to their proxies."""
    if isinstance(obj, (torch.ScriptObject, FakeScriptObject)):
        return tracer.script_object_tracker
    return tracer.opaque_tracker


def get_proxy_slot(
    obj: Any,
    tracer: TracerWithSlots,
    default: Any = _NOTHING,
    transform: Callable[[Any], Any] = lambda found: found,
) -> Any:
    """The slot of a value in a tracer's graph.

    Args:
        obj: a tensor; a torch.SymInt, SymFloat or SymBool; or an object of TorchScript.
        tracer: the tracer.
        default: the result for a value without a slot.
        transform: a function that is applied to the slot, but not to the default.

    Returns:
        For a tensor a `ProxyTensor`; for a number an object whose ``force()`` returns the proxy
        (or the value of a literal), and records its computation if needed; else a proxy.

    Raises:
        TracingError: the value has no slot, and no default was given.
        TypeError: values of this type have no slots.
    """
    found: Any = None
    if isinstance(obj, torch.Tensor):
        pair = node_of_tensor(obj, tracer)
        if pair is not None:
            found = ProxyTensor(fx.Proxy(pair[0], tracer), pair[1])
    elif isinstance(obj, SYMBOLIC_TYPES):
        if tracer.symbols.known(obj):
            found = Thunk(lambda: _proxy_of_number(obj, tracer))
    elif is_object(obj):
        found = objects_of(tracer, obj).get(obj)
    else:
        raise TypeError(f"a {type(obj).__name__} has no slot for a proxy")
    if found is None:
        if default is _NOTHING:
            raise TracingError(
                f"the trace has not seen the {type(obj).__name__} whose proxy is needed",
                fix="make it in the traced function, or pass it as an argument",
            )
        return default
    return transform(found)


def _proxy_of_number(number: Any, tracer: TracerWithSlots) -> Any:
    node = tracer.symbols.node_of(number)
    return fx.Proxy(node, tracer) if isinstance(node, fx.Node) else node


def has_proxy_slot(obj: Any, tracer: TracerWithSlots) -> bool:
    """Whether a value has a slot in a tracer's graph.

    Args:
        obj: a tensor; a torch.SymInt, SymFloat or SymBool, which also has a slot if it can be
            computed from numbers that have one; or an object of TorchScript.
        tracer: the tracer.

    Raises:
        TypeError: values of this type have no slots.
    """
    return bool(get_proxy_slot(obj, tracer, False, lambda _: True))


def proxies_of(tensor: torch.Tensor) -> list[fx.Proxy]:
    """The proxies of the plain tensors inside a tensor; an empty list while no trace runs.

    Args:
        tensor: a plain tensor, or a tensor subclass that wraps others.

    Raises:
        TracingError: the trace has not seen one of the plain tensors.
    """
    mode = active_proxy_mode()
    if mode is None:
        return []
    found = []
    for plain in get_plain_tensors(tensor, out=[]):
        inner = plain
        if isinstance(inner, FunctionalTensor):
            inner = torch._from_functional_tensor(inner.elem)
        if isinstance(inner, torch.Tensor):
            found.append(get_proxy_slot(inner, mode.tracer).proxy)
    return found


def is_tracked(value: Any) -> bool:
    """Whether a value is of a type that has slots, or keeps its proxy itself."""
    kinds = (torch.Tensor, *SYMBOLIC_TYPES, BackwardState)
    return isinstance(value, kinds) or is_object(value)


def fetch_sym_proxy(tracer: TracerWithSlots) -> Callable[[Any], Any]:
    """A function from a symbolic number to its proxy, or to its value if it is a literal.

    Args:
        tracer: the tracer whose graph has the proxies.
    """
    return lambda number: _proxy_of_number(number, tracer)


def fetch_object_proxy(tracer: TracerWithSlots, t: Any) -> Any:
    """The slot of a value, or the value itself if it has none.

    Args:
        tracer: the tracer whose graph has the slot.
        t: a tensor, a symbolic number or an object of TorchScript.

    Returns:
        The result of `get_proxy_slot`, or `t`.
    """
    return get_proxy_slot(t, tracer, t)


def set_meta(proxy: fx.Proxy, val: Any) -> fx.Proxy:
    """Record a value's metadata on its node: ``val``, and ``tensor_meta`` for a tensor.

    Args:
        proxy: the proxy of the value.
        val: the value.

    Returns:
        The proxy.
    """
    set_node_meta(proxy.node, val, getattr(proxy.tracer, "cache", None))
    return proxy


def set_node_meta(node: fx.Node, val: Any, cache: Any) -> None:
    """`set_meta` for a node."""
    node.meta["val"] = None  # the first key
    if isinstance(val, FakeTensor) or (
        isinstance(val, torch.Tensor) and val.layout is torch.strided
    ):
        # This describes the tensor to the cache, which makes the snapshot cheaper.
        node.meta["tensor_meta"] = tensor_metadata(val, cache)
    node.meta["val"] = extract_val(val, include_real=node.op == "placeholder")


def track_tensor(
    tensor: torch.Tensor,
    proxy: fx.Proxy,
    *,
    constant: torch.Tensor | None,
    tracer: TracerWithSlots,
) -> None:
    """Make a proxy the proxy of a tensor, and a source of the tensor's symbolic sizes.

    Args:
        tensor: the tensor.
        proxy: its proxy.
        constant: its value, where that is known while tracing; else None.
        tracer: the tracer whose graph has the proxy.
    """
    set_node_of_tensor(tensor, tracer, proxy.node, constant)
    tracer.symbols.offer_tensor(proxy.node, tensor)


def attach_result(
    node: fx.Node, tracer: TracerWithSlots, cache: OperationCache, result: Any, snapshot: Any
) -> None:
    """Make a node stand for a tensor from a cache, None for a result that is no tensor."""
    node.meta["val"] = snapshot
    if result is not None:
        set_node_of_tensor(result, tracer, node, None)
        node.meta["tensor_meta"] = tensor_metadata(result, cache)
        if cache is not tracer.cache:
            # The operator that made the entry, and offered the sizes, ran in another trace.
            tracer.symbols.offer_tensor(node, result)


def cache_for(
    tracer: TracerWithSlots, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> OperationCache | None:
    """The cache that may answer for an operator; None where the operator has to run.

    A trace of fake tensors in mode ``"real"``, as AOTAutograd makes it, has no cache of its own.
    The fake mode's serves it for tensors that the trace has recorded.
    """
    mode = active_fake_mode()
    if tracer.cache is not None:
        return tracer.cache if mode is tracer.cache.mode else None
    cache = cache_of(mode)
    if cache is not None:
        for tensor in tensors_in((*args, *kwargs.values())):
            state = getattr(tensor, "_symfx", None)
            if state is None or state.tracer is not tracer:
                return None
    return cache


def track_tensor_tree(
    inner_res: Any, proxy_res: Any, *, constant: Any, tracer: TracerWithSlots
) -> Any:
    """Set the slots of the tensors and symbolic numbers in a value, and record their metadata.

    Args:
        inner_res: the value: a tensor, a number, or lists, tuples and dictionaries of them.
        proxy_res: one proxy for the whole, or proxies in the structure of the value.
        constant: the value where that is known while tracing, in the same structure; or None.
        tracer: the tracer whose graph has the proxies.

    Returns:
        `inner_res`.
    """
    _bind_fresh_symbols(inner_res, proxy_res)
    _track(inner_res, proxy_res, constant, tracer)
    return inner_res


def _bind_fresh_symbols(value: Any, proxy: Any) -> None:
    """Record the new unbacked symbols of a value on its node."""
    mode = active_fake_mode()
    env = getattr(mode, "shape_env", None)
    if not getattr(env, "pending_fresh_unbacked_symbols", None):
        return
    found = compute_unbacked_bindings(env, value)
    if found and isinstance(proxy, fx.Proxy):
        proxy.node.meta["unbacked_bindings"] = found


def _track(value: Any, proxy: Any, constant: Any, tracer: TracerWithSlots) -> None:
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
    elif is_object(value):
        node = proxy.node
        node.meta["val"] = value
        if not (is_constant_type(type(value)) and not should_hoist(type(value))):
            objects_of(tracer, value)[value] = proxy
    elif isinstance(value, BackwardState):
        proxy.node.meta["val"] = value
        value.proxy = proxy  # where compiled autograd looks for it
    # Values of other types are constants of the program.
