"""Loads mutated files: ``python mutate_saved_models.py FOLDER SEED COUNT``, in a process of its own.

Prints, as its last line, how many loaded, how many were refused, and what that took. It ends at the
first file that runs code or leaves by an error other than OptimizationError, which it names.
"""

from __future__ import annotations

import ast
import builtins
import copy
import faulthandler
import json
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from saved_models import MODELS, parts, written

from symfx.errors import OptimizationError
from symfx.optimization import load

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
#: Peak memory before any file is read, in kilobytes: torch, and on Linux the parent process.
AT_START = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
RAN: list[Any] = []
builtins.CODE = lambda *args: RAN.append(args)  # type: ignore[attr-defined]


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


def by_structure(header: Any, tensors: Any, picks: random.Random) -> bytes:
    header, tensors = copy.deepcopy(header), dict(tensors)
    if picks.random() < 0.1:
        name = picks.choice(list(tensors))
        tensor = tensors.pop(name)
        if picks.random() < 0.7:
            changed = [tensor.reshape(-1), tensor[:0], tensor.double(), tensor.int(), tensor[None]]
            tensors[name] = picks.choice(changed).contiguous()
    for _ in range(picks.choice([1, 1, 1, 1, 2, 5])):
        change(header, picks)
    try:
        text = json.dumps(header)
    except (RecursionError, ValueError):  # too deep for Python, or a number too long
        text = json.dumps(str(picks.random())) + "[" * 5_000
    return written(text, tensors)


def by_bytes(content: bytes, picks: random.Random) -> bytes:
    size = int.from_bytes(content[:8], "little") + 8
    found = bytearray(content)
    for _ in range(picks.choice([1, 1, 2, 5])):
        # Mostly in the header: behind it there are only numbers.
        at = picks.randrange(min(size, len(found)) if picks.random() < 0.9 else len(found))
        length = picks.choice([1, 1, 2, 20, 500])
        match picks.randrange(5):
            case 0:
                found[at] ^= 1 << picks.randrange(8)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = bytes(picks.randrange(32, 127) for _ in range(length))
            case 3:
                found[at : at + length] = found[at : at + length] * 2
            case _:
                digits = picks.choice([b"9" * 5_000, b"0", b"-1", b"1e999", b"[" * 2_000])
                found[at : at + 1] = digits
        if not found:
            break
    if picks.random() < 0.7:  # with a length of the header that is right again
        end = size + len(found) - len(content)
        found[:8] = max(end - 8, 0).to_bytes(8, "little")
    return bytes(found)


def in_the_text(header: Any, tensors: Any, picks: random.Random) -> bytes:
    text = json.dumps(header).encode()
    mutated = by_bytes(len(text).to_bytes(8, "little") + text, picks)[8:]
    return written(mutated.decode("utf-8", "replace"), tensors)


def main() -> None:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    originals = {}
    for name in MODELS:
        path = folder / f"{name}.safetensors"
        load(path)  # the first use of torch takes longer
        originals[name] = (path.read_bytes(), *parts(path))
    loaded, refused, slowest = 0, 0, 0.0
    kinds: dict[str, int] = {}
    path = folder / "mutated.safetensors"
    for number in range(seed, seed + count):
        picks = random.Random(number)
        content, header, tensors = originals[picks.choice(sorted(originals))]
        way = picks.random()
        if way < 0.6:
            mutated = by_structure(header, tensors, picks)
        elif way < 0.8:
            mutated = in_the_text(header, tensors, picks)
        else:
            mutated = by_bytes(content, picks)
        path.write_bytes(mutated)
        faulthandler.dump_traceback_later(10, exit=True)
        start = time.perf_counter()
        try:
            model = load(path)
        except OptimizationError as error:
            refused += 1
            cause = type(error.__cause__).__name__
            kinds[cause] = kinds.get(cause, 0) + 1
            if isinstance(error.__cause__, MemoryError):
                sys.exit(f"{number} takes too much memory: {error}")
        except BaseException as error:
            print(f"{number} ends in {type(error).__name__}: {error}", file=sys.stderr)
            raise
        else:
            loaded += 1
            tree = ast.parse(model.graph_module.code)
            if "CODE" in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
                sys.exit(f"{number} has code of its own: {model.graph_module.code}")
        finally:
            slowest = max(slowest, time.perf_counter() - start)
            faulthandler.cancel_dump_traceback_later()
        if RAN:
            sys.exit(f"{number} has run code")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - AT_START
    result = {
        "loaded": loaded,
        "refused": refused,
        "refused because of": kinds,
        "slowest seconds": round(slowest, 3),
        "megabytes": round(kilobytes / 1024),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
