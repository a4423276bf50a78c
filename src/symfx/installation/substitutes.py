"""The objects that take the place of torch's: each acts for symfx and for torch.

torch's own code calls the names of its modules, and so meets the substitutes while it works on
programs that were made without symfx. Each substitute looks at the tracer, the mode or the
environment that it is called with, and is torch's function for those of torch. Where it is called
with none of them, it is symfx's while symfx is installed, and torch's afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from torch import fx
from torch._guards import detect_fake_mode
from torch.fx.passes import runtime_assert
from torch.utils._python_dispatch import TorchDispatchMode

from symfx import proxy_tensor, symbolic_shapes
from symfx.dynamic_spec import spec_of_call
from symfx.errors import SymfxError
from symfx.installation.assertions import as_asserted, asserting_once
from symfx.proxy_tensor import ProxyTorchDispatchMode, PythonKeyTracer
from symfx.proxy_tensor.inputs import inputs_as_torch_names_them, is_symfx_env
from symfx.proxy_tensor.tracing import NODES_OF_LAST_TRACE
from symfx.symbolic_shapes import ShapeEnv
from symfx.torch_bridge.dynamic_log import log_dynamic
from symfx.torch_bridge.dynamo import function_of_torch
from symfx.torch_bridge.identity import TorchShapeEnv, proxy_tensor_of_torch
from symfx.torch_bridge.modes import active_proxy_mode

__all__ = ["NOT_SWAPPED", "Present", "substitutes"]


class Present:
    """The state of the process.

    Attributes:
        installed: whether symfx is installed.
    """

    installed = False


NOT_SWAPPED = {
    "classes of proxy_tensor": "torch keys tables of operators on them, and symfx's pass for them",
    "other functions of symbolic_shapes": "Dynamo knows them by identity; symfx's numbers pass",
}
"""The names that stay torch's, with the reason."""

#: Functions without a tracer among their arguments, which trace what they are given.
_TRACING = frozenset({"get_isolated_graphmodule", "make_fx", "selective_decompose"})
#: Context managers that set up the trace that is made inside.
_SURROUNDING = frozenset({"_proxy_tensor_disable_update_tensor_tracker", "disable_autocast_cache"})
#: Functions that torch calls also where nothing traces, and where symfx's asks for a trace.
_TORCH_WITHOUT_TRACE = frozenset({"decompose", "handle_sym_dispatch"})


#: Functions of symbolic_shapes, and whether the first argument is of symfx.
_OF_SHAPES: dict[str, Callable[[Any], bool]] = {
    "_suggest_fixes_for_data_dependent_error_non_strict": lambda e: isinstance(e, SymfxError),
    "rebind_unbacked": is_symfx_env,
}


def substitutes() -> dict[str, tuple[Any, Any]]:
    """By name: an object of torch, and its substitute."""
    found: dict[str, tuple[Any, Any]] = {"ShapeEnv": (TorchShapeEnv, _environment_class())}
    name = "_FAKE_TENSOR_ID_TO_PROXY_MAP_FOR_EXPORT"  # torch.export reads it after a trace
    if hasattr(proxy_tensor_of_torch, name):
        found[name] = getattr(proxy_tensor_of_torch, name), NODES_OF_LAST_TRACE
    insert = runtime_assert.insert_deferred_runtime_asserts
    found[insert.__name__] = insert, asserting_once(insert)
    expression_of = getattr(runtime_assert, "_get_sym_val", None)
    if expression_of is not None:
        found["_get_sym_val"] = expression_of, as_asserted(expression_of)
    for name, is_for_symfx in _OF_SHAPES.items():
        function = function_of_torch(name)
        if function is not None:
            ours = getattr(symbolic_shapes, name)
            found[name] = function, _by_first(function, ours, is_for_symfx)
    for name, theirs in vars(proxy_tensor_of_torch).items():
        ours = getattr(proxy_tensor, name, None)
        if (
            ours is None
            or not isinstance(theirs, FunctionType)
            or theirs.__module__ != proxy_tensor_of_torch.__name__
        ):
            continue
        if name == "make_fx":
            found[name] = theirs, _make_fx(theirs, ours)
        elif name in _TRACING:
            found[name] = theirs, _by_inputs(theirs, ours)
        elif name in _SURROUNDING:
            found[name] = theirs, _both(theirs, ours)
        else:
            found[name] = theirs, _by_tracer(theirs, ours, name not in _TORCH_WITHOUT_TRACE)
    return found


