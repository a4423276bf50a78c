"""The nodes that one call of a module recorded, and the same nodes recorded for an equal call."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.fake_operators.descriptions import TensorState
from symfx.fake_operators.operators import facts_of
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.origins import CALLS, Origin
from symfx.proxy_tensor.repeated.values import UnknownStateError
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.torch_bridge.fake_tensors import (
    attributes_at_birth,
    copy_metadata,
    fake_from_meta,
    plain_alias,
    storage_id,
    storage_marker,
    view_metadata,
)
from symfx.torch_bridge.fx_graphs import append_call, set_metadata
from symfx.torch_bridge.modes import BelowTorch

if TYPE_CHECKING:
    from symfx.proxy_tensor.repeated.signatures import Signature
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["BackwardOfStampedError", "Recorded"]

_TREES = (list, tuple, dict)
_WITH_PARTS = (list, tuple, dict, slice)
_KNOWN_META = frozenset(
    {
        "val",
        "tensor_meta",
        "eager_input_vals",
        "nn_module_stack",
        "torch_fn",
        "original_aten",
        CALLS,
    }
)


class BackwardOfStampedError(TracingError):
    """The program calls ``backward()`` through a repeated block, whose calls have no gradient."""


class _Stamped(torch.autograd.Function):
    """The results of a call that was not run: they require gradients, and backward is an error."""

    @staticmethod
    def forward(ctx: Any, made: list[torch.Tensor], *inputs: torch.Tensor) -> Any:
        return tuple(made)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise BackwardOfStampedError("backward() runs through a repeated block")


@dataclass
class _Value:
    """The recipe of a fake tensor in a node's ``meta``.

    Attributes:
        base: the storage: its position among those of the call, or a node from outside.
        is_first: whether it is the first value on its storage, all of which it has.
        layout: for a view, its sizes, strides and offset.
        like: the position among all values of an earlier one on the same storage with this layout.
    """

    device: torch.device
    base: int | fx.Node
    is_first: bool
    layout: tuple[Any, Any, Any] | None
    like: int | None = None


@dataclass
class _Step:
    """One node of the call.

    Attributes:
        target, args, kwargs: of the node; nodes of the call are among the arguments as they are.
        name: the name that the node asked for.
        value: the recipe of its value, or a list of recipes.
        meta: its metadata; each call replaces the value and the origin in it.
        flat: whether no node is inside of another value among the arguments.
    """

    node: fx.Node
    name: str
    value: Any
    kind: type | None
    meta: dict[str, Any]
    flat: bool


class Recorded:
    """The nodes that a call recorded, as steps that can be taken again.

    Args:
        tracer: the tracer that recorded them.
        nodes: all nodes that the graph got at its end while the call ran.
        signature: the signature of the call.
        result: its result.

    Raises:
        UnknownStateError: the nodes, or the result, cannot be made again.
    """

    def __init__(
        self,
        tracer: PythonKeyTracer,
        nodes: list[fx.Node],
        signature: Signature,
        result: Any,
    ) -> None:
        self._tracer = tracer
        self.signature = signature
        self.mode: Any = tracer.cache.mode  # type: ignore[union-attr]
        self.inputs = [_node_of(tracer, tensor) for tensor in signature.tensors]
        self._own = set(nodes)
        self.numbers = [node for node in nodes if _is_number(node)]
        self._own.difference_update(self.numbers)
        # The storages of values from outside, each with a node that has it.
        self._outside: dict[int, fx.Node] = {}
        for node in dict.fromkeys(n for made in nodes for n in made.all_input_nodes):
            if node not in self._own:
                val = node.meta.get("val")
                if isinstance(val, torch.Tensor):
                    self._outside.setdefault(storage_id(val), node)
                elif _tensors(val):
                    raise UnknownStateError("it takes apart several results from outside")
        self._storages: dict[int, int] = {}
        # For each storage the first value on it, and a meta tensor like that once one is wanted.
        self._firsts: list[FakeTensor] = []
        self._templates: dict[int, torch.Tensor] = {}
        # For a storage and a layout, the position of the first such value; the number of values.
        self._alike: dict[tuple[Any, ...], int] = {}
        self._count = 0
        self.steps = [self._step(node) for node in nodes if node in self._own]
        self._positions = {step.node: i for i, step in enumerate(self.steps)}
        self._attributes: dict[torch.device, dict[str, Any]] = {}
        self.outputs: dict[int, tuple[int, torch.Tensor]] = {}
        self._given = {id(t): i for i, t in enumerate(signature.tensors)}
        self._check_result(result)
        self.result = result

    # -- recording -------------------------------------------------------------------------------

    def _step(self, node: fx.Node) -> _Step:
        if node.op != "call_function":
            raise UnknownStateError(f"it records {node.op} {node.target}")
        unknown = node.meta.keys() - _KNOWN_META
        if unknown:
            raise UnknownStateError(f"its nodes have {', '.join(sorted(unknown))}")
        target: Any = node.target
        name = "getitem"
        if isinstance(target, OpOverload):
            facts = facts_of(target)
            name = facts.name
            self._refuse_writes(node, facts)
        elif target is not operator.getitem:
            raise UnknownStateError(f"it records {target}")
        val = node.meta.get("val")
        meta = dict(node.meta)
        flat = not node.kwargs and not any(isinstance(a, _WITH_PARTS) for a in node.args)
        if isinstance(val, (list, tuple)) and type(val) in (list, tuple):
            return _Step(node, name, [self._value(v) for v in val], type(val), meta, flat)
        return _Step(node, name, self._value(val), None, meta, flat)

    def _refuse_writes(self, node: fx.Node, facts: Any) -> None:
        written = [node.args[i] for i in facts.mutated if i < len(node.args)]
        written += [node.kwargs[name] for name in facts.mutated_names if name in node.kwargs]
        for tensor in pytree.tree_leaves(written):
            if isinstance(tensor, fx.Node):
                for value in _tensors(tensor.meta.get("val")):
                    if tensor not in self._own or storage_id(value) in self._outside:
                        raise UnknownStateError(f"{facts.func} writes to a tensor from outside")
        if facts.func._schema.is_mutable and not written:
            raise UnknownStateError(f"{facts.func} has effects")

    def _value(self, val: Any) -> _Value | None:
        if val is None:
            return None
        if type(val) is not FakeTensor or val.fake_mode is not self.mode:
            raise UnknownStateError(f"it makes a {type(val).__name__}")
        if val.is_conj() or val.is_neg():
            raise UnknownStateError("it makes a view that torch computes when it is read")
        storage = storage_id(val)
        device = val.fake_device
        layout = _layout(val)
        key = (storage, *map(_term, (*layout[0], *layout[1], layout[2])))
        like = self._alike.setdefault(key, self._count)
        self._count += 1
        outside = self._outside.get(storage)
        position = self._storages.get(storage)
        if outside is None and position is None:
            self._storages[storage] = position = len(self._storages)
            self._firsts.append(val)
            return _Value(device, position, True, None)
        base: Any = position if outside is None else outside
        if val.dtype != self._dtype(base):
            raise UnknownStateError("it reads memory as another dtype")
        return _Value(device, base, False, layout, like if like < self._count - 1 else None)

    def _dtype(self, base: int | fx.Node) -> torch.dtype:
        held = self._firsts[base] if isinstance(base, int) else base.meta["val"]
        dtype: torch.dtype = held.dtype
        return dtype

    def template(self, storage: int) -> torch.Tensor:
        """A meta tensor like the first value on a storage of the call."""
        found = self._templates.get(storage)
        if found is None:
            found = self._templates[storage] = plain_alias(self._firsts[storage])
        return found

    def _check_result(self, result: Any) -> None:
        """Note which nodes make the tensors of the result."""
        storages: set[int] = set()
        born = attributes_at_birth(self.mode, torch.device("cpu")).keys() | {"_symfx"}
        for leaf in _leaves(result):
            if not isinstance(leaf, torch.Tensor):
                if isinstance(leaf, SYMBOLIC_TYPES) or leaf is None:
                    continue
                if type(leaf) in (bool, int, float, str):
                    continue
                raise UnknownStateError(f"it returns a {type(leaf).__name__}")
            if id(leaf) in self._given or id(leaf) in self.outputs:
                continue
            found = self._tracer.node_of_tensor(leaf)
            if found is None or found[1] is not None or type(leaf) is not FakeTensor:
                raise UnknownStateError("it returns a tensor that it did not compute")
            node = found[0]
            if node not in self._positions:
                if id(leaf) in self.signature.shared:
                    continue
                raise UnknownStateError("it returns a tensor from outside")
            if not isinstance(self.steps[self._positions[node]].value, _Value):
                raise UnknownStateError("its result is one of several of an operator")
            storage = storage_id(leaf)
            if storage in storages or storage in self._outside:
                raise UnknownStateError("its results share memory")
            if vars(leaf).keys() - born or leaf.constant is not None:
                raise UnknownStateError("it sets attributes of its result")
            if leaf.requires_grad and leaf.is_leaf:
                raise UnknownStateError("it returns a leaf that requires gradients")
            if not _same_layout(leaf, node.meta.get("val")):
                raise UnknownStateError("its result has another layout than the node of it")
            storages.add(storage)
            self.outputs[id(leaf)] = (self._positions[node], leaf)

    # -- stamping --------------------------------------------------------------------------------

    def replacements(self, signature: Signature) -> dict[fx.Node, fx.Node]:
        """For each input node of this call that of an equal call.

        Raises:
            UnknownStateError: one node of this call stands for two of the other.
        """
        found: dict[fx.Node, fx.Node] = {}
        for node, tensor in zip(self.inputs, signature.tensors, strict=True):
            other = _node_of(self._tracer, tensor)
            if node is None or other is None:
                if node is not other:
                    raise UnknownStateError("one of its tensors has no node")
                continue
            if found.setdefault(node, other) is not other:
                raise UnknownStateError("two of its tensors have one node")
        return found

    def stamp(
        self,
        replaced: dict[fx.Node, fx.Node],
        origins: list[Origin],
    ) -> tuple[list[fx.Node], list[Any]]:
        """Record the nodes for an equal call.

        Args:
            replaced: see `replacements`.
            origins: the origin of each step.

        Returns:
            For each of `outputs` its node, and the meta tensor behind it.
        """
        graph = self._tracer.graph
        new: dict[fx.Node, fx.Node] = dict(replaced)
        making = _Making(self, replaced)
        elems: list[Any] = []
        made: list[fx.Node] = []
        get = new.get
        is_node = fx.Node
        with BelowTorch():
            for step, (calls, modules, named) in zip(self.steps, origins, strict=True):
                old = step.node
                kwargs: dict[str, Any] = {}
                if step.flat:
                    args: Any = tuple([get(a, a) if type(a) is is_node else a for a in old.args])
                else:
                    args = fx.node.map_arg(old.args, lambda n: get(n, n))
                    kwargs = fx.node.map_arg(old.kwargs, lambda n: get(n, n))
                node = append_call(graph, old.target, args, kwargs, step.name)  # type: ignore[arg-type]
                meta = dict(step.meta)  # the order of the keys is that of the other node
                if calls is not None:
                    meta[CALLS] = calls
                    meta["nn_module_stack"] = modules
                if named is not None:
                    meta["torch_fn"] = named
                if step.kind is None:
                    elem, meta["val"] = making.value(step.value)
                else:
                    elem = None
                    meta["val"] = step.kind([making.value(v)[1] for v in step.value])
                if "eager_input_vals" in meta:
                    meta["eager_input_vals"] = (
                        fx.node.map_arg(node.args, _val),
                        fx.node.map_arg(node.kwargs, _val),
                    )
                set_metadata(node, meta)
                new[old] = node
                made.append(node)
                elems.append(elem)
        positions = [position for position, _ in self.outputs.values()]
        return [made[i] for i in positions], [elems[i] for i in positions]

    def attributes_on(self, device: torch.device) -> dict[str, Any]:
        """The attributes of a new fake tensor on a device."""
        found = self._attributes.get(device)
        if found is None:
            found = self._attributes[device] = attributes_at_birth(self.mode, device)
        return found

    def values(self) -> tuple[list[Any], list[torch.Tensor]]:
        """Values for the results of an equal call, and the meta tensors behind them.

        Raises:
            UnknownStateError: a result is a view of a tensor from outside.
        """
        mark = storage_marker(self.mode)
        vals, elems = [], []
        for position, _ in self.outputs.values():
            value = self.steps[position].value
            if not isinstance(value, _Value) or isinstance(value.base, fx.Node):
                raise UnknownStateError("a result has no storage of its own")
            attributes = self.attributes_on(value.device)
            template = self.template(value.base)
            with BelowTorch():
                elem = copy_metadata(template)
                mark(elem)
                if value.layout is not None:
                    elem = view_metadata(elem, *value.layout)
                vals.append(fake_from_meta(elem, value.device, attributes))
            elems.append(elem)
        return vals, elems

    def results(self, signature: Signature, nodes: Sequence[fx.Node], elems: Sequence[Any]) -> Any:
        """The result of an equal call.

        Args:
            signature: the signature of that call.
            nodes: for each of `outputs`, its node.
            elems: for each of `outputs`, the meta tensor behind it.
        """
        tensors: dict[int, Any] = {}
        graded: list[tuple[int, torch.Tensor]] = []
        cache: Any = self._tracer.cache
        for (key, (_, leaf)), elem in zip(self.outputs.items(), elems, strict=True):
            attributes = self._attributes[leaf.fake_device]  # type: ignore[attr-defined]
            with BelowTorch():
                tensor = fake_from_meta(elem, leaf.fake_device, attributes)  # type: ignore[attr-defined]
            if leaf.requires_grad:
                graded.append((key, tensor))
            tensors[key] = tensor
        if graded:
            with slots_off():
                inputs = [t for t in signature.tensors if t.requires_grad]
                results: Any = _Stamped.apply([t for _, t in graded], *inputs)  # type: ignore[no-untyped-call]
            tensors.update({key: t for (key, _), t in zip(graded, results, strict=True)})
        outputs = zip(self.outputs.items(), nodes, elems, strict=True)
        for (key, (_, leaf)), node, elem in outputs:
            state = TensorState()
            state.description = cache.describe(leaf)
            state.elem = elem
            tensors[key]._symfx = state
            slots.set_node_of_tensor(tensors[key], self._tracer, node, None)
        for key, i in self._given.items():
            tensors[key] = signature.tensors[i]
        return _rebuilt(self.result, tensors)


class _Making:
    """The values of one call that is recorded again; its methods are called in `BelowTorch`."""

    def __init__(self, recorded: Recorded, replaced: Mapping[fx.Node, fx.Node]) -> None:
        self._recorded = recorded
        self._replaced = replaced
        self._bases: list[torch.Tensor] = []
        self._outside: dict[fx.Node, torch.Tensor] = {}
        self._elems: list[torch.Tensor] = []
        self._mark = storage_marker(recorded.mode)

    def value(self, value: _Value | None) -> tuple[Any, Any]:
        """A meta tensor like a value, and the fake tensor of it."""
        if value is None:
            return None, None
        if value.is_first:
            elem = copy_metadata(self._recorded.template(value.base))  # type: ignore[arg-type]
            self._mark(elem)
            self._bases.append(elem)
        elif value.like is not None:
            elem = self._elems[value.like]
        else:
            base = value.base
            at = self._bases[base] if isinstance(base, int) else self._from_outside(base)
            elem = view_metadata(at, *value.layout)  # type: ignore[misc]
        self._elems.append(elem)
        attributes = self._recorded.attributes_on(value.device)
        return elem, fake_from_meta(elem, value.device, attributes)

    def _from_outside(self, node: fx.Node) -> torch.Tensor:
        found = self._outside.get(node)
        if found is None:
            source = self._replaced.get(node, node).meta["val"]
            found = self._outside[node] = plain_alias(source)
        return found


def slots_off() -> Any:
    """A context manager: no mode sees what is done inside."""
    return torch._C._DisableTorchDispatch()


def _val(node: fx.Node) -> Any:
    return node.meta.get("val")


def _node_of(tracer: PythonKeyTracer, tensor: torch.Tensor) -> fx.Node | None:
    found = tracer.node_of_tensor(tensor)
    if found is None:
        return None
    if found[1] is not None:
        raise UnknownStateError("it takes a tensor whose value is known")
    return found[0]


def _is_number(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), SYMBOLIC_TYPES)


def _tensors(val: Any) -> list[torch.Tensor]:
    values = val if isinstance(val, (list, tuple)) else (val,)
    return [v for v in values if isinstance(v, torch.Tensor)]


def _layout(val: torch.Tensor) -> tuple[Any, Any, Any]:
    return val.size(), val.stride(), val.storage_offset()


def _same_layout(tensor: torch.Tensor, val: Any) -> bool:
    if not isinstance(val, torch.Tensor):
        return False
    return [*map(_term, (*tensor.shape, *tensor.stride(), tensor.storage_offset()))] == [
        *map(_term, (*val.shape, *val.stride(), val.storage_offset()))
    ]


def _term(number: Any) -> Any:
    return number.node.term if isinstance(number, torch.SymInt) else number


def _leaves(result: Any) -> list[Any]:
    if type(result) in _TREES:
        members = result.values() if type(result) is dict else result
        return [leaf for member in members for leaf in _leaves(member)]
    return [result]


def _rebuilt(result: Any, tensors: Mapping[int, Any]) -> Any:
    if type(result) is dict:
        return {key: _rebuilt(value, tensors) for key, value in result.items()}
    if type(result) in _TREES:
        return type(result)(_rebuilt(value, tensors) for value in result)
    return tensors.get(id(result), result)
