"""The operation cache: an operator seen before, on tensors of the same description, is not run.

The result of an operator on fake tensors depends on the descriptions of its arguments alone:
dtypes, devices, sizes, strides, offsets. symfx keeps the results of each operator of a trace, keyed
on the interned terms of those sizes. On a second call it makes tensors of the same description, and
does not ask torch's kernels again. A network of equal layers pays for one.

Why this is sound:

* A tensor's description is forgotten when an operator writes to the tensor
  (`fake_operators.descriptions`).
* Guards that the first run needed stand in the environment, whose facts only grow. A run under
  ``suppress_guards`` leaves no guards, and is not remembered.
* Each tensor made has a storage of its own, unless the first run's result shared the storage
  of an argument: then it is a view of that argument now.
* Not cached are operators that read data, make constants, write to anything but their first
  argument or change more than data there; operators that are not torch's own; and tensors that
  are sparse, quantized, conjugated, of a subclass, or of another mode.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from symfx.algebra import Term
from symfx.fake_operators.asking_kernels import ASKING
from symfx.fake_operators.both_answers import (
    OpenQuestionError,
    Outcome,
    results_but_strides,
    watching,
)
from symfx.fake_operators.descriptions import Description, Descriptions, forget
from symfx.fake_operators.environment import Environment
from symfx.fake_operators.kernel_runs import KernelRuns
from symfx.fake_operators.operators import OperatorFacts, facts_of, running
from symfx.fake_operators.results import Entry, Results, tensors_in
from symfx.fake_operators.rules import Number, Numbers
from symfx.fake_operators.rules.elementwise_layout import is_row_major_or_empty

__all__ = ["OperationCache", "adopt", "cache_of"]

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
_NUMBERS = frozenset({int, float, bool, complex})
_PLAIN = frozenset({type(None), str, torch.dtype, torch.device, torch.layout, torch.memory_format})
_SEQUENCES = (list, tuple)


class OperationCache:
    """The results of operators under one FakeTensorMode.

    Args:
        mode: the mode. It must not compute with real tensors on the side.
        env: its environment, or None where that is not symfx's.

    Attributes:
        hits, ruled, misses, bypasses: how many calls had an entry, were answered by the
            operator's rule, were run by torch and remembered, were run and not remembered.
    """

    def __init__(self, mode: FakeTensorMode, env: Environment | None) -> None:
        self.mode = mode
        self.env = env
        self.entries: dict[tuple[Any, ...], Entry] = {}
        self.hits = 0
        self.ruled = 0
        self.misses = 0
        self.bypasses = 0
        self._descriptions = Descriptions(mode, env)
        self._results = Results(mode, env, self._descriptions)
        # Bound once: these are called for each operator.
        self.describe = self._descriptions.describe
        self.fake_of_real = self._descriptions.fake_of_real
        self.build = self._results.build
        self.copies = self._results.copies
        self._term = self._descriptions.term
        self._numbers = Numbers(None if env is None else env.prover, self._guard)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Have the mode dispatch through this cache inside."""
        mode: Any = self.mode
        before = mode.__dict__.get("_cached_dispatch_impl")
        enabled = mode.cache_enabled
        mode._cached_dispatch_impl = self.dispatch
        mode.cache_enabled = True
        self._descriptions.live = True
        try:
            yield
        finally:
            self._descriptions.live = False
            mode.cache_enabled = enabled
            if before is None:
                del mode._cached_dispatch_impl
            else:
                mode._cached_dispatch_impl = before

    def install_for_good(self) -> None:
        """Have the mode dispatch through this cache from now on.

        The call whose key torch's cache makes at this moment goes on to `_dispatch_impl`.
        """
        self._descriptions.live = True
        self.mode._cached_dispatch_impl = self.dispatch  # type: ignore[method-assign]
        self.mode._dispatch_impl = self._dispatch_first  # type: ignore[method-assign,assignment]

    def _dispatch_first(self, *call: Any) -> Any:
        """Dispatch the call that torch's own cache was asked about."""
        del self.mode._dispatch_impl
        return self.dispatch(*call)

    # -- keys ---------------------------------------------------------------------------------

    def key(
        self, facts: OperatorFacts, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Any, ...] | None:
        """The key of a call; None where the call must not be answered from the cache."""
        parts: list[Any] = [
            facts,
            torch.get_default_dtype(),
            torch._C._get_default_device(),
            torch.is_inference_mode_enabled(),
        ]
        for value in args:
            # The masks of an indexed tensor are in a list, and the tensor itself may be boolean.
            if not self.scan((value,), parts, facts.mask_indexer and type(value) in _SEQUENCES):
                return None
        for name, value in kwargs.items():
            parts.append(name)
            if not self.scan((value,), parts, facts.mask_indexer and type(value) in _SEQUENCES):
                return None
        return tuple(parts)

    def scan(self, values: Iterable[Any], parts: list[Any], no_masks: bool = False) -> bool:
        """Append the key's parts for some arguments; False where one must not be cached."""
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
                if not self.scan(value, parts, no_masks):
                    return False
            elif kind in _SYMBOLIC:
                term = self._term(value)
                if term is None:
                    return False
                parts.append(kind if type(term) in _NUMBERS else _SYMBOLIC)
                parts.append(term)
            elif isinstance(value, torch.Tensor):
                fake = self.fake_of_real(value)
                if fake is None or not self.scan((fake,), parts, no_masks):
                    return False
            else:
                return False
        return True

    # -- entries: of an earlier call, or by the operator's rule -----------------------------------

    def lookup(
        self,
        key: tuple[Any, ...],
        facts: OperatorFacts,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> Entry | None:
        """The entry of a call, from an earlier call or by the operator's rule; else None."""
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
        epoch = self._descriptions.epoch
        with running(self.env, facts.func):
            result = facts.rule(self._numbers, shapes[: len(args)], named)
        if self._descriptions.epoch != epoch:
            # A guard taught an equality, and the terms that the rule was given are old.
            renewed = self.key(facts, args, kwargs)
            return None if renewed is None else self.lookup(renewed, facts, args, kwargs)
        if result is None:
            return None
        self.ruled += 1
        device = tensors[0].device if tensors else None
        entry = self.entries[key] = self._results.of_rule(result, shapes, device)
        return entry

    def _guard(self, condition: Term, asked: tuple[str, Number, Number]) -> bool:
        """Guard on a condition that holds at tracing, where guards may be made.

        Args:
            condition: the condition, as a comparison of terms makes it.
            asked: the comparison as torch's kernel writes it: the method and both sides.
        """
        env = self.env
        if env is None or self._forgets() or env.hint_of(condition) is not True:
            return False
        const = env.table.const
        left, right = (n if isinstance(n, Term) else const(n) for n in asked[1:])
        env.asked.setdefault(condition, (asked[0], left, right))
        return env.evaluate_term(condition) is True

    def _shapes(self, values: Iterable[Any]) -> list[Any]:
        """Arguments as a rule sees them; each has been through `key`."""
        shapes: list[Any] = []
        for value in values:
            kind = type(value)
            if isinstance(value, torch.Tensor):
                shapes.append(self.describe(self._descriptions.fake_of(value)))
            elif kind in _SYMBOLIC:
                shapes.append(self._term(value))
            elif isinstance(value, _SEQUENCES):
                shapes.append(self._shapes(value))
            else:
                shapes.append(value)
        return shapes

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
        if key is None and facts.elementwise:
            args = self._without_values(args)
            key = self.key(facts, args, kwargs)
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
        symbols = self._symbol_count()
        for tensor in written:
            forget(tensor)
        found: Any = None
        if self.may_try():
            try:
                with watching(self.env.ledger), running(self.env, func):  # type: ignore[union-attr]
                    found = self._run_kernel(facts, types, args, kwargs)
            except OpenQuestionError:
                entry = None if written else self._with_open_strides(facts, types, args, kwargs)
                if entry is None:
                    if self.learn_layouts((*args, *kwargs.values())):
                        return self.dispatch(func, types, args, kwargs)
                    entry = self._on_all_paths(facts, types, args, kwargs)
                if entry is not None:
                    results = [result for result, _ in self.build(entry, args)]
                    return results[0] if entry.sequence is None else entry.sequence(results)
                found = None
        out = found
        if out is None:
            with running(self.env, func):
                out = self._run_kernel(facts, types, args, kwargs)
        entry = None
        if (
            all(
                was is not None and self.describe(t) is was
                for was, t in zip(before, written, strict=True)
            )
            and self._symbol_count() == symbols
            and not self._forgets()
        ):
            entry = self._results.of_run(facts, args, kwargs, out)
        if entry is None:
            self.bypasses += 1
        else:
            self.misses += 1
            self.entries[key] = entry
        return out

    def _run_kernel(
        self, facts: OperatorFacts, types: Sequence[type], args: Sequence[Any], kwargs: Any
    ) -> Any:
        """The results of an operator's kernel: symfx's own where torch's is wrong."""
        own = ASKING.get(facts.func)
        if own is not None:
            with self.mode:
                out = own(*args, **kwargs)
            if out is not NotImplemented:
                return out
        return self.mode._dispatch_impl(facts.func, types, args, kwargs)

    def may_try(self) -> bool:
        """Whether a kernel may run on trial: guards are made, and nothing records the questions."""
        env = self.env
        return (
            env is not None
            and not self._on_trial()
            and not env.ledger.suppression.depth
            and not env.ledger.frozen
            and not env.should_record_events
            and env.validator is None
        )

    def learn_layouts(self, values: Iterable[Any]) -> bool:
        """Learn the strides of tensors that were open; whether any were."""
        if self.env is None:
            return False
        learn = self.env.ledger.deferred.learn_about
        learned = False
        for tensor in tensors_in(values):
            found = self.describe(tensor) if type(tensor) is FakeTensor else None
            for stride in () if found is None else found.strides:
                learned = (isinstance(stride, Term) and learn(stride)) or learned
        return learned

    def has_plain_layout(self, tensor: FakeTensor) -> bool:
        """Whether a tensor is surely row-major without gaps, with no dimension of size 1 or 0."""
        found = self.describe(tensor)
        return (
            found is not None
            and is_row_major_or_empty(self._numbers, found)
            and all(size == 1 or self._numbers.several(size) for size in found.sizes)
        )

    def _forgets(self) -> bool:
        """Whether results now depend on answers that leave no guards."""
        return self.env is not None and (self.env.ledger.suppression.depth or self._on_trial())

    def _on_trial(self) -> bool:
        """Whether a kernel runs on trial around this operator."""
        answers = None if self.env is None else self.env.ledger.answers
        return answers is not None and answers.on_trial

    def _on_all_paths(
        self,
        facts: OperatorFacts,
        types: Sequence[type],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Entry | None:
        """The entry of a call whose kernel has open questions; see `both_answers`.

        None where the kernel has to run in the usual way, in which each question is guarded.
        """
        kernel = self._runs(facts, types, args, kwargs)
        outcome = kernel.on_all_paths()
        return None if outcome is None else self._remember(kernel, outcome)

    def _with_open_strides(
        self,
        facts: OperatorFacts,
        types: Sequence[type],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> Entry | None:
        """The entry of a call whose open questions concern the strides of its results alone.

        Strides that depend on an answer are symbols, until a guard needs to know them.
        """
        kernel = self._runs(facts, types, args, kwargs)
        env: Any = self.env
        found = kernel.of_equal_sizes() or results_but_strides(env.facts, kernel.run)
        if found is None or not kernel.has_hints(*found):
            return None
        outcome, places = found
        return self._remember(kernel, kernel.with_open_strides(outcome, places))

    def _runs(self, *call: Any) -> KernelRuns:
        return KernelRuns(call, self._results, self.env, self._run_kernel, self.learn_layouts)

    def _remember(self, kernel: KernelRuns, outcome: Outcome) -> Entry | None:
        # A guard may have taught an equality, so the key is made again.
        key = self.key(kernel.facts, kernel.args, kernel.kwargs)
        if key is None:
            return None
        self.misses += 1
        sequence = kernel.sequence
        answer: Any = outcome[0] if sequence is None else sequence(outcome)
        entry = self._results.of_rule(answer, self._shapes(kernel.args), None)
        self.entries[key] = entry
        return entry

    def _without_values(self, args: Sequence[Any]) -> Sequence[Any]:
        """Arguments whose constants are plain fake tensors, if others are no constants.

        Then the value of a constant (``torch.tensor(2.0)``) says nothing of the result's metadata.
        """
        tensors = [a for a in args if type(a) is FakeTensor and a.fake_mode is self.mode]
        if all(t.constant is None for t in tensors) or all(t.constant is not None for t in tensors):
            return args
        return tuple(
            self._results.copies((a,))[0] if type(a) is FakeTensor and a.constant is not None else a
            for a in args
        )

    def _fakes(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Arguments with fake tensors in place of the real ones."""
        return tuple(
            self._descriptions.fake_of(v)
            if isinstance(v, torch.Tensor)
            else type(v)(self._fakes(v))
            if type(v) in _SEQUENCES
            else v
            for v in values
        )

    def _symbol_count(self) -> int:
        """The number of symbols, which grows when an operator makes one."""
        return 0 if self.env is None else len(self.env.symbols.records)


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
    return list(tensors_in(written))


def adopt(mode: FakeTensorMode, env: Any) -> None:
    """Let a mode dispatch through a cache of symfx's from now on.

    Args:
        mode: the mode; one that computes with real tensors on the side is left alone.
        env: its environment.
    """
    if "_cached_dispatch_impl" in mode.__dict__ or mode.propagate_real_tensors:
        return
    OperationCache(mode, env).install_for_good()


def cache_of(mode: FakeTensorMode | None) -> OperationCache | None:
    """The cache that a mode dispatches through now; None for a mode without one of symfx."""
    if mode is None:
        return None
    cache = getattr(mode.__dict__.get("_cached_dispatch_impl"), "__self__", None)
    return cache if type(cache) is OperationCache else None
