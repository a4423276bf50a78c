"""The tracer: it records the calls of a program, and runs each call on meta values.

This module is long because torch.fx asks all its questions to one class.
"""

from __future__ import annotations

import dataclasses
import inspect
import operator
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TypeAlias

from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.fx.proxy import Attribute, ParameterProxy
from torch.utils import _pytree as pytree

from symfx.errors import SymfxError, TracingError
from symfx.meta_tracer.errors import MetaArgumentsError, NotRecordableError
from symfx.meta_tracer.function_mode import RecordsArguments
from symfx.meta_tracer.overrides import manual_meta_overrides
from symfx.meta_tracer.program import (
    VARIADIC,
    Buffers,
    as_function,
    check_hooks,
    check_names,
    checked_meta_args,
    explained_error,
)
from symfx.meta_tracer.proxies import (
    QUERIES,
    DeviceName,
    MetaDeviceAttribute,
    MetaProxy,
    has_meta,
    proxies_in,
    proxys_to_metas,
)
from symfx.meta_tracer.values import MethodCall, Values, tensors_in, without_data
from symfx.torch_bridge.fx_graphs import forget_wrapped_functions_that_are_gone, take_pytree_inputs
from symfx.torch_bridge.settings_watch import Effect, Watch
from symfx.user_code import UserFrame, boundary, here

__all__ = ["MetaTracer", "symbolic_trace"]

_Args: TypeAlias = tuple[Any, ...]
_Kwargs: TypeAlias = dict[str, Any]

# torch.fx patches nn.Module while it traces, so only one trace may run at a time.
_LOCK = threading.RLock()
# These are recorded, to fail when the graph runs, and not run while tracing.
_ASSERTIONS = frozenset({"_assert", "_assert_is_none", "assert_fn"})


