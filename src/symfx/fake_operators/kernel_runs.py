"""The runs of one operator's kernel under other answers to its questions.

`symfx.fake_operators.both_answers` compares the results. Where only the strides of new tensors
depend on an answer, they become symbols, and no guard is made until a question depends on one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from symfx.algebra import Term
from symfx.fake_operators.both_answers import (
    ERRORS,
    AbandonedError,
    Answers,
    Outcome,
    Place,
    answering,
    results_on_all_paths,
)
from symfx.fake_operators.operators import OperatorFacts, running
from symfx.fake_operators.results import Results, as_rule_results, tensors_in
from symfx.fake_operators.rules import New
from symfx.torch_bridge.modes import without_proxy_mode

__all__ = ["KernelRuns"]

_aten = torch.ops.aten
# Operators whose results have the sizes of their one argument, and its order of dimensions.
_COPY_LAYOUT = frozenset(
    {
        _aten.clone.default, _aten._to_copy.default, _aten.empty_like.default,
        _aten.zeros_like.default, _aten.ones_like.default, _aten.full_like.default,
        _aten.rand_like.default, _aten.randn_like.default, _aten.flip.default,
        _aten.nan_to_num.default, _aten.cumsum.default, _aten.cumprod.default,
    }
)  # fmt: skip


class KernelRuns:
    """The runs of an operator's kernel for one call.

    Args:
        call: the operator, the types, and the positional and keyword arguments.
        results: copies arguments and describes results.
        env: the environment.
        run_kernel: runs the kernel: ``run_kernel(facts, types, args, kwargs)``.
        learn_layouts: learns what strides of arguments equal.

    Attributes:
        facts, args, kwargs: the operator and its arguments.
        sequence: ``list`` or ``tuple`` where the operator returned several results, else None.
    """

    def __init__(
        self,
        call: tuple[Any, ...],
        results: Results,
        env: Any,
        run_kernel: Callable[..., Any],
        learn_layouts: Callable[[Iterable[Any]], bool],
    ) -> None:
        self.facts: OperatorFacts
        self._types: Sequence[type]
        self.args: tuple[Any, ...]
        self.kwargs: Mapping[str, Any]
        self.facts, self._types, self.args, self.kwargs = call
        self.sequence: Any = None
        self._results = results
        self._env = env
        self._run_kernel = run_kernel
        self._learn_layouts = learn_layouts

    def run(self, answers: Answers) -> Outcome | None:
        """The description of the results under some answers; None where the kernel raises."""
        env = self._env
        symbols = len(env.symbols.records)
        given, named = self._copies(bool(self.facts.mutated or self.facts.mutated_names))
        try:
            with answering(env.ledger, answers), running(env, self.facts.func):
                out = self._run_kernel(self.facts, self._types, given, named)
        except ERRORS:
            return None
        if len(env.symbols.records) != symbols:
            raise AbandonedError
        return self._described(given, named, out)

    def _copies(self, writes: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies of the arguments, with memory of their own if the operator writes to them."""
        named = self._results.copies(self.kwargs.values(), writes)
        given = self._results.copies(self.args, own_storage=writes)
        return given, dict(zip(self.kwargs, named, strict=True))

    def _described(self, given: Any, named: Any, out: Any) -> Outcome:
        entry = self._results.of_run(self.facts, given, named, out)
        outcome = None if entry is None else as_rule_results(entry)
        if entry is None or outcome is None:
            raise AbandonedError
        self.sequence = entry.sequence
        return outcome

    def on_all_paths(self) -> Outcome | None:
        """The description that is right under all answers, after guards on what it depends on."""

        def guard(question: Term) -> None:
            with running(self._env, self.facts.func):
                self._env.evaluate_term(question)

        return results_on_all_paths(self._env.facts, self.run, guard)

    def _guarded_strides(self) -> list[Sequence[Any]]:
        """The strides of the results, after guards on what they depend on."""
        outcome = self.on_all_paths()
        if outcome is not None:
            return [r.strides if isinstance(r, New) else () for r in outcome]
        # The kernel cannot run under other answers: each of its questions is guarded.
        given, named = self._copies(False)
        with running(self._env, self.facts.func):
            out = self._run_kernel(self.facts, self._types, given, named)
        return [t.stride() for t in (out if isinstance(out, (list, tuple)) else (out,))]

    def of_equal_sizes(self) -> tuple[Outcome, set[Place]] | None:
        """The results at tracing, and all their strides, for a kernel that asks for nothing else.

        An elementwise kernel of tensors of equal sizes asks for the order of their strides alone;
        so does one that copies the layout of its argument. None for other kernels and arguments.
        """
        tensors = [t for t in tensors_in((*self.args, *self.kwargs.values())) if t.dim()]
        if not tensors or not (self.facts.elementwise or self.facts.func in _COPY_LAYOUT):
            return None
        read = self._env.read
        sizes = [tuple(n if isinstance(n, int) else read(n) for n in t.shape) for t in tensors]
        if any(size != sizes[0] for size in sizes):
            return None
        try:
            outcome = self.run(Answers(self._env.facts))
        except AbandonedError:
            return None
        rank = len(sizes[0])
        if outcome is None or not all(isinstance(r, New) and len(r.sizes) == rank for r in outcome):
            return None
        # With the answers at tracing, a kernel may write 1 for a size that has one element there.
        described = tuple(replace(r, sizes=sizes[0]) for r in outcome if isinstance(r, New))
        return described, {(k, d) for k in range(len(described)) for d in range(rank)}

    def has_hints(self, outcome: Outcome, places: Collection[Place]) -> bool:
        """Whether some strides of the results have values at tracing."""
        return all(self._hint(outcome, place) is not None for place in places)

    def _hint(self, outcome: Outcome, place: Place) -> Any:
        stride = outcome[place[0]].strides[place[1]]  # type: ignore[union-attr]
        return stride if isinstance(stride, int) else self._env.hint_of(stride)

    def with_open_strides(self, outcome: Outcome, places: Collection[Place]) -> Outcome:
        """A description of the results in which some strides are symbols.

        The kernel must not write to its arguments.

        Args:
            outcome: the description at tracing.
            places: the result and the dimension of each of these strides.
        """
        env = self._env
        deferred = env.ledger.deferred
        symbols = {place: deferred.new_number(self._hint(outcome, place)) for place in places}
        # The program may change the tensors of the call in place.
        call = (self.facts, self._types, *self._copies(False))
        kept = KernelRuns(call, self._results, env, self._run_kernel, self._learn_layouts)

        def equate(strides: Sequence[Sequence[Any]]) -> None:
            for (k, d), symbol in symbols.items():
                deferred.equate(symbol, env.read(strides[k][d]))

        def learn() -> None:
            with answering(env.ledger, None), without_proxy_mode():
                self._learn_layouts((*kept.args, *kept.kwargs.values()))
                strides = kept._guarded_strides()
            equate(strides)

        traced = [r.strides if isinstance(r, New) else () for r in outcome]

        for symbol in symbols.values():
            deferred.add(symbol, learn, at_end=partial(equate, traced), in_graph=False)
        return tuple(
            replace(
                result,
                strides=tuple(symbols.get((k, d), s) for d, s in enumerate(result.strides)),
            )
            if isinstance(result, New)
            else result
            for k, result in enumerate(outcome)
        )