def _environment_class() -> type:
    """The class that makes symfx's environments. `isinstance` accepts torch's environments too."""

    class Either(type):
        def __new__(
            mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
        ) -> Any:
            if any(isinstance(base, Either) for base in bases):
                # torch's subclasses of its ShapeEnv are about torch's methods.
                bases = tuple(TorchShapeEnv if isinstance(b, Either) else b for b in bases)
                return type(name, bases, namespace, **options)
            return type.__new__(mcls, name, bases, namespace, **options)

        def __instancecheck__(cls, value: Any) -> bool:
            return isinstance(value, TorchShapeEnv)  # symfx's environments pass for it

        def __subclasscheck__(cls, kind: type) -> bool:
            return issubclass(kind, (TorchShapeEnv, ShapeEnv))

        def __call__(cls, *args: Any, **kwargs: Any) -> ShapeEnv:
            env = ShapeEnv(*args, **kwargs)
            env.speaks_torch = True
            log_dynamic(lambda: "create_env")
            return env

    # torch's class calls its own static methods by its name, which is now this class.
    static = {k: v for k, v in vars(TorchShapeEnv).items() if isinstance(v, staticmethod)}
    names = {
        "__module__": ShapeEnv.__module__,
        "__doc__": ShapeEnv.__doc__,
        "__qualname__": "ShapeEnv",
    }
    made: type = Either("ShapeEnv", (ShapeEnv,), {**static, **names})
    return made


def _for_symfx(inputs: Any) -> bool:
    """Whether symfx traces some inputs: those with symbols of symfx, and those without symbols."""
    mode = detect_fake_mode(inputs)
    if mode is None or mode.shape_env is None:
        return Present.installed
    return is_symfx_env(mode.shape_env)


def _make_fx(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """make_fx, which chooses when it is given the inputs."""
    called_as = inspect.signature(ours)

    @functools.wraps(ours)
    def make_fx(f: Any, *args: Any, **kwargs: Any) -> Any:
        @functools.wraps(f)
        def wrapped(*inputs: Any) -> Any:
            if not _for_symfx(inputs):
                return theirs(f, *args, **kwargs)(*inputs)
            given = called_as.bind(f, *args, **kwargs).arguments
            how = given.get("tracing_mode", "real")
            if how in ("fake", "symbolic") and spec_of_call(f, given.get("dynamic_shapes")) is None:
                allowed = given.get("_allow_non_fake_inputs", False)
                inputs = inputs_as_torch_names_them(inputs, how == "symbolic", allowed)
            return ours(f, *args, **kwargs)(*inputs)

        return wrapped

    return make_fx


def _by_inputs(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """A function that traces some of its arguments."""

    @functools.wraps(theirs)
    def either(*args: Any, **kwargs: Any) -> Any:
        chosen = ours if _for_symfx((args, kwargs)) else theirs
        return chosen(*args, **kwargs)

    return either


def _by_first(
    theirs: Callable[..., Any], ours: Callable[..., Any], is_for_symfx: Callable[[Any], bool]
) -> Callable[..., Any]:
    """A function that acts on its first argument."""

    @functools.wraps(theirs)
    def either(first: Any, *args: Any, **kwargs: Any) -> Any:
        return (ours if is_for_symfx(first) else theirs)(first, *args, **kwargs)

    return either


def _both(theirs: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    """A context manager that acts on the traces that begin inside, symfx's and torch's."""

    @functools.wraps(theirs)
    @contextlib.contextmanager
    def both() -> Iterator[None]:
        with theirs(), ours():
            yield

    return both


def _by_tracer(
    theirs: Callable[..., Any], ours: Callable[..., Any], without_trace: bool
) -> Callable[..., Any]:
    """A function that acts on a trace: the one whose tracer, mode or proxy it gets, or the active.

    Args:
        theirs: torch's function.
        ours: symfx's.
        without_trace: whether symfx's is called while nothing traces.
    """

    @functools.wraps(theirs)
    def either(*args: Any, **kwargs: Any) -> Any:
        for value in (*args, *kwargs.values()):
            if isinstance(value, fx.Tracer):
                mine = isinstance(value, PythonKeyTracer)
                break
            if isinstance(value, TorchDispatchMode):
                mine = type(value) is ProxyTorchDispatchMode
                break
            if isinstance(value, fx.Proxy):
                mine = isinstance(value.tracer, PythonKeyTracer)
                break
        else:
            mode = active_proxy_mode()
            if mode is None:
                mine = without_trace and Present.installed
            else:
                mine = type(mode) is ProxyTorchDispatchMode
        return (ours if mine else theirs)(*args, **kwargs)

    return either
