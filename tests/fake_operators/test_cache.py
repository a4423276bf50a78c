"""The operation cache answers as running the operator would."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx

from symfx.fake_operators import cache as cache_module
from symfx.proxy_tensor import make_fx

MODES = ("fake", "symbolic")


def description(value: Any) -> Any:
    def number(n: Any) -> Any:
        return n.node.hint if isinstance(n, torch.SymInt) else n

    if not isinstance(value, torch.Tensor):
        return value
    return (
        [number(n) for n in value.shape],
        [number(n) for n in value.stride()],
        number(value.storage_offset()),
        value.dtype,
        number(value.untyped_storage().nbytes()),
        value.is_inference(),
    )


def vals(graph: fx.Graph) -> list[Any]:
    return [
        description(n.meta.get("val"))
        for n in graph.nodes
        if n.op == "call_function" and "sym" not in n.name and n.op != "get_attr"
    ]


def both(f: Callable[..., Any], *args: Any, mode: str = "fake") -> fx.GraphModule:
    """Trace with both tracers, every operator twice so that the second is a hit."""
    ours = make_fx(f, tracing_mode=mode)(*args)
    stock = stock_make_fx(f, tracing_mode=mode)(*args)
    if mode == "fake":
        assert vals(ours.graph) == vals(stock.graph)
    torch.testing.assert_close(ours(*args), f(*args))
    return ours


@pytest.fixture
def caches(monkeypatch: pytest.MonkeyPatch) -> list[cache_module.OperationCache]:
    made: list[cache_module.OperationCache] = []
    init = cache_module.OperationCache.__init__

    def remembered(self: Any, *args: Any) -> None:
        init(self, *args)
        made.append(self)

    monkeypatch.setattr(cache_module.OperationCache, "__init__", remembered)
    return made


@pytest.mark.parametrize("mode", MODES)
def test_equal_layers_are_hits(mode: str, caches: list[Any]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        for _ in range(20):
            x = (x.sin() + x).t().contiguous().t().relu()
        return x

    make_fx(f, tracing_mode=mode)(torch.ones(3, 4))
    (cache,) = caches
    assert cache.hits >= 90
    assert cache.bypasses == 0


@pytest.mark.parametrize("mode", MODES)
def test_strides_are_part_of_the_key(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        y = x.to(memory_format=torch.channels_last)
        z = x.permute(2, 3, 0, 1)
        return x + 1, y + 1, z + 1, x.relu(), y.relu(), z.relu(), y.expand_as(x) * 2

    both(f, torch.rand(2, 3, 4, 5), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_numbers_of_other_types_promote_differently(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        return x + 1, x + 1.0, x + True, x * 2, x * 2.0, x / 2, x + 1, x + 1.0, x + True

    g = both(f, torch.arange(6).reshape(2, 3), mode=mode)
    dtypes = [n.meta["val"].dtype for n in g.graph.nodes if n.op == "call_function"]
    i, r = torch.int64, torch.float32
    assert dtypes == [i, r, i, i, r, r, i, r, i]


@pytest.mark.parametrize("mode", MODES)
def test_metadata_changed_in_place(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        a, b = x.clone(), x.clone()
        before = a + 1
        a.t_()
        after = a + 1
        b.transpose_(0, 1).unsqueeze_(1)
        c = b.squeeze_(1) + 1
        d = x.clone().as_strided_((2, 2), (1, 2)) + 1
        return before, after, c, d, b.sum(0), a.sum(0)

    both(f, torch.rand(3, 4), mode=mode)


def test_resized_and_reset() -> None:
    def f(x: torch.Tensor) -> Any:
        a = x.clone()
        one = a * 2
        a.resize_(2, 2)
        b = x.clone()
        b.set_(x.clone().view(-1))
        out = torch.empty(0)
        torch.add(x, 1, out=out)
        return one, a.shape[0], b * 2, out * 2, torch.add(x, 1, out=out) * 3

    both(f, torch.rand(3, 4))


@pytest.mark.parametrize("mode", MODES)
def test_data_replaced(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        a = x.clone()
        one = a + 1
        a.data = x.t().contiguous()
        return one, a + 1

    g = make_fx(f, tracing_mode=mode)(torch.rand(3, 4))
    first, second = [n.meta["val"] for n in g.graph.nodes if n.name.startswith("add")]
    assert [description(first)[0], description(second)[0]] == [[3, 4], [4, 3]]


@pytest.mark.parametrize("mode", MODES)
def test_every_result_has_its_storage(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        return [x + 1 for _ in range(4)], [x.view(-1) for _ in range(3)]

    seen: dict[int, int] = {}
    g = make_fx(f, tracing_mode=mode)(torch.rand(3, 4))
    for n in g.graph.nodes:
        if n.name.startswith("add") or n.op == "placeholder":
            seen[n.meta["val"].untyped_storage()._cdata] = 1
    assert len(seen) == 5
    (x,) = (n for n in g.graph.nodes if n.op == "placeholder")
    views = [n.meta["val"] for n in g.graph.nodes if n.name.startswith("view")]
    assert len(views) == 3
    assert {v.untyped_storage()._cdata for v in views} == {x.meta["val"].untyped_storage()._cdata}


@pytest.mark.parametrize("mode", MODES)
def test_a_view_views_its_own_base(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        bases = [x + 1 for _ in range(3)]
        views = [b.t()[1:] for b in bases]
        for base, view in zip(bases, views, strict=True):
            assert view.untyped_storage()._cdata == base.untyped_storage()._cdata
            assert view._base is base
        views[2].add_(1)
        return bases, views

    both(f, torch.rand(3, 4), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_versions_count_writes(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        versions = []
        y = x * 1
        for _ in range(3):
            y.add_(1)
            y.view(-1).mul_(2)
            versions.append(y._version)
        assert versions == [2, 4, 6]
        return y

    make_fx(f, tracing_mode=mode)(torch.rand(3, 4))

    def overwritten(x: torch.Tensor) -> Any:
        for _ in range(2):
            x = x.detach().requires_grad_()
            y = x.exp()
            y.add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                torch.autograd.grad(y.sum(), x)
        return y

    make_fx(overwritten, tracing_mode=mode)(torch.rand(3, 4))


@pytest.mark.parametrize("mode", MODES)
def test_default_dtype_and_inference_mode(mode: str) -> None:
    def f(x: torch.Tensor) -> Any:
        a = x / 2, torch.full((2,), 1.0)
        torch.set_default_dtype(torch.float64)
        try:
            b = x / 2, torch.full((2,), 1.0)
        finally:
            torch.set_default_dtype(torch.float32)
        c = x / 2, torch.full((2,), 1.0)
        with torch.inference_mode():
            d = x / 2
        return a, b, c, d

    g = make_fx(f, tracing_mode=mode)(torch.arange(6))
    calls = [n.meta["val"] for n in g.graph.nodes if n.op == "call_function"]
    single, double = torch.float32, torch.float64
    assert [v.dtype for v in calls] == [*[single] * 2, *[double] * 2, *[single] * 3]


def test_two_environments_share_nothing() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return (x + 1).view(-1) * 2

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    h = make_fx(f, tracing_mode="symbolic")(torch.rand(5, 6))
    for module in (g, h):
        for n in module.graph.nodes:
            for size in n.meta["val"].shape if "val" in n.meta else ():
                if isinstance(size, torch.SymInt):
                    assert size.node.shape_env is module.shape_env


def test_a_replaced_symbol_is_a_new_key() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> Any:
        a, b = x + 1, y + 1
        c = x.sum(0) + y.sum(0)  # from here on x.shape[1] == y.shape[1]
        return a, b, x + 1, y + 1, c, torch.cat([x, y])

    args = torch.rand(3, 4), torch.rand(5, 4)
    shapes = [{1: "m"}, {1: "n"}]
    g = make_fx(f, tracing_mode="symbolic", dynamic_shapes=shapes)(*args)
    cat = next(n for n in g.graph.nodes if n.name == "cat")
    assert len({str(n.meta["val"].shape[1]) for n in g.graph.nodes if n.op == "placeholder"}) == 1
    assert cat.meta["val"].shape[0] == 8
    torch.testing.assert_close(g(*args), f(*args))


def test_answers_from_hints_are_not_kept(caches: list[Any]) -> None:
    def f(x: torch.Tensor) -> Any:
        env = x.shape[0].node.shape_env  # type: ignore[attr-defined]
        with env.suppress_guards():
            a = x.reshape(4, 3)
        before = len(env.guards)
        b = x.reshape(4, 3)
        assert len(env.guards) > before
        return a, b

    make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))


def test_masks_are_not_cached() -> None:
    def f(x: torch.Tensor) -> Any:
        i = torch.arange(2)
        return x[i], x[i], x[x[:, 0] > 0].sum(), x[x[:, 0] > 0].sum()

    g = make_fx(f, tracing_mode="symbolic")(torch.rand(3, 4))
    fresh = [n for n in g.graph.nodes if n.meta.get("unbacked_bindings")]
    assert len(fresh) == 2
    torch.testing.assert_close(g(torch.rand(3, 4) - 0.5)[0].shape, torch.Size([2, 4]))


def test_buffers_are_not_written_while_tracing() -> None:
    counter, mean = torch.tensor(0), torch.zeros(3)

    def f(x: torch.Tensor) -> torch.Tensor:
        counter.add_(1)
        mean.mul_(0.5).add_(x.mean(0))
        return x - mean

    g = make_fx(f, tracing_mode="fake", _allow_non_fake_inputs=True)(torch.ones(4, 3))
    assert counter.item() == 0
    assert mean.sum().item() == 0
    g(torch.ones(4, 3))
    assert counter.item() == 1
    assert mean.tolist() == [1.0, 1.0, 1.0]


def test_traces_in_threads() -> None:
    weight = torch.rand(4, 4)

    def f(x: torch.Tensor) -> torch.Tensor:
        for _ in range(5):
            x = torch.relu(x @ weight).t().contiguous().t() + x.shape[0]
        return x

    failures: list[BaseException] = []

    def work(rows: int) -> None:
        try:
            for mode in ("real", "fake", "symbolic"):
                g = make_fx(f, tracing_mode=mode, _allow_non_fake_inputs=True)(torch.rand(rows, 4))
                x = torch.rand(rows, 4)
                torch.testing.assert_close(g(x), f(x))
        except BaseException as e:  # noqa: BLE001 - reported below
            failures.append(e)

    threads = [threading.Thread(target=work, args=(rows,)) for rows in (2, 3, 5, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_is_left_on_values_and_modes() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    mode = FakeTensorMode()
    x = mode.from_tensor(torch.rand(2, 3))
    g = make_fx(lambda x: x.sin().t(), tracing_mode="fake")(x)
    assert "_cached_dispatch_impl" not in mode.__dict__
    for n in g.graph.nodes:
        if isinstance(n.meta.get("val"), FakeTensor) and n.op == "call_function":
            assert "_symfx" not in n.meta["val"].__dict__
    with mode:
        assert (x + 1).shape == (2, 3)


def test_rules_make_the_guards_that_the_operator_needs_and_no_others() -> None:
    def windows(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, w, stride=2, padding=1) + 1

    g = make_fx(windows, tracing_mode="symbolic")(torch.rand(2, 3, 9, 8), torch.rand(4, 3, 3, 5))
    assert len(g.shape_env.guards) == 2
    for x, w in ((torch.rand(5, 6, 12, 13), torch.rand(7, 6, 2, 4)), (torch.rand(3, 2, 4, 4),) * 2):
        torch.testing.assert_close(g(x, w), windows(x, w))

    def joined(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.flatten() + y

    g = make_fx(joined, tracing_mode="symbolic")(torch.rand(4, 6), torch.rand(24))
    (guard,) = g.shape_env.guards
    assert "==" in str(guard) and "aten.add.Tensor" in str(guard.provenance)
    # Sizes that differ at tracing are torch's to refuse.
    with pytest.raises(RuntimeError, match="must match"):
        make_fx(joined, tracing_mode="symbolic")(torch.rand(4, 6), torch.rand(23))
