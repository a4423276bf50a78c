"""Questions of the traced program for strides and storage offsets.

The layout of a fake tensor is that of the real tensor if each dimension has two elements or more.
The stride of a dimension of size 1 means nothing: kernels, and callers that pass inputs, choose any
number. The same holds for the strides and the offset of a tensor without elements. Where the size
may be 1 at another shape and `exact_strides` does not know what the kernel chooses, a guard
excludes that shape. Where the size is 1, the graph asks the tensor itself when it runs, and the
answer is an unbacked symbol.

A view lies in memory as its base says. The layout of any other tensor is the choice of a kernel.
Some of torch's fake kernels name another layout than the real kernel chooses, so the graph asserts
the answer that the program got.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils import _pytree as pytree

from symfx.errors import TracingError
from symfx.proxy_tensor import slots
from symfx.proxy_tensor.exact_strides import Exact, ExactStrides, needs_nothing
from symfx.sym_node import (
    is_channels_last_contiguous_2d,
    is_channels_last_contiguous_3d,
    is_contiguous,
)
from symfx.symbolic_shapes import statically_known_true
from symfx.user_code import asked_by_program

if TYPE_CHECKING:
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["LAYOUT_QUESTIONS", "LayoutQuestions"]

_aten = torch.ops.aten
_STRIDE = frozenset(
    {
        torch.Tensor.stride,
        _aten.stride.default,
        _aten.stride.int,
        _aten.sym_stride.default,
        _aten.sym_stride.int,
    }
)
_OFFSET = frozenset({torch.Tensor.storage_offset, _aten.sym_storage_offset.default})
# torch and symfx call these, too, and do not depend on strides that mean nothing.
_IS_CONTIGUOUS = torch.Tensor.is_contiguous
_METHODS = frozenset({torch.Tensor.stride, torch.Tensor.storage_offset, _IS_CONTIGUOUS})
_CHANNELS_LAST = (torch.channels_last, torch.channels_last_3d)
_PACKED = {
    (torch.channels_last, 4): is_channels_last_contiguous_2d,
    (torch.channels_last_3d, 5): is_channels_last_contiguous_3d,
}
LAYOUT_QUESTIONS = _STRIDE | _OFFSET | {_IS_CONTIGUOUS}
"""The functions that return strides and storage offsets, or test a memory format."""


class LayoutQuestions:
    """The answers to a traced program's questions for the layouts of its tensors.

    Args:
        tracer: the tracer of the program.
    """

    def __init__(self, tracer: PythonKeyTracer) -> None:
        self._tracer = tracer
        # A tensor that an operator writes to gets the operator's node, so each node has one layout.
        self._asked: dict[tuple[fx.Node, int | None], torch.SymInt] = {}
        # The last nodes of functions that the graph computes by other operators than eager mode.
        self._otherwise: dict[fx.Node, str] = {}
        self._exact = ExactStrides(tracer, self._may_differ)

    def computed_otherwise(self, result: Any, function: Any) -> None:
        """Note that the graph computes a function by other operators than eager mode does.

        Args:
            result: the results of the function.
            function: the function.
        """
        for tensor in pytree.tree_leaves(result):
            found = type(tensor) is FakeTensor and slots.node_of_tensor(tensor, self._tracer)
            if found:
                name = getattr(function, "__name__", str(function))
                self._otherwise[found[0]] = name

    def answer(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        """The result of a function of `LAYOUT_QUESTIONS`; NotImplemented if torch answers it.

        Args:
            func: the function.
            args: its positional arguments.
            kwargs: its keyword arguments.
        """
        cache = self._tracer.cache
        tensor = args[0] if args else None
        if (func in _METHODS and not asked_by_program(sys._getframe(1))) or (
            cache is None
            or cache.env is None
            or cache.mode.static_shapes
            or type(tensor) is not FakeTensor
            or tensor.layout is not torch.strided
        ):
            return NotImplemented
        found = slots.node_of_tensor(tensor, self._tracer)
        if found is None:
            return NotImplemented
        node = found[0]
        if func is _IS_CONTIGUOUS:
            asked = args[1] if len(args) > 1 else kwargs.get("memory_format")
            # torch looks at the strides even where the tensor has no elements.
            if (
                asked in _CHANNELS_LAST
                and tensor.dim() == _CHANNELS_LAST.index(asked) + 4
                and not _has_elements(tensor)
            ):
                for size in tensor.shape:
                    if not isinstance(size, int) and not size.node.has_hint():
                        torch._check(size >= 1)
                if not _has_elements(tensor):
                    return self._is_channels_last(tensor, node)
            steps: tuple[Any, ...] = tensor.stride()
            if self._exact.follow_idle_strides(node):
                steps = tuple(
                    # The stride of a dimension of size 1 takes no part in the answer.
                    step if type(size) is int and size == 1 else self._stride(tensor, node, d)
                    for d, (size, step) in enumerate(zip(tensor.shape, steps, strict=True))
                )
            return _is_packed(tensor.shape, steps, asked)
        if func in _OFFSET:
            cache.env.inputs.offsets_asked = True
            self._tracer.composites.settle_aliases([tensor])
            had = all(_had(size, 1) for size in tensor.shape)
            exact = self._exact.offset(node)
            full = all(statically_known_true(size >= 1) for size in tensor.shape)
            if full or (had and needs_nothing(exact)):
                return self._checked(node, None, tensor.storage_offset())
            if had and not self._comes_from_others(node):
                return self._answer_later(tensor, node, None)
            if (had and self._is_exact(exact)) or _has_elements(tensor):
                return self._checked(node, None, tensor.storage_offset())
            return self._ask(node, None)
        rank = tensor.dim()
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim is None:
            strides = (self._stride(tensor, node, d) for d in range(rank))
            return tuple(strides) if func in _METHODS else list(strides)
        if type(dim) is not int or not -rank <= dim < rank:
            return NotImplemented
        return self._stride(tensor, node, dim % rank)

    def _is_channels_last(self, tensor: torch.Tensor, node: fx.Node) -> bool:
        """Whether the real strides of a tensor without elements follow the order NHWC or NDHWC."""
        expected: Any = 1
        for dim in (1, *range(tensor.dim() - 1, 1, -1), 0):
            size = tensor.shape[dim]
            if size == 1:
                continue
            if self._ask(node, dim) != expected:
                return False
            expected = expected * size
        return True

    def _stride(self, tensor: torch.Tensor, node: fx.Node, dim: int) -> Any:
        size = tensor.shape[dim]
        known = (
            not self._is_open(tensor.stride(dim))
            and statically_known_true(size >= 2)
            and all(statically_known_true(n >= 1) for n in tensor.shape)
            and not self._exact.follow_idle_strides(node)
        )
        exact = self._exact.stride(node, dim) if _had(size, 2) else None
        if known or (needs_nothing(exact) and not self._is_open(tensor.stride(dim))):
            return self._checked(node, dim, tensor.stride(dim))
        had = _had(size, 2) and all(_had(n, 1) for n in tensor.shape)
        if had and not self._comes_from_others(node):
            return self._answer_later(tensor, node, dim)
        if self._is_exact(exact) or (_surely(size, 2) and _has_elements(tensor)):
            return self._checked(node, dim, tensor.stride(dim))
        self._refuse_others_choice(node, dim)
        return self._ask(node, dim)

    def _is_open(self, number: Any) -> bool:
        """Whether it is not known yet what a stride equals."""
        env: Any = self._tracer.cache.env  # type: ignore[union-attr]
        return isinstance(number, torch.SymInt) and env.ledger.deferred.waits(env.read(number))

    def _answer_later(self, tensor: torch.Tensor, node: fx.Node, dim: int | None) -> Any:
        """A number that the graph asks the tensor for; a stride or offset known at tracing.

        The number equals the stride or offset of the fake tensor at sizes where that means
        something. Guards exclude the other sizes only if the program depends on the number.
        """
        if (node, dim) in self._asked:
            return self._asked[node, dim]
        answer = tensor.storage_offset() if dim is None else tensor.stride(dim)
        sizes = tensor.shape

        def make_sure() -> None:
            """Exclude the sizes at which the answer means nothing, if it is not exact there."""
            exact = self._exact.offset(node) if dim is None else self._exact.stride(node, dim)
            if not self._is_exact(exact):
                if dim is not None:
                    _surely(sizes[dim], 2)
                for size in sizes:
                    _surely(size, 1)

        if isinstance(answer, torch.SymInt) and not answer.node.has_hint():
            make_sure()
            return self._checked(node, dim, answer)
        asked = self._ask(node, dim)
        env: Any = self._tracer.cache.env  # type: ignore[union-attr]
        symbol = asked.node.term
        checked = not _is_view_of_input(node)

        def learn() -> None:
            env.knowledge.set_hint(symbol, None)
            make_sure()
            if checked:
                torch._check(asked == answer)  # type: ignore[no-untyped-call]
                self._tracer.record_assertions()
            else:
                env.knowledge.equate(symbol, env.read(answer))

        def forget() -> None:
            env.knowledge.set_hint(symbol, None)
            for term, number in env.nodes.items():
                if symbol in term.free_symbols:
                    number._hint = None

        hint = answer if isinstance(answer, int) else answer.node.hint
        env.knowledge.set_hint(symbol, hint)
        env.ledger.deferred.add(symbol, learn, at_end=forget)
        return asked

    def _is_exact(self, needed: Exact | None) -> bool:
        """Whether an answer of a fake tensor holds at every size, also where it means nothing."""
        if needed is None or not all(_has_elements(node.meta["val"]) for node in needed.full):
            return False
        env: Any = self._tracer.cache.env  # type: ignore[union-attr]
        facts, sources = env.inputs.facts, self._tracer.sources
        asked = [f"{sources[node]}.stride()[{dim}]" for node, dim in needed.inputs]
        if not all(source in facts for source in asked):
            return False
        for source in asked:
            facts[source] = facts[source]._replace(asked=True)
        return True

    def _may_differ(self, node: fx.Node) -> bool:
        """Whether eager mode may make the tensor of a node by other operators than the graph."""
        return node in self._otherwise or self._tracer.composites.may_differ(node)

    def _comes_from_others(self, node: fx.Node) -> bool:
        """Whether other operators than in eager mode may have made a tensor, or an ancestor."""
        waiting, seen = [node], {node}
        while waiting:
            top = waiting.pop()
            if self._may_differ(top):
                return True
            new = [source for source in top.all_input_nodes if source not in seen]
            seen.update(new)
            waiting += new
        return False

    def _refuse_others_choice(self, node: fx.Node, dim: int) -> None:
        """Refuse the stride of a dimension of size 1 that other operators chose than in eager mode.

        Operators hand such strides on from their arguments.
        """
        waiting, seen = [node], {node}
        while waiting:
            top = waiting.pop()
            self._tracer.composites.settle_operators(top)
            name = self._otherwise.get(top)
            if name is not None:
                raise TracingError(
                    f"the program asks for the stride of dimension {dim}, of size 1, of a tensor "
                    f"that comes from {name}: kernels choose such a stride as they like, and the "
                    f"graph computes {name} by other kernels than eager mode",
                    fix="do not use the stride where the size is 1: it means nothing",
                )
            for source in top.all_input_nodes:
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)

    def _checked(self, node: fx.Node, dim: int | None, answer: Any) -> Any:
        """The answer of a fake tensor; the graph asserts it where a kernel chose the layout."""
        if (node, dim) not in self._asked and not _is_view_of_input(node):
            torch._check(self._ask(node, dim) == answer)  # type: ignore[no-untyped-call]
        return answer

    def _ask(self, node: fx.Node, dim: int | None) -> torch.SymInt:
        """Record a question for a tensor's stride or offset; return the symbol of the answer."""
        known = self._asked.get((node, dim))
        if known is not None:
            return known
        tracer: Any = self._tracer
        env = tracer.cache.env
        function = _aten.sym_storage_offset.default if dim is None else _aten.sym_stride.int
        args = (node,) if dim is None else (node, dim)
        asked = tracer.create_node("call_function", function, args, {})
        answer: torch.SymInt = env.create_unbacked_symint()
        # This holds for every tensor, so the graph need not assert it.
        tracer.record_assertions()
        torch._check(answer >= 0)  # type: ignore[no-untyped-call]
        tracer.leave_assertions_to_operator()
        slots.track_tensor_tree(answer, fx.Proxy(asked, tracer), constant=None, tracer=tracer)
        self._asked[node, dim] = answer
        return answer


