"""Models of transformers with random weights: the optimized model returns the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import symfx

tf = pytest.importorskip("transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 60}
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}

MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**TEXT)),
    "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**TEXT)),
    "electra": lambda: tf.ElectraModel(tf.ElectraConfig(**TEXT)),
    "gpt2": lambda: tf.GPT2Model(
        tf.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=60, **ENDS)
    ),
    "t5": lambda: tf.T5EncoderModel(
        tf.T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=60)
    ),
    "vit": lambda: tf.ViTModel(tf.ViTConfig(**SMALL, image_size=32, patch_size=8)),
    "swin": lambda: tf.SwinModel(
        tf.SwinConfig(
            image_size=32,
            patch_size=4,
            embed_dim=16,
            depths=[1, 1],
            num_heads=[2, 4],
            window_size=4,
        )
    ),
    "resnet": lambda: tf.ResNetModel(
        tf.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 2])
    ),
    "resnet, classes": lambda: tf.ResNetForImageClassification(
        tf.ResNetConfig(embedding_size=16, hidden_sizes=[32, 64], depths=[1, 2])
    ),
    "regnet": lambda: tf.RegNetModel(
        tf.RegNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], groups_width=8)
    ),
    "convnext": lambda: tf.ConvNextModel(
        tf.ConvNextConfig(hidden_sizes=[16, 32], depths=[1, 1], num_stages=2)
    ),
    "llama": lambda: tf.LlamaModel(tf.LlamaConfig(**TEXT, **ENDS)),
    "deberta": lambda: tf.DebertaModel(tf.DebertaConfig(**TEXT)),
    "upernet": lambda: tf.UperNetForSemanticSegmentation(
        tf.UperNetConfig(
            backbone_config=tf.ConvNextConfig(
                hidden_sizes=[8, 16],
                depths=[1, 1],
                num_stages=2,
                out_features=["stage1", "stage2"],
            ),
            hidden_size=16,
            pool_scales=[1, 2],
            use_auxiliary_head=False,
        )
    ),
    "mobilenet": lambda: tf.MobileNetV2Model(tf.MobileNetV2Config(depth_multiplier=0.35)),
}


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("measure", [False, True])
def test_optimized_models_return_the_same(name: str, measure: bool) -> None:
    torch.manual_seed(0)
    model: Any = MODELS[name]().eval()
    key = model.main_input_name
    text = key == "input_ids"

    def inputs(batch: int) -> dict[str, Tensor]:
        return {key: torch.randint(2, 60, (batch, 9)) if text else torch.randn(batch, 3, 32, 32)}

    fast = symfx.optimize(model, example_kwargs=inputs(2), measure=measure)
    for batch in (1, 2, 3):
        given = inputs(batch)
        expected, found = model(**given), fast(**given)
        assert type(found) is type(expected)
        assert list(found) == list(expected)
        for mine, theirs in zip(found.to_tuple(), expected.to_tuple(), strict=True):
            if isinstance(theirs, Tensor):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
                if name != "upernet":  # it resizes images of one pixel that are channels last
                    assert mine.stride() == theirs.stride()


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_an_example_of_one_row(name: str) -> None:
    """With one row, the code that makes the mask takes another branch."""
    torch.manual_seed(0)
    model: Any = MODELS[name]().eval()
    fast = symfx.optimize(model, example_kwargs={"input_ids": torch.randint(2, 60, (1, 9))})
    for batch in (1, 3, 1):
        ids = torch.randint(2, 60, (batch, 9))
        expected, found = model(input_ids=ids), fast(input_ids=ids)
        torch.testing.assert_close(
            found.last_hidden_state, expected.last_hidden_state, rtol=1e-4, atol=1e-4
        )