class MetaTracer(fx.Tracer):
    """A tracer of torch.fx whose proxies have meta values.

    Attributes:
        allow_insert_stateless_mods: whether modules without parameters and buffers that the
            program makes while it runs become submodules of the root.
        meta_args: the meta values given for the trace.

    Example:
        >>> tracer = MetaTracer()
        >>> meta_args = {"x": torch.empty(2, 6, device="meta")}
        >>> graph = tracer.trace(lambda x: x[:, : x.shape[1] // 2], meta_args)
        >>> [node.meta["val"].shape for node in graph.nodes if "val" in node.meta]
        [torch.Size([2, 6]), torch.Size([2, 3])]
    """

    allow_insert_stateless_mods: bool = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.meta_args: dict[str, Any] = {}
        self.inserted_modules: list[str] = []
        self._values = Values(())
        self._running = False
        self._program: Any = None
        self._concrete_leaves: dict[str, Iterator[Any]] = {}
        self._told: set[tuple[str, str]] = set()

    # -- recording ----------------------------------------------------------------------------

    def proxy(self, node: fx.Node) -> MetaProxy:
        """A proxy for a node."""
        return MetaProxy(node, self)

    def create_node(
        self,
        kind: str,
        target: Any,
        args: _Args,
        kwargs: _Kwargs,
        name: str | None = None,
        type_expr: Any = None,
    ) -> fx.Node:
        """Record a node; see `torch.fx.Tracer.create_node`."""
        # An annotation that is text (`from __future__ import annotations`) uses names that the
        # generated code lacks, so that the graph module could not be loaded or pickled.
        known = None if isinstance(type_expr, str) else type_expr
        return super().create_node(kind, target, args, kwargs, name, known)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: _Args,
        kwargs: _Kwargs,
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Callable[[fx.Node], fx.Proxy] | None = None,
    ) -> Any:
        """Record a call, and run it on meta values.

        Args:
            kind, target, args, kwargs, name, type_expr, proxy_factory_fn: as for
                `torch.fx.Tracer.create_proxy`.

        Returns:
            A proxy; for a question about metadata (`proxies.QUERIES`) its answer, which is not
            recorded.
        """
        if self._running:
            raise TracingError(f"a call of {target} on meta values got a proxy as an argument")
        if _is_query(kind, target) and all(map(has_meta, proxies_in((args, kwargs)))):
            answer = self._run(kind, target, args, kwargs)
            if not tensors_in(answer):
                return answer
        result = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        if not isinstance(result, MetaProxy):
            return result
        if kind == "placeholder":
            self._install_given(result, str(target))
        elif kind != "output" and getattr(target, "__name__", None) not in _ASSERTIONS:
            self._install_computed(result, kind, target, args, kwargs)
        return result

    def _install_given(self, proxy: MetaProxy, target: str) -> None:
        name = target.lstrip("*")
        if target not in self.meta_args and name not in self.meta_args:
            leaves = self._concrete_leaves.get(target.rpartition("_")[0], iter(()))
            value = next(leaves, None)
            if value is None:
                proxy._reason = f"the input `{name}` was given no meta value"
                return
        else:
            value = self.meta_args.get(target, self.meta_args.get(name))
        own = pytree.tree_map_only(Tensor, self._values.own, value)
        proxy.install_tensor_meta(own)
        proxy.node.meta["val"] = own

    def _install_computed(
        self,
        proxy: MetaProxy,
        kind: str,
        target: Any,
        args: _Args,
        kwargs: _Kwargs,
    ) -> None:
        for p in proxies_in((args, kwargs)):
            device = isinstance(p, MetaDeviceAttribute)
            if isinstance(p, MetaProxy) and not device and not has_meta(p):
                proxy._reason = p._why_unknown()
                return
        try:
            meta = self._run(kind, target, args, kwargs)
        except Exception as error:  # noqa: BLE001  a program's functions may raise anything
            message = f"Could not compute metadata for {kind} target {target}: {error}"
            place = here()
            warnings.warn(message + (f"\n  at: {place}" if place else ""), stacklevel=3)
            proxy._reason = f"{target} cannot be computed without data ({error})"
            return
        proxy.install_tensor_meta(meta)
        proxy.node.meta["val"] = meta

    def _run(self, kind: str, target: Any, args: _Args, kwargs: Mapping[str, Any]) -> Any:
        """The result of a call on meta values."""

        def to_meta(v: Any) -> Any:
            if isinstance(v, ParameterProxy):
                return self._values.twin(v.param)
            if isinstance(v, Attribute) and isinstance(v.root, ParameterProxy):
                return getattr(to_meta(v.root), v.attr)
            if isinstance(v, fx.Proxy):
                return proxys_to_metas(v)
            return self._values.twin(v) if isinstance(v, Tensor) else v

        args = map_aggregate(args, to_meta)
        kwargs = dict(map_aggregate(dict(kwargs), to_meta))
        self._running = True
        try:
            if kind == "call_function":
                override = _override(target)
                if override is not None:
                    return self._values.run_override(override, args, kwargs)
                return self._values.run(target, args, kwargs)
            if kind == "call_method":
                return self._values.run(MethodCall(target), args, kwargs)
            if kind == "call_module":
                module = self.root.get_submodule(target)
                override = _override(type(module))
                if override is not None:
                    return self._values.run_override(override, (module, *args), kwargs)
                return self._values.run(self._values.module(module), args, kwargs)
            value = operator.attrgetter(target)(self.root)
            return self._values.twin(value) if isinstance(value, Tensor) else value
        finally:
            self._running = False

    # -- torch.fx's protocol --------------------------------------------------------------------

    def create_arg(self, a: Any) -> Any:
        """An argument of a node; see `torch.fx.Tracer.create_arg`."""
        # Tested first, because a proxy may pass for a tuple.
        if isinstance(a, fx.Proxy):
            return a.node
        if isinstance(a, DeviceName):
            return a.device.node
        if isinstance(a, dict) and dataclasses.is_dataclass(a):
            # Outputs of transformers' models: torch.fx would make plain dictionaries of them.
            given = {f.name: getattr(a, f.name) for f in dataclasses.fields(a)}
            options = {k: self.create_arg(v) for k, v in given.items() if v is not None}
            return self.create_node("call_function", type(a), (), options)
        try:
            return super().create_arg(a)
        except NotRecordableError:
            raise
        except NotImplementedError as error:
            if type(a) in pytree.SUPPORTED_NODES:
                leaves, spec = pytree.tree_flatten(a)
                parts = (self.create_arg(leaves), self.create_arg(spec))
                return self.create_node("call_function", pytree.tree_unflatten, parts, {})
            raise NotRecordableError(
                f"the program returns, or passes to an operator, a {type(a).__qualname__}, "
                "which a graph cannot hold",
                where=here() or self._defined_at(),
                fix="return tensors, numbers, and lists, tuples, dictionaries and dataclasses of "
                "them (for a model of transformers: use_cache=False in concrete_args)",
            ) from error

    def _defined_at(self) -> str | None:
        """The line that defines the traced program."""
        code = getattr(inspect.unwrap(self._program), "__code__", None)
        return None if code is None else str(UserFrame(code, code.co_firstlineno))

    def to_bool(self, obj: fx.Proxy) -> bool:
        """The truth of a proxy's value, where it does not depend on data."""
        if not isinstance(obj, MetaProxy):
            return super().to_bool(obj)
        if has_meta(obj) and not tensors_in(obj._tensor_meta):
            return bool(obj._tensor_meta)
        if has_meta(obj) and not isinstance(obj._tensor_meta, Tensor):
            return bool(len(obj._tensor_meta))
        obj._refuse("the truth of")

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        """The value that the program gets for an attribute of a module."""
        if self._running:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: _Args,
        kwargs: _Kwargs,
    ) -> Any:
        """Record a call of a leaf module, or trace into a module that is no leaf."""
        if self._running:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def path_of_module(self, mod: nn.Module) -> str:
        """The name of a module. A stateless module that the program makes becomes a submodule.

        Raises:
            TracingError: the module is no submodule of the root, and has parameters or buffers.
        """
        try:
            return super().path_of_module(mod)
        except NameError:
            if (
                self.allow_insert_stateless_mods
                and next(mod.parameters(), None) is None
                and next(mod.buffers(), None) is None
            ):
                return self._insert_module_as_submodule(mod)
            raise TracingError(
                f"the program calls a {type(mod).__name__} that is no submodule of the traced "
                "module",
                where=here(),
                fix="make it in __init__ and keep it as an attribute",
            ) from None

    def _insert_module_as_submodule(self, mod: nn.Module) -> str:
        kind = type(mod).__name__.lower()
        index = 0
        while hasattr(self.root, f"{kind}_{index}"):
            index += 1
        path = f"{kind}_{index}"
        self.root.add_module(path, mod)
        self.inserted_modules.append(path)
        if self.submodule_paths is not None:
            self.submodule_paths[mod] = path
        return path

    # -- a trace ----------------------------------------------------------------------------------

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,
        concrete_args: dict[str, Any] | tuple[Any, ...] | None = None,
    ) -> tuple[Any, list[Any]]:
        """Placeholders for the parameters of a program; see `torch.fx.Tracer`.

        A function that decorators wrap is called through its decorators. Its ``*args`` and
        ``**kwargs`` are the ones that have meta values.
        """
        if inspect.unwrap(root_fn) is root_fn:
            if isinstance(concrete_args, dict):
                self._match_leaves(concrete_args)
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        signature = inspect.signature(root_fn)
        parameters = list(signature.parameters.values())
        if is_module:
            parameters = parameters[1:]
        if isinstance(concrete_args, tuple):
            names = [p.name for p in parameters if p.kind not in VARIADIC]
            if len(names) != len(concrete_args):
                raise TracingError(
                    f"{len(concrete_args)} concrete arguments were given for the "
                    f"{len(names)} parameters {', '.join(names)}"
                )
            concrete_args = dict(zip(names, concrete_args, strict=True))
        self._match_leaves(concrete_args or {})
        inner = inspect.unwrap(root_fn)
        inner = inner if hasattr(inner, "__annotations__") else root_fn
        values: list[Any] = []
        for p in parameters:
            if p.kind in VARIADIC:
                if p.name in self.meta_args:
                    stars = "*" if p.kind is p.VAR_POSITIONAL else "**"
                    values.append(self.create_proxy("placeholder", stars + p.name, (), {}))
                continue
            values.append(self._proxy_placeholder(p.name, concrete_args, signature, inner))
        names = [p.name for p in parameters if p.kind not in VARIADIC or p.name in self.meta_args]
        first = [self.root] if is_module else []
        flat, spec = pytree.tree_flatten(tuple(values))
        nested = not all(child.is_leaf() for child in spec.children())
        if nested:
            take_pytree_inputs(self.graph, [*(["self"] if is_module else []), *names], spec)

        def call(*given: Any) -> Any:
            bound = dict(
                zip(names, pytree.tree_unflatten(list(given[len(first) :]), spec), strict=True)
            )
            args: list[Any] = []
            kwargs: _Kwargs = {}
            optional = not any(p.kind is p.VAR_POSITIONAL and p.name in bound for p in parameters)
            for p in parameters:
                if p.name not in bound:
                    continue
                value = bound[p.name]
                if p.kind is p.VAR_POSITIONAL:
                    args.extend(value)
                elif p.kind is p.VAR_KEYWORD:
                    kwargs.update({key: value[key] for key in list(value)})
                elif p.kind is p.KEYWORD_ONLY or (optional and p.default is not p.empty):
                    # Most callers pass options by keyword, and decorators look for them there.
                    kwargs[p.name] = value
                else:
                    args.append(value)
            return root_fn(*first, *args, **kwargs)

        return call, [*first, *flat]

    def _tell(self, effect: Effect) -> None:
        """Warn of a change of a setting that the graph does not record."""
        if self._running or effect.verb in ("reads", "computes"):
            return
        place = here()
        if place is not None and (str(effect), place) not in self._told:
            self._told.add((str(effect), place))
            warnings.warn(
                f"the program {effect}, which a graph does not record\n  at: {place}\n  "
                "to fix: do it around the call of the graph, or make the code a leaf",
                stacklevel=3,
            )

    def _match_leaves(self, concrete_args: Mapping[str, Any]) -> None:
        """Keep the meta value of each leaf of a partly concrete argument, for its placeholder."""
        for name, concrete in concrete_args.items():
            if name in self.meta_args:
                leaves = pytree.tree_leaves(self.meta_args[name])
                if len(leaves) != len(pytree.tree_leaves(concrete)):
                    raise MetaArgumentsError(
                        f"meta_args and concrete_args have different structures for `{name}`"
                    )
                self._concrete_leaves[name] = iter(leaves)

    @boundary
    def trace(  # type: ignore[override]
        self,
        root: nn.Module | Callable[..., Any],
        meta_args: dict[str, Any] | None = None,
        concrete_args: dict[str, Any] | None = None,
    ) -> fx.Graph:
        """Trace a program.

        Args:
            root: a module or function.
            meta_args: for each parameter with a known shape a tensor of that shape on the meta
                device, or a structure of them. Tensors on other devices, fake or real, give
                their device too; no data is read.
            concrete_args: for each fixed parameter its value; see `torch.fx.Tracer`.

        Returns:
            The graph; each node has its meta value in ``node.meta["val"]`` where it is known.

        Raises:
            MetaArgumentsError: `meta_args` is no dictionary of tensors.
            ControlFlowError: control flow depends on data, or on an input without meta value.
            TracingError: the program changes a buffer in a way that cannot be recorded, or has
                hooks.

        Warns:
            UserWarning: the program changes a setting of torch around its operators, such as the
                grad mode or autocast; the graph runs without the change.
        """
        check_hooks(root)
        self.meta_args = checked_meta_args(meta_args)
        self._values = Values(self.meta_args)
        self._concrete_leaves = {}
        self._program = type(root).forward if isinstance(root, nn.Module) else root
        self._told.clear()
        mode = RecordsArguments(self.create_proxy, lambda: self._running)
        with _LOCK, mode, Watch(self._tell):
            forget_wrapped_functions_that_are_gone()
            state = Buffers(root)
            try:
                graph = super().trace(as_function(root), concrete_args)
            except SymfxError:
                raise
            except Exception as error:
                explained = explained_error(error, root, {*self.meta_args, *(concrete_args or ())})
                if explained is None:
                    raise
                raise explained from error
            finally:
                changed = state.restore()
        if changed:
            raise TracingError(
                f"the program assigns to the buffers {', '.join(changed)}, which a graph cannot do",
                fix="write into them instead (`self.buffer.copy_(value)`), or make the module "
                "that assigns them a leaf",
            )
        # torch.fx traces a pickled module again when it loads it, with these arguments.
        on_meta = pytree.tree_map_only(Tensor, without_data, self.meta_args)
        graph._tracer_extras = {"meta_args": on_meta}
        return graph