def _is_packed(sizes: torch.Size, strides: tuple[Any, ...], memory_format: Any) -> Any:
    """Whether a tensor has a memory format; NotImplemented if torch may answer.

    torch compares dimension by dimension, and would guard on each. This is one condition.
    """
    rule = _PACKED.get((memory_format, len(sizes)))
    if memory_format in (None, torch.contiguous_format):
        rule = is_contiguous
    numbers = [n for n in (*sizes, *strides) if isinstance(n, torch.SymInt)]
    if rule is None or not numbers or not all(n.node.has_hint() for n in numbers):
        return NotImplemented
    return bool(rule(sizes, strides))


def _is_view_of_input(node: fx.Node) -> bool:
    """Whether a node is an input, a constant, or a view of one."""
    while isinstance(node.target, OpOverload) and node.target.is_view:
        node = node.args[0]  # type: ignore[assignment]
    return node.op in ("placeholder", "get_attr")


def _has_elements(tensor: torch.Tensor) -> bool:
    """Whether no dimension of a tensor is empty; a guard excludes shapes where one is."""
    return all(_surely(size, 1) for size in tensor.shape)


def _surely(size: Any, least: int) -> bool:
    """Whether a size is at least `least`; a guard excludes shapes where it is less."""
    if isinstance(size, int):
        return size >= least
    if statically_known_true(size >= least):
        return True
    return _had(size, least) and bool(size >= least)


def _had(size: Any, least: int) -> bool:
    """Whether a size was at least `least` at tracing."""
    if isinstance(size, int):
        return size >= least
    return bool(size.node.has_hint() and size.node.hint >= least)
