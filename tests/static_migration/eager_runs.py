"""Types that `migrate` finds, compared with eager at many sizes."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from symfx.static_migration import Migration, typecheck
from symfx.static_migration.conditions import parse_input


def names_of(texts: Sequence[str]) -> list[str]:
    """The names in input types and conditions, each once."""
    words = re.findall(r"\b[a-z]\w*\b", " ".join(re.sub(r"^\w+:\s*\w*\[", "[", t) for t in texts))
    return [
        *dict.fromkeys(word for word in words if word not in ("and", "or", "not", "min", "max"))
    ]


def evaluated(text: str, sizes: Mapping[str, int]) -> Any:
    """A shape or condition as text, with numbers in place of names; ``None`` for Dyn."""
    if "Dyn" in text:
        return None
    return eval(
        text,
        {"min": min, "max": max, "math": math, "where": lambda c, a, b: a if c else b},
        dict(sizes),
    )


def sizes_to_try(names: Sequence[str], values: Sequence[int]) -> Iterator[dict[str, int]]:
    for choice in itertools.product(values, repeat=len(names)):
        yield dict(zip(names, choice, strict=True))


def disagreements(
    module: nn.Module,
    inputs: Sequence[str],
    where: Sequence[str] = (),
    values: Sequence[int] = range(1, 10),
    found: Migration | None = None,
) -> list[str]:
    """The sizes at which eager does not have the shape that the migration predicts.

    At sizes that fail the migration's conditions the program may run or not.
    """
    types = dict(parse_input(text) for text in inputs)
    found = typecheck(module, types, where) if found is None else found
    assert found.verdict == "well-typed", str(found)
    output = found.shapes[found.graph.output_node()]
    wrong = []
    for sizes in sizes_to_try(names_of(inputs), values):
        conditions = [*where, *found.conditions, *(f"{f.name} == {f.value}" for f in found.fixed)]
        if not all(evaluated(condition, sizes) for condition in conditions):
            continue
        args = {
            name: torch.zeros(
                [evaluated(str(dim), sizes) for dim in type_.dims or ()],
                dtype=getattr(torch, type_.dtype),
            )
            for name, type_ in types.items()
        }
        try:
            got: Any = list(module(**args).shape)
        except (RuntimeError, IndexError, ValueError) as error:
            got = f"{type(error).__name__}: {error}"
        if got != evaluated(output, sizes):
            wrong.append(f"{sizes}: eager {got}, predicted {output}")
    return wrong
