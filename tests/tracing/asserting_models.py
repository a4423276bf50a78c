"""Programs that assert conditions on data.

They stand in a module of their own: pytest writes the assertions of test modules anew.
"""

from __future__ import annotations

import torch
from torch import nn


def within(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    assert lengths.max().item() <= x.shape[0]
    return x * 2


def both(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    assert (lengths >= 0).all() and lengths.max() <= 5, "lengths are from 0 to 5"
    return x[: lengths.max().item()]


def refused(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    if not (lengths.max() <= 5):
        raise AssertionError("too long")
    return x * 2


class Checked(nn.Module):
    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return both(x, lengths)


def either(x: torch.Tensor) -> torch.Tensor:
    assert x.max() < 5 or x.min() > -5
    return x


def first_of_either(x: torch.Tensor) -> torch.Tensor:
    assert (x.max() < 5 and x.min() > -5) or x.sum() > 3
    return x


def branch(x: torch.Tensor) -> torch.Tensor:
    y = x * 2 if x.max() < 5 else x
    assert y.dim() == 1
    return y


def caught(x: torch.Tensor) -> torch.Tensor:
    try:
        assert x.max() < 5
    except AssertionError:
        return x * 2
    return x


def caught_around(x: torch.Tensor) -> torch.Tensor:
    try:
        return branch_free(x)
    except AssertionError:
        return x * 2


def branch_free(x: torch.Tensor) -> torch.Tensor:
    assert x.max() < 5
    return x
