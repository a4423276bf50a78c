"""Arguments of make_fx that are fake tensors already."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx.proxy_tensor import make_fx
from symfx.symbolic_shapes import ShapeEnv

MODES = ("fake", "symbolic")


def fake_five() -> torch.Tensor:
    """A fake tensor that carries its value, as a literal under a fake mode does."""
    with FakeTensorMode(shape_env=ShapeEnv()):
        x = torch.tensor(5)
    assert x.constant is not None
    return x


@pytest.mark.parametrize("mode", MODES)
def test_the_value_of_an_argument_does_not_become_a_constant(mode: str) -> None:
    x = fake_five()
    g = make_fx(lambda x: torch.zeros(3) + x.item(), tracing_mode=mode)(x)
    assert torch.equal(g(torch.tensor(7)), torch.full((3,), 7.0))
    assert x.constant is not None  # the argument itself is unchanged


@pytest.mark.parametrize("mode", MODES)
def test_a_size_from_the_value_of_an_argument_is_a_symbol(mode: str) -> None:
    g = make_fx(lambda x: torch.zeros(x.item()), tracing_mode=mode)(fake_five())
    (zeros,) = g.graph.find_nodes(op="call_function", target=torch.ops.aten.zeros.default)
    assert str(zeros.meta["val"].shape[0]) == "u0"
    assert g(torch.tensor(2)).shape == (2,)


@pytest.mark.parametrize("mode", MODES)
def test_an_argument_given_twice_is_one_tensor(mode: str) -> None:
    def f(x: torch.Tensor, tree: dict[str, torch.Tensor]) -> torch.Tensor:
        assert x is tree["x"]
        return x.add_(1) + tree["x"].item()

    x = fake_five()
    g = make_fx(f, tracing_mode=mode)(x, {"x": x})
    given = torch.tensor(2)
    assert g(given, {"x": given}) == 6


@pytest.mark.parametrize("mode", MODES)
def test_a_literal_of_the_program_keeps_its_value(mode: str) -> None:
    g = make_fx(lambda x: x * torch.tensor(5).item(), tracing_mode=mode)(torch.ones(2))
    (mul,) = g.graph.find_nodes(op="call_function", target=torch.ops.aten.mul.Tensor)
    assert mul.args[1] == 5
