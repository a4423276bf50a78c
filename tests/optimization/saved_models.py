"""Models to save, one for each kind of thing that a file can hold, and files made of them anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

import symfx
from symfx.optimization.passes.fuse import lower
from symfx.optimization.report import Report
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.linear_kernels import CONVOLUTION
from symfx.optimization.saving import FORMAT


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4)
        self.second, self.up = nn.Conv2d(4, 4, 3, padding=1), nn.ConvTranspose2d(4, 4, 2, 2)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(4, 8)
        self.bn1 = nn.BatchNorm1d(8)
        self.scale = nn.Parameter(torch.rand(8))

    def forward(self, x: Tensor, more: Tensor | None = None) -> dict[str, Any]:
        y = F.hardtanh(self.bn(self.conv(x)), -0.5, 1.5)
        z = F.gelu(self.second(y) + y, approximate="tanh")
        z = F.relu6(self.bn(self.up(z) * 2))
        z = F.max_pool2d(z, 2)[:, :, 1:, ...].mean((2, 3))
        z += self.scale[:4]
        out = self.norm(self.bn1(self.head(z.to(torch.float32)))) * self.scale
        return {"out": out.view(x.shape[0], -1), "size": x.size(0), "z": [z]}


class Images(nn.Module):
    """Convolutions with poolings, of several ranks, and ways to compute them."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        block = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.LeakyReLU(0.1)
        self.layers = nn.Sequential(*stem, *block, nn.AdaptiveAvgPool2d(4), nn.Flatten(2))
        self.parts = nn.ModuleDict({"my-line": nn.Conv1d(32, 8, 3, groups=4), "drop": nn.Dropout()})

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.layers(x)
        return {"a": y.softmax(-1), "b": self.parts["drop"](self.parts["my-line"](y))}


class Words(nn.Module):
    """Linear layers and attention, with tensors that are made in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 32, padding_idx=0)
        self.query, self.value = nn.Linear(32, 32), nn.Linear(32, 32)
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)
        self.register_buffer("places", torch.rand(64, 32))

    def forward(self, x: Tensor, scale: float = 0.5) -> tuple[Tensor, Tensor]:
        y = self.embed(x) + self.places[: x.shape[1]]
        y = y + F.scaled_dot_product_attention(self.query(y), y, self.value(y), is_causal=True)
        y = y + self.down(F.gelu(self.up(y)))
        mask = torch.ones_like(y[0], dtype=torch.bool, device=torch.device("cpu")).tril()
        return y.masked_fill(y < -1e4, float("-inf")), torch.where(mask, 1.0, scale)


class Layers(nn.Module):
    """A layer of a transformer, and modules of torch that are kept whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(16), nn.RMSNorm(16)
        self.attend = nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = x + self.attend(y, y, y, need_weights=False)[0]
        y = y + self.down(F.silu(self.up(self.second(y))))
        return y


def _words() -> symfx.OptimizedModel:
    model = symfx.optimize(Words().eval(), torch.randint(16, (2, 5)), measure=False)
    fused = lower(model.graph_module, report=Report(), linears=True)
    for module in fused.modules():
        if isinstance(module, FusedLinear):
            module.choose(torch.Size([2, 5, module.weight.shape[1]]), CONVOLUTION)
    return symfx.OptimizedModel(fused, Report())


def _images() -> symfx.OptimizedModel:
    model = symfx.optimize(Images().eval(), torch.rand(2, 3, 16, 16), measure=False)
    for module in model.modules():
        if isinstance(module, FusedConv) and module.rank == 2:
            shape = (2, module.weight.shape[1], 16, 16)
            for way in module.other_ways(torch.rand(shape)):
                module.choose(torch.Size(shape), way)
    return model


MODELS: dict[str, Callable[[], symfx.OptimizedModel]] = {
    "everything": lambda: symfx.optimize(Everything().eval(), torch.randn(2, 3, 8, 8)),
    "images": _images,
    "words": _words,
    "layers": lambda: symfx.optimize(Layers().eval(), torch.rand(2, 5, 16), measure=False),
}

INPUTS: dict[str, Callable[[], Tensor]] = {
    "everything": lambda: torch.randn(2, 3, 8, 8),
    "images": lambda: torch.rand(2, 3, 16, 16),
    "words": lambda: torch.randint(16, (2, 5)),
    "layers": lambda: torch.rand(2, 5, 16),
}


def parts(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """The JSON and the tensors of a saved model."""
    with safe_open(str(path), framework="pt") as file:
        header = json.loads(file.metadata()[FORMAT])
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def written(header: Any, tensors: dict[str, Tensor]) -> bytes:
    """The content of a file with this JSON, or text, and these tensors."""
    text = header if isinstance(header, str) else json.dumps(header)
    return save(tensors, {FORMAT: text})
