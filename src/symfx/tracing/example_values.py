"""The inputs with which `Trace.verify` runs: at given sizes, in the manner of the example's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch
from torch.utils import _pytree as pytree

from symfx.algebra import Term, evaluate
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.measures import Measure
from symfx.torch_bridge.nested_tensors import JaggedTensor, offsets_of
from symfx.tracing.admission import Admission
from symfx.tracing.arguments import Leaf
from symfx.tracing.mismatches import LeafMeasure

__all__ = ["Draw", "copy_of", "inputs_at"]


class Draw(Enum):
    """How integers are drawn, from the most varied to the most careful way.

    A model refuses some integers, such as an index that is too large; then the next way is tried.

    Attributes:
        VARIED: static tensors from the example's elements, others in rows of the example.
        IN_ROWS: static tensors as in the example, others in rows of the example.
        SMALL: as IN_ROWS, but below the smallest symbol: indices into a dimension that is smaller
            than in the example.
    """

    VARIED = 0
    IN_ROWS = 1
    SMALL = 2


def inputs_at(
    admission: Admission,
    values: Mapping[Term, int],
    generator: torch.Generator,
    *,
    draw: Draw = Draw.VARIED,
) -> list[Any]:
    """Flat inputs at these values of the symbols.

    Args:
        admission: the inputs of the trace, and the terms of their sizes.
        values: the values.
        generator: the source of random numbers.
        draw: how integers are drawn.

    Raises:
        SymfxError: an input is a sparse tensor.
    """
    leaves: list[Any] = []
    for leaf in admission.layout.leaves:
        if isinstance(leaf.example, torch.Tensor):
            leaves.append(_tensor_at(leaf, admission.facts, values, generator, draw))
        else:
            term = admission.facts.get(LeafMeasure(leaf, Measure("value")))
            leaves.append(leaf.example if term is None else evaluate(term, values))
    _divide_rows(admission, leaves, generator)
    return leaves


def _divide_rows(admission: Admission, leaves: list[Any], generator: torch.Generator) -> None:
    """Make offsets of nested tensors that divide the rows that were drawn."""
    whole = admission.layout.unflattened(leaves)
    for parts in pytree.tree_leaves(whole, is_leaf=lambda node: isinstance(node, JaggedTensor)):
        if isinstance(parts, JaggedTensor):
            at = next(i for i, leaf in enumerate(leaves) if leaf is parts.offsets)
            rows, count = len(parts.values), len(parts.offsets)
            leaves[at] = offsets_of(rows, parts.offsets, count, generator)


def _tensor_at(
    leaf: Leaf,
    facts: Mapping[LeafMeasure, Term],
    values: Mapping[Term, int],
    generator: torch.Generator,
    draw: Draw,
) -> torch.Tensor:
    example = leaf.example
    if example.layout is not torch.strided:
        raise SymfxError(
            f"{leaf.path} has the layout {example.layout}, and verify makes dense tensors only",
            fix="compare the graph and the model on inputs of your own",
        )

    def number(measure: Measure) -> int:
        term = facts.get(LeafMeasure(leaf, measure))
        return int(measure.of(example) if term is None else evaluate(term, values))

    item = facts.get(LeafMeasure(leaf, Measure("item")))
    if item is not None and item.free_symbols <= values.keys():
        # The program reads this number by .item(): it has the value of its symbol.
        return torch.full_like(example, evaluate(item, values))
    size = [number(Measure("size", i)) for i in range(example.dim())]
    stride = [number(Measure("stride", i)) for i in range(example.dim())]
    offset = number(Measure("storage_offset"))
    if _holds_integers(example):
        counting = _counting(example, size)
        if counting is not None:
            return counting
        resized = [
            dim
            for dim in range(example.dim())
            if (term := facts.get(LeafMeasure(leaf, Measure("size", dim)))) is not None
            and term.free_symbols
        ]
        if (resized or draw is not Draw.VARIED) and not _overlaps(size, stride):
            rows = _rows(example, size, resized, generator)
            if draw is Draw.SMALL and values:
                bound = max(min(values.values()) - 1, 0)
                rows = rows.to(torch.int64).clamp(max=bound).to(example.dtype)
            return _laid_out(rows, stride, offset)
    if example.dtype is torch.bool and example.dim() and not _overlaps(size, stride):
        return _laid_out(_flags(example, size, generator), stride, offset)
    # The whole storage is filled: that is right for any layout (expanded, transposed, a slice).
    storage = _values(example.detach(), _extent(size, stride, offset), generator)
    made = torch.as_strided(storage, size, stride, offset)
    return made.requires_grad_(example.requires_grad)


def _extent(size: Sequence[int], stride: Sequence[int], offset: int | torch.SymInt) -> int:
    """The number of elements that the storage of a tensor of this layout needs."""
    if 0 in size:
        return 0
    return int(offset) + 1 + sum((n - 1) * st for n, st in zip(size, stride, strict=True))


def copy_of(value: Any) -> Any:
    """A dense tensor copied to storage of its own in the same layout; any other value itself."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return value
    extent = _extent(value.shape, value.stride(), value.storage_offset())
    storage = torch.as_strided(value.detach(), (extent,), (1,), 0).clone()
    made = torch.as_strided(storage, value.size(), value.stride(), value.storage_offset())
    return made.requires_grad_(value.requires_grad)


