"""Answers to Python while a program is traced follow the meta values; graphs equal eager."""

from __future__ import annotations

import copy
import io
import math
import pickle
import threading
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx.errors import TracingError
from symfx.meta_tracer import (
    MetaProxy,
    MetaTracer,
    gen_constructor_wrapper,
    manual_meta_overrides,
    symbolic_trace,
)

X = torch.rand(4, 6)
Pair = namedtuple("Pair", "first second")


def metas(value: Any) -> Any:
    return torch.utils._pytree.tree_map_only(Tensor, lambda t: t.to("meta"), value)


def check(program: Any, *args: Any) -> fx.GraphModule:
    """Trace, and compare with eager; parameters are named x0, x1, …"""
    gm = symbolic_trace(program, {f"x{i}": metas(a) for i, a in enumerate(args)})
    torch.testing.assert_close(gm(*args), program(*args))
    return gm


def targets(gm: fx.GraphModule) -> list[str]:
    return [getattr(n.target, "__name__", str(n.target)) for n in gm.graph.nodes][1:-1]


# -- control flow ------------------------------------------------------------------------------


QUESTIONS: list[Callable[[Any], bool]] = [
    lambda x: x.shape[0] == 4,
    lambda x: x.shape == (4, 6),
    lambda x: x.size(0) == 4 and x.size(-1) == 6 and x.size() == (4, 6),
    lambda x: x.ndim == 2 and x.dim() == 2 and x.ndimension() == 2,
    lambda x: len(x) == 4,
    lambda x: x.numel() == 24 and x.nelement() == 24 and torch.numel(x) == 24,
    lambda x: x.stride() == (6, 1) and x.stride(0) == 6 and x.is_contiguous(),
    lambda x: x.dtype is torch.float32 and x.dtype.is_floating_point,
    lambda x: x.is_floating_point() and torch.is_floating_point(x) and not x.is_complex(),
    lambda x: x.device.type == "meta" and x.device == torch.device("meta"),
    lambda x: x.device == x.T.device and x.device != torch.device("cpu"),
    lambda x: isinstance(x.device, torch.device) and str(x.device) == f"{x.device}" == "meta",
    lambda x: x.device in {torch.device("meta")} and x.device.index is None,
    lambda x: not x.requires_grad and not x.is_cuda and x.layout is torch.strided,
    lambda x: x.element_size() == 4 and x.itemsize == 4 and x.storage_offset() == 0,
    lambda x: x.T.shape[0] == 6 and x.mT.ndim == 2 and len(x.data) == 4,
    lambda x: x[1:].shape[0] == 3 and (x @ x.T).shape == (4, 4) and x.sum(0).numel() == 6,
    lambda x: x.max(1).values.shape == (4,) and x.max(1)[1].dtype is torch.int64,
    lambda x: isinstance(x.chunk(2), tuple) and len(x.chunk(2)) == 2 and bool(x.chunk(2)),
    lambda x: math.sqrt(x.size(-1)) > 2 and range(len(x))[-1] == 3,
    lambda x: torch.finfo(x.dtype).max > 1 and torch.result_type(x, 1) is torch.float32,
    lambda x: hasattr(x, "relu") and not hasattr(x, "no_such_thing"),
    lambda x: x.to(torch.float16).dtype is torch.float16 and x.double().element_size() == 8,
    lambda x: sum(1 for _ in x) == 4 and len([*x.split(1)]) == 4,
    lambda x: x is not None and isinstance(x, fx.Proxy),
]


@pytest.mark.parametrize("number", range(len(QUESTIONS)))
def test_control_flow_follows_meta_values(number: int) -> None:
    question = QUESTIONS[number]

    def program(x0: Any) -> Any:
        return x0 + 1 if question(x0) else x0 - 1

    gm = symbolic_trace(program, {"x0": X.to("meta")})
    assert targets(gm)[-1] == "add"
    assert torch.equal(gm(X), X + 1)


