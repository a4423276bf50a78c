"""Architectures of transformers with tiny random weights, each with an example call.

Each entry has what a tool needs to trace, type or optimize it: a module in eval mode, an example
of its arguments by name, and the dimensions that a user would ask to be dynamic. Nothing is
downloaded. The file is long because it has one entry for each architecture.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from symfx.dtypes import short_name
from symfx.sweep.steps import Subject

__all__ = ["ARCHITECTURES", "Architecture", "subject"]

#: The arguments of a call by name.
Inputs = dict[str, Tensor]
#: The sizes of the example, by dimension.
Sizes = Mapping[str, int]

TEXT = {"batch": 3, "seq": 11}
IMAGE = {"batch": 2, "height": 64, "width": 96}
SQUARE = {"batch": 3}
SOUND = {"batch": 2, "samples": 1200}
VOCABULARY = 99

#: The names by which most configurations of language models call their sizes.
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
    "use_cache": False,
}
#: The same for configurations in the names of GPT-2.
GPT = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64,
       "use_cache": False}  # fmt: skip
#: The same for encoders with a decoder.
PAIR = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "use_cache": False,
}
#: The sizes of vision transformers, which take images of one size.
VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}
#: The sizes of models of speech, whose first layers are strided convolutions.
SPEECH = {
    **TINY,
    "conv_dim": (16, 16, 16),
    "conv_stride": (4, 2, 2),
    "conv_kernel": (8, 4, 4),
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "num_feat_extract_layers": 3,
}
RESNET: dict[str, Any] = {
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 20],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


@dataclass(frozen=True)
class Architecture:
    """An architecture with tiny random weights.

    Attributes:
        name: the name of its configuration in transformers.
        kind: text, pair (encoder and decoder), image, sound or series.
        sizes: the sizes of the example, by dimension.
        dynamic: for each argument, the names of its dimensions; None for a fixed one. It has the
            form that `symfx.trace` takes.
        config: the settings of its configuration; a function makes one when the model is built.
        head: the class of the model in transformers; None for the one of AutoModel.
        draw: draws the arguments, by sizes.
    """

    name: str
    kind: str
    sizes: Sizes
    dynamic: Mapping[str, tuple[str | None, ...]]
    draw: Callable[[Sizes], Inputs]
    config: Mapping[str, Any] = field(default_factory=dict)
    head: str | None = None

    def build(self) -> nn.Module:
        """The model in eval mode, with the same weights in every run."""
        transformers: Any = importlib.import_module("transformers")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            settings = {k: v() if callable(v) else v for k, v in self.config.items()}
            config = transformers.AutoConfig.for_model(self.name, **settings)
            if self.head is None:
                model: nn.Module = transformers.AutoModel.from_config(config)
            else:
                model = getattr(transformers, self.head)(config)
        return model.eval()

    def example(self) -> Inputs:
        """The arguments of an example call by name, the same in every run."""
        return self.at(self.sizes)

    def at(self, sizes: Sizes) -> Inputs:
        """The arguments of a call at other sizes; sizes that are not named stay the example's."""
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return self.draw({**self.sizes, **sizes})

    def descriptions(self) -> list[str]:
        """The arguments in the shape language, such as ``input_ids: i64[batch, seq]``."""
        described = []
        for name, tensor in self.example().items():
            dims = zip(self.dynamic[name], tensor.shape, strict=True)
            extents = ", ".join(name or str(size) for name, size in dims)
            described.append(f"{name}: {short_name(tensor.dtype)}[{extents}]")
        return described


def subject(architecture: Architecture) -> Subject:
    """An architecture as the subject of the steps of a sweep."""
    return Subject(
        architecture.build(),
        kwargs=architecture.example(),
        dynamic=dict(architecture.dynamic),
        make_inputs=architecture.at,
    )


def _words(sizes: Sizes) -> Inputs:
    return {"input_ids": torch.randint(3, VOCABULARY, (sizes["batch"], sizes["seq"]))}


def _boxes(sizes: Sizes) -> Inputs:
    # Corners in order: the model looks up the differences of their coordinates.
    corners = torch.randint(0, 60, (sizes["batch"], sizes["seq"], 2))
    return _words(sizes) | {"bbox": torch.cat([corners, corners + 4], 2)}


def _pairs(sizes: Sizes) -> Inputs:
    targets = torch.randint(3, VOCABULARY, (sizes["batch"], sizes["target"]))
    return _words(sizes) | {"decoder_input_ids": targets}


def _images(sizes: Sizes) -> Inputs:
    shape = (sizes["batch"], 3, sizes.get("height", 32), sizes.get("width", 32))
    return {"pixel_values": torch.randn(shape)}


