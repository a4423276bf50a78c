"""Traces with reports, for the tests of reports; one of them is hostile."""

from __future__ import annotations

import json
import re
from typing import Any

import torch
from torch import nn

import symfx

#: What runs a script wherever the page would put it without care.
HOSTILE = "</script><script>hacked=1</script><img src=x onerror=hacked=1>'\"&\u2028${x}<!--"


class Pinned(nn.Module):
    """A model that pins ``seq`` and asks for ``batch <= 64``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 8)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.pool = nn.Linear(16, 1)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        if ids.shape[0] > 64:
            x = x * 0.5
        x = self.body(x)
        x = x + self.body(x)
        return self.pool(x.transpose(1, 2)).squeeze(-1)  # the line that pins


def pinned_trace() -> symfx.Trace:
    torch.manual_seed(0)
    example = (torch.randint(0, 100, (3, 16)),)
    return symfx.trace(Pinned(), example, dynamic={"ids": ("batch", "seq")}, strict=False)


class Encoders(nn.Module):
    """Two encoder layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True) for _ in range(2)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def encoder_trace() -> symfx.Trace:
    torch.manual_seed(0)
    return symfx.trace(Encoders(), torch.randn(3, 5, 16), dynamic=[("batch", "seq", None)])


@torch.library.custom_op("symfx_report::labeled", mutates_args=())
def labeled(x: torch.Tensor, label: str) -> torch.Tensor:
    return x * 2


@labeled.register_fake
def _(x: torch.Tensor, label: str) -> torch.Tensor:
    return torch.empty_like(x)


class _Hostile(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.add_module(HOSTILE.replace(".", ""), nn.Linear(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for child in self.children():
            x = child(x)
        if x.shape[0] > 100:  # </script><script>hacked=1</script>
            raise ValueError(HOSTILE)
        return labeled(x, HOSTILE)


def hostile_trace() -> symfx.Trace:
    """A trace whose names, texts and lines try to run a script."""
    kind = type(HOSTILE, (_Hostile,), {})
    t = symfx.trace(kind(), torch.randn(3, 4), dynamic=[("n", None)])
    for node in t.graph_module.graph.nodes:
        if node.op == "call_function":
            node.name = f"{node.name}{HOSTILE}"
    return t


def large_trace(length: int) -> symfx.Trace:
    """A function of as many operators, in no module."""

    def chain(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        for _ in range(length):
            x = x + y
        return x

    return symfx.trace(chain, (torch.randn(3), torch.randn(3)), dynamic={"x": ("n",), "y": ("n",)})


def contents_in(page: str) -> dict[str, Any]:
    """The contents that stand in a page."""
    found = re.search(r'<script type="application/json" id="contents">(.*?)</script>', page, re.S)
    assert found is not None
    contents: dict[str, Any] = json.loads(found[1])
    return contents
