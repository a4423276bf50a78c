"""Programs that torch.fx alone cannot trace: their types are right, or the program is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from eager_runs import disagreements
from torch import nn
from torch.nn.utils import rnn

from symfx.static_migration import Migration, typecheck
from symfx.static_migration.conditions import parse_input


def check(
    module: nn.Module, inputs: list[str], where: list[str] | tuple[str, ...] = ()
) -> Migration:
    return typecheck(module, dict(map(parse_input, inputs)), where)


def output_of(found: Migration) -> str:
    return found.shapes[found.graph.output_node()]


# -- sizes in factories, int(), len(), loops; assignments ----------------------------------------


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 6, batch_first=True)

    def forward(self, x):
        x = torch.cat([torch.zeros(x.size(0), 1, 8), x], 1)
        return self.rnn(x)[0]


class Branching(nn.Module):
    def forward(self, x):
        z = torch.zeros(x.size(0), 3)
        if x.shape[0] > 8:
            return (x + z).mean(0)
        return x + z


class Repeated(nn.Module):
    def forward(self, x):
        return x.repeat(int(x.shape[0]), 1)


class Looped(nn.Module):
    def forward(self, x):
        return torch.stack([x[k] for k in range(x.shape[0])])


class Clipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(64, 3))

    def forward(self, x):
        h = x[:, :64].clone()
        h[:, 0] = 0
        return h + self.table


class LastPiece(nn.Module):
    def forward(self, x):
        return (x + torch.zeros(x.size(0), 1)).split(5, 1)[-1]


class Assigned(nn.Module):
    def forward(self, x):
        h = x.clone()
        h[:, 0] = 0
        return h.sum(1) if h.shape[1] > 8 else h


class Strided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(8), nn.Linear(8, 2)

    def forward(self, x):
        h = self.norm(x[:, :, ::11].transpose(1, 2))
        h[:, 0] = 0
        return self.linear(h)


class Made(nn.Module):
    def __init__(self, make: Any) -> None:
        super().__init__()
        self.make = make

    def forward(self, x):
        return self.make(x)


def chunks_joined(x):
    first, second = x.chunk(2, 1)
    return first + second[:, : first.size(1)]


def positions(x):
    return x + torch.arange(x.size(1)).float() * torch.ones(1, x.size(1))


def masked(x):
    mask = torch.full((x.size(1), x.size(1)), float("-inf")).triu(1)
    return x.unsqueeze(2) + mask


def odd_or_even(x):
    return x.sum(1) if x.size(1) % 2 else x


def half(x):
    return x[:, : int(x.size(1) * 0.5)]


def second_piece(x):
    return x.split(4, 1)[1]


def unbound(x):
    return x.unbind(1)[2]


def eye(x):
    return torch.eye(x.size(0), x.size(1)) + x


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(8, 6)

    def forward(self, x):
        h = c = torch.zeros(x.size(0), 6)
        steps = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            steps.append(h)
        return torch.stack(steps, 1)


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(width // 2)
        mask = torch.tril(torch.ones(length, length)).bool()
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, length, width))


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(9, 4), nn.Embedding(64, 4)
        self.register_buffer("ids", torch.arange(64))

    def forward(self, ids):
        return self.words(ids) + self.places(self.ids[: ids.size(1)])


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.register_buffer("other", torch.zeros(1, 1, 4))

    def forward(self, x):
        first = self.token.expand(x.size(0), -1, -1)
        second = self.other.expand(x.shape[0], 1, 4)
        third = torch.zeros(1, 1, 4).repeat(x.shape[0], 1, 1)
        return torch.cat([first, second, third, x], 1)


def flattened(x):
    first, *rest = x.shape
    return x.reshape(first, math.prod(rest))


def spread(x):
    return x.view(*x.shape[:-1], 2, -1)


def rows(x):
    return torch.stack([row * i for i, row in enumerate(x.unbind(1))])


def extrema(x):
    if not isinstance(x, torch.Tensor):
        raise TypeError("a tensor")
    return x.new_zeros(len(x), max(x.size(0), 4), min(x.size(1), 4))


def pieces(x):
    return torch.cat([piece * 2 for piece in x.split(4, 1)], 1)


PROGRAMS: list[tuple[nn.Module, list[str], list[str], str]] = [
    (Padded(), ["x: f32[n, t, 8]"], [], "[n, t + 1, 6]"),
    (Padded(), ["x: f32[n, t, 8]"], ["t == 20"], "[n, 21, 6]"),
    (Branching(), ["x: f32[n, 3]"], ["n >= 9"], "[3]"),
    (Branching(), ["x: f32[n, 3]"], ["n < 9"], "[n, 3]"),
    (Repeated(), ["x: [n, 3]"], [], "[n**2, 3]"),
    (Clipped(), ["x: [n, t, 3]"], ["t >= 65"], "[n, 64, 3]"),
    (LastPiece(), ["x: [n, t]"], [], "[n, t - 5*((t + 4)//5) + 5]"),
    (Assigned(), ["x: [b, t]"], ["t <= 5"], "[b, t]"),
    (Assigned(), ["x: [b, t]"], ["t > 8"], "[b]"),
    (Strided(), ["x: f32[b, 8, t]"], ["t >= 100"], "[b, (t + 10)//11, 2]"),
    (Made(chunks_joined), ["x: [n, 8]"], [], "[n, 4]"),
    (Made(positions), ["x: [n, t]"], [], "[n, t]"),
    (Made(masked), ["x: [n, t]"], [], "[n, t, t]"),
    (Made(odd_or_even), ["x: [n, t]"], ["t % 2 == 1"], "[n]"),
    (Made(odd_or_even), ["x: [n, 2*k]"], [], "[n, 2*k]"),
    (Made(second_piece), ["x: [n, t]"], [], "[n, min(4, t - 4)]"),
    (Made(unbound), ["x: [n, t]"], [], "[n]"),
    (Made(eye), ["x: [n, t]"], [], "[n, t]"),
    (Cells(), ["x: [n, 3, 8]"], [], "[n, 3, 6]"),
    (Attending(), ["x: [n, t, 8]"], [], "[n, t, 8]"),
    (Positions(), ["ids: i64[n, t]"], [], "[n, t, 4]"),
    (Tokens(), ["x: [n, t, 4]"], [], "[n, t + 3, 4]"),
    (Made(flattened), ["x: [a, b, c]"], [], "[a, b*c]"),
    (Made(spread), ["x: [n, t, 2*h]"], [], "[n, t, 2, h]"),
    (Made(rows), ["x: [n, 3]"], [], "[3, n]"),
    (Made(extrema), ["x: [n, t]"], [], "[n, max(n, 4), min(t, 4)]"),
    (Made(pieces), ["x: [n, 10]"], [], "[n, 10]"),
]


@pytest.mark.parametrize("case", range(len(PROGRAMS)))
def test_the_types_are_right_at_all_sizes(case: int) -> None:
    module, inputs, where, shape = PROGRAMS[case]
    found = check(module, inputs, where)
    assert output_of(found) == shape
    assert not found.fixed
    values = (1, 2, 3, 4, 5, 8, 9, 20, 65, 100, 101)
    assert disagreements(module, inputs, where, values, found) == []


def test_packed_sequences_are_followed() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(8, 6, batch_first=True)

        def forward(self, x, lengths):
            packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            outputs, _ = self.rnn(packed)
            return rnn.pad_packed_sequence(outputs, batch_first=True)[0]

    found = check(Packed(), ["x: [n, t, 8]", "lengths: i64[n]"])
    assert output_of(found) == "[n, u0, 6]" and not found.excluded
    assert check(Packed(), ["x: [n, t, 7]", "lengths: i64[n]"]).verdict == "ill-typed"


@pytest.mark.parametrize("module", [Cells(), Made(rows)])
def test_steps_over_a_size_are_refused(module: nn.Module) -> None:
    found = check(module, ["x: [n, t, 8]"])
    assert found.verdict == "ill-typed" and "t is fixed by this line" in str(found)


def test_a_loop_over_a_size_is_refused_with_its_line() -> None:
    found = check(Looped(), ["x: [n, 3]"])
    assert found.verdict == "ill-typed"
    assert "n is fixed by this line" in str(found)
    assert "range(x.shape[0])" in str(found)
    known = check(Looped(), ["x: [4, 3]"])
    assert output_of(known) == "[4, 3]"


def test_unpacking_demands_the_number_of_pieces() -> None:
    def two(x):
        _, b = x.split(4, 1)
        return b

    found = check(Made(two), ["x: [n, t]"])
    assert disagreements(Made(two), ["x: [n, t]"], found=found, values=range(1, 14)) == []
    assert check(Made(two), ["x: [n, 9]"]).verdict == "ill-typed"
    assert output_of(check(Made(two), ["x: [n, 7]"])) == "[n, 3]"


class Guarded(nn.Module):
    def forward(self, x):
        if x.size(1) % 4 != 0:
            raise ValueError("the width must be a multiple of 4")
        return x.view(x.size(0), 4, -1)


def test_a_raise_of_the_program_makes_it_ill_typed() -> None:
    found = check(Guarded(), ["x: [n, 6]"])
    assert found.verdict == "ill-typed"
    assert "the width must be a multiple of 4" in str(found)
    assert 'raise ValueError("the width must be a multiple of 4")' in str(found)
    assert output_of(check(Guarded(), ["x: [n, 4*k]"])) == "[n, 4, k]"
    every = check(Guarded(), ["x: [n, t]"])
    assert every.verdict == "well-typed" and every.conditions == ["t % 4 == 0"]
    (excluded,) = every.excluded
    assert excluded.condition == "t % 4 == 0" and excluded.sizes["t"] % 4


def test_a_program_that_branches_keeps_its_conflict() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(80, 10)

        def forward(self, x):
            x = self.linear(x.flatten(1))
            return x if x.size(0) > 1 else x[0]

    found = check(Wrong(), ["x: [n, 3, 5]"], ["n > 1"])
    assert found.verdict == "ill-typed"
    assert found.conflict is not None
    assert "self.linear(x.flatten(1))" in str(found)


class Guarding(nn.Module):
    def forward(self, x):
        if x.size(0) != 8:
            raise ValueError("eight rows")
        return x.view(7, -1)


def test_inputs_are_offered_only_if_eager_runs_on_them() -> None:
    found = check(Guarding(), ["x: [8, 5]"])
    assert found.verdict == "ill-typed" and found.conflict is not None
    example = found.conflict.example
    assert example is None or Guarding()(torch.zeros(example["x"])) is not None


# -- operator by operator ------------------------------------------------------------------------


def hidden(x: torch.Tensor) -> torch.Tensor:
    """Keep a program from being traced by torch.fx: it reads a number of a dtype."""
    return x.masked_fill(x > 5, torch.finfo(x.dtype).min)


class Hidden(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body.forward(hidden(x))


def permuted(x):
    return x.reshape(x.shape[0], -1, 8).transpose(1, 2)


def matrix(x):
    return x @ x.t()


TRACED: list[tuple[nn.Module, list[str], list[str], str]] = [
    (Hidden(Branching()), ["x: [n, 3]"], ["n >= 9"], "[3]"),
    (Hidden(Branching()), ["x: [n, 3]"], ["n <= 8"], "[n, 3]"),
    (Hidden(Branching()), ["x: [n, 3]"], [], "[n, 3]"),
    (Hidden(Repeated()), ["x: [n, 3]"], [], "[n**2, 3]"),
    (Hidden(Clipped()), ["x: [n, t, 3]"], ["t >= 65"], "[n, 64, 3]"),
    (Hidden(Assigned()), ["x: [b, t]"], ["t <= 5"], "[b, t]"),
    (Hidden(Assigned()), ["x: [b, t]"], ["t >= 50"], "[b]"),
    (Hidden(Strided()), ["x: f32[b, 8, t]"], ["t >= 100"], "[b, (t + 10)//11, 2]"),
    (Hidden(Padded()), ["x: f32[n, t, 8]"], ["t == 20"], "[n, 21, 6]"),
    (Hidden(Made(permuted)), ["x: [n, 4*k]"], [], "[n, 8, k//2]"),
    (Hidden(Made(matrix)), ["x: [n, m]"], [], "[n, n]"),
    (Hidden(Made(half)), ["x: [n, t]"], [], "[n, t//2]"),
]


@pytest.mark.parametrize("case", range(len(TRACED)))
def test_traced_types_hold_under_their_conditions(case: int) -> None:
    module, inputs, where, shape = TRACED[case]
    found = check(module, inputs, where)
    assert "masked_fill" in str(found)  # the program was traced operator by operator
    values = (1, 2, 3, 4, 5, 8, 9, 20, 65, 100, 101)
    assert disagreements(module, inputs, where, values, found) == []
    if shape != "[n, t//2]":
        assert output_of(found) == shape


def test_a_guard_of_the_trace_is_a_condition_with_its_line() -> None:
    found = check(Hidden(Branching()), ["x: [n, 3]"])
    assert found.conditions == ["n <= 8"]
    assert "if x.shape[0] > 8:" in found.origins["n <= 8"]


def test_a_name_that_the_trace_fixes_is_named_with_its_line() -> None:
    (fixed,) = check(Hidden(Looped()), ["x: [n, 3]"]).fixed
    assert (fixed.name, fixed.value) == ("n", 7)
    assert "range(x.shape[0])" in fixed.origin
    assert not check(Hidden(Padded()), ["x: f32[n, t, 8]"]).fixed
    assert not check(Hidden(Padded()), ["x: f32[n, t, 8]"], ["t == 20"]).fixed


def test_a_program_that_fails_in_eager_is_ill_typed_with_its_line() -> None:
    def wrong(x):
        return x @ torch.zeros(8, 2)

    found = check(Hidden(Made(wrong)), ["x: [n, 3]"])
    assert found.verdict == "ill-typed"
    assert "return x @ torch.zeros(8, 2)" in str(found)
    assert "num_users" not in str(found)