def _gray_images(sizes: Sizes) -> Inputs:
    return {"pixel_values": torch.rand(sizes["batch"], 3, sizes["height"], sizes["width"])}


def _large_images(sizes: Sizes) -> Inputs:
    return {"pixel_values": torch.randn(sizes["batch"], 3, 64, 64)}


def _words_and_images(sizes: Sizes) -> Inputs:
    return _words(sizes) | _images({"batch": sizes["images"]})


def _sounds(sizes: Sizes) -> Inputs:
    return {"input_values": torch.randn(sizes["batch"], sizes["samples"])}


def _channel_sounds(sizes: Sizes) -> Inputs:
    return {"input_values": torch.randn(sizes["batch"], 1, sizes["samples"])}


def _spectrograms(sizes: Sizes) -> Inputs:
    return {"input_values": torch.randn(sizes["batch"], 40, 16)}


def _spectra_and_noise(sizes: Sizes) -> Inputs:
    batch, frames = sizes["batch"], sizes["frames"]
    return {
        "input_features": torch.randn(batch, frames, 20),
        "noise_sequence": torch.randn(batch, frames, 8),
    }


def _features(sizes: Sizes) -> Inputs:
    targets = torch.randint(3, VOCABULARY, (sizes["batch"], sizes["target"]))
    return {
        "input_features": torch.randn(sizes["batch"], 20, 40),
        "decoder_input_ids": targets,
    }


def _speech_and_target(sizes: Sizes) -> Inputs:
    return _sounds(sizes) | {
        "decoder_input_values": torch.randn(sizes["batch"], sizes["target"], 20)
    }


def _series(sizes: Sizes) -> Inputs:
    return {"past_values": torch.randn(sizes["batch"], 32, 3)}


_WORDS = {"input_ids": ("batch", "seq")}
_ONE_SIZE = {"pixel_values": ("batch", None, None, None)}
_ANY_SIZE = {"pixel_values": ("batch", None, "height", "width")}
_SOUNDS = {"input_values": ("batch", "samples")}


def _text(name: str, base: Mapping[str, Any] = TINY, **more: Any) -> Architecture:
    return Architecture(name, "text", TEXT, _WORDS, _words, {**base, **more})


def _pair(name: str, base: Mapping[str, Any] = PAIR, **more: Any) -> Architecture:
    dims = {**_WORDS, "decoder_input_ids": ("batch", "target")}
    return Architecture(name, "pair", TEXT | {"target": 7}, dims, _pairs, {**base, **more})


def _image(name: str, head: str | None = None, **config: Any) -> Architecture:
    return Architecture(name, "image", IMAGE, _ANY_SIZE, _images, config, head)


def _square(name: str, base: Mapping[str, Any] = VIT, **more: Any) -> Architecture:
    return Architecture(name, "image", SQUARE, _ONE_SIZE, _images, {**base, **more})


def _sound(name: str, base: Mapping[str, Any] = SPEECH, **more: Any) -> Architecture:
    return Architecture(name, "sound", SOUND, _SOUNDS, _sounds, {**base, **more})


def _backbone() -> Any:
    """A small ResNet for the detectors, whose configuration is made when a model is built."""
    transformers: Any = importlib.import_module("transformers")
    return transformers.ResNetConfig(**RESNET, out_features=["stage2", "stage3", "stage4"])


def _segmented_backbone() -> Any:
    transformers: Any = importlib.import_module("transformers")
    stages = ["stage1", "stage2", "stage3", "stage4"]
    return transformers.ResNetConfig(**RESNET, out_features=stages)


