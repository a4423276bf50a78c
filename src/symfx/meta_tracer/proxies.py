"""Proxies that have a meta value, and answer Python's questions from it."""

from __future__ import annotations

import builtins
import dis
import functools
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate

from symfx.meta_tracer.errors import ControlFlowError, UnknownMetaError
from symfx.user_code import here

__all__ = [
    "QUERIES",
    "DeviceName",
    "MetaAttribute",
    "MetaDeviceAttribute",
    "MetaProxy",
    "gen_constructor_wrapper",
    "has_meta",
    "named_devices",
    "proxys_to_metas",
]

_Callable = TypeVar("_Callable", bound=Callable[..., Any])
# Classes that a proxy passes for: isinstance() follows the meta value. Tensor is not among
# them, because torch's C++ code would use such a proxy as a tensor.
_PASSES_FOR = (tuple, list, dict)
_UNPACK = dis.opmap["UNPACK_SEQUENCE"]

QUERIES: frozenset[Any] = frozenset({
    "dim", "element_size", "get_device", "is_complex", "is_conj", "is_contiguous",
    "is_floating_point", "is_inference", "is_neg", "is_same_size", "is_signed", "ndimension",
    "nelement", "numel", "size", "storage_offset", "stride", "type",
    torch.is_complex, torch.is_conj, torch.is_floating_point, torch.is_neg, torch.is_same_size,
    torch.is_signed, torch.numel, torch.result_type,
})  # fmt: skip
"""Methods and functions that ask for metadata. They are answered at once and not recorded."""


def has_meta(proxy: Any) -> bool:
    """Whether a proxy knows its meta value."""
    return isinstance(proxy, MetaProxy) and hasattr(proxy, "_tensor_meta")


def proxys_to_metas(v: Any) -> Any:
    """The meta value of a proxy; any other value itself.

    Args:
        v: a proxy or another argument of a call. Use `torch.fx.node.map_aggregate` for values
            inside of lists, tuples and dictionaries.

    Returns:
        The meta value: a tensor without data, or a structure. For the ``device`` of a proxy
        ``"meta"``, or the device of the meta value where that is a fake tensor.

    Raises:
        UnknownMetaError: the proxy has none, or is no `MetaProxy`.

    Example:
        >>> tracer = MetaTracer()
        >>> graph = tracer.trace(lambda x: x + 1, {"x": torch.empty(2, 3, device="meta")})
        >>> proxy = MetaProxy(next(iter(graph.nodes)), tracer)
        >>> proxy.install_tensor_meta(torch.empty(2, 3, device="meta"))
        >>> proxys_to_metas(proxy).shape
        torch.Size([2, 3])
    """
    if isinstance(v, MetaDeviceAttribute):
        device = v.known
        return "meta" if device is None or device.type == "meta" else device
    if not isinstance(v, fx.Proxy):
        return v
    if not isinstance(v, MetaProxy):
        raise UnknownMetaError(
            f"{v!r} is a {type(v).__name__}, not a MetaProxy, and has no meta value",
            fix="trace with symfx.meta_tracer.MetaTracer",
        )
    if not has_meta(v):
        raise UnknownMetaError(f"{v!r} has no meta value: {v._why_unknown()}", where=here())
    return v._tensor_meta


def gen_constructor_wrapper(target: _Callable) -> tuple[Callable[..., Any], _Callable]:
    """A wrapper that records a function if an argument contains a proxy, and else calls it.

    The tracer sees every function of torch without a wrapper. Use it for your own functions
    that do not look at their arguments' ``__torch_function__``.

    Args:
        target: the function.

    Returns:
        The wrapper, and `target`.

    Example:
        >>> wrapper, original = gen_constructor_wrapper(torch.zeros)
        >>> wrapper(2).shape, original is torch.zeros
        (torch.Size([2]), True)
    """

    @functools.wraps(target)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        proxies = proxies_in((args, kwargs))
        if not proxies:
            return target(*args, **kwargs)
        return proxies[0].tracer.create_proxy("call_function", target, args, kwargs)

    return wrapper, target


def proxies_in(arguments: Any) -> list[fx.Proxy]:
    """The proxies among arguments, in lists, tuples, dictionaries and slices too."""
    found: list[fx.Proxy] = []

    def look(v: Any) -> Any:
        if isinstance(v, fx.Proxy):
            found.append(v)
        return v

    map_aggregate(arguments, look)
    return found


