"""Files mutated and read: the loop of the fuzzers of files, and its run in a process of its own.

A fuzzer is a script that calls `fuzz`: ``python SCRIPT FOLDER SEED COUNT``. It prints, as its last
line, how many files were read, how many were refused, and what that took. It ends at the first file
that runs code or leaves by another error than a refusal, which it names.
"""

from __future__ import annotations

import ast
import builtins
import faulthandler
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The calls of CODE, which mutations try to put into generated source.
RAN: list[Any] = []
#: The seconds of wall time after which a file hangs.
_HANGS = 60


def fuzz(
    name: str,
    prepare: Callable[[Path], dict[str, Any]],
    mutate: Callable[[Any, random.Random], bytes],
    read: Callable[[Path], None],
    refusal: type[Exception],
) -> None:
    """Read mutated files, as the script's arguments say.

    Args:
        name: of the mutated file in the folder.
        prepare: reads the originals in the folder; returns them by name.
        mutate: the content of a mutated file, from one original.
        read: does with a file all that its users do.
        refusal: the error of a file that is refused.
    """
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    builtins.CODE = lambda *args: RAN.append(args)  # type: ignore[attr-defined]
    # The peak before any file is read, in kilobytes: torch, and on Linux the parent process.
    at_start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    originals = prepare(folder)
    loaded, refused, slowest, slowest_number = 0, 0, 0.0, seed
    kinds: dict[str, int] = {}
    path = folder / name
    for number in range(seed, seed + count):
        picks = random.Random(number)
        path.write_bytes(mutate(originals[picks.choice(sorted(originals))], picks))
        faulthandler.dump_traceback_later(_HANGS, exit=True)
        start = time.process_time()
        try:
            read(path)
        except refusal as error:
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
        finally:
            took = time.process_time() - start
            if took > slowest:
                slowest, slowest_number = took, number
            faulthandler.cancel_dump_traceback_later()
        if RAN:
            sys.exit(f"{number} has run code")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - at_start
    result = {
        "loaded": loaded,
        "refused": refused,
        "refused because of": kinds,
        "slowest seconds": round(slowest, 3),
        "slowest": slowest_number,
        "megabytes": round(kilobytes / 1024),
    }
    print(json.dumps(result))


def run(script: Path, folder: Path, count: int) -> dict[str, Any]:
    """The result of a fuzzer over this many files, each read within ten seconds and a gigabyte."""
    done = subprocess.run(
        [sys.executable, str(script), str(folder), "0", str(count)],
        capture_output=True,
        text=True,
        timeout=300 + count,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["loaded"] + found["refused"] == count
    assert found["refused"] > count // 4
    assert found["slowest seconds"] < 10
    assert found["megabytes"] < 1024
    return found


def mutated_bytes(content: bytes, picks: random.Random, head: int | None = None) -> bytes:
    """A few changes of the bytes, mostly among the first ``head`` where it is given."""
    found = bytearray(content)
    for _ in range(picks.choice([1, 1, 2, 5])):
        near = head is not None and picks.random() < 0.9
        at = picks.randrange(min(head, len(found)) if near and head else len(found))
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
    return bytes(found)


def mutated_tensors(tensors: dict[str, Any], picks: random.Random, share: float) -> dict[str, Any]:
    """The tensors; in a share of the calls, without one of them or with another in its place."""
    found = dict(tensors)
    if found and picks.random() < share:
        name = picks.choice(list(found))
        tensor = found.pop(name)
        if picks.random() < 0.7:
            changed = [
                tensor.reshape(-1),
                tensor.reshape(-1)[:0],
                tensor.double(),
                tensor.int(),
                tensor[None],
            ]
            found[name] = picks.choice(changed).contiguous()
    return found


def as_text(data: Any, picks: random.Random) -> str:
    """The data as JSON, or as a text that no reader takes where Python cannot write it."""
    try:
        return json.dumps(data)
    except (RecursionError, ValueError):  # too deep for Python, or a number too long
        return json.dumps(str(picks.random())) + "[" * 5_000


def check_source(source: str) -> None:
    """End the fuzzer if generated source names CODE."""
    if "CODE" in {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}:
        sys.exit(f"a file has code of its own: {source}")