_MODELS = [
    # Encoders of text.
    _text("albert", embedding_size=16),
    _text("bert"),
    _text("big_bird", attention_type="original_full"),
    _text("camembert"),
    Architecture("canine", "text", {"batch": 3, "seq": 24}, _WORDS, _words,
             TINY | {"local_attention_window": 8, "downsampling_rate": 4, "num_hash_buckets": 64}),
    _text("convbert", embedding_size=16, conv_kernel_size=3),
    _text("deberta", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    _text("deberta-v2", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    _text("distilbert", {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4,
                         "hidden_dim": 40, "max_position_embeddings": 64}),
    _text("electra", embedding_size=16),
    _text("ernie"),
    _text("esm", pad_token_id=1),
    _text("fnet"),
    Architecture("funnel", "text", TEXT, _WORDS, _words,
             {"vocab_size": VOCABULARY, "block_sizes": [1, 1], "block_repeats": [1, 1],
              "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 40}, "FunnelModel"),
    Architecture("layoutlm", "text", TEXT, _WORDS | {"bbox": ("batch", "seq", None)}, _boxes,
             TINY | {"max_2d_position_embeddings": 64}),
    Architecture("lilt", "text", TEXT, _WORDS | {"bbox": ("batch", "seq", None)}, _boxes,
             TINY | {"hidden_size": 48, "max_2d_position_embeddings": 64,
                     "channel_shrink_ratio": 4}),
    _text("longformer", attention_window=4),
    _text("megatron-bert"),
    _text("mobilebert", embedding_size=16, true_hidden_size=32, intra_bottleneck_size=32),
    _text("modernbert", reference_compile=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
          cls_token_id=1, sep_token_id=2, local_attention=4),
    _text("mpnet"),
    # With fewer landmarks than positions, the mask that transformers makes for a traced model (and
    # leaves out in eager mode) has a shape that the model's own line refuses.
    _text("nystromformer", num_landmarks=16, segment_means_seq_len=16),
    _text("rembert", input_embedding_size=16, output_embedding_size=16),
    _text("roberta"),
    _text("roformer"),
    _text("squeezebert", embedding_size=32),
    _text("xlm", {"vocab_size": VOCABULARY, "emb_dim": 32, "n_layers": 2, "n_heads": 4,
                  "max_position_embeddings": 64}),
    _text("xlm-roberta"),
    _text("xlnet", {"vocab_size": VOCABULARY, "d_model": 32, "n_layer": 2, "n_head": 4,
                    "d_inner": 40, "use_mems_eval": False}),
    # Decoders of text.
    _text("bloom", {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4,
                    "use_cache": False}),
    _text("codegen", GPT, rotary_dim=4, n_ctx=64),
    _text("falcon"),
    _text("gemma", head_dim=8, num_key_value_heads=2),
    _text("gemma2", head_dim=8, num_key_value_heads=2, sliding_window=4),
    _text("gpt2", GPT),
    _text("gpt_bigcode", GPT),
    _text("gpt_neo", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
          window_size=4),
    _text("gpt_neox"),
    _text("gptj", GPT, rotary_dim=4),
    _text("jamba", num_key_value_heads=2, use_mamba_kernels=False, attn_layer_period=2,
          attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, num_experts=2,
          mamba_d_state=4, mamba_dt_rank=4),
    _text("llama", num_key_value_heads=2),
    _text("mamba", state_size=4, use_mambapy=False),
    _text("mamba2", num_heads=4, head_dim=16, state_size=4, n_groups=1, chunk_size=4),
    _text("mistral", num_key_value_heads=2, sliding_window=4),
    _text("mixtral", num_key_value_heads=2, num_local_experts=2),
    _text("mpt", {"vocab_size": VOCABULARY, "d_model": 32, "n_layers": 2, "n_heads": 4,
                  "max_seq_len": 64, "use_cache": False}),
    _text("olmo", num_key_value_heads=2),
    _text("opt", PAIR, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=40,
          word_embed_proj_dim=32),
    _text("phi", num_key_value_heads=2),
    _text("qwen2", num_key_value_heads=2),
    _text("qwen3", num_key_value_heads=2, head_dim=8),
    _text("recurrent_gemma", num_key_value_heads=2, lru_width=32, attention_window_size=4,
          block_types=["recurrent", "attention"]),
    _text("stablelm", num_key_value_heads=2),
    # Encoders with decoders.
    _pair("bart"),
    _pair("marian", pad_token_id=0),
    _pair("t5", {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2,
                 "num_heads": 4, "use_cache": False}),
    # Images of any size.
    _image("convnext", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    _image("detr", d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
           decoder_attention_heads=4, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5,
           backbone_config=_backbone),
    _image("efficientnet", width_coefficient=0.2, depth_coefficient=0.2, hidden_dim=256),
    _image("focalnet", embed_dim=8, depths=[1, 1], focal_levels=[2, 2], focal_windows=[3, 3],
           hidden_sizes=[8, 16], image_size=64, patch_size=4),
    _image("mask2former", feature_size=32, mask_feature_size=32, hidden_dim=32,
           encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=1, decoder_layers=2,
           num_attention_heads=2, num_queries=5, train_num_points=8,
           backbone_config=_segmented_backbone),
    _image("mobilenet_v2", depth_multiplier=0.25),
    _image("poolformer", hidden_sizes=[8, 12, 16, 20], depths=[1, 1, 1, 1]),
    _image("pvt_v2", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1],
           num_attention_heads=[1, 2, 3, 4], mlp_ratios=[2, 2, 2, 2]),
    _image("resnet", **RESNET),
    _image("rt_detr", encoder_hidden_dim=16, d_model=16, encoder_in_channels=[12, 16, 20],
           feat_strides=[8, 16, 32], encoder_ffn_dim=16, encoder_attention_heads=2,
           decoder_attention_heads=2, decoder_ffn_dim=16, decoder_layers=2, num_queries=5,
           num_denoising=0, decoder_in_channels=[16, 16, 16], backbone_config=_backbone),
    _image("segformer", hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1],
           num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=16),
    Architecture("superpoint", "image", IMAGE, _ANY_SIZE, _gray_images,
             {"encoder_hidden_sizes": [8, 8, 8, 8], "decoder_hidden_size": 8,
              "descriptor_decoder_dim": 8, "keypoint_decoder_dim": 65},
             "SuperPointForKeypointDetection"),
    _image("swin2sr", image_size=16, patch_size=1, embed_dim=8, depths=[1, 1], num_heads=[2, 2],
           window_size=8),
    _image("swinv2", image_size=64, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4),
    _image("upernet", "UperNetForSemanticSegmentation", hidden_size=8, num_labels=4,
           use_auxiliary_head=False, pool_scales=[1, 2], backbone_config=_segmented_backbone),
    # Images of one size.
    _square("beit"),
    _square("deit"),
    _square("dinov2", mlp_ratio=2),
    Architecture("sam", "image", SQUARE, _ONE_SIZE, _large_images,
             {"vision_config": VIT | {"image_size": 64, "patch_size": 16, "output_channels": 16,
                                      "window_size": 2, "num_pos_feats": 8, "mlp_dim": 40,
                                      "global_attn_indexes": [1]},
              "prompt_encoder_config": {"hidden_size": 16, "image_size": 64, "patch_size": 16,
                                        "mask_input_channels": 4, "image_embedding_size": 4},
              "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 16, "num_hidden_layers": 1,
                                      "num_attention_heads": 2, "iou_head_hidden_dim": 16}}),
    _square("vit"),
    # Words and images.
    Architecture("clip", "image", TEXT | {"images": 2},
             _WORDS | {"pixel_values": ("images", None, None, None)}, _words_and_images,
             {"text_config": TINY, "vision_config": VIT, "projection_dim": 16}),
    # Sounds.
    _sound("hubert"),
    _sound("wav2vec2"),
    _sound("wavlm"),
    Architecture("encodec", "sound", SOUND, {"input_values": ("batch", None, "samples")},
             _channel_sounds, {"hidden_size": 16, "num_filters": 4, "codebook_size": 16,
                               "upsampling_ratios": [4, 2], "codebook_dim": 16}),
    Architecture("speecht5", "sound", SOUND | {"target": 7},
             _SOUNDS | {"decoder_input_values": ("batch", "target", None)}, _speech_and_target,
             {**SPEECH, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
              "decoder_attention_heads": 4, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40,
              "num_mel_bins": 20, "speech_decoder_prenet_units": 16,
              "speech_decoder_postnet_units": 16}, "SpeechT5ForSpeechToSpeech"),
    Architecture("univnet", "sound", {"batch": 2, "frames": 9},
             {"input_features": ("batch", "frames", None),
              "noise_sequence": ("batch", "frames", None)}, _spectra_and_noise,
             {"model_in_channels": 8, "model_hidden_channels": 8, "num_mel_bins": 20,
              "resblock_kernel_sizes": [3, 3, 3], "kernel_predictor_hidden_channels": 8},
             "UnivNetModel"),
    Architecture("vits", "sound", TEXT, _WORDS, _words,
             {**TINY, "ffn_dim": 40, "flow_size": 16, "spectrogram_bins": 9,
              "duration_predictor_filter_channels": 16, "prior_encoder_num_flows": 2,
              "upsample_initial_channel": 16, "upsample_rates": [4, 2],
              "upsample_kernel_sizes": [8, 4], "resblock_kernel_sizes": [3, 5],
              "resblock_dilation_sizes": [[1, 3], [1, 3]], "wavenet_dilation_rate": 1,
              "posterior_encoder_num_wavenet_layers": 2, "prior_encoder_num_wavenet_layers": 2}),
    Architecture("whisper", "sound", {"batch": 3, "target": 7},
             {"input_features": ("batch", None, None), "decoder_input_ids": ("batch", "target")},
             _features, PAIR | {"num_mel_bins": 20, "max_source_positions": 20,
                                "max_target_positions": 32, "pad_token_id": 0}),
    # Series.
    Architecture("patchtst", "series", {"batch": 3}, {"past_values": ("batch", None, None)},
                 _series,
             {"num_input_channels": 3, "context_length": 32, "patch_length": 8, "patch_stride": 8,
              "d_model": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 16,
              "do_mask_input": False}),
]  # fmt: skip

ARCHITECTURES: Mapping[str, Architecture] = {model.name: model for model in _MODELS}
"""The architectures by name."""
