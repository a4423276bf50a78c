"""Repeated blocks: of equal calls of modules of one class, a trace runs only the first ones.

A first call tells what such calls read. The next call runs under watch: if nothing changes while it
runs, and no fact is learned, its nodes are recorded again for each later call of equal signature.
A call that cannot be shown equal is traced as any other.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import fx
from torch.nn.modules import module as torch_modules

from symfx.proxy_tensor.modules import is_hook_of_stack
from symfx.proxy_tensor.repeated.reads import Reads, ReadState, watching
from symfx.proxy_tensor.repeated.signatures import (
    BLOCK,
    BlockModules,
    Signature,
    facts_of_env,
    shape_alone,
)
from symfx.proxy_tensor.repeated.stamping import Recorded
from symfx.proxy_tensor.repeated.subgraphs import Body, nodes_after
from symfx.proxy_tensor.repeated.values import UnknownStateError
from symfx.torch_bridge.modules import registered_modules

if TYPE_CHECKING:
    from symfx.proxy_tensor.origins import OriginLog
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["Repeated", "RepeatedBlocks"]

Repeated = Literal["inline", "subgraph", "off"]

_log = logging.getLogger("symfx.repeated")
#: A block has at least so many modules; smaller ones are traced as fast as compared.
_FEWEST_MODULES = 3
#: The first two calls of a kind of block run under watch, which takes longer than one call saves.
_FEWEST_BLOCKS = 4
#: So many recordings of one kind of block that no later call could use end the attempts.
_MOST_FAILURES = 4
_GLOBAL_HOOKS = (
    "_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks",
    "_global_backward_pre_hooks",
)  # fmt: skip


@dataclass
class _Kind:
    """The blocks of one shape: class, submodules, sizes of parameters.

    Attributes:
        can_repeat: whether calls of these modules can be watched at all.
        members: the number of modules of this kind.
        reads: what a call reads, once one has run.
        recorded: the calls that can be recorded again.
        failures: the number of watched calls in vain.
        runs: the nodes of each call that was run, where subgraphs are made.
    """

    can_repeat: bool
    members: int = 0
    reads: Reads | None = None
    recorded: list[_Call] = field(default_factory=list)
    failures: int = 0
    runs: list[list[fx.Node]] = field(default_factory=list)


@dataclass
class _Call:
    """A call whose nodes can be recorded again, with the facts under which it ran."""

    nodes: Recorded
    facts: tuple[int, ...]
    origins: OriginLog
    state: ReadState
    reads: Reads
    body: Body | None = None


class RepeatedBlocks:
    """The repeated blocks of one trace.

    Args:
        root: the module that is traced.
        subgraphs: whether the blocks become calls of a subgraph.

    Attributes:
        stamped: for each class of a block, the number of its calls that were not run.
        refused: for each class of a block, the reasons why calls were run after all.
    """

    def __init__(self, root: torch.nn.Module, *, subgraphs: bool = False) -> None:
        self._root = root
        self._subgraphs = subgraphs
        self._tracer: PythonKeyTracer | None = None
        self._kinds: dict[tuple[int, ...], _Kind] = {}
        self._blocks: dict[int, tuple[BlockModules, _Kind]] = {}
        self.stamped: Counter[type] = Counter()
        self.refused: dict[type, Counter[str]] = {}

    @contextlib.contextmanager
    def active(self, tracer: PythonKeyTracer) -> Iterator[None]:
        """Inside, calls of repeated blocks are recorded from earlier ones where that is right."""
        if not self._can_run(tracer):
            yield
            return
        self._tracer = tracer
        self._find()
        token = _active.set(self)
        changed = []
        try:
            for block, _ in self._blocks.values():
                module = block.modules[0]
                vars(module)["forward"] = self._calling(module, module.forward)
                changed.append(module)
            yield
            with torch._C.DisableTorchFunction():  # the mode of the trace notes each look
                self._fold()
        finally:
            for module in changed:
                vars(module).pop("forward", None)
            _active.reset(token)
            # Tensors with a history in autograd would keep all of the trace alive.
            self._tracer = None
            self._kinds.clear()
            self._blocks.clear()

    def _fold(self) -> None:
        """Make the calls that were run calls of the subgraph, too."""
        for kind in self._kinds.values():
            for call in kind.recorded:
                if call.body is None:
                    continue
                for nodes in kind.runs:
                    if call.body.fold(nodes):
                        kind.runs = [run for run in kind.runs if run is not nodes]

    @staticmethod
    def _can_run(tracer: PythonKeyTracer) -> bool:
        cache = tracer.cache
        if cache is None or cache.env is None or tracer.origins is None:
            return False
        # Then the caller of `make_fx` wants the tensors of all nodes.
        if tracer.tensors_seen is not None:
            return False
        env: Any = cache.env
        return not env.should_record_events and env.validator is None

    def _find(self) -> None:
        """Find the modules whose shape enough modules have."""
        modules = registered_modules(self._root)
        sizes = _sizes_of_trees(modules)
        # Names of a module that has several depend on how the program looks it up.
        if sizes is None:
            return
        classes = Counter(type(m) for m in modules if m._modules)
        numbers: dict[tuple[Any, ...], int] = {}
        with torch._C.DisableTorchFunction():  # the mode of the trace notes each look
            alone = [shape_alone(module, numbers) for module in modules]
        for i, (module, size) in enumerate(zip(modules, sizes, strict=True)):
            if size < _FEWEST_MODULES or classes[type(module)] < 2 or "forward" in vars(module):
                continue
            shape = tuple(alone[i : i + size])  # a module stands before all that is in it
            block = BlockModules(modules[i : i + size], is_hook_of_stack)
            kind = self._kinds.get(shape)
            if kind is None:
                kind = self._kinds[shape] = _Kind(can_repeat=block.can_repeat)
            if kind.can_repeat:
                kind.members += 1
                self._blocks[id(module)] = block, kind
        fewest = 2 if self._subgraphs else _FEWEST_BLOCKS
        self._blocks = {k: found for k, found in self._blocks.items() if found[1].members >= fewest}

    def _calling(self, module: torch.nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def call(*args: Any, **kwargs: Any) -> Any:
            if _active.get() is not self:  # another thread, or a trace inside
                return forward(*args, **kwargs)
            return self._call(module, forward, args, kwargs)

        setattr(call, BLOCK, True)
        return call

    # -- one call --------------------------------------------------------------------------------

    def _call(
        self,
        module: torch.nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        block, kind = self._blocks[id(module)]
        tracer: Any = self._tracer
        origins = tracer.origins
        if (
            kind.failures >= _MOST_FAILURES
            or origins.log is not None  # a watched call around this one
            or not origins.is_running(module)
            or any(getattr(torch_modules, name) for name in _GLOBAL_HOOKS)
        ):
            return forward(*args, **kwargs)
        if kind.reads is None:
            last = tracer.graph._root.prev
            with watching(block.modules) as reads, origins.logging():
                result = forward(*args, **kwargs)
            kind.reads = reads
            self._note_run(kind, last)
            if not reads.complete:
                kind.failures = _MOST_FAILURES
            return result
        facts = facts_of_env(tracer.cache.env)
        for call in kind.recorded:
            if call.facts != facts:
                continue
            try:
                stamped = self._stamped(call, block, args, kwargs)
            except UnknownStateError as error:
                self._refuse(module, str(error))
                continue
            if stamped is not None:
                self.stamped[type(module)] += 1
                return stamped[0]
        return self._watched(block, kind, forward, args, kwargs)

    def _stamped(
        self, call: _Call, block: BlockModules, args: Any, kwargs: Any
    ) -> tuple[Any] | None:
        """The result of a call, recorded from an equal one; None for a call that is not equal."""
        tracer: Any = self._tracer
        signature = Signature(block, args, kwargs, call.reads, call.state, tracer.cache)
        if not call.nodes.signature.maps_onto(signature):
            self._refuse(block.modules[0], "another call differs")
            return None
        replaced = call.nodes.replacements(signature)
        modules = dict(zip(map(id, call.nodes.signature.modules), block.modules, strict=True))
        with torch._C.DisableTorchFunction():
            if self._subgraphs:
                vals, elems = call.nodes.values()
                if call.body is None:
                    call.body = Body(tracer, call.nodes, type(block.modules[0]).__name__)
                nodes = call.body.call([replaced.get(n, n) for n in call.body.operands], vals)
            else:
                origins = tracer.origins.repeat(call.origins, modules)
                nodes, elems = call.nodes.stamp(replaced, origins)
            return (call.nodes.results(signature, nodes, elems),)

    def _note_run(self, kind: _Kind, last: fx.Node) -> None:
        if self._subgraphs:
            kind.runs.append(nodes_after(last))

    def _watched(
        self,
        block: BlockModules,
        kind: _Kind,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Run a call, and record it if nothing changes meanwhile."""
        tracer: Any = self._tracer
        module = block.modules[0]
        before = None
        known: Any = kind.reads
        try:
            state = ReadState(known, block.modules)
            before = Signature(block, args, kwargs, known, state, tracer.cache)
        except UnknownStateError as error:
            self._refuse(module, str(error))
        attributes = [dict(vars(m)) for m in block.modules]
        facts = facts_of_env(tracer.cache.env)
        last = tracer.graph._root.prev
        aliases = len(tracer.composites._may_alias)
        tracer.numbers_made = set()
        with watching(block.modules) as reads, tracer.origins.logging() as log:
            result = forward(*args, **kwargs)
        numbers, tracer.numbers_made = tracer.numbers_made, None
        self._note_run(kind, last)
        if not reads.complete:
            kind.failures = _MOST_FAILURES
            return result
        covered = known.covers(reads)
        kind.reads = reads
        if before is None or not covered or facts != facts_of_env(tracer.cache.env):
            kind.failures += before is None
            return result
        try:
            if aliases != len(tracer.composites._may_alias):
                raise UnknownStateError("its results share memory at some sizes")
            for m, then in zip(block.modules, attributes, strict=True):
                if _differ(then, vars(m)):
                    raise UnknownStateError("it sets attributes of its modules")
            after = Signature(block, args, kwargs, known, state, tracer.cache)
            if after.tokens != before.tokens:
                raise UnknownStateError("it changes what it reads")
            nodes = nodes_after(last)
            if any(_is_foreign_number(node, numbers) for node in nodes):
                raise UnknownStateError("it records numbers that are not of sizes")
            with torch._C.DisableTorchFunction():
                recorded = Recorded(tracer, nodes, before, result)
            for_nodes = [step.node for step in recorded.steps]
            origin_log = log.of_nodes(for_nodes)
        except UnknownStateError as error:
            self._refuse(module, str(error))
            kind.failures += 1
            return result
        kind.recorded.append(_Call(recorded, facts, origin_log, state, known))
        return result

    def _refuse(self, module: torch.nn.Module, reason: str) -> None:
        self.refused.setdefault(type(module), Counter())[reason] += 1
        _log.info("%s is traced again: %s", type(module).__name__, reason)


_active: ContextVar[RepeatedBlocks | None] = ContextVar("symfx_repeated", default=None)


def _sizes_of_trees(modules: list[torch.nn.Module]) -> list[int] | None:
    """How many modules are in each module, itself included; None if some is in two places.

    Args:
        modules: each module before those in it.
    """
    sizes: dict[int, int] = {}
    places = 0
    for module in reversed(modules):
        size = 1
        for _, part in module._modules.items() if module._modules else ():
            if part is not None:
                places += 1
                size += sizes.get(id(part), 0)
        sizes[id(module)] = size
    return [sizes[id(m)] for m in modules] if places == len(modules) - 1 else None


def _differ(before: dict[str, Any], now: dict[str, Any]) -> bool:
    return before.keys() != now.keys() or any(now[k] is not v for k, v in before.items())


def _is_foreign_number(node: fx.Node, numbers: set[fx.Node]) -> bool:
    return isinstance(node.meta.get("val"), (torch.SymInt, torch.SymFloat, torch.SymBool)) and (
        node not in numbers
    )
