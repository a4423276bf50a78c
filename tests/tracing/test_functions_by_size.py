"""torch functions that take a size as a plain int: a trace pins none, and equals eager elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pad_sequence

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
    "stft of a length": (
        lambda x: torch.stft(
            x, x.shape[1], 1, window=torch.hann_window(x.shape[1]), return_complex=True
        ), 2,
    ),
    "stft of half a length": (
        lambda x: torch.stft(x.flatten(), x.shape[1] // 2, 1, return_complex=True), 2,
    ),
    "stft of both sides": (
        lambda x: torch.stft(
            x.flatten(), x.shape[1], x.shape[0], center=False, normalized=True, onesided=False,
            return_complex=True,
        ), 2,
    ),
    "stft of a short window": (
        lambda x: x.stft(
            x.shape[1], 1, 3, window=torch.ones(3), pad_mode="constant", return_complex=True
        ), 2,
    ),
    "pad_sequence": (lambda x: pad_sequence([x[0], x[:, 0], x[0]], padding_value=2.5), 2),
    "pad_sequence, the batch first": (
        lambda x: pad_sequence([x, x.repeat(2, 1)], batch_first=True) * 2, 2,
    ),
    "first part of three": (lambda x: torch.tensor_split(x, 3)[0] * 2, 2),
    "last part of three": (lambda x: x.tensor_split(3, dim=-1)[2] * 2, 2),
    "parts in another order": (lambda x: torch.cat(x.tensor_split(2)[::-1]), 2),
    "more parts than elements": (lambda x: sum(part.sum() for part in x.tensor_split(6)), 2),
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
    "combinations": (lambda x: torch.combinations(x[:, 0]), 2),
    "combinations of three": (lambda x: torch.combinations(x[0], 3), 2),
    "combinations, repeated": (lambda x: torch.combinations(x[0], 2, with_replacement=True), 2),
    "vander": (lambda x: torch.vander(x[:, 0]), 2),
    "vander of integers": (lambda x: torch.vander(torch.arange(x.shape[0]), increasing=True), 2),
    "vander by size": (lambda x: torch.vander(x[:, 0], N=x.shape[1]), 2),
    "local_response_norm": (lambda x: F.local_response_norm(x, x.shape[1]), 3),
    "local_response_norm of images": (lambda x: F.local_response_norm(x, x.shape[2] // 2), 4),
    "unfold by half": (lambda x: x.unfold(1, x.shape[1] // 2, 1), 2),
    "unfold by a step": (lambda x: x.unfold(-1, 2, x.shape[0]), 2),
    "unfold of a transposed": (lambda x: x.mT.unfold(0, x.shape[1] - 1, x.shape[0]), 2),
    "blocks": (lambda x: F.unfold(x, (x.shape[2] // 2, 2), padding=1), 4),
    "max with indices": (lambda x: F.max_pool1d(x, x.shape[2] // 2, return_indices=True), 3),
    "rfft of a length": (lambda x: torch.fft.rfft(x, 8).abs(), 2),
    "fft of a length": (lambda x: torch.fft.fft(x, n=6, dim=0).real, 2),
    "irfft of a length": (lambda x: torch.fft.irfft(torch.fft.rfft(x), n=10), 2),
    "rfft2 of lengths": (lambda x: torch.fft.rfft2(x, (4, 9)).abs(), 3),
    "fftn of lengths": (lambda x: torch.fft.fftn(x, s=(-1, 8), dim=(0, 1)).real, 3),
    "irfftn of lengths": (lambda x: torch.fft.irfftn(x, s=(5, 12), dim=(2, 1)), 3),
    "cdist": (lambda x: torch.cdist(x, x[1:] + 1), 2),
    "cdist of batches": (lambda x: torch.cdist(x, x.repeat(1, 8, 1)), 3),
    "kron": (lambda x: torch.kron(x, x.mT.contiguous()), 2),
    "kron of other ranks": (lambda x: torch.kron(x[0, 0], x), 3),
    "kron as a method": (lambda x: x[:, 0].kron(torch.arange(3.0)), 2),
    "gradient": (lambda x: torch.gradient(x), 2),
    "gradient along one": (lambda x: torch.gradient(x, spacing=0.5, dim=-1)[0], 3),
    "gradient by distances": (lambda x: torch.gradient(x, spacing=[2.0, 3.0], dim=[1, 0]), 2),
    "gradient at places": (
        lambda x: torch.gradient(x, spacing=[torch.arange(x.shape[1]) ** 2.0], dim=1), 2,
    ),
    "a chain of products": (lambda x: torch.linalg.multi_dot([x, x.mT, x, x.mT, x]), 2),
    "a chain with vectors": (lambda x: torch.linalg.multi_dot([x[0], x.mT, x, x[0]]), 2),
    "an old chain": (lambda x: torch.chain_matmul(x, x.mT, x), 2),
    "take_along_dim": (lambda x: torch.take_along_dim(x, x.argsort(1), 1), 2),
    "take_along_dim, beyond the end": (lambda x: x.take_along_dim(x.argsort(0), 1), 2),
    "take_along_dim of all": (lambda x: x.take_along_dim(x.argmax().reshape(1)), 2),
    "take_along_dim, broadcast": (lambda x: x.take_along_dim(x[:, :1].argsort(0), 0), 2),
    "numel of a shape": (lambda x: x / x.shape.numel() + x.size()[1:].numel(), 3),
    "numel of part of a shape": (lambda x: x.reshape(x.shape[:2].numel(), -1), 3),
    "numel of a made shape": (lambda x: torch.ones(torch.Size([*x.shape, 2]).numel()), 2),
    "group_norm by size": (lambda x: F.group_norm(x, x.shape[1]), 3),
    "group_norm of pairs": (
        lambda x: F.group_norm(torch.cat([x, x], 1), x.shape[1], x.new_ones(2 * x.shape[1])), 4,
    ),
    "trapezoid": (lambda x: torch.trapezoid(x, dx=1 / x.shape[1]), 2),
    "trapezoid of columns": (lambda x: torch.trapz(x, dx=x.shape[0], dim=0), 2),
    "cumulative_trapezoid": (lambda x: torch.cumulative_trapezoid(x, dx=1 / x.shape[1]), 2),
    "tensor_split": (lambda x: x.tensor_split(3, 1), 2),
    "tensor_split of more parts than rows": (lambda x: torch.tensor_split(x, 11), 2),
    "tensor_split, one part": (lambda x: x.tensor_split(4, -1)[2] * 2, 3),
    "tensor_split of a transpose": (lambda x: x.mT.tensor_split(2)[1].contiguous(), 2),
    "hsplit": (lambda x: torch.cat([x, x], 1).hsplit(2)[1] * 2, 2),
    "fftfreq": (lambda x: torch.fft.fftfreq(x.shape[0]), 2),
    "fftfreq of a step by size": (
        lambda x: torch.fft.fftfreq(x.shape[1], d=1 / x.shape[0], dtype=torch.float64), 2,
    ),
    "rfftfreq": (lambda x: torch.fft.rfftfreq(x.shape[0] + x.shape[1], 0.5), 2),
    "rfftfreq of a step by size": (lambda x: torch.fft.rfftfreq(x.shape[0], 1 / x.shape[1]), 2),
    "unravel_index": (lambda x: torch.unravel_index(x.argmax(), x.shape), 3),
    "unravel_index of all": (
        lambda x: torch.unravel_index(torch.arange(-3, x.numel()), (x.shape[1], x.shape[0])), 2,
    ),
    "unravel_index of a vector": (lambda x: torch.unravel_index(torch.arange(3), x.shape[0]), 2),
    "pad by a number": (lambda x: F.pad(x, (0, x.shape[0]), value=1 / x.shape[1]), 2),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x, scale=x.shape[-1] ** -0.5), 3),
    "resized between corners": (
        lambda x: F.interpolate(
            x, scale_factor=(x.shape[3] + 0.5) / 2, mode="bilinear", align_corners=True
        ), 4,
    ),
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
    "blocks, far apart": (lambda x: F.unfold(x, (x.shape[2] // 3, 2), dilation=(2, 1)), 4),
    "max with indices and a step": (
        lambda x: F.max_pool2d(x, (2, 3), x.shape[0], return_indices=True), 4,
    ),
    "gradient of second order": (lambda x: torch.gradient(x, edge_order=2), 2),
    "gradient of second order at places": (
        lambda x: torch.gradient(x, spacing=[torch.arange(x.shape[0]) ** 1.5], dim=0, edge_order=2),
        2,
    ),
    "quantile": (lambda x: x.quantile(1 / x.shape[0]), 2),
    "resized to a size": (
        lambda x: F.interpolate(x, scale_factor=16 / x.shape[2], recompute_scale_factor=True), 3,
    ),
    "diagonal": (lambda x: x.diagonal(x.shape[0] - 3), 2),
    "diagonal below": (lambda x: torch.diagonal(x, 2 - x.shape[0]), 2),
    "resized by a factor": (lambda x: F.interpolate(x, scale_factor=x.shape[2] / 4), 3),
    "resized by two factors": (
        lambda x: F.interpolate(x, scale_factor=(x.shape[2] / 4, 1.5), mode="nearest-exact"), 4,
    ),
    "square blocks": (lambda x: F.unfold(x, x.shape[2] // 3, stride=x.shape[2] // 3), 4),
    "max with indices of a volume": (
        lambda x: F.max_pool3d(x, (x.shape[2] // 2, 1, 2), return_indices=True), 5,
    ),
    "an eps by size": (lambda x: F.layer_norm(x, x.shape[1:], eps=1 / x.shape[0]), 3),
    "an eps by size, weighted": (
        lambda x: F.layer_norm(x, x.shape[1:], x[0], x[0] + 1, eps=1e-5 * x.shape[0]), 2,
    ),
    "no dropout": (lambda x: F.dropout(x, 1 / x.shape[0], False), 2),
    "resized along a line": (
        lambda x: F.interpolate(x, scale_factor=x.shape[0] / 4 + 0.1, mode="linear"), 3,
    ),
    "images resized by a factor": (
        lambda x: F.interpolate(x, scale_factor=(x.shape[0] + 0.1) / 2, mode="bilinear"), 4,
    ),
    "images resized to others": (
        lambda x: F.interpolate(
            x.mT, scale_factor=[(n + 0.1) / m for n, m in zip(x.shape[2:], x.mT.shape[2:])],
            mode="bicubic",
        ), 4,
    ),
    "images that are doubled": (
        lambda x: F.interpolate(x, scale_factor=(1 + 0.1 / x.shape[3], 2 + 0.1 / x.shape[3])), 4,
    ),
    "a volume resized by a factor": (
        lambda x: F.interpolate(x, scale_factor=x.shape[0] * 0.4 + 0.1, mode="trilinear"), 5,
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


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [1.05, 2.04, 0.97, 1.3, 2.3])
def test_a_size_that_stays_or_doubles_by_a_factor_that_does_not(mode: str, factor: float) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=factor, mode=mode)

    t = symfx.trace(f, torch.randn(1, 2, 9, 9), dynamic=((None, None, "h", "w"),))
    for shape in ((9, 9), (3, 5), (4, 7), (12, 20)):
        x = torch.randn(1, 2, *shape)
        torch.testing.assert_close(t(x), f(x), rtol=1e-4, atol=1e-5)


def test_numel_of_a_shape_outside_of_a_trace_is_torchs() -> None:
    before = torch.Size.numel
    symfx.trace(lambda x: x * x.shape.numel(), torch.randn(3, 4), dynamic=[("n", "m")])
    assert torch.Size.numel is before
    assert torch.Size((3, 4)).numel() == 12
    assert type(torch.Size((3, 4)).numel()) is int


def test_a_view_of_windows_is_a_view() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y.unfold(1, x.shape[1] // 2, x.shape[0]).mul_(2)
        y.diagonal(x.shape[1] - 3).zero_()
        return y

    t = symfx.trace(f, torch.randn(4, 7), dynamic=(("n", "m"),))
    for shape in ((4, 7), (5, 9), (3, 6), (20, 4)):
        x = torch.randn(shape)
        torch.testing.assert_close(t(x), f(x))


#: Numbers that torch's kernels draw or compute with as they are: the size is pinned, and told.
PINNED = {
    "dropout": lambda x: F.dropout(x, 1 / x.shape[0], True),
    "bins": lambda x: x.histc(x.shape[0]),
}


@pytest.mark.parametrize("name", PINNED)
def test_a_real_number_of_a_kernel_pins_the_size(name: str) -> None:
    f = PINNED[name]
    with pytest.raises(symfx.errors.TracingError, match="n, dimension 0 of x, to 5") as error:
        symfx.trace(f, torch.randn(5, 7), dynamic=(("n", None),))
    assert f'"{name}"' in str(error.value.where)


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
