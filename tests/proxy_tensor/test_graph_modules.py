"""Traced modules are kept, copied and made in several threads."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import fx, nn

from symfx.proxy_tensor import make_fx
from symfx.proxy_tensor.refusals import DataDependentError, DynamicOutputError, FakeKernelError

_net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())


def sized(x: torch.Tensor) -> torch.Tensor:
    return x.reshape(-1)[: x.shape[0]] * x.shape[1] + torch.arange(x.shape[0])


def weighted(x: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = _net(x) + torch.tensor(2.0)
    return result


def chosen(x: torch.Tensor) -> Any:
    return torch.ops.higher_order.cond(
        x.sum() > 0, lambda v: (v.sin(),), lambda v: (v.cos(),), (x,)
    )


def looked_up(x: torch.Tensor) -> torch.Tensor:
    return x[x > 0] * 2


def stored(g: fx.GraphModule) -> fx.GraphModule:
    file = io.BytesIO()
    torch.save(g, file)
    file.seek(0)
    loaded: fx.GraphModule = torch.load(file, weights_only=False)
    return loaded


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("f", [sized, weighted, chosen, looked_up], ids=lambda f: f.__name__)
@pytest.mark.parametrize("keep", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g)), stored])
def test_a_graph_is_kept_without_tracing_again(keep: Any, f: Any, mode: str) -> None:
    if f is looked_up and mode == "real":
        pytest.skip("its result's size is a constant there")
    g = make_fx(f, tracing_mode=mode, _allow_non_fake_inputs=True)(torch.rand(3, 4))  # type: ignore[arg-type]
    again = keep(g)
    x = torch.rand(5, 4) if mode == "symbolic" else torch.rand(3, 4)
    torch.testing.assert_close(again(x), f(x))
    assert [n.name for n in again.graph.nodes] == [n.name for n in g.graph.nodes]


def test_threads_do_not_see_each_other() -> None:
    results: dict[int, Any] = {}
    start = threading.Barrier(4)

    def trace(i: int) -> None:
        start.wait()
        f = chosen if i % 2 else sized
        for _ in range(3):
            g = make_fx(f, tracing_mode="symbolic")(torch.rand(3 + i, 4))
        x = torch.rand(7, 5)
        torch.testing.assert_close(g(x), f(x))
        results[i] = len(g.graph.nodes)

    threads = [threading.Thread(target=trace, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[2]
    assert results[1] == results[3]


@pytest.mark.parametrize("mode", ["fake", "symbolic"])
def test_an_error_on_data_names_the_line(mode: str) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x if torch.allclose(x, x) else -x

    with pytest.raises(DataDependentError, match="depends on the data") as error:
        make_fx(f, tracing_mode=mode)(torch.rand(3))  # type: ignore[arg-type]
    assert "test_graph_modules.py" in str(error.value)
    assert "torch.where" in str(error.value)


LIBRARY = torch.library.Library("symfx_tests", "FRAGMENT")
LIBRARY.define("only_on_data(Tensor x) -> Tensor")
LIBRARY.impl("only_on_data", lambda x: x.nonzero(), "CPU")


def test_an_operator_without_a_fake_kernel_names_the_line() -> None:
    with pytest.raises(FakeKernelError, match="register_fake") as error:
        make_fx(lambda x: torch.ops.symfx_tests.only_on_data(x), tracing_mode="symbolic")(
            torch.rand(3)
        )
    assert "test_graph_modules.py" in str(error.value)


def test_sizes_that_depend_on_data_need_an_environment() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = FakeTensorMode().from_tensor(torch.rand(3))
    with pytest.raises(DynamicOutputError, match='tracing_mode="symbolic"'):
        make_fx(lambda v: v.nonzero(), tracing_mode="fake")(x)


def test_the_graph_asserts_the_checks_of_the_program() -> None:
    def f(n: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        k = (n + 0).item()
        torch._check(k >= 2)
        z = torch.zeros(k)
        torch._check(z.size(0) == y.size(0))
        return z + y

    g = make_fx(f, tracing_mode="symbolic")(torch.tensor(3), torch.rand(3))
    checks = [n for n in g.graph.nodes if n.target is torch.ops.aten._assert_scalar.default]
    assert len(checks) == 2
    y = torch.rand(5)
    torch.testing.assert_close(g(torch.tensor(5), y), y)
    with pytest.raises(RuntimeError):
        g(torch.tensor(4), y)
    with pytest.raises(RuntimeError, match=r"does not hold; asserted .*test_graph_modules"):
        g(torch.tensor(1), torch.rand(1))


def test_an_assertion_stands_before_the_operators_that_rely_on_it() -> None:
    def f(n: torch.Tensor) -> torch.Tensor:
        k = n.sum().item()
        torch._check(k >= 2)
        torch._check(k % 4 == 0)
        return torch.zeros(k).reshape(4, -1).sum(0)

    g = make_fx(f, tracing_mode="symbolic")(torch.tensor([3, 5]))
    names = [n.name for n in g.graph.nodes]
    assert max(i for i, name in enumerate(names) if "assert" in name) < names.index("zeros")
    assert g(torch.tensor([6, 6])).shape == (3,)
    with pytest.raises(RuntimeError, match=r"u0 >= 2 does not hold"):
        g(torch.tensor([-6, 2]))


def test_torchs_own_pass_finds_every_assertion_made() -> None:
    from torch.fx.passes.runtime_assert import insert_deferred_runtime_asserts

    def f(x: torch.Tensor, mask: torch.Tensor) -> Any:
        n, chosen = x.sum().item(), x[mask > 0]
        torch._check(n >= 3)
        torch._check(chosen.shape[0] * 2 <= n)
        return torch.zeros(n), chosen, torch.unique(x, return_counts=True)

    inputs = torch.tensor([5, 9]), torch.tensor([1, 0])
    g = make_fx(f, tracing_mode="symbolic")(*inputs)
    insert_deferred_runtime_asserts(g, g.shape_env, "traced")  # type: ignore[arg-type]
    g.recompile()
    g.graph.lint()
    checks = [n for n in g.graph.nodes if n.target is torch.ops.aten._assert_scalar.default]
    asserted = [str(n.args[0].meta["val"].node.expr) for n in checks]  # type: ignore[union-attr]
    assert len(asserted) == len(set(asserted)) and "u0 >= 3" in asserted
    torch.testing.assert_close(g(*inputs), f(*inputs))


def test_the_graph_of_a_branch_asserts_the_checks_of_the_branch() -> None:
    def branch(n: torch.Tensor) -> tuple[torch.Tensor]:
        k = (n + 0).item()
        torch._check(k <= 4)
        return (n + k,)

    def f(n: torch.Tensor) -> Any:
        return torch.ops.higher_order.cond(n > 0, branch, lambda v: (v + 1,), (n,))

    g = make_fx(f, tracing_mode="symbolic")(torch.tensor(3))
    check = torch.ops.aten._assert_scalar.default
    assert check in [n.target for n in g.true_graph_0.graph.nodes]  # type: ignore[union-attr]
    assert check not in [n.target for n in g.graph.nodes]
    assert g(torch.tensor(4))[0] == 8
    with pytest.raises(RuntimeError, match="does not hold"):
        g(torch.tensor(5))


def test_checks_of_operators_are_left_to_them() -> None:
    g = make_fx(lambda n, x: torch.split(x, n.tolist()), tracing_mode="symbolic")(
        torch.tensor([2, 3]), torch.rand(5)
    )
    assert torch.ops.aten._assert_scalar.default not in [n.target for n in g.graph.nodes]


class Around(torch.nn.Module):
    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * 2


@pytest.mark.parametrize("around", [lambda m: m, Around, lambda m: lambda x: m(x) - 1])
def test_a_module_that_never_ran_is_compiled_whole(around: Any) -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.relu, torch.neg, (x,)) + x.shape[0]

    torch._dynamo.reset()
    made = make_fx(program, tracing_mode="symbolic")(torch.ones(4, 5))
    compiled = torch.compile(around(made), fullgraph=True, backend="eager")
    for x in (torch.ones(4, 5), -torch.ones(4, 5)):
        wanted = program(x) * 2 if around is Around else around(program)(x)
        torch.testing.assert_close(compiled(x), wanted)
