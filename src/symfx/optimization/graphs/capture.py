"""From a model to a graph of its own, with whatever cannot be traced left whole inside."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import fx, nn
from torch.fx.immutable_collections import immutable_dict
from torch.overrides import TorchFunctionMode

from symfx.errors import InputMismatchError, TracingError, describe
from symfx.optimization.graphs.effect_tables import words
from symfx.optimization.graphs.effects import Effect, is_plain, one_node
from symfx.optimization.report import Report

__all__ = ["capture", "copy_of"]


Model = TypeVar("Model", bound=nn.Module)
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)


def copy_of(model: Model) -> Model:
    """A copy that shares nothing with the model.

    Raises:
        TracingError: the model cannot be copied.
    """
    try:
        # What hooks have computed from parameters, as weight normalisation does, has a history,
        # and refuses to be copied with it.
        memo: dict[int, Any] = {
            id(value): value.detach().clone()
            for module in model.modules()
            for value in vars(module).values()
            if isinstance(value, torch.Tensor) and not value.is_leaf
        }
        result = copy.deepcopy(model, memo)
        for module, twin in zip(model.modules(), result.modules(), strict=True):
            if isinstance(module, fx.GraphModule):  # which does not copy its hooks
                for name in _HOOKS:
                    setattr(twin, name, copy.copy(getattr(module, name)))
        return result
    except Exception as error:
        raise TracingError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}",
            fix="symfx works on a copy, so that your model stays as it is; give the part that "
            "cannot be copied a __deepcopy__, or take it out of the model",
        ) from error


def capture(
    model: nn.Module,
    tracer: type[fx.Tracer] = fx.Tracer,
    report: Report | None = None,
    bound: Mapping[str, Any] | None = None,
) -> fx.GraphModule:
    """Trace a model with `torch.fx`, keeping whole what must not or cannot be opened.

    Kept as one call each: modules with hooks, modules whose ``forward`` was replaced, and modules
    whose code torch.fx cannot follow, such as one that branches on a value.

    Args:
        model: the model. The graph shares its modules and tensors: pass a copy.
        tracer: the class that traces; it decides what else is kept whole.
        report: what is kept whole is noted in it.
        bound: arguments by name that always have these values; the graph refuses others.

    Raises:
        TypeError: ``tracer`` is no class derived from `torch.fx.Tracer`.
    """
    if not (inspect.isclass(tracer) and issubclass(tracer, fx.Tracer)):
        raise TypeError(f"tracer must be a class derived from torch.fx.Tracer, not {tracer!r}")
    report = report if report is not None else Report()
    if not is_plain(model):
        report.leave(type(model).__name__, "it has hooks, or a forward of its own")
        return _whole(model)
    closed: dict[str, str] = {}
    while True:
        careful = _careful(tracer, closed, bound or {})()
        before = _Attributes(model)
        try:
            with _Factories(careful):
                graph = careful.trace(model)
            _pin(graph, bound or {})
        except Exception as error:  # noqa: BLE001 - whatever the model's code raises at a proxy
            blamed = careful.blamed
            reason = f"torch.fx cannot trace it: {_first_line(error)}"
            if blamed is None or blamed in closed:
                report.leave(type(model).__name__, reason)
                return _whole(model)
            closed[blamed] = reason
            continue
        if (changed := before.restore()) is not None:
            reason = "running it changes an attribute that is no buffer"
            if changed == "" or changed in closed:
                report.leave(changed or type(model).__name__, reason)
                return _whole(model)
            closed[changed] = reason
            continue
        for path, reason in {**careful.kept, **closed}.items():
            report.leave(path, reason)
        for node in graph.nodes:
            if isinstance(node.type, str):
                node.type = None  # an annotation that was never evaluated, and cannot be stored
        graph._tracer_cls = KeepsClasses
        traced = fx.GraphModule(careful.root, graph, type(model).__name__)
        traced.training = model.training
        return traced


class _Attributes:
    """The plain attributes of a model's modules, to see whether tracing changed any.

    torch.fx runs the model's code once, and records what is done to inputs, parameters and
    buffers. What is done to other attributes happens there and then, and never again.
    """

    def __init__(self, model: nn.Module) -> None:
        self._owners = dict(model.named_modules())
        self._values = {path: self._read(module) for path, module in self._owners.items()}

    @staticmethod
    def _read(module: nn.Module) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        for name, value in vars(module).items():
            if isinstance(value, torch.Tensor):
                plain[name] = (value, value._version, value.detach().clone())
            elif value is None or isinstance(value, int | float | str):
                plain[name] = value
        return plain

    def restore(self) -> str | None:
        """Undo what was changed, and tell the innermost module that was; None if none was."""
        found: str | None = None
        for path, module in self._owners.items():
            changed = False
            for name, value in self._values[path].items():
                now = vars(module).get(name, _GONE)
                if isinstance(value, tuple):
                    tensor, version, copied = value
                    if now is not tensor or tensor._version != version:
                        changed = True
                        with torch.no_grad():
                            tensor.copy_(copied)
                        module.__dict__[name] = tensor
                elif now is not value and (type(now) is not type(value) or now != value):
                    changed = True
                    module.__dict__[name] = value
            for name in [n for n, v in vars(module).items() if isinstance(v, fx.Proxy)]:
                changed = True
                del module.__dict__[name]
            found = path if changed else found
        return found


_GONE = object()


class _Factories(TorchFunctionMode):
    """Lets a tracer see tensors that are made from nothing: each run makes them anew.

    torch.fx alone would keep the one that was made while tracing, so that random numbers would
    never change, and what is written to it would stay from one run to the next.
    """

    _MADE = frozenset(
        getattr(torch, name)
        for name in words(
            """
            arange bernoulli empty eye full linspace logspace normal ones rand randint randn
            randperm tensor zeros
            """
        )
    )

    def __init__(self, tracer: fx.Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in self._MADE and not any(isinstance(arg, torch.Tensor) for arg in args):
            return self.tracer.create_proxy("call_function", func, args, dict(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Writable(fx.Proxy):
    """A proxy that sees ``x += y`` and ``x[i] = y``.

    torch.fx's own makes ``x = x + y`` of the first, which differs for everyone else who holds
    ``x``, and refuses the second.
    """

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})


def _augmented(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    function = getattr(operator, name)

    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in words("iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor"):
    setattr(_Writable, f"__{_name}__", _augmented(_name))


class _Careful(fx.Tracer):
    """What `_careful` makes: a tracer that remembers where it failed."""

    blamed: str | None
    kept: dict[str, str]


@one_node(Effect.FRESH, keeps=True)
def only_default(value: Any, default: Any, name: str) -> None:
    """Refuse an argument that a model was optimised without.

    Raises:
        InputMismatchError: the value is not the parameter's default.
    """
    if value is not default and not (type(value) is type(default) and value == default):
        raise InputMismatchError(
            f"this model was optimised for calls without {name}, which is {describe(value)}",
            fix=f"optimise it with {name} among the example inputs",
        )


def _pin(graph: fx.Graph, bound: Mapping[str, Any]) -> None:
    """Let the graph refuse other values than those it was traced with."""
    first = next((n for n in graph.nodes if n.op != "placeholder"), None)
    for node in [n for n in graph.nodes if n.op == "placeholder" and n.target in bound]:
        with graph.inserting_before(first):
            graph.call_function(only_default, (node, bound[str(node.target)], str(node.target)))


def _made_again(tracer: fx.Tracer, a: Any) -> fx.Node | None:
    """A node that makes an object of a class derived from ``dict``; None for what is none.

    torch.fx would make a plain dictionary.

    Raises:
        NotImplementedError: nobody says how it is made.
    """
    kind: Any = type(a)
    if not isinstance(a, dict) or kind in (dict, immutable_dict):
        return None
    if kind is OrderedDict:
        entries = [(key, tracer.create_arg(value)) for key, value in a.items()]
        return tracer.create_node("call_function", kind, (entries,), {})
    if hasattr(kind, "__dataclass_fields__"):
        values = {each.name: getattr(a, each.name) for each in dataclasses.fields(kind)}
        # A field that is not set does not show in a `transformers` output.
        given = {name: tracer.create_arg(v) for name, v in values.items() if v is not None}
        return tracer.create_node("call_function", kind, (), given)
    raise NotImplementedError(f"a {kind.__name__} cannot be made in a graph")


class KeepsClasses(fx.Tracer):
    """What `capture` traces with, and what traces its graphs again when they are unpickled."""

    def create_arg(self, a: Any) -> Any:
        """See `torch.fx.Tracer`; dictionaries keep their class."""
        own = _made_again(self, a)
        return super().create_arg(a) if own is None else own


def _careful(
    base: type[fx.Tracer], closed: Mapping[str, str], bound: Mapping[str, Any]
) -> type[_Careful]:
    class Careful(KeepsClasses, base):  # type: ignore[valid-type,misc]
        trace_asserts = True
        proxy_buffer_attributes = True  # else what is written to a buffer is written right now

        def __init__(self) -> None:
            super().__init__()
            self.blamed: str | None = None
            self.kept: dict[str, str] = {}

        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            if module_qualified_name in closed:
                return True
            leaf = bool(super().is_leaf_module(m, module_qualified_name))
            if not is_plain(m):
                why = "it has hooks" if "forward" not in vars(m) else "its forward was replaced"
                self.kept[module_qualified_name] = why
                return True
            return leaf

        def create_args_for_root(
            self, root_fn: Any, is_module: bool, concrete_args: Any = None
        ) -> tuple[Any, list[Any]]:
            function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
            names = [str(a.node.target) if isinstance(a, fx.Proxy) else "" for a in args]
            return function, [bound.get(name, a) for name, a in zip(names, args, strict=True)]

        def proxy(self, node: fx.Node) -> fx.Proxy:
            plain = super().proxy(node)
            return _Writable(node, self) if type(plain) is fx.Proxy else plain

        def call_module(
            self,
            m: nn.Module,
            forward: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            try:
                return super().call_module(m, forward, args, kwargs)
            except Exception:
                if self.blamed is None:  # the innermost comes first
                    self.blamed = self.path_of_module(m)
                raise

    return cast("type[_Careful]", Careful)


class _Caller(nn.Module):
    """Calls a module with some arguments that come as a tuple and a dictionary."""

    def __init__(self, whole: nn.Module) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, *groups: Any, **named: Any) -> Any:
        *single, args, kwargs = groups
        return self.whole(*single, *args, **named, **kwargs)


class _Holder(nn.Module):
    """What the graph of `_whole` takes its one module from."""

    def __init__(self, call: nn.Module) -> None:
        super().__init__()
        self.call = call


def _whole(model: nn.Module) -> fx.GraphModule:
    """A graph that does nothing but call the model."""
    graph = fx.Graph()
    single: list[fx.Node] = []
    args: fx.Node | tuple[()] = ()
    kwargs: fx.Node | None = None
    named: dict[str, Any] = {}
    parameters = inspect.signature(model.forward).parameters.values()
    # What has a default is named, as most callers do: decorators look for it among the named.
    # Hooks look for it among the others.
    by_place = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters) or any(
        getattr(model, hooks, None) for hooks in _HOOKS
    )
    for parameter in parameters:
        starred: dict[Any, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
        default = () if parameter.default is parameter.empty else (parameter.default,)
        prefix = starred.get(parameter.kind, "")
        node = graph.create_node("placeholder", prefix + parameter.name, default)
        if prefix == "*":
            args = node
        elif prefix:
            kwargs = node
        elif parameter.kind is parameter.KEYWORD_ONLY or (
            default and not by_place and parameter.kind is not parameter.POSITIONAL_ONLY
        ):
            named[parameter.name] = node
        else:
            single.append(node)
    call: nn.Module = model
    given: tuple[Any, ...] = tuple(single)
    if args or kwargs is not None:
        call, given = _Caller(model), (*single, args, {} if kwargs is None else kwargs)
    graph.output(graph.call_module("call", given, named))
    return fx.GraphModule(_Holder(call), graph, type(model).__name__)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
