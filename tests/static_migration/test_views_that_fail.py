"""Views that eager refuses for the layout of their tensor are refused, whatever made the layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from symfx.static_migration import typecheck


class Program(nn.Module):
    def __init__(self, function: Any, layer: nn.Module | None = None) -> None:
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, x):
        return self.function(x if self.layer is None else self.layer(x))


@pytest.mark.parametrize(
    "function, layer, given, size",
    [
        (lambda x: x.unsqueeze(1).expand(-1, 4, -1).view(-1), None, "[n, 3]", (5, 3)),
        (lambda x: x[:, :2].view(-1), None, "[n, 3]", (5, 3)),
        (lambda x: x[::2].view(-1), None, "[n, 3]", (5, 3)),
        (lambda x: x.chunk(2, -1)[0].view(-1), None, "[n, 4]", (5, 4)),
        (lambda x: x.T.view(-1), None, "[n, 4]", (5, 4)),
        (lambda x: x.movedim(1, -1).view(x.shape[0], -1), None, "[n, 4, 3]", (5, 4, 3)),
        (lambda x: (x.permute(0, 2, 1) + 1).view(-1), None, "[n, 4, 3]", (5, 4, 3)),
        (
            lambda x: x.permute(0, 2, 3, 1).view(x.shape[0], -1),
            nn.Conv2d(3, 4, 3),
            "[n, 3, 9, 9]",
            (2, 3, 9, 9),
        ),
        (
            lambda x: x[0].reshape(-1, 4).view(-1, 2),
            nn.LSTM(4, 4, batch_first=True),
            "[n, t, 4]",
            (2, 3, 4),
        ),
        (lambda x: x[0].view(-1, 4), nn.LSTM(4, 4, batch_first=True), "[n, t, 4]", (2, 3, 4)),
        (
            lambda x: F.scaled_dot_product_attention(x, x, x).transpose(1, 2).flatten(2).view(-1),
            None,
            "[n, 2, t, 4]",
            (2, 2, 3, 4),
        ),
        (lambda x: x.permute(0, 2, 1).contiguous().view(-1), None, "[n, 4, 3]", (5, 4, 3)),
        (
            lambda x: x.permute(0, 2, 1).clone(memory_format=torch.contiguous_format).view(-1),
            None,
            "[n, 4, 3]",
            (5, 4, 3),
        ),
        (lambda x: x.permute(1, 0, 2).view(torch.int16), None, "f32[n, 4, 3]", (5, 4, 3)),
        (lambda x: x.t().view(torch.int16), None, "f32[n, 4]", (5, 4)),
    ],
)
def test_a_view_is_refused_where_eager_refuses_it(
    function: Any, layer: nn.Module | None, given: str, size: tuple[int, ...]
) -> None:
    program = Program(function, layer)
    found = typecheck(program, {"x": given})
    try:
        with torch.no_grad():
            program(torch.rand(size))
        runs = True
    except RuntimeError:
        runs = False
    assert found.verdict == ("well-typed" if runs else "ill-typed"), str(found)
    if not runs:
        assert found.conflict is not None
        assert "reshape can" in str(found)
        assert __file__.rpartition("/")[2] in str(found)
