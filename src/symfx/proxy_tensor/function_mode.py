"""Modes for torch functions: a trace sees functions there before they become operators."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode

from symfx.fake_operators.descriptions import forget
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.composite_functions import COMPOSITES
from symfx.proxy_tensor.layout_questions import LAYOUT_QUESTIONS, LayoutQuestions
from symfx.proxy_tensor.parts import PARTS, Parts
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.proxy_tensor.traceable_functions import TRACEABLE
from symfx.torch_bridge.identity import (
    TorchFunctionMetadataMode,
    TorchPreDispatchFunctionMode,
)
from symfx.torch_bridge.modes import function_mode_count, pop_function_mode, push_function_mode

if TYPE_CHECKING:
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["PreDispatchTorchFunctionMode", "TracingFunctionMode", "without_function_mode"]

_aten = torch.ops.aten
_DATA: Any = torch.Tensor.data
# The type of a setter; each look at one makes a new object.
_Setter = type(_DATA.__set__)


class TracingFunctionMode(TorchFunctionMode):
    """The mode that every trace runs under.

    Under a mode for torch functions, torch.nn does not take fused paths that cannot be recorded
    (the fast path of TransformerEncoderLayer in eval mode).

    Args:
        tracer: the tracer of the trace.
        watch: whether the tracer's nodes name the torch function that made them.
    """

    # torch takes modes of its own class off the stack around compiled code.
    __class__ = TorchFunctionMetadataMode  # type: ignore[assignment]

    def __init__(self, tracer: PythonKeyTracer, watch: bool = True) -> None:
        super().__init__()
        self._tracer = tracer
        self._watch = watch and (tracer.modules is not None or tracer.origins is not None)
        self._layouts = LayoutQuestions(tracer)
        self._has_parts = False
        self._in_form = False

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._in_form:
            return self._composed(func, args, kwargs or {})
        if self._watch:
            self._tracer.enter_function(func)
        if self._has_parts:
            args = tuple(a.whole() if type(a) is Parts else a for a in args)
            if kwargs:
                kwargs = {k: a.whole() if type(a) is Parts else a for k, a in kwargs.items()}
        if type(func) is _Setter and func.__self__ is _DATA:
            # Setting `data` changes a tensor's sizes and storage without any operator.
            func(*args)
            forget(args[0])
            known = slots.node_of_tensor(args[1], self._tracer)
            if known is not None:
                slots.set_node_of_tensor(args[0], self._tracer, *known)
            return None
        if func in TRACEABLE and self._tracer.cache is not None:
            self._in_form = True
            try:
                with self:
                    out = TRACEABLE[func](*args, **(kwargs or {}))
            finally:
                self._in_form = False
            if out is not NotImplemented:
                return out
        if func in COMPOSITES:
            out = self._tracer.composites.call(func, args, kwargs or {})
            if out is not NotImplemented:
                return out
        elif func in PARTS:
            out = PARTS[func](*args, **(kwargs or {}))
            if out is not NotImplemented:
                self._has_parts = True
                return out
        elif func in LAYOUT_QUESTIONS:
            out = self._layouts.answer(func, args, kwargs or {})
            if out is not NotImplemented:
                return out
        elif func is _aten.size.default and len(args) == 1:
            sizes = args[0].size()
            if any(isinstance(s, SYMBOLIC_TYPES) for s in sizes):
                return _aten.sym_size.default(*args, **(kwargs or {}))
        return func(*args, **kwargs) if kwargs else func(*args)

    def _composed(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call that a traceable form makes: it asks for no layout either."""
        if func in COMPOSITES:
            out = self._tracer.composites.call(func, args, kwargs)
            if out is not NotImplemented:
                return out
        return func(*args, **kwargs)


_ENTER_AUTOCAST = torch.amp.autocast_mode._enter_autocast
_EXIT_AUTOCAST = torch.amp.autocast_mode._exit_autocast
_SET_GRAD = torch._C._set_grad_enabled
_CONTIGUOUS: Any = torch.Tensor.contiguous


class PreDispatchTorchFunctionMode(TorchFunctionMode):
    """The mode that records switches of autograd and autocast, in a trace above autograd.

    Args:
        tracer: the tracer that records them.
    """

    # Autocast reports its regions to modes of torch's own class alone.
    __class__ = TorchPreDispatchFunctionMode  # type: ignore[assignment]

    def __init__(self, tracer: PythonKeyTracer) -> None:
        super().__init__()
        self.tracer = tracer
        self._autocasts: list[fx.Node] = []

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is _CONTIGUOUS:
            # Of a tensor that is contiguous, Python returns the tensor itself without an operator.
            # A later decomposition may give the tensor another layout, so the graph has the call.
            return _aten.contiguous.default(*args, **(kwargs or {}))
        if func is _SET_GRAD:
            node = self._record(func, args)
            func(*args)
            return node
        # Autocast enters and leaves its regions itself, so that they are only recorded here.
        if func is _ENTER_AUTOCAST:
            node = self._record(func, args)
            self._autocasts.append(node)
            return node
        if func is _EXIT_AUTOCAST:
            return self._record(func, (self._autocasts.pop(),))
        return func(*args, **kwargs) if kwargs else func(*args)

    def _record(self, func: Any, args: tuple[Any, ...]) -> fx.Node:
        node = self.tracer.create_node("call_function", func, args, {})
        node.meta["val"] = None
        return node


@contextlib.contextmanager
def without_function_mode(kind: type[TorchFunctionMode]) -> Iterator[TorchFunctionMode | None]:
    """Take the innermost mode of a class off the stack of modes for torch functions.

    Args:
        kind: the class.

    Returns:
        A context manager that gives the mode, or None where the stack has none of the class.
    """
    above: list[TorchFunctionMode] = []
    found = None
    while found is None and function_mode_count():
        mode = pop_function_mode()
        if type(mode) is kind:
            found = mode
        else:
            above.append(mode)
    for mode in reversed(above):
        push_function_mode(mode)
    try:
        yield found
    finally:
        if found is not None:
            for _ in above:
                pop_function_mode()
            for mode in (found, *reversed(above)):
                push_function_mode(mode)
