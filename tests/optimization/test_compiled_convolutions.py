"""The compiled convolutions against torch's operators in double precision, at random shapes."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from symfx.optimization.runtime import compiled
from symfx.optimization.runtime.activations import PostOp
from symfx.optimization.runtime.compiled_conv import Gathered, Tiled
from symfx.optimization.runtime.conv_form import ConvForm
from symfx.optimization.runtime.conv_kernels import (
    DEPTHWISE,
    GATHERED,
    TILES_OF_2,
    TILES_OF_4,
    make_kernel,
    other_ways,
)
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.layers import Layer, MaxPool

needs_compiler = pytest.mark.skipif(compiled.compiler() is None, reason="there is no C compiler")


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.no_grad():
        yield


POSTS = [
    PostOp("none"),
    PostOp("relu"),
    PostOp("swish"),
    PostOp("gelu", (), "none"),
    PostOp("gelu", (), "tanh"),
    PostOp("tanh"),
    PostOp("hardtanh", (0.0, 6.0)),
]


@needs_compiler
@pytest.mark.parametrize("post", [*POSTS[:3], POSTS[-1]], ids=str)
def test_depthwise_convolutions(post: PostOp) -> None:
    draw = random.Random(str(post))
    channels = 32
    for turn in range(30):
        size = draw.choice([(3, 3), (5, 5), (1, 3), (2, 2), (7, 1)])
        stride, dilation = draw.choice([[1, 1], [2, 2], [1, 2]]), draw.choice([[1, 1], [2, 1]])
        padding = draw.choice([[0, 0], [1, 1], [3, 2]])
        x = torch.randn(draw.choice([1, 3]), channels, draw.choice([14, 15]), 13)
        weight = torch.randn(channels, 1, *size)
        bias = torch.randn(channels) if turn % 2 else None
        form = ConvForm(
            weight, bias, stride, padding, dilation, [0, 0], channels, False, post, None
        )
        assert other_ways(form, x.shape) == [DEPTHWISE]
        exact = F.conv2d(
            x.double(),
            weight.double(),
            None if bias is None else bias.double(),
            stride,
            padding,
            dilation,
            channels,
        )
        other = torch.randn(exact.shape) if turn % 3 == 0 else None
        kernel = make_kernel(DEPTHWISE, form, x.shape, ())
        found = kernel(x, None if other is None else other.clone(), False)
        exact = exact if other is None else exact + other
        exact = post.function(exact) if post.function else exact
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, exact.float(), rtol=1e-4, atol=1e-5)
    x[0, 3, 4, 5] = torch.nan
    plain = F.conv2d(x, weight, bias, stride, padding, dilation, channels)
    expected = post.apply_to(plain)
    found = make_kernel(DEPTHWISE, form, x.shape, ())(x, None, False)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


OPTIONS = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
CONVOLVED = [GATHERED, TILES_OF_2, TILES_OF_4]


def exactly(form: ConvForm, x: Tensor, other: Tensor | None) -> Tensor:
    """A convolution in double precision."""
    places = form.stride, form.padding, form.dilation
    bias = None if form.bias is None else form.bias.double()
    found = F.conv2d(x.double(), form.weight.double(), bias, *places)
    found = found if other is None else found + other
    found = form.post.function(found) if form.post.function else found
    return (form.pool.function(found) if form.pool else found).float()


def compare(way: str, form: ConvForm, x: Tensor, other: Tensor | None = None) -> None:
    kept = x.clone()
    given = None if other is None else other.clone()
    found = make_kernel(way, form, x.shape, ())(x, given, False)
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found, exactly(form, x, other), rtol=1e-4, atol=5e-5)
    assert torch.equal(x, kept) and (other is None or torch.equal(given, other))


def image(draw: random.Random, *shape: int) -> Tensor:
    """An image in one of several layouts: dense, channels last, with gaps, transposed."""
    layout = draw.choice(["dense", "last", "gaps", "turned", "expanded"])
    if layout == "gaps":
        return torch.randn(shape[0], shape[1] + 3, *shape[2:])[:, 2:-1]
    if layout == "turned":
        return torch.randn(shape[0], shape[1], shape[3], shape[2]).transpose(2, 3)
    if layout == "expanded":
        return torch.randn(1, *shape[1:]).expand(shape)
    x = torch.randn(shape)
    return x.contiguous(memory_format=torch.channels_last) if layout == "last" else x


@needs_compiler
@pytest.mark.parametrize("post", POSTS, ids=str)
def test_direct_convolutions(post: PostOp) -> None:
    draw = random.Random(str(post))
    for turn in range(60):
        channels = draw.choice([1, 2, 3, 4, 5, 16, 17, 40, 70, 300])
        wide = draw.choice([1, 3, 16, 20, 32, 64, 65, 100])
        size = draw.choice([(1, 1), (3, 3), (5, 5), (1, 3), (2, 2), (7, 1), (7, 7)])
        stride, dilation = (
            draw.choice([[1, 1], [2, 2], [1, 3]]),
            draw.choice([[1, 1], [2, 1], [1, 2]]),
        )
        padding = draw.choice([[0, 0], [1, 1], [3, 2], [0, 4]])
        reach = [g * (k - 1) + 1 for g, k in zip(dilation, size, strict=True)]
        sides = [
            max(draw.choice([1, 2, 6, 7, 13, 20]), r - 2 * p)
            for r, p in zip(reach, padding, strict=True)
        ]
        x = image(draw, draw.choice([1, 2, 5]), channels, *sides)
        weight = torch.randn(wide, channels, *size) / (channels * size[0] * size[1]) ** 0.5
        bias = torch.randn(wide) if turn % 3 else None
        form = ConvForm(weight, bias, stride, padding, dilation, [0, 0], 1, False, post, None)
        other = torch.randn(x.shape[0], wide, *form.sides(x.shape)) if turn % 2 else None
        compare(GATHERED, form, x, other)


@needs_compiler
@pytest.mark.parametrize("way", [TILES_OF_2, TILES_OF_4])
@pytest.mark.parametrize("post", POSTS, ids=str)
def test_winograd_convolutions(way: str, post: PostOp) -> None:
    draw = random.Random(str(post) + way)
    for turn in range(40):
        channels, wide = draw.choice([16, 32, 48, 144]), draw.choice([16, 32, 80, 128])
        padding = draw.choice([[0, 0], [1, 1], [2, 0], [0, 3]])
        sides = [max(draw.choice([1, 2, 3, 4, 7, 14, 23]), 3 - 2 * pad) for pad in padding]
        x = image(draw, draw.choice([1, 2, 5, 9]), channels, *sides)
        weight = torch.randn(wide, channels, 3, 3) / (9 * channels) ** 0.5
        bias = torch.randn(wide) if turn % 3 else None
        form = ConvForm(weight, bias, [1, 1], padding, [1, 1], [0, 0], 1, False, post, None)
        other = torch.randn(x.shape[0], wide, *form.sides(x.shape)) if turn % 2 else None
        compare(way, form, x, other)


@needs_compiler
@pytest.mark.parametrize("way", CONVOLVED)
@pytest.mark.parametrize("number", [torch.nan, torch.inf, -torch.inf, 1e38, 1e-40])
@pytest.mark.parametrize("post", [POSTS[0], POSTS[1], POSTS[-1]], ids=str)
def test_convolutions_of_numbers_at_the_limits(way: str, number: float, post: PostOp) -> None:
    x, weight = torch.randn(2, 16, 9, 11), torch.randn(32, 16, 3, 3)
    x[0, 3, 4, 5] = number
    if abs(number) < 1:
        x *= number
    form = ConvForm(weight, None, [1, 1], [1, 1], [1, 1], [0, 0], 1, False, post, None)
    found = make_kernel(way, form, x.shape, ())(x, None, False)
    expected = post.apply_to(F.conv2d(x, weight, None, 1, 1))
    # Results that are no normal numbers have fewer digits.
    least = float(expected[expected.isfinite()].abs().max()) * 1e-5 + 1e-41
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=least, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("way", CONVOLVED)
def test_pooling_behind_convolutions(way: str) -> None:
    draw = random.Random(way)
    for _ in range(20):
        kernel = draw.choice([(2, 2), (3, 3), (3, 2)])
        stride, padding = draw.choice([(1, 1), (2, 2), (3, 2)]), draw.choice([(0, 0), (1, 1)])
        pool = MaxPool(kernel, stride, padding, draw.random() < 0.5)
        x = image(draw, 2, 16, draw.choice([7, 12, 13]), draw.choice([8, 9]))
        wide = draw.choice([16, 48])
        weight = torch.randn(wide, 16, 3, 3) / 12
        post = draw.choice(POSTS)
        form = ConvForm(weight, None, [1, 1], [1, 1], [1, 1], [0, 0], 1, False, post, pool)
        compare(way, form, x)
    x[0, 0, 3, 4] = torch.nan
    found = make_kernel(GATHERED, form, x.shape, ())(x, None, False)
    expected = pool.function(post.apply_to(F.conv2d(x, weight, None, 1, 1)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@needs_compiler
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("way", CONVOLVED)
def test_convolutions_on_several_threads(way: str, threads: int) -> None:
    draw = random.Random(threads)
    before = torch.get_num_threads()
    for sides, channels in (((3, 3), 64), ((7, 7), 256), ((14, 13), 128), ((60, 50), 32)):
        x = image(draw, draw.choice([1, 3]), channels, *sides)
        weight = torch.randn(96, channels, 3, 3) / channels**0.5
        form = ConvForm(weight, None, [1, 1], [1, 1], [1, 1], [0, 0], 1, False, POSTS[1], None)
        kernel = make_kernel(way, form, x.shape, ())
        alone = kernel(x, None, False)
        try:
            torch.set_num_threads(threads)
            together = kernel(x, None, False)
        finally:
            torch.set_num_threads(before)
        torch.testing.assert_close(together, alone, rtol=0, atol=0)


@needs_compiler
def test_the_ways_to_compute_a_convolution() -> None:
    def ways(sides: tuple[int, int], channels: int = 64, **changes: Any) -> list[str]:
        weight = torch.randn(channels, channels, 3, 3)
        plain = ConvForm(weight, None, [1, 1], [1, 1], [1, 1], [0, 0], 1, False, POSTS[0], None)
        form = dataclasses.replace(plain, **changes)
        return other_ways(form, (1, channels, *sides))

    assert ways((56, 56)) == [TILES_OF_4, GATHERED]
    assert ways((14, 14)) == [TILES_OF_2, GATHERED]
    # The weights of all places of a tile would take longer to read than the products they save.
    assert ways((2, 2)) == [GATHERED]
    assert ways((56, 56), 18) == [GATHERED]
    assert ways((56, 56), stride=[2, 2]) == [GATHERED]
    assert ways((56, 56), groups=2) == []


def test_sizes_of_poolings() -> None:
    sides, kernels = range(1, 14), (1, 2, 3, 5)
    for side, size, step, pad, ceil in itertools.product(
        sides, kernels, (1, 2, 3, 4), (0, 1, 2), (False, True)
    ):
        if pad > size // 2 or side + 2 * pad < size:
            continue  # torch refuses them
        pool = MaxPool((size, 1), (step, 1), (pad, 0), ceil)
        expected = pool.function(torch.zeros(1, 1, side, 4)).shape[2:]
        assert pool.sides((side, 4)) == list(expected)


@needs_compiler
def test_other_shapes_share_the_packed_weight() -> None:
    conv = FusedConv(
        Layer(nn.Conv2d, torch.randn(64, 64, 3, 3), None, OPTIONS), POSTS[0], adds=False
    )
    conv.choose(torch.Size([1, 64, 56, 56]), TILES_OF_4)
    kernels = [conv.kernel(torch.Size(shape)) for shape in ((1, 64, 56, 56), (9, 64, 30, 33))]
    assert isinstance(kernels[0], Tiled) and isinstance(kernels[1], Tiled)
    assert kernels[0].packed is kernels[1].packed
    assert isinstance(conv.kernel(torch.Size([1, 64, 2, 2])), Gathered)
    for shape in ((9, 64, 30, 33), (1, 64, 2, 2)):
        x = torch.randn(shape)
        found, expected = conv(x), F.conv2d(x, conv.weight, None, 1, 1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
