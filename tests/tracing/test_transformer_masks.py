"""Transformers of torch.nn with masks: no look at their values, and no nested tensors."""

from __future__ import annotations

import pytest
import torch
from torch import nn, randn

import symfx


class Wrapped(nn.Module):
    def __init__(self, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, **options)

    def forward(self, src, src_key_padding_mask=None):
        return self.encoder(src, src_key_padding_mask=src_key_padding_mask)


ENCODERS = [(Wrapped, "encoder"), (lambda **options: Wrapped(**options).encoder, "the model")]


@pytest.mark.parametrize(("make", "name"), ENCODERS)
def test_a_transformer_encoder_with_a_padding_mask(make, name):
    mask = torch.tensor([[False, False, True, True], [False] * 4, [False, True, True, True]])
    inputs = (randn(3, 4, 16),)
    kwargs = {"src_key_padding_mask": mask}
    dynamic = {"src": ("b", "s", None), "src_key_padding_mask": ("b", "s")}
    model = make().eval()
    with torch.no_grad(), pytest.raises(symfx.TracingError) as caught:
        symfx.trace(model, inputs, kwargs, dynamic=dynamic)
    assert caught.value.fix == "build it with enable_nested_tensor=False"
    assert name in caught.value.what
    # Where gradients are wanted, the encoder stays dense, and so it does without a mask.
    v = symfx.trace(model, inputs, kwargs, dynamic=dynamic).verify()
    assert v and len(v.runs) == 6, str(v)
    with torch.no_grad():
        assert symfx.trace(model, inputs, dynamic={"src": ("b", "s", None)}).verify()
        dense = make(enable_nested_tensor=False).eval()
        v = symfx.trace(dense, inputs, kwargs, dynamic=dynamic).verify()
    assert v and len(v.runs) == 6, str(v)
    encoder = model.encoder if isinstance(model, Wrapped) else model
    assert encoder.use_nested_tensor and not encoder._forward_pre_hooks


def test_a_function_that_calls_an_encoder() -> None:
    encoder = Wrapped().encoder.eval()
    held = {"encoders": [encoder]}

    def closure(x, mask):
        return encoder(x, src_key_padding_mask=mask)

    def in_a_list(x, mask):
        return held["encoders"][0](x, src_key_padding_mask=mask)

    mask = torch.tensor([[False, False, True, True], [False] * 4])
    args, dynamic = (randn(2, 4, 16), mask), [("b", "s", None), ("b", "s")]
    for model in (closure, in_a_list):
        v = symfx.trace(model, args, dynamic=dynamic).verify()
        assert v and len(v.runs) == 6, str(v)
        with torch.no_grad(), pytest.raises(symfx.TracingError) as caught:
            symfx.trace(model, args, dynamic=dynamic)
        assert caught.value.fix == "build it with enable_nested_tensor=False"
    assert encoder.use_nested_tensor and not encoder._forward_pre_hooks


def causal(size: int) -> torch.Tensor:
    return nn.Transformer.generate_square_subsequent_mask(size)


@pytest.mark.parametrize("grad", [False, True])
def test_a_mask_for_attention_is_taken_as_it_is(grad: bool) -> None:
    model = nn.Transformer(8, 2, 1, 2, 16, batch_first=True).eval()

    def f(source, target):
        return model(source, target, tgt_mask=causal(target.size(1)))

    dynamic = {"source": ("b", "s", None), "target": ("b", "t", None)}
    with torch.set_grad_enabled(grad):
        t = symfx.trace(f, (randn(2, 5, 8), randn(2, 7, 8)), dynamic=dynamic)
        assert not t.guards
        assert t.verify()


def test_a_mask_that_comes_in_may_have_any_values() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval()
    inputs = (randn(2, 5, 8), causal(5))
    dynamic = {"src": ("b", "t", None), "mask": ("t", "t")}
    with torch.no_grad():
        t = symfx.trace(model, inputs, dynamic=dynamic)
        for mask in (causal(6), causal(6).T.contiguous(), torch.zeros(6, 6)):
            x = randn(3, 6, 8)
            torch.testing.assert_close(t(x, mask), model(x, mask))


def test_a_hint_is_kept() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1).eval()

    def f(x):
        return model(x, mask=causal(x.size(0)), is_causal=True)

    with torch.no_grad():
        t = symfx.trace(f, (randn(5, 2, 8),), dynamic={"x": ("t", "b", None)})
        assert t.verify()
    # Outside of a trace torch looks at the mask, as before.
    assert torch.nn.modules.transformer._detect_is_causal_mask(causal(4)) is True
