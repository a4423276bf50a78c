"""make_fx: a function called once on stand-ins for its arguments becomes a graph of operators."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import fx
from torch._dispatch.python import enable_python_dispatcher
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.errors import SpecError, TracingError
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.cache import OperationCache
from symfx.proxy_tensor.cleanup import remove_dead_nodes
from symfx.proxy_tensor.function_mode import PreDispatchTorchFunctionMode, TracingFunctionMode
from symfx.proxy_tensor.inputs import (
    DynamicShapes,
    fake_inputs,
    is_symfx_env,
    parameter_names,
)
from symfx.proxy_tensor.mode import ProxyTorchDispatchMode
from symfx.proxy_tensor.modules import ModuleStack, module_of
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.proxy_tensor.tracer import PythonKeyTracer
from symfx.symbolic_shapes import ShapeEnv
from symfx.symbolic_shapes.provenance import boundary
from symfx.torch_bridge.fx_graphs import graph_module, take_pytree_inputs, takes_pytree_inputs
from symfx.torch_bridge.modes import fx_tracing, without_autocast_cache, without_proxy_mode

__all__ = ["current_trace", "make_fx"]

TracingMode = Literal["real", "fake", "symbolic"]

_current: ContextVar[Trace | None] = ContextVar("symfx_trace", default=None)


def make_fx(
    f: Callable[..., Any],
    decomposition_table: Mapping[Any, Callable[..., Any]] | None = None,
    tracing_mode: TracingMode = "real",
    _allow_non_fake_inputs: bool = False,
    *,
    pre_dispatch: bool = False,
    record_module_stack: bool = False,
    _allow_fake_constant: bool = False,
    _error_on_data_dependent_ops: bool = True,
    record_stack_traces: bool = False,
    proxy_module_inputs: bool = False,
    dynamic_shapes: DynamicShapes = None,
) -> Callable[..., fx.GraphModule]:
    """A function that, called with arguments of `f`, gives the graph of operators that `f` runs.

    Args:
        f: a function of tensors, numbers and trees of them; or a module.
        decomposition_table: for each operator to decompose, the function that computes it.
        tracing_mode: ``"real"`` computes with the arguments themselves, ``"fake"`` with fake
            tensors of their sizes, ``"symbolic"`` with fake tensors whose sizes are symbols,
            so that the graph serves other sizes too.
        _allow_non_fake_inputs: real tensors that `f` refers to (the weights of a module) may
            meet fake ones; they become constants of the graph.
        pre_dispatch: record above autograd: operators that autograd or autocast would take
            apart stay whole, and switching gradients or autocast on and off is recorded.
        record_module_stack: where `f` is a module, or has one as ``_orig_mod``: record on each
            node which of its submodules and which function of torch it stems from, and the
            lines of ``forward`` that led to it.
        _allow_fake_constant: fake tensors that `f` refers to may become constants.
        _error_on_data_dependent_ops: in mode ``"real"``, reading a number out of a tensor is
            an error; otherwise the number is baked in.
        record_stack_traces: record on each node the lines of modules' ``forward`` that led
            to it.
        proxy_module_inputs: modules among the arguments become proxies. Not supported yet.
        dynamic_shapes: in mode ``"symbolic"``, which dimensions vary: None for all (equal
            sizes share a symbol; 0 and 1 are constants), else an entry for each argument, in a
            sequence or by parameter name. An entry is None (static), True (all dimensions
            vary), a dict from dimension to `Dim`, name, True or None, a list with one of those
            or an int for each dimension, or for a tree of tensors the same tree of entries.
            For an int: None (constant), True, a name or a `Dim`.

    Returns:
        A function of positional arguments that returns a `torch.fx.GraphModule`. In mode
        ``"symbolic"`` the module's ``shape_env`` holds the symbols and guards. Each node's
        ``meta["val"]`` is what the node's value was, without data.

    Raises:
        SpecError: an argument of make_fx, or `dynamic_shapes`, makes no sense.
        TracingError: `f` does what cannot be recorded.

    Example:
        >>> g = make_fx(lambda x: x.sin() + 1, tracing_mode="symbolic")(torch.ones(3, 4))
        >>> [n.name for n in g.graph.nodes]
        ['x_1', 'sin', 'add', 'output']
        >>> g(torch.zeros(5, 7)).shape
        torch.Size([5, 7])
    """
    if tracing_mode not in ("real", "fake", "symbolic"):
        raise SpecError(
            f"tracing_mode is {tracing_mode!r}",
            where="make_fx",
            fix='use "real", "fake" or "symbolic"',
        )
    for name, value in (("proxy_module_inputs", proxy_module_inputs),):
        if value:
            raise SpecError(
                f"{name}=True is not supported yet", where="make_fx", fix=f"leave {name} out"
            )
    if dynamic_shapes is not None and tracing_mode != "symbolic":
        raise SpecError(
            f"dynamic_shapes is given, but tracing_mode is {tracing_mode!r}",
            where="make_fx",
            fix='pass tracing_mode="symbolic"',
        )

    @functools.wraps(f)
    def trace(*args: Any) -> fx.GraphModule:
        return Trace(
            f,
            args,
            tracing_mode,
            decomposition_table=decomposition_table,
            allow_non_fake_inputs=_allow_non_fake_inputs,
            allow_fake_constant=_allow_fake_constant,
            error_on_data_dependent_ops=_error_on_data_dependent_ops,
            pre_dispatch=pre_dispatch,
            record_module_stack=record_module_stack,
            record_stack_traces=record_stack_traces,
            dynamic_shapes=dynamic_shapes,
        ).run()

    return trace


def current_trace() -> Trace | None:
    """The innermost trace that runs in this thread, None when none does."""
    return _current.get()


class Trace:
    """One run of a function under the tracer.

    Attributes:
        fake_mode: makes the fake tensors; None in mode ``"real"``.
        env: the symbols; None where there are none, or torch's own environment holds them.
        tracer: the recorder.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        tracing_mode: TracingMode,
        *,
        decomposition_table: Mapping[Any, Callable[..., Any]] | None,
        allow_non_fake_inputs: bool,
        allow_fake_constant: bool,
        error_on_data_dependent_ops: bool,
        pre_dispatch: bool,
        record_module_stack: bool,
        record_stack_traces: bool,
        dynamic_shapes: DynamicShapes,
    ) -> None:
        self.f = f
        self.args = args
        self.tracing_mode = tracing_mode
        self.dynamic_shapes = dynamic_shapes
        self.fake_mode = (
            None
            if tracing_mode == "real"
            else _fake_mode(args, tracing_mode == "symbolic", allow_non_fake_inputs)
        )
        env: Any = None if self.fake_mode is None else self.fake_mode.shape_env
        self.env: ShapeEnv | None = env if is_symfx_env(env) else None
        cache = None
        if self.fake_mode is not None and not self.fake_mode.propagate_real_tensors:
            cache = OperationCache(self.fake_mode, self.env)
        root = module_of(f) if record_module_stack else None
        self.modules = None if root is None else ModuleStack(root)
        self.tracer = PythonKeyTracer(
            cache, record_stack_traces or self.modules is not None, self.modules
        )
        table = dict(decomposition_table or {})
        table.setdefault(torch.ops.aten.sym_numel.default, torch._decomp.decompositions.sym_numel)
        self.mode = ProxyTorchDispatchMode(
            self.tracer,
            tracing_mode,
            pre_dispatch=pre_dispatch,
            allow_fake_constant=allow_fake_constant,
            error_on_data_dependent_ops=error_on_data_dependent_ops,
            decomposition_table=table,
        )

    def run(self) -> fx.GraphModule:
        """Trace the function."""
        names, own_parameters = parameter_names(self.f, len(self.args))
        if len(names) != len(self.args):
            raise TracingError(
                f"the function takes {len(names) or 'fewer'} positional arguments, "
                f"and was given {len(self.args)}",
                where=getattr(self.f, "__qualname__", repr(self.f)),
            )
        args = tuple(self.args)
        if self.fake_mode is not None:
            args = fake_inputs(
                self.fake_mode,
                names,
                args,
                self.tracing_mode == "symbolic",
                self.dynamic_shapes,
            )
        plain = own_parameters and not isinstance(self.f, torch.nn.Module)
        nodes = self._placeholders(names if plain else [f"arg{i}" for i in range(len(args))], args)
        with self._modes():
            with without_proxy_mode():
                for node, value in nodes:
                    self._track_input(node, value)
            out = call_program(self.f, args)
            self._output(out)
        remove_dead_nodes(self.tracer.graph)
        name = type(self.f).__name__ if isinstance(self.f, torch.nn.Module) else _name(self.f)
        result = graph_module(self.tracer.root, self.tracer.graph, name)
        if self.tracing_mode == "symbolic":
            result.shape_env = self.fake_mode.shape_env  # type: ignore[union-attr]
        return result

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            cache = self.tracer.cache
            if cache is not None:
                stack.enter_context(cache.installed())
            if self.fake_mode is not None:
                stack.enter_context(self.fake_mode)
            if self.tracing_mode == "symbolic" or self.mode.pre_dispatch:
                stack.enter_context(enable_python_dispatcher())
            if self.mode.pre_dispatch:
                stack.enter_context(PreDispatchTorchFunctionMode(self.tracer))
            stack.enter_context(TracingFunctionMode(self.tracer))
            if self.modules is not None:
                stack.enter_context(self.modules.watching())
            stack.enter_context(self.mode)
            stack.enter_context(without_autocast_cache())
            stack.enter_context(fx_tracing())
            token = _current.set(self)
            try:
                yield
            finally:
                _current.reset(token)

    # -- inputs and outputs ----------------------------------------------------------------------

    def _placeholders(
        self, names: Sequence[str], args: tuple[Any, ...]
    ) -> list[tuple[fx.Node, Any]]:
        """A node for each leaf of the arguments, numbered within its argument."""
        tracer = self.tracer
        nodes = []
        for name, arg in zip(names, args, strict=True):
            for i, leaf in enumerate(pytree.tree_leaves(arg), 1):
                node = tracer.create_node("placeholder", f"{name}_{i}", (), {})
                nodes.append((node, leaf))
        spec = pytree.tree_structure(args)
        if not all(child.is_leaf() for child in spec.children()):
            take_pytree_inputs(tracer.graph, list(names), spec)
        return nodes

    def _track_input(self, node: fx.Node, value: Any) -> None:
        if isinstance(value, (torch.Tensor, *SYMBOLIC_TYPES)):
            proxy = fx.Proxy(node, self.tracer)
            slots.track_tensor_tree(value, proxy, constant=None, tracer=self.tracer)

    def _output(self, out: Any) -> None:
        tracer = self.tracer
        if takes_pytree_inputs(tracer.graph):
            leaves, spec = pytree.tree_flatten(out)
            takes_pytree_inputs(tracer.graph, spec)
            out = leaves
        tracer.create_node("output", "output", (tracer.create_arg(out),), {})


@boundary
def call_program(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Call the user's function; what the user wrote is inside, what symfx does is outside."""
    return f(*args)


def _name(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", type(f).__name__)


def _fake_mode(args: Sequence[Any], symbolic: bool, allow_non_fake_inputs: bool) -> FakeTensorMode:
    """The fake mode of the arguments or of the surroundings, else one of symfx's own."""
    import torch._functorch.config as functorch_config

    mode: FakeTensorMode | None = detect_fake_mode(args)
    if mode is not None:
        if symbolic and mode.shape_env is None:
            raise TracingError(
                "the fake mode at hand has no ShapeEnv, so nothing can be symbolic in it",
                fix="make it with FakeTensorMode(shape_env=symfx.symbolic_shapes.ShapeEnv())",
            )
        return mode
    with functorch_config.patch(fake_tensor_allow_unsafe_data_ptr_access=False):
        return FakeTensorMode(
            allow_fallback_kernels=not symbolic,
            allow_non_fake_inputs=allow_non_fake_inputs,
            shape_env=ShapeEnv(),  # type: ignore[arg-type]
            static_shapes=not symbolic,
        )
