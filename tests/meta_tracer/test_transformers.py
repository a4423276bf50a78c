"""Models of transformers with random weights: traced with meta values, equal to eager."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from symfx.errors import TracingError
from symfx.meta_tracer import NotRecordableError, symbolic_trace

tf = pytest.importorskip("transformers")

IDS = torch.randint(0, 99, (2, 7))
MASK = torch.ones(2, 7, dtype=torch.long)
MASK[0, 5:] = 0
TEXT = {"input_ids": IDS, "attention_mask": MASK}
SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
}  # fmt: skip


def gpt2(model: str = "GPT2LMHeadModel", **options: Any) -> Any:
    tokens = {"bos_token_id": 0, "eos_token_id": 0}
    config = tf.GPT2Config(vocab_size=100, n_embd=16, n_layer=2, n_head=2, **tokens, **options)
    return getattr(tf, model)(config)


def t5(**options: Any) -> Any:
    sizes = {"d_model": 16, "num_layers": 2, "num_heads": 2, "d_ff": 24, "d_kv": 8}
    config = tf.T5Config(vocab_size=100, decoder_start_token_id=0, **sizes)
    return tf.T5ForConditionalGeneration(config)


MODELS: dict[str, tuple[Callable[..., Any], dict[str, Tensor]]] = {
    "bert": (lambda **o: tf.BertModel(tf.BertConfig(vocab_size=100, **SIZES, **o)), TEXT),
    "distilbert": (
        lambda **o: tf.DistilBertForSequenceClassification(
            tf.DistilBertConfig(vocab_size=100, dim=16, n_layers=2, n_heads=2, hidden_dim=24, **o)
        ),
        TEXT,
    ),
    "gpt2": (gpt2, TEXT),
    "t5": (t5, {**TEXT, "decoder_input_ids": IDS[:, :4]}),
    "vit": (
        lambda **o: tf.ViTModel(tf.ViTConfig(image_size=8, patch_size=4, **SIZES, **o)),
        {"pixel_values": torch.rand(2, 3, 8, 8)},
    ),
}


TOKENS = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0}
IMAGE = {"pixel_values": torch.rand(2, 3, 32, 32)}
MORE: dict[str, tuple[Callable[[], Any], dict[str, Tensor]]] = {
    "llama": (
        lambda: tf.LlamaForCausalLM(
            tf.LlamaConfig(vocab_size=100, num_key_value_heads=1, **SIZES, **TOKENS)
        ),
        TEXT,
    ),
    "albert": (
        lambda: tf.AlbertModel(
            tf.AlbertConfig(vocab_size=100, embedding_size=8, **SIZES, **TOKENS)
        ),
        TEXT,
    ),
    "swin": (
        lambda: tf.SwinModel(
            tf.SwinConfig(
                image_size=32, embed_dim=8, depths=[1, 1], num_heads=[1, 2], window_size=4
            )
        ),
        IMAGE,
    ),
    "whisper": (
        lambda: tf.WhisperModel(
            tf.WhisperConfig(
                vocab_size=100, d_model=16, encoder_layers=1, decoder_layers=1,
                encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
                decoder_ffn_dim=24, num_mel_bins=8, max_source_positions=20,
                max_target_positions=20, decoder_start_token_id=0, **TOKENS,
            )
        ),
        {"input_features": torch.rand(2, 8, 40), "decoder_input_ids": IDS[:, :4]},
    ),
}  # fmt: skip


def metas(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.to("meta") for k, v in inputs.items()}


def left_out(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    parameters = inspect.signature(model.forward).parameters.values()
    return {
        p.name: p.default for p in parameters if p.default is not p.empty and p.name not in inputs
    }


def tensors(output: Any) -> list[Tensor]:
    return [v for v in output.to_tuple() if isinstance(v, Tensor)]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", MODELS)
def test_models(name: str, attention: str) -> None:
    make, inputs = MODELS[name]
    model = make(attn_implementation=attention).eval()
    concrete = left_out(model, inputs)
    options = {"use_cache": False} if "use_cache" in concrete else {}
    gm = symbolic_trace(model, metas(inputs), {**concrete, **options})
    for mask in (MASK, torch.ones_like(MASK)):
        given = {**inputs, "attention_mask": mask} if "attention_mask" in inputs else inputs
        fixed = {f"{k}_1": v for k, v in options.items()}
        ours, theirs = gm(**given, **fixed), model(**given, **options)
        assert type(ours) is type(theirs)
        torch.testing.assert_close(tensors(ours), tensors(theirs))


@pytest.mark.parametrize("name", MORE)
def test_more_models(name: str) -> None:
    make, inputs = MORE[name]
    model = make().eval()
    concrete = left_out(model, inputs)
    options = {"use_cache": False} if "use_cache" in concrete else {}
    gm = symbolic_trace(model, metas(inputs), {**concrete, **options})
    fixed = {f"{k}_1": v for k, v in options.items()}
    torch.testing.assert_close(tensors(gm(**inputs, **fixed)), tensors(model(**inputs, **options)))


def test_a_call_that_needs_data_is_named_with_its_line() -> None:
    config = tf.LongformerConfig(vocab_size=100, attention_window=4, **SIZES, **TOKENS)
    model = tf.LongformerModel(config).eval()
    with pytest.warns(UserWarning), pytest.raises(TracingError) as caught:
        symbolic_trace(model, metas(TEXT), left_out(model, TEXT))
    assert "modeling_longformer" in str(caught.value)
    assert "view cannot be computed without data" in str(caught.value)


def test_a_traced_model_pickles() -> None:
    model = gpt2("GPT2Model").eval()
    inputs = {"input_ids": IDS}
    concrete = {**left_out(model, inputs), "use_cache": False}
    gm = symbolic_trace(model, metas(inputs), concrete)
    loaded = pickle.loads(pickle.dumps(gm))
    given = {**inputs, "use_cache_1": False}
    torch.testing.assert_close(tensors(loaded(**given)), tensors(gm(**given)))


@pytest.mark.parametrize("name", MODELS)
def test_inputs_left_open_end_in_a_message_with_the_line(name: str) -> None:
    make, inputs = MODELS[name]
    with pytest.raises(TracingError) as caught:
        symbolic_trace(make().eval(), metas(inputs))
    message = str(caught.value)
    assert "modeling_" in message and "at: " in message and "concrete_args" in message


def test_a_cache_ends_in_a_message() -> None:
    model = gpt2().eval()
    with pytest.raises(NotRecordableError, match=r"(?s)DynamicCache.*at: .*use_cache=False"):
        symbolic_trace(model, metas(TEXT), left_out(model, TEXT))
