"""symfx.optimization against torch.fx.experimental.optimization, name by name."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.mkldnn as torch_mkldnn
from torch import Tensor, fx, nn
from torch.fx.experimental import optimization as stock
from torch_releases import STOCK_HAS_MKLDNN_MAP

from symfx import optimization as ours
from symfx.errors import OptimizationError

BOTH = pytest.mark.parametrize("peer", [stock, ours], ids=["stock", "symfx"])


class Net(nn.Module):
    """Two branches that meet, a pooled head and dropout: a model that stock can optimize."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.left = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.right = nn.Conv2d(4, 4, 1)
        self.pool, self.drop = nn.AdaptiveAvgPool2d(2), nn.Dropout(0.5)
        self.head = nn.Sequential(nn.Linear(16, 6), nn.BatchNorm1d(6))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.pool(self.left(x) + self.right(x))
        return self.head(self.drop(torch.flatten(y, 1)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    model = Net().eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model


X = torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def targets(module: nn.Module) -> list[tuple[str, str]]:
    assert isinstance(module, fx.GraphModule)
    return [(n.op, str(n.target)) for n in module.graph.nodes]


def test_every_name_of_the_manual_and_of_the_module_is_there() -> None:
    for name in stock.__all__:
        theirs, mine = getattr(stock, name), getattr(ours, name)
        if inspect.isclass(theirs):
            theirs, mine = theirs.__init__, mine.__init__
        assert (
            list(inspect.signature(theirs).parameters)[:4]
            == list(inspect.signature(mine).parameters)[
                : min(4, len(inspect.signature(theirs).parameters))
            ]
        )
    for name in ("mkldnn_supported", "mkldnn_supported_unknown"):
        assert set(getattr(stock, name)) == set(getattr(ours, name))
    if STOCK_HAS_MKLDNN_MAP:
        assert set(stock.mkldnn_map) == set(ours.mkldnn_map)
    own = {n for n, v in vars(stock).items() if getattr(v, "__module__", "") == stock.__name__}
    assert {name for name in own if not name.startswith("_")} <= set(ours.__all__)


def test_defaults_of_parameters() -> None:
    for name in ("fuse", "gen_mkl_autotuner"):
        assert [p.default for p in inspect.signature(getattr(stock, name)).parameters.values()] == [
            p.default for p in inspect.signature(getattr(ours, name)).parameters.values()
        ]
    parameters = inspect.signature(ours.optimize_for_inference).parameters
    assert parameters["pass_config"].default is None
    assert parameters["tracer"].default is fx.Tracer


def test_fuse_makes_the_same_graph(net: nn.Module) -> None:
    mine, theirs = ours.fuse(net), stock.fuse(net)
    assert targets(mine) == targets(theirs)
    assert [n.name for n in mine.graph.nodes] == [n.name for n in theirs.graph.nodes]
    torch.testing.assert_close(mine(X), theirs(X))
    torch.testing.assert_close(mine(X), net(X))
    torch.testing.assert_close(
        mine.stem.get_submodule("0").weight, theirs.stem.get_submodule("0").weight
    )


@BOTH
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("no_trace", [False, True])
def test_fuse_options(net: nn.Module, peer: Any, inplace: bool, no_trace: bool) -> None:
    expected = net(X)
    fused = peer.fuse(fx.symbolic_trace(net), inplace=inplace, no_trace=no_trace)
    torch.testing.assert_close(fused(X), expected)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())


def test_fuse_in_place_leaves_even_the_traced_model_as_it_was(net: nn.Module) -> None:
    """Stock folds weights into the modules of a graph that still normalizes."""
    traced = fx.symbolic_trace(net)
    before = traced(X)
    ours.fuse(traced, inplace=True, no_trace=True)
    torch.testing.assert_close(traced(X), before, rtol=0, atol=0)


def test_fuse_mixed_dtype_and_missing_statistics() -> None:
    """The two unusual cases that PyTorch's own tests try."""
    low = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False, dtype=torch.bfloat16), nn.BatchNorm2d(16)
    )
    x = torch.randn(1, 3, 16, 16, dtype=torch.bfloat16)
    low.eval()
    torch.testing.assert_close(ours.fuse(low)(x), low(x))
    bare = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(ours.fuse(bare)(x), bare(x))


@BOTH
def test_matches_module_pattern(net: nn.Module, peer: Any) -> None:
    traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    found = {
        node.name: [
            peer.matches_module_pattern(pattern, node, modules)
            for pattern in [
                (nn.Conv2d, nn.BatchNorm2d),
                (nn.BatchNorm2d, nn.ReLU),
                (nn.Module, nn.ReLU),
            ]
        ]
        for node in traced.graph.nodes
    }
    assert {name for name, hits in found.items() if hits[0]} == {"stem_1", "left_1"}
    assert {name for name, hits in found.items() if hits[1]} == {"stem_2", "left_2"}
    assert not any(hits[2] for hits in found.values())


