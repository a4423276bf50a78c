"""The operation cache: an operator seen before, on tensors of the same description, is not run.

What an operator on fake tensors returns depends on the descriptions of its arguments alone:
dtypes, devices, sizes, strides, offsets. symfx keeps, per trace, what each operator returned,
keyed on the interned terms of those sizes, and on a second call makes tensors of the same
description without asking torch's kernels again. A network of equal layers pays for one.

What makes that sound:

* A tensor's description is remembered on the tensor and forgotten when an operator writes to
  it, or when its ``data`` is replaced; it holds within one epoch of the environment.
* Guards that the first run needed stand in the environment, whose facts only grow. A run under
  ``suppress_guards`` left none, and is not remembered.
* Each tensor made has a storage of its own, unless the first run's result shared the storage
  of an argument: then it is a view of that argument now.
* Left out: what reads data, makes constants, writes to anything but its first argument or
  changes more than data there; operators that are not torch's own; tensors that are sparse,
  quantised, conjugated, of a subclass, or of another mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.fake_operators.operators import OperatorFacts, facts_of, running
from symfx.fake_operators.rules import New, Number, Numbers, View
from symfx.sym_node import SymNode
from symfx.torch_bridge.fakes import (
    attributes_at_birth,
    copy_metadata,
    fake_from_meta,
    plain_alias,
    storage_id,
    storage_marker,
    view_metadata,
)
from symfx.torch_bridge.modes import BelowTorch

if TYPE_CHECKING:
    from symfx.algebra import Term
    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["Description", "Entry", "OperationCache", "TensorState", "adopt", "forget", "state_of"]

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_NUMBERS = frozenset({int, float, bool, complex})
_PLAIN = frozenset({type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format})
_SEQUENCES = (list, tuple)


class TensorState:
    """What symfx remembers on a fake tensor.

    Attributes:
        description: the tensor's description, None where it is not known.
        elem: a plain meta tensor on the same storage, None until it is needed.
        tracer: the tracer in whose graph the tensor stands.
        node: where.
    """

    __slots__ = ("description", "elem", "node", "tracer")

    def __init__(self) -> None:
        self.description: Description | None = None
        self.elem: torch.Tensor | None = None
        self.tracer: Any = None
        self.node: Any = None

    # A copy of a tensor, or one that was saved, is not the tensor that was traced.
    def __deepcopy__(self, memo: dict[int, Any]) -> TensorState:
        return TensorState()

    def __reduce__(self) -> Any:
        return TensorState, ()


def state_of(fake: torch.Tensor) -> TensorState:
    """What symfx remembers on a fake tensor; an empty state at the first call."""
    state: TensorState | None = getattr(fake, "_symfx", None)
    if state is None:
        state = fake._symfx = TensorState()  # type: ignore[attr-defined]
    return state


class Description:
    """What an operator can depend on in a tensor, apart from its data; equal ones are one object.

    Attributes:
        cache: whose description it is.
        epoch: the environment's epoch in which its terms were last known to be in normal form.
        dtype, device, sizes, strides, offset: of the tensor, with terms for what is symbolic.
        inference: whether it is an inference tensor.
        tensor_meta: what fx records of such a tensor, once that was asked for.
    """

    __slots__ = (
        "cache",
        "device",
        "dtype",
        "epoch",
        "inference",
        "offset",
        "sizes",
        "strides",
        "tensor_meta",
    )

    def __init__(
        self,
        cache: OperationCache,
        epoch: int,
        dtype: torch.dtype,
        device: torch.device,
        sizes: tuple[Number, ...],
        strides: tuple[Number, ...],
        offset: Number,
        inference: bool,
    ) -> None:
        self.cache = cache
        self.epoch = epoch
        self.dtype = dtype
        self.device = device
        self.sizes = sizes
        self.strides = strides
        self.offset = offset
        self.inference = inference
        self.tensor_meta: Any = None


class Output:
    """How one tensor that an operator returned is made again.

    Attributes:
        argument: the position of the argument that was returned itself, else -1.
        base: for a view, the position of the argument that it views, else -1.
        layout: for a view, its sizes, strides and offset.
        template: for a tensor with a storage of its own, a meta tensor like it.
        description: the tensor's description.
        device: the tensor's device.
        attributes: what its ``__dict__`` holds at birth.
    """

    __slots__ = (
        "argument",
        "attributes",
        "base",
        "description",
        "device",
        "layout",
        "template",
    )

    def __init__(
        self, description: Description, device: torch.device, attributes: dict[str, Any]
    ) -> None:
        self.description = description
        self.device = device
        self.attributes = attributes
        self.argument = -1
        self.base = -1
        self.layout: tuple[Any, Any, Any] = ((), (), 0)
        self.template: Any = None


class Entry:
    """What an operator returned for one key.

    Attributes:
        outputs: one for each result; None for a result that was None.
        sequence: ``list`` or ``tuple`` where the operator returns several, else None.
    """

    __slots__ = ("outputs", "sequence")

    def __init__(self, outputs: tuple[Output | None, ...], sequence: type | None = None) -> None:
        self.outputs = outputs
        self.sequence: Any = sequence


class OperationCache:
    """The results of operators under one FakeTensorMode.

    Args:
        mode: the mode. Not one that computes with real tensors on the side.
        env: its environment, where that is symfx's.

    Attributes:
        live: the mode dispatches through the cache, so that what it remembers is kept true.
        hits, ruled, misses, bypasses: how often an operator was known, was computed by its
            rule, was learnt from torch, could not be kept.
    """

    def __init__(self, mode: FakeTensorMode, env: ShapeEnv | None) -> None:
        self.mode = mode
        self.env = env
        self.entries: dict[tuple[Any, ...], Entry] = {}
        self.live = False
        self.hits = 0
        self.ruled = 0
        self.misses = 0
        self.bypasses = 0
        self._descriptions: dict[tuple[Any, ...], Description] = {}
        self._attributes: dict[torch.device, dict[str, Any]] = {}
        self._mark = storage_marker(mode)
        self._numbers = Numbers(None if env is None else env.prover, self._guard)
        # Weights and other real tensors that met the mode; kept alive so that ids stay theirs.
        self._real: dict[int, tuple[torch.Tensor, FakeTensor]] = {}

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """The mode dispatches through this cache inside."""
        mode: Any = self.mode
        before = mode.__dict__.get("_cached_dispatch_impl")
        enabled = mode.cache_enabled
        mode._cached_dispatch_impl = self.dispatch
        mode.cache_enabled = True
        self.live = True
        try:
            yield
        finally:
            self.live = False
            mode.cache_enabled = enabled
            if before is None:
                del mode._cached_dispatch_impl
            else:
                mode._cached_dispatch_impl = before

    # -- keys ---------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        """The environment's epoch; 0 without one."""
        return 0 if self.env is None else self.env.epoch

    def describe(self, fake: torch.Tensor) -> Description | None:
        """The description of a fake tensor; None for one that the cache leaves alone."""
        state: TensorState | None = getattr(fake, "_symfx", None)
        epoch = self.epoch
        if state is not None:
            known = state.description
            if known is not None and known.epoch == epoch and known.cache is self:
                return known
        key = self._description_key(fake)
        if key is None:
            return None
        description = self._description(key)
        if state is None:
            state = state_of(fake)
        state.description = description
        return description

    def _description(self, key: tuple[Any, ...]) -> Description:
        epoch = self.epoch
        description = self._descriptions.get(key)
        if description is None:
            description = self._descriptions[key] = Description(self, epoch, *key)
        description.epoch = epoch
        return description

    def _description_key(self, fake: Any) -> tuple[Any, ...] | None:
        if type(fake) is not FakeTensor or fake.fake_mode is not self.mode:
            return None
        if fake.constant is not None:
            return None
        with torch._C.DisableTorchFunction():
            if fake.layout is not torch.strided or fake.is_quantized or fake.is_nested:
                return None
            if fake.is_conj() or fake.is_neg() or fake._is_zerotensor():
                return None
            device = fake.fake_device
            if device.type == "meta":
                return None
            numbers = (*fake.shape, *fake.stride(), fake.storage_offset())
            rank = fake.dim()
            terms: list[Number] = []
            for number in numbers:
                if type(number) is int:
                    terms.append(number)
                    continue
                term = self._term(number)
                if term is None:
                    return None
                terms.append(term)
            return (
                fake.dtype,
                device,
                tuple(terms[:rank]),
                tuple(terms[rank:-1]),
                terms[-1],
                fake.is_inference(),
            )

    def _term(self, number: Any) -> Any:
        """The term of a symbolic number, its value where it is one; None for a foreign one."""
        node = number.node
        if type(node) is not SymNode or node.shape_env is not self.env:
            return None
        term = node.term
        return term.args[0] if term.op == "const" else term

    def key(
        self, facts: OperatorFacts, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        """What stands for a call in the cache; None where it must not be answered from it."""
        parts: list[Any] = [
            facts,
            torch.get_default_dtype(),
            torch._C._get_default_device(),
            torch.is_inference_mode_enabled(),
        ]
        if not self._scan(args, parts, facts.mask_indexer):
            return None
        for name, value in kwargs.items():
            parts.append(name)
            if not self._scan((value,), parts, facts.mask_indexer):
                return None
        return tuple(parts)

    def _scan(self, values: Iterable[Any], parts: list[Any], no_masks: bool) -> bool:
        for value in values:
            kind = type(value)
            if kind is FakeTensor:
                description = self.describe(value)
                if description is None:
                    return False
                if no_masks and description.dtype in (torch.bool, torch.uint8):
                    return False
                parts.append(description)
            elif kind in _NUMBERS:
                # 1, 1.0 and True are equal and promote differently.
                parts.append(kind)
                parts.append(value)
            elif kind in _PLAIN:
                parts.append(value)
            elif isinstance(value, _SEQUENCES):
                parts.append(_SEQUENCES)
                parts.append(len(value))
                if not self._scan(value, parts, no_masks):
                    return False
            elif kind in _SYMBOLIC:
                term = self._term(value)
                if term is None:
                    return False
                parts.append(kind if type(term) in _NUMBERS else _SYMBOLIC)
                parts.append(term)
            elif isinstance(value, torch.Tensor):
                fake = self.fake_of_real(value)
                if fake is None or not self._scan((fake,), parts, no_masks):
                    return False
            else:
                return False
        return True

    def fake_of_real(self, real: torch.Tensor) -> FakeTensor | None:
        """The fake tensor that stands for a real one; None where the mode wants none of it."""
        known = self._real.get(id(real))
        if known is not None:
            return known[1]
        if not self.mode.allow_non_fake_inputs:
            return None
        if type(real) not in (torch.Tensor, torch.nn.Parameter):
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(real):
            return None
        fake = self.mode.fake_tensor_converter.from_real_tensor(self.mode, real)
        self._real[id(real)] = (real, fake)
        return fake

    # -- results ------------------------------------------------------------------------------

    def build(
        self, entry: Entry, args: Sequence[Any], snapshots: bool = False
    ) -> list[tuple[Any, Any]]:
        """The results of a call that the cache knows.

        Args:
            entry: what is known.
            args: the positional arguments of the call.
            snapshots: whether to make snapshots of the results for a graph's metadata, too.

        Returns:
            For each output the result and its snapshot; None for one that is not there.
        """
        # Looked up before the guard: an argument met for the first time is asked by torch.
        elems = [
            None
            if output is None or output.template is not None
            else self._elem(args[output.argument if output.base < 0 else output.base])
            for output in entry.outputs
        ]
        made: list[tuple[Any, Any]] = []
        with BelowTorch():
            for output, elem in zip(entry.outputs, elems, strict=True):
                if output is None:
                    made.append((None, None))
                    continue
                result = None
                if output.argument >= 0:
                    result = self._fake(args[output.argument])
                elif output.base >= 0:
                    elem = view_metadata(elem, *output.layout)  # noqa: PLW2901
                else:
                    elem = copy_metadata(output.template)  # noqa: PLW2901
                    self._mark(elem)
                device, attributes = output.device, output.attributes
                if result is None:
                    result = fake_from_meta(elem, device, attributes)  # type: ignore[arg-type]
                    state = TensorState()
                    state.description = output.description
                    state.elem = elem
                    result._symfx = state  # type: ignore[attr-defined]
                snapshot = None
                if snapshots:
                    snapshot = fake_from_meta(elem, device, attributes)  # type: ignore[arg-type]
                made.append((result, snapshot))
        return made

    def _fake(self, tensor: Any) -> FakeTensor:
        """A tensor argument as the mode sees it."""
        if type(tensor) is FakeTensor:
            return tensor
        fake = self.fake_of_real(tensor)
        assert fake is not None  # it had a description when the key was made
        return fake

    def _fakes(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Arguments with fake tensors in place of the real ones."""
        return tuple(
            self._fake(v)
            if isinstance(v, torch.Tensor)
            else type(v)(self._fakes(v))
            if type(v) in _SEQUENCES
            else v
            for v in values
        )

    def _elem(self, tensor: Any) -> torch.Tensor:
        """A plain meta tensor on the storage of a tensor argument."""
        fake = self._fake(tensor)
        state = state_of(fake)
        if state.elem is None:
            state.elem = plain_alias(fake)
        return state.elem

    # -- what is known, and what a rule says -----------------------------------------------------

    def lookup(
        self,
        key: tuple[Any, ...],
        facts: OperatorFacts,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Entry | None:
        """What a call returns, from an earlier one or by the operator's rule; else None."""
        entry = self.entries.get(key)
        if entry is not None:
            self.hits += 1
            return entry
        if facts.rule is None or torch.is_inference_mode_enabled():
            return None
        shapes = self._shapes((*args, *kwargs.values()))
        tensors = [s for s in _flat(shapes) if type(s) is Description]
        if any(t.inference for t in tensors):
            return None
        named = dict(zip(kwargs, shapes[len(args) :], strict=True))
        epoch = self.epoch
        with running(self.env, facts.func):
            result = facts.rule(self._numbers, shapes[: len(args)], named)
        if self.epoch != epoch:
            # A guard taught an equality, and the terms that the rule was given are old.
            renewed = self.key(facts, args, kwargs)
            return None if renewed is None else self.lookup(renewed, facts, args, kwargs)
        if result is None:
            return None
        self.ruled += 1
        device = tensors[0].device if tensors else None
        several = isinstance(result, (list, tuple))
        entry = self.entries[key] = Entry(
            tuple(
                self._output(r, shapes, device)
                for r in (result if several else (result,))  # type: ignore[union-attr]
            ),
            type(result) if several else None,
        )
        return entry

    def _guard(self, condition: Term) -> bool:
        """Guard what holds at tracing, where guards may be made."""
        env = self.env
        if env is None or env.ledger.suppression.depth or env.hint_of(condition) is not True:
            return False
        return env.evaluate_term(condition) is True

    def _shapes(self, values: Iterable[Any]) -> list[Any]:
        """Arguments as a rule sees them; each has been through `key`."""
        shapes: list[Any] = []
        for value in values:
            kind = type(value)
            if isinstance(value, torch.Tensor):
                shapes.append(self.describe(self._fake(value)))
            elif kind in _SYMBOLIC:
                shapes.append(self._term(value))
            elif isinstance(value, _SEQUENCES):
                shapes.append(self._shapes(value))
            else:
                shapes.append(value)
        return shapes

    def _output(self, result: Any, shapes: Sequence[Any], device: torch.device | None) -> Output:
        """How to make what a rule described."""
        if type(result) is New:
            made_on = result.device or device or torch.device("cpu")
            description = self._description(
                (result.dtype, made_on, result.sizes, result.strides, 0, False)
            )
            output = Output(description, made_on, self._attributes_for(made_on))
            sizes, strides, _ = self._layout(description)
            with BelowTorch():
                output.template = torch.empty_strided(
                    sizes, strides, dtype=result.dtype, device="meta"
                )
            return output
        if type(result) is View:
            base = shapes[result.of]
            description = self._description(
                (base.dtype, base.device, result.sizes, result.strides, result.offset, False)
            )
            output = Output(description, base.device, self._attributes_for(base.device))
            output.base = result.of
            output.layout = self._layout(description)
            return output
        description = shapes[result.position]
        output = Output(description, description.device, self._attributes_for(description.device))
        output.argument = result.position
        return output

    # -- under torch's FakeTensorMode -------------------------------------------------------------

    def dispatch(
        self,
        func: OpOverload[..., Any],
        types: Sequence[type],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Any:
        """Run an operator on fake tensors; stands in for the mode's own caching dispatch."""
        mode = self.mode
        if not isinstance(func, OpOverload):
            return mode._dispatch_impl(func, types, args, kwargs)
        facts = facts_of(func)
        key = self.key(facts, args, kwargs) if facts.cacheable else None
        if key is None:
            self.bypasses += 1
            with running(self.env, func):
                out = mode._dispatch_impl(func, types, args, kwargs)
            for tensor in _written(facts, args, kwargs):
                forget(tensor)
            return out
        entry = self.lookup(key, facts, args, kwargs)
        if entry is not None:
            results = [result for result, _ in self.build(entry, args)]
            return results[0] if entry.sequence is None else entry.sequence(results)
        # Given real tensors alone, the mode would compute with them, and write to them.
        args = self._fakes(args)
        kwargs = {name: self._fakes((value,))[0] for name, value in kwargs.items()}
        written = _written(facts, args, kwargs)
        before = [self.describe(t) for t in written]
        symbols = self._fresh_symbols()
        for tensor in written:
            forget(tensor)
        with running(self.env, func):
            out = mode._dispatch_impl(func, types, args, kwargs)
        entry = None
        if (
            all(
                was is not None and self.describe(t) is was
                for was, t in zip(before, written, strict=True)
            )
            and self._fresh_symbols() == symbols
            and not (self.env is not None and self.env.ledger.suppression.depth)
        ):
            entry = self._entry(facts, args, kwargs, out)
        if entry is None:
            self.bypasses += 1
        else:
            self.misses += 1
            self.entries[key] = entry
        return out

    def _fresh_symbols(self) -> int:
        """Grows when an operator brings forth a symbol of its own."""
        return 0 if self.env is None else len(self.env.symbols.records)

    def _entry(
        self,
        facts: OperatorFacts,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        out: Any,
    ) -> Entry | None:
        """How to make `out` again; None where it must not be."""
        sequence = list if isinstance(out, list) else tuple if isinstance(out, tuple) else None
        positions = {id(a): i for i, a in enumerate(args)}
        storages: dict[int, list[int]] = {}
        for t in _tensors((*args, *kwargs.values())):
            position = positions.setdefault(id(t), -1)
            storages.setdefault(storage_id(t), []).append(position)
        outputs: list[Output | None] = []
        own: set[int] = set()
        for result in out if sequence is not None else (out,):
            if result is None:
                outputs.append(None)
                continue
            description = None if type(result) is not FakeTensor else self.describe(result)
            if description is None:
                return None
            output = Output(
                description, result.fake_device, self._attributes_for(result.fake_device)
            )
            shared = storage_id(result)
            if id(result) in positions:
                output.argument = positions[id(result)]
                if output.argument < 0:
                    return None
            elif shared in storages:
                if not self._as_view(output, facts, args, storages[shared]):
                    return None
            elif shared in own:
                return None
            else:
                own.add(shared)
                template = self._elem(result)
                with BelowTorch():
                    output.template = copy_metadata(template)
            if not self._keys_agree(output, result, args):
                return None
            outputs.append(output)
        return Entry(tuple(outputs), sequence)

    def _as_view(
        self,
        output: Output,
        facts: OperatorFacts,
        args: Sequence[Any],
        candidates: list[int],
    ) -> bool:
        """Make `output` a view of the one argument that it can be a view of."""
        if facts.func.is_view:
            aliased = [
                i for i, a in enumerate(facts.func._schema.arguments) if a.alias_info is not None
            ]
            candidates = [i for i in candidates if i in aliased]
        if len(candidates) != 1 or candidates[0] < 0:
            return False
        output.base = candidates[0]
        base = self.describe(args[output.base])
        # A view of another dtype counts its strides in other units.
        if base is None or base.dtype is not output.description.dtype:
            return False
        output.layout = self._layout(output.description)
        return True

    def _layout(self, description: Description) -> tuple[list[Any], list[Any], Any]:
        """Sizes, strides and offset as torch takes them."""
        wrap = self._wrap
        return (
            [wrap(n) for n in description.sizes],
            [wrap(n) for n in description.strides],
            wrap(description.offset),
        )

    def _wrap(self, n: Number) -> Any:
        return n if isinstance(n, int) else self.env.wrap(n)  # type: ignore[union-attr]

    def _keys_agree(self, output: Output, result: FakeTensor, args: Sequence[Any]) -> bool:
        """A tensor that the cache makes is dispatched as the one that torch made."""
        ((twin, _),) = self.build(Entry((output,)), args)
        same: bool = torch._C._dispatch_keys(twin) == torch._C._dispatch_keys(result)
        return same

    def _attributes_for(self, device: torch.device) -> dict[str, Any]:
        attributes = self._attributes.get(device)
        if attributes is None:
            attributes = self._attributes[device] = attributes_at_birth(self.mode, device)
        return attributes


def _tensors(values: Iterable[Any]) -> Iterable[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, _SEQUENCES):
            yield from _tensors(value)


def _flat(values: Iterable[Any]) -> Iterable[Any]:
    for value in values:
        if isinstance(value, _SEQUENCES):
            yield from _flat(value)
        else:
            yield value


def _written(
    facts: OperatorFacts, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> list[torch.Tensor]:
    """The tensors that an operator writes to."""
    if not facts.mutated and not facts.mutated_names:
        return []
    written = [args[i] for i in facts.mutated if i < len(args)]
    written += [kwargs[name] for name in facts.mutated_names if name in kwargs]
    return list(_tensors(written))


def adopt(mode: FakeTensorMode, env: Any) -> None:
    """Let a mode dispatch through a cache of symfx's from now on.

    Args:
        mode: the mode; one that computes with real tensors on the side is left as it is.
        env: its environment.
    """
    if "_cached_dispatch_impl" in mode.__dict__ or mode.propagate_real_tensors:
        return
    cache = OperationCache(mode, env)
    cache.live = True
    mode._cached_dispatch_impl = cache.dispatch  # type: ignore[method-assign]


def forget(tensor: torch.Tensor) -> None:
    """Forget what was remembered of a tensor's sizes and storage."""
    state: TensorState | None = getattr(tensor, "_symfx", None)
    if state is not None:
        state.description = None
        state.elem = None
