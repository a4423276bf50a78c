"""Strides of the results of elementwise operators against those of torch's real kernels."""

import random
from dataclasses import dataclass

import pytest
import torch

from symfx.fake_operators.rules.elementwise_layout import layout_of_result
from symfx.fake_operators.rules.numbers import Numbers


@dataclass
class Operand:
    """A real tensor as a rule sees it."""

    dtype: torch.dtype
    device: torch.device
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


def shape_of(x: torch.Tensor) -> Operand:
    return Operand(x.dtype, x.device, tuple(x.shape), tuple(x.stride()))


def laid_out(rng: random.Random, sizes: list[int]) -> torch.Tensor:
    """A tensor of the given sizes: permuted, with gaps, or expanded."""
    order = rng.sample(range(len(sizes)), len(sizes))
    if rng.random() < 0.4:
        order = sorted(order)
    base_sizes = [sizes[d] + rng.choice((0, 0, 1)) for d in order]
    expanded = [rng.random() < 0.1 for _ in order]
    base = torch.zeros([1 if e else s for s, e in zip(base_sizes, expanded, strict=True)])
    base = base.expand(base_sizes)
    for d in range(len(order)):
        base = base.narrow(d, base_sizes[d] - sizes[order[d]], sizes[order[d]])
    return base.permute([order.index(d) for d in range(len(order))])


def meaningful(sizes: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """The strides of the dimensions of two elements or more; none of an empty tensor."""
    if 0 in sizes:
        return []
    return [st for si, st in zip(sizes, strides, strict=True) if si != 1]


@pytest.mark.parametrize("seed", range(100))
def test_strides_are_those_of_the_real_kernel(seed: int) -> None:
    rng = random.Random(seed)
    answered = 0
    for _ in range(20):
        rank = rng.randint(1, 5)
        sizes = [rng.choice((0, 1, 2, 2, 3, 3, 4)) for _ in range(rank)]
        operands = []
        for i in range(rng.randint(1, 3)):
            own = sizes if i == 0 else [1 if rng.random() < 0.2 else s for s in sizes]
            operands.append(laid_out(rng, own[rng.choice((0, 0, 0, rank // 2)) :]))
        if len(operands) == 1:
            real = operands[0].exp()
        elif len(operands) == 2:
            real = operands[0] * operands[1]
        else:
            real = torch.where(operands[0] > 0, operands[1], operands[2])
            operands[0] = operands[0] > 0
        found = layout_of_result(
            Numbers(None),
            tuple(real.shape),
            list(map(shape_of, operands)),
            in_order=len(operands) == 2,
        )
        if found is None:
            continue
        answered += 1
        assert meaningful(real.shape, found) == meaningful(real.shape, real.stride()), [
            (tuple(x.shape), x.stride()) for x in operands
        ]
    assert answered >= 5