@BOTH
def test_replace_node_module(net: nn.Module, peer: Any) -> None:
    traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    (node,) = (n for n in traced.graph.nodes if n.target == "stem.2")
    new = nn.Tanh()
    assert peer.replace_node_module(node, modules, new) is None
    assert modules["stem.2"] is new and traced.get_submodule("stem.2") is new
    assert not torch.equal(traced(X), net(X))


def test_mistakes_are_explained(net: nn.Module) -> None:
    traced = fx.symbolic_trace(net)
    nodes = list(traced.graph.nodes)
    with pytest.raises(OptimizationError, match="calls no module"):
        ours.replace_node_module(nodes[0], dict(traced.named_modules()), nn.ReLU())
    with pytest.raises(OptimizationError, match="named_modules"):
        ours.replace_node_module(nodes[1], {}, nn.ReLU())
    with pytest.raises(OptimizationError, match="stem_0, which is neither"):
        ours.extract_subgraph(traced, [nodes[2]], [], [nodes[2]])
    with pytest.raises(OptimizationError, match=r"the output takes stem_1"):
        ours.extract_subgraph(traced, [], [nodes[0]], [nodes[2]])
    with pytest.raises(OptimizationError, match="function"):
        ours.fuse(torch.relu if False else (lambda x: x))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tracer"):
        ours.optimize_for_inference(net, tracer=fx.Tracer())  # type: ignore[arg-type]
    with pytest.raises(OptimizationError, match="make_set"):
        ours.UnionFind(2).find(1)


@BOTH
def test_extract_subgraph(net: nn.Module, peer: Any) -> None:
    traced = fx.symbolic_trace(net)
    by_name = {n.name: n for n in traced.graph.nodes}
    chosen = [by_name[n] for n in ("left_0", "left_1", "left_2", "right", "add")]
    part = peer.extract_subgraph(
        traced, chosen, [by_name["stem_2"]], [by_name["add"], by_name["right"]]
    )
    h = torch.randn(2, 4, 5, 5)
    total, right = part(h)
    torch.testing.assert_close(total, net.left(h) + net.right(h))
    torch.testing.assert_close(right, net.right(h))
    assert [n.name for n in part.graph.nodes][:2] == ["stem_2", "left_0"]
    assert part.get_submodule("right") is traced.get_submodule("right")


@BOTH
@pytest.mark.parametrize("train", [False, True])
def test_remove_dropout(net: nn.Module, peer: Any, train: bool) -> None:
    expected = net(X)
    net.drop.train(train)
    removed = peer.remove_dropout(net)
    assert ("call_module", "drop") not in targets(removed)
    torch.testing.assert_close(removed(X), expected, rtol=0, atol=0)
    assert isinstance(net.drop, nn.Dropout)


@BOTH
def test_to_mkldnn_and_back(net: nn.Module, peer: Any) -> None:
    traced = fx.symbolic_trace(net)
    modules = dict(traced.named_modules())
    weights = copy.deepcopy(net.state_dict())
    old = peer.modules_to_mkldnn(list(traced.graph.nodes), modules)
    converted = [name for name, m in modules.items() if m in old]
    assert converted == ["stem.0", "stem.1", "left.0", "left.1", "right", "head.0"]
    assert type(modules["right"]) is torch_mkldnn.MkldnnConv2d
    assert type(traced.get_submodule("head.0")) is torch_mkldnn.MkldnnLinear
    assert {type(m) for m in old.values()} == {nn.Conv2d, nn.BatchNorm2d, nn.Linear}
    assert peer.reset_modules(traced.graph.nodes, modules, old) is None
    assert not any(isinstance(m, torch.jit.ScriptModule) for m in traced.modules())
    torch.testing.assert_close(traced(X), net(X))
    torch.testing.assert_close(net.state_dict(), weights, rtol=0, atol=0)


def test_layers_that_mkldnn_computes_wrongly_are_not_converted() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 1).double(),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
    ).eval()
    model.append(nn.BatchNorm2d(3).train())
    model.append(nn.Conv2d(3, 3, 1))
    model[-1].register_forward_hook(lambda module, args, result: -result)
    traced = fx.symbolic_trace(model)
    assert ours.modules_to_mkldnn(traced.graph.nodes, dict(traced.named_modules())) == {}


def regions(peer: Any, model: nn.Module, **config: Any) -> tuple[list[dict[str, Any]], nn.Module]:
    seen: list[dict[str, Any]] = []

    def heuristic(graph: Any) -> bool:
        assert isinstance(graph, peer.MklSubgraph)
        assert {n.target for n in graph.start_nodes} <= {"to_mkldnn"}
        assert {n.target for n in graph.end_nodes} <= {"to_dense"}
        seen.append(
            {
                "targets": [str(n.target) for n in graph.nodes],
                "starts": len(graph.start_nodes),
                "ends": len(graph.end_nodes),
                "old": len(graph.fx_graph.old_modules),
                "agrees": peer.use_mkl_length(graph),
            }
        )
        return True

    config["mkldnn_layout_optimize"] = {"heuristic": heuristic}
    return seen, peer.optimize_for_inference(model, config)


