"""The networks of the optimization benchmark: shapes of well-known ones, with random weights.

They are built here, since torchvision is no dependency.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.models import ResNet

__all__ = ["NETWORKS", "Network"]


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 around a shortcut, written with in-place activations as is common."""

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels_in != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += identity
        result: Tensor = self.relu(out)
        return result


def resnet50() -> nn.Module:
    blocks: list[nn.Module] = []
    channels = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for index in range(depth):
            width = 64 * 2**stage
            blocks.append(Bottleneck(channels, width, 2 if stage and not index else 1))
            channels = 4 * width
    return nn.Sequential(
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, 1000),
    )


def _conv_bn(i: int, o: int, k: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(i, o, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]


class InvertedResidual(nn.Module):
    def __init__(self, i: int, o: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = i * expand
        self.shortcut = stride == 1 and i == o
        first = [*_conv_bn(i, hidden, 1), nn.ReLU6(inplace=True)] if expand != 1 else []
        self.body = nn.Sequential(
            *first,
            *_conv_bn(hidden, hidden, 3, stride, hidden),
            nn.ReLU6(inplace=True),
            *_conv_bn(hidden, o, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.shortcut else y


def mobilenet_v2() -> nn.Module:
    layers: list[nn.Module] = [*_conv_bn(3, 32, 3, 2), nn.ReLU6(inplace=True)]
    channels = 32
    plan = [
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    for expand, out, repeat, stride in plan:
        for index in range(repeat):
            layers.append(InvertedResidual(channels, out, stride if not index else 1, expand))
            channels = out
    layers += [*_conv_bn(320, 1280, 1), nn.ReLU6(inplace=True)]
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


class DenseLayer(nn.Module):
    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(i),
            nn.ReLU(inplace=True),
            nn.Conv2d(i, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(inplace=True),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    layers: list[nn.Module] = [*_conv_bn(3, 64, 7, 2), nn.ReLU(inplace=True)]
    layers.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for stage, depth in enumerate((6, 12, 24, 16)):
        for _ in range(depth):
            layers.append(DenseLayer(channels, 32))
            channels += 32
        if stage < 3:
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
            channels //= 2
    layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, 1000))


class UNet(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = [width * 2**i for i in range(4)]

        def twice(i: int, o: int) -> nn.Sequential:
            return nn.Sequential(
                *_conv_bn(i, o, 3),
                nn.ReLU(inplace=True),
                *_conv_bn(o, o, 3),
                nn.ReLU(inplace=True),
            )

        self.down = nn.ModuleList(twice(i, o) for i, o in zip([3, *sizes], sizes, strict=False))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(o, i, 2, 2) for i, o in itertools.pairwise(sizes)
        )
        self.merge = nn.ModuleList(twice(2 * i, i) for i in sizes[:-1])
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for index, block in enumerate(self.down):
            x = block(x if not index else F.max_pool2d(x, 2))
            skips.append(x)
        for index in reversed(range(len(self.up))):
            x = self.merge[index](torch.cat([skips[index], self.up[index](x)], 1))
        result: Tensor = self.head(x)
        return result


class Block(nn.Module):
    """An encoder block with its normalization before (ViT) or behind (BERT)."""

    def __init__(self, width: int, heads: int, *, before: bool) -> None:
        super().__init__()
        self.heads, self.before = heads, before
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.out = nn.Linear(width, width), nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.1)

    def attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, length, self.heads, width // self.heads).transpose(1, 2)

        y = F.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x))
        )
        result: Tensor = self.out(y.transpose(1, 2).reshape(batch, length, width))
        return result

    def feed(self, x: Tensor) -> Tensor:
        result: Tensor = self.down(F.gelu(self.up(x)))
        return result

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            x = x + self.drop(self.attend(self.norm1(x)))
            y: Tensor = x + self.drop(self.feed(self.norm2(x)))
            return y
        x = self.norm1(x + self.drop(self.attend(x)))
        result: Tensor = self.norm2(x + self.drop(self.feed(x)))
        return result


class ViT(nn.Module):
    def __init__(self, depth: int = 4, width: int = 384) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.place = nn.Parameter(torch.randn(1, 196, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, 6, before=True) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patches(x).flatten(2).transpose(1, 2) + self.place
        result: Tensor = self.head(self.norm(self.blocks(y)).mean(1))
        return result


class Bert(nn.Module):
    def __init__(self, depth: int = 4, width: int = 384, words: int = 1000) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, width), nn.Embedding(512, width)
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, 6, before=False) for _ in range(depth)))

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1])
        result: Tensor = self.blocks(self.norm(self.words(ids) + self.places(places)))
        return result


