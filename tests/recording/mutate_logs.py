"""Replays mutated logs: ``python mutate_logs.py FOLDER SEED COUNT``, in a process of its own.

FOLDER holds logs that EventLog.save wrote. The script replays each mutated log, describes it and
prints its guards in each language, as ``symfx replay`` does. The script prints, as its last line,
how many logs were replayed, how many were refused, and what that took. It ends at the first log
that runs code or leaves by an error other than SymfxError, which it names.
"""

from __future__ import annotations

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

from symfx.errors import SymfxError
from symfx.recording import EventLog, EventLogError
from symfx.recording.report import describe_replay
from symfx.untrusted import Source

PAYLOADS = [
    "L['x'].size()[0]",
    "L['*/ int evil(void); /*'].size()[0]",
    "x['\n(assert false)']",
    "CODE()",
    "x.__class__",
    "x" + ".a" * 3_000,
    "(" * 300,
    "a" * 6_000,
    "",
    "\0",
    "\x1b[2J",
    "\ud800",
    "ｘ",
]
CALLS = [
    "create_unbacked_symint",
    "expect",
    "evaluate_term",
    "evaluate_expr",
    "create_symbol",
    "name_dimension",
    "_constrain_range",
    "_set_replacement",
    "_eliminate_unbacked",
    "add_backed_var_to_val",
    "freeze",
]
NUMBERS: list[Any] = [
    *[0, 1, -1, 2, 3, 7, 9, 63, 64, 1.5, -1e308, 1e308, 5e-324, -0.0],
    *[2**31, 2**53 + 1, 2**63, 10**9, 3 * 10**10, 10**30, 10**999, -(10**999), 10**1_001],
]
VALUES: list[Any] = [
    *PAYLOADS,
    *NUMBERS,
    *[None, True, False, [], {}, [[]], [1, 2], {"a": 1}, {"set": [[]]}, {"set": [{"dict": []}]}],
    *[{"dict": [[[], 1]]}, {"dict": [1]}, {"float": "nan"}, {"float": "inf"}, {"tuple": []}],
    *[{"infinity": "oo"}, {"infinity": "-int_oo"}, {"integer": 3}, {"truth": True}],
    {"new symbol": "s0", "claims": ["positive"]},
    {"new symbol": "q", "claims": [[]]},
    {"enum": "DimDynamic", "member": "STATIC"},
    {"record": "LocalSource", "fields": {"local_name": "*/ x"}},
    {"record": "LocalSource", "fields": {"local_name": 3}},
    {"record": "GetItemSource", "fields": {"base": 3, "index": [[]]}},
    {"record": "Dim", "fields": {"name": "n", "min": 10**30}},
    {"record": "StatelessSymbolicContext", "fields": {"dynamic_sizes": 7}},
]
#: Peak memory before any file is read, in kilobytes: torch, and on Linux the parent process.
AT_START = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
RAN: list[Any] = []
builtins.CODE = lambda *args: RAN.append(args)  # type: ignore[attr-defined]


# The sorts of the operands of operations, and the sort of the result.
SORTS = {
    **dict.fromkeys(["product", "floordiv", "mod", "pow", "lshift", "rshift"], ("ii", "i")),
    **dict.fromkeys(["min", "max", "bit_and", "bit_or", "bit_xor"], ("ii", "i")),
    **dict.fromkeys(["fadd", "fmul", "fdiv", "ffloordiv", "fmod", "fpow", "fmin"], ("rr", "r")),
    **dict.fromkeys(["floor", "ceil", "trunc", "round"], ("r", "i")),
    **dict.fromkeys(["feq", "fle", "flt"], ("rr", "b")),
    **dict.fromkeys(["and", "or"], ("bb", "b")),
    **{"abs": ("i", "i"), "where": ("bii", "i"), "ge": ("i", "b"), "eq": ("i", "b")},
    **{"not": ("b", "b"), "to_real": ("i", "r"), "truediv": ("ii", "r"), "sqrt": ("r", "r")},
    **{"exp": ("r", "r"), "fneg": ("r", "r"), "fabs": ("r", "r"), "is_integer": ("r", "b")},
}


