"""Models that find objects, whose code keys caches by sizes and computes with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import symfx

transformers = pytest.importorskip("transformers")

_SMALL = {"depths": [1, 1, 1, 1], "embedding_size": 8, "layer_type": "basic"}


def detr() -> nn.Module:
    backbone = transformers.ResNetConfig(
        hidden_sizes=[8, 8, 16, 16], out_features=["stage4"], **_SMALL
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2,
        decoder_attention_heads=2, num_queries=5,
    )  # fmt: skip
    model: nn.Module = transformers.DetrForObjectDetection(config)
    return model


def rt_detr() -> nn.Module:
    backbone = transformers.RTDetrResNetConfig(
        hidden_sizes=[8, 16, 16, 16], out_features=["stage2", "stage3", "stage4"], **_SMALL
    )
    config = transformers.RTDetrConfig(
        backbone_config=backbone, backbone=None, encoder_hidden_dim=16,
        encoder_in_channels=[16, 16, 16], encoder_ffn_dim=32, d_model=16,
        decoder_in_channels=[16, 16, 16], decoder_ffn_dim=32, num_queries=10, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, decoder_n_points=2, num_denoising=0,
        anchor_image_size=None,
    )  # fmt: skip
    model: nn.Module = transformers.RTDetrModel(config)
    return model


def mask2former() -> nn.Module:
    backbone = transformers.SwinConfig(
        image_size=64, patch_size=4, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4],
        window_size=4, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, dim_feedforward=32, num_attention_heads=2, encoder_layers=1,
        decoder_layers=2, num_queries=5, num_labels=3,
    )  # fmt: skip
    model: nn.Module = transformers.Mask2FormerModel(config)
    return model


# Mask2Former with a dynamic height and width takes ten seconds, and is traced at one image size.
MODELS = [
    (detr, ("batch", None, "height", "width")),
    (rt_detr, ("batch", None, "height", "width")),
    (mask2former, ("batch", None, None, None)),
]


@pytest.mark.parametrize(("build", "dynamic"), MODELS)
def test_nothing_is_pinned_and_the_graph_equals_the_model(
    build: Callable[[], nn.Module], dynamic: tuple[str | None, ...]
) -> None:
    torch.manual_seed(0)
    model = build().eval()
    example = {"pixel_values": torch.randn(2, 3, 64, 64)}
    t = symfx.trace(model, kwargs=example, dynamic={"pixel_values": dynamic})
    assert not t.specializations
    result = t.verify(shapes=2)
    assert result, str(result)
    assert sum(run.difference is not None for run in result.runs) == 3
