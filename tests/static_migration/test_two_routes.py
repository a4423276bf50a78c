"""Programs traced by torch.fx and operator by operator have the same types, for all named sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from eager_runs import disagreements
from torch import Tensor, nn

from symfx.static_migration import Migration, checking, typecheck
from symfx.static_migration.conditions import parse_input, read_annotation
from symfx.static_migration.operator_tracing import trace_operators


@pytest.fixture
def operator_by_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(module: Any, inputs: Any, where: Any = (), timeout: float = 10.0, **_: Any) -> Any:
        types = {name: read_annotation(given) for name, given in inputs.items()}
        return trace_operators(module, types, where, timeout)

    monkeypatch.setattr(checking, "program_graph", traced)


def checked(program: Any, inputs: Sequence[str], where: Sequence[str] = ()) -> Migration:
    model = program().eval() if isinstance(program, type) else program
    found = typecheck(model, dict(map(parse_input, inputs)), where)
    assert found.verdict == "well-typed", str(found)
    return found


def result_of(found: Migration) -> str:
    return found.shapes[found.graph.output_node()]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, x, x, key_padding_mask=mask)[0]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(x, src_key_padding_mask=mask)


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        causal = torch.triu(torch.full((x.size(1), x.size(1)), -1e9), 1)
        return self.decoder(x, y, tgt_mask=causal)


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> dict[str, Any]:
        out, (h, _) = self.lstm(x)
        return {"logits": self.fc(out), "states": (h, out)}


def scores(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bqhd,bkhd->bhqk", q, k)


def blurred(x: Tensor) -> Tensor:
    return F.conv2d(x, torch.ones(1, 1, 3, 3))


def nearest(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b).min(1).values


def similar(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a[:, None], b[None], dim=-1)


def split_heads(x: Tensor) -> Tensor:
    n, t, _ = x.shape
    q, k, v = x.chunk(3, dim=-1)
    q, k, v = (part.reshape(n, t, 4, 8).transpose(1, 2) for part in (q, k, v))
    return (torch.softmax(q @ k.transpose(-2, -1), -1) @ v).transpose(1, 2).reshape(n, t, -1)


@pytest.mark.parametrize(
    ("program", "inputs", "where", "result"),
    [
        (Attention, ["x: f32[n, t, 32]", "mask: bool[n, t]"], [], "[n, t, 32]"),
        (Encoder, ["x: f32[n, t, 32]", "mask: bool[n, t]"], [], "[n, t, 32]"),
        (Decoder, ["x: f32[n, t, 32]", "y: f32[n, s, 32]"], [], "[n, t, 32]"),
        (
            Named,
            ["x: f32[n, t, 8]"],
            [],
            "{logits: [n, t, 2], states: ([1, n, 16], [n, t, 16])}",
        ),
        (scores, ["q: f32[n, t, 4, 8]", "k: f32[n, s, 4, 8]"], [], "[n, 4, t, s]"),
        (blurred, ["x: f32[n, 1, h, w]"], ["h >= 3", "w >= 3"], "[n, 1, h - 2, w - 2]"),
        (nearest, ["a: f32[n, 3]", "b: f32[m, 3]"], [], "[n]"),
        (similar, ["a: f32[n, 16]", "b: f32[m, 16]"], [], "[n, m]"),
        (split_heads, ["x: f32[n, t, 96]"], [], "[n, t, 32]"),
    ],
)
def test_a_condition_that_kernels_alone_need_is_dropped(
    program: Any,
    inputs: list[str],
    where: list[str],
    result: str,
    operator_by_operator: None,
) -> None:
    found = checked(program, inputs, where)
    assert result_of(found) == result
    assert not found.excluded and not found.fixed and not found.origins
    assert set(found.conditions) == set(where)
    if result.startswith("["):
        model = program().eval() if isinstance(program, type) else program
        assert not disagreements(model, inputs, where, values=[1, 2, 3, 26], found=found)


def branching(x: Tensor) -> Tensor:
    return x.mean(0) if x.shape[0] > 8 else x


def fails_from(x: Tensor) -> Tensor:
    return x + torch.zeros(5)[: x.shape[0]].sum() if x.shape[0] < 40 else x.view(7, 7, 7)


@pytest.mark.parametrize(("program", "condition"), [(branching, "n <= 8"), (fails_from, "n <= 39")])
def test_a_condition_that_the_program_needs_is_kept(
    program: Any, condition: str, operator_by_operator: None
) -> None:
    found = checked(program, ["x: f32[n, 3]"])
    assert result_of(found) == "[n, 3]"
    assert [excluded.condition for excluded in found.excluded] == [condition]


def test_a_loss_that_broadcasts_is_a_warning_operator_by_operator(
    operator_by_operator: None,
) -> None:
    for inputs in (["x: f32[16, 1]", "y: f32[16]"], ["x: f32[n, 1]", "y: f32[n]"]):
        found = checked(
            F.mse_loss, [each.replace("x:", "input:").replace("y:", "target:") for each in inputs]
        )
        assert "broadcasts; both should have one shape" in found.warnings[0]


def test_repeats_whose_sum_is_given(operator_by_operator: None) -> None:
    def program(x: Tensor, n: Tensor) -> Tensor:
        return torch.repeat_interleave(x * 2, n, dim=0, output_size=6)

    found = checked(program, ["x: f32[k, 2]", "n: i64[k]"])
    assert result_of(found) == "[6, 2]"
