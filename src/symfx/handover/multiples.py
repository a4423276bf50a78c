"""Sizes that are expressions of a dimension's name, checked in the terms of `torch.export`.

torch checks a size that is a symbol. Of a size such as ``8*batch`` it takes the quotient for
``batch``, whether or not 8 divides it. So an exported program gets guards about the size itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch._dynamo.source import TensorProperty, TensorPropertySource
from torch._guards import Source as TorchSource

from symfx.algebra import Term, substitute
from symfx.algebra.terms.linear import determined_symbols
from symfx.symbolic_shapes import Provenance, ShapeEnv, ShapeGuard

__all__ = ["guard_expressions"]


def guard_expressions(env: ShapeEnv, inputs: Iterable[tuple[TorchSource, Any]]) -> None:
    """Guard the sizes of inputs that are expressions, and the names that they determine.

    Args:
        env: the environment, whose guards are written anew.
        inputs: the fake tensor of each input, with the input's source.
    """
    sizes: list[tuple[TorchSource, Term]] = []
    for source, fake in inputs:
        shape: Iterable[Any] = fake.shape if isinstance(fake, torch.Tensor) else ()
        for i, size in enumerate(shape):
            if isinstance(size, torch.SymInt) and size.node.term.op not in ("symbol", "const"):
                sizes.append((TensorPropertySource(source, TensorProperty.SIZE, i), size.node.term))
    if not sizes:
        return
    labels: dict[Term, list[Term]] = {}
    for source, term in sizes:
        name = env.symbols.free_name("s", source.name)
        hint = env.hint_of(term)
        label = env.symbols.new(name, "int", source=source, hint=hint, low=0)
        env.knowledge.begin_at(0, label)
        labels.setdefault(term, []).append(label)
    read = [symbol for symbol, record in env.symbols.records.items() if record.sources]
    by_size: dict[Term, Term] = {}
    for symbol, term, factor, rest in determined_symbols(labels, read):
        by_size[symbol] = (labels[term][0] - substitute(rest, by_size)) // factor
    guards = [
        replace(guard, term=substitute(guard.term, by_size), asked=None) for guard in env.guards
    ]
    stated = [label.eq(substitute(term, by_size)) for term, own in labels.items() for label in own]
    for symbol, size in by_size.items():
        low, high = env.prover.range(symbol)
        stated += [size >= low] if low is not None and low > 2 else []
        stated += [size <= high] if high is not None else []
    env.ledger.guards[:] = [*(ShapeGuard(term, Provenance()) for term in stated), *guards]
