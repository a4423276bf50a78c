"""Replays mutated logs: ``python mutate_logs.py FOLDER SEED COUNT``; see `fuzz`.

FOLDER holds logs that EventLog.save wrote. The script replays each mutated log, describes it and
prints its guards in each language, as ``symfx replay`` does.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from file_fuzzing import as_text, fuzz, mutated_bytes
from mutations import places
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
    return as_text(data, picks).encode()


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


def mutate(original: Any, picks: random.Random) -> bytes:
    content, data, symbols = original
    way = picks.random()
    if way < 0.5:
        return by_structure(data, picks, symbols)
    if way < 0.85:
        return by_events(data, picks, symbols)
    return mutated_bytes(content, picks)


def prepare(folder: Path) -> dict[str, Any]:
    originals = {}
    for path in sorted(folder.glob("*.json")):
        read(path)  # the first use of torch takes longer
        content = path.read_bytes()
        data = json.loads(content)
        parts = [holder[key] for holder, key in places(data) if isinstance(holder[key], list)]
        symbols = sorted({p[1] for p in parts if p[:1] == ["symbol"] and p[2:] == ["int"]})
        originals[path.name] = (content, data, symbols)
    return originals


if __name__ == "__main__":
    fuzz("mutated", prepare, mutate, read, SymfxError)