def test_questions_about_metadata_leave_no_nodes() -> None:
    def f(x0: Any) -> Any:
        assert x0.shape[0] == 4 and x0.numel() == 24 and x0.device.type != "xpu"
        assert x0.is_contiguous() and len(x0) == 4 and x0.stride(1) == 1
        return x0.relu()

    assert targets(check(f, X)) == ["relu"]


PROGRAMS: dict[str, tuple[Any, ...]] = {
    "splat": (lambda x0: torch.stack([*x0]) + torch.cat([*x0.unbind(1)]).sum(), X),
    "splat into a call": (lambda x0: torch.broadcast_tensors(*x0.split(1))[0], X),
    "loop": (lambda x0: [row * i for i, row in enumerate(x0)], X),
    "unpacked": (lambda x0: (lambda a, b, *c: a + b + sum(c))(*x0), X),
    "named results": (lambda x0: (x0.max(0).values, x0.sort().indices, torch.svd(x0).S.shape), X),
    "item assignment": (lambda x0: written(x0.clone()), X),
    "in place": (lambda x0: x0.clone().unsqueeze_(0).add_(1).mul_(2).relu_(), X),
    "einsum": (lambda x0: torch.einsum("ij,kj->ik", x0, x0), X),
    "devices": (lambda x0: x0.to(x0.device) + torch.tensor([1.0], device=x0.device), X),
    "to a device": (lambda x0: x0.to("cpu").cpu().to(torch.device("cpu"), torch.float64), X),
    "constants": (lambda x0: torch.rand(0).new_tensor([1, 2]) + x0[:, :2] + torch.ones(2), X),
    "constructors": (
        lambda x0: torch.full((2, 6), 3.0, device=x0.device, dtype=x0.dtype)
        + torch.linspace(0, 1, x0.size(1), device=x0.device)
        + torch.empty(6, device=x0.device).zero_(),
        X,
    ),
    "functional": (lambda x0: F.gelu(F.layer_norm(F.pad(x0, (1, 1)), (8,))), X),
    "no meta kernel": (lambda x0: torch.histogram(x0, 3).hist.reshape(3), X),
    "attention": (lambda x0: F.scaled_dot_product_attention(x0, x0, x0), X[None, None]),
    "dictionary": (lambda x0: [v * len(k) for k, v in x0.items()], {"a": X}),
    "dictionary of tensors": (
        lambda x0: sum(v for v in x0.values()) + x0.get("a", 1) + x0.get("c", 1)
        if "a" in x0 and set(x0) == {"a", "b"} else x0["b"],
        {"a": X, "b": X},
    ),
    "keywords": (lambda x0: (lambda a, b: a - b)(**x0), {"a": X, "b": X + 1}),
    "list and tuple": (lambda x0: torch.cat(list(x0)) + x0[0][0] if len(x0) == 2 else 0, [X, X]),
    "named tuple": (lambda x0: x0.first + x0[1], Pair(X, X)),
    "nested": (lambda x0: x0["a"][1] * x0["b"].shape[0], {"a": [X, X], "b": X}),
    "two inputs": (lambda x0, x1: x0 @ x1 if x0.shape[1] == x1.shape[0] else x0, X, X.T),
    "bool and int": (lambda x0, x1: torch.where(x0, x1, 0).cumsum(0), X > 0.5, (X * 9).long()),
    "complex": (lambda x0: torch.fft.fft(x0).abs() + x0.real, X),
    "half": (lambda x0: x0 * 2 if x0.dtype is torch.bfloat16 else x0, X.bfloat16()),
}  # fmt: skip


def written(x: Any) -> Any:
    x[0] = 1.0
    x[1:, 2] = x[0, 0]
    return x


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("error")
def test_graphs_equal_eager(name: str) -> None:
    gm = check(*PROGRAMS[name])
    gm.graph.lint()
    for node in gm.graph.nodes:
        if node.op.startswith("call"):
            assert "val" in node.meta, node


