"""The dispatch mode that records each operator below autograd, and runs it or looks it up."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload, _higher_order_ops
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, autograd_would_have_decomposed

from symfx.errors import TracingError
from symfx.fake_operators.operators import OperatorFacts, facts_of, running
from symfx.fake_operators.results import tensors_in
from symfx.proxy_tensor import refusals, slots
from symfx.proxy_tensor.original_operator import set_original_aten_op
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.torch_bridge.identity import TorchProxyMode
from symfx.torch_bridge.modes import (
    PRE_DISPATCH,
    PROXY_KEY,
    push_mode,
    unset_proxy_mode,
)

if TYPE_CHECKING:
    from symfx.fake_operators.cache import OperationCache
    from symfx.fake_operators.results import Entry
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = [
    "HANDLED_TYPES",
    "ProxyTorchDispatchMode",
    "Table",
    "maybe_handle_decomp",
    "proxy_call",
    "register_higher_order",
]

_aten = torch.ops.aten
_DEVICE = torch.ops.prim.device.default
_META = torch.device("meta")
HANDLED_TYPES = (torch.Tensor, torch.nn.Parameter, FakeTensor)
"""The exact types of tensors that are recorded.

The ``__torch_dispatch__`` of a subclass runs first."""

# The largest literal tensor whose value the trace follows, in elements.
_CONSTANT_ELEMENTS = 1

Table = Mapping[Any, Callable[..., Any]]


class ProxyTorchDispatchMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that records operators into a tracer's graph while it is entered.

    Args:
        tracer: the tracer.
        tracing_mode: ``"real"``, ``"fake"`` or ``"symbolic"``.
        pre_dispatch: whether to record above autograd.
        _allow_fake_constant: whether fake tensors that the program closes over may become
            constants of the graph.
        _error_on_data_dependent_ops: whether reading a value out of a real tensor is an error.
        decomposition_table: for each operator to decompose, the function that computes it.

    Example:
        >>> tracer = PythonKeyTracer()
        >>> with ProxyTorchDispatchMode(tracer, "real"): _ = torch.ones(3)
        >>> [n.name for n in tracer.graph.nodes]
        ['ones']
    """

    # torch tests whether the mode in this slot is of its own class.
    __class__ = TorchProxyMode  # type: ignore[assignment]

    supports_higher_order_operators = True

    # Rules of higher-order operators trace subgraphs, and a trace makes a mode. So the module of
    # traces hands the mode both functions, which would otherwise import each other in a circle.
    record_higher_order: ClassVar[Callable[..., Any]]
    trace_subgraph: ClassVar[Callable[..., fx.GraphModule]]

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
        # torch's slot for proxy modes: torch turns tracing off by emptying the slot.
        self._mode_key = PROXY_KEY
        self.tracer = tracer
        self.tracing_mode = tracing_mode
        self.pre_dispatch = pre_dispatch
        self.watch_functions = True
        self._allow_fake_constant = _allow_fake_constant
        self._error_on_data_dependent_ops = _error_on_data_dependent_ops
        self.enter_stack: list[Any] = []
        # The number of decompositions that are running, one inside the other.
        self.decomp_layers = 0
        self.decomposition_table: Table = decomposition_table or {}

    def for_subgraph(self, decomposition_table: Table | None = None) -> ProxyTorchDispatchMode:
        """A mode with the settings of this one that records into a new graph.

        Args:
            decomposition_table: the new mode's table, or None for the table of this mode.
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
        """True. torch's code reads it."""
        return True

    @property
    def decomposition_table(self) -> Table:
        """For each operator to decompose, the function that computes it."""
        return self._decomposition_table

    @decomposition_table.setter
    def decomposition_table(self, table: Table) -> None:
        self._decomposition_table = table
        self._decomposed = frozenset(map(id, table))

    @classmethod
    def is_infra_mode(cls) -> bool:
        """True: the mode stands below the modes that users push."""
        return True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Dynamo never sees these frames, because it refuses compiled code inside a trace. The
        # guard that torch would wrap around each call costs a tenth of a trace.
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
        """Inside, decompose operators by another table."""
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
        """Run arithmetic on symbolic numbers that torch made, without recording it."""
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
            # vmap, grad and jvp have no form above autograd, so the operators that they call
            # are recorded below them.
            with self._below_transforms():
                return func(*args, **kwargs)
        facts = facts_of(func)
        if facts.aliases_matter:
            self.tracer.composites.settle_aliases(tensors_in((*args, *kwargs.values())))
        if not facts.composite:
            self.tracer.composites.decided()
        self.tracer.record_assertions()
        if (
            facts.cacheable
            and not facts.composite
            and not self.pre_dispatch
            and id(func) not in self._decomposed
        ):
            cache = slots.cache_for(self.tracer, args, kwargs)
            if cache is not None:
                key = cache.key(facts, args, kwargs)
                entry = None if key is None else cache.lookup(key, facts, args, kwargs)
                self.tracer.leave_assertions_to_operator()
                if entry is not None:
                    with set_original_aten_op(func):
                        return self._replay(cache, entry, facts, args, kwargs)
        with set_original_aten_op(func):
            return self._record(facts, args, kwargs, self.pre_dispatch)

    def _below_transforms(self) -> ProxyTorchDispatchMode:
        """A mode that records into the same graph below autograd."""
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
        with set_original_aten_op(func):
            return self.record_higher_order(func, args, kwargs)

    def _replay(
        self,
        cache: OperationCache,
        entry: Entry,
        facts: OperatorFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Record an operator whose results the cache has."""
        tracer = self.tracer
        node = tracer.call(
            facts.func, tracer.node_args(args), tracer.node_kwargs(kwargs), facts.name
        )
        if facts.exact_strides:
            _keep_input_vals(node)
        results = cache.build(entry, args, snapshots=True)
        if entry.sequence is None:
            result, snapshot = results[0]
            slots.attach_result(node, tracer, cache, result, snapshot)
            return result
        node.meta["val"] = entry.sequence([snapshot for _, snapshot in results])
        for i, (result, snapshot) in enumerate(results):
            item = tracer.call(operator.getitem, (node, i), {}, "getitem")
            if result is not None:
                slots.attach_result(item, tracer, cache, result, snapshot)
        return entry.sequence([result for result, _ in results])

    def _record(
        self,
        facts: OperatorFacts,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        pre_dispatch: bool,
    ) -> Any:
        """Record an operator and run it, or decompose it, or answer it from known values."""
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
        if func is _aten.sym_size.int and not pre_dispatch:
            size = func(*args, **kwargs)
            if not isinstance(size, torch.SymInt) or tracer.symbols.known(size):
                return size  # it gets a node where it is used
        known = [tracer.node_of_tensor(t) for t in tensors]
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
                raise refusals.value_read(func)
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
        if facts.checks_sizes:
            tracer.leave_assertions_to_operator()
        constant = self._constant_result(facts, args, kwargs, constants, all_constant, out)
        slots.track_tensor_tree(out, fx.Proxy(node, tracer), constant=constant, tracer=tracer)
        return out

    @staticmethod
    def _run(
        facts: OperatorFacts, recorded: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The results of torch's kernel, or of symfx's where torch's refuses."""
        try:
            return recorded(*args, **kwargs)
        except TracingError:
            raise
        except refusals.REFUSALS as error:
            out = NotImplemented if facts.kernel is None else facts.kernel(*args, **kwargs)
            if out is not NotImplemented:
                return out
            raise refusals.refusal(error, facts.func) from error
        except AssertionError as error:
            refusals.refuse_real_tensor(error, facts.func, args, kwargs)
            raise

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
        """The results of the operator's decomposition; NotImplemented where it stays whole."""
        func = facts.func
        out = maybe_handle_decomp(self, func, args, kwargs)
        if out is not NotImplemented:
            return out
        # An operator that is composite for dense tensors has kernels for nested ones.
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
                torch._check(tensor.numel() == 1, partial(refusals.ambiguous_truth, tensor))  # type: ignore[no-untyped-call]
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
        """The result's value, where it follows from small literal tensors alone; else None."""
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
        return _META if tensor.fake_mode.in_kernel_invocation else tensor.fake_device
    return _DEVICE(tensor)  # type: ignore[no-any-return]


def _with_values(arguments: Any, constants: dict[int, torch.Tensor]) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda t: constants.get(id(t), t), arguments)


