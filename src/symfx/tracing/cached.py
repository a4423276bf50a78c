"""`symfx.trace` with a cache: a trace is read from its file, or made and written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from symfx.cache.description import Description
from symfx.cache.front import CacheUse, store_at
from symfx.cache.process_state import process_state, refuse_unusual_state
from symfx.cache.refusal import NotCacheableError
from symfx.cache.running_code import recorded_calls
from symfx.cache.store import Entry as CacheEntry
from symfx.cache.store import Store
from symfx.errors import SymfxError, TraceFileError
from symfx.handover.calls import describe_entry
from symfx.tracing.admission import Admission
from symfx.tracing.arguments import Layout
from symfx.tracing.dynamic import Entry
from symfx.tracing.model_state import module_of
from symfx.tracing.traced_model import name_of
from symfx.tracing.traces import Trace

__all__ = ["Call", "cached_trace", "not_cached"]


@dataclass(frozen=True)
class Call:
    """A call of `symfx.trace`, as far as a trace depends on it.

    Attributes:
        model: the model.
        layout: its arguments.
        entries: the dynamic dimensions.
        options: all else that was asked for, as texts and numbers.
    """

    model: Callable[..., Any]
    layout: Layout
    entries: Sequence[Entry]
    options: Sequence[Any] = field(default=())

    def state(self) -> list[torch.Tensor]:
        """The parameters and buffers that the tracer takes as inputs of the graph."""
        module = module_of(self.model)
        return [] if module is None else [*module.parameters(), *module.buffers()]

    def digest(self) -> str:
        """A digest of all but the model itself; entries of the cache stand under it.

        Raises:
            NotCacheableError: an argument cannot be compared.
        """
        examples = [leaf.example for leaf in self.layout.leaves]
        # The tracer never sees the elements of an input.
        described = Description(state=[e for e in examples if isinstance(e, torch.Tensor)])
        texts = [
            process_state(),
            name_of(self.model),
            [describe_entry(entry) for entry in self.entries],
            [str(entry) for entry in self.entries],
            list(self.options),
            repr(self.layout.structure),
            [leaf.path for leaf in self.layout.leaves],
        ]
        described.add("the call", json.dumps(texts))
        for leaf in self.layout.leaves:
            described.add(leaf.path, leaf.example)
        return described.digest()


def cached_trace(directory: Any, call: Call, run: Callable[[], Trace]) -> Trace:
    """The trace of a call, from the cache or newly made.

    Args:
        directory: the directory of the cache; True for the default one.
        call: the call.
        run: traces the model.
    """
    store = store_at(None if directory is True else directory)
    try:
        refuse_unusual_state()
        kind = call.digest()
        found = _found(store, kind, call)
    except NotCacheableError as refusal:
        return not_cached(run(), refusal.reason)
    if found is not None:
        return _with(found, CacheUse(hit=True))
    return _traced_and_stored(store, kind, call, run)


def not_cached(trace: Trace, reason: str) -> Trace:
    """Note of a trace why the cache does not have it."""
    return _with(trace, CacheUse(hit=False, reason=reason))


def _with(trace: Trace, use: CacheUse) -> Trace:
    trace.cache_use = use
    return trace


def _warn(what: str) -> None:
    warnings.warn(f"symfx: {what}; the model is traced anew", RuntimeWarning, stacklevel=5)


# -- reading ---------------------------------------------------------------------------------------


def _found(store: Store, kind: str, call: Call) -> Trace | None:
    """The trace of an entry whose key is that of the model now."""
    known: dict[Any, Description | None] = {}
    for entry in store.entries(kind, _warn):
        asked = entry.running, entry.roots
        if asked not in known:
            try:
                known[asked] = _described(call, *asked)
            except NotCacheableError:  # what ran then is not there now
                known[asked] = None
        described = known[asked]
        if described is None or described.digest() != entry.key:
            continue
        try:
            trace = _read(entry, call, described.tensors)
        except (SymfxError, OSError) as error:
            _warn(f"{entry.path} cannot be read: {getattr(error, 'what', error)}")
            store.remove(entry)
            continue
        store.used(entry)
        return trace
    return None


def _described(call: Call, running: Any, roots: Any) -> Description:
    described = Description(running, call.state())
    described.add("", call.model)
    described.add_tensors()
    described.add_roots(roots)
    return described


def _read(entry: CacheEntry, call: Call, tensors: Sequence[torch.Tensor]) -> Trace:
    from symfx.handover.trace_files import read_trace  # costs time, and few programs use a cache

    arguments, _ = read_trace(entry.path, (), call.model, checked=False)
    graph_module = arguments["graph_module"]
    if [leaf.name for leaf in call.layout.leaves] != [
        leaf.name for leaf in arguments["admission"].layout.leaves
    ]:
        raise TraceFileError("its inputs are not those of the call")
    for target, place in entry.constants.items():
        _put(graph_module, target, tensors, place)
    arguments["admission"] = Admission(
        call.layout, call.entries, graph_module.shape_env, entry.offsets
    )
    return Trace(**arguments)


def _put(root: torch.nn.Module, target: str, tensors: Sequence[torch.Tensor], place: int) -> None:
    """Make the model's own tensor the constant of the graph that has its elements.

    Raises:
        TraceFileError: it is not that tensor.
    """
    path, _, name = target.rpartition(".")
    owner = dict(root.named_modules()).get(path)
    now = owner._buffers.get(name) if owner is not None else None
    own = tensors[place] if place < len(tensors) else None
    if owner is None or now is None or own is None or own.shape != now.shape:
        raise TraceFileError(f"it has no constant {target}")
    owner._buffers[name] = own


# -- writing ---------------------------------------------------------------------------------------


def _traced_and_stored(store: Store, kind: str, call: Call, run: Callable[[], Trace]) -> Trace:
    trace: Trace | None = None
    try:
        before = _model_alone(call)
        with recorded_calls() as running:
            trace = run()
        described, roots = _described_with_roots(call, running)
        key = described.digest()
        if _model_alone(call) != before:
            raise NotCacheableError("a run of the model changes what it holds")
        if described.shared is not None:
            # A run might change it, so that the trace belongs to what was there before. Whether
            # it does shows when the model is traced again.
            with recorded_calls() as again:
                trace = run()
            if not again <= running or _described(call, running, roots).digest() != key:
                raise NotCacheableError(f"a run of the model changes {described.shared}")
        constants = _constants(trace, described.tensors)
        offsets = any(n.measure.kind == "storage_offset" for n in trace.admission.facts)
        saved: Trace = trace
        store.write(
            CacheEntry(Path(), kind, key, frozenset(running), frozenset(roots), constants, offsets),
            lambda path: saved.save(path, weights=False, examples=False),
        )
    except NotCacheableError as refusal:
        reason = refusal.reason
    except (TraceFileError, OSError) as error:
        if trace is None:
            raise  # of the model
        reason = str(getattr(error, "what", error))
    else:
        return _with(trace, CacheUse(hit=False, stored=True))
    return _with(trace if trace is not None else run(), CacheUse(hit=False, reason=reason))


def _model_alone(call: Call) -> str:
    described = Description(state=call.state())
    described.add("", call.model)
    return described.digest()


def _described_with_roots(call: Call, running: set[Any]) -> tuple[Description, set[Any]]:
    """The description of a model whose running functions are known, and those to find by name.

    Raises:
        NotCacheableError: a function cannot be found, or something cannot be compared.
    """
    roots: set[Any] = set()
    while True:
        described = _described(call, running, roots)
        missing = described.missing()
        if not missing:
            return described, roots
        if missing <= roots:
            module, name, _ = min(missing)
            raise NotCacheableError(f"{module}.{name} runs, and cannot be found by its name")
        roots |= missing


def _constants(trace: Trace, tensors: Sequence[torch.Tensor]) -> dict[str, int]:
    """The place among the model's tensors of each constant of the graph that is one of them."""
    places = {id(tensor): place for place, tensor in enumerate(tensors)}
    module = trace.graph_module
    named = [
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ]
    constants = {}
    for name, tensor in named:
        if name not in trace.state_names and id(tensor) in places:
            if isinstance(tensor, torch.nn.Parameter):
                raise NotCacheableError(f"the graph has the parameter {name} as a constant")
            constants[name] = places[id(tensor)]
    return constants
