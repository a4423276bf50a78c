"""Fixtures: an environment, and fake tensors in it."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx.symbolic_shapes import ShapeEnv


@pytest.fixture
def env():
    return ShapeEnv()


@pytest.fixture
def fake(env):
    """Makes a tensor symbolic: ``fake(3, 5)`` or ``fake(some_tensor)``."""
    mode = FakeTensorMode(shape_env=env)

    def make(*sizes):
        real = sizes[0] if isinstance(sizes[0], torch.Tensor) else torch.zeros(*sizes)
        return mode.from_tensor(real)

    make.mode = mode
    return make
