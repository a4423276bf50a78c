"""Functions whose decomposition in torch computes other results, against eager mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import symfx

r = torch.randn


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("both_ways", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_dropout_between_the_layers_of_a_recurrent_network(
    kind: Any, batch_first: bool, both_ways: bool, bias: bool
) -> None:
    model = kind(3, 4, 3, dropout=0.5, batch_first=batch_first, bidirectional=both_ways, bias=bias)
    t = symfx.trace(model, r(2, 5, 3))
    dropouts = [n for n in t.graph_module.graph.nodes if "native_dropout" in str(n.target)]
    assert len(dropouts) == 2
    for seed in range(3):
        x = r(2, 5, 3)
        torch.manual_seed(seed)
        wanted = model(x)
        torch.manual_seed(seed)
        torch.testing.assert_close(t(x), wanted)


def test_dropout_of_an_lstm_with_a_projection() -> None:
    model = nn.LSTM(3, 5, 2, dropout=0.5, proj_size=2)
    t, x = symfx.trace(model, r(4, 2, 3)), r(4, 2, 3)
    torch.manual_seed(1)
    wanted = model(x)
    torch.manual_seed(1)
    torch.testing.assert_close(t(x), wanted)


def test_dropout_in_eval_mode_and_of_one_layer_is_none() -> None:
    x = r(2, 5, 3)
    model = nn.GRU(3, 4, 2, dropout=0.5).eval()
    torch.testing.assert_close(symfx.trace(model, x)(x), model(x))


TARGETS = torch.tensor([[3, 0, -1, 1], [1, -1, 2, -1], [0, 1, 2, 3], [-1, 0, 1, 2], [2, 2, -1, 0]])


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_multilabel_margin_loss_with_end_markers(reduction: str) -> None:
    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.multilabel_margin_loss(x, y, reduction=reduction)

    x = r(5, 4)
    t = symfx.trace(loss, (x, TARGETS), dynamic=[("n", None), ("n", None)])
    assert not t.guards
    torch.testing.assert_close(t(x, TARGETS), loss(x, TARGETS))
    torch.testing.assert_close(t(x[:2], TARGETS[:2]), loss(x[:2], TARGETS[:2]))
    row = symfx.trace(loss, (x[0], TARGETS[0]))
    torch.testing.assert_close(row(x[1].clone(), TARGETS[4].clone()), loss(x[1], TARGETS[4]))
    with pytest.raises(RuntimeError, match="out of range"):
        t(x, TARGETS + 1)


def test_gradient_of_multilabel_margin_loss() -> None:
    x = r(5, 4, requires_grad=True)
    t = symfx.trace(F.multilabel_margin_loss, (x, TARGETS))
    (wanted,) = torch.autograd.grad(F.multilabel_margin_loss(x, TARGETS), x)
    (got,) = torch.autograd.grad(t(x, TARGETS), x)
    torch.testing.assert_close(got, wanted)