def symbolic_trace(
    root: nn.Module | Callable[..., Any],
    meta_args: dict[str, Any] | None = None,
    concrete_args: dict[str, Any] | None = None,
) -> fx.GraphModule:
    """Trace a program with torch.fx; its control flow may depend on shapes, dtypes and devices.

    Args:
        root: a module or function.
        meta_args: for each parameter with a known shape a tensor of that shape on the meta
            device, or a structure (list, tuple, dictionary) of them; see `MetaTracer.trace`.
        concrete_args: for each fixed parameter its value.

    Returns:
        A module that computes the results of `root` for inputs of these shapes.

    Raises:
        MetaArgumentsError: a meta argument is no tensor, or names no parameter of `root`.
        ControlFlowError: control flow depends on data, or on an input without meta value.
        NotRecordableError: the program returns a value that a graph cannot hold.
        TracingError: the program cannot be recorded for another reason.

    Example:
        >>> def f(x):
        ...     a, b = x.chunk(2)
        ...     return a * b if len(x) > 2 else x
        >>> gm = symbolic_trace(f, {"x": torch.empty(4, device="meta")})
        >>> gm(torch.arange(4.0))
        tensor([0., 3.])
    """
    check_names(root, checked_meta_args(meta_args))
    tracer = MetaTracer()
    try:
        graph = tracer.trace(root, meta_args, concrete_args)
        name = None if isinstance(root, nn.Module) else getattr(root, "__name__", None)
        return fx.GraphModule(tracer.root, graph, name or type(root).__name__)
    finally:
        # The graph module has these modules now; the user's module must not keep them.
        for path in tracer.inserted_modules:
            delattr(tracer.root, path)


def _is_query(kind: str, target: Any) -> bool:
    asked = kind in ("call_function", "call_method")
    return asked and isinstance(target, Hashable) and target in QUERIES


def _override(target: Any) -> Callable[..., Any] | None:
    usable = callable(target) and isinstance(target, Hashable)
    return manual_meta_overrides.get(target) if usable else None
