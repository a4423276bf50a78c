"""The tracer of a trace: one graph, the graph's constants, and the nodes of the trace's values."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import traceback as fx_traceback
from torch.nested._internal.nested_tensor import NestedTensor, nested_view_from_values_offsets
from torch.utils.weak import WeakIdKeyDictionary, WeakTensorKeyDictionary, _WeakHashRef

from symfx.errors import TracingError
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.composite_functions import CompositeFunctions
from symfx.proxy_tensor.metadata import extract_val
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES, SymbolNodes
from symfx.sym_node import SymNode, wrap_node
from symfx.torch_bridge.fx_graphs import append_call, append_input
from symfx.torch_bridge.modes import without_proxy_mode

if TYPE_CHECKING:
    from symfx.algebra import Term
    from symfx.fake_operators.cache import OperationCache
    from symfx.proxy_tensor.modules import ModuleStack
    from symfx.proxy_tensor.origins import Origins
    from symfx.symbolic_shapes import ShapeEnv
    from symfx.symbolic_shapes.records import RuntimeAssert

__all__ = ["PythonKeyTracer"]

# Types of Python values that can be arguments of a node.
_LITERALS = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
    }
)


_PARTS_OF_NESTED = {
    "_values": torch.ops.aten._nested_get_values.default,
    "_offsets": torch.ops.aten._nested_get_offsets.default,
    "_lengths": torch.ops.aten._nested_get_lengths.default,
}


class UnrecordableError(TracingError, NotImplementedError):
    """A value that the program returns, or passes to an operator, cannot stand in a graph."""


class PythonKeyTracer(slots.TracerWithSlots):
    """A tracer that records operators on tensors into a graph.

    It is an fx tracer as far as torch's own code needs one (`create_arg`, `create_proxy`,
    `root`). `call` records operators whose arguments are nodes and literals already.

    Attributes:
        graph: the graph.
        root: the module that holds the graph's constants.
        lifted: the values of a trace around that became inputs, after the graph's own inputs.
        modules: the stack of running modules that nodes record, or None.
        origins: notes the origin of each node; None where nodes have none.
        subgraphs: graphs of repeated regions, by identifier.
        enable_thunkify: whether `thunkify` delays calls.
        proxy_module_inputs: whether the program gets proxies for modules among the inputs.
    """

    def __init__(
        self,
        cache: OperationCache | None = None,
        stack_traces: bool = False,
        modules: ModuleStack | None = None,
        *,
        autowrap_modules: tuple[ModuleType, ...] = (),
    ) -> None:
        super().__init__(autowrap_modules=autowrap_modules)  # type: ignore[arg-type]
        self.root = torch.nn.Module()
        self.graph = fx.Graph()
        self.tensor_attrs: dict[Any, str] = {}
        self.tensors = WeakTensorKeyDictionary()
        self.script_object_tracker = WeakIdKeyDictionary(ref_type=_WeakHashRef)
        self.opaque_tracker = WeakIdKeyDictionary()
        self.cache = cache
        self.composites = CompositeFunctions(self)
        self.symbols = SymbolNodes(
            self._append_number, self._append_number_after, lambda: self.graph
        )
        self.record_stack_traces = stack_traces
        self._annotating = stack_traces or modules is not None
        self._record_forward_stack_traces_only = stack_traces
        # The node after which the next question for an input's size is inserted.
        self._last_question: fx.Node | None = None
        self.modules = modules
        self.origins: Origins | None = None
        self.tensors_seen = None if modules is None else []
        # The environment's runtime assertions, and by position: those that need no node here
        # (an operator checks them when it runs, or a graph inside or around this one has the
        # node); the number of those looked at; those that could not be computed then.
        self._assertions: list[RuntimeAssert] = (
            [] if cache is None or cache.env is None else cache.env.ledger.asserts
        )
        self._asserted: set[int] = set()
        self._assertions_seen = len(self._assertions)
        self._assertions_open: list[int] = []
        # The nodes of numbers, while a repeated block is watched.
        self.numbers_made: set[fx.Node] | None = None
        self.subgraphs: dict[str, fx.GraphModule] = {}
        self.enable_thunkify = False
        self.proxy_module_inputs = False
        self._function: Any = None
        self._function_calls: Counter[Any] = Counter()
        self._attributes: dict[int, tuple[Any, fx.Node]] = {}
        # The tracer around this one whose values become inputs here, and these values in order.
        self._outer: PythonKeyTracer | None = None
        self.lifted: list[Any] = []
        # The names under which the environment knows the inputs that are real tensors, by those of
        # the arguments and by their nodes.
        self.real_inputs: dict[str, str] = {}
        self.sources: dict[fx.Node, str] = {}
        # The inner tensors of wrapper inputs, each with the input's node, its name, the input.
        self._parts: dict[int, tuple[torch.Tensor, fx.Node, str, torch.Tensor]] = {}

    @property
    def tensor_tracker(self) -> slots.TensorTracker:
        """The `ProxyTensor` of each tensor, as a mapping that torch's code reads."""
        return slots.TensorTracker(self)

    def for_subgraph(self) -> PythonKeyTracer:
        """A tracer with the settings of this one and a new graph."""
        tracer = PythonKeyTracer(self.cache, self.record_stack_traces, self.modules)
        tracer._asserted = self._asserted
        tracer.composites = self.composites
        tracer.origins = self.origins
        return tracer

    # -- values of the trace around a subgraph -----------------------------------------------------

    def lift_from(self, outer: PythonKeyTracer) -> None:
        """Make values of another tracer inputs of this graph where they are met; see `lifted`."""
        self._outer = outer
        self.symbols.lift = self._lift_symbol

    def node_of_tensor(self, tensor: torch.Tensor) -> tuple[fx.Node, torch.Tensor | None] | None:
        """The node of a tensor, and the tensor's value if known; None for a tensor without node."""
        found = slots.node_of_tensor(tensor, self)
        if found is None and self._outer is not None and self._outer.node_of_tensor(tensor):
            self._lift(tensor)
            found = slots.node_of_tensor(tensor, self)
        return found

    def _lift_symbol(self, symbol: Term, env: ShapeEnv) -> bool:
        if self._outer is None or not self._outer.symbols.can_make(symbol):
            return False
        self._lift(wrap_node(SymNode.of(env, symbol, None)))
        return True

    def _lift(self, value: Any) -> None:
        first = next(iter(self.graph.nodes))
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        place = (
            self.graph.inserting_after(inputs[-1]) if inputs else self.graph.inserting_before(first)
        )
        with place:
            node = self.create_node("placeholder", f"lifted_{len(self.lifted)}", (), {})
        with without_proxy_mode():
            slots.track_tensor_tree(value, fx.Proxy(node, self), constant=None, tracer=self)
        self.lifted.append(value)

    # -- fx's own protocol ---------------------------------------------------------------------

    def call_module(
        self,
        m: torch.nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a module, without recording the call."""
        return forward(*args, **kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """An attribute's value, which becomes no node."""
        return attr_val

    def create_arg(self, a: Any) -> Any:
        """The form of a value among the arguments of a node."""
        if isinstance(a, torch.Tensor) and not isinstance(a, fx.Proxy):
            found = self.node_of_tensor(a)
            if found is None and torch._is_functional_tensor(a):
                # The tensor inside has the node.
                torch._functionalize_sync(a)
                found = self.node_of_tensor(torch._from_functional_tensor(a))
            return self.attribute(a) if found is None else found[0]
        if isinstance(a, SYMBOLIC_TYPES):
            return self.symbols.node_of(a)
        if isinstance(a, torch.Size):
            return tuple([self.create_arg(n) for n in a])
        if slots.is_object(a):
            known = slots.objects_of(self, a).get(a)
            if known is not None:
                return known.node
        try:
            return super().create_arg(a)
        except NotImplementedError as error:
            if isinstance(error, TracingError):
                raise
            raise UnrecordableError(
                f"a {type(a).__name__} cannot stand in a graph: {a!r:.200}",
                fix="take and return tensors, numbers, strings and trees of them",
            ) from error

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Record a node, with the metadata that `torch.fx.traceback` preserves."""
        node = super().create_node(*args, **kwargs)
        if node.op in ("placeholder", "output"):
            node.meta.pop("stack_trace", None)
        elif self.modules is not None:
            kept = node.meta.get("nn_module_stack")
            node.meta["nn_module_stack"] = (
                self.modules.running.copy() if kept is None else _with_names_of_classes(kept)
            )
            function = self._function
            if node.op == "call_function" and function is not None:
                name = function.__name__
                node.meta.setdefault(
                    "torch_fn",
                    (
                        f"{name}_{self._function_calls[function]}",
                        f"{type(function).__name__}.{name}",
                    ),
                )
        if self.origins is not None and node.op not in ("placeholder", "output"):
            self.origins.mark(node)
        return node

    def create_placeholder(self, name: str, default: tuple[Any, ...]) -> fx.Node:
        """Record an input.

        Args:
            name: its name, unless that is taken.
            default: its default, if it has one.
        """
        if self.modules is not None or fx_traceback.has_preserved_node_meta():
            return self.create_node("placeholder", name, default, {})
        return append_input(self.graph, "placeholder", name, default)

    def enter_function(self, function: Any) -> None:
        """Name the torch function that makes the nodes to come."""
        if self.origins is not None:
            self.origins.enter_function(function)
            return
        self._function = function
        self._function_calls[function] += 1

    def unwrap_proxy(self, e: Any) -> Any:
        """The proxy of a tensor or symbolic number; any other value itself."""
        if isinstance(e, torch.Tensor):
            return slots.get_proxy_slot(e, self, e, lambda found: found.proxy)
        if isinstance(e, SYMBOLIC_TYPES):
            return slots.get_proxy_slot(e, self, e, lambda found: found.force())
        if slots.is_tracked(e):
            return slots.get_proxy_slot(e, self, e)
        return e

    # -- recording -------------------------------------------------------------------------------

    def attribute(self, value: Any) -> fx.Node:
        """The node that reads a constant tensor from the root module; each tensor has one."""
        known = self._attributes.get(id(value))
        if known is not None:
            return known[1]
        if id(value) in self._parts:
            return self._part(value)
        if torch._C._functorch.is_functorch_wrapped_tensor(value):
            raise TracingError(
                "a tensor inside vmap, grad or jvp reached the graph as a constant",
                fix="trace the transformed function as a whole, without pre_dispatch",
            )
        if type(value) is NestedTensor and slots.has_proxy_slot(value._values, self):
            return self._nested(value)
        if isinstance(value, torch.nn.Parameter):
            target = self.get_fresh_qualname("_param_constant")
        else:
            target = self.get_fresh_qualname("_tensor_constant")
        setattr(self.root, target, value)
        node = self.create_node("get_attr", target, (), {})
        with without_proxy_mode():
            fake = None
            if self.cache is not None and not isinstance(value, FakeTensor):
                fake = self.cache.fake_of_real(value)
            node.meta["val"] = extract_val(value if fake is None else fake)
        self._attributes[id(value)] = (value, node)
        return node

    def _nested(self, value: Any) -> fx.Node:
        """The node that makes a nested tensor of its dense parts, which the trace computed."""
        parts = (value._values, value._offsets)
        if value._lengths is not None or not slots.has_proxy_slot(value._offsets, self):
            raise TracingError(
                "a nested tensor with gaps, or with offsets from outside, reached the graph",
                fix="return its values() and offsets()",
            )
        known = (value._min_seqlen_tensor, value._max_seqlen_tensor)
        extremes = [None if tensor is None else tensor.shape[0] for tensor in known]
        args = self.node_args((*parts, value._ragged_idx, *extremes))
        node = self.call(nested_view_from_values_offsets, args, {}, "nested")
        node.meta["val"] = value
        self._attributes[id(value)] = (value, node)
        return node

    def offer_parts(self, node: fx.Node, whole: torch.Tensor) -> None:
        """Note the inner tensors of a wrapper input, so that none becomes a constant."""
        for name in whole.__tensor_flatten__()[0]:  # type: ignore[attr-defined]
            part = getattr(whole, name)
            self._parts[id(part)] = (part, node, name, whole)

    def _part(self, value: torch.Tensor) -> fx.Node:
        _, of, name, whole = self._parts[id(value)]
        operator = _PARTS_OF_NESTED.get(name) if whole.is_nested else None
        if operator is None:
            raise TracingError(
                f"the program uses {name} of its input {of.name}, a {type(whole).__name__}; the "
                f"graph could hold {name} only as a constant",
                fix=f"pass the tensor {name} itself as an argument",
            )
        node = self.create_node(
            "call_function", operator, (of,), {}, operator.overloadpacket.__name__
        )
        node.meta["val"] = extract_val(value)
        self._attributes[id(value)] = (value, node)
        return node

    def node_args(self, args: Any) -> tuple[Any, ...]:
        """The arguments of an operator's node."""
        return tuple([self.node_arg(a) for a in args])

    def node_arg(self, a: Any) -> Any:
        """One argument of an operator's node."""
        kind = type(a)
        if kind is FakeTensor:
            state = getattr(a, "_symfx", None)
            if state is not None and state.tracer is self:
                return state.node
            return self.create_arg(a)
        if kind in _LITERALS:
            return a
        if kind is list:
            return [self.node_arg(x) for x in a]
        if kind is tuple or kind is torch.Size:
            return tuple([self.node_arg(x) for x in a])
        return self.create_arg(a)

    def node_kwargs(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments of an operator's node."""
        return {k: self.node_arg(v) for k, v in kwargs.items()}

    def call(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str,
    ) -> fx.Node:
        """Record a call whose arguments are nodes and literals already."""
        if self._annotating or fx_traceback.has_preserved_node_meta():
            return self.create_node("call_function", target, args, kwargs, name)
        node = append_call(self.graph, target, args, kwargs, name)
        if self.origins is not None:
            self.origins.mark(node)
        return node

    def create_attribute(self, target: str) -> fx.Node:
        """Record the reading of an attribute of the root module."""
        if self._annotating or fx_traceback.has_preserved_node_meta():
            return self.create_node("get_attr", target, (), {})
        node = append_input(self.graph, "get_attr", target)
        if self.origins is not None:
            self.origins.mark(node)
        return node

    # -- assertions ------------------------------------------------------------------------------

    def assert_from(self, first: int) -> None:
        """Record assertions of the environment that were made before the trace, too.

        Args:
            first: the position of the first one.
        """
        self._assertions_seen = first

    def leave_assertions_to_operator(self) -> None:
        """Leave out the assertions since `record_assertions`: the operator checks them itself."""
        end = len(self._assertions)
        if end != self._assertions_seen:
            self._asserted.update(range(self._assertions_seen, end))
            self._assertions_seen = end

    def record_assertions(self, last: bool = False) -> None:
        """Record the program's assertions so far about numbers that were read from data.

        Args:
            last: whether the program has ended: then assertions are tried again that could not
                be computed before.
        """
        first, end = self._assertions_seen, len(self._assertions)
        if first == end and not last:
            return
        self._assertions_seen = end
        waiting = [*self._assertions_open, *range(first, end)] if last else range(first, end)
        for i in waiting:
            if i in self._asserted:
                continue
            record = self._assertions[i]
            if not self.symbols.can_make(record.term):
                self._assertions_open.append(i)
                continue
            self._asserted.add(i)
            message = f"{record.term} does not hold; asserted {record.provenance}"
            node = self.symbols.node_of_term(record.term)
            check = torch.ops.aten._assert_scalar.default
            self.create_node("call_function", check, (node, message), {}).meta["val"] = None

    def _append_number(
        self, target: Callable[..., Any], args: tuple[Any, ...], value: Any
    ) -> fx.Node:
        name = self.graph._target_to_str(target)
        node = self.create_node(
            "call_function", target, args, {}, self.symbols.names.name_of_next(name)
        )
        node.meta["val"] = copy.copy(value)
        if self.numbers_made is not None:
            self.numbers_made.add(node)
        return node

    def _append_number_after(
        self, after: fx.Node, target: Callable[..., Any], args: tuple[Any, ...], value: Any
    ) -> fx.Node:
        """Insert a question for a tensor's size where the size is still the one that was traced.

        A later operator may change the tensor's sizes in place, so the question stands right
        after the node that made the tensor: for an input, after all inputs and the questions
        asked of them so far. In torch's graphs the question stands where its answer is first
        needed, unless an operator has changed the sizes since.
        """
        env = None if isinstance(value, torch.Tensor) else value.node.shape_env
        if getattr(env, "speaks_torch", False) and not any(map(_changes_sizes, after.users)):
            node = self._append_number(target, args, value)
            if "stack_trace" in after.meta:  # the program's output has no line of its own
                node.meta.setdefault("stack_trace", after.meta["stack_trace"])
            return node
        if after.op == "placeholder":
            after = self._last_question or self._last_placeholder(after)
            with self.graph.inserting_after(after):
                node = self._append_number(target, args, value)
            self._last_question = node
            return node
        with self.graph.inserting_after(after):
            node = self._append_number(target, args, value)
        if "stack_trace" in after.meta:  # the line that made the tensor, not the one that asks
            node.meta["stack_trace"] = after.meta["stack_trace"]
        return node

    @staticmethod
    def _last_placeholder(node: fx.Node) -> fx.Node:
        while node.next.op == "placeholder":
            node = node.next
        return node


def _changes_sizes(node: fx.Node) -> bool:
    """Whether a node changes the sizes or strides of a tensor in place."""
    return isinstance(node.target, torch._ops.OpOverload) and (
        torch.Tag.inplace_view in node.target.tags
    )


def _with_names_of_classes(stack: dict[str, Any]) -> dict[str, Any]:
    """A node's stack of modules as exported programs have it: Dynamo's holds the classes."""
    return {
        key: (path, f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else kind)
        for key, (path, kind) in stack.items()
    }
