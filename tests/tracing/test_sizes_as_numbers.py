"""Sizes used as Python numbers: a trace pins none of them, and needs no guard on them."""

from __future__ import annotations

import functools
import math
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx
import symfx.errors


def assign(index: Callable[..., Any], value: Any) -> Callable[..., torch.Tensor]:
    """A function of a tensor and more that assigns to an index of the tensor's copy."""

    def function(x: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[index(y, *rest)] = value(x) if callable(value) else value
        return y

    return function


def add_to_row(x: torch.Tensor, i: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[i.item()] += x[0]
    return y


def write_through_view(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y[x.shape[0] - 1].zero_()
    return y


def smaller(a: int, b: int) -> int:
    return min(a, b)


OF_ONE: dict[str, Callable[..., Any]] = {
    "last column": lambda x: x[:, x.shape[1] - 1],
    "middle row": lambda x: x[x.shape[0] // 2],
    "row from the end": lambda x: x[-(x.shape[0] // 2)],
    "index of unknown sign": lambda x: x[x.shape[0] - x.shape[1]],
    "ellipsis": lambda x: x[..., x.shape[1] - 1],
    "new dimension": lambda x: x[None, x.shape[0] - 1],
    "slice to a size": lambda x: x[:, : x.shape[1] // 2].sum(),
    "list with a size": lambda x: x[[x.shape[0] - 1, 0]],
    "index and mask": lambda x: x[:, x.shape[1] - 1][x[:, 0] > 0].sum(),
    "number and indices": lambda x: x[x.shape[0] - 1, torch.tensor([0, 1])],
    "argmax": lambda x: x[x[:, 0].argmax()],
    "slice by argmax": lambda x: x[:, : x[0].argmax() + 1].sum(),
    "assign a number": assign(lambda x: (slice(None), x.shape[1] - 1), 0),
    "assign a row": assign(lambda x: x[:, 0].argmax(), lambda x: x[0]),
    "assign with a leading 1": assign(lambda x: x.shape[0] - 1, lambda x: x[:1] * 2),
    "assign a size": assign(lambda x: x.shape[0] - 1, lambda x: x.shape[0]),
    "assign to indices": assign(lambda x: (x.shape[0] - 1, torch.tensor([0, 1])), 2.0),
    "write through a view": write_through_view,
    "max with a number": lambda x: x.new_zeros(max(x.shape[0], 16)),
    "max of sizes": lambda x: x.new_zeros(max(x.shape)),
    "max of an iterator": lambda x: x.new_zeros(max(n + 1 for n in x.shape)),
    "max of a list": lambda x: x.new_zeros(max(*x.shape, 3)),
    "min in a helper": lambda x: x.new_zeros(smaller(x.shape[0], x.shape[1])),
    "min as a value": lambda x: x.new_zeros(functools.reduce(min, x.shape)),
    "min in a comprehension": lambda x: x.new_zeros([min(n, 6) for n in x.shape]),
    "divmod": lambda x: x.new_zeros(divmod(x.shape[0], 2)),
    "sum": lambda x: x.new_zeros(sum(x.shape)),
    "math.prod": lambda x: x.new_zeros(math.prod(x.shape)),
    "math.sqrt": lambda x: x / math.sqrt(x.shape[0]),
    "math.ceil": lambda x: x.new_zeros(math.ceil(x.shape[0] / 2)),
    "math.floor": lambda x: x.new_zeros(math.floor(x.shape[0] * 0.75) + 1),
    "math.pow": lambda x: x * math.pow(x.shape[0], 2),
    "math.log2": lambda x: x * math.log2(x.shape[0]),
    "power": lambda x: x / x.shape[0] ** 0.5,
    "int of a float": lambda x: x.new_zeros(int(x.shape[0] * 0.75)),
    "int of a root": lambda x: x.new_zeros(int(math.sqrt(x.shape[0]))),
    "int": lambda x: x.new_zeros(int(x.shape[0])),
    "float": lambda x: x * float(x.shape[0]),
    "round": lambda x: x.new_zeros(round(x.shape[0] * 0.75)),
    "len": lambda x: x.new_zeros(len(x)),
    "tensor": lambda x: torch.tensor([x.shape[0], x.shape[1]]) * 2,
    "nested tensor": lambda x: torch.tensor([[x.shape[0], 1.5], [2, x.shape[1]]]) * 2,
    "tensor of one size": lambda x: x * torch.tensor(x.shape[0], dtype=x.dtype),
    "as_tensor": lambda x: torch.as_tensor(x.shape) * 2,
    "asarray": lambda x: torch.asarray([x.shape[0], 2]) * 2,
    "new_tensor": lambda x: x.new_tensor([x.shape[0], 2]) * 2,
    "linspace": lambda x: torch.linspace(0, 1, x.shape[0]) * 2,
    "linspace down": lambda x: torch.linspace(3, -1, x.shape[0], dtype=torch.float64) * 2,
    "hann_window": lambda x: torch.hann_window(x.shape[1]) * x,
    "hann_window, symmetric": lambda x: torch.hann_window(x.shape[1], periodic=False) * x,
    "hamming_window": lambda x: torch.hamming_window(x.shape[1]) * x,
    "bartlett_window": lambda x: torch.bartlett_window(x.shape[1]) * x,
    "blackman_window": lambda x: torch.blackman_window(x.shape[1]) * x,
    "kaiser_window": lambda x: torch.kaiser_window(x.shape[1]) * x,
}


@pytest.mark.parametrize("name", OF_ONE)
def test_a_size_as_a_number_is_neither_pinned_nor_guarded(name: str) -> None:
    f = OF_ONE[name]
    t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert [str(guard) for guard in t.guards] == []
    for n, m in ((5, 7), (4, 6), (9, 17), (18, 20), (7, 8)):
        x = torch.randn(n, m)
        assert t.check(x), t.check(x)
        torch.testing.assert_close(t.graph_module(x), f(x))


OF_INDEX: dict[str, Callable[..., Any]] = {
    "row": lambda x, i: x[i],
    "column": lambda x, i: x[:, i],
    "item": lambda x, i: x[i.item()],
    "item of a result": lambda x, i: x[(i * 1).item()],
    "slice to": lambda x, i: x[:, :i] * 1,
    "slice from": lambda x, i: x[i:] * 1,
    "row and slice": lambda x, i: x[i, 1:] * 1,
    "assign to a row": assign(lambda x, i: i, 1.0),
    "assign to a slice": assign(lambda x, i: (slice(None), slice(None, i)), 1.0),
    "assign a column": assign(lambda x, i: (slice(None), i), lambda x: x[:, 0]),
    "add to a row": add_to_row,
}


@pytest.mark.parametrize("name", OF_INDEX)
def test_an_index_in_a_tensor_is_neither_pinned_nor_guarded(name: str) -> None:
    f = OF_INDEX[name]
    t = symfx.trace(f, (torch.randn(5, 7), torch.tensor(2)), dynamic=(("n", "m"), None))
    assert [str(guard) for guard in t.guards] == []
    for n, m, i in ((5, 7, 2), (5, 7, 0), (6, 8, 4), (6, 8, -1), (2, 3, 1)):
        x, index = torch.randn(n, m), torch.tensor(i)
        assert t.check(x, index), t.check(x, index)
        torch.testing.assert_close(t.graph_module(x, index), f(x, index))


def test_a_number_in_data_sizes_a_result() -> None:
    def f(i: torch.Tensor) -> torch.Tensor:
        return torch.zeros(int(i.max()) + 1)

    t = symfx.trace(f, torch.tensor([1, 2, 0]), dynamic=(("n",),))
    assert not t.guards
    for values in ([1, 2, 0], [6, 1], [0, 0, 0, 3]):
        i = torch.tensor(values)
        assert t.graph_module(i).shape == f(i).shape


def test_the_least_of_a_number_and_one_in_data() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(min(5, (x > 0).sum().item()))

    t = symfx.trace(f, torch.ones(3, 2), dynamic=(("n", None),))
    for x in (torch.ones(4, 2), torch.ones(2, 2), -torch.ones(2, 2)):
        assert t.check(x)
        assert t.graph_module(x).shape == f(x).shape


def test_an_index_out_of_range_is_told() -> None:
    with pytest.raises(symfx.errors.SymfxError, match="out of"):
        symfx.trace(lambda x: x[x.shape[0]], torch.randn(5, 7), dynamic=(("n", "m"),))


def test_an_affine_grid_of_any_size() -> None:
    def f(theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        grid = F.affine_grid(theta, x.shape, align_corners=False)
        return F.grid_sample(x, grid, align_corners=False)

    dynamic = {"theta": ("b", None, None), "x": ("b", "c", "h", "w")}
    t = symfx.trace(f, (torch.randn(4, 2, 3), torch.randn(4, 3, 6, 7)), dynamic=dynamic)
    assert not t.guards
    for b, c, h, w in ((4, 3, 6, 7), (2, 5, 9, 3), (20, 2, 2, 2)):
        inputs = torch.randn(b, 2, 3), torch.randn(b, c, h, w)
        torch.testing.assert_close(t.graph_module(*inputs), f(*inputs))


@pytest.mark.parametrize("align_corners", [True, False])
def test_an_affine_grid_of_a_volume(align_corners: bool) -> None:
    def f(theta: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return F.affine_grid(theta, x.shape, align_corners=align_corners)

    dynamic = {"theta": ("b", None, None), "x": ("b", None, "d", "h", "w")}
    t = symfx.trace(f, (torch.randn(4, 3, 4), torch.randn(4, 3, 6, 7, 5)), dynamic=dynamic)
    assert not t.guards
    inputs = torch.randn(2, 3, 4), torch.randn(2, 3, 9, 4, 3)
    torch.testing.assert_close(t.graph_module(*inputs), f(*inputs))


def test_a_pool_over_the_whole_input() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.avg_pool2d(x, kernel_size=x.size()[2:])

    t = symfx.trace(f, torch.randn(2, 3, 6, 7), dynamic=((None, None, "h", "w"),))
    assert not t.guards
    x = torch.randn(2, 3, 9, 4)
    torch.testing.assert_close(t.graph_module(x), f(x))


@pytest.mark.parametrize("function", [torch.hann_window, torch.kaiser_window])
def test_a_window_of_one_element(function: Callable[[int], torch.Tensor]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return function(x.shape[0]) * x

    t = symfx.trace(f, torch.randn(4), dynamic=((symfx.Dim("n", min=1),),))
    x = torch.randn(1)
    assert t.check(x)
    torch.testing.assert_close(t.graph_module(x), f(x))


@functools.cache
def positions(n: int) -> torch.Tensor:
    return torch.arange(n)


class Cached(nn.Module):
    """A module with a cached method, one cached function of its own, and one of this file."""

    def __init__(self) -> None:
        super().__init__()
        self.own = functools.lru_cache(lambda n: torch.ones(n))

    @functools.lru_cache(maxsize=4)
    def scale(self, n: int) -> torch.Tensor:
        return torch.arange(n) + 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        return x * (self.scale(n) + positions(n) + self.own(n))[:, None]


def test_caches_by_size_are_passed_by_and_stay_as_they_were() -> None:
    model = Cached()
    positions.cache_clear()
    before = positions, Cached.scale, model.own
    t = symfx.trace(model, torch.randn(5, 7), dynamic=(("n", None),))
    assert not t.guards
    assert (positions, Cached.scale, model.own) == before
    assert positions.cache_info().currsize == 0
    x = torch.randn(8, 7)
    torch.testing.assert_close(t.graph_module(x), model(x))
    # A static size is no key of the cache either: the cache would hold a fake tensor.
    positions.cache_clear()
    symfx.trace(model, torch.randn(6, 7))
    assert type(positions(6)) is torch.Tensor


def test_a_trace_is_a_compilation_to_the_program() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if torch.compiler.is_compiling() else x * 3

    t = symfx.trace(f, torch.ones(2))
    assert t.graph_module(torch.ones(2)).tolist() == [2, 2]
    assert not torch.compiler.is_compiling()


def test_a_trace_is_an_export_to_the_program() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if torch.compiler.is_exporting() else x * 3

    t = symfx.trace(f, torch.ones(2))
    assert t.graph_module(torch.ones(2)).tolist() == [2, 2]
    assert not torch.compiler.is_exporting()


def test_another_thread_sees_no_compilation() -> None:
    seen: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def f(x: torch.Tensor) -> torch.Tensor:
        other = threading.Thread(target=lambda: seen.put(torch.compiler.is_compiling()))
        other.start()
        other.join()
        return x * 2

    symfx.trace(f, torch.ones(2))
    assert seen.get_nowait() is False


def test_functions_have_their_own_code_again() -> None:
    code = smaller.__code__
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.put(smaller.__code__ is code)
        return x.new_zeros(smaller(x.shape[0], 3))

    symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    assert seen.get_nowait() is False
    assert smaller.__code__ is code
    with pytest.raises(symfx.errors.SymfxError):
        symfx.trace(lambda x: x.new_zeros(smaller(x, "")), torch.randn(5))
    assert smaller.__code__ is code


def test_another_thread_computes_the_same_during_a_trace() -> None:
    results: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def f(x: torch.Tensor) -> torch.Tensor:
        other = threading.Thread(
            target=lambda: results.put((smaller(4, 3), positions(3), positions(3)))
        )
        other.start()
        other.join()
        return x.new_zeros(smaller(x.shape[0], 3))

    positions.cache_clear()
    symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
    least, first, second = results.get_nowait()
    assert least == 3
    assert type(first) is torch.Tensor
    assert first is second  # the cache serves threads that do not trace


def test_traces_in_two_threads_share_the_code() -> None:
    code = smaller.__code__
    inside = threading.Barrier(2, timeout=60)
    found: list[list[str]] = []

    def f(x: torch.Tensor) -> torch.Tensor:
        inside.wait()
        return x.new_zeros(smaller(x.shape[0], 3))

    def run() -> None:
        t = symfx.trace(f, torch.randn(5, 7), dynamic=(("n", "m"),))
        found.append([str(guard) for guard in t.guards])

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[], []]
    assert smaller.__code__ is code


@pytest.mark.parametrize(
    "use", ["x.new_zeros(max(x.shape[0], 16))", "x.max() * max(x.shape[0], 16)"]
)
@pytest.mark.parametrize("first", [True, False])
def test_many_names_beside_the_function(use: str, first: bool) -> None:
    # The number of a name beyond the 127th needs two bytes.
    lines = [f"x = x + c{i}" for i in range(200)]
    lines.insert(0 if first else 200, f"y = {use}")
    scope: dict[str, Any] = {f"c{i}": 1 for i in range(200)}
    exec("def f(x):\n    " + "\n    ".join(lines) + "\n    return y, x", scope)
    t = symfx.trace(scope["f"], torch.randn(5, 7), dynamic=(("n", "m"),))
    # One byte is too small where `x.max` keeps the name's own number.
    assert len(t.guards) == (first and "x.max" in use)
    x = torch.randn(6, 7)
    torch.testing.assert_close(t.graph_module(x), scope["f"](x))


@pytest.mark.parametrize(
    "values", [(3, 2.5), (True, 2), ("a", "b"), ([1], [0, 5]), (1.0, float("nan"))]
)
def test_ordinary_arguments_reach_pythons_own_function(values: tuple[Any, Any]) -> None:
    expected = repr((max(values), min(*values)))
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def f(x: torch.Tensor) -> torch.Tensor:
        seen.put(repr((max(values), min(*values))))
        seen.put(repr((max([], default=4), max(values, key=lambda v: 0), int("7", 8))))
        return x * 1

    symfx.trace(f, torch.randn(3), dynamic=(("n",),))
    assert seen.get_nowait() == expected
    assert seen.get_nowait() == repr((4, values[0], 7))


def test_arguments_that_a_form_does_not_know_are_left_to_torch() -> None:
    def pooled(x: torch.Tensor) -> torch.Tensor:
        return torch._C._nn.avg_pool2d(x, 2, out=torch.empty(0)) + F.avg_pool2d(
            input=x, kernel_size=2
        )

    x = torch.randn(2, 3, 4, 6)
    traced = symfx.trace(pooled, (x,))
    assert torch.equal(traced.graph_module(x), pooled(x))
