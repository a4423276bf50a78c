"""Values in a trace by torch.fx that serve as sizes too: in factories, ``int()``, ``len()``.

torch.fx cannot trace ``torch.zeros(x.size(0), 3)``, ``int(x.size(0))``, ``len(x)``, a loop over the
pieces of ``x.split(4)``, or an assignment into a tensor. `TracedValue` is a proxy that records
assignments, and that asks its tracer for a number where Python needs one. `tracing_sizes` makes
torch's factories and builtins such as ``int`` and ``isinstance`` accept proxies.
"""

from __future__ import annotations

import abc
import builtins
import contextlib
import dis
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator
from types import FrameType, FunctionType
from typing import Any

import torch
from torch.fx import Proxy
from torch.fx.proxy import Attribute
from torch.nn.utils import rnn
from torch.overrides import TorchFunctionMode, is_tensor_method_or_property

from symfx.shape_rules.errors import IllTypedError

__all__ = ["NumberSource", "TracedValue", "tracing_sizes"]


class NumberSource(abc.ABC):
    """A tracer that knows the numbers that sizes are, as far as the types of the inputs tell."""

    @abc.abstractmethod
    def number_of(self, value: Proxy) -> int:
        """The number that a size is, for all inputs."""

    @abc.abstractmethod
    def length_of(self, value: Proxy) -> int:
        """The number of items of a tuple, or of rows of a tensor, for all inputs."""

    @abc.abstractmethod
    def known_length_of(self, value: Proxy) -> int | None:
        """As `length_of`; ``None`` if the length differs between inputs, or is unknown."""

    @abc.abstractmethod
    def is_tensor(self, value: Proxy) -> bool:
        """Whether a traced value is known to be a tensor."""

    @abc.abstractmethod
    def sample_of(self, value: Proxy) -> Any:
        """A value of the type that the traced value has when the program runs."""


class TracedValue(Proxy):
    """A value of the traced program."""

    def __setitem__(self, index: Any, value: Any) -> None:
        """Record an assignment into a tensor."""
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __getattr__(self, name: str) -> Any:
        """An attribute, or a method, of the value."""
        if not hasattr(torch.Tensor, name) and _numbers(self).is_tensor(self):
            raise AttributeError(f"'Tensor' object has no attribute '{name}'")
        return _TracedAttribute(self, name)

    def __index__(self) -> int:
        """The number of a size, which ``range`` and the indices of lists need."""
        return _numbers(self).number_of(self)

    def __int__(self) -> int:
        return _numbers(self).number_of(self)

    def __float__(self) -> float:
        return float(_numbers(self).number_of(self))

    def __len__(self) -> int:
        return _numbers(self).length_of(self)

    def __iter__(self) -> Iterator[Any]:
        """The items of a tuple, or the rows of a tensor."""
        wanted = _names_to_unpack(inspect.currentframe())
        if wanted is None:
            return self._items(_numbers(self).length_of(self))
        count = _numbers(self).known_length_of(self)
        if count is None:
            self._demand_length(wanted)
        elif count != wanted:
            self._demand_length(wanted)
            raise IllTypedError(f"{count} values cannot be unpacked into {wanted}")
        return self._items(wanted)

    def _items(self, count: int) -> Iterator[Any]:
        return (operator.getitem(self, i) for i in range(count))

    def _demand_length(self, wanted: int) -> None:
        record = functools.partial(self.tracer.create_proxy, "call_function")
        holds = record(operator.eq, (record(builtins.len, (self,), {}), wanted), {})
        record(torch._assert, (holds, f"the program unpacks {wanted} values"), {})