def _keep_input_vals(node: fx.Node) -> None:
    """Record the inputs of an operator, whose strides a compiler must keep."""

    def val(n: fx.Node) -> Any:
        found = n.meta.get("val")
        return (
            found if not isinstance(found, torch.Tensor) or isinstance(found, FakeTensor) else None
        )

    node.meta["eager_input_vals"] = (
        fx.node.map_arg(node.args, val),
        fx.node.map_arg(node.kwargs, val),
    )


def register_higher_order(mode_class: type[ProxyTorchDispatchMode]) -> None:
    """Register a mode that records above autograd with every higher-order operator.

    Below autograd torch calls the mode's ``__torch_dispatch__`` instead.
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
    """Record an operator and run it, as a mode does with each operator that reaches it.

    Args:
        proxy_mode: the mode whose tracer records. The mode must not be active.
        func: the operator.
        pre_dispatch: whether operators stay whole that autograd would decompose.
        args, kwargs: the operator's arguments.

    Returns:
        The operator's result; NotImplemented where a tensor subclass must handle the call.

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
        proxy_mode: the mode. It must not be active; the decomposition runs under it.
        op: the operator.
        args, kwargs: the operator's arguments.

    Returns:
        The decomposition's result; NotImplemented where the table has no decomposition.
    """
    if id(op) not in proxy_mode._decomposed:
        return NotImplemented
    with proxy_mode:
        proxy_mode.decomp_layers += 1
        try:
            return proxy_mode.decomposition_table[op](*args, **kwargs)
        finally:
            proxy_mode.decomp_layers -= 1