@pytest.mark.parametrize("fold", [True, False])
def test_heuristics_see_the_same_regions(net: nn.Module, fold: bool) -> None:
    theirs, stock_result = regions(stock, net, conv_bn_fuse=fold)
    mine, our_result = regions(ours, net, conv_bn_fuse=fold)
    assert mine == theirs and len(mine) >= 2
    torch.testing.assert_close(our_result(X), stock_result(X), rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"remove_dropout": False},
        {"conv_bn_fuse": False},
        {"mkldnn_layout_optimize": False},
        {"mkldnn_layout_optimize": {"heuristic": lambda graph: False}},
        {"mkldnn_layout_optimize": {"heuristic": lambda graph: len(graph.nodes) > 5}},
    ],
    ids=(
        "default",
        "empty",
        "dropout",
        "no-fuse",
        "no-layout",
        "heuristic-never",
        "heuristic-size",
    ),
)
@torch.no_grad()
def test_configurations(net: nn.Module, peer: Any, config: Any) -> None:
    result = peer.optimize_for_inference(net, config)
    assert isinstance(result, fx.GraphModule)
    torch.testing.assert_close(result(X), net(X), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result(X[:1]), net(X[:1]), rtol=1e-4, atol=1e-5)
    has_dropout = ("call_module", "drop") in targets(result)
    assert has_dropout == ((config or {}).get("remove_dropout") is False)


@BOTH
@pytest.mark.parametrize("layout", [True, None, "yes", {}])
def test_wrong_configurations(net: nn.Module, peer: Any, layout: Any) -> None:
    with pytest.raises(RuntimeError, match=r"config is not a dict|Heuristic not found"):
        peer.optimize_for_inference(net, {"mkldnn_layout_optimize": layout})


@BOTH
def test_a_tracer_of_ones_own(peer: Any) -> None:
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv(x))

    class Whole(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return isinstance(m, Kept) or super().is_leaf_module(m, module_qualified_name)

    model = nn.Sequential(Kept(), nn.Conv2d(3, 3, 1)).eval()
    result = peer.optimize_for_inference(model, {"mkldnn_layout_optimize": False}, Whole)
    with torch.no_grad():
        torch.testing.assert_close(result(X), model(X))


@torch.no_grad()
@pytest.mark.parametrize("iters", [0, 2])
@pytest.mark.parametrize("inputs", [X, [X]], ids=["tensor", "list"])
def test_the_autotuner(net: nn.Module, iters: int, inputs: Any) -> None:
    tuner = ours.gen_mkl_autotuner(inputs, iters=iters, warmup=1)
    agreed: list[bool] = []

    def heuristic(graph: ours.MklSubgraph) -> bool:
        agreed.append(tuner(graph))
        return agreed[-1]

    result = ours.optimize_for_inference(net, {"mkldnn_layout_optimize": {"heuristic": heuristic}})
    assert agreed and all(isinstance(answer, bool) for answer in agreed)
    torch.testing.assert_close(result(X), net(X), rtol=1e-4, atol=1e-5)


@BOTH
def test_union_find(peer: Any) -> None:
    sets = peer.UnionFind(8)
    for v in range(8):
        sets.make_set(v)
    for a, b in [(0, 1), (2, 3), (1, 3), (5, 6)]:
        sets.join(a, b)
    groups = {frozenset(v for v in range(8) if sets.find(v) == sets.find(w)) for w in range(8)}
    assert groups == {frozenset(g) for g in [(0, 1, 2, 3), (4,), (5, 6), (7,)]}
    assert sets.size[sets.find(3)] == 4
    assert sets.join(0, 2) == sets.find(0)


def test_union_find_long_chains() -> None:
    sets = ours.UnionFind(5000)
    for v in range(5000):
        sets.make_set(v)
    for v in range(4999):
        sets.parent[v] = v + 1  # the deepest tree that joining can make
    assert sets.find(0) == 4999


@torch.no_grad()
def test_pytorchs_own_example() -> None:
    """Two chains of ten convolutions each, which meet at the end."""

    def chain() -> nn.Sequential:
        return nn.Sequential(
            *(m for _ in range(10) for m in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()))
        )

    class Foo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model, self.model2 = chain(), chain()

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x) + self.model2(x)

    model = Foo().eval()
    x = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(ours.optimize_for_inference(model)(x), model(x))
    torch.testing.assert_close(
        ours.optimize_for_inference(model, pass_config={"remove_dropout": False})(x), model(x)
    )
