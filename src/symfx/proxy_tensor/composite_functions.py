"""torch functions that ask for the layout of their arguments before they call operators.

``reshape`` is a view where the layout of its argument allows one, else a copy. In C++, functions
such as ``matmul`` and ``einsum`` call it. Where the layout allows a view at some shapes alone,
torch asks (``n != 1``), and a guard would refuse these shapes. A copy is right at all of them, as
long as nothing writes to the argument or to the result. So such a function runs on trial first.
If the sizes and strides of its results are the same for all answers, then it is recorded as in the
general case, without guards. The questions are kept. They are guarded before an operator writes to
one of the tensors, and before the program asks where in its memory a tensor begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor

from symfx.algebra import Term
from symfx.errors import TracingError
from symfx.fake_operators.both_answers import (
    ERRORS,
    AbandonedError,
    Answers,
    General,
    OpenQuestionError,
    Outcome,
    answering,
    results_on_all_paths,
    watching,
)
from symfx.fake_operators.cache import OperationCache
from symfx.fake_operators.rules import New
from symfx.proxy_tensor import slots
from symfx.torch_bridge.fake_tensors import reset_layout_answers, storage_id
from symfx.torch_bridge.modes import without_proxy_mode

if TYPE_CHECKING:
    from symfx.proxy_tensor.slots import TracerWithSlots

__all__ = ["COMPOSITES", "CompositeFunctions"]

_Tensor = torch.Tensor
# Functions that return a view of their argument or a copy.
_COPIES = frozenset(
    {
        _Tensor.reshape, torch.reshape, _Tensor.reshape_as, _Tensor.flatten, torch.flatten,
        _Tensor.ravel, torch.ravel, _Tensor.contiguous,
    }
)  # fmt: skip
# Every way to compute these functions gives the same values: torch asks for sizes and strides only
# to choose the fastest. Others ask what to compute (`interpolate` to one pixel).
_ONE_RESULT = _COPIES | frozenset(
    {
        _Tensor.matmul, torch.matmul, _Tensor.__matmul__, torch.einsum, torch.bmm,
        torch.outer, _Tensor.outer, torch.tensordot, torch.bilinear,
        torch.nn.functional.linear, torch.conv1d, torch.layer_norm,
        torch.nn.functional.layer_norm, torch.nn.functional.pixel_shuffle,
        torch.nn.functional.pixel_unshuffle, torch.nn.functional.adaptive_avg_pool2d,
        torch.nn.functional.adaptive_avg_pool3d,
    }
)  # fmt: skip
# Functions whose results never share memory with their arguments.
_NEW = frozenset(
    {
        torch.nn.functional.linear, torch.conv1d, torch.layer_norm,
        torch.nn.functional.layer_norm, torch.group_norm, torch.nn.functional.group_norm,
        torch.instance_norm, torch.nn.functional.instance_norm, torch.cdist, torch.bmm,
        torch.outer, _Tensor.outer, torch.nn.functional.scaled_dot_product_attention,
    }
)  # fmt: skip
# Functions that ask for more than the layout of their argument.
_ASK_OF_RESULTS = frozenset(
    {
        torch.nn.functional.interpolate, torch.nn.functional.adaptive_avg_pool2d,
        torch.nn.functional.adaptive_avg_pool3d,
    }
)  # fmt: skip
COMPOSITES = _ONE_RESULT | frozenset(
    {
        torch.group_norm, torch.nn.functional.group_norm, torch.nn.functional.interpolate,
        _Tensor.repeat_interleave, torch.repeat_interleave,
        torch.nn.functional.scaled_dot_product_attention, torch.instance_norm,
        torch.nn.functional.instance_norm, torch.cdist, torch.nn.functional.max_pool1d,
    }
)  # fmt: skip
"""The functions that run on trial where the layout of an argument is open."""


class CompositeFunctions:
    """The calls of such functions in one trace.

    Args:
        tracer: the tracer.
    """

    def __init__(self, tracer: TracerWithSlots) -> None:
        self._tracer = tracer
        # The way to answer a call's questions, for each function and description of arguments.
        self._known: dict[Any, Callable[[], General] | None] = {}
        # Tensors that may share memory at other shapes, and the questions that exclude these.
        self._may_alias: list[tuple[tuple[torch.UntypedStorage, ...], list[Term]]] = []
        # The questions of the call that made a tensor, by the node of the tensor.
        self._made: dict[fx.Node, list[Term]] = {}
        self._reshaped: set[fx.Node] = set()

    def call(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        """The result of a function of `COMPOSITES`; NotImplemented where it may run as it is."""
        a = args[0] if args else None
        env = None if self._tracer.cache is None else self._tracer.cache.env
        if func not in _COPIES or env is None or type(a) is not FakeTensor or _has_hints(a):
            return self._call(func, args, kwargs)
        # Whether the result is a view depends on data: torch takes it for the general case.
        with env.ledger.collecting_assumptions() as assumed:
            result = self._call(func, args, kwargs)
            if result is NotImplemented:
                result = func(*args, **kwargs)
        if assumed and isinstance(result, torch.Tensor) and not _same_memory(a, result):
            elements: Any = result.numel()
            if isinstance(elements, torch.SymInt):  # memory without elements is not shared
                assumed = [each | elements.node.term.eq(0) for each in assumed]
            self._may_alias.append(((a.untyped_storage(), result.untyped_storage()), assumed))
        return result

    def decided(self) -> None:
        """Take note that the function that runs now has chosen its first operator."""
        cache = self._tracer.cache
        if cache is not None and cache.env is not None:
            cache.env.ledger.assumed = None

    def _call(self, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]) -> Any:
        cache = self._tracer.cache
        if cache is None or not cache.may_try():
            return NotImplemented
        tensors = [a for a in (*args, *kwargs.values()) if type(a) is FakeTensor]
        if func not in _ASK_OF_RESULTS and all(map(cache.has_plain_layout, tensors)):
            return NotImplemented
        env: Any = cache.env
        way = self._way(cache, func, args, kwargs)
        if way is None:
            return NotImplemented
        general = way()
        untouched = cache.copies(tensors)
        with answering(env.ledger, general):
            result = func(*args, **kwargs)
        if not general.log:
            return result
        if type(result) is FakeTensor:
            tensors.append(result)
            untouched += cache.copies([result])
        for tensor, copy in zip(tensors, untouched, strict=True):
            reset_layout_answers(tensor, copy)
        if isinstance(result, torch.Tensor) and not general.one_way:
            if func not in _NEW:
                storages = tuple(t.untyped_storage() for t in tensors)
                self._may_alias.append((storages, general.log))
            found = slots.node_of_tensor(result, self._tracer)
            if found is not None:
                self._made[found[0]] = general.log
                if func in _COPIES:
                    self._reshaped.add(found[0])
        return result

    def settle_aliases(self, tensors: Iterable[torch.Tensor]) -> None:
        """Guard on the questions that show whether tensors share memory with others, or assert.

        To call before an operator writes to the tensors, or depends on where they begin.
        """
        if not self._may_alias:
            return
        env: Any = self._tracer.cache.env  # type: ignore[union-attr]
        asked = {storage_id(t) for t in tensors if isinstance(t, FakeTensor)}
        for storages, questions in self._may_alias:
            if asked & {storage._cdata for storage in storages}:
                for question in questions:
                    if env.hint_of(question) is not None:
                        env.evaluate_term(question)
                    elif not env.ledger.expect(question, "whether two tensors share memory"):
                        raise TracingError(
                            f"the program may write to two tensors that share memory unless "
                            f"{question}, which does not hold",
                            fix="copy the tensor with clone() before reshape() or contiguous()",
                        )
                questions.clear()

    def may_differ(self, node: fx.Node) -> bool:
        """Whether open questions show which operators make a tensor in eager mode."""
        return bool(self._made.get(node))

    def is_reshaped(self, node: fx.Node) -> bool:
        """Whether the function that made a node returns a view where it can, else a copy."""
        return node in self._reshaped

    def settle_operators(self, node: fx.Node) -> None:
        """Guard on the questions that show which operators make a tensor in eager mode.

        To call before the program depends on a choice of theirs.

        Args:
            node: the node of the tensor.
        """
        env: Any = self._tracer.cache.env  # type: ignore[union-attr]
        questions = self._made.get(node, [])
        for question in questions:
            env.evaluate_term(question)
        questions.clear()

    def _way(
        self,
        cache: OperationCache,
        func: Callable[..., Any],
        args: Any,
        kwargs: Mapping[str, Any],
    ) -> Callable[[], General] | None:
        """The way to answer a call's questions about layouts; None where they must be guarded."""
        parts: list[Any] = [func, torch.is_grad_enabled()]
        if not cache.scan((*args, *kwargs), parts) or not cache.scan(kwargs.values(), parts):
            return None
        key = tuple(parts)
        if key not in self._known:
            env: Any = cache.env
            with env.ledger.collecting_assumptions():  # those of a trial count for nothing
                self._known[key] = self._try(cache, func, args, kwargs)
        return self._known[key]

    @staticmethod
    def _try(
        cache: OperationCache, func: Callable[..., Any], args: Any, kwargs: Mapping[str, Any]
    ) -> Callable[[], General] | None:
        env: Any = cache.env
        symbols = len(env.symbols.records)
        pending = len(env.pending_fresh_unbacked_symbols)
        outcomes: list[Outcome] = []
        memory: set[int | None] = set()  # the argument whose memory the result has, in each run

        def run(answers: Answers | None) -> Outcome | None:
            given = cache.copies(args)
            named = dict(zip(kwargs, cache.copies(kwargs.values()), strict=True))
            if answers is None:
                with watching(env.ledger):
                    func(*given, **named)
                return ()
            try:
                with answering(env.ledger, answers):
                    out = func(*given, **named)
            except ERRORS:
                return None
            found = None if type(out) is not FakeTensor else cache.describe(out)
            if found is None or len(env.symbols.records) != symbols:
                raise AbandonedError
            shared = [i for i, a in enumerate(given) if _same_memory(a, out)]
            memory.add(shared[0] if shared else None)
            outcomes.append((New(found.dtype, found.sizes, found.strides, found.device),))
            return outcomes[-1]

        def guard(question: Term) -> None:
            env.evaluate_term(question)
            outcomes.clear()  # the runs begin anew
            memory.clear()

        with without_proxy_mode():
            try:
                run(None)
            except OpenQuestionError:
                if cache.learn_layouts((*args, *kwargs.values())):
                    return CompositeFunctions._try(cache, func, args, kwargs)
                outcome = results_on_all_paths(env.facts, run, guard)
                if outcome is None:
                    return None
                # The operators that follow from the answers at tracing make the right layout if
                # that of the first run, which has these answers, is right on all paths.
                right = outcome == outcomes[0]
                as_traced = right and func in _ONE_RESULT
                one_way = as_traced and func in _COPIES and len(memory) == 1
                return partial(General, env, all_as_traced=as_traced, one_way=one_way)
            except ERRORS:  # the call itself will raise it
                return None
            finally:
                # Sizes that are data are made anew by the call itself.
                del env.pending_fresh_unbacked_symbols[pending:]
        return None


def _has_hints(a: torch.Tensor) -> bool:
    """Whether no size or stride of a tensor depends on data."""
    return all(
        not isinstance(n, torch.SymInt) or n.node.has_hint() for n in (*a.shape, *a.stride())
    )


def _same_memory(a: Any, b: torch.Tensor) -> bool:
    return isinstance(a, torch.Tensor) and storage_id(a) == storage_id(b)
