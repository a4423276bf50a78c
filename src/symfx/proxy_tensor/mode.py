"""The dispatch mode that records each operator below autograd, and runs it or looks it up."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload, _higher_order_ops
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.fx import traceback as fx_traceback
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, autograd_would_have_decomposed

from symfx.errors import TracingError
from symfx.fake_operators.operators import OperatorFacts, facts_of, running
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.metadata import tensor_metadata
from symfx.proxy_tensor.refusals import REFUSALS, refusal, value_read
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.torch_bridge.identity import TorchProxyMode
from symfx.torch_bridge.modes import (
    PRE_DISPATCH,
    PROXY_KEY,
    active_fake_mode,
    active_proxy_mode,
    push_mode,
    unset_proxy_mode,
    without_proxy_mode,
)

if TYPE_CHECKING:
    from symfx.fake_operators.results import Entry
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = [
    "HANDLED_TYPES",
    "ProxyTorchDispatchMode",
    "Table",
    "decompose",
    "disable_proxy_modes_tracing",
    "get_innermost_proxy_mode",
    "get_proxy_mode",
    "handle_sym_dispatch",
    "maybe_handle_decomp",
    "proxy_call",
    "register_higher_order",
    "set_original_aten_op",
]

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_META = torch.device("meta")
HANDLED_TYPES = (torch.Tensor, torch.nn.Parameter, FakeTensor)
"""Tensors of these very types are recorded; a subclass gets its own __torch_dispatch__ first."""

# Values are followed through tensors of at most so many elements that the program makes.
_CONSTANT_ELEMENTS = 1

Table = Mapping[Any, Callable[..., Any]]


class ProxyTorchDispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records operators into a tracer's graph while it is entered.

    Args:
        tracer: where to.
        tracing_mode: ``"real"``, ``"fake"`` or ``"symbolic"``.
        pre_dispatch: record above autograd.
        _allow_fake_constant: fake tensors from elsewhere may become constants of the graph.
        _error_on_data_dependent_ops: reading a value out of a real tensor is an error.
        decomposition_table: for each operator to decompose, the function that does.

    Example:
        >>> tracer = PythonKeyTracer()
        >>> with ProxyTorchDispatchMode(tracer, "real"): _ = torch.ones(3)
        >>> [n.name for n in tracer.graph.nodes]
        ['ones']
    """

    # Bookkeeping in torch asks whether the mode in this slot is of its own class.
    __class__ = TorchProxyMode  # type: ignore[assignment]

    supports_higher_order_operators = True

    def __init__(
        self,
        tracer: PythonKeyTracer,
        tracing_mode: str,
        pre_dispatch: bool = False,
        _allow_fake_constant: bool = False,
        _error_on_data_dependent_ops: bool = True,
        decomposition_table: Table | None = None,
    ) -> None:
        super().__init__(PRE_DISPATCH if pre_dispatch else None)  # type: ignore[no-untyped-call]
        # In torch's slot for proxy modes: its internals turn tracing off by emptying the slot.
        self._mode_key = PROXY_KEY
        self.tracer = tracer
        self.tracing_mode = tracing_mode
        self.pre_dispatch = pre_dispatch
        self.watch_functions = True
        self._allow_fake_constant = _allow_fake_constant
        self._error_on_data_dependent_ops = _error_on_data_dependent_ops
        self.enter_stack: list[Any] = []
        # How many decompositions are running, one inside the other.
        self.decomp_layers = 0
        self.decomposition_table: Table = decomposition_table or {}

    def for_subgraph(self, decomposition_table: Table | None = None) -> ProxyTorchDispatchMode:
        """A mode with the settings of this one that records into a graph of its own.

        Args:
            decomposition_table: its table; the table of this mode if None.
        """
        table = self.decomposition_table if decomposition_table is None else decomposition_table
        mode = ProxyTorchDispatchMode(
            self.tracer.for_subgraph(),
            self.tracing_mode,
            self.pre_dispatch,
            self._allow_fake_constant,
            self._error_on_data_dependent_ops,
            table,
        )
        mode.watch_functions = self.watch_functions
        return mode

    @property
    def enable_tracing(self) -> bool:
        """True; torch asks."""
        return True

    @property
    def decomposition_table(self) -> Table:
        """For each operator to decompose, the function that does."""
        return self._decomposition_table

    @decomposition_table.setter
    def decomposition_table(self, table: Table) -> None:
        self._decomposition_table = table
        self._decomposed = frozenset(map(id, table))

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Below the modes that users push."""
        return True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Dynamo never sees these frames: compiled code that is called inside a trace is refused
        # before. The guard that torch would wrap around each call costs a tenth of a trace.
        return False

    def __enter__(self) -> ProxyTorchDispatchMode:
        self.enter_stack.append(unset_proxy_mode())
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)  # type: ignore[no-untyped-call]
        previous = self.enter_stack.pop()
        if previous is not None:
            push_mode(previous)

    @contextlib.contextmanager
    def enable_decompositions(self, table: Table | None) -> Iterator[Table]:
        """Decompose by another table inside."""
        before = self.decomposition_table
        self.decomposition_table = table or {}
        try:
            yield self.decomposition_table
        finally:
            self.decomposition_table = before

    def __sym_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Arithmetic on symbolic numbers that torch made: run, not recorded."""
        return func(*args, **kwargs)

    # -- operators -----------------------------------------------------------------------

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is _DEVICE:
            return _device(args[0])
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return self._other_callable(func, args, kwargs)
        if self.pre_dispatch and torch._C._functorch.peek_interpreter_stack() is not None:
            # vmap, grad and jvp have no form above autograd: what they make of an operator is
            # recorded, below them.
            with self._below_transforms():
                return func(*args, **kwargs)
        self.tracer.record_assertions()
        facts = facts_of(func)
        cache = self.tracer.cache
        if (
            cache is not None
            and facts.cacheable
            and not facts.composite
            and id(func) not in self._decomposed
            and not self.pre_dispatch
            and active_fake_mode() is cache.mode
        ):
            key = cache.key(facts, args, kwargs)
            entry = None if key is None else cache.lookup(key, facts, args, kwargs)
            self.tracer.leave_assertions_to_operator()
            if entry is not None:
                with set_original_aten_op(func):
                    return self._replay(entry, facts, args, kwargs)
        with set_original_aten_op(func):
            return self._record(facts, args, kwargs, self.pre_dispatch)

    def _below_transforms(self) -> ProxyTorchDispatchMode:
        """A mode that records into the same graph, below autograd."""
        return ProxyTorchDispatchMode(
            self.tracer,
            self.tracing_mode,
            False,
            self._allow_fake_constant,
            self._error_on_data_dependent_ops,
            self.decomposition_table,
        )

    def _other_callable(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not isinstance(func, HigherOrderOperator):
            raise TracingError(f"{func} is not an operator that can be recorded")
        self.tracer.record_assertions()
        # It traces subgraphs, which needs the tracer as a whole, which needs this mode.
        from symfx.proxy_tensor.higher_order import record_higher_order

        with set_original_aten_op(func):
            return record_higher_order(self, func, args, kwargs)

    def _replay(
        self, entry: Entry, facts: OperatorFacts, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Record an operator whose results the cache knows."""
        tracer = self.tracer
        cache: Any = tracer.cache
        node = tracer.call(
            facts.func, tracer.node_args(args), tracer.node_kwargs(kwargs), facts.name
        )
        if facts.exact_strides:
            _keep_input_vals(node)
        results = cache.build(entry, args, snapshots=True)
        if entry.sequence is None:
            result, snapshot = results[0]
            _attach(node, tracer, result, snapshot)
            return result
        node.meta["val"] = entry.sequence([snapshot for _, snapshot in results])
        for i, (result, snapshot) in enumerate(results):
            item = tracer.call(operator.getitem, (node, i), {}, "getitem")
            if result is not None:
                _attach(item, tracer, result, snapshot)
        return entry.sequence([result for result, _ in results])

    def _record(
        self,
        facts: OperatorFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pre_dispatch: bool,
    ) -> Any:
        """Record an operator and run it; or decompose it; or answer from known values."""
        func = facts.func
        tracer = self.tracer
        tracer.record_assertions()
        flat = pytree.tree_leaves((args, kwargs))
        tensors = [a for a in flat if isinstance(a, torch.Tensor)]
        if not all(self._recordable(t) for t in tensors):
            return NotImplemented
        decomposed = self._decompose(facts, args, kwargs, flat, pre_dispatch)
        if decomposed is not NotImplemented:
            return decomposed
        known = [slots.node_of_tensor(t, tracer) for t in tensors]
        constants = {
            id(t): k[1] for t, k in zip(tensors, known, strict=True) if k and k[1] is not None
        }
        all_constant = all(k is None or k[1] is not None for k in known) and not any(
            isinstance(a, SYMBOLIC_TYPES) for a in flat
        )
        if facts.data_dependent:
            if all_constant:
                with unset_fake_temporarily():
                    return func(*_with_values(args, constants), **_with_values(kwargs, constants))
            if self._error_on_data_dependent_ops and not any(
                isinstance(t, FakeTensor) for t in tensors
            ):
                raise value_read(func)
        recorded = _aten.lift_fresh_copy.default if facts.lift else func
        name = facts_of(recorded).name
        node = tracer.call(recorded, tracer.node_args(args), tracer.node_kwargs(kwargs), name)
        if facts.exact_strides:
            _keep_input_vals(node)
        out: Any = NotImplemented
        with running(None if tracer.cache is None else tracer.cache.env, func):
            if facts.kernel_first and any(isinstance(t, FakeTensor) for t in tensors):
                out = facts.kernel(*args, **kwargs)
            if out is NotImplemented:
                out = self._run(facts, recorded, args, kwargs)
        tracer.leave_assertions_to_operator()
        constant = self._constant_result(facts, args, kwargs, constants, all_constant, out)
        slots.track_tensor_tree(out, fx.Proxy(node, tracer), constant=constant, tracer=tracer)
        return out

    @staticmethod
    def _run(
        facts: OperatorFacts, recorded: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What an operator returns: as torch says, or as symfx says where torch refuses."""
        try:
            return recorded(*args, **kwargs)
        except REFUSALS as error:
            if isinstance(error, TracingError):
                raise
            out = NotImplemented if facts.kernel is None else facts.kernel(*args, **kwargs)
            if out is NotImplemented:
                raise refusal(error, facts.func) from error
            return out

    def _recordable(self, tensor: torch.Tensor) -> bool:
        return type(tensor) in HANDLED_TYPES or slots.has_proxy_slot(tensor, self.tracer)

    def _decompose(
        self,
        facts: OperatorFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        flat: list[Any],
        pre_dispatch: bool,
    ) -> Any:
        """What the operator's decomposition returns; NotImplemented where it stays whole."""
        func = facts.func
        out = maybe_handle_decomp(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        # What is composite for dense tensors is an operator of its own on nested ones.
        nested = any(isinstance(a, torch.Tensor) and a.is_nested for a in flat)
        if (
            facts.composite
            and not pre_dispatch
            and not nested
            and autograd_would_have_decomposed(func, flat)
        ):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if func is _aten.is_nonzero.default:
            tensor = args[0]
            with self:
                torch._check(  # type: ignore[no-untyped-call]
                    tensor.numel() == 1,
                    lambda: "the truth of a tensor with other than one element is not defined",
                )
                return (tensor != 0).item()
        return NotImplemented

    @staticmethod
    def _constant_result(
        facts: OperatorFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        constants: dict[int, torch.Tensor],
        all_constant: bool,
        out: Any,
    ) -> Any:
        """The result's value where that is certain while tracing: of small literal tensors."""
        if facts.lift:
            if out.numel() > _CONSTANT_ELEMENTS:
                return None
            with unset_fake_temporarily():
                return args[0].clone()
        if (
            facts.seeded
            or not constants
            or not all_constant
            or not pytree.tree_all_only(
                torch.Tensor, lambda t: t.numel() <= _CONSTANT_ELEMENTS, out
            )
        ):
            return None
        with unset_fake_temporarily():
            return facts.func(*_with_values(args, constants), **_with_values(kwargs, constants))


def _device(tensor: Any) -> torch.device:
    if type(tensor) is FakeTensor:
        device = _META if tensor.fake_mode.in_kernel_invocation else tensor.fake_device
        return device
    result: torch.device = _DEVICE(tensor)
    return result


def _attach(node: fx.Node, tracer: PythonKeyTracer, result: Any, snapshot: Any) -> None:
    """A node stands for a tensor that the cache gave."""
    meta = node.meta
    meta["val"] = snapshot
    if result is not None:
        slots.set_node_of_tensor(result, tracer, node, None)
        meta["tensor_meta"] = tensor_metadata(result, tracer.cache)


def _with_values(arguments: Any, constants: dict[int, torch.Tensor]) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: constants.get(id(t), t), arguments)


def _keep_input_vals(node: fx.Node) -> None:
    """What a compiler needs to give an operator its inputs with the strides they had."""

    def val(n: fx.Node) -> Any:
        found = n.meta.get("val")
        return (
            found if not isinstance(found, torch.Tensor) or isinstance(found, FakeTensor) else None
        )

    node.meta["eager_input_vals"] = (
        fx.node.map_arg(node.args, val),
        fx.node.map_arg(node.kwargs, val),
    )


@contextlib.contextmanager
def _original_operator_recorded(func: Any) -> Iterator[None]:
    meta = fx_traceback.current_meta
    if meta.get("original_aten") is not None:
        yield
        return
    meta["original_aten"] = func
    try:
        yield
    finally:
        meta["original_aten"] = None


_NO_CONTEXT = contextlib.nullcontext()


def set_original_aten_op(func: Any) -> contextlib.AbstractContextManager[None]:
    """Nodes recorded inside remember an operator as the one that they come from.

    Nodes remember it in ``meta["original_aten"]``, where `torch.fx.traceback` was asked to
    keep metadata; elsewhere there is no effect. The outermost operator counts.

    Args:
        func: the operator.

    Example:
        >>> gelu = torch.ops.aten.gelu.default
        >>> with fx_traceback.preserve_node_meta(), set_original_aten_op(gelu):
        ...     g = make_fx(lambda x: x.tanh())(torch.ones(3))
        >>> [n.meta["original_aten"] for n in g.graph.nodes if n.name == "tanh"]
        [<OpOverload(op='aten.gelu', overload='default')>]
    """
    if fx_traceback.has_preserved_node_meta():
        return _original_operator_recorded(func)
    return _NO_CONTEXT


def register_higher_order(mode_class: type[ProxyTorchDispatchMode]) -> None:
    """Every higher-order operator knows what to do under a mode that records above autograd.

    Below autograd torch asks the mode itself.
    """
    for op in _higher_order_ops.values():
        if mode_class not in op.python_key_table:

            def rule(mode: Any, *args: Any, _op: Any = op, **kwargs: Any) -> Any:
                return mode._other_callable(_op, args, kwargs)

            op.py_impl(mode_class)(rule)


# -- one operator at a time ------------------------------------------------------------------------


def proxy_call(
    proxy_mode: ProxyTorchDispatchMode,
    func: OpOverload[..., Any],
    pre_dispatch: bool,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Record an operator and run it, as a mode does with each one that reaches it.

    Args:
        proxy_mode: the mode whose tracer records. It is not to be active.
        func: the operator.
        pre_dispatch: leave operators whole that autograd would take apart.
        args, kwargs: what it is called with.

    Returns:
        What the operator returns; NotImplemented where a tensor subclass has the first say.

    Raises:
        TracingError: the operator reads a value out of a real tensor.
    """
    return proxy_mode._record(facts_of(func), args, kwargs, pre_dispatch)


def maybe_handle_decomp(
    proxy_mode: ProxyTorchDispatchMode,
    op: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run an operator's decomposition under a mode, if the mode's table has one.

    Args:
        proxy_mode: the mode. It is not to be active; the decomposition is run under it.
        op: the operator.
        args, kwargs: what it is called with.

    Returns:
        What the decomposition returns; NotImplemented where there is none.
    """
    if id(op) not in proxy_mode._decomposed:
        return NotImplemented
    with proxy_mode:
        proxy_mode.decomp_layers += 1
        try:
            return proxy_mode.decomposition_table[op](*args, **kwargs)
        finally:
            proxy_mode.decomp_layers -= 1


def handle_sym_dispatch(
    func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Run a function on symbolic numbers as part of the trace that is under way.

    What it returns is recorded when an operator takes it.

    Args:
        func: the function, such as `operator.add`.
        args, kwargs: its arguments.

    Raises:
        TracingError: nothing is being traced.
    """
    mode = get_proxy_mode()
    if mode is None:
        raise TracingError(
            "handle_sym_dispatch() was called while nothing is being traced",
            fix="call the function itself",
        )
    with without_proxy_mode():
        return mode.__sym_dispatch__(func, [], args, kwargs)


# -- the mode that is active --------------------------------------------------------------------


def get_proxy_mode() -> ProxyTorchDispatchMode | None:
    """The mode that is tracing now, None when nothing is.

    Example:
        >>> get_proxy_mode() is None
        True
    """
    mode = active_proxy_mode()
    return mode if type(mode) is ProxyTorchDispatchMode else None


get_innermost_proxy_mode = get_proxy_mode
"""An older name of `get_proxy_mode`: there is never more than one mode that traces."""


def disable_proxy_modes_tracing() -> contextlib.AbstractContextManager[Any]:
    """Inside, operators run without being recorded.

    Returns:
        A context manager that gives the mode which was tracing, or None.

    Example:
        >>> with disable_proxy_modes_tracing() as mode:
        ...     mode is None
        True
    """
    return without_proxy_mode()


@contextlib.contextmanager
def decompose(decomposition_table: Table | None) -> Iterator[Table]:
    """Inside, the trace that is under way decomposes operators by another table.

    Args:
        decomposition_table: for each operator, the function that computes it by others.

    Raises:
        TracingError: nothing is being traced.
    """
    mode = get_proxy_mode()
    if mode is None:
        raise TracingError(
            "decompose() was called while nothing is being traced",
            fix="call it in a function that make_fx traces",
        )
    with mode.enable_decompositions(decomposition_table) as table:
        yield table