def random_term(picks: random.Random, symbols: list[str]) -> list[Any]:
    """A packed term, mostly of a right form, that grows fast."""
    parts: list[Any] = [["symbol", name, "int"] for name in symbols]
    sorts = "i" * len(parts)
    for _ in range(picks.choice([1, 2, 4, 10, 40, 400])):
        op = picks.choice([*SORTS, "sum", "sum", "const"])
        wanted, made = SORTS.get(op, ("", "i"))
        if op == "const":
            small = picks.random() < 0.8
            parts.append(["const", picks.choice(NUMBERS[:9] if small else NUMBERS)])
            made = "i" if isinstance(parts[-1][1], int) else "r"
        elif op == "sum":
            scaled = [
                [picks.choice([1, 1, 2, -1, 10**9]), _near(picks, sorts, "i")] for _ in range(2)
            ]
            parts.append(["sum", picks.choice(NUMBERS[:8]), *scaled])
        elif picks.random() < 0.01:
            parts.append([op, *(picks.randrange(len(parts)) for _ in wanted)])
        elif all(sort in sorts for sort in wanted):
            parts.append([op, *(_near(picks, sorts, sort) for sort in wanted)])
        else:
            continue
        sorts += made
    last = _near(picks, sorts, "i")
    if picks.random() < 0.8:
        parts.append([picks.choice(["ge", "eq"]), last])
    return parts


def _near(picks: random.Random, sorts: str, sort: str) -> int:
    """The number of a part of a sort, mostly a late one."""
    places = [number for number, found in enumerate(sorts) if found == sort]
    return picks.choice(places[-2:] if picks.random() < 0.7 else places)


def repeated_term(picks: random.Random, symbols: list[str]) -> list[Any]:
    """One operation on its own result, many times."""
    start: list[Any] = picks.choice([["symbol", picks.choice(symbols), "int"], ["const", 10]])
    parts: list[Any] = [start, ["const", picks.choice(NUMBERS)]]
    op = picks.choice(["sum", *(name for name in SORTS if SORTS[name][1] != "r")])
    for number in range(picks.choice([1, 2, 40, 350, 3_000])):
        last = number + 1 if number else 0
        other = picks.choice([last, last, 0, 1])
        if op == "sum":
            parts.append(["sum", 1, [1, last], [1, other]])
        elif op == "where":
            parts += [["ge", last]] if number == 0 else []
            parts.append(["where", 2, last, other])
        elif op in ("abs", "not", "eq", "ge"):
            parts.append([op, last])
        else:
            parts.append([op, last, other])
    parts.append(["ge", len(parts) - 1])
    return parts


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


def change(data: Any, picks: random.Random, symbols: list[str]) -> None:
    """One change of the structure."""
    found = list(places(data))
    if not found:
        return
    holder, key = picks.choice(found)
    other, other_key = picks.choice(found)
    events = data.get("events") if isinstance(data, dict) else None
    match picks.randrange(16):
        case 0 | 1:
            holder[key] = copy.deepcopy(picks.choice(VALUES))
        case 2:
            holder[key] = copy.deepcopy(other[other_key])
        case 3:
            del holder[key]
        case 4 if isinstance(holder, dict):
            holder[picks.choice([*PAYLOADS, "args", "kwargs"])] = holder.pop(key)
        case 4 | 5 if isinstance(holder, list):
            holder.insert(picks.randrange(len(holder) + 1), copy.deepcopy(other[other_key]))
        case 6 | 7 | 8:  # a value of the same kind from another place
            kind = type(holder[key])
            alike = [h[k] for h, k in found if k == key and type(h[k]) is kind]
            holder[key] = copy.deepcopy(picks.choice(alike))
        case 9 | 10 | 11:
            terms = [(h, k) for h, k in found if k in ("term", "sympy", "number", "node")]
            if terms:
                holder, key = picks.choice(terms)
                holder[key] = picks.choice([random_term, repeated_term])(picks, symbols)
        case 12 | 13 if isinstance(events, list):
            view = picks.choice(["term", "term", "sympy", "number", "node"])
            term = {view: picks.choice([random_term, repeated_term])(picks, symbols)}
            args = [term, *picks.choices(VALUES, k=picks.choice([0, 0, 0, 1, 2]))]
            event = {"call": picks.choice(CALLS), "args": copy.deepcopy(args)}
            events.insert(picks.randrange(len(events) + 1), event)
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


