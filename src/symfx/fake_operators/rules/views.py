"""Views: other sizes and strides on the same storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from symfx.algebra import Term
from symfx.fake_operators.rules.base import Shape, View, dimension, is_row_major, rule
from symfx.fake_operators.rules.elementwise_layout import is_row_major_or_empty
from symfx.fake_operators.rules.numbers import Number, Numbers

__all__: list[str] = []

_aten = torch.ops.aten
# torch passes this number for a slice without an end.
_TO_THE_END = 2**63 - 1


@rule(_aten.detach.default, _aten.alias.default)
def _alias(n: Numbers, a: Shape) -> View:
    return View(a.sizes, a.strides, a.offset)


def _permuted(a: Shape, order: Sequence[int]) -> View:
    return View(tuple([a.sizes[d] for d in order]), tuple([a.strides[d] for d in order]), a.offset)


@rule(_aten.t.default)
def _t(n: Numbers, a: Shape) -> View | None:
    rank = len(a.sizes)
    return None if rank > 2 else _permuted(a, range(rank - 1, -1, -1))


@rule(_aten.transpose.int)
def _transpose(n: Numbers, a: Shape, dim0: Any, dim1: Any) -> View | None:
    rank = len(a.sizes)
    i, j = dimension(rank, dim0), dimension(rank, dim1)
    if i is None or j is None:
        return None
    order = list(range(rank))
    order[i], order[j] = j, i
    return _permuted(a, order)


@rule(_aten.permute.default)
def _permute(n: Numbers, a: Shape, dims: Sequence[Any]) -> View | None:
    rank = len(a.sizes)
    order = [d for d in (dimension(rank, d) for d in dims) if d is not None]
    if len(dims) != rank or sorted(order) != list(range(rank)):
        return None
    return _permuted(a, order)


@rule(_aten.unsqueeze.default)
def _unsqueeze(n: Numbers, a: Shape, dim: Any) -> View | None:
    rank = len(a.sizes)
    d = dimension(rank + 1, dim)
    if d is None:
        return None
    stride = 1 if d == rank else n.mul(a.sizes[d], a.strides[d])
    return View((*a.sizes[:d], 1, *a.sizes[d:]), (*a.strides[:d], stride, *a.strides[d:]), a.offset)


@rule(_aten.squeeze.default, _aten.squeeze.dim, _aten.squeeze.dims)
def _squeeze(n: Numbers, a: Shape, dim: Any = None) -> View | None:
    rank = len(a.sizes)
    if dim is None:
        chosen: list[int | None] = list(range(rank))
    else:
        chosen = [dimension(rank, d) for d in (dim if isinstance(dim, (list, tuple)) else (dim,))]
    if None in chosen or len(set(chosen)) < len(chosen):
        return None
    kept = []
    for d, size in enumerate(a.sizes):
        if d in chosen and size == 1:
            continue
        # A size that may be 1 is left to torch, which guards on it.
        if d in chosen and not n.several(size) and size != 0:
            return None
        kept.append(d)
    return _permuted(a, kept)


@rule(_aten.expand.default)
def _expand(n: Numbers, a: Shape, size: Sequence[Any], *, implicit: bool = False) -> View | None:
    added = len(size) - len(a.sizes)
    if added < 0:
        return None
    sizes: list[Number] = []
    strides: list[Number] = []
    for d, wanted in enumerate(size):
        if d < added:
            if not n.at_most(0, wanted):
                return None
            sizes.append(wanted)
            strides.append(0)
            continue
        own, stride = a.sizes[d - added], a.strides[d - added]
        if wanted == -1 or n.same(wanted, own):
            sizes.append(own)
            strides.append(stride)
        elif own == 1 and n.at_most(0, wanted):
            sizes.append(wanted)
            strides.append(0)
        else:
            return None
    return View(tuple(sizes), tuple(strides), a.offset)


@rule(_aten.view.default, _aten._unsafe_view.default)
def _view(n: Numbers, a: Shape, size: Sequence[Any]) -> View | None:
    elements = n.product(a.sizes)
    sizes = list(size)
    if sizes.count(-1) == 1:
        unknown = sizes.index(-1)
        others = n.product(s for i, s in enumerate(sizes) if i != unknown)
        if not n.positive(others):
            return None
        sizes[unknown] = n.floordiv(elements, others)
    if not is_row_major_or_empty(n, a):
        with_ones = _strides_with_other_ones(n, a, sizes)
        if with_ones is not None:
            return View(tuple(sizes), with_ones, a.offset)
    if not n.all_positive(a.sizes):
        # The tensor may have no elements; the strides of the view mean nothing then.
        if not (
            is_row_major_or_empty(n, a)
            and all(n.at_most(0, s) for s in sizes)
            and n.same(n.product(sizes), elements)
        ):
            return None
        return View(tuple(sizes), n.contiguous(sizes), a.offset)
    if is_row_major(n, a):
        if not _require_same_elements(n, a.sizes, sizes):
            return None
        strides: tuple[Number, ...] | None = n.contiguous(sizes)
    elif not n.all_positive(sizes) or not n.same(n.product(sizes), elements):
        return None
    else:
        strides = _strides_of_view(n, a, sizes)
    return None if strides is None else View(tuple(sizes), strides, a.offset)


def _require_same_elements(n: Numbers, old: Sequence[Number], new: Sequence[Number]) -> bool:
    """Whether two shapes have as many elements; guards make it so where that is open.

    Args:
        n: answers the questions, and makes the guards.
        old: positive sizes.
        new: the other sizes.
    """
    if not all(n.at_most(0, size) for size in new):
        return False
    if not n.same(n.product(new), n.product(old)):
        # If each old size is at least the product of some new sizes, as ``h`` is at least
        # ``h//4 * 4``, then all products are equal only if each of these is.
        runs: list[tuple[Number, list[Number]]] = []
        rest = list(new)
        for size in old:
            counts = range(len(rest), 0, -1)
            count = next((c for c in counts if n.at_most(n.product(rest[:c]), size)), 0)
            runs.append((size, rest[:count]))
            rest = rest[count:]
        if rest or any(size != 1 and not run for size, run in runs):
            runs = [(n.product(old), list(new))]
        if not all(_require_product(n, size, run) for size, run in runs):
            return False
    for size in new:
        n.learn_positive(size)
    return True


def _require_product(n: Numbers, size: Number, factors: Sequence[Number]) -> bool:
    """Whether a size is the product of others; a guard makes it so where that is open."""
    product = n.product(factors)
    if n.same(product, size):
        return True
    for i in range(len(factors)):
        others = n.product([*factors[:i], *factors[i + 1 :]])
        if n.positive(others) and n.same(factors[i], n.floordiv(size, others)):
            return n.require_multiple(size, others)
    return n.require_same(product, size)


def _strides_with_other_ones(
    n: Numbers, a: Shape, sizes: Sequence[Number]
) -> tuple[Number, ...] | None:
    """The strides of a view that differs from the tensor in dimensions of size 1 alone.

    Such a view exists at all sizes. Its other dimensions keep their strides. A new dimension has
    the stride that torch's kernel gives it: the stride takes part where an elementwise operator
    sorts the dimensions of its result.

    Returns:
        The strides; None for another view, or where the tensor has dimensions of size 1.
    """
    kept = [d for d, size in enumerate(sizes) if size != 1]
    if 1 in a.sizes or not n.all_same([sizes[d] for d in kept], a.sizes):
        return None
    strides: list[Number] = list(a.strides)
    following: Number = a.strides[-1] if a.strides else 1
    for d in range(len(sizes) - 1, -1, -1):
        if sizes[d] == 1:
            strides.insert(sum(k < d for k in kept), following)
        else:
            at = kept.index(d)
            following = n.mul(a.sizes[at], a.strides[at])
    return tuple(strides)


def _strides_of_view(n: Numbers, a: Shape, sizes: Sequence[Number]) -> tuple[Number, ...] | None:
    """Strides that keep the order of the elements; None where they may not exist."""
    # The stride of a dimension depends on whether its size is 1.
    if not all(size == 1 or n.several(size) for size in (*a.sizes, *sizes)):
        return None
    strides: list[Number] = [0] * len(sizes)
    new = len(sizes) - 1
    # From the back: neighboring dimensions of the tensor without a gap between them are a run.
    # The view's dimensions must fill each run exactly.
    run: Number = 1
    step: Number = a.strides[-1] if a.strides else 1
    for old in range(len(a.sizes) - 1, -1, -1):
        run = n.mul(run, a.sizes[old])
        ends = old == 0 or (
            a.sizes[old - 1] != 1 and not n.same(a.strides[old - 1], n.mul(run, step))
        )
        if not ends:
            continue
        filled: Number = 1
        while new >= 0 and (not n.same(filled, run) or sizes[new] == 1):
            strides[new] = n.mul(filled, step)
            filled = n.mul(filled, sizes[new])
            new -= 1
        if not n.same(filled, run):
            return None
        if old > 0:
            run, step = 1, a.strides[old - 1]
    return tuple(strides) if new < 0 else None


@rule(_aten.select.int)
def _select(n: Numbers, a: Shape, dim: Any, index: Any) -> View | None:
    d = dimension(len(a.sizes), dim)
    if d is None:
        return None
    at: Number = index
    if isinstance(index, Term):
        # The kernel refuses an index that is out of range. So a symbolic one needs no guard, and
        # its remainder counts a negative index from the end.
        if n.at_most(a.sizes[d], index):
            return None
        if not n.at_most(0, index):
            if not n.positive(a.sizes[d]):
                return None
            at = n.mod(index, a.sizes[d])
    elif type(index) is not int:
        return None
    elif index < 0:
        if not n.at_most(-index, a.sizes[d]):
            return None
        at = n.add(a.sizes[d], index)
    elif not n.at_most(index + 1, a.sizes[d]):
        return None
    return View(
        a.sizes[:d] + a.sizes[d + 1 :],
        a.strides[:d] + a.strides[d + 1 :],
        n.add(a.offset, n.mul(at, a.strides[d])),
    )


@rule(_aten.slice.Tensor)
def _slice(
    n: Numbers, a: Shape, dim: Any = 0, start: Any = None, end: Any = None, step: Any = 1
) -> View | None:
    d = dimension(len(a.sizes), dim)
    if d is None or type(step) is not int or step < 1:
        return None
    size = a.sizes[d]
    low = 0 if start is None else _bound(n, start, size)
    high = size if end is None else _bound(n, end, size)
    if low is None or high is None:
        return None
    length = n.sub(high, n.min(low, high))
    if step > 1:
        length = n.floordiv(n.add(length, step - 1), step)
    return View(
        (*a.sizes[:d], length, *a.sizes[d + 1 :]),
        (*a.strides[:d], n.mul(a.strides[d], step), *a.strides[d + 1 :]),
        n.add(a.offset, n.mul(low, a.strides[d])),
    )


def _bound(n: Numbers, at: Any, size: Number) -> Number | None:
    """A bound of a slice, between 0 and the size; None for a bound that is left to torch."""
    if isinstance(at, int):
        if at == _TO_THE_END:
            return size
        return n.min(at, size) if at >= 0 else n.max(n.sub(size, -at), 0)
    traced = n.value_at_tracing(at)
    if traced is None:
        # A bound from data is left to torch, which makes a symbol for the size.
        if n.at_most(0, at):
            return at if n.at_most(at, size) else None
        end = n.add(size, at)
        return end if n.at_most(at, -1) and n.at_most(0, end) else None
    if traced >= 0:
        return n.min(at, size) if n.require_at_most(0, at) else None
    return n.max(n.add(size, at), 0) if n.require_at_most(at, -1) else None


@rule(_aten.split_with_sizes.default)
def _split(n: Numbers, a: Shape, split_sizes: Sequence[Any], dim: Any = 0) -> list[View] | None:
    d = dimension(len(a.sizes), dim)
    total: Number = 0
    for size in split_sizes:
        total = n.add(total, size)
    if d is None or not n.same(total, a.sizes[d]) or not n.all_positive(split_sizes):
        return None
    views, at = [], a.offset
    for size in split_sizes:
        views.append(View((*a.sizes[:d], size, *a.sizes[d + 1 :]), a.strides, at))
        at = n.add(at, n.mul(size, a.strides[d]))
    return views


@rule(_aten.split.Tensor)
def _split_evenly(n: Numbers, a: Shape, split_size: Any, dim: Any = 0) -> list[View] | None:
    d = dimension(len(a.sizes), dim)
    if d is None or not (n.positive(split_size) and n.positive(a.sizes[d])):
        return None
    size = a.sizes[d]
    count = n.value_at_tracing(n.floordiv(n.add(size, n.sub(split_size, 1)), split_size))
    if count is None or count < 1:
        return None
    # The program sees the number of parts, so it has to stay. All parts but the last are full.
    if split_size == 1 and not n.require_same(size, count):
        return None
    full = n.mul(split_size, count - 1)
    if not n.require_at_most(n.add(full, 1), size):
        return None
    if not n.require_at_most(size, n.mul(split_size, count)):
        return None
    last = n.sub(size, full)
    n.learn_positive(last)
    parts = [*[split_size] * (count - 1), last]
    return _split(n, a, parts, d)


@rule(_aten.unbind.int)
def _unbind(n: Numbers, a: Shape, dim: Any = 0) -> list[View] | None:
    d = dimension(len(a.sizes), dim)
    size = None if d is None else n.value_at_tracing(a.sizes[d])
    if d is None or size is None or not n.require_same(a.sizes[d], size):
        return None
    views = [_select(n, a, d, i) for i in range(size)]
    return [view for view in views if view is not None]
