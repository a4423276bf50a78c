"""Loads mutated files of traces: ``python mutate_traces.py FOLDER SEED COUNT``; see `fuzz`."""

from __future__ import annotations

import copy
import io
import json
import random
import sys
import zipfile
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
import symfx  # noqa: E402
from file_fuzzing import as_text, check_source, fuzz, mutated_bytes, mutated_tensors  # noqa: E402
from mutations import change  # noqa: E402


def parts(content: bytes) -> tuple[Any, dict[str, Any]]:
    """The JSON and the tensors of a file."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        tensors = load_tensors(archive.read("tensors.safetensors"))
        return json.loads(archive.read("trace.json")), tensors


def written(text: str, tensors: dict[str, Any]) -> bytes:
    """The content of a file with this text and these tensors."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("trace.json", text)
        archive.writestr("tensors.safetensors", save_tensors(tensors))
    return file.getvalue()


def by_structure(data: Any, tensors: dict[str, Any], picks: random.Random) -> bytes:
    data = copy.deepcopy(data)
    tensors = mutated_tensors(tensors, picks, 0.1)
    # Most of a file is its nodes and its terms: each field is tried as often as they are.
    where = picks.choice([data, data, data["graph"], *[v for v in data.values() if v]])
    for _ in range(picks.choice([1, 1, 1, 1, 2, 5])):
        change(where if isinstance(where, list | dict) else data, picks)
    return written(as_text(data, picks), tensors)


def mutate(original: Any, picks: random.Random) -> bytes:
    content, data, tensors = original
    way = picks.random()
    if way < 0.75:
        return by_structure(data, tensors, picks)
    if way < 0.9:
        text = mutated_bytes(json.dumps(data).encode(), picks).decode("utf-8", "replace")
        return written(text, tensors)
    return mutated_bytes(content, picks)


def prepare(folder: Path) -> dict[str, Any]:
    originals = {}
    for path in sorted(folder.glob("*.symfx")):
        symfx.load(path)  # the first use of torch takes longer
        originals[path.name] = (path.read_bytes(), *parts(path.read_bytes()))
    return originals


def read(path: Path) -> None:
    trace = symfx.load(path)
    str(trace)
    check_source(trace.graph_module.code)


if __name__ == "__main__":
    fuzz("mutated", prepare, mutate, read, symfx.TraceFileError)
