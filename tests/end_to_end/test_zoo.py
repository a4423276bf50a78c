"""Some models of the zoo: traced with no pin, equal to the model at other shapes."""

from __future__ import annotations

import os

import pytest
import torch
from tools.zoo.outcomes import SHAPES, Condition, Outcome, outcome
from tools.zoo.report import page

from symfx.sweep import Result
from symfx.sweep.architectures import ARCHITECTURES, subject
from symfx.sweep.steps import run_steps

#: Models whose own Python code needs a number: what pins which dimension, or ends the trace.
OWN_CODE = {
    "encodec": "max_pad = max(padding_left, padding_right)",
    "canine": "for chunk_start in range(",
    "jamba": "for index in range(seq_len)",
    "mamba": "for index in range(seq_len)",
    "recurrent_gemma": "for t in range(hidden_states.shape[1])",
    "superpoint": "list_keypoints_scores = [",
    "funnel": "list(range(seq_len))",
    "longformer": "is_global_attn",
    "xlm": "lengths.max().item() <= slen",
}
SHORT = ["convbert", "squeezebert", "funnel", "resnet", "llama"]


def test_the_zoo_is_large_and_each_model_names_its_sizes() -> None:
    assert len(ARCHITECTURES) >= 70
    for model in ARCHITECTURES.values():
        inputs = model.example()
        assert model.dynamic.keys() <= inputs.keys()
        for name, dims in model.dynamic.items():
            sizes = [model.sizes[d] if d else n for d, n in zip(dims, inputs[name].shape)]
            assert list(inputs[name].shape) == sizes, (model.name, name)


def test_a_model_is_the_same_in_every_run() -> None:
    model = ARCHITECTURES["llama"]
    first, second = model.build(), model.build()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(model.example()["input_ids"], model.example()["input_ids"])
    assert model.at({"seq": 5})["input_ids"].shape == (3, 5)


@pytest.mark.parametrize(
    "name", list(ARCHITECTURES) if os.environ.get("SYMFX_LONG") == "1" else SHORT
)
def test_a_model_is_traced_and_verified(name: str) -> None:
    made = subject(ARCHITECTURES[name])
    made.shapes = SHAPES
    row = outcome(Result(name, "", tuple(run_steps(made, ["trace", "verify"])), 0.0))
    if name in OWN_CODE:
        assert OWN_CODE[name] in " ".join([*(pin.line for pin in row.pins), str(row.problem)])
        return
    assert row.problem is None
    assert row.pins == []
    assert row.compared >= 3


def test_the_page() -> None:
    guard = Condition("seq*(seq + 1) <= 64", "at a.py:1: f(x)")
    good = Outcome("good", ["batch"], 9, [guard], [], 4, 1e-7)
    pin = Condition("seq = 3", "at b.py:2: y")
    pinned = Outcome("pinned", ["batch", "seq"], 9, [], [pin], 2, 0.0)
    bad = Outcome("bad", ["batch"], problem="not traced: Error: a | b")
    text = page([good, pinned, bad])
    assert "| good | batch | 9 | 1 | 0 | 4 | 1.0e-07 |" in text
    assert "- guard: `seq*(seq + 1) <= 64`: `at a.py:1: f(x)`" in text
    assert "- pinned: `seq = 3`: `at b.py:2: y`" in text
    assert "- bad: `not traced: Error: a / b`" in text
    assert "Models: 3. Traced and equal to the model at every shape: 2." in text
    assert "Without a pinned dimension: 1 of these" in text
