"""A model that holds for one length alone: symfx names the line that pins it.

symfx trace examples/pinned.py:add_positions --input "x: f32[batch, seq=16, 8]"
"""

from __future__ import annotations

import torch
from torch import Tensor

POSITIONS = torch.linspace(0, 1, 16 * 8).reshape(16, 8)


def add_positions(x: Tensor) -> Tensor:
    """Add the position in the sequence, for sequences of 16."""
    return x + POSITIONS
