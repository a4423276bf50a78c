"""Strides and offsets of fake tensors that are those of the real tensors at every size.

The stride of a dimension of size 1 means nothing, and each kernel chooses it. But many choices are
known: ``select`` and ``transpose`` hand on the strides of their argument, ``sum`` and ``bmm`` make
row-major tensors whatever their arguments are. A stride on such a way needs no guard that the size
is not 1. If the way begins at an input, its check compares the stride of the input at size 1 too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from symfx.symbolic_shapes import statically_known_true

if TYPE_CHECKING:
    from symfx.proxy_tensor.tracer import PythonKeyTracer

__all__ = ["Exact", "ExactStrides", "needs_nothing"]


class Exact(NamedTuple):
    """What a stride or an offset needs to be exact.

    Attributes:
        inputs: the placeholders and dimensions whose strides must be those of the trace, also
            where the size is 1.
        full: the nodes whose tensors must have elements.
    """

    inputs: frozenset[tuple[fx.Node, int]] = frozenset()
    full: frozenset[fx.Node] = frozenset()

    def __or__(self, other: Exact) -> Exact:
        """What both need."""
        return Exact(self.inputs | other.inputs, self.full | other.full)


def needs_nothing(exact: Exact | None) -> bool:
    """Whether a stride or an offset is exact whatever the inputs are."""
    return (
        exact is not None
        and all(
            statically_known_true(node.meta["val"].shape[dim] >= 2) for node, dim in exact.inputs
        )
        and all(
            statically_known_true(n >= 1)
            for node in (*exact.full, *(node for node, _ in exact.inputs))
            for n in node.meta["val"].shape
        )
    )


_Strides: TypeAlias = "list[Exact | None]"
_NOTHING = Exact()

_ELEMENTWISE = torch.Tag.pointwise
# Kernels whose results are row-major, whatever the layout of their arguments.
_ROW_MAJOR = frozenset(
    {
        "_log_softmax", "_softmax", "addmm", "all.dim", "all.dims", "amax", "amin", "any.dim",
        "any.dims", "arange", "argmax", "argmin", "bmm", "count_nonzero.dim_IntList", "cummax",
        "cummin", "cumprod", "cumsum", "embedding", "empty.memory_format", "eye", "full",
        "gather", "index_select", "kthvalue", "linalg_vector_norm", "linspace",
        "logcumsumexp", "logsumexp", "mean.dim", "median.dim", "mm", "mode",
        "native_layer_norm", "new_empty", "new_full", "new_ones", "new_zeros", "ones",
        "prod.dim_int", "rand", "randn", "repeat", "scatter.reduce", "scatter.src",
        "scatter.value", "std.correction", "sum.dim_IntList", "topk", "tril", "triu",
        "var.correction", "zeros",
    }
)  # fmt: skip
# Kernels whose results are row-major if each of their tensors is, exactly. So are elementwise
# kernels that broadcast no tensor but those of rank 0.
_KEEP_ROW_MAJOR = frozenset(
    {
        "_to_copy", "argsort", "clone", "empty_like", "flip", "full_like",
        "index_fill.int_Scalar", "nan_to_num", "ones_like", "rand_like", "randn_like", "sort",
        "sort.stable", "stack", "zeros_like",
    }
)  # fmt: skip
# Those among them that choose a memory format by all strides, also those of size 1.
_IN_A_FORMAT = frozenset(
    {
        "_adaptive_avg_pool2d", "_native_batch_norm_legit", "_native_batch_norm_legit.no_stats",
        "_native_batch_norm_legit_no_training", "adaptive_max_pool2d", "avg_pool2d", "cat",
        "constant_pad_nd", "convolution", "max_pool2d_with_indices", "native_batch_norm",
        "native_group_norm", "pixel_shuffle", "pixel_unshuffle", "reflection_pad2d",
        "replication_pad2d", "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d",
    }
)  # fmt: skip
# Operators that are told the strides of their results.
_TOLD = frozenset({"as_strided", "empty_strided", "new_empty_strided"})


class ExactStrides:
    """The strides and offsets in one graph that are exact.

    Args:
        tracer: the tracer of the graph.
        may_differ: whether eager mode may make the tensor of a node by other operators.
    """

    def __init__(self, tracer: PythonKeyTracer, may_differ: Callable[[fx.Node], bool]) -> None:
        self._tracer = tracer
        self._may_differ = may_differ
        self._strides: dict[fx.Node, _Strides | None] = {}
        self._follows: dict[fx.Node, bool] = {}

    def stride(self, node: fx.Node, dim: int) -> Exact | None:
        """What the stride of a dimension needs to be exact; None if nothing makes it so."""
        strides = self._of(node)
        return None if strides is None else strides[dim]

    def offset(self, node: fx.Node) -> Exact | None:
        """What the storage offset needs to be exact; None if nothing makes it so."""
        needed = _NOTHING
        while True:
            if self._may_differ(node) or not isinstance(node.meta.get("val"), FakeTensor):
                return None
            name = _name(node)
            if node.op == "get_attr" or node in self._tracer.sources:
                return needed
            if _makes(node) or (name == "as_strided" and len(node.args) > 3):
                return needed
            if name not in _MOVES and not _writes(node):
                return None
            source = _source(node)
            if name in _STEPS:
                before = self._of(source)
                # A split names the sizes of the parts before the dimension.
                at = 2 if name in ("split.Tensor", "split_with_sizes") else 1
                dim = _dim(_step(node), source.meta["val"], at)
                moved = None if before is None else before[dim]
                if moved is None:
                    return None
                needed = needed | moved
            node = source

    def follow_idle_strides(self, node: fx.Node) -> bool:
        """Whether the strides of a tensor may depend on strides that mean nothing.

        torch chooses the layout of the results of convolutions, poolings, paddings and others by
        all strides of their arguments, also by those of dimensions of size 1.
        """
        waiting = [node]
        while waiting:
            top = waiting[-1]
            sources = _step(top).all_input_nodes if top not in self._follows else []
            sources = [each for each in sources if isinstance(each.meta.get("val"), FakeTensor)]
            name = _name(top)
            if name in _ROW_MAJOR or name in _TOLD or _is_row_major_copy(top):
                sources = []
            elif name in _MOVES or _writes(top):
                sources = sources[:1]
            unknown = [source for source in sources if source not in self._follows]
            if unknown:
                waiting += unknown
                continue
            if top not in self._follows:
                chooses = name in _IN_A_FORMAT or not (
                    _makes(top) or name in _MOVES or _writes(top)
                )
                self._follows[top] = any(self._follows[each] for each in sources) or (
                    chooses and any(map(self._has_idle_strides, sources))
                )
            waiting.pop()
        return self._follows[node]

    def _has_idle_strides(self, node: fx.Node) -> bool:
        """Whether torch may take an image for channels-last because of strides of size 1."""
        value = node.meta["val"]
        return (
            value.dim() > 3
            and not all(statically_known_true(size >= 2) for size in value.shape)
            and not needs_nothing(_whole(self._of(node), node))
        )

    def _of(self, node: fx.Node) -> _Strides | None:
        """What each stride of the tensor of a node needs; None where the node has no rule."""
        # A chain of operators may be longer than Python's stack.
        waiting = [node]
        while waiting:
            top = waiting[-1]
            sources = [] if top in self._strides else _sources(top)
            unknown = [source for source in sources if source not in self._strides]
            if unknown:
                waiting += unknown
                continue
            if top not in self._strides:
                self._strides[top] = self._rule(top, sources)
            waiting.pop()
        return self._strides[node]

    def _rule(self, node: fx.Node, sources: Sequence[fx.Node]) -> _Strides | None:
        value = node.meta.get("val")
        # A view of a tensor that is row-major at every size is a view in eager mode too.
        view = _name(node) == "view" and self._tracer.composites.is_reshaped(node)
        if not isinstance(value, FakeTensor) or (self._may_differ(node) and not view):
            return None
        rank = value.dim()
        if node.op == "get_attr":
            return [_NOTHING] * rank
        if node in self._tracer.sources:
            return [Exact(frozenset({(node, d)})) for d in range(rank)]
        name = _name(node)
        if name in _TOLD:
            return [_NOTHING] * rank
        if _makes(node):
            return self._made(node, value, sources)
        if name not in _MOVES and not _writes(node):
            return None
        before = self._strides[sources[0]]
        given = sources[0].meta.get("val")
        if before is None or not isinstance(given, FakeTensor):
            return None
        if not before:
            return [None] * rank  # of a number; a dimension that a view adds has any stride
        moved = _MOVES[name](node, before, given, value) if name in _MOVES else before
        return moved if moved is not None and len(moved) == rank else None

    def _made(
        self, node: fx.Node, value: FakeTensor, sources: Sequence[fx.Node]
    ) -> _Strides | None:
        """The rule of kernels that make row-major tensors."""
        if not _is_row_major(value):
            return None
        found = Exact(full=frozenset({node}))
        name = _name(node)
        if name in _ROW_MAJOR or _is_row_major_copy(node):
            return [found] * value.dim()
        for source in sources:
            given = source.meta.get("val")
            if not isinstance(given, FakeTensor) or not given.dim():
                continue
            whole = _whole(self._strides[source], source)
            if whole is None or not (
                name in _KEEP_ROW_MAJOR
                or name in _IN_A_FORMAT
                or _all_same(given.shape, value.shape)
            ):
                return None
            found = found | whole
        return [found] * value.dim()


def _name(node: fx.Node) -> str:
    """The name of a node's operator; of one result among many, that of the operator."""
    target = node.target
    if target is operator.getitem and isinstance(node.args[0], fx.Node):
        return _name(node.args[0])
    if isinstance(target, OpOverload) and target.namespace == "aten":
        name, overload = target._schema.name.removeprefix("aten::"), target._overloadname
        return name if overload == "default" else f"{name}.{overload}"
    return ""


