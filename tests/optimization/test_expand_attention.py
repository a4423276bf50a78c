"""Attention and transformer layers are written out as their operators, with the same results."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

import symfx
from symfx.errors import InputMismatchError
from symfx.optimization import Report, pipeline
from symfx.optimization.graphs.effect_tables import ATTENTION_MODULES
from symfx.optimization.passes import expand_attention as expansion
from symfx.optimization.passes.expand_attention import expand_attention
from symfx.optimization.passes.fuse import lower
from symfx.optimization.runtime.attention import attend

WIDE, HEADS = 16, 4
Layer = Callable[..., Any]


class Call(nn.Module):
    """A layer, called by a function; a linear layer behind it hides the layout of its result."""

    def __init__(self, layer: nn.Module, call: Layer) -> None:
        super().__init__()
        self.layer, self.call, self.last = layer, call, nn.Linear(WIDE, WIDE)

    def forward(self, x: Tensor, y: Tensor, mask: Tensor) -> Any:
        return self.last(self.call(self.layer, x, y, mask))


def written_out(layer: nn.Module, call: Layer) -> tuple[nn.Module, nn.Module, Report]:
    torch.manual_seed(0)
    model = Call(layer, call).eval()
    for parameter in layer.parameters():  # biases are zero and norms are one at first
        nn.init.normal_(parameter, std=0.3)
    traced, report = fx.symbolic_trace(model), Report()
    return model, expand_attention(traced, report), report


def agree(model: nn.Module, other: nn.Module, *inputs: Any) -> None:
    with torch.no_grad():
        expected, found = model(*inputs), other(*inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def encoder_layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDE, HEADS, 24, **options)


def decoder_layer(**options: Any) -> nn.TransformerDecoderLayer:
    return nn.TransformerDecoderLayer(WIDE, HEADS, 24, **options)


def encoder(norm: bool = False, **options: Any) -> nn.TransformerEncoder:
    last = nn.LayerNorm(WIDE) if norm else None
    return nn.TransformerEncoder(encoder_layer(**options), 2, last, enable_nested_tensor=False)


OPTIONS: list[dict[str, Any]] = [
    {"batch_first": batch_first, "norm_first": norm_first, "activation": activation, "bias": bias}
    for batch_first in (True, False)
    for norm_first in (True, False)
    for activation, bias in (("relu", True), ("gelu", True), (nn.GELU(), False), (nn.ReLU(), True))
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_encoders_and_decoders_compute_the_same(options: dict[str, Any]) -> None:
    calls: list[tuple[nn.Module, Layer]] = [
        (encoder_layer(**options), lambda layer, x, y, mask: layer(x)),
        (encoder(**options), lambda layer, x, y, mask: layer(src=x)),
        (encoder(norm=True, **options), lambda layer, x, y, mask: layer(x, mask)),
        (decoder_layer(**options), lambda layer, x, y, mask: layer(x, y, tgt_mask=mask)),
        (
            nn.TransformerDecoder(decoder_layer(**options), 2, nn.LayerNorm(WIDE)),
            lambda layer, x, y, mask: layer(x, memory=y),
        ),
        (
            nn.Transformer(WIDE, HEADS, 1, 2, 24, **options),
            lambda layer, x, y, mask: layer(y, x, tgt_mask=mask),
        ),
    ]
    for layer, call in calls:
        model, traced, report = written_out(layer, call)
        assert [rewrite.what.split()[2] for rewrite in report.rewrites] == [type(layer).__name__]
        assert not any(type(part) is type(layer) for part in called_modules(traced))
        for batch, length, other in ((3, 5, 7), (2, 4, 4), (1, 1, 3)):
            shape = (batch, length) if options["batch_first"] else (length, batch)
            second = (batch, other) if options["batch_first"] else (other, batch)
            x, y = torch.randn(*shape, WIDE), torch.randn(*second, WIDE)
            agree(model, traced, x, y, torch.ones(length, length, dtype=torch.bool).triu(1))
            agree(model, traced, x, y, torch.randn(length, length))


def called_modules(traced: Any) -> list[nn.Module]:
    nodes = traced.graph.nodes
    return [traced.get_submodule(node.target) for node in nodes if node.op == "call_module"]


def test_sequences_without_a_batch_compute_the_same() -> None:
    model, traced, _ = written_out(encoder_layer(), lambda layer, x, y, mask: layer(x, mask))
    agree(model, traced, torch.randn(5, WIDE), None, torch.randn(5, 5))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_attention_alone_computes_the_same(batch_first: bool, bias: bool) -> None:
    def attention() -> nn.MultiheadAttention:
        return nn.MultiheadAttention(WIDE, HEADS, bias=bias, batch_first=batch_first)

    calls: list[Layer] = [
        lambda layer, x, y, mask: layer(x, x, x)[0],
        lambda layer, x, y, mask: layer(x, y, y)[0],
        lambda layer, x, y, mask: layer(x, y, value=y + 1, need_weights=False)[0],
        lambda layer, x, y, mask: layer(x, y, y, None, False, mask)[0],
    ]
    for call in calls:
        model, traced, report = written_out(attention(), call)
        assert len(report.rewrites) == 1
        x, y = (torch.randn(2, size, WIDE) for size in (3, 5))
        x, y = (x, y) if batch_first else (x.transpose(0, 1), y.transpose(0, 1))
        agree(model, traced, x, y, torch.randn(3, 5))
        agree(model, traced, x, y, torch.randn(2 * HEADS, 3, 5))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("learns", [True, False])
def test_a_row_that_a_mask_hides_wholly_is_as_in_torch(
    batch_first: bool, heads: int, learns: bool
) -> None:
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[2] = True
    options: dict[str, Any] = {"batch_first": batch_first}
    layers: list[tuple[nn.Module, Layer]] = [
        (
            nn.TransformerEncoderLayer(WIDE, heads, 24, **options),
            lambda layer, x, y, m: layer(x, m),
        ),
        (
            nn.TransformerDecoderLayer(WIDE, heads, 24, **options),
            lambda layer, x, y, m: layer(x, x, m, m),
        ),
        (
            nn.MultiheadAttention(WIDE, heads, **options),
            lambda layer, x, y, m: layer(x, x, x, attn_mask=m, need_weights=False)[0],
        ),
    ]
    for layer, call in layers:
        model, traced, report = written_out(layer.requires_grad_(learns), call)
        assert report.rewrites
        x = torch.randn(2, 5, WIDE) if batch_first else torch.randn(5, 2, WIDE)
        for numbers in (mask, torch.zeros(5, 5).masked_fill(mask, -torch.inf), torch.rand(5, 5)):
            agree(model, traced, x, None, numbers)
            found, expected = traced(x, None, numbers), model(x, None, numbers)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def test_attention_with_a_mask_and_its_weights_stays_whole() -> None:
    attention = nn.MultiheadAttention(WIDE, HEADS)
    _, _, report = written_out(
        attention, lambda layer, x, y, mask: layer(x, x, x, attn_mask=mask)[0]
    )
    assert not report.rewrites and "need_weights" in report.left_alone[0].why


def test_the_layers_that_are_written_out_do_not_change() -> None:
    model = Classifier().eval()
    traced = fx.symbolic_trace(model)
    ids = torch.randint(30, (4, 9))
    before = traced(ids)
    lower(fx.GraphModule(traced, traced.graph), linears=True)
    assert all(type(layer.linear1) is nn.Linear for layer in model.encoder.layers)
    torch.testing.assert_close(model(ids), before)


class OtherLayer(nn.TransformerEncoderLayer):
    pass


def with_part(layer: nn.Module, name: str, part: nn.Module) -> nn.Module:
    setattr(layer, name, part)
    return layer


def with_hook(layer: nn.Module) -> nn.Module:
    layer.get_submodule("linear1").register_forward_hook(lambda *_: None)
    return layer


padding = torch.zeros(2, 5, dtype=torch.bool)
KEPT: dict[str, tuple[Callable[[], nn.Module], Layer]] = {
    "src_key_padding_mask": (encoder_layer, lambda layer, x, y, m: layer(x, None, m)),
    "is_causal": (encoder_layer, lambda layer, x, y, m: layer(x, m, is_causal=True)),
    "has hooks": (lambda: with_hook(encoder_layer()), lambda layer, x, y, m: layer(x)),
    "its norm1 is a RMSNorm": (
        lambda: with_part(encoder_layer(), "norm1", nn.RMSNorm(WIDE)),
        lambda layer, x, y, m: layer(x),
    ),
    "neither ReLU nor GELU": (
        lambda: encoder_layer(activation=F.silu),
        lambda layer, x, y, m: layer(x),
    ),
    "writes to its argument": (
        lambda: encoder_layer(activation=nn.ReLU(inplace=True)),
        lambda layer, x, y, m: layer(x),
    ),
    "a layer is a OtherLayer": (
        lambda: nn.TransformerEncoder(OtherLayer(WIDE, HEADS, 24), 1),
        lambda layer, x, y, m: layer(x),
    ),
    "attention weights are used": (
        lambda: nn.MultiheadAttention(WIDE, HEADS),
        lambda layer, x, y, m: (lambda pair: pair[0] + pair[1].sum())(layer(x, x, x)),
    ),
    "results are used together": (
        lambda: nn.MultiheadAttention(WIDE, HEADS),
        lambda layer, x, y, m: operator.add(layer(x, x, x), (x,))[0],
    ),
    "adds a key of its own": (
        lambda: nn.MultiheadAttention(WIDE, HEADS, add_bias_kv=True),
        lambda layer, x, y, m: layer(x, x, x)[0],
    ),
    "another width": (
        lambda: nn.MultiheadAttention(WIDE, HEADS, kdim=3),
        lambda layer, x, y, m: layer(x, y, x)[0],
    ),
    "not float32": (
        lambda: nn.MultiheadAttention(WIDE, HEADS).double(),
        lambda layer, x, y, m: layer(x, x, x)[0],
    ),
}


@pytest.mark.parametrize("why", KEPT)
def test_layers_of_another_formula_stay_whole(why: str) -> None:
    build, call = KEPT[why]
    _, traced, report = written_out(build(), call)
    assert not report.rewrites
    assert any(why in entry.why for entry in report.left_alone), report.left_alone
    assert any(part is traced.layer for part in called_modules(traced))


def test_layers_in_train_mode_stay_whole() -> None:
    model = Call(encoder_layer(), lambda layer, x, y, mask: layer(x))
    traced, report = fx.symbolic_trace(model), Report()
    expand_attention(traced, report)
    assert "train mode" in report.left_alone[0].why


def test_batches_of_different_sizes_are_refused_as_in_torch() -> None:
    with pytest.raises(InputMismatchError, match="batches of 2 and 1"):
        attend(torch.ones(2, 3, 8), torch.ones(1, 3, 8), torch.ones(1, 3, 8), 2, True)


class Classifier(nn.Module):
    """A small model of text."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, WIDE)
        self.encoder = encoder(batch_first=True, activation="gelu")
        self.attention = nn.MultiheadAttention(WIDE, HEADS, batch_first=True)
        self.head = nn.Linear(WIDE, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.encoder(self.embedding(ids))
        x = x + self.attention(x, x, x)[0]
        return self.head(x.mean(1))


def test_optimize_writes_out_attention_and_saves_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fastest_form", lambda *_: "fused")  # whatever the clock says
    torch.manual_seed(0)
    model = Classifier().eval()
    ids = torch.randint(30, (4, 9))
    fast = symfx.optimize(model, ids)
    path = tmp_path / "model.symfx"
    other = torch.randint(30, (2, 5))
    torch.testing.assert_close(fast(other), model(other), rtol=1e-4, atol=1e-5)
    what = [rewrite.what for rewrite in fast.report.rewrites]
    assert "wrote out TransformerEncoder as its operators" in what
    assert "wrote out MultiheadAttention as its operators" in what
    fast.save(path)
    torch.testing.assert_close(symfx.optimization.load(path)(other), fast(other))


class Branching(nn.Module):
    """A model that torch.fx cannot trace, around an encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder(batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x) if x.sum() < 1e9 else x


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
def test_an_encoder_that_is_the_model_is_written_out(
    inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "fastest_form", lambda *_: "fused")
    torch.manual_seed(0)
    model = (Branching() if inside else encoder(batch_first=True)).eval()
    fast = symfx.optimize(model, torch.randn(4, 9, WIDE))
    assert "wrote out TransformerEncoder as its operators" in [r.what for r in fast.report.rewrites]
    x = torch.randn(2, 5, WIDE)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x), rtol=1e-4, atol=1e-5)
    if not inside:
        with pytest.raises(InputMismatchError, match="optimized for calls without mask"):
            fast(x, torch.zeros(5, 5))


def test_each_attention_module_has_the_names_of_its_values() -> None:
    assert expansion._VALUES.keys() == ATTENTION_MODULES
