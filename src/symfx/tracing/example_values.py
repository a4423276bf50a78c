"""The inputs with which `Trace.verify` runs: at given sizes, in the manner of the example's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from symfx.algebra import Term, evaluate
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.measures import Measure
from symfx.tracing.admission import Admission, LeafMeasure
from symfx.tracing.arguments import Leaf

__all__ = ["copy_of", "inputs_at"]


def inputs_at(
    admission: Admission, values: Mapping[Term, int], generator: torch.Generator
) -> list[Any]:
    """Flat inputs at these values of the symbols.

    Args:
        admission: the inputs of the trace, and the terms of their sizes.
        values: the values.
        generator: the source of random numbers.

    Raises:
        SymfxError: an input is a sparse tensor.
    """
    leaves: list[Any] = []
    for leaf in admission.layout.leaves:
        if isinstance(leaf.example, torch.Tensor):
            leaves.append(_tensor_at(leaf, admission.facts, values, generator))
        else:
            term = admission.facts.get(LeafMeasure(leaf, Measure("value")))
            leaves.append(leaf.example if term is None else evaluate(term, values))
    return leaves


def _tensor_at(
    leaf: Leaf,
    facts: Mapping[LeafMeasure, Term],
    values: Mapping[Term, int],
    generator: torch.Generator,
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

    size = [number(Measure("size", i)) for i in range(example.dim())]
    stride = [number(Measure("stride", i)) for i in range(example.dim())]
    offset = number(Measure("storage_offset"))
    counting = _counting(example, size)
    if counting is not None:
        return counting
    # The whole storage is filled: that is right for any layout (expanded, transposed, a slice).
    storage = _values(example.detach(), _extent(size, stride, offset), generator)
    made = torch.as_strided(storage, size, stride, offset)
    return made.requires_grad_(example.requires_grad)


def _extent(size: Sequence[int], stride: Sequence[int], offset: int | torch.SymInt) -> int:
    """The number of elements that the storage of a tensor of this layout needs."""
    return int(offset) + 1 + sum((n - 1) * st for n, st in zip(size, stride, strict=True) if n)


def copy_of(value: Any) -> Any:
    """A dense tensor copied to storage of its own in the same layout; any other value itself."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return value
    extent = _extent(value.shape, value.stride(), value.storage_offset())
    storage = torch.as_strided(value.detach(), (extent,), (1,), 0).clone()
    made = torch.as_strided(storage, value.size(), value.stride(), value.storage_offset())
    return made.requires_grad_(value.requires_grad)


def _counting(example: torch.Tensor, size: Sequence[int]) -> torch.Tensor | None:
    """0, 1, 2... at another size, if the example counts like this along its last dimension."""
    if example.is_floating_point() or example.is_complex() or example.dtype is torch.bool:
        return None
    if example.dim() == 0 or example.size(-1) < 3 or not example.is_contiguous():
        return None
    positions = torch.arange(example.size(-1), dtype=example.dtype, device=example.device)
    if not torch.equal(example, positions.expand_as(example)):
        return None
    longer = torch.arange(size[-1], dtype=example.dtype, device=example.device)
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
