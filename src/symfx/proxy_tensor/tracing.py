"""make_fx: call a function once on fake or real arguments, and record its operators as a graph.

The file is long because one `TraceRun` has all parts of a trace: its inputs, modes and output.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Literal

import torch
from torch import fx
from torch._compile import _disable_dynamo
from torch._dispatch.python import enable_python_dispatcher
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from symfx.algebra.languages.sympy import to_sympy
from symfx.dynamic_spec import spec_of_call
from symfx.errors import SpecError
from symfx.fake_operators.cache import OperationCache
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.cleanup import remove_dead_nodes
from symfx.proxy_tensor.detached import alias_of_dense
from symfx.proxy_tensor.function_mode import PreDispatchTorchFunctionMode, TracingFunctionMode
from symfx.proxy_tensor.higher_order import record_higher_order
from symfx.proxy_tensor.inputs import (
    DynamicShapes,
    argument_names,
    fake_inputs,
    fake_mode_of,
    inputs_of_spec,
    is_symfx_env,
    parameter_defaults,
    parameter_names,
    sources_of_real,
)
from symfx.proxy_tensor.mode import ProxyTorchDispatchMode, Table, register_higher_order
from symfx.proxy_tensor.modules import ModuleStack, module_of
from symfx.proxy_tensor.origins import Origins, write_lines
from symfx.proxy_tensor.running_graphs import interpreted
from symfx.proxy_tensor.shape_specs import BoundSpec, InputSymbol, bind
from symfx.proxy_tensor.sizes_as_numbers import sizes_as_numbers
from symfx.proxy_tensor.stated_conditions import insert_assertions
from symfx.proxy_tensor.static_inputs import track_like_others
from symfx.proxy_tensor.tracer import PythonKeyTracer
from symfx.proxy_tensor.transforms import outside_of_transforms
from symfx.torch_bridge.fx_graphs import (
    class_name_of,
    graph_module,
    take_pytree_inputs,
    takes_pytree_inputs,
)
from symfx.torch_bridge.modes import (
    active_fake_mode,
    disable_autocast_cache,
    fx_tracing,
    seen_by_no_mode,
    without_proxy_mode,
)
from symfx.torch_bridge.modules import forget_walks
from symfx.torch_bridge.releases import DETACH_BECOMES_ALIAS, NUMBER_INPUTS_HAVE_VALUES
from symfx.user_code import boundary

__all__ = [
    "CURRENT_TRACER",
    "NODES_OF_LAST_TRACE",
    "CurrentTracer",
    "TraceRun",
    "TracingMode",
    "current_trace",
    "dispatch_trace",
    "make_fx",
    "trace_subgraph",
]

TracingMode = Literal["real", "fake", "symbolic"]

NODES_OF_LAST_TRACE: dict[int, fx.Node] = {}
"""The node of each tensor that outlived the last trace with recorded modules, by the tensor's id.

