"""Capturing a model as a graph; modules that torch.fx cannot trace stay one call in it."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

import torch
from torch import fx, nn
from torch.fx.immutable_collections import immutable_dict
from torch.overrides import TorchFunctionMode

from symfx.errors import OptimizationError, TracingError
from symfx.optimization.graphs.arguments import Arguments, is_value
from symfx.optimization.graphs.assumptions import Answers
from symfx.optimization.graphs.effect_tables import ATTENTION_MODULES, words
from symfx.optimization.graphs.effects import is_plain
from symfx.optimization.graphs.whole_models import HOOKS, STARS, pin, whole, whole_as_called
from symfx.optimization.report import Report
from symfx.optimization.runtime.assumed import assumed_length, assumed_truth
from symfx.torch_bridge.settings_watch import Effect, Watch

__all__ = ["capture", "capture_at_once", "check_module", "copy_of"]

Model = TypeVar("Model", bound=nn.Module)


def check_module(model: object) -> None:
    """Raise an OptimizationError unless the model is a module."""
    if not isinstance(model, nn.Module):
        raise OptimizationError(
            f"only a torch.nn.Module can be optimized, not a {type(model).__name__}",
            fix="pass the model itself",
        )


def copy_of(model: Model) -> Model:
    """A copy that shares no tensor and no module with the model.

    Raises:
        TracingError: the model cannot be copied.
    """
    try:
        # A tensor that hooks compute from parameters, as weight normalization does, has a history
        # of gradients, and such a tensor cannot be copied.
        memo: dict[int, Any] = {
            id(value): value.detach().clone()
            for module in model.modules()
            for value in vars(module).values()
            if isinstance(value, torch.Tensor) and not value.is_leaf
        }
        result = copy.deepcopy(model, memo)
        for module, twin in zip(model.modules(), result.modules(), strict=True):
            if isinstance(module, fx.GraphModule):  # its copy has no hooks
                for name in HOOKS:
                    setattr(twin, name, copy.copy(getattr(module, name)))
        return result
    except Exception as error:
        raise TracingError(
            f"{type(model).__name__} cannot be copied: {type(error).__name__}: {error}",
            fix="symfx works on a copy, so that your model does not change; give the part that "
            "cannot be copied a __deepcopy__, or take it out of the model",
        ) from error


def capture(
    model: nn.Module,
    tracer: type[fx.Tracer] = fx.Tracer,
    report: Report | None = None,
    arguments: Arguments | None = None,
    closed: Mapping[str, str] | None = None,
    *,
    assumes: bool = False,
) -> fx.GraphModule:
    """Trace a model with `torch.fx`; some of its modules are kept whole, as one call each.

    Kept whole are modules with hooks, modules whose ``forward`` was replaced, and modules whose
    code torch.fx cannot trace, such as code that branches on a value.

    Args:
        model: the model. The graph shares its modules and tensors: pass a copy.
        tracer: the class that traces; its ``is_leaf_module`` may keep other modules whole.
        report: gets the modules that are kept whole, with the reasons.
        arguments: those of an example call; the graph refuses other constants than they have.
        closed: modules that are kept whole by path, with the reasons.
        assumes: questions of the model's code about shapes and dtypes are answered as for the
            example, and the graph checks the answers; see `symfx.optimization.graphs.assumptions`.

    Returns:
        the graph. If the model itself is kept whole, the graph is one call of it; see `is_whole`.

    Raises:
        TypeError: ``tracer`` is no class derived from `torch.fx.Tracer`.
    """
    captured = _captured(model, tracer, report, arguments, closed, assumes=assumes)
    assert captured is not None
    return captured


def capture_at_once(
    model: nn.Module, tracer: type[fx.Tracer], report: Report, arguments: Arguments
) -> fx.GraphModule | None:
    """As `capture`; None where a module that calls other modules would have to be kept whole."""
    found = Report()
    captured = _captured(model, tracer, found, arguments, at_once=True)
    if captured is not None:
        report.extend(found)
    return captured


def _captured(
    model: nn.Module,
    tracer: type[fx.Tracer],
    report: Report | None,
    arguments: Arguments | None,
    closed: Mapping[str, str] | None = None,
    *,
    assumes: bool = False,
    at_once: bool = False,
) -> fx.GraphModule | None:
    if not (inspect.isclass(tracer) and issubclass(tracer, fx.Tracer)):
        raise TypeError(f"tracer must be a class derived from torch.fx.Tracer, not {tracer!r}")
    report = report if report is not None else Report()
    if not is_plain(model):
        report.leave(type(model).__name__, "it has hooks, or a forward set on the instance")
        return whole(model)
    if assumes and arguments is not None and type(model) in ATTENTION_MODULES:
        return whole_as_called(model, arguments)  # its formula says more than its code
    closed = dict(closed or {})
    if "" in closed:
        report.leave(type(model).__name__, closed[""])
        return whole(model)
    while True:
        careful = _careful(tracer, closed, arguments)()
        if assumes and arguments is not None:
            careful.answers = Answers(model, arguments.given)
        before = _Attributes(model)
        try:
            with _Factories(careful), Watch(careful.stop):
                graph = careful.trace(model)
            if careful.stopped is not None:
                raise careful.stopped  # the model's code has caught it
            pin(graph, arguments.fixed if arguments else {})
        except Exception as error:  # noqa: BLE001 - the model's code may raise anything at a proxy
            blamed = careful.blamed
            reason = f"torch.fx cannot trace it: {_first_line(error)}"
            if careful.stopped is not None:
                blamed, reason = careful.stopped.path, str(careful.stopped)
            before.restore()
            if not blamed or blamed in closed:
                if type(model) in ATTENTION_MODULES and arguments is not None:
                    return whole_as_called(model, arguments)  # a pass knows its formula
                report.leave(type(model).__name__, reason)
                return whole(model)
            if at_once and any(model.get_submodule(blamed).children()):
                return None
            closed[blamed] = reason
            continue
        if (changed := before.restore()) is not None:
            reason = "running it changes an attribute that is no buffer"
            if changed == "" or changed in closed:
                report.leave(changed or type(model).__name__, reason)
                return whole(model)
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
    """The plain attributes of a model's modules, to find those that tracing changed.

    torch.fx runs the model's code once, and records operations on inputs, parameters and buffers.
    A change of another attribute happens while tracing, and is missing from the graph.
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
        """Undo the changes; return the path of the innermost changed module, None if none is."""
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
    """Records the calls that make a tensor from numbers alone, so that each run makes a new one.

    torch.fx would keep the tensor that was made while tracing: random numbers would be the same in
    each run, and writes to the tensor would last from one run to the next.
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
    """A proxy that records ``x += y`` and ``x[i] = y``.

    torch.fx's own proxy records ``x = x + y`` for the first, which leaves other references to
    ``x`` unchanged, and refuses the second. The length of a value is known where the tracer can
    answer questions.
    """

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __getattr__(self, k: str) -> Any:
        answers = cast("_Careful", self.tracer).answers
        if answers is not None and k == "shape":  # torch.fx's object for it has no length
            return self.tracer.create_proxy("call_function", getattr, (self, k), {})
        # Any attribute seems to be there, so that `hasattr` is true for each.
        if answers is not None and not hasattr(torch.Tensor, k) and answers.lacks(self.node, k):
            raise AttributeError(f"this value has no attribute {k!r}")
        return super().__getattr__(k)

    def __len__(self) -> int:
        tracer = cast("_Careful", self.tracer)
        found = None if tracer.answers is None else tracer.answers.length(self.node)
        if found is None:
            return int(super().__len__())
        tracer.create_proxy("call_function", assumed_length, (self, found), {})
        return found


def _augmented(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    function = getattr(operator, name)

    def method(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    return method


for _name in words("iadd isub imul itruediv ifloordiv imod ipow imatmul iand ior ixor"):
    setattr(_Writable, f"__{_name}__", _augmented(_name))


class _LeavesTheGraph(Exception):
    """A module's code makes a call whose effect a graph cannot hold.

    Args:
        reason: the effect in words.
        path: the path of the module; empty for the root.
    """

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.path = path


class _Careful(fx.Tracer):
    """The type of the tracers that `_careful` makes.

    Attributes:
        blamed: the path of the innermost module whose tracing failed, or None.
        kept: the modules that are kept whole by path, with the reasons.
        stopped: the exception that stopped the trace, even if the model's code caught it.
        answers: the answers to questions about shapes and dtypes; None if there are none.
    """

    answers: Answers | None
    blamed: str | None
    kept: dict[str, str]
    stopped: _LeavesTheGraph | None

    def stop(self, effect: Effect) -> None:
        """Stop the trace at a call whose effect a graph cannot hold."""
        raise NotImplementedError


def _made_again(tracer: fx.Tracer, a: Any) -> fx.Node | None:
    """A node that makes an object of a class derived from ``dict``; None for other objects.

    torch.fx would make a plain dictionary.

    Raises:
        NotImplementedError: the constructor of the class is not known.
    """
    kind: Any = type(a)
    if not isinstance(a, dict) or kind in (dict, immutable_dict):
        return None
    if kind is OrderedDict:
        entries = [(key, tracer.create_arg(value)) for key, value in a.items()]
        return tracer.create_node("call_function", kind, (entries,), {})
    if hasattr(kind, "__dataclass_fields__"):
        values = {each.name: getattr(a, each.name) for each in dataclasses.fields(kind)}
        # An output of `transformers` does not show its fields that are None.
        given = {name: tracer.create_arg(v) for name, v in values.items() if v is not None}
        return tracer.create_node("call_function", kind, (), given)
    raise NotImplementedError(f"a {kind.__name__} cannot be made in a graph")


class KeepsClasses(fx.Tracer):
    """The tracer of `capture`, which also traces its graphs again when they are unpickled."""

    def create_arg(self, a: Any) -> Any:
        """An argument of a node, as in `torch.fx.Tracer`; dictionaries keep their class."""
        own = _made_again(self, a)
        return super().create_arg(a) if own is None else own


def _careful(
    base: type[fx.Tracer], closed: Mapping[str, str], arguments: Arguments | None
) -> type[_Careful]:
    class Careful(KeepsClasses, base):  # type: ignore[valid-type,misc]
        trace_asserts = True
        proxy_buffer_attributes = True  # otherwise a write to a buffer happens while tracing

        def __init__(self) -> None:
            super().__init__()
            self.answers: Answers | None = None
            self.blamed: str | None = None
            self.kept: dict[str, str] = {}
            self.paths = [""]  # of the modules whose forward is running, from the root
            self.stopped: _LeavesTheGraph | None = None

        def stop(self, effect: Effect | str) -> None:
            self.stopped = _LeavesTheGraph(f"it {effect}", self.paths[-1])
            raise self.stopped

        def create_arg(self, a: Any) -> Any:
            if isinstance(a, torch.Generator):  # its state is not that of the graph
                self.stop("draws from a random number generator that it is given")
            return super().create_arg(a)

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
            parameters = list(inspect.signature(root_fn).parameters.values())
            assumes = self.answers is not None
            if arguments is None or not _are_known(parameters, arguments, assumes):
                plain: Any = super().create_args_for_root(root_fn, is_module, concrete_args)
                return cast("tuple[Any, list[Any]]", plain)
            # torch.fx would pass all arguments by position, to the code of the innermost function;
            # a decorated forward, which takes *args and **kwargs, then finds none by its name.
            args, kwargs = [self.root], {}
            for parameter in parameters[1:]:
                default = () if parameter.default is parameter.empty else (parameter.default,)
                name = STARS.get(parameter.kind, "") + parameter.name
                proxy = self.create_proxy("placeholder", name, default, {})
                value = arguments.fixed.get(name, proxy)
                if parameter.kind is parameter.VAR_KEYWORD:
                    extra = arguments.given.get(parameter.name, {})
                    kwargs.update({k: value[k] if is_value(v) else v for k, v in extra.items()})
                elif parameter.name in arguments.left or parameter.kind is parameter.VAR_POSITIONAL:
                    continue  # the forward's own default
                elif parameter.kind is parameter.KEYWORD_ONLY or (
                    default and parameter.kind is not parameter.POSITIONAL_ONLY
                ):
                    kwargs[parameter.name] = value
                else:
                    args.append(value)
            return functools.partial(root_fn, **kwargs), args

        def to_bool(self, obj: fx.Proxy) -> bool:
            found = None if self.answers is None else self.answers.truth(obj.node)
            if found is None:
                return bool(super().to_bool(obj))
            self.create_proxy("call_function", assumed_truth, (obj, found), {})
            return found

        def iter(self, obj: fx.Proxy) -> Iterator[fx.Proxy]:
            found = None if self.answers is None else self.answers.length(obj.node)
            if found is None:
                return cast("Iterator[fx.Proxy]", super().iter(obj))
            self.create_proxy("call_function", assumed_length, (obj, found), {})
            return iter([cast("Any", obj)[index] for index in range(found)])

        def proxy(self, node: fx.Node) -> fx.Proxy:
            plain = super().proxy(node)
            return _Writable(node, self) if type(plain) is fx.Proxy else plain

        def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
            if self.answers is not None and self.answers.running:
                return attr_val
            return super().getattr(attr, attr_val, parameter_proxy_cache)

        def call_module(
            self,
            m: nn.Module,
            forward: Callable[..., Any],
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
        ) -> Any:
            if self.answers is not None and self.answers.running:
                return forward(*args, **kwargs)  # this is no call of the model's code
            self.paths.append(self.path_of_module(m))
            try:
                return super().call_module(m, forward, args, kwargs)
            except Exception:
                if self.blamed is None:  # the innermost module fails first
                    self.blamed = self.paths[-1]
                raise
            finally:
                self.paths.pop()

    return cast("type[_Careful]", Careful)


def _are_known(parameters: list[inspect.Parameter], arguments: Arguments, assumes: bool) -> bool:
    """Whether the entries of ``*args`` and ``**kwargs``, if any, can be told apart.

    Values in ``**kwargs`` are read from the dictionary, whose keys only a part checks.
    """
    return all(
        STARS[parameter.kind] + parameter.name in arguments.fixed
        or (assumes and parameter.kind is parameter.VAR_KEYWORD)
        for parameter in parameters
        if parameter.kind in STARS
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
