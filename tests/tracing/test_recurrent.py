"""Recurrent networks over any number of steps: no pin, no guard, and the results of eager mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import symfx

KINDS: list[tuple[type[nn.RNNBase], dict[str, Any]]] = [
    (kind, options)
    for kind in (nn.GRU, nn.RNN, nn.LSTM)
    for options in (
        {},
        {"bidirectional": True},
        {"batch_first": True},
        {"num_layers": 2, "bias": False},
        {"num_layers": 2, "batch_first": True, "bidirectional": True, "dropout": 0.5},
    )
]
KINDS += [
    (nn.RNN, {"nonlinearity": "relu"}),
    (nn.LSTM, {"proj_size": 2}),
    (nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True, "batch_first": True}),
]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_network_over_any_number_of_steps(
    kind: Any, options: dict[str, Any], dtype: torch.dtype, train: bool
) -> None:
    torch.manual_seed(0)
    model = kind(3, 4, **options).to(dtype).train(train)
    t = symfx.trace(model, torch.randn(5, 6, 3, dtype=dtype), dynamic=[("s", "b", None)])
    assert t.guards == ()
    for shape in ((2, 2), (9, 3), (4, 7)):
        x = torch.randn(*shape, 3, dtype=dtype)
        assert t.check(x)
        torch.manual_seed(1)
        output, states = t(x)
        torch.manual_seed(1)
        wanted, wanted_states = model(x)
        torch.testing.assert_close(output, wanted)
        torch.testing.assert_close(states, wanted_states)
        assert output.stride() == wanted.stride()


def test_states_are_inputs_too() -> None:
    model = nn.GRU(3, 4)
    args = torch.randn(5, 6, 3), torch.randn(1, 6, 4)
    t = symfx.trace(model, args, dynamic=[("s", "b", None), (None, "b", None)])
    assert t.guards == () and t.verify()


def test_a_network_without_a_batch() -> None:
    t = symfx.trace(nn.GRU(3, 4), torch.randn(5, 3), dynamic=[("s", None)])
    assert t.guards == () and t.verify()


def test_a_network_that_the_program_holds() -> None:
    model = nn.GRU(3, 4)
    t = symfx.trace(lambda x: model(x)[0].sum(0), torch.randn(5, 6, 3), dynamic=[("s", "b", None)])
    assert t.guards == () and t.verify()


def test_wrong_states_are_an_error() -> None:
    model = nn.GRU(3, 4)
    args = torch.randn(5, 6, 3), torch.randn(1, 7, 4)
    with pytest.raises(symfx.TracingError, match="size"):
        symfx.trace(model, args, dynamic=[("s", "b", None), (None, "c", None)])


def test_a_backward_pass_is_refused_with_the_way_out() -> None:
    model = nn.GRU(3, 4)

    def gradient(x: torch.Tensor) -> torch.Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(model(x)[0].sum(), x)[0]

    with pytest.raises(symfx.TracingError, match="static dimension"):
        symfx.trace(gradient, torch.randn(5, 6, 3), dynamic=[("s", "b", None)])
    t = symfx.trace(gradient, torch.randn(5, 6, 3), dynamic=[(None, "b", None)])
    assert t.verify()