def _holds_integers(example: torch.Tensor) -> bool:
    """Whether the elements are integers: indices, lengths, offsets."""
    return not (example.is_floating_point() or example.is_complex() or example.dtype is torch.bool)


def _rows(
    example: torch.Tensor,
    size: Sequence[int],
    resized: Sequence[int],
    generator: torch.Generator,
) -> torch.Tensor:
    """Rows of the example, repeated or left out along the dimensions whose size may change.

    The rows stay whole, so that the two ends of an edge and the corners of a box stay together.
    They keep the example's order, so that offsets stay sorted, and start with its first row if
    that is zero, so that offsets start at 0.

    Args:
        example: the example.
        size: the size that is wanted.
        resized: the dimensions whose size may change.
        generator: the source of random numbers.
    """
    made = example
    for dim in resized:
        count, n = example.size(dim), size[dim]
        if count == 0 and n:
            return torch.zeros(tuple(size), dtype=example.dtype, device=example.device)
        picks = torch.randint(0, max(count, 1), (n,), generator=generator).sort().values
        if n and not example.select(dim, 0).any():
            picks[0] = 0
        made = made.index_select(dim, picks.to(example.device))
    return made


def _flags(example: torch.Tensor, size: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    """Random flags: in order where all rows of the example are, and of two kinds where those are.

    A padding mask stays one: its flags come last, and no row is padding alone.
    """
    made = torch.randint(0, 2, tuple(size), generator=generator).to(torch.bool)
    rows = example.cpu()
    if rows.size(-1) > 1 and rows.numel() and made.numel():
        rising = bool((rows[..., 1:] >= rows[..., :-1]).all())
        falling = bool((rows[..., 1:] <= rows[..., :-1]).all())
        if rising is not falling:
            made = made.sort(dim=-1, descending=falling).values
        # The first flag of a rising row is its False, the last one its True.
        if not bool(rows.all(-1).any()):
            alike = made.all(-1)
            made[..., -1 if falling and not rising else 0] &= ~alike
        if bool(rows.any(-1).all()):
            alike = ~made.any(-1)
            made[..., 0 if falling and not rising else -1] |= alike
    return made.to(example.device)


def _overlaps(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether an element stands at two positions, apart from whole dimensions of stride 0."""
    reach = 0
    for step, n in sorted(zip(stride, size, strict=True)):
        if n > 1 and step:
            if step <= reach:
                return True
            reach += (n - 1) * step
    return False


def _laid_out(values: torch.Tensor, stride: Sequence[int], offset: int) -> torch.Tensor:
    """A copy of these values with other strides, in a storage of its own."""
    size = values.shape
    storage = values.new_zeros(_extent(size, stride, offset))
    target = torch.as_strided(storage, size, stride, offset)
    part = target
    for dim, step in enumerate(stride):
        if step == 0 and size[dim] > 1:  # all rows of an expanded dimension are one row
            part, values = part.narrow(dim, 0, 1), values.narrow(dim, 0, 1)
    part.copy_(values)
    return target


def _counting(example: torch.Tensor, size: Sequence[int]) -> torch.Tensor | None:
    """0, 1, 2... at another size, if the example counts like this along its last dimension."""
    if example.dim() == 0 or example.size(-1) < 3 or not example.is_contiguous():
        return None
    positions = torch.arange(example.size(-1), device=example.device).to(example.dtype)
    if not torch.equal(example, positions.expand_as(example)):
        return None
    longer = torch.arange(size[-1], device=example.device).to(example.dtype)
    return longer.expand(tuple(size)).contiguous()


def _values(example: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Flat values, drawn like those of the example."""
    dtype, device = example.dtype, example.device
    if dtype is torch.bool:
        return torch.randint(0, 2, (count,), generator=generator).to(device, dtype)
    flat = example.reshape(-1).cpu()
    ordinary = example.is_floating_point() or example.is_complex()
    if ordinary and (flat.numel() == 0 or bool(torch.isfinite(flat).all())):
        wide = torch.complex128 if example.is_complex() else torch.float64
        drawn = torch.randn(count, generator=generator, dtype=wide)
        many = flat.to(wide)
        # One value has no deviation.
        if flat.numel() > 1 and float(many.std()) > 0:
            drawn = drawn * many.std() + many.mean()
            low = None if example.is_complex() else float(many.min())
            if low is not None and low >= 0:  # such as probabilities, or arguments of a logarithm
                drawn = drawn.abs().clamp(low, float(many.max()))
        return drawn.to(device, dtype)
    if flat.numel() == 0:
        return torch.zeros(count, dtype=dtype, device=device)
    picks = torch.randint(0, flat.numel(), (count,), generator=generator)
    return flat[picks].to(device)
