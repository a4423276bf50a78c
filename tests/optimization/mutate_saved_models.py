"""Loads mutated files: ``python mutate_saved_models.py FOLDER SEED COUNT``; see `fuzz`."""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

from saved_models import MODELS, parts, written

sys.path.insert(0, str(Path(__file__).parents[1]))
from file_fuzzing import as_text, check_source, fuzz, mutated_bytes, mutated_tensors
from mutations import change
from symfx.errors import OptimizationError
from symfx.optimization import load


def by_structure(header: Any, tensors: Any, picks: random.Random) -> bytes:
    header = copy.deepcopy(header)
    tensors = mutated_tensors(tensors, picks, 0.1)
    for _ in range(picks.choice([1, 1, 1, 1, 2, 5])):
        change(header, picks)
    return written(as_text(header, picks), tensors)


def by_bytes(content: bytes, picks: random.Random) -> bytes:
    # Behind the header there are only numbers.
    size = int.from_bytes(content[:8], "little") + 8
    found = bytearray(mutated_bytes(content, picks, size))
    if picks.random() < 0.7:  # with a length of the header that is right again
        end = size + len(found) - len(content)
        found[:8] = max(end - 8, 0).to_bytes(8, "little")
    return bytes(found)


def in_the_text(header: Any, tensors: Any, picks: random.Random) -> bytes:
    text = json.dumps(header).encode()
    mutated = by_bytes(len(text).to_bytes(8, "little") + text, picks)[8:]
    return written(mutated.decode("utf-8", "replace"), tensors)


def mutate(original: Any, picks: random.Random) -> bytes:
    content, header, tensors = original
    way = picks.random()
    if way < 0.6:
        return by_structure(header, tensors, picks)
    if way < 0.8:
        return in_the_text(header, tensors, picks)
    return by_bytes(content, picks)


def prepare(folder: Path) -> dict[str, Any]:
    originals = {}
    for name in MODELS:
        path = folder / f"{name}.safetensors"
        load(path)  # the first use of torch takes longer
        originals[name] = (path.read_bytes(), *parts(path))
    return originals


def read(path: Path) -> None:
    check_source(load(path).graph_module.code)


if __name__ == "__main__":
    fuzz("mutated.safetensors", prepare, mutate, read, OptimizationError)
