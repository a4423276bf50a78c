"""Inputs that differ in ways on which the graph does not depend, and parts of split tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import symfx

STORAGE = torch.arange(80.0).view(20, 4)


@pytest.mark.parametrize(
    "program",
    [
        torch.relu,
        lambda x: x[1:].reshape(-1) * 2,
        lambda x: x.t().contiguous(),
        lambda x: x @ x.t(),
        lambda x: x.view(torch.int32) + 1,
    ],
)
@pytest.mark.parametrize(("traced", "given"), [(0, 8), (8, 0), (0, 3), (5, 9)])
def test_any_storage_offset_is_admitted(
    program: Callable[..., Any], traced: int, given: int
) -> None:
    t = symfx.trace(program, STORAGE[traced : traced + 6], dynamic=[("n", None)])
    x = STORAGE[given : given + 8]
    assert t.check(x)
    torch.testing.assert_close(t(x), program(x))


@pytest.mark.parametrize(
    "program",
    [
        lambda x: x + x.storage_offset(),
        lambda x: torch.full((2,), x[1:].storage_offset()),
        lambda x: torch.as_strided(x, (3, 4), (4, 1), 0),
    ],
)
def test_the_storage_offset_counts_where_the_program_depends_on_it(
    program: Callable[..., Any],
) -> None:
    t = symfx.trace(program, STORAGE[:6], dynamic=[("n", None)])
    assert t.check(STORAGE[:8])
    assert not t.check(STORAGE[8:16])


@pytest.mark.parametrize(
    "program",
    [
        lambda x, b: x[: b.item()] * 2,
        lambda x, b: x[b.item() :].exp(),
        lambda x, b: x[: int(b)].sum(0),
    ],
)
def test_a_slice_up_to_an_input_tensor(program: Callable[..., Any]) -> None:
    t = symfx.trace(program, (torch.randn(6, 3), torch.tensor(3)), dynamic=[("n", None), None])
    for n, b in ((6, 3), (6, 0), (6, 1), (4, 9), (2, 2)):
        args = torch.randn(n, 3), torch.tensor(b)
        assert t.check(*args)
        torch.testing.assert_close(t(*args), program(*args))
    refused = t.check(torch.randn(6, 3), torch.tensor(-2))
    assert not refused
    assert "b is -2" in str(refused)


PARTS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "first": (lambda x: x.split(2, 1)[0] * 2, []),
    "second": (lambda x: torch.split(x, 2, 1)[1] * 2, ["n >= 3"]),
    "last": (lambda x: x.split(2, 1)[-1] * 2, []),
    "chunk": (lambda x: x.chunk(4, dim=1)[0] * 2, []),
    "row": (lambda x: x.unbind(1)[2] * 2, ["n >= 3"]),
    "all": (lambda x: x.split(2, 1), ["n >= 5", "n <= 6"]),
    "joined": (lambda x: torch.cat(x.split(2, 1)[::-1], 1), ["n >= 5", "n <= 6"]),
    "joined by name": (lambda x: torch.cat(tensors=x.split(2, 1), dim=1), ["n >= 5", "n <= 6"]),
    "listed": (lambda x: [p * 2 for p in x.split(2, 1)], ["n >= 5", "n <= 6"]),
    "unpacked": (lambda x: torch.stack([*x.unbind(1)]), ["n == 6"]),
    "counted": (lambda x: x * len(x.unbind(1)), ["n == 6"]),
    "added": (lambda x: torch.cat(x.split(2, 1).__add__((x,)), 1), ["n >= 5", "n <= 6"]),
    "nested": (lambda x: {"parts": (x.split(2, 1), x)}, ["n >= 5", "n <= 6"]),
    "written": (lambda x: x.clone().split(2, 1)[0].add_(1), []),
}


@pytest.mark.parametrize("name", PARTS)
def test_the_number_of_parts_is_guarded_where_the_program_sees_it(name: str) -> None:
    program, guards = PARTS[name]
    t = symfx.trace(program, torch.randn(3, 6), dynamic=[("b", "n")], strict=False)
    assert [str(g.term) for g in t.guards] == guards
    admitted = 0
    for n in range(2, 12):
        x = torch.randn(2, n)
        if t.check(x):
            admitted += 1
            torch.testing.assert_close(t(x), program(x))
    assert admitted


def test_a_part_that_is_not_there_is_an_error() -> None:
    with pytest.raises(symfx.TracingError, match="index out of range"):
        symfx.trace(lambda x: x.split(2, 1)[7], torch.randn(3, 6), dynamic=[("b", "n")])


def test_writing_to_a_reshaped_tensor_guards_whether_it_is_a_view() -> None:
    def program(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = x[:, :3].transpose(0, 1).clone()
        z = y[:, 1:].reshape(-1)
        z.add_(1)
        return y, z

    t = symfx.trace(program, torch.randn(4, 5), dynamic=[(symfx.Dim("n", min=2), None)])
    for n in range(2, 8):
        x = torch.randn(n, 5)
        if t.check(x):
            for one, other in zip(t(x), program(x), strict=True):
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    "program",
    [
        lambda x: torch.full((2,), x.squeeze()[1:].reshape(-1).storage_offset()),
        lambda x: x[1:].reshape(-1).as_strided((3,), (1,), 0),
        lambda x: x[1:].flatten().detach().storage_offset() + x,
    ],
)
def test_the_place_of_a_reshaped_tensor_in_memory_guards_whether_it_is_a_view(
    program: Callable[..., Any],
) -> None:
    storage = torch.arange(80.0).view(16, 5)
    t = symfx.trace(program, storage[:4, :3], dynamic=[("n", None)])
    for n in range(2, 8):
        x = storage[:n, :3]
        if t.check(x):
            torch.testing.assert_close(t(x), program(x))


def test_the_format_of_a_tensor_without_elements_is_not_foreseen() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, int]:
        z = y[y > 0] + x
        return z, int(z.is_contiguous(memory_format=torch.channels_last))

    x, y = torch.randn(3, 1, 1, 1), torch.tensor([1.0, 2.0, -1.0])
    t = symfx.trace(program, (x, y), dynamic=[("a", None, None, None), ("n",)])
    assert t(x, y)[1] == program(x, y)[1]
    with pytest.raises(RuntimeError, match="does not hold"):
        t(x, -y.abs())


def _flat_and_contiguous(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    return x.flatten(0, 1), int(x.is_contiguous())


def _flat_twice(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.flatten(), x.contiguous().transpose(0, 1).flatten()


@pytest.mark.parametrize("program", [_flat_and_contiguous, _flat_twice])
@pytest.mark.parametrize(("a", "b"), [(3, 4), (3, 1), (2, 1)])
def test_answers_of_a_trial_are_not_kept_on_the_tensor(
    program: Callable[..., Any], a: int, b: int
) -> None:
    def made(a: int, b: int) -> torch.Tensor:
        return torch.randn(a, a, b, 1).expand(a, a, b, b)

    n, m = symfx.Dim("n", min=2), symfx.Dim("m", min=1)
    t = symfx.trace(program, made(a, b), dynamic=[(n, n, m, m)], strict=False)
    for sizes in ((3, 4), (3, 1), (2, 1), (5, 2)):
        x = made(*sizes)
        if t.check(x):
            for one, other in zip(t(x), program(x), strict=True):
                assert one.shape == other.shape if isinstance(one, torch.Tensor) else one == other


@pytest.mark.parametrize("a", [1, 2])
@pytest.mark.parametrize("shape", [(-1,), (1, -1), (-1, 1)])
def test_no_view_merges_dimensions_across_one_of_size_1(a: int, shape: tuple[int, ...]) -> None:
    def made(a: int, b: int) -> torch.Tensor:
        return torch.randn(1, 1, a + 1, b)[:, :, 1:].permute(0, 3, 1, 2)

    n, m = symfx.Dim("n", min=1), symfx.Dim("m", min=1)
    t = symfx.trace(
        lambda x: x.reshape(shape), made(a, 3), dynamic=[(None, n, None, m)], strict=False
    )
    for sizes in ((1, 3), (2, 3), (2, 4), (1, 5), (3, 1)):
        x = made(*sizes)
        if t.check(x):
            torch.testing.assert_close(t(x), x.reshape(shape))


@pytest.mark.parametrize("b", [1, 3])
def test_a_view_of_a_slice_to_a_bound_is_guarded(b: int) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()[..., :3]
        return y.new_empty_strided(y.size(), y.stride()).fill_(1).flatten()

    n, m = symfx.Dim("n", min=2), symfx.Dim("m", min=0)
    # The guard at a size of 1 is a pin.
    dynamic = [("c", n, m, m)]
    t = symfx.trace(program, torch.randn(4, 6, b, b), dynamic=dynamic, strict=False)
    for m_now in (1, 2, 3, 7):
        x = torch.randn(2, 2, m_now, m_now)
        if t.check(x):
            torch.testing.assert_close(t(x), program(x))