torch.export looks here for tensors of the trace that the program keeps somewhere.
"""

_current: ContextVar[TraceRun | None] = ContextVar("symfx_trace", default=None)


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
    _disable_torch_fn_metadata_mode: bool = False,
    _origins: Origins | None = None,
    dynamic_shapes: DynamicShapes = None,
) -> Callable[..., fx.GraphModule]:
    """A function that traces `f`: called with arguments of `f`, it returns the graph of `f`.

    Args:
        f: a function of tensors, numbers and trees of them; or a module.
        decomposition_table: for each operator to decompose, the function that computes it.
        tracing_mode: ``"real"`` computes with the arguments themselves, ``"fake"`` with fake
            tensors of their sizes, ``"symbolic"`` with fake tensors whose sizes are symbols,
            so that the graph serves other sizes too.
        _allow_non_fake_inputs: whether real tensors that `f` closes over (the weights of a
            module) may meet fake ones; they become constants of the graph.
        pre_dispatch: whether to record above autograd: operators that autograd or autocast
            decompose stay whole, and switches of gradients and autocast are recorded.
        record_module_stack: whether each node names the submodule and the torch function that
            made it, and the lines of ``forward`` that led to it. `f` is a module, or has one as
            ``_orig_mod``.
        _allow_fake_constant: whether fake tensors that `f` closes over may become constants.
        _error_on_data_dependent_ops: whether reading a number out of a tensor in mode
            ``"real"`` is an error; otherwise the number becomes a constant.
        record_stack_traces: whether each node names the lines of modules' ``forward`` that led
            to it.
        proxy_module_inputs: whether modules among the arguments become inputs of the graph: `f`
            gets proxies for them, and their use is recorded by name.
        _origins: notes the origin of each node, as symfx.trace wants it.
        _disable_torch_fn_metadata_mode: whether nodes leave out the torch function that made
            them.
        dynamic_shapes: the dimensions that vary, in mode ``"symbolic"``: None for all (equal
            sizes share a symbol; 0 and 1 are constants), else an entry for each argument, in a
            sequence or by parameter name. An entry is None (static), True (all dimensions
            vary), a dict from dimension to `Dim`, name, True or None, a list with one of those
            or an int for each dimension, or for a tree of tensors the same tree of entries.
            For an int: None (constant), True, a name or a `Dim`. Or a spec of
            `symfx.dynamic_spec`, in mode ``"fake"`` or ``"symbolic"``: then the dimensions that
            the spec describes are unbacked symbols, all other dimensions are static, and the
            graph asserts the spec. A function that `symfx.dynamic_spec.dynamic_spec` decorates
            has its spec already.

    Returns:
        A function of positional arguments that returns a `torch.fx.GraphModule`. In mode
        ``"symbolic"`` the module's ``shape_env`` holds the symbols and guards. Each node's
        ``meta["val"]`` is the node's value at tracing, without data.

    Raises:
        SpecError: an argument of make_fx is invalid, or `dynamic_shapes` does not fit.
        TracingError: `f` cannot be recorded.

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
    spec = dynamic_shapes
    if not isinstance(spec, BoundSpec):
        spec = spec_of_call(f, dynamic_shapes)
    if spec is not None and tracing_mode == "real":
        raise SpecError(
            "a spec of dynamic shapes is given, but tracing_mode is 'real': the sizes of real "
            "tensors are plain numbers, which no spec can make symbols",
            where="make_fx",
            fix='pass tracing_mode="fake" or "symbolic"',
        )
    if spec is None and dynamic_shapes is not None and tracing_mode != "symbolic":
        raise SpecError(
            f"dynamic_shapes is given, but tracing_mode is {tracing_mode!r}",
            where="make_fx",
            fix='pass tracing_mode="symbolic"',
        )

    table: dict[Any, Callable[..., Any]] = dict(decomposition_table or {})
    if decomposition_table is None and not pre_dispatch and DETACH_BECOMES_ALIAS:
        table[torch.ops.aten.detach.default] = alias_of_dense
    table.setdefault(torch.ops.aten.sym_numel.default, torch._decomp.decompositions.sym_numel)
    # Under a spec the two fake modes are one: the spec alone says which sizes are symbols.
    mode_name: TracingMode = tracing_mode if spec is None else "symbolic"
    symbolic = mode_name == "symbolic"

    def trace(*args: Any) -> fx.GraphModule:
        names = argument_names(f, args)
        real = sources_of_real(f, names, args)
        fake_mode = cache = None
        symbols: list[list[InputSymbol]] = []
        assertions = None
        if tracing_mode != "real":
            # torch's make_fx leaves an ``assert`` on data an error.
            asserts = _origins is not None
            fake_mode = fake_mode_of(args, symbolic, _allow_non_fake_inputs, asserts)
            sources = parameter_names(f, len(args))[0]
            env: Any = fake_mode.shape_env
            if spec is None:
                args = fake_inputs(fake_mode, sources, args, symbolic, dynamic_shapes)
            else:
                if not is_symfx_env(env) or fake_mode.static_shapes:
                    raise SpecError(
                        "the fake mode of the arguments cannot take a spec of dynamic shapes",
                        where="make_fx",
                        fix="make the mode with a symfx.symbolic_shapes.ShapeEnv and "
                        "static_shapes=False",
                    )
                assertions = len(env.ledger.asserts)
                bound = spec if isinstance(spec, BoundSpec) else bind(spec, sources, args)
                args, symbols = inputs_of_spec(fake_mode, sources, args, bound)
            if not fake_mode.propagate_real_tensors:
                cache = OperationCache(fake_mode, env if is_symfx_env(env) else None)
        root = module_of(f) if record_module_stack else None
        modules = None if root is None else ModuleStack(root)
        tracer = PythonKeyTracer(cache, record_stack_traces or modules is not None, modules)
        tracer.proxy_module_inputs = proxy_module_inputs
        tracer.origins, tracer.real_inputs = _origins, real
        if assertions is not None:
            tracer.assert_from(assertions)
        mode = ProxyTorchDispatchMode(
            tracer,
            mode_name,
            pre_dispatch,
            _allow_fake_constant,
            _error_on_data_dependent_ops,
            table,
        )
        mode.watch_functions = not _disable_torch_fn_metadata_mode
        return TraceRun(f, args, names, mode, fake_mode, symbols=symbols).run()

    @functools.wraps(f)
    def wrapped(*args: Any) -> fx.GraphModule:
        return _outside_dynamo(trace, args)

    return wrapped


