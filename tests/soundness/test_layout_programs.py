"""Graphs of programs with views, slices and dimensions of size 1 equal eager at admitted shapes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import layout_programs
import pytest
import torch
from layout_programs import Program
from profiles import LONG

import symfx
from symfx.symbolic_shapes import GuardOnDataDependentSymNode

PROGRAMS = 2000 if LONG else 60
SHAPES = 8

# Operators warn of degrees of freedom for a dimension of one element.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def difference(expected: Any, actual: Any) -> str | None:
    """The difference of two results in value or in memory layout, or None."""
    for i, (one, other) in enumerate(zip(expected, actual, strict=True)):
        if not isinstance(one, torch.Tensor):
            if one != other:
                return f"result {i} is {one} in eager, {other} in the graph"
        elif one.shape != other.shape or one.dtype is not other.dtype:
            return f"result {i} is {one.dtype} {one.shape} in eager, {other.dtype} {other.shape}"
        elif not torch.allclose(one.double(), other.double(), equal_nan=True):
            return f"result {i} has other values"
        elif one.numel() and _strides(one) != _strides(other):
            return f"result {i} has strides {one.stride()} in eager, {other.stride()} in the graph"
    return None


def _strides(tensor: torch.Tensor) -> list[int]:
    """The strides of dimensions with two elements or more."""
    return [stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if n > 1]


def admitted_runs(
    picks: random.Random, program: Program, trace: symfx.Trace
) -> Iterator[tuple[str, list[torch.Tensor], Any]]:
    """Inputs that a trace admits and eager takes, with a description and eager's results."""
    function = program.function()
    for values in (program.example, *layout_programs.other_sizes(picks, program, SHAPES)):
        for loose in (False, True):
            args = program.arguments(values, loose=loose)
            if not trace.check(*args):
                continue
            try:
                expected = function(*args)
            except (ArithmeticError, RuntimeError, IndexError, ValueError):
                continue
            yield f"{values}{' with loose strides' if loose else ''}", args, expected


def test_graphs_equal_eager_at_other_admitted_shapes() -> None:
    seed = random.SystemRandom().randrange(2**32) if LONG else 0
    picks = random.Random(seed)
    traced = compared = 0
    for number in range(PROGRAMS):
        program = layout_programs.draw_program(picks)
        try:
            trace = program.trace()
        except GuardOnDataDependentSymNode:
            continue  # the program branches on the stride of a dimension of size 1, or on data
        traced += 1
        for at, args, expected in admitted_runs(picks, program, trace):
            compared += 1
            said = difference(expected, trace.graph_module(*args))
            assert said is None, (
                f"program {number} of seed {seed} at {at}: {said}\n{program}\n"
                f"{trace.graph_module.code}"
            )
    assert traced > 0.8 * PROGRAMS
    assert compared > 4 * PROGRAMS
