"""Conditions as the program stated them, though the environment has learned from them since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch import fx
from torch.fx.passes import runtime_assert

from symfx.algebra import Term
from symfx.sym_node import SymNode

__all__ = ["as_written", "insert_assertions", "settled_assertions", "stated"]


class _Stated(SymNode):
    """The node of a condition that is known to hold, as it was stated."""

    __slots__ = ("stated",)

    stated: sympy.Basic

    @property
    def expr(self) -> sympy.Basic:
        return self.stated


def stated(env: Any, condition: Term, expr: sympy.Basic) -> torch.SymBool:
    """A condition as the value of a node in a graph.

    torch finds the assertions that a graph has already by the expressions of their conditions.

    Args:
        env: the ShapeEnv.
        condition: the condition.
        expr: the condition as it was stated, as sympy.
    """
    number: Any = _Stated.of(env, condition, None)
    number.stated = expr
    return torch.SymBool(number)  # type: ignore[no-untyped-call]


def as_written(env: Any, condition: Term) -> tuple[str, tuple[Term, Term]] | None:
    """An order of integers as the program wrote it, for a graph of torch; None for other terms.

    The normal form of ``n > 4`` is ``n >= 5``.

    Args:
        env: the ShapeEnv.
        condition: the term.

    Returns:
        The name of the operation, and both sides as they are known now.
    """
    asked = env.asked.get(condition) if env.speaks_torch else None
    if asked is None or asked[0] not in ("lt", "le", "gt", "ge"):
        return None
    method, *sides = asked
    left, right = map(env.facts.resolve, sides)
    if (left.sort, right.sort) != ("int", "int"):
        return None
    smaller, larger = (left, right) if method[0] == "l" else (right, left)
    compare = env.table.lt if method[1] == "t" else env.table.le
    return (method, (left, right)) if compare(smaller, larger) is condition else None


def settled_assertions(env: Any, symbol: Term) -> Iterator[Any]:
    """The assertions about a symbol that the facts they gave have made trivial.

    A bound of a symbol that another assertion gives its value is not among them.
    """
    settled = [
        record
        for record in env.ledger.asserts
        if symbol in record.term.free_symbols and env.facts.resolve(record.term).op == "const"
    ]
    pinned = any(r.term.op == "eq" and r.term.free_symbols == {symbol} for r in settled)
    for record in settled:
        if not (pinned and record.term.op == "ge" and record.term.free_symbols == {symbol}):
            yield record


def insert_assertions(graph: fx.GraphModule, env: Any) -> None:
    """Insert the assertions about the numbers that a branch reads from data into its graph.

    A trace without an operation cache leaves assertions to torch, whose pass for the outer graph
    does not look into branches.

    Args:
        graph: the graph of the branch.
        env: the environment of the trace; one of torch has no ledger.
    """
    if getattr(env, "ledger", None) is not None and env.ledger.asserts:
        runtime_assert.insert_deferred_runtime_asserts(graph, env, "trace_subgraph")
        graph.recompile()