@_disable_dynamo
def _outside_dynamo(trace: Callable[..., fx.GraphModule], args: Any) -> fx.GraphModule:
    """Run a trace outside of the graph that Dynamo makes of the program around it."""
    return outside_of_transforms(trace, args)


def current_trace() -> TraceRun | None:
    """The innermost trace that runs in this thread, or None."""
    return _current.get()


class TraceRun:
    """One run of a function under the tracer.

    Args:
        f: the function.
        args: its arguments, fake where the trace is.
        names: the names of the arguments.
        mode: the dispatch mode that records.
        fake_mode: the mode that makes fake tensors of real ones; None in mode ``"real"``.
        inside: whether the trace is of a subgraph of another trace that is running.
        symbols: for each leaf of the arguments the unbacked symbols that it binds; empty where
            no leaf binds any.

    Attributes:
        tracer: the tracer of the mode.
    """

    def __init__(
        self,
        f: Callable[..., Any],
        args: Sequence[Any],
        names: Sequence[str],
        mode: ProxyTorchDispatchMode,
        fake_mode: FakeTensorMode | None,
        *,
        inside: bool = False,
        symbols: Sequence[Sequence[InputSymbol]] = (),
    ) -> None:
        self.f = f
        self.args = tuple(args)
        self.names = names
        self.mode = mode
        self.fake_tensor_mode = fake_mode
        self.tracer: Any = mode.tracer
        self.inside = inside
        self.symbols = symbols

    def run(self) -> fx.GraphModule:
        """Trace the function."""
        args = self.args
        nodes = self._placeholders(args)
        with self._modes(), self._sizes_as_numbers():
            with without_proxy_mode():
                self._bind_symbols(nodes)
                for node, value in track_like_others(nodes, self.tracer):
                    with seen_by_no_mode(value):
                        self._track_input(node, value)
                args = self._with_module_proxies(args, nodes)
            forget_walks()
            out = call_program(self.f, args)
            self.tracer.record_assertions(last=True)
            self._output(out)
        if not self.inside and self.tracer.cache is not None and self.tracer.cache.env is not None:
            self.tracer.cache.env.ledger.deferred.end()
        if self.tracer.tensors_seen is not None and not self.inside:
            NODES_OF_LAST_TRACE.clear()
            alive = ((ref(), node) for ref, node in self.tracer.tensors_seen)
            NODES_OF_LAST_TRACE.update((id(t), node) for t, node in alive if t is not None)
        remove_dead_nodes(self.tracer.graph)
        result = graph_module(self.tracer.root, self.tracer.graph, class_name_of(self.f))
        if self.tracer.origins is not None and not self.inside:
            write_lines(result)
        if self.mode.tracing_mode == "symbolic" and self.fake_tensor_mode is not None:
            result.shape_env = self.fake_tensor_mode.shape_env
        return result

    @contextlib.contextmanager
    def _modes(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            cache = self.tracer.cache
            if cache is not None and not self.inside:
                stack.enter_context(cache.installed())
            if self.fake_tensor_mode is not None:
                stack.enter_context(self.fake_tensor_mode)
            if self.mode.tracing_mode == "symbolic" or self.mode.pre_dispatch:
                stack.enter_context(enable_python_dispatcher())
            if self.mode.pre_dispatch:
                register_higher_order(type(self.mode))
                stack.enter_context(PreDispatchTorchFunctionMode(self.tracer))
            stack.enter_context(TracingFunctionMode(self.tracer, self.mode.watch_functions))
            if self.tracer.modules is not None and not self.inside:
                stack.enter_context(self.tracer.modules.watching())
            origins = self.tracer.origins
            if origins is not None and origins.modules is not None and not self.inside:
                stack.enter_context(origins.modules.watching())
            stack.enter_context(self.mode)
            stack.enter_context(disable_autocast_cache())
            stack.enter_context(fx_tracing(CURRENT_TRACER))
            if origins is not None and not self.inside:
                stack.enter_context(origins.repeating(self.tracer))
            token = _current.set(self)
            try:
                yield
            finally:
                _current.reset(token)

    def _sizes_as_numbers(self) -> contextlib.AbstractContextManager[None]:
        if self.mode.tracing_mode != "symbolic" or self.inside:
            return contextlib.nullcontext()
        return sizes_as_numbers(self.f)

    # -- inputs and outputs ----------------------------------------------------------------------

    def _placeholders(self, args: tuple[Any, ...]) -> list[tuple[fx.Node, Any]]:
        """A node for each leaf of the arguments, numbered within its argument."""
        tracer = self.tracer
        nodes = []
        spec = pytree.tree_structure(args)
        flat = all(child.is_leaf() for child in spec.children())
        defaults = parameter_defaults(self.f) if flat else {}
        for name, arg in zip(self.names, args, strict=True):
            default = (defaults[name],) if name in defaults else ()
            leaves = (arg,) if isinstance(arg, torch.Tensor) else pytree.tree_leaves(arg)
            for i, leaf in enumerate(leaves, 1):
                node = tracer.create_placeholder(f"{name}_{i}", default)
                nodes.append((node, leaf))
                if name in tracer.real_inputs:
                    tracer.sources[node] = tracer.real_inputs[name]
        if not flat:
            take_pytree_inputs(tracer.graph, list(self.names), spec)
        return nodes

    def _track_input(self, node: fx.Node, value: Any) -> None:
        if slots.is_tracked(value):
            proxy = fx.Proxy(node, self.tracer)
            slots.track_tensor_tree(value, proxy, constant=None, tracer=self.tracer)
            if isinstance(value, torch.Tensor) and torch._is_functional_tensor(value):
                # Operators will see the tensor inside.
                inner = torch._from_functional_tensor(value)
                slots.set_node_of_tensor(inner, self.tracer, node, None)
            elif is_traceable_wrapper_subclass(value):
                self.tracer.offer_parts(node, value)
        elif type(value) in (int, float, bool) and NUMBER_INPUTS_HAVE_VALUES:
            node.meta["val"] = value

    def _bind_symbols(self, nodes: list[tuple[fx.Node, Any]]) -> None:
        """Make inputs the sources of their unbacked symbols, and assert the spec of the inputs.

        This goes before the inputs offer their sizes: once ``u1 == 2*u0`` is a fact, the second
        input would offer its size as ``2*u0``, and the assertion would compare it with itself.
        """
        for (node, value), symbols in zip(nodes, self.symbols, strict=False):
            for symbol in symbols:
                number = value if symbol.dim is None else value.shape[symbol.dim]
                self.tracer.symbols.offer_symbol(symbol.term, node, symbol.dim, number)
                if symbol.dim is None:
                    node.meta["val"] = value
            if symbols:
                node.meta["unbacked_bindings"] = {to_sympy(s.term): s.binding for s in symbols}
        if self.symbols:
            self.tracer.record_assertions()

    def _with_module_proxies(
        self, args: tuple[Any, ...], nodes: list[tuple[fx.Node, Any]]
    ) -> tuple[Any, ...]:
        """The arguments, with proxies in place of modules if `proxy_module_inputs` says so."""
        if not self.tracer.proxy_module_inputs:
            return args
        proxies = {
            id(value): fx.Proxy(node, self.tracer)
            for node, value in nodes
            if isinstance(value, torch.nn.Module)
        }
        return tuple(proxies.get(id(a), a) for a in args)

    def _output(self, out: Any) -> None:
        tracer = self.tracer
        if takes_pytree_inputs(tracer.graph):
            leaves, spec = pytree.tree_flatten(out)
            takes_pytree_inputs(tracer.graph, spec)
            out = leaves
        tracer.create_node("output", "output", (tracer.create_arg(out),), {})


def trace_subgraph(
    mode: ProxyTorchDispatchMode,
    f: Callable[..., Any],
    *args: Any,
    decomposition_table: Table | None = None,
) -> fx.GraphModule:
    """Trace a function that a traced program passes to a higher-order operator.

    Args:
        mode: the mode that traces the program. It must not be active.
        f: the function, or a graph module.
        args: arguments like those that the operator will call the function with.
        decomposition_table: a function for each operator to decompose, or None for the table
            of the program.
    """
    if isinstance(f, fx.GraphModule):
        f = interpreted(f)
    fake_mode = active_fake_mode()
    inner = mode.for_subgraph(decomposition_table)
    graph = TraceRun(f, args, argument_names(f, args), inner, fake_mode, inside=True).run()
    if inner.tracer.cache is None and fake_mode is not None:
        insert_assertions(graph, fake_mode.shape_env)
    return graph


# Rules of higher-order operators trace subgraphs with the mode that calls the rules.
ProxyTorchDispatchMode.record_higher_order = record_higher_order
ProxyTorchDispatchMode.trace_subgraph = trace_subgraph


class CurrentTracer:
    """The trace that runs in the calling thread, as torch's higher-order operators use it."""

    @property
    def fake_tensor_mode(self) -> FakeTensorMode | None:
        """The active fake mode, or else that of the trace, or None."""
        # Dynamo, which some of the operators call, has a fake mode of its own.
        trace = current_trace()
        return active_fake_mode() or (None if trace is None else trace.fake_tensor_mode)

    def trace_subgraph(self, f: Callable[..., Any], *args: Any) -> fx.GraphModule:
        """The graph of a function, traced with the settings of the trace."""
        return self._trace(f, args, None)

    def trace_subgraph_custom_decomp(
        self, f: Callable[..., Any], decomp_table: Table, *args: Any
    ) -> fx.GraphModule:
        """`trace_subgraph` with a decomposition table of its own."""
        return self._trace(f, args, decomp_table)

    @staticmethod
    def _trace(f: Callable[..., Any], args: Sequence[Any], table: Table | None) -> fx.GraphModule:
        trace = current_trace()
        if trace is None:
            # The slot is process-wide: the trace that set it runs in another thread.
            return make_fx(f, table)(*args)
        return trace_subgraph(trace.mode, f, *args, decomposition_table=table)


CURRENT_TRACER = CurrentTracer()


def dispatch_trace(
    root: torch.nn.Module | Callable[..., Any],
    tracer: fx.Tracer,
    concrete_args: tuple[Any, ...] | None = None,
) -> fx.GraphModule:
    """Run a function on proxies of a tracer, and return its graph as a module.

    Args:
        root: the function, or a module. It must record its operators itself, for example by
            entering a `ProxyTorchDispatchMode` of the tracer.
        tracer: the tracer.
        concrete_args: see `torch.fx.Tracer.trace`.

    Example:
        >>> dispatch_trace(lambda x: x + 1, PythonKeyTracer())(torch.ones(2))
        tensor([2., 2.])
    """
    graph = tracer.trace(root, concrete_args)  # type: ignore[arg-type]
    remove_dead_nodes(graph)
    return graph_module(tracer.root, graph, class_name_of(root))


@boundary
def call_program(f: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Call the user's function. Frames inside of this call are the user's, others symfx's."""
    return f(*args)
