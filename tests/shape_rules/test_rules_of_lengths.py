"""Rules of operators on sequences and bins, compared with eager at many shapes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from symfx.static_migration import typecheck

Shapes = tuple[tuple[int, ...], ...]


def ctc(log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, reduction="none")


def padded(x: Any, y: Any) -> Any:
    return pad_sequence([x, y], batch_first=True)


def padded_in_front(x: Any, y: Any) -> Any:
    return pad_sequence([x, y], padding_side="left")


def by_reflectors(x: Any, y: Any, z: Any) -> Any:
    return torch.ormqr(x, y, z)


def from_the_right(x: Any, y: Any, z: Any) -> Any:
    return torch.ormqr(x, y, z, left=False)


def binned(x: Any, edges: Any) -> Any:
    return torch.histogram(x, edges)[0]


def put(x: Any, places: Any, source: Any) -> Any:
    return torch.put(x, places.long() % 2, source)


def put_in_place(x: Any, places: Any, source: Any) -> Any:
    return x.clone().put_(places.long() % 2, source)


def accumulated(x: Any, mask: Any, rows: Any, columns: Any, values: Any) -> Any:
    indices = [rows.long() % 2, columns.long() % 2]
    return torch.ops.aten._unsafe_masked_index_put_accumulate(x, mask > 0, indices, values)


def upsampled(x: Any) -> Any:
    return torch.ops.aten.upsample_nearest1d.vec(x, None, [0.6])


_LOG_PROBS = ((9, 5), (9, 3, 5), (9, 1, 5))
_LENGTHS = ((3,), (1,), ())
_SEQUENCES = ((2,), (3,), (2, 4), (3, 4), (3, 1), ())
_MATRICES = ((5, 5), (5, 3), (5, 6), (2, 5, 5))
CASES: list[tuple[Callable[..., Any], Any]] = [
    (ctc, itertools.product(_LOG_PROBS, ((4,), (3, 4), (1, 4), ()), _LENGTHS, _LENGTHS)),
    (padded, itertools.product(_SEQUENCES, _SEQUENCES)),
    (padded_in_front, itertools.product(_SEQUENCES, _SEQUENCES)),
    (
        by_reflectors,
        itertools.product(_MATRICES, ((5,), (3,), (2, 5)), ((5, 4), (2, 5, 4), (4, 5))),
    ),
    (
        from_the_right,
        itertools.product(_MATRICES, ((5,), (3,), (2, 5)), ((5, 4), (2, 4, 5), (4, 5))),
    ),
    (put, itertools.product(((3, 4),), ((5,), (2, 3), ()), ((5,), (6,), (3, 2), ()))),
    (put_in_place, itertools.product(((3, 4),), ((5,), (2, 3)), ((5,), (6,), (3, 2)))),
    (
        accumulated,
        itertools.product(
            ((5, 6),), ((2, 3), (3,)), ((2, 1), (3,)), ((3,), (2,)), ((2, 3), (3,), (2,), ())
        ),
    ),
    (upsampled, ((shape,) for shape in ((2, 3, 1), (2, 3, 2), (2, 3, 5)))),
    (binned, itertools.product(((7,), (2, 3)), ((4,), (2,), (1,), (2, 2)))),
]


def eager_shape(function: Callable[..., Any], shapes: Shapes) -> list[int] | None:
    inputs = [torch.arange(1.0, 1 + torch.Size(shape).numel()).reshape(shape) for shape in shapes]
    if function is ctc:
        inputs[1:] = [torch.ones(shapes[1], dtype=torch.int64)] + [
            torch.full(shape, value) for shape, value in zip(shapes[2:], (9, 4), strict=True)
        ]
    try:
        return [*function(*inputs).shape]
    except (RuntimeError, ValueError, IndexError):
        return None


@pytest.mark.parametrize(("function", "cases"), CASES)
def test_shapes_are_those_of_eager(function: Callable[..., Any], cases: Any) -> None:
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    outcomes = set()
    for shapes in cases:
        if function is ctc and shapes[0] != (9, 5) and shapes[1] == (4,) and shapes[2] == (3,):
            continue  # joined targets: their number is the sum of the lengths, which are data
        expected = eager_shape(function, shapes)
        kinds = ["f32"] + ["i64" if function is ctc else "f32"] * (len(shapes) - 1)
        types = {n: f"{k}{[*s]}" for n, k, s in zip(names, kinds, shapes, strict=True)}
        found = typecheck(function, types)
        shape = str(expected) if expected is not None else None
        got = found.shapes[found.graph.output_node()] if found.verdict == "well-typed" else None
        assert got == shape, (shapes, str(found.conflict))
        outcomes.add(expected is None)
    assert outcomes == {True, False}


def test_sequences_of_named_lengths() -> None:
    found = typecheck(padded, {"x": "f32[n, 3]", "y": "f32[m, 3]"})
    assert found.shapes[found.graph.output_node()] == "[2, max(n, m), 3]"
    three = typecheck(
        lambda x, y, z: pad_sequence([x, y, z]), {"x": "f32[n]", "y": "f32[m]", "z": "f32[k]"}
    )
    assert three.shapes[three.graph.output_node()] == "[max(n, m, k), 3]"
