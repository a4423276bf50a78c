"""What holds for every test."""

from __future__ import annotations

import torch

# Workers of pytest-xdist share the machine; threads of theirs would only wait for each other.
torch.set_num_threads(1)
