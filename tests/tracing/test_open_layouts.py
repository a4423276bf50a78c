"""Strides that nothing depends on: no guards, and inputs of any layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import symfx
from symfx import Dim

A, B, C = Dim("a", min=1), Dim("b", min=0), Dim("c", min=1)


def numbers(*size: int) -> torch.Tensor:
    return torch.arange(torch.Size(size).numel(), dtype=torch.float64).view(size) - 7


def gaps(*size: int) -> torch.Tensor:
    """A tensor whose rows lie apart."""
    return numbers(*size[:-1], size[-1] + 3)[..., : size[-1]]


def trace(function: Callable[..., Any], example: torch.Tensor, *dims: Any) -> symfx.Trace:
    # Dimensions of one element in the example are dynamic here, which `strict` refuses.
    return symfx.trace(function, example, dynamic=[dims], strict=False)


def agrees(function: Callable[..., Any], t: symfx.Trace, *inputs: torch.Tensor) -> None:
    for x in inputs:
        assert t.check(x), f"{tuple(x.shape)} {x.stride()}: {t.check(x)}"
        expected, actual = function(x), t(x)
        if not isinstance(expected, tuple):
            expected, actual = (expected,), (actual,)
        for one, other in zip(expected, actual, strict=True):
            if not isinstance(one, torch.Tensor):
                assert one == other
                continue
            assert torch.equal(one, other)
            if one.numel():
                pairs = zip(one.shape, one.stride(), other.stride(), strict=True)
                assert all(n == 1 or s == t for n, s, t in pairs)


@pytest.mark.parametrize(
    "asked",
    [
        lambda y: y.stride(0),
        lambda y: y.stride(),
        lambda y: 2 * y.stride(0) + y.stride(1),
        lambda y: max(y.stride(0), 3),
        lambda y: y[1:].storage_offset(),
        lambda y: y[:, 1:].storage_offset() // 2,
        lambda y: torch.as_strided(y, y.size(), y.stride()),
        lambda y: torch.as_strided(y, y.size(), y.stride()).flip(0),
        lambda y: y.new_empty_strided(y.size(), y.stride()).fill_(1),
    ],
)
@pytest.mark.parametrize(
    "made", [lambda x: x, lambda x: x.flip(0), lambda x: x[::2].relu(), lambda x: x.mT.clone().mT]
)
def test_a_stride_that_is_returned_or_computed_with_guards_nothing(
    made: Callable[..., Any], asked: Callable[..., Any]
) -> None:
    def function(x: torch.Tensor) -> Any:
        y = made(x)
        return y, asked(y)

    t = trace(function, gaps(6, 5), A, None)
    assert [str(guard.term) for guard in t.guards] == []
    agrees(function, t, gaps(6, 5), gaps(1, 5), gaps(3, 5))


def test_a_stride_that_the_program_branches_on_is_guarded() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x[::2].flip(0)
        return y * 2 if y.stride(0) >= 5 else y - 1

    t = trace(function, gaps(6, 5), A, None)
    agrees(function, t, gaps(6, 5), gaps(3, 5))
    refused = t.check(gaps(1, 5).as_strided((1, 5), (2, 1)))
    assert not refused or torch.equal(t(gaps(1, 5)), function(gaps(1, 5)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum(0),
        lambda x: (x.softmax(1), x.stride(0)),
        lambda x: x * 2,
        lambda x: (x.clone(), x.flip(1)),
        lambda x: torch.where(x > 0, x, 1.0).cumsum(0),
        lambda x: (x[:, 1:].exp(), x.shape),
    ],
)
def test_an_input_traced_at_size_1_may_have_any_layout_at_others(
    function: Callable[..., Any],
) -> None:
    t = trace(function, numbers(1, 4), A, C)
    assert not t.guards
    rows = torch.ones(5, 1, dtype=torch.float64).expand(5, 3)
    agrees(function, t, numbers(1, 4), numbers(6, 3), numbers(3, 6).mT, gaps(4, 3), rows)


def test_an_input_traced_at_size_1_has_the_traced_layout_where_the_program_needs_it() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return x.view(-1) * 2

    t = trace(function, numbers(1, 4), A, C)
    agrees(function, t, numbers(1, 4), numbers(6, 3))
    assert "strides of x" in str(t.check(numbers(3, 6).mT))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * 2,
        lambda x: x > 0,
        lambda x: x.clone(),
        lambda x: torch.zeros_like(x),
        lambda x: x[..., ::2].sign(),
        lambda x: x.flip(0) + x,
        lambda x: torch.atan2(x, x.exp()),
    ],
)
@pytest.mark.parametrize("permuted", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_kernels_that_keep_the_order_of_strides_guard_nothing(
    function: Callable[..., Any], permuted: tuple[int, ...]
) -> None:
    def of_permuted(x: torch.Tensor) -> Any:
        return function(x.permute(permuted))

    t = trace(of_permuted, gaps(4, 5, 3), A, B, C)
    assert [str(guard.term) for guard in t.guards] == []
    inputs = [gaps(a, b, c) for a in (1, 2, 5) for b in (0, 1, 3) for c in (1, 2, 4)]
    agrees(of_permuted, t, *inputs, numbers(5, 2, 4).permute(2, 0, 1).contiguous())


def test_a_view_of_such_a_result_needs_the_order() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * 2).view(-1)

    t = trace(function, gaps(4, 5, 3), A, C, None)
    assert t.guards
    agrees(function, t, gaps(4, 5, 3), gaps(2, 3, 3))
    # The stride of a dimension of one element means nothing: others than its own fit.
    agrees(function, t, gaps(4, 1, 3), gaps(1, 3, 3))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.clone().transpose_(0, 1),
        lambda x: x.clone().unsqueeze_(1),
        lambda x: x.clone().swapaxes_(0, -1),
        lambda x: x.mT.relu()[:, 1:].clone().unsqueeze_(0),
        lambda x: x.clone().t_(),
    ],
)
def test_views_in_place_guard_nothing(function: Callable[..., Any]) -> None:
    t = trace(function, numbers(4, 5), B, C)
    assert not t.guards
    agrees(function, t, numbers(4, 5), numbers(1, 5), numbers(0, 3), numbers(3, 1))


def test_a_tensor_that_is_row_major_is_its_own_copy_without_guards() -> None:
    def function(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x.contiguous()
        y.add_(1)
        return torch.as_strided(y, (2,), (1,)), x

    t = trace(function, numbers(4, 5), A, Dim("d", min=2))
    assert not t.guards
    for size in ((4, 5), (1, 5), (1, 2), (3, 2)):
        expected, actual = function(numbers(*size)), t(numbers(*size))
        assert all(map(torch.equal, expected, actual))


@pytest.mark.parametrize(
    "parts",
    [
        lambda x: x.chunk(2, 2),
        lambda x: x.chunk(2, -1),
        lambda x: x.split(1, 0),
        lambda x: x.split(2, 1),
        lambda x: x.split(x.shape[2] - 1, 2),
        lambda x: x.split([1, x.shape[2] - 1], dim=2),
        lambda x: x.tensor_split(2, 2),
    ],
)
def test_the_offset_of_a_part_follows_the_dimension_that_is_split(
    parts: Callable[[torch.Tensor], Any],
) -> None:
    def function(x: torch.Tensor) -> int:
        return int(parts(x)[1].storage_offset())

    t = symfx.trace(
        function, numbers(2, 4, 6), dynamic=[(None, None, Dim("n", min=3))], strict=False
    )
    for x in (numbers(2, 4, 6), numbers(2, 4, 5), numbers(2, 4, 3), gaps(2, 4, 5)):
        # A trace may refuse another layout, or another number of parts; it is never wrong.
        if t.check(x):
            assert t(x) == function(x)
    assert t.check(numbers(2, 4, 4))
    assert t(numbers(2, 4, 4)) == function(numbers(2, 4, 4))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.sum().clone().swapaxes_(0, -1).unsqueeze(0).stride(0),
        lambda x: x.sum().transpose(0, 0).clone().storage_offset(),
        lambda x: x.sum().transpose(0, -1).expand(3).stride(),
        lambda x: x.sum().permute(()).view(1, 1).stride(),
        lambda x: x.sum().squeeze(0)[None].storage_offset(),
        lambda x: x.sum().t().unsqueeze(-1).stride(-1),
    ],
)
def test_views_of_a_number_have_no_dimension_to_move(function: Callable[..., Any]) -> None:
    t = trace(function, numbers(4), A)
    for n in (1, 2, 5):
        assert t(numbers(n)) == function(numbers(n))