def _step(node: fx.Node) -> fx.Node:
    """The node of an operator, for a node of one of its results."""
    return node.args[0] if node.target is operator.getitem else node  # type: ignore[return-value]


def _source(node: fx.Node) -> fx.Node:
    """The first argument of the operator of a node."""
    return _step(node).args[0]  # type: ignore[return-value]


def _sources(node: fx.Node) -> list[fx.Node]:
    """The nodes on whose strides those of a node depend."""
    name = _name(node)
    if name in _MOVES or _writes(node):
        return [_source(node)]
    return _step(node).all_input_nodes if _makes(node) and name not in _ROW_MAJOR else []


def _makes(node: fx.Node) -> bool:
    """Whether a node is a new tensor whose layout has a rule."""
    name, target = _name(node), node.target
    if name in _ROW_MAJOR or name in _KEEP_ROW_MAJOR or name in _IN_A_FORMAT:
        return True
    if name in _TOLD and name != "as_strided":
        return True
    return isinstance(target, OpOverload) and _ELEMENTWISE in target.tags and not _writes(node)


def _writes(node: fx.Node) -> bool:
    """Whether an operator writes to its first argument and does not change its layout."""
    target = node.target
    return (
        isinstance(target, OpOverload)
        and target._schema.is_mutable
        and (_ELEMENTWISE in target.tags or target is torch.ops.aten.zero_.default)
    )


