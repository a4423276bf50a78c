"""A block of one layer, and the base of models that hold it, for tests of several folders."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A linear layer of 8 features, and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.lin(x))


class WithBlock(nn.Module):
    """A model whose `block` is a `Block`; a subclass has the forward."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
