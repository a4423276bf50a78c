"""Other shapes for a trace: inputs of other sizes that the guards of the trace admit."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch

from symfx.algebra import evaluate
from tools.operators.results import disagreement, run
from tools.operators.samples import Call

__all__ = ["Admitted", "StockAdmitted", "SymfxAdmitted", "another_shape", "resized"]

#: The number of mixed changes of sizes that are tried.
MIXED = 20


class Admitted(Protocol):
    """The symbols of a trace, and the values that its guards admit."""

    symbols: list[tuple[Any, int]]
    """Each symbol of the inputs with its value at tracing."""

    def admits(self, values: Mapping[Any, int]) -> bool:
        """Whether the trace holds for these values of its symbols."""

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """The value of a number in the metadata of a node, for values of the symbols."""


class SymfxAdmitted:
    """The sizes that a trace of symfx admits."""

    def __init__(self, env: Any) -> None:
        found = [s for s in env.symbol_table() if not s.unbacked and s.hint is not None]
        self.symbols = [(s.term, int(s.hint)) for s in found]
        self._bounds = {s.term: (s.lower, s.upper) for s in found}
        self._guards = [guard.term for guard in env.guards]

    def admits(self, values: Mapping[Any, int]) -> bool:
        """See `Admitted`."""
        return all(
            (low is None or values[term] >= low) and (high is None or values[term] <= high)
            for term, (low, high) in self._bounds.items()
        ) and all(evaluate(guard, dict(values)) for guard in self._guards)

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """See `Admitted`."""
        return n if type(n) is int else int(evaluate(n.node.term, dict(values)))


class StockAdmitted:
    """The sizes that a trace of stock torch admits."""

    def __init__(self, env: Any) -> None:
        self.symbols = [(s, int(v)) for s, v in env.backed_var_to_val.items()]
        self._bounds = {s: env.var_to_range[s] for s, _ in self.symbols}
        self._replacements = env.replacements
        self._guards = [guard.expr for guard in env.guards]

    def _full(self, values: Mapping[Any, int]) -> dict[Any, Any]:
        free = {s: v for s, v in values.items() if s not in self._replacements}
        known = {s: e.xreplace(free) for s, e in self._replacements.items()}
        return {**values, **known}

    def admits(self, values: Mapping[Any, int]) -> bool:
        """See `Admitted`."""
        full = self._full(values)
        return all(
            bounds.lower <= full[s] <= bounds.upper for s, bounds in self._bounds.items()
        ) and all(bool(guard.xreplace(full)) for guard in self._guards)

    def number(self, n: Any, values: Mapping[Any, int]) -> int:
        """See `Admitted`."""
        return n if type(n) is int else int(n.node.expr.xreplace(self._full(values)))


def another_shape(g: Any, admitted: Admitted, call: Call) -> list[torch.Tensor] | None:
    """Inputs of other sizes that the trace admits and the operator takes, or None."""
    if not admitted.symbols:
        return None
    values = [n.meta["val"] for n in g.graph.nodes if n.op == "placeholder"]
    for sizes in _other_sizes(admitted.symbols):
        if not admitted.admits(sizes):
            continue
        made = [
            resized(
                t,
                [admitted.number(n, sizes) for n in v.shape],
                [admitted.number(n, sizes) for n in v.stride()],
            )
            for t, v in zip(call.tensors, values, strict=True)
        ]
        try:
            # The operator may refuse sizes for a reason that no guard states, or take them and read
            # memory outside of its inputs: its results then differ from run to run.
            if all(disagreement(run(call.f, made), run(call.f, made), True) is None for _ in "abc"):
                return made
        except Exception:  # noqa: BLE001 - the operator refuses these sizes
            continue
    return None


def _other_sizes(symbols: Sequence[tuple[Any, int]]) -> Iterator[dict[Any, int]]:
    """Values of symbols to try: all changed in one way, then each in a way of its own."""
    changes = (lambda n: n + 1, lambda n: 2 * n, lambda n: n + 2, lambda n: 3 * n, lambda n: n)
    for change in changes[:-1]:
        yield {symbol: change(hint) for symbol, hint in symbols}
    chance = random.Random(0)
    for _ in range(MIXED):
        sizes = {symbol: chance.choice(changes)(hint) for symbol, hint in symbols}
        if any(sizes[symbol] != hint for symbol, hint in symbols):
            yield sizes


def resized(example: torch.Tensor, size: Sequence[int], stride: Sequence[int]) -> torch.Tensor:
    """A tensor of another size with values drawn from an example's own.

    Ascending integers stay ascending. They may be offsets, and with one CPU thread `embedding_bag`
    takes descending offsets and returns memory that it never wrote.
    """
    made = torch.empty_strided(size, stride, dtype=example.dtype)
    flat = example.reshape(-1)
    if flat.numel() == 0:
        return made.zero_()
    drawn = flat[torch.arange(made.numel()) % flat.numel()]
    if not example.dtype.is_floating_point and not example.dtype.is_complex:
        ascending = torch.equal(flat, flat.sort()[0])
        drawn = drawn.sort()[0] if ascending else drawn
    return made.copy_(drawn.reshape(made.shape))
