"""The strides that elementwise operators give a new tensor, found without a guard.

torch sorts the dimensions by the strides of the operands and lays the result out in that order
without gaps. The stride of a dimension of size 1 means nothing, nor does any stride of a tensor
without elements. So an answer here is right if the strides of the other dimensions are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from symfx.fake_operators.rules.base import Shape
from symfx.fake_operators.rules.numbers import Number, Numbers

__all__ = ["fills_its_box", "is_row_major_or_empty", "layout_of_result", "packed_in"]


def is_row_major_or_empty(n: Numbers, a: Shape) -> bool:
    """Whether a tensor is row-major without gaps, if it has elements."""
    return n.all_same(a.strides, n.contiguous(a.sizes))


def fills_its_box(n: Numbers, a: Shape) -> bool:
    """Whether a tensor is surely dense in some order of its dimensions, none of size 1."""
    left = dict(enumerate(a.sizes))
    step: Number = 1
    while left:
        nexts = [d for d in left if n.same(a.strides[d], step)]
        if len(nexts) != 1 or not n.several(left[nexts[0]]):
            return False
        step = n.mul(step, left.pop(nexts[0]))
    return True


def packed_in(
    n: Numbers, sizes: Sequence[Number], outermost_first: Sequence[int]
) -> tuple[Number, ...]:
    """The strides of a tensor without gaps whose dimensions lie in a given order."""
    packed = n.contiguous([sizes[d] for d in outermost_first])
    strides = dict(zip(outermost_first, packed, strict=True))
    return tuple(strides[d] for d in range(len(sizes)))


def layout_of_result(
    n: Numbers,
    sizes: tuple[Number, ...],
    operands: Sequence[Shape],
    *,
    in_order: bool = False,
    alone: bool = False,
) -> tuple[Number, ...] | None:
    """The strides of an elementwise operator's new result; None where they are not certain.

    Args:
        n: answers the questions about sizes and strides.
        sizes: the sizes of the result, to which the operands broadcast.
        operands: the operands, in the operator's order.
        in_order: whether torch looks at the operands in this order.
        alone: whether there are no numbers among the operands, which torch makes tensors of.
    """
    full = [a for a in operands if a.sizes]
    if all(is_row_major_or_empty(n, a) for a in full):
        return n.contiguous(sizes)
    first = full[0]
    if all(
        n.all_same(a.sizes, sizes) and n.all_same(a.strides, first.strides) for a in full
    ) and fills_its_box(n, first):
        return first.strides
    # Where a dimension may have the size 1, its stride, which means nothing, takes part in
    # torch's sorting. It cannot disturb the order of the others if the first operand tells each
    # two apart, and if these need no sorting or there is no other operand.
    steady = all(n.several(size) for size in sizes)
    if not steady and not n.all_same(first.sizes, sizes):
        return None
    wide = [d for d, size in enumerate(sizes) if size != 1]
    outer_first: dict[tuple[int, int], bool] = {}
    for i, j in itertools.combinations(wide, 2):
        decided = _is_outer(n, sizes, full, i, j, in_order)
        if decided is None or (decided == _ALIKE and not steady):
            return None
        outer_first[i, j] = decided != _INNER
    if all(outer_first.values()):
        return n.contiguous(sizes)
    if len(full) > 1 and not steady:
        return None
    around = dict.fromkeys(wide, 0)
    for (i, j), i_is_outer in outer_first.items():
        around[j if i_is_outer else i] += 1
    order = sorted(wide, key=around.__getitem__)
    if sorted(around.values()) != list(range(len(wide))):
        return None  # the comparisons are not those of one order
    if 1 in sizes:
        found = _of_dense_operands(n, sizes, full, order) if alone else None
        if found is None:
            found = _of_sorted_dimensions(n, sizes, full)
        if found is not None:
            return found
    for d, size in enumerate(sizes):
        if size == 1:
            order.insert(d, d)
    return packed_in(n, sizes, order)


def _of_dense_operands(
    n: Numbers, sizes: Sequence[Number], operands: Sequence[Shape], order: Sequence[int]
) -> tuple[Number, ...] | None:
    """The strides that torch gives the result of equally dense operands, also those of size 1.

    Args:
        n: answers the questions about sizes and strides.
        sizes: the sizes of the result.
        operands: the operands.
        order: the dimensions that are not of size 1, from the outermost.

    Returns:
        The strides; None for operands that are not equally dense.
    """
    packed = packed_in(
        n, [sizes[d] for d in sorted(order)], [sorted(order).index(d) for d in order]
    )
    for a in operands:
        wide = [a.strides[d] for d in sorted(order)] if len(a.sizes) == len(sizes) else []
        if not n.all_same(a.sizes, sizes) or not n.all_same(wide, packed):
            return None
    rank = len(sizes)
    channels_last = (0, *range(2, rank), 1)
    if rank in (4, 5) and list(order) == [d for d in channels_last if d in order]:
        return packed_in(n, sizes, channels_last)
    same = all(n.all_same(a.strides, operands[0].strides) for a in operands)
    return operands[0].strides if same else None


def _of_sorted_dimensions(
    n: Numbers, sizes: Sequence[Number], operands: Sequence[Shape]
) -> tuple[Number, ...] | None:
    """The strides that torch's sorting of all dimensions gives, also of those of size 1.

    The sorting is the insertion sort of `TensorIterator`, which begins with the last dimension.

    Args:
        n: answers the questions about sizes and strides.
        sizes: the sizes of the result.
        operands: the operands.

    Returns:
        The strides; None where a comparison of two strides is not certain.
    """
    order = list(reversed(range(len(sizes))))
    for end in range(1, len(order)):
        at = end
        for before in range(end - 1, -1, -1):
            swaps = _swaps(n, sizes, operands, order[before], order[at])
            if swaps is None:
                return None
            if swaps < 0:
                break
            if swaps > 0:
                order[before], order[at] = order[at], order[before]
                at = before
    return packed_in(n, sizes, order[::-1])


def _swaps(
    n: Numbers, sizes: Sequence[Number], operands: Sequence[Shape], i: int, j: int
) -> int | None:
    """Whether torch's sorting lets dimension j come before i: 1 yes, -1 no, 0 undecided."""
    for a in operands:
        lead = len(sizes) - len(a.sizes)
        if i < lead or j < lead:
            continue
        first, second = (
            0 if a.sizes[d - lead] == 1 and sizes[d] != 1 else a.strides[d - lead] for d in (i, j)
        )
        if first == 0 or second == 0:
            continue
        if not (n.positive(first) and n.positive(second)):
            return None
        if n.same(first, second):
            if not n.at_most(sizes[i], sizes[j]):
                return 1 if n.at_most(n.add(sizes[j], 1), sizes[i]) else None
        elif n.at_most(n.add(first, 1), second):
            return -1
        elif n.at_most(n.add(second, 1), first):
            return 1
        else:
            return None
    return 0


