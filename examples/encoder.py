"""A stack of Transformer encoder layers from ``torch.nn``: the model that the README traces.

symfx trace examples/encoder.py:EncoderStack --input "x: f32[batch, seq, 64]"
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class EncoderStack(nn.Module):
    """Several encoder layers, one after the other.

    The stack is in train mode, like every new module, but has no dropout by default. Its result
    then depends on its input alone, so a traced graph can be compared with it number by number.
    """

    def __init__(
        self,
        layers: int = 8,
        width: int = 64,
        heads: int = 4,
        hidden: int = 128,
        dropout: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.layers = nn.ModuleList(
                nn.TransformerEncoderLayer(width, heads, hidden, dropout, batch_first=True)
                for _ in range(layers)
            )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
