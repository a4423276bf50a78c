"""Models of transformers with random weights, small enough to export in a second or two."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import Dim

from tools.installed.program import ints, program, t

STEPS = ((2, 5), (3, 7), (4, 4), (6, 9))
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
LAYERS = 2


class Logits(nn.Module):
    """A model of transformers as a module that takes tensors and returns one."""

    def __init__(self, model: nn.Module, *names: str) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True)), return_dict=False)[0]


def tokens(a: int, b: int) -> tuple[Any, ...]:
    return (ints(a, b, below=50),)


def masked(a: int, b: int) -> tuple[Any, ...]:
    return ints(a, b, below=50), torch.ones(a, b, dtype=torch.int64)


def steps(count: int) -> Any:
    return lambda: ((({0: Dim.AUTO, 1: Dim.AUTO},) * count),)


@program(masked, STEPS, steps(2), ways=("export", "strict", "aot_eager", "decomposed"))
def bert():
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50, num_hidden_layers=LAYERS, max_position_embeddings=64, **SMALL
    )
    return Logits(BertModel(config).eval(), "input_ids", "attention_mask")


@program(masked, STEPS, steps(2), ways=("export", "strict", "aot_eager"))
def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=50, n_layer=LAYERS, n_embd=16, n_head=2, n_positions=64, use_cache=False
    )
    return Logits(GPT2LMHeadModel(config).eval(), "input_ids", "attention_mask")


@program(masked, STEPS, steps(2), ways=("export", "strict", "aot_eager"))
def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50,
        num_hidden_layers=LAYERS,
        num_key_value_heads=1,
        use_cache=False,
        max_position_embeddings=64,
        **SMALL,
    )
    return Logits(LlamaForCausalLM(config).eval(), "input_ids", "attention_mask")


@program(
    lambda a, b: (ints(a, b, below=50), ints(a, b + 1, below=50)),
    STEPS,
    steps(2),
    ways=("export", "strict", "aot_eager"),
)
def t5():
    from transformers import T5Config, T5Model

    config = T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=LAYERS,
        num_heads=2,
        use_cache=False,
    )
    return Logits(T5Model(config).eval(), "input_ids", "decoder_input_ids")


@program(
    lambda a: (t(a, 3, 16, 16),),
    ((2,), (3,), (5,), (7,)),
    lambda: (({0: Dim.AUTO},),),
    ways=("export", "strict", "aot_eager", "decomposed"),
)
def vit():
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(image_size=16, patch_size=8, num_hidden_layers=LAYERS, **SMALL)
    return Logits(ViTModel(config).eval(), "pixel_values")


@program(tokens, STEPS, steps(1), ways=("train",), atol=1e-3)
def gpt2_in_training():
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=50,
        n_layer=1,
        n_embd=16,
        n_head=2,
        n_positions=64,
        use_cache=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    return Logits(GPT2LMHeadModel(config).train(), "input_ids")