_OUTER, _INNER, _ALIKE = "outer", "inner", "alike"


def _is_outer(
    n: Numbers,
    sizes: Sequence[Number],
    operands: Sequence[Shape],
    i: int,
    j: int,
    in_order: bool,
) -> str | None:
    """How dimension i of the result lies to dimension j, where i < j.

    For torch the first operand decides whose strides of both are not 0. Operands that disagree
    are left to torch where it takes them in another order.

    Returns:
        `_OUTER`, `_INNER`, or `_ALIKE` where no operand decides and torch keeps the dimensions
        in order; None where it is not certain.
    """
    answer = _ALIKE
    for a in operands:
        lead = len(sizes) - len(a.sizes)
        if i < lead or j < lead:
            continue
        first, second = (0 if a.sizes[d - lead] == 1 else a.strides[d - lead] for d in (i, j))
        if first == 0 or second == 0:
            continue
        if not (n.positive(first) and n.positive(second)):
            return None
        # Dimensions of equal strides stay in order unless the size of the later one is greater,
        # which is 1 wherever the strides are equal.
        if _steps_over(n, first, second, sizes[j]):
            own = _OUTER
        elif _steps_over(n, second, first, sizes[i]):
            own = _INNER
        else:
            return None
        if answer not in (_ALIKE, own):
            return None
        answer = own
        if in_order and not _may_be_equal(n, first, second):
            return own
    return answer


def _may_be_equal(n: Numbers, a: Number, b: Number) -> bool:
    """Whether two numbers are not surely different."""
    return not (n.at_most(n.add(a, 1), b) or n.at_most(n.add(b, 1), a))


def _steps_over(n: Numbers, stride: Number, other: Number, size: Number) -> bool:
    """Whether a stride exceeds another one, or equals it only where the other's size is 1."""
    return n.at_most(n.add(other, 1), stride) or n.at_most(n.mul(other, size), stride)
