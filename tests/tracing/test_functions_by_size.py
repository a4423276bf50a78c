"""torch functions that take a size as a plain int: a trace pins none, and equals eager elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx

SHAPES = {
    2: ((5, 7), (4, 6), (9, 17), (18, 20), (7, 8), (3, 4)),
    3: ((2, 5, 7), (3, 4, 6), (5, 9, 17), (2, 18, 20)),
    4: ((2, 3, 6, 8), (2, 4, 6, 7), (3, 5, 9, 17), (2, 3, 18, 20)),
    5: ((2, 3, 6, 8, 4), (2, 4, 6, 7, 5), (3, 2, 9, 4, 7)),
}
WINDOW = torch.hann_window(4)


def spectrum(x: torch.Tensor, **options: Any) -> torch.Tensor:
    return torch.stft(x, 4, 2, window=WINDOW, return_complex=True, pad_mode="constant", **options)


def inverse(x: torch.Tensor, length: Any, **options: Any) -> torch.Tensor:
    return torch.istft(spectrum(x, **options), 4, 2, window=WINDOW, length=length, **options)


def kinds(x: torch.Tensor) -> torch.Tensor:
    numbers = torch.LongTensor([x.shape[0], 2])
    right = isinstance(numbers, torch.LongTensor) and not isinstance(x, torch.LongTensor)
    return numbers * (1 if right and x.type(torch.DoubleTensor).dtype is torch.float64 else 0)


NO_GUARD: dict[str, tuple[Callable[[torch.Tensor], Any], int]] = {
    "LongTensor": (lambda x: torch.LongTensor([x.shape[0], 2]) * 2, 2),
    "nested LongTensor": (lambda x: torch.LongTensor([[x.shape[0], 2], [1, x.shape[1]]]) * 2, 2),
    "FloatTensor": (lambda x: torch.FloatTensor([x.shape[0], 2.5]) * 2, 2),
    "IntTensor of a tuple": (lambda x: torch.IntTensor((x.shape[0], 2)) * 2, 2),
    "BoolTensor": (lambda x: torch.BoolTensor([x.shape[0] % 2 == 0, True]), 2),
    "LongTensor of sizes": (lambda x: torch.LongTensor(x.shape).zero_(), 2),
    "LongTensor of a size": (lambda x: torch.LongTensor(x.shape[0]).fill_(1), 2),
    "kinds of tensors": (kinds, 2),
    "new": (lambda x: x.new([x.shape[0], 2]) * 2, 2),
    "logspace": (lambda x: torch.logspace(0, 1, x.shape[0]) * 2, 2),
    "logspace of a base": (lambda x: torch.logspace(-1, 2, x.shape[0], base=2) * 2, 2),
    "one_hot": (lambda x: F.one_hot(torch.arange(x.shape[0]) % 2, x.shape[0]), 2),
    "tril_indices": (lambda x: torch.tril_indices(x.shape[0], x.shape[0]), 2),
    "triu_indices": (lambda x: torch.triu_indices(x.shape[0], x.shape[1], 1), 2),
    "triu_indices of one": (lambda x: torch.triu_indices(x.shape[0], 3, 1, dtype=torch.int32), 2),
    "istft": (lambda x: inverse(x, x.shape[-1]), 2),
    "istft longer": (lambda x: inverse(x[0], x.shape[-1] + 5), 2),
    "istft of both sides": (
        lambda x: inverse(x, x.shape[-1] - 1, onesided=False, normalized=True), 2,
    ),
    "adaptive max, one static": (nn.AdaptiveMaxPool2d((None, 3)), 3),
    "adaptive max, other static": (nn.AdaptiveMaxPool2d((3, None)), 4),
    "adaptive max, none": (nn.AdaptiveMaxPool2d((None, None)), 4),
    "adaptive max, indices": (nn.AdaptiveMaxPool2d((None, 3), return_indices=True), 4),
    "adaptive max of a volume": (nn.AdaptiveMaxPool3d((None, 2, None), return_indices=True), 5),
    "adaptive max of a sample": (nn.AdaptiveMaxPool3d((None, 2, 2)), 4),
    "adaptive max by size": (lambda x: F.adaptive_max_pool1d(x, x.shape[1]), 3),
    "adaptive mean, one static": (nn.AdaptiveAvgPool2d((None, 3)), 4),
    "adaptive mean of a volume": (nn.AdaptiveAvgPool3d((None, 2, None)), 5),
    "adaptive mean by size": (lambda x: F.adaptive_avg_pool1d(x, x.shape[-1]), 3),
    "max over all": (lambda x: F.max_pool2d(x, x.shape[-2:]), 4),
    "max over the height": (lambda x: F.max_pool2d(x, kernel_size=(x.shape[-2], 1)), 4),
    "max over the length": (lambda x: F.max_pool1d(x, x.shape[-1]), 3),
    "max over the depth": (lambda x: F.max_pool3d(x, (x.shape[-3], 1, 1)), 5),
    "mean over all": (lambda x: F.avg_pool2d(x, kernel_size=x.size()[2:]), 4),
    "mean over the height": (lambda x: F.avg_pool2d(x, (x.shape[-2], 1)), 4),
    "mean over the length": (lambda x: F.avg_pool1d(x, x.shape[-1]), 3),
    "mean of a volume": (lambda x: F.avg_pool3d(x, x.shape[-3:], divisor_override=3), 5),
    "norm over all": (lambda x: F.lp_pool2d(x, 2, x.shape[-2:]), 4),
    "norm over the length": (lambda x: F.lp_pool1d(x, 2.0, x.shape[-1]), 3),
    "norm of a volume": (lambda x: F.lp_pool3d(x, 2, x.shape[-3:]), 5),
}  # fmt: skip


def traced(f: Callable[..., Any], rank: int) -> symfx.Trace:
    names = tuple(f"d{i}" for i in range(rank))
    return symfx.trace(f, torch.randn(SHAPES[rank][0]), dynamic=(names,))


@pytest.mark.parametrize("name", NO_GUARD)
def test_neither_pinned_nor_guarded(name: str) -> None:
    f, rank = NO_GUARD[name]
    t = traced(f, rank)
    assert [str(guard) for guard in t.guards if "stft" not in name] == []
    for shape in SHAPES[rank]:
        x = torch.randn(shape)
        assert t.check(x), t.check(x)
        torch.testing.assert_close(t(x), f(x))


NO_PIN: dict[str, tuple[Callable[[torch.Tensor], Any], int]] = {
    "max over the height, by threes": (lambda x: torch.max_pool2d(x, (x.shape[-2], 3)), 4),
    "triu_indices from a size": (lambda x: torch.triu_indices(9, 11, x.shape[0] - 12), 2),
    "tril_indices below": (lambda x: torch.tril_indices(x.shape[0], x.shape[1], -2), 2),
    "windows of half a length": (lambda x: F.max_pool1d(x, x.shape[-1] // 2), 3),
    "windows that overlap": (lambda x: F.avg_pool1d(x, x.shape[-1] // 2, stride=1), 3),
    "the height as both sides": (lambda x: F.max_pool2d(x, x.shape[-2] // 2), 4),
    "norms of windows": (lambda x: F.lp_pool2d(x, 2, x.shape[-2] // 3), 4),
    "half as many maxima": (
        lambda x: F.adaptive_max_pool2d(x, (x.shape[-2] // 2, 3), return_indices=True), 4,
    ),
    "half as many means": (lambda x: F.adaptive_avg_pool1d(x, x.shape[-1] // 2), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_PIN)
def test_not_pinned(name: str) -> None:
    f, rank = NO_PIN[name]
    t = traced(f, rank)
    assert not t.specializations
    for shape in SHAPES[rank][1:]:
        x = torch.randn(shape)
        assert t.check(x), t.check(x)
        torch.testing.assert_close(t(x), f(x))


def test_the_first_of_equal_elements_has_the_gradient() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(x, (x.shape[-2], 2))

    t = symfx.trace(f, torch.randn(1, 1, 4, 6), dynamic=((None, None, "h", "w"),))
    ours, theirs = (torch.ones(1, 1, 3, 8, requires_grad=True) for _ in range(2))
    t(ours).sum().backward()
    f(theirs).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_a_class_out_of_range_is_told() -> None:
    def f(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
        return F.one_hot(i, x.shape[0])

    t = symfx.trace(f, (torch.randn(5), torch.tensor([1, 2])), dynamic=(("n",), None))
    with pytest.raises(RuntimeError, match="Class values"):
        t(torch.randn(3), torch.tensor([1, 3]))
