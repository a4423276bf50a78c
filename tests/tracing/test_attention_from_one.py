"""Multi-head attention of any batch and length, one included, needs no guard."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import symfx
from symfx import Dim

WIDTH, HEADS = 8, 2
LAYERS: dict[str, nn.Module] = {
    "attention": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
    "sequence first": nn.MultiheadAttention(WIDTH, HEADS),
    "with bias of keys": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, add_bias_kv=True),
    "with zero attention": nn.MultiheadAttention(
        WIDTH, HEADS, batch_first=True, add_zero_attn=True
    ),
    "without bias": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, bias=False),
}


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_attention(name: str, need_weights: bool) -> None:
    layer: Any = LAYERS[name]

    def model(x: torch.Tensor) -> Any:
        return layer(x, x, x, need_weights=need_weights)[:1]

    compare(model, (Dim("b", min=1), Dim("s", min=1), None))


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("train", [True, False])
def test_encoder_layers(train: bool, norm_first: bool) -> None:
    layer = nn.TransformerEncoderLayer(
        WIDTH, HEADS, 16, dropout=0.0, batch_first=True, norm_first=norm_first
    )
    compare(layer.train(train), (Dim("b", min=1), Dim("s", min=1), None))


def compare(model: Any, dims: tuple[Any, ...]) -> None:
    t = symfx.trace(model, torch.randn(2, 5, WIDTH), dynamic=(dims,))
    assert not t.guards
    for sizes in ((3, 9), (1, 5), (2, 1), (1, 1)):
        x = torch.randn(*sizes, WIDTH)
        assert t.check(x), (sizes, str(t.check(x)))
        torch.testing.assert_close(t(x), model(x))


def test_keys_of_another_length() -> None:
    layer = nn.MultiheadAttention(WIDTH, HEADS, kdim=4, vdim=6, batch_first=True)

    def model(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        return layer(q, k, v)

    batch, length, keys = Dim("b", min=1), Dim("q", min=1), Dim("k", min=1)
    dynamic = ((batch, length, None), (batch, keys, None), (batch, keys, None))
    inputs = (torch.randn(2, 5, WIDTH), torch.randn(2, 7, 4), torch.randn(2, 7, 6))
    t = symfx.trace(model, inputs, dynamic=dynamic)
    assert not t.guards
    for b, q, k in ((1, 5, 2), (3, 1, 1), (1, 1, 4)):
        inputs = (torch.randn(b, q, WIDTH), torch.randn(b, k, 4), torch.randn(b, k, 6))
        torch.testing.assert_close(t(*inputs), model(*inputs))