class LastHidden(nn.Module):
    """A model of transformers that returns its last hidden state alone."""

    def __init__(self, model: nn.Module, keyword: str, **options: Any) -> None:
        super().__init__()
        self.model, self.keyword, self.options = model, keyword, options

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(**{self.keyword: x}, **self.options)[0]
        return result


def transformer_encoder() -> nn.Module:
    """`torch.nn.TransformerEncoder`: 4 layers of 256."""
    layer = nn.TransformerEncoderLayer(256, 4, 1024, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


def hugging_bert() -> nn.Module:
    """BertModel of transformers: 4 layers of 256."""
    from transformers import BertConfig, BertModel

    sizes: Any = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    config: Any = BertConfig(**sizes, intermediate_size=1024, vocab_size=1000)
    return LastHidden(BertModel(config, add_pooling_layer=False), "input_ids")


def hugging_vit() -> nn.Module:
    """ViTModel of transformers: 4 layers of 192, 197 tokens."""
    from transformers import ViTConfig, ViTModel

    sizes: Any = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3}
    config: Any = ViTConfig(**sizes, intermediate_size=768)
    return LastHidden(ViTModel(config, add_pooling_layer=False), "pixel_values")


def gpt2() -> nn.Module:
    """GPT2Model of transformers, 4 layers of 256, all tokens at once."""
    from transformers import GPT2Config, GPT2Model

    config: Any = GPT2Config(n_embd=256, n_layer=4, n_head=4, vocab_size=1000)
    return LastHidden(GPT2Model(config), "input_ids", use_cache=False)


def llama() -> nn.Module:
    """LlamaModel of transformers, 4 layers of 256, all tokens at once."""
    from transformers import LlamaConfig, LlamaModel

    sizes: Any = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    config: Any = LlamaConfig(**sizes, intermediate_size=768, vocab_size=1000)
    return LastHidden(LlamaModel(config), "input_ids", use_cache=False)


def whisper_encoder() -> nn.Module:
    """The encoder of WhisperModel of transformers: 4 layers of 256, 250 positions."""
    from transformers import WhisperConfig, WhisperModel

    config: Any = WhisperConfig(
        d_model=256,
        encoder_layers=4,
        encoder_attention_heads=4,
        encoder_ffn_dim=1024,
        decoder_layers=1,
        decoder_attention_heads=4,
        decoder_ffn_dim=64,
        max_source_positions=250,
        vocab_size=1000,
        pad_token_id=0,
        decoder_start_token_id=0,
    )
    return LastHidden(WhisperModel(config).encoder, "input_features")


@dataclass(frozen=True)
class Network:
    """A network and its inputs.

    Attributes:
        title: for the table.
        build: makes it, in eval mode, with statistics as if it had been trained.
        inputs: makes its input, for a batch size.
        convolutional: is it one of the convolutional networks?
    """

    title: str
    make: Callable[[], nn.Module]
    inputs: Callable[[int], Tensor]
    convolutional: bool

    def build(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = self.make()
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    numbers: Any = module
                    numbers.running_mean.normal_(0, 0.1)
                    numbers.running_var.uniform_(0.5, 1.5)
            return model.eval()


def _ids(length: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randint(1000, (batch, length), generator=torch.manual_seed(0))


def _numbers(*shape: int) -> Callable[[int], Tensor]:
    return lambda batch: torch.randn(batch, *shape, generator=torch.manual_seed(0))


def _images(size: int) -> Callable[[int], Tensor]:
    return _numbers(3, size, size)


NETWORKS: dict[str, Network] = {
    "resnet18": Network("ResNet-18-like", ResNet, _images(224), True),
    "resnet50": Network("ResNet-50-like", resnet50, _images(224), True),
    "mobilenet": Network("MobileNet-V2-like", mobilenet_v2, _images(224), True),
    "densenet": Network("DenseNet-121-like", densenet, _images(224), True),
    "unet": Network("U-Net", UNet, _images(128), True),
    "vit": Network("4 ViT blocks", ViT, _images(224), False),
    "bert": Network(
        "4 BERT layers",
        Bert,
        _ids(128),
        False,
    ),
    "encoder": Network("nn.TransformerEncoder", transformer_encoder, _numbers(64, 256), False),
    "hf-bert": Network("transformers' BERT", hugging_bert, _ids(64), False),
    "hf-vit": Network("transformers' ViT", hugging_vit, _images(224), False),
    "gpt2": Network("GPT-2, prefill", gpt2, _ids(64), False),
    "llama": Network("LLaMA, prefill", llama, _ids(64), False),
    "whisper": Network("Whisper's encoder", whisper_encoder, _numbers(80, 500), False),
}