def by_structure(data: Any, picks: random.Random, symbols: list[str]) -> bytes:
    data = copy.deepcopy(data)
    for _ in range(picks.choice([1, 1, 1, 1, 2, 5])):
        change(data, picks, symbols)
    try:
        return json.dumps(data).encode()
    except (RecursionError, ValueError):  # too deep for Python, or a number too long
        return b"[" * 5_000


def by_events(data: Any, picks: random.Random, symbols: list[str]) -> bytes:
    """More events, each well formed, about terms that may be hard."""
    data = copy.deepcopy(data)
    for _ in range(picks.choice([1, 1, 2, 5, 20])):
        make = picks.choice([random_term, random_term, repeated_term])
        view, call = picks.choice(
            [("term", "expect"), ("term", "evaluate_term"), ("sympy", "evaluate_expr")]
        )
        data["events"].append({"call": call, "args": [{view: make(picks, symbols)}]})
    return json.dumps(data).encode()


def by_bytes(content: bytes, picks: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(picks.choice([1, 1, 2, 5])):
        at, length = picks.randrange(len(found)), picks.choice([1, 1, 2, 20, 500])
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


def read(path: Path) -> None:
    """Do with a file all that ``symfx replay`` does.

    Raises:
        SymfxError: the file is refused, or an event in it fails.
    """
    log = EventLog.load(path)
    env = log.replay()
    source = Source(str(path), EventLogError, "")
    with source.guarding("the replayed environment cannot be described"):
        text = "\n".join(describe_replay(log, env))
    assert text.replace("\n", "").isprintable(), text
    text.encode()
    with source.guarding("the guards of the replayed environment cannot be written"):
        program = env.guard_program()
        c = program.to_c()
        c.encode()
        assert c.count("/*") == c.count("*/"), c
        program.to_smtlib().encode()


def main() -> None:
    folder, seed, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    originals = {}
    for path in sorted(folder.glob("*.json")):
        read(path)  # the first use of torch takes longer
        content = path.read_bytes()
        data = json.loads(content)
        parts = [holder[key] for holder, key in places(data) if isinstance(holder[key], list)]
        symbols = sorted({p[1] for p in parts if p[:1] == ["symbol"] and p[2:] == ["int"]})
        originals[path.name] = (content, data, symbols)
    replayed, refused, slowest, slowest_number = 0, 0, 0.0, seed
    kinds: dict[str, int] = {}
    path = folder / "mutated"
    for number in range(seed, seed + count):
        picks = random.Random(number)
        content, data, symbols = originals[picks.choice(sorted(originals))]
        way = picks.random()
        if way < 0.5:
            mutated = by_structure(data, picks, symbols)
        elif way < 0.85:
            mutated = by_events(data, picks, symbols)
        else:
            mutated = by_bytes(content, picks)
        path.write_bytes(mutated)
        faulthandler.dump_traceback_later(60, exit=True)
        start = time.process_time()
        try:
            read(path)
        except SymfxError as error:
            refused += 1
            cause = type(error.__cause__).__name__
            kinds[cause] = kinds.get(cause, 0) + 1
            if isinstance(error.__cause__, MemoryError):
                sys.exit(f"{number} takes too much memory: {error}")
        except BaseException as error:
            print(f"{number} ends in {type(error).__name__}: {error}", file=sys.stderr)
            raise
        else:
            replayed += 1
        finally:
            took = time.process_time() - start
            if took > slowest:
                slowest, slowest_number = took, number
            faulthandler.cancel_dump_traceback_later()
        if RAN:
            sys.exit(f"{number} has run code")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - AT_START
    result = {
        "replayed": replayed,
        "refused": refused,
        "refused because of": kinds,
        "slowest seconds": round(slowest, 3),
        "slowest": slowest_number,
        "megabytes": round(kilobytes / 1024),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