def _in_place(name: str) -> Callable[[TracedValue, Any], Any]:
    function = getattr(operator, name)

    def method(self: TracedValue, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


#: torch.fx records ``y += x`` as an addition, whose result may be larger than ``y``.
for _name in (
    *("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow"),
    *("iand", "ior", "ixor", "ilshift", "irshift"),
):
    setattr(TracedValue, f"__{_name}__", _in_place(_name))


class _TracedAttribute(TracedValue, Attribute):
    """An attribute of a traced value, such as ``x.shape``, or a method to call."""


def _numbers(value: Proxy) -> NumberSource:
    tracer: Any = value.tracer
    assert isinstance(tracer, NumberSource)
    return tracer


def _names_to_unpack(frame: FrameType | None) -> int | None:
    """The number of names in ``a, b = value``, if the caller of a frame runs such a statement."""
    caller = frame and frame.f_back
    if caller is None:
        return None
    for instruction in dis.get_instructions(caller.f_code):
        if instruction.offset == caller.f_lasti:
            count: int = instruction.argval
            return count if instruction.opname == "UNPACK_SEQUENCE" else None
    return None


# -- factories ----------------------------------------------------------------------------

#: torch cannot hand a call of these to a mode if the first argument is a proxy.
_SIZES_FIRST = ("zeros", "ones", "empty", "rand", "randn")
#: The functions that make tensors.
FACTORIES = frozenset(
    getattr(torch, name)
    for name in (
        *_SIZES_FIRST,
        "arange",
        "as_tensor",
        "eye",
        "full",
        "linspace",
        "logspace",
        "randint",
        "randperm",
        "tensor",
        "tril_indices",
        "triu_indices",
    )
)


@contextlib.contextmanager
def tracing_sizes(
    tracer: Any, namespaces: Iterable[dict[str, Any]], *, all_factories: bool
) -> Iterator[None]:
    """Within the context, factories and builtins record calls on traced values.

    Args:
        tracer: the tracer.
        namespaces: the globals of the user's modules, in which builtins are replaced.
        all_factories: record the calls of factories without traced values too.
    """
    with contextlib.ExitStack() as stack:
        for name in _SIZES_FIRST:
            stack.enter_context(_replaced(vars(torch), name, _recording(tracer, name)))
        stack.enter_context(_replaced(vars(torch), "is_tensor", _is_tensor))
        for namespace in {id(each): each for each in namespaces}.values():
            for name, replacement in _BUILTINS.items():
                if name not in namespace:
                    stack.enter_context(_replaced(namespace, name, replacement))
        for home in (vars(rnn), *namespaces):
            for name, value in [*home.items()]:
                if isinstance(value, FunctionType) and id(value) in _PACKING:
                    stack.enter_context(_replaced(home, name, _leaf(tracer, value)))
        stack.enter_context(_Recording(tracer, all_factories))
        stack.enter_context(_counting_autocasts(tracer))
        yield


@contextlib.contextmanager
def _counting_autocasts(tracer: Any) -> Iterator[None]:
    """Count the contexts of ``torch.autocast`` around each statement of the program.

    A context for a device that this machine lacks counts too: it is on where the program runs.
    """
    enter: Any = torch.autocast.__enter__
    leave: Any = torch.autocast.__exit__

    def entered(context: Any) -> Any:
        tracer.autocasts += _is_meant(context)
        return enter(context)

    def left(context: Any, *error: Any) -> Any:
        tracer.autocasts -= _is_meant(context)
        return leave(context, *error)

    torch.autocast.__enter__, torch.autocast.__exit__ = entered, left  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__, torch.autocast.__exit__ = enter, leave  # type: ignore[method-assign]


def _is_meant(context: Any) -> bool:
    """Whether a context switches autocast on, here or on its device."""
    return bool(context._enabled) or context.device != "cpu"


@contextlib.contextmanager
def _replaced(namespace: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = namespace.get(name, missing)
    namespace[name] = value
    try:
        yield
    finally:
        if before is missing:
            del namespace[name]
        else:
            namespace[name] = before


def _recording(tracer: Any, name: str) -> Callable[..., Any]:
    factory = getattr(torch, name)

    @functools.wraps(factory)
    def call(*args: Any, **kwargs: Any) -> Any:
        if args and isinstance(args[0], Proxy):
            return tracer.create_proxy("call_function", factory, args, kwargs)
        return factory(*args, **kwargs)

    return call


def _leaf(tracer: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _has_proxy(args) or _has_proxy(kwargs):
            return tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return call


# -- builtins --------------------------------------------------------------------------------------


class _NumberMeta(type):
    """Makes a class stand for ``int`` or ``float``: calls on traced values are recorded."""

    of: type

    def __call__(cls, *args: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Proxy):
            return args[0].tracer.create_proxy("call_function", cls.of, args, {})
        return cls.of(*args)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.of)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.of)


class _Int(metaclass=_NumberMeta):
    of = int


class _Float(metaclass=_NumberMeta):
    of = float


def _len(value: Any) -> Any:
    if not isinstance(value, Proxy):
        return len(value)
    known = _numbers(value).known_length_of(value)
    if known is not None:
        return known
    return value.tracer.create_proxy("call_function", len, (value,), {})


def _extremum(of: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(of)
    def call(*args: Any, **kwargs: Any) -> Any:
        values = args[0] if len(args) == 1 and isinstance(args[0], (tuple, list)) else args
        proxies = [value for value in values if isinstance(value, Proxy)]
        if not proxies or kwargs or len(values) < 2:
            return of(*args, **kwargs)
        return proxies[0].tracer.create_proxy("call_function", of, tuple(values), {})

    return call


def _isinstance(value: Any, kinds: Any) -> bool:
    sample = _numbers(value).sample_of(value) if isinstance(value, Proxy) else value
    return isinstance(sample, kinds)


def _is_tensor(value: Any) -> bool:
    return _isinstance(value, torch.Tensor)


#: The functions that stand for builtins in the user's modules during a trace.
_BUILTINS: dict[str, Any] = {
    "float": _Float,
    "int": _Int,
    "isinstance": _isinstance,
    "len": _len,
    "max": _extremum(max),
    "min": _extremum(min),
}
#: The ids of functions on sequences that branch on data inside, and have shape rules.
_PACKING = frozenset(map(id, (rnn.pack_padded_sequence, rnn.pad_packed_sequence)))


class _Recording(TorchFunctionMode):
    """Records the calls of torch's functions that have a traced value among their arguments."""

    def __init__(self, tracer: Any, all_factories: bool) -> None:
        super().__init__()
        self._tracer = tracer
        self._all_factories = all_factories

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Record the call of a function, or call it."""
        options = kwargs or {}
        if _has_proxy(args) or _has_proxy(tuple(options.values())):
            return self._record(func, args, options)
        if self._all_factories and func in FACTORIES:
            return self._record(func, args, options)
        return func(*args, **options)

    def _record(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not is_tensor_method_or_property(func):
            return self._tracer.create_proxy("call_function", func, args, kwargs)
        name = func.__name__
        # Python's operators are recorded as such: x[:n], 1 - x.
        if name.startswith("__r") and hasattr(operator, f"__{name[3:]}"):
            return self._tracer.create_proxy(
                "call_function", getattr(operator, f"__{name[3:]}"), args[::-1], {}
            )
        if name.startswith("__") and hasattr(operator, name):
            return self._tracer.create_proxy("call_function", getattr(operator, name), args, {})
        return self._tracer.create_proxy("call_method", name, args, kwargs)


def _has_proxy(value: Any) -> bool:
    if isinstance(value, Proxy):
        return True
    if isinstance(value, (tuple, list)):
        return any(map(_has_proxy, value))
    if isinstance(value, dict):
        return any(map(_has_proxy, value.values()))
    return isinstance(value, slice) and _has_proxy((value.start, value.stop, value.step))
