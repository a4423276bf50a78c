"""Losses of tensors whose sizes are data, against eager mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import symfx

LOSSES = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "smooth_l1": F.smooth_l1_loss,
    "huber": F.huber_loss,
    "binary_cross_entropy": lambda a, b: F.binary_cross_entropy(a.sigmoid(), b.sigmoid()),
    "with_logits": lambda a, b: F.binary_cross_entropy_with_logits(a, b.sigmoid(), weight=a.abs()),
    "cosine_similarity": lambda a, b: F.cosine_similarity(a[None], b[None]),
}
SIGNS = torch.tensor([[1.0, -1, 2], [-2, 3, -3]])


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_asserts_that_sizes_which_are_data_are_equal(name: str) -> None:
    def program(x: torch.Tensor) -> Any:
        return LOSSES[name](x[x > 0], x[x < 0])

    t = symfx.trace(program, SIGNS, dynamic=[("a", "b")])
    assert not t.guards
    for x in (SIGNS, -SIGNS, torch.tensor([[1.0, -2.0, 3.0, -4.0]] * 3)):
        torch.testing.assert_close(t(x), program(x))
    with pytest.raises(RuntimeError, match="does not hold; asserted at"):
        t(SIGNS.abs() - 1.5)


def test_a_size_that_is_data_may_have_to_be_one_number() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(x[x > 0], torch.zeros(3))

    t = symfx.trace(program, SIGNS, dynamic=[("a", "b")])
    torch.testing.assert_close(t(SIGNS), program(SIGNS))
    with pytest.raises(RuntimeError, match="== 3"):
        t(SIGNS.abs())
