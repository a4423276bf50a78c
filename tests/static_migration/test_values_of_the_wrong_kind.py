"""Programs that hand a tuple, a dictionary, ``None`` or a fraction to an operator of tensors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from eager_runs import disagreements
from torch import Tensor, nn

from symfx.static_migration import typecheck


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.lstm = nn.LSTM(8, 8, batch_first=True)


class DictionaryToLayer(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.fc({"hidden": x})


class MethodOfDictionary(Layers):
    def features(self, x: Tensor) -> Any:
        return {"hidden": self.fc(x)}

    def forward(self, x: Tensor) -> Any:
        return self.features(x).softmax(-1)


class TupleToFunction(Layers):
    def forward(self, x: Tensor) -> Any:
        return torch.relu(self.lstm(x))


class TuplePlusTensor(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.lstm(x) + x


class NothingReturned(Layers):
    def hidden(self, x: Tensor) -> Any:
        self.fc(x)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.hidden(x))


class TensorForList(Layers):
    def forward(self, x: Tensor) -> Any:
        return torch.cat(x, dim=1)  # type: ignore[arg-type]


class StateForPair(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.lstm(x, torch.zeros(1, x.size(0), 8))[0]


class FractionForSize(Layers):
    def forward(self, x: Tensor) -> Any:
        return x.view(x.size(0), x.size(1) * x.size(2) / 2, 2)  # type: ignore[arg-type]


class FractionForIndex(Layers):
    def forward(self, x: Tensor) -> Any:
        return x[:, : x.size(2) / 2]  # type: ignore[misc]


class ShapeCalled(Layers):
    def forward(self, x: Tensor) -> Any:
        return x.view(x.shape(0), -1)  # type: ignore[operator]


class SizeIndexed(Layers):
    def forward(self, x: Tensor) -> Any:
        return x.view(x.size[0], -1)  # type: ignore[index]


class Misspelled(Layers):
    def forward(self, x: Tensor) -> Any:
        return x.unsqeeze(1)  # type: ignore[operator]


class OneArgumentTooMany(Layers):
    def forward(self, x: Tensor) -> Any:
        return self.fc(x, x)


class PackedToLayer(Layers):
    def forward(self, x: Tensor) -> Any:
        lengths = torch.full((x.size(0),), 2)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.fc(self.lstm(packed)[0])


@pytest.mark.parametrize("inputs", ["f32[n, t, 8]", "f32[3, 5, 8]"])
@pytest.mark.parametrize(
    ("program", "said"),
    [
        (DictionaryToLayer, "input is a dictionary of hidden, and one tensor is taken"),
        (MethodOfDictionary, "'dict' object has no attribute 'softmax'"),
        (TupleToFunction, "must be Tensor, not tuple"),
        (TuplePlusTensor, 'can only concatenate tuple (not "Tensor") to tuple'),
        (NothingReturned, "input is None, and one tensor is taken"),
        (TensorForList, "must be tuple of Tensors, not Tensor"),
        (StateForPair, "the program fails with x:"),
        (FractionForSize, "view()"),
        (FractionForIndex, "slice indices must be integers"),
        (ShapeCalled, "'torch.Size' object is not callable"),
        (SizeIndexed, "'builtin_function_or_method' object is not subscriptable"),
        (Misspelled, "'Tensor' object has no attribute 'unsqeeze'"),
        (OneArgumentTooMany, "takes 2 positional arguments but 3 were given"),
        (PackedToLayer, "input is a PackedSequence, and one tensor is taken"),
    ],
)
def test_a_value_that_the_operator_does_not_take(
    program: type[Layers], said: str, inputs: str
) -> None:
    found = typecheck(program().eval(), {"x": inputs}, ["t >= 2"] if "t" in inputs else [])
    assert found.verdict == "ill-typed"
    assert said in str(found)
    line = program.forward.__code__.co_firstlineno
    last = max(number for *_, number in program.forward.__code__.co_lines() if number)
    assert any(f"kind.py:{number}:" in str(found) for number in range(line, last + 1)), str(found)


# -- programs that fail for some numbers alone ------------------------------------------------------


class Sampled(Layers):
    """Fails in eager where the weights are not numbers."""

    def forward(self, x: Tensor) -> Any:
        probabilities = F.softmax(self.fc(x) / 0, dim=-1)  # nan
        return torch.multinomial(probabilities[:, 0], 1)


class Inverted(Layers):
    """Fails in eager for matrices without an inverse, such as zeros."""

    def forward(self, x: Tensor) -> Any:
        return torch.linalg.inv((x * 0) @ (x * 0).transpose(1, 2))


class Checked(Layers):
    """Refuses some numbers, itself."""

    def forward(self, x: Tensor) -> Any:
        if bool((x < 2).all()):
            raise ValueError("the numbers are too small")
        return self.fc(x)


class Halves(Layers):
    def forward(self, x: Tensor) -> Any:
        return x[:, : int(x.size(2) / 2)]


@pytest.mark.parametrize(
    ("program", "result"),
    [
        (Sampled, "[n, 1]"),
        (Inverted, "[n, t, t]"),
        (Checked, "[n, t, 4]"),
        (Halves, "[n, min(t, 4), 8]"),
    ],
)
def test_a_failure_that_numbers_cause_is_none_of_the_program(
    program: type[Layers], result: str
) -> None:
    found = typecheck(program().eval(), {"x": "f32[n, t, 8]"})
    assert found.verdict == "well-typed", str(found)
    assert found.shapes[found.graph.output_node()] == result


# -- fractions of sizes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "result"),
    [
        (lambda x: x[:, : int(x.size(1) / 2)], "[n, t//2, 16]"),
        (lambda x: x[:, math.ceil(x.size(1) / 2) :], "[n, t//2, 16]"),
        (lambda x: x.view(x.size(0), int(x.size(1) * x.size(2) / 2), 2), "[n, 8*t, 2]"),
        (lambda x: torch.zeros(int(x.size(1) * 0.75)), "[3*t//4]"),
        (lambda x: torch.zeros(int(x.size(1) * 0.1)), "[u0]"),  # 0.1 is no tenth
        (lambda x: torch.zeros(int(x.size(0) / x.size(1))), "[u0]"),
        (lambda x: torch.zeros(math.floor(x.size(1) / 3), int(x.size(1) // 2.0)), "[t//3, t//2]"),
        (lambda x: x.view(x.size(0), int(x.size(2) ** 0.5), 4, -1), "[n, 4, 4, t]"),
        (lambda x: torch.zeros(int((x.size(1) + 3 - 5) / 2 + 4)), None),
        (lambda x: torch.zeros(int((x.size(1) - 3) / -2) + 9), "[u0]"),
        (lambda x: x.mean(1) if x.size(1) / 2 > 0 else x, "[n, 16]"),
    ],
)
def test_a_fraction_that_becomes_a_size_again(written: Any, result: str | None) -> None:
    found = typecheck(written, {"x": "f32[n, t, 16]"})
    assert found.verdict == "well-typed", str(found)
    if result is not None:
        assert found.shapes[found.graph.output_node()] == result
    if result is None or "u0" not in result:
        assert not disagreements(written, ["x: f32[n, t, 16]"], found=found)
