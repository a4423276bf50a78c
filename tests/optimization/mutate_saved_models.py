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
from pathlib import Path
from typing import Any

from saved_models import MODELS, parts, written

sys.path.insert(0, str(Path(__file__).parents[1]))
from mutations import change
from symfx.errors import OptimizationError
from symfx.optimization import load

#: Peak memory before any file is read, in kilobytes: torch, and on Linux the parent process.
AT_START = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
RAN: list[Any] = []
builtins.CODE = lambda *args: RAN.append(args)  # type: ignore[attr-defined]


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
