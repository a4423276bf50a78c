"""Loads mutated files of traces: ``python mutate_traces.py FOLDER SEED COUNT``, in its own process.

Prints, as its last line, how many loaded, how many were refused, and what that took. It ends at the
first file that runs code or leaves by an error other than TraceFileError, which it names.
"""

from __future__ import annotations

import ast
import builtins
import copy
import faulthandler
import io
import json
import random
import resource
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
import symfx  # noqa: E402
from mutations import PAYLOADS, change  # noqa: E402

#: Peak memory before any file is read, in kilobytes: torch, and on Linux the parent process.
AT_START = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
RAN: list[Any] = []
builtins.CODE = lambda *args: RAN.append(args)  # type: ignore[attr-defined]


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
    data, tensors = copy.deepcopy(data), dict(tensors)
    if tensors and picks.random() < 0.1:
        name = picks.choice(list(tensors))
        tensor = tensors.pop(name)
        if picks.random() < 0.7:
            changed = [tensor.reshape(-1), tensor[:0], tensor.double(), tensor.int(), tensor[None]]
            tensors[name] = picks.choice(changed).contiguous()
    # Most of a file is its nodes and its terms: each field is tried as often as they are.
    where = picks.choice([data, data, data["graph"], *[v for v in data.values() if v]])
    for _ in range(picks.choice([1, 1, 1, 1, 2, 5])):
        change(where if isinstance(where, list | dict) else data, picks)
    try:
        text = json.dumps(data)
    except (RecursionError, ValueError):  # too deep for Python, or a number too long
        text = json.dumps(str(picks.random())) + "[" * 5_000
    return written(text, tensors)


def by_bytes(content: bytes, picks: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(picks.choice([1, 1, 2, 5])):
        at = picks.randrange(len(found))
        length = picks.choice([1, 1, 2, 20, 500])
        match picks.randrange(5):
            case 0:
                found[at] ^= 1 << picks.randrange(8)
            case 1:
                del found[at : at + length]
            case 2:
                found[at:at] = picks.choice(PAYLOADS).encode()
            case 3:
                found[at : at + length] = found[at : at + length] * 2
            case _:
                found[at : at + 1] = picks.choice([b"9" * 5_000, b"0", b"-1", b"1e999"])
        if not found:
            break
    return bytes(found)


def in_the_text(data: Any, tensors: dict[str, Any], picks: random.Random) -> bytes:
    text = by_bytes(json.dumps(data).encode(), picks).decode("utf-8", "replace")
    return written(text, tensors)


def main() -> None:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    originals = {}
    for path in sorted(folder.glob("*.symfx")):
        symfx.load(path)  # the first use of torch takes longer
        originals[path.name] = (path.read_bytes(), *parts(path.read_bytes()))
    loaded, refused, slowest = 0, 0, 0.0
    kinds: dict[str, int] = {}
    path = folder / "mutated"
    for number in range(seed, seed + count):
        picks = random.Random(number)
        content, data, tensors = originals[picks.choice(sorted(originals))]
        way = picks.random()
        if way < 0.75:
            mutated = by_structure(data, tensors, picks)
        elif way < 0.9:
            mutated = in_the_text(data, tensors, picks)
        else:
            mutated = by_bytes(content, picks)
        path.write_bytes(mutated)
        faulthandler.dump_traceback_later(20, exit=True)
        start = time.perf_counter()
        try:
            trace = symfx.load(path)
            str(trace)
        except symfx.TraceFileError as error:
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
            tree = ast.parse(trace.graph_module.code)
            if "CODE" in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}:
                sys.exit(f"{number} has code of its own: {trace.graph_module.code}")
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
