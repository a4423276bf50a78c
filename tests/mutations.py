"""Mutations of nested JSON, for the fuzzers of files: values that would run code, or take memory."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

PAYLOADS = [
    "x=CODE()",
    "max=CODE()) #",
    'a")+CODE()+getattr(self,"a',
    "')+CODE()+('",
    "x\n    CODE()\n#",
    "CODE()",
    "__class__",
    "# COUNTER: 0",
    "a" * 5_000,
    "",
    "\0",
    "ｘ",
]
VALUES: list[Any] = [
    *PAYLOADS,
    *[None, True, False, 0, 1, -1, 2, 3, 7, 1.5, -1e308, float("nan"), float("inf")],
    *[2**31, 2**63, 10**7, 10**12, 10**999, 10**4_000],
    *[[], {}, [[]], [1, 2], {"a": 1}, {"node": "x"}, {"float": "inf"}, {"tuple": []}],
    *["torch.add", "torch.load", "operator.iadd", "torch.nn.Transformer", "torch.nn.Linear"],
]


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Each place in nested lists and objects: the container, and the key in it."""
    stack = [data]
    while stack:
        holder = stack.pop()
        keys = range(len(holder)) if isinstance(holder, list) else list(holder)
        for key in keys:
            yield holder, key
            if isinstance(holder[key], list | dict):
                stack.append(holder[key])


def change(data: Any, picks: random.Random) -> None:
    """One change of the structure."""
    found = list(places(data))
    if not found:
        return
    holder, key = picks.choice(found)
    other, other_key = picks.choice(found)
    match picks.randrange(16):
        case 0 | 1:
            holder[key] = copy.deepcopy(picks.choice(VALUES))
        case 2:
            holder[key] = copy.deepcopy(other[other_key])
        case 3:
            del holder[key]
        case 4:
            one, two = copy.deepcopy(holder[key]), copy.deepcopy(other[other_key])
            holder[key], other[other_key] = two, one
        case 5 if isinstance(holder, dict):
            strings = [*PAYLOADS, *(k for h, k in found if isinstance(h, dict))]
            holder[picks.choice(strings)] = holder.pop(key)
        case 5 | 6 if isinstance(holder, list):
            holder.insert(picks.randrange(len(holder) + 1), copy.deepcopy(other[other_key]))
        case 6:
            holder[picks.choice(PAYLOADS)] = copy.deepcopy(picks.choice(VALUES))
        case 8 | 9 | 10 | 11 | 12 | 13:  # a value from another place
            kind = type(holder[key])
            alike = [h[k] for h, k in found if k == key and type(h[k]) is kind]
            holder[key] = copy.deepcopy(picks.choice(alike))
        case _:
            value = holder[key]
            if isinstance(value, bool | int | float):
                holder[key] = picks.choice([-value, value + 1, value - 1, value * 1_000_003])
            elif isinstance(value, str):
                cut = picks.randrange(len(value) + 1)
                holder[key] = value[:cut] + picks.choice([*PAYLOADS, ".", "_", '"']) + value[cut:]
            else:
                for _ in range(picks.choice([1, 1, 5, 150])):
                    value = [value]
                holder[key] = value
