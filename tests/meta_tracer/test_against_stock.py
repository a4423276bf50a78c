"""Programs that stock traces: symfx records the same graph, and its overrides say the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.fx.experimental.meta_tracer as stock
import torch.nn.functional as F
from torch import Tensor, fx, nn

from symfx import meta_tracer
from symfx.meta_tracer import symbolic_trace

X = torch.rand(4, 6)


class Network(nn.Module):
    """The module of torch's own test of its tracer, with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(42, 6)
        self.norm = nn.LayerNorm(6)
        self.scale = nn.Parameter(torch.rand(6))
        self.layers = nn.Sequential(nn.ReLU(), nn.LayerNorm(6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        h = h + torch.arange(h.shape[-1], dtype=torch.float, device=h.device)
        h = self.layers(self.norm(h)) * self.scale
        return torch.relu(h) if h.shape[0] < 30 else torch.sigmoid(h)


def by_size(x: Tensor) -> Tensor:
    return x.reshape(x.size()[0] * 2, -1) if x.dim() == 2 else x


def by_dtype(x: Tensor) -> Tensor:
    return x.half() if x.dtype is torch.float32 else x.float()


def unpacked(x: Tensor) -> Tensor:
    a, b, c = x.chunk(3, dim=1)
    return torch.where(a > b, a, c).abs()


def made(x: Tensor) -> Tensor:
    ones = torch.ones(6, device=x.device)
    return torch.full_like(x, 2.0) + torch.zeros(x.shape, device=x.device) + ones + torch.eye(4, 6)


def attributes(x: Tensor) -> Any:
    return x.T, x.transpose(0, 1).contiguous().view(3, 8), {"a": x[1:], "b": (x, 1)}


def with_options(x: Tensor, flag: bool, rest: Any = None) -> Tensor:
    return F.softmax(x, -1) if flag else x


def known_and_unknown(x: Tensor, y: Tensor) -> Tensor:
    return F.relu(x @ y) + x.shape[1]


PROGRAMS: dict[str, tuple[Callable[[], Any], dict[str, Tensor], dict[str, Any]]] = {
    "network, few": (Network, {"x": torch.randint(0, 42, (3,))}, {}),
    "network, many": (Network, {"x": torch.randint(0, 42, (35,))}, {}),
    "by size": (lambda: by_size, {"x": X}, {}),
    "by dtype": (lambda: by_dtype, {"x": X}, {}),
    "unpacked": (lambda: unpacked, {"x": X}, {}),
    "made": (lambda: made, {"x": X}, {}),
    "attributes": (lambda: attributes, {"x": X}, {}),
    "with options": (lambda: with_options, {"x": X}, {"flag": True, "rest": None}),
    "unknown": (lambda: known_and_unknown, {"x": X}, {}),
}


def recorded(gm: fx.GraphModule) -> list[Any]:
    return [(n.op, n.name, str(n.target), str(n.args), str(n.kwargs)) for n in gm.graph.nodes]


@pytest.mark.filterwarnings("ignore:Could not compute metadata")
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_graph_is_stocks(name: str) -> None:
    make, inputs, concrete = PROGRAMS[name]
    program = make()
    metas = {k: v.to("meta") for k, v in inputs.items()}
    ours = symbolic_trace(program, metas, concrete or None)
    theirs = stock.symbolic_trace(program, metas, concrete or None)
    assert recorded(ours) == recorded(theirs)
    assert type(ours).__name__ == type(theirs).__name__
    if name != "unknown":
        given = (*inputs.values(), *concrete.values())
        torch.testing.assert_close(ours(*given), program(*given))


def meta(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


OVERRIDES: list[tuple[str, tuple[Any, ...]]] = [
    ("embedding_override", (nn.Embedding(10, 3), meta(2, 5, dtype=torch.int64))),
    ("embedding_override", (nn.Embedding(10, 3), meta(dtype=torch.int64))),
    ("nn_layernorm_override", (nn.LayerNorm(3), meta(2, 3))),
    ("torch_relu_override", (meta(2, 3),)),
    ("torch_nn_relu_override", (nn.ReLU(), meta(2, 3))),
    ("functional_relu_override", (meta(2, 3),)),
    ("torch_where_override", (meta(3, 1, dtype=torch.bool), meta(4), meta(2, 1, 1))),
    ("torch_abs_override", (meta(2, 3),)),
]


@pytest.mark.parametrize(("name", "args"), OVERRIDES)
def test_overrides(name: str, args: Any) -> None:
    ours, theirs = getattr(meta_tracer, name)(*args), getattr(stock, name)(*args)
    assert ours.is_meta
    assert (ours.shape, ours.dtype, ours.stride()) == (theirs.shape, theirs.dtype, theirs.stride())


def test_overrides_where_stock_gives_up_or_errs() -> None:
    x = meta(2, 3)
    assert meta_tracer.functional_relu_override(x, inplace=True) is x
    assert meta_tracer.torch_nn_relu_override(nn.ReLU(inplace=True), x) is x
    assert meta_tracer.torch_relu_override(x) is not x
    half = nn.Embedding(4, 2, dtype=torch.float16)
    assert meta_tracer.embedding_override(half, meta(1, dtype=torch.int64)).dtype is torch.float16
    assert meta_tracer.torch_abs_override(meta(2, dtype=torch.complex64)).dtype is torch.float32
    out = meta(2, 3)
    assert meta_tracer.torch_abs_override(x, out=out) is out
    mask = torch.ones(2, 3, dtype=torch.bool)
    ints = meta_tracer.torch_where_override(mask, 1, meta(3, dtype=torch.int64))
    assert ints.dtype is torch.int64 and ints.shape == (2, 3) and ints.is_meta


def test_the_table_of_overrides_has_stocks() -> None:
    names = {key: f.__name__ for key, f in stock.manual_meta_overrides.items()}
    assert {key: f.__name__ for key, f in meta_tracer.manual_meta_overrides.items()} == names


def test_every_name_of_stock_is_there() -> None:
    assert set(stock.__all__) <= set(meta_tracer.__all__)


def test_the_meta_value_is_the_installed_one() -> None:
    tracer = meta_tracer.MetaTracer()
    graph = tracer.trace(lambda x: x, {"x": meta(2)})
    proxy = meta_tracer.MetaProxy(next(iter(graph.nodes)), tracer)
    with pytest.raises(meta_tracer.UnknownMetaError, match="no meta value"):
        meta_tracer.proxys_to_metas(proxy)
    value = meta(3)
    proxy.install_tensor_meta(value)
    assert meta_tracer.proxys_to_metas(proxy) is value
    assert meta_tracer.proxys_to_metas(proxy.device) == "meta"
    assert meta_tracer.proxys_to_metas(7) == 7
    with pytest.raises(AssertionError, match="not a MetaProxy"):
        meta_tracer.proxys_to_metas(fx.Proxy(next(iter(graph.nodes))))


def test_proxies_without_meta_values_record_as_stock_does() -> None:
    def f(x: Any) -> Any:
        return x.size(), x.size(1), x.dim(), x.shape, x.dtype, x.device, x.foo, x.bar(1)

    with pytest.warns(UserWarning):
        theirs = recorded(stock.symbolic_trace(f, {}))
    assert recorded(symbolic_trace(f)) == theirs