class MetaProxy(fx.Proxy):
    """A proxy that may have a meta value, and answers Python's questions from it.

    Its sizes, dtype and number of elements are those of the meta value, as ints and dtypes that
    are not recorded; so are `len`, iteration, unpacking and `isinstance`. A question whose
    answer depends on data raises a `ControlFlowError` that names the line.

    Example:
        >>> def f(x):
        ...     return x.relu() if x.shape[0] > 2 else x.neg()
        >>> gm = symbolic_trace(f, {"x": torch.empty(5, device="meta")})
        >>> [node.target for node in gm.graph.nodes]
        ['x', 'relu', 'output']
    """

    _reason: str | None = None

    def install_tensor_meta(self, tensor_meta: Any) -> None:
        """Set the meta value.

        Args:
            tensor_meta: a tensor without data, or a structure of such tensors.
        """
        self._tensor_meta = tensor_meta

    # isinstance() asks for the type first, so that a proxy stays a proxy, and then for this.
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        meta = getattr(self, "_tensor_meta", None)
        return next((kind for kind in _PASSES_FOR if isinstance(meta, kind)), type(self))

    def size(self, dim: int | None = None) -> Any:
        """The sizes, or the size of one dimension; recorded where the meta value is not known."""
        if has_meta(self):
            return self._tensor_meta.size() if dim is None else self._tensor_meta.size(dim)
        args = (self,) if dim is None else (self, dim)
        return self.tracer.create_proxy("call_method", "size", args, {})

    def dim(self) -> Any:
        """The number of dimensions; recorded where the meta value is not known."""
        if has_meta(self):
            return self._tensor_meta.dim()
        return self.tracer.create_proxy("call_method", "dim", (self,), {})

    @property
    def shape(self) -> Any:
        """The sizes; recorded where the meta value is not known."""
        return self._asked("shape")

    @property
    def dtype(self) -> Any:
        """The dtype; recorded where the meta value is not known."""
        return self._asked("dtype")

    def _asked(self, name: str) -> Any:
        if has_meta(self):
            return getattr(self._tensor_meta, name)
        return self.tracer.create_proxy("call_function", builtins.getattr, (self, name), {})

    @property
    def device(self) -> MetaDeviceAttribute:
        """The device, for Python's control flow; recorded where an operator takes it."""
        return MetaDeviceAttribute(self, "device")

    def __getattr__(self, k: str) -> Any:
        if k == "_tensor_meta":
            raise AttributeError(k)
        if has_meta(self):
            value = getattr(self._tensor_meta, k)
            if not callable(value) and not _holds_tensors(value):
                return value
        return MetaAttribute(self, k)

    def __len__(self) -> int:
        if not has_meta(self):
            self._refuse("the length of")
        return len(self._tensor_meta)

    def __iter__(self) -> Iterator[Any]:
        if has_meta(self):
            if isinstance(self._tensor_meta, dict):
                return iter(self._tensor_meta)
            return iter([self[i] for i in range(len(self._tensor_meta))])  # type: ignore[index]
        frame = sys._getframe(1)
        code, at = frame.f_code.co_code, frame.f_lasti
        if code[at] == _UNPACK:
            return iter([self[i] for i in range(code[at + 1])])  # type: ignore[index]
        self._refuse("the length of")

    def __contains__(self, item: Any) -> bool:
        if has_meta(self) and isinstance(self._tensor_meta, dict):
            return item in self._tensor_meta
        self._refuse(f"whether {item!r} is in")

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def keys(self) -> Any:
        """The keys of a dictionary; none for ``**kwargs`` without a meta value."""
        if has_meta(self):
            if isinstance(self._tensor_meta, dict):
                return list(self._tensor_meta)
        elif self.node.op == "placeholder" and str(self.node.target).startswith("**"):
            return []
        return super().keys()

    def _refuse(self, question: str) -> NoReturn:
        raise ControlFlowError(
            f"the program asks for {question} `{self.node.name}` (the result of "
            f"{_described(self.node)}), which is not known while tracing: {self._why_unknown()}",
            where=here(),
            fix="branch on shapes or dtypes; compute with tensors (torch.where); give the input a "
            "meta value, or fix it with concrete_args; or make the code a leaf with torch.fx.wrap",
        )

    def _why_unknown(self) -> str:
        if has_meta(self):
            return "it depends on the data in tensors"
        return self._reason or "it was given no meta value"


