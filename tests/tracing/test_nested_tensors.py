"""Jagged nested tensors as inputs and results of a trace, against eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import symfx
import symfx.errors
from symfx.proxy_tensor import make_fx


def nested(*lengths: int, width: int = 4) -> torch.Tensor:
    members = [torch.randn(length, width) for length in lengths]
    return torch.nested.nested_tensor(members, layout=torch.jagged)


def same(one: Any, other: Any) -> None:
    """Assert that two results are equal, nested tensors by their parts."""
    if isinstance(one, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, torch.Tensor) and one.is_nested:
        torch.testing.assert_close(one.values(), other.values())
        assert torch.equal(one.offsets(), other.offsets())
    else:
        torch.testing.assert_close(one, other)


PROGRAMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "the input": lambda n: n,
    "elementwise": lambda n: n.sin() * 2 + n,
    "last dimension": lambda n: n.softmax(-1).sum(-1),
    "rows": lambda n: n.sum(1),
    "values": lambda n: n.values() * 2,
    "padded": lambda n: torch.nested.to_padded_tensor(n, 0.0),
    "number of members": lambda n: n * n.shape[0],
    "several": lambda n: [n * 2, n.sum(1)],
    "layer norm": nn.LayerNorm(4),
    "residual layer norm": lambda n: n + torch.nn.functional.layer_norm(n, (4,)),
    "network": nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_nested_tensor_as_input(name: str) -> None:
    program = PROGRAMS[name]
    t = symfx.trace(program, nested(2, 3))
    assert not t.guards
    result = t.verify(shapes=3)
    assert result, str(result)
    assert len(result.runs) == 4
    for other in (nested(1, 4, 4), nested(6, 2), nested(1, 1, 1, 5)):
        assert t.check(other)
        same(t(other), program(other))


def test_beside_other_inputs_and_in_containers() -> None:
    def program(batch: dict[str, torch.Tensor], scale: torch.Tensor) -> torch.Tensor:
        return batch["text"] * scale

    args = {"text": nested(2, 3)}, torch.randn(4)
    t = symfx.trace(program, args)
    other = {"text": nested(3, 1, 2)}, torch.randn(4)
    same(t(*other), program(*other))


def test_a_width_that_is_dynamic() -> None:
    t = symfx.trace(lambda n: n * 2, nested(2, 3), dynamic=((True, True, "width"),))
    assert "width" in [symbol.name for symbol in t.symbols]
    other = nested(1, 2, width=7)
    same(t(other), other * 2)
    assert t.check(nested(1, 2, width=7))
    assert not symfx.trace(lambda n: n * 2, nested(2, 3)).check(nested(1, 2, width=7))


@pytest.mark.parametrize("dynamic", [True, {0: True}, {"input": True}])
def test_a_tensor_that_is_dynamic_as_a_whole_promises_no_width(dynamic: Any) -> None:
    linear = nn.Linear(4, 2)
    t = symfx.trace(linear, nested(2, 3), dynamic=dynamic)
    (pin,) = t.specializations
    (guard,) = t.guards
    assert str(pin.value) == "4" and str(guard.term).endswith(" == 4")
    other = nested(1, 4, 4)
    assert t.check(other)
    assert not t.check(nested(1, 2, width=7))
    same(t(other), linear(other))
    with pytest.raises(symfx.TracingError, match="width"):
        symfx.trace(linear, nested(2, 3), dynamic={0: (True, True, "width")})


def test_inputs_of_another_kind_do_not_fit() -> None:
    t = symfx.trace(lambda n: n * 2, nested(2, 3))
    assert not t.check(torch.randn(2, 3, 4))
    assert not t.check(nested(2, 3).to(torch.float64))
    dense = symfx.trace(lambda x: x * 2, torch.randn(2, 3, 4))
    assert not dense.check(nested(2, 3))


@pytest.mark.parametrize("entry", [("batch", None, None), (None, None), {5: "d"}, "n"])
def test_entries_that_do_not_fit(entry: Any) -> None:
    with pytest.raises(symfx.errors.SpecError, match="nested tensor of 3 dimensions"):
        symfx.trace(lambda n: n * 2, nested(2, 3), dynamic=(entry,))


def test_other_nested_tensors_are_refused() -> None:
    strided = torch.nested.nested_tensor([torch.randn(2, 4), torch.randn(3, 4)])
    with pytest.raises(symfx.errors.TracingError, match=r"layout torch\.strided"):
        symfx.trace(lambda n: n * 2, strided)


def test_a_nested_tensor_that_a_trace_makes_is_no_constant() -> None:
    def program(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return torch.nested._internal.nested_tensor.nested_view_from_values_offsets(
            values, offsets
        ).sin()

    args = torch.randn(5, 4), torch.tensor([0, 2, 5])
    graph = make_fx(program, tracing_mode="symbolic")(*args)
    assert not graph.graph.find_nodes(op="get_attr")
    other = torch.randn(9, 4), torch.tensor([0, 1, 5, 9])
    same(graph(*other), program(*other))


class Attention(nn.Module):
    """Self-attention of two heads.

    Args:
        is_causal: whether a row sees the rows before it alone.
    """

    def __init__(self, is_causal: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(4, 12)
        self.is_causal = is_causal

    def forward(self, n: torch.Tensor) -> torch.Tensor:
        heads = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in self.inward(n).chunk(3, -1))
        out = torch.nn.functional.scaled_dot_product_attention(*heads, is_causal=self.is_causal)
        return out.transpose(1, 2).flatten(-2)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention(is_causal: bool) -> None:
    model = Attention(is_causal)
    t = symfx.trace(model, nested(2, 3))
    assert t.guards == ()
    for lengths in ((2, 3), (1, 4, 4), (6,)):
        n = nested(*lengths)
        # Each member by itself is a batch of one.
        alone = [model(member.unsqueeze(0)).squeeze(0) for member in n.unbind()]
        torch.testing.assert_close(t(n).values(), torch.cat(alone))