def _is_row_major_copy(node: fx.Node) -> bool:
    asked = node.kwargs.get("memory_format")
    return node.target is torch.ops.aten.clone.default and asked is torch.contiguous_format


def _all_same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(
        statically_known_true(x == y) for x, y in zip(a, b, strict=True)
    )


def _is_row_major(value: torch.Tensor) -> bool:
    """Whether the strides are those of a row-major tensor with elements, at size 1 too."""
    expected: list[Any] = []
    step: Any = 1
    for size in reversed(value.shape):
        expected.append(step)
        step = step * size
    return _all_same(value.stride(), expected[::-1])


def _whole(strides: _Strides | None, node: fx.Node) -> Exact | None:
    """What a tensor needs to be row-major with elements, at size 1 too; None if it is not."""
    if strides is None or not _is_row_major(node.meta["val"]):
        return None
    found = Exact(full=frozenset({node}))
    for each in strides:
        if each is None:
            return None
        found = found | each
    return found


# -- views -----------------------------------------------------------------------------------------


def _dim(node: fx.Node, given: Any, at: int = 1) -> int:
    """The dimension that an operator's argument names."""
    value = node.args[at] if len(node.args) > at else node.kwargs.get("dim", 0)
    dim: int = value % max(given.dim(), 1)
    return dim


def _same(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    return before


def _without(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    dim = _dim(_step(node), given)
    return [*before[:dim], *before[dim + 1 :]]


def _transposed(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    a, b = _dim(node, given), _dim(node, given, 2)
    moved = [*before]
    moved[a], moved[b] = moved[b], moved[a]
    return moved


def _reversed(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    return before[::-1]


def _permuted(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    return [before[d] for d in node.args[1]]  # type: ignore[union-attr, index]


def _inserted(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    dim = node.args[1] % value.dim()
    return [*before[:dim], None, *before[dim:]]


def _squeezed(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    if value.dim() == given.dim():
        return before
    if _name(node) in ("squeeze.dim", "squeeze_.dim"):
        return _without(node, before, given, value)
    one = [isinstance(size, int) and size == 1 for size in given.shape]
    return [each for each, is_one in zip(before, one, strict=True) if not is_one]


def _expanded(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides:
    lead = value.dim() - given.dim()
    kept = zip(before, given.shape, value.shape[lead:], strict=True)
    return [None] * lead + [each if _all_same([n], [m]) else None for each, n, m in kept]


def _windows(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides | None:
    return [*before, before[_dim(node, given)]] if given.dim() else None


def _viewed(node: fx.Node, before: _Strides, given: Any, value: Any) -> _Strides | None:
    whole = _whole(before, _source(node))
    return [whole] * value.dim() if whole is not None and _is_row_major(value) else None


_Rule: TypeAlias = "Callable[[fx.Node, _Strides, Any, Any], _Strides | None]"
_MOVES: dict[str, _Rule] = {
    "alias": _same,
    "detach": _same,
    "slice.Tensor": _same,
    "split.Tensor": _same,
    "split_with_sizes": _same,
    "select.int": _without,
    "unbind.int": _without,
    "transpose.int": _transposed,
    "transpose_": _transposed,
    "t": _reversed,
    "t_": _reversed,
    "permute": _permuted,
    "unsqueeze": _inserted,
    "unsqueeze_": _inserted,
    "squeeze": _squeezed,
    "squeeze_": _squeezed,
    "squeeze.dim": _squeezed,
    "squeeze_.dim": _squeezed,
    "expand": _expanded,
    "unfold": _windows,
    "view": _viewed,
}
# Views that may begin after the beginning of their argument.
_STEPS = frozenset({"slice.Tensor", "split.Tensor", "split_with_sizes", "select.int", "unbind.int"})