class MetaAttribute(MetaProxy):
    """An attribute of a proxy. It is recorded once it is used as a value or called as a method.

    Example:
        >>> gm = symbolic_trace(lambda x: x.T, {"x": torch.empty(2, 3, device="meta")})
        >>> [str(node) for node in gm.graph.nodes]
        ['x', 'getattr_1', 'output']
    """

    def __init__(self, root: MetaProxy, attr: str) -> None:
        self.root = root
        self.attr = attr
        self.tracer = root.tracer
        self._node: fx.Node | None = None

    @property
    def node(self) -> fx.Node:  # type: ignore[override]
        """The node, recorded at the first use."""
        if self._node is None:
            proxy = self.tracer.create_proxy(
                "call_function", builtins.getattr, (self.root, self.attr), {}
            )
            self._node = proxy.node
        return self._node

    def __getattr__(self, k: str) -> Any:
        if k == "_tensor_meta":
            if has_meta(self.root):
                value = getattr(self.root._tensor_meta, self.attr)
                if not callable(value):
                    return value
            raise AttributeError(k)
        return super().__getattr__(k)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method of this name."""
        root, name = self.root, self.attr
        if has_meta(root) and isinstance(root._tensor_meta, dict) and not kwargs:
            meta = root._tensor_meta
            if name == "items" and not args:
                return [(key, root[key]) for key in meta]  # type: ignore[index]
            if name == "values" and not args:
                return [root[key] for key in meta]  # type: ignore[index]
            if name == "get" and args:
                if args[0] in meta:
                    return root[args[0]]  # type: ignore[index]
                return args[1] if len(args) > 1 else None
        return self.tracer.create_proxy("call_method", name, (root, *args), kwargs)


class MetaDeviceAttribute(MetaAttribute):
    """The device of a proxy.

    As an argument it is recorded, so that the graph runs on any device. Its type and index, and
    comparisons, are those of the meta value's device.

    Example:
        >>> def f(x):
        ...     return torch.zeros(2, device=x.device) + x
        >>> gm = symbolic_trace(f, {"x": torch.empty(2, device="meta")})
        >>> gm(torch.ones(2)).device
        device(type='cpu')
    """

    @property
    def known(self) -> torch.device | None:
        """The device of the meta value, or None."""
        device = getattr(getattr(self.root, "_tensor_meta", None), "device", None)
        return device if isinstance(device, torch.device) else None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self) if self.known is None else torch.device

    def __getattr__(self, k: str) -> Any:
        if k == "_tensor_meta":
            raise AttributeError(k)
        device = self.known
        return MetaAttribute(self, k) if device is None else getattr(device, k)

    def __eq__(self, other: Any) -> Any:
        return self._compared(operator.eq, other)

    def __ne__(self, other: Any) -> Any:
        return self._compared(operator.ne, other)

    def _compared(self, how: Callable[..., Any], other: Any) -> Any:
        device = self.known
        theirs = other.known if isinstance(other, MetaDeviceAttribute) else other
        if device is None or isinstance(theirs, fx.Proxy) or theirs is None is not other:
            return self.tracer.create_proxy("call_function", how, (self, other), {})
        return how(device, theirs)

    def __hash__(self) -> int:
        return hash(self.known)

    def __str__(self) -> str:
        return repr(self) if self.known is None else DeviceName(self)


class DeviceName(str):
    """The text of a proxy's device. As an argument it is recorded as the device itself.

    Args:
        device: the device of the proxy; it is known.
    """

    device: MetaDeviceAttribute

    def __new__(cls, device: MetaDeviceAttribute) -> DeviceName:
        """The text."""
        name = super().__new__(cls, device.known)
        name.device = device
        return name

    def __str__(self) -> str:
        return self


def named_devices(arguments: Any) -> Any:
    """The arguments with the device of a proxy in place of each `DeviceName`."""

    def device_of(v: Any) -> Any:
        return v.device if isinstance(v, DeviceName) else v

    return map_aggregate(arguments, device_of)


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_tensors, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_tensors, value))
    return isinstance(value, Tensor)


def _described(node: fx.Node) -> str:
    if node.op in ("placeholder", "call_module", "call_method", "get_attr"):
        return f"{node.op} {node.target}"
    return str(getattr(node.target, "__name__", node.target))