def test_in_place_changes_of_shape_are_followed_and_stay_in_the_trace() -> None:
    given = X.to("meta")

    def f(x: Any) -> Any:
        x.unsqueeze_(0)
        return x.squeeze(0).t_() if x.ndim == 3 else x

    gm = symbolic_trace(f, {"x": given})
    assert given.shape == (4, 6)
    assert torch.equal(gm(X.clone()), X.T)


def test_meta_values_stand_on_nodes() -> None:
    gm = symbolic_trace(lambda x: x.sum(0).long(), {"x": X.to("meta")})
    found = [(v.shape, v.dtype) for n in gm.graph.nodes if (v := n.meta.get("val")) is not None]
    assert found == [((4, 6), torch.float32), ((6,), torch.float32), ((6,), torch.int64)]


def test_devices_follow_tensors_that_claim_one() -> None:
    def f(x: Any) -> Any:
        y = x.to("cuda") if x.device.type == "meta" else x * 2
        return y.cpu() if y.device == torch.device("cpu") and not y.is_cuda else y - 1

    with FakeTensorMode():
        fake = torch.rand(4, 6)
    for given in (fake, X):
        assert targets(symbolic_trace(f, {"x": given})) == ["mul", "cpu"]
    linear = nn.Linear(6, 2)
    gm = symbolic_trace(lambda x: linear.weight.shape[0] * F.linear(x, torch.ones(2, 6)), {"x": X})
    assert (
        gm.graph.find_nodes(op="call_function", target=F.linear)[0].meta["val"].device == X.device
    )
    # The table's overrides return meta tensors, which become fake like the others.
    gm = symbolic_trace(
        nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 2)), {"input": (X * 9).long()}
    )
    assert [n.meta["val"].device.type for n in gm.graph.nodes if n.op == "call_module"] == [
        "cpu"
    ] * 2


# -- modules -----------------------------------------------------------------------------------


class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(6)
        self.rnn = nn.LSTM(6, 5, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, dropout=0.0)
        self.register_buffer("table", torch.arange(12.0).reshape(2, 6))
        self.weight = nn.Parameter(torch.rand(6))

    def forward(self, x0: Any) -> Any:
        h = self.norm(x0).unsqueeze(0)
        out, (last, _) = self.rnn(h)
        assert out.shape == (1, 4, 5) and last.shape[-1] == self.rnn.hidden_size
        mixed, _ = self.attention(h, h, h, need_weights=False)
        mixed = self.layer(mixed + self.table[: h.shape[0], None]) * self.weight
        return mixed.relu() + nn.ReLU()(mixed) if mixed.shape[2] == 6 else mixed


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("training", [True, False])
def test_modules(training: bool) -> None:
    module = Stateful().train(training)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    names = set(dict(module.named_modules()))
    gm = symbolic_trace(module, {"x0": X.to("meta")})
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert set(dict(module.named_modules())) == names
    assert "relu_0" in dict(gm.named_modules())
    calls = [n.target for n in gm.graph.nodes if n.op == "call_module"]
    assert calls == ["norm", "rnn", "attention", "layer", "relu_0"]
    twin = copy.deepcopy(module)
    torch.testing.assert_close(gm(X), twin(X))
    loaded = pickle.loads(pickle.dumps(gm))
    torch.testing.assert_close(loaded.eval()(X), copy.deepcopy(gm).eval()(X))


def test_saved_and_loaded() -> None:
    gm = symbolic_trace(
        lambda x: torch.rand(0, device=x.device).sum() + x.relu(), {"x": X.to("meta")}
    )
    file = io.BytesIO()
    torch.save(gm, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(X), X)


def test_random_numbers_are_drawn_when_the_graph_runs() -> None:
    gm = symbolic_trace(lambda x: x + torch.rand(6) + torch.randn(4, 1), {"x": X.to("meta")})
    torch.manual_seed(1)
    expected = X + torch.rand(6) + torch.randn(4, 1)
    torch.manual_seed(1)
    assert torch.equal(gm(X), expected)
    assert not torch.equal(gm(X), gm(X))


def test_an_override_of_ones_own() -> None:
    class Odd(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input)[: int(input.sum().item() * 0) + 2]

    module = nn.Sequential(Odd(6, 3), nn.Linear(3, 2))

    class Keeping(MetaTracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return True

    manual_meta_overrides[Odd] = lambda self, input: input.new_empty(2, self.out_features)
    try:
        graph = Keeping().trace(module, {"input": X.to("meta")})
    finally:
        del manual_meta_overrides[Odd]
    assert [n.meta["val"].shape for n in graph.nodes if n.op == "call_module"] == [(2, 3), (2, 2)]


@pytest.mark.filterwarnings("error")
def test_parameters_known_by_their_shapes() -> None:
    class Shapes(nn.Linear):
        def forward(self, input: Any) -> Any:
            return input @ self.weight.T if self.weight.shape[0] == 3 else input

    graph = MetaTracer(param_shapes_constant=True).trace(Shapes(6, 3), {"input": X.to("meta")})
    assert [str(n) for n in graph.nodes] == ["input_1", "weight", "getattr_1", "matmul", "output"]


# -- arguments ---------------------------------------------------------------------------------


def test_variadic_parameters() -> None:
    def f(x: Any, *rest: Any, scale: Any = 2, **more: Any) -> Any:
        return (lambda *a, **k: sum(a) * scale + len(k))(x, *rest, **more)

    gm = symbolic_trace(f, {"x": X.to("meta"), "rest": metas((X, X))}, {"scale": 2})
    assert torch.equal(gm(X, 2, X, X), f(X, X, X))


def test_decorated_functions_bound_methods_and_callables() -> None:
    import functools

    def twice(g: Any) -> Any:
        @functools.wraps(g)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return g(*args, **kwargs) * 2

        return wrapper

    @twice
    def f(x: Any, y: Any = None, *rest: Any, flag: bool = False, **options: Any) -> Any:
        assert not rest and not options
        return x if y is None else x + y.sum() * flag

    meta = {"x": X.to("meta")}
    gm = symbolic_trace(f, meta, {"y": None, "flag": False})
    assert torch.equal(gm(X, None, False), X * 2)
    gm = symbolic_trace(f, {**meta, "y": X.to("meta")}, {"flag": True})
    assert torch.equal(gm(X, X, True), f(X, X, flag=True))
    gm = symbolic_trace(
        twice(lambda x, *r, **k: x + r[0] + k["z"]),
        {**meta, "r": (meta["x"],), "k": {"z": meta["x"]}},
    )
    assert torch.equal(gm(X, X, z=X), X * 6)

    class Callable_:
        def __call__(self, x: Any) -> Any:
            return x.shape[0] * x

        def method(self, x: Any) -> Any:
            return x + len(x)

    assert torch.equal(symbolic_trace(Callable_(), meta)(X), X * 4)
    assert torch.equal(symbolic_trace(Callable_().method, meta)(X), X + 4)
    assert torch.equal(symbolic_trace(functools.partial(lambda y, x: x + y, X), {})(X), X * 2)


def test_concrete_structures() -> None:
    def f(x: Any, y: Any) -> Any:
        return x["a"] + x["b"][0] * x["b"][1] + y if x["a"].shape[0] == 4 else y

    concrete = {"x": {"a": fx.PH, "b": [fx.PH, 3]}}
    meta = {"x": metas({"a": X, "b": [X, X]}), "y": X.to("meta")}
    gm = symbolic_trace(f, meta, concrete)
    given = {"a": X, "b": [X, 3]}
    assert torch.equal(gm(given, X), f(given, X))


def test_a_leaf_function_may_say_its_length() -> None:
    gm = symbolic_trace(lambda x: x * 2 if counted(x) > 3 else x, {"x": X.to("meta")})
    assert targets(gm) == ["counted", "gt", "mul"]


@fx.wrap  # type: ignore[untyped-decorator]
def counted(x: Any) -> int:
    return int(x.shape[0])


def test_gen_constructor_wrapper() -> None:
    calls = []

    def make(n: int, where: Any = None) -> Tensor:
        calls.append(n)
        return torch.zeros(n)

    wrapper, original = gen_constructor_wrapper(make)
    assert original is make and wrapper.__name__ == "make"
    assert wrapper(2).shape == (2,) and calls == [2]
    gm = symbolic_trace(lambda x: wrapper(3, where=[x.device]), {"x": X.to("meta")})
    assert targets(gm) == ["getattr", "make"] and gm(X).shape == (3,)


def test_threads_and_traces_inside_traces() -> None:
    def f(x: Any) -> Any:
        inner = symbolic_trace(lambda y: y.relu() + len(y), {"y": torch.empty(3, device="meta")})
        return inner(x) + torch.zeros(6, device=x.device)

    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(symbolic_trace(f, {"x": X.to("meta")})(X)))
        for _ in range(4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4 and all(torch.equal(r, X.relu() + 3) for r in results)


def test_proxies_are_meta_proxies() -> None:
    def f(x: Any) -> Any:
        assert isinstance(x, MetaProxy) and isinstance(x + 1, MetaProxy)
        assert isinstance(x.T, MetaProxy) and isinstance(x.shape, torch.Size)
        return x

    symbolic_trace(f, {"x": X.to("meta")})


def test_hooks_of_the_traced_module_are_refused() -> None:
    module = nn.Linear(3, 3)
    module.register_forward_hook(lambda owner, args, result: result * 3)
    x = torch.empty(2, 3, device="meta")
    with pytest.raises(TracingError, match=r"the traced Linear has forward hooks"):
        symbolic_trace(module, {"input": x})
    inside = nn.Sequential(nn.Sequential(module))
    real = torch.randn(2, 3)
    torch.testing.assert_close(symbolic_trace(inside, {"input": x})(real), inside(real))


def test_changes_of_settings_are_told_with_their_line() -> None:
    def f(x: Any) -> Any:
        with torch.no_grad():
            y = x * 2
        return y + 1

    with pytest.warns(
        UserWarning, match=r"sets the grad mode(?s:.*)with torch.no_grad\(\):"
    ) as told:
        symbolic_trace(f, {"x": torch.empty(2, device="meta")})
    assert len(told) == 1
    with pytest.warns(UserWarning, match="sets autocast"):
        symbolic_trace(autocast, {"x": torch.empty(2, 2, device="meta")})


def autocast(x: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return x @ x


def test_a_proxy_where_only_a_tensor_is_taken_names_the_line() -> None:
    def f(x: Any) -> Any:
        return torch.Tensor.flatten(x)

    with pytest.raises(
        TracingError, match=r"takes only tensors(?s:.*)return torch.Tensor.flatten"
    ) as e:
        symbolic_trace(f, {"x": torch.empty(2, 3, device="meta")})
    assert "x.flatten()" in str(e.value)


@pytest.mark.parametrize("name", [str, lambda device: f"{device}", lambda device: str(str(device))])
def test_the_text_of_a_device_is_that_of_the_run(name: Any) -> None:
    def f(x: Any) -> Any:
        return (
            torch.zeros(2, device=name(x.device))
            + x.to(name(x.device))
            + torch.ones(2).to(device=name(x.device))
        )

    graph = symbolic_trace(f, {"x": torch.empty(2, device="meta")})
    torch.testing.assert_close(graph(torch.ones(2)), torch.full((2,), 2.0))
    assert symbolic_trace(
        lambda x: x.relu() if str(x.device) == "cpu" else x, {"x": torch.ones(2)}
    ).code.count("relu")
