"""Event logs that are damaged or written to do harm: each is refused by one clear error.

The long search of the last test is run by ``SYMFX_LONG=1 pytest tests/recording``.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from example_logs import write_example_logs
from typer.testing import CliRunner

import file_fuzzing
from symfx.algebra import Table
from symfx.algebra.terms.interpret import evaluate
from symfx.cli import app
from symfx.errors import SymfxError
from symfx.recording import EventLog, EventLogError
from symfx.recording.call_arguments import _BY_ANNOTATION, _BY_NAME
from symfx.symbolic_shapes import ShapeEnv
from symfx.symbolic_shapes.checks.sources import read_source
from symfx.symbolic_shapes.environment.recorder import RECORDED

BACKED = 5


def log(*events: Any, **settings: Any) -> str:
    return json.dumps(
        {"format": "symfx event log", "version": 1, "settings": settings, "events": list(events)}
    )


def local(name: str) -> Any:
    return {"record": "LocalSource", "fields": {"local_name": name}}


def call(method: str, *args: Any, **kwargs: Any) -> Any:
    return {"call": method, "args": list(args), "kwargs": kwargs}


def about(*parts: Any, method: str = "expect") -> Any:
    """An event about a term whose first part is the symbol u0."""
    return call(method, {"term": [["symbol", "u0", "int"], *parts]})


UNBACKED = call("create_unbacked_symint")
INPUT = call("_create_symbolic_sizes_strides_storage_offset", [BACKED], [1], 0, [True], local("x"))


def squared(times: int) -> list[Any]:
    return [["product", number, number] for number in range(times)]


def halves_of_itself(times: int) -> list[Any]:
    """A term that is short with its parts shared, and fills the memory when it is written out."""
    parts: list[Any] = [["const", 3]]
    for number in range(times):
        last = len(parts) if number else 0
        parts += [["floordiv", last, 1], ["max", last, len(parts) + 1]]
    return [*parts, ["ge", len(parts)]]


REFUSED: dict[str, tuple[Any, str]] = {
    "division by 0": (about(["const", 1], ["const", 0], ["floordiv", 1, 2]), "not a part"),
    "remainder by 0": (about(["const", 1], ["const", 0], ["mod", 1, 2]), "not a part"),
    "0.0 ** -1": (about(["const", 0.0], ["const", -1.0], ["fpow", 1, 2]), "not a part|negative"),
    "10 ** 10**9": (about(["const", 10], ["const", 10**9], ["pow", 1, 2]), "limit is 13000"),
    "the same as doubles": (about(["const", 10], ["const", 10**9], ["fpow", 1, 2]), "limit is"),
    "an exponent that folds": (
        about(["sum", 10**9, [0, 0]], ["const", 10], ["pow", 2, 1], ["ge", 3]),
        "limit is 13000",
    ),
    "1 << 3e10": (about(["const", 1], ["const", 3 * 10**10], ["lshift", 1, 2]), "limit is 13000"),
    "u0 << 3e10": (about(["const", 3 * 10**10], ["lshift", 0, 1]), "limit is 13000"),
    "1 >> 3e10": (about(["const", 1], ["const", 3 * 10**10], ["rshift", 1, 2]), "limit is 13000"),
    "a symbol squared 40 times": (about(*squared(40), ["ge", 40]), "limit is 13000"),
    "the same by powers": (
        about(["const", 2], *(["pow", n and n + 1, 1] for n in range(40)), ["ge", 41]),
        "limit is 13000",
    ),
    "a constant squared 40 times": (
        call("expect", {"term": [["const", 10], *squared(40), ["ge", 40]]}),
        "limit is 13000",
    ),
    "a sum doubled": (
        about(*(["sum", 1, [10**900, n]] for n in range(9)), ["ge", 9]),
        "limit is 13000",
    ),
    "deep": (
        about(
            ["const", 7], *(["floordiv", 1, n and n + 1] for n in range(2_000)), ["ge", 2_001]
        ),
        "more than 300 operations deep",
    ),
    "long when written out": (about(*halves_of_itself(60)), "written out"),
    "a claim that is a list": (
        call("register_symbol", {"new symbol": "q", "claims": [[]]}),
        r"cannot have the assumptions \[\[\]\]",
    ),
    "a set of lists": (call("freeze", {"set": [[1]]}), "cannot be in a set: unhashable"),
    "a dict by lists": (call("freeze", {"dict": [[[1], 2]]}), "cannot be in a dict: unhashable"),
    "a dict of numbers": (call("freeze", {"dict": [1]}), "not the items of a dict"),
    "too many arguments": (call("freeze", 1), "freeze cannot be called with these arguments"),
    "an unknown argument": (
        call("freeze", now=True),
        "freeze cannot be called with these arguments: got an unexpected keyword argument 'now'",
    ),
    "a number for a source": (
        call("create_unbacked_symint", 3),
        "create_unbacked_symint: source=3 is not a source or null",
    ),
    "text for a term": (call("expect", "u0"), "expect: condition='u0' is not a term"),
    "a list for a message": (
        call("expect", {"term": [["const", True]]}, [1]),
        r"expect: message=\[1\] is not text",
    ),
    "a number for a dimension": (
        call("name_dimension", "x", 0, 3),
        "name_dimension: dim=3 is not a Dim",
    ),
    "text for a size": (
        call(
            "_create_symbolic_sizes_strides_storage_offset", ["5"], [1], 0, [True], local("x")
        ),
        "ex_size=.* is not a list of at most 1000 numbers",
    ),
    "a tensor of too many dimensions": (
        call(
            "_create_symbolic_sizes_strides_storage_offset",
            [2] * 5_000, [1] * 5_000, 0, [True] * 5_000, local("x"),
        ),
        "is not a list of at most 1000 numbers",
    ),
    "text for a choice": (
        call("create_symbol", 3, local("x"), "STATIC"),
        "dynamic_dim='STATIC' is not a DimDynamic or null",
    ),
    "a source of a number": (
        call(
            "create_unbacked_symint",
            {"record": "GetItemSource", "fields": {"base": 3, "index": 0}},
        ),
        "GetItemSource.*has no",
    ),
    "a long name": (call("create_unbacked_symint", local("a" * 6_000)), "no short text"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_reader(name: str) -> None:
    event, message = REFUSED[name]
    start = time.process_time()
    with pytest.raises(SymfxError, match=message) as caught:
        EventLog.from_json(log(UNBACKED, event))
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < 1_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"duck_shape": 5}, "the setting duck_shape is true or false, not 5"),
        ({"prover": "prolog"}, "no prover 'prolog'"),
        ({"prover": []}, r"no prover \[\]"),
        ({"prover": "z3", "prover_budget_ms": 10**9}, "at most 5000 milliseconds"),
        ({"prover_budget_ms": "9"}, "milliseconds|cannot be read"),
    ],
)
def test_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SymfxError, match=message):
        EventLog.from_json(log(UNBACKED, **settings)).replay()


def test_half_of_a_surrogate_pair() -> None:
    with pytest.raises(EventLogError, match="half of a surrogate pair"):
        EventLog.from_json(log(call("create_unbacked_symint", local("\ud800"))))
    EventLog.from_json(log(call("create_unbacked_symint", local("😀")))).replay()


def test_too_many_events() -> None:
    with pytest.raises(EventLogError, match="the log has 100001 events; the limit is 100000"):
        EventLog.from_json(log(*[UNBACKED] * 100_001))


def test_a_long_number_is_refused_with_one_reason() -> None:
    with pytest.raises(EventLogError) as caught:
        EventLog.from_json("9" * 2_000)
    assert caught.value.what == "a number in it has more than 1000 digits"


def test_each_parameter_of_each_call_is_checked() -> None:
    for name in RECORDED:
        parameters = list(inspect.signature(getattr(ShapeEnv, name)).parameters.values())[1:]
        for parameter in parameters:
            kind = parameter.annotation.removesuffix(" | None")
            known = _BY_NAME if kind == "Any" else _BY_ANNOTATION
            assert (parameter.name if kind == "Any" else kind) in known, (name, parameter)


def test_an_event_that_fails_is_an_error_of_symfx() -> None:
    """The condition is an integer, which the environment cannot negate."""
    loaded = EventLog.from_json(log(UNBACKED, about(["sum", 1, [1, 0]])))
    with pytest.raises(SymfxError) as caught:
        loaded.replay()
    assert "while replaying expect(u0 + 1" in "".join(caught.value.__notes__)


@pytest.mark.parametrize(
    "parts",
    [
        [["const", 10], ["pow", 1, 0], ["ge", 2]],
        [["const", 1], ["lshift", 1, 0], ["ge", 2]],
        [["const", 10], ["pow", 1, 0], ["pow", 1, 2], ["ge", 3]],
        [["pow", 0, 0], ["const", 10**30], ["sum", 5, [-1, 1], [1, 2]], ["ge", 3]],
    ],
)
@pytest.mark.parametrize("method", ["expect", "evaluate_term"])
def test_a_symbol_in_an_exponent(parts: Any, method: str) -> None:
    """The search for examples tries large values, at which the power would fill the memory."""
    text = log(UNBACKED, about(*parts, method=method))
    start = time.process_time()
    with contextlib.suppress(SymfxError):
        EventLog.from_json(text).replay()
    assert time.process_time() - start < 5


def test_the_value_of_a_large_power_is_not_computed() -> None:
    table = Table()
    base, exponent = table.symbol("a"), table.symbol("b")
    assert evaluate(base**exponent, {base: 2, exponent: 70}) == 2**70
    assert evaluate(base**exponent, {base: -1, exponent: 10**12}) == 1
    assert evaluate(base << exponent, {base: 0, exponent: 10**12}) == 0
    for term in (base**exponent, base << exponent, base ** (exponent * exponent)):
        with pytest.raises(OverflowError):
            evaluate(term, {base: 10, exponent: 10**9})
    with pytest.raises(OverflowError):
        evaluate(base**8 * base, {base: 1 << 50_000})


# -- the command -------------------------------------------------------------------------------


def replay(text: str, path: Path, *options: str) -> Any:
    path.write_text(text)
    return CliRunner().invoke(app, ["replay", str(path), *options])


@pytest.mark.parametrize("name", REFUSED)
def test_the_command_refuses_it(tmp_path: Path, name: str) -> None:
    done = replay(log(UNBACKED, REFUSED[name][0]), tmp_path / "log.json")
    assert done.exit_code == 2
    assert "error: " in done.output
    assert "symfx itself failed" not in done.output


@pytest.mark.parametrize(
    "name",
    ["*/ int evil(void); /*", "*/*/", "a\n(assert false)", "a\r\x0b(x)", "\x1b[2J", "'", "\\"],
)
@pytest.mark.parametrize("language", ["python", "c", "smtlib", ""])
def test_names_stay_in_their_comments(tmp_path: Path, name: str, language: str) -> None:
    """A source is shown in a comment of each program: none ends it, none steers a terminal."""
    key = {"record": "GetItemSource", "fields": {"base": local("x"), "index": name}}
    size = {
        "record": "TensorPropertySource",
        "fields": {"base": key, "prop": {"enum": "TensorProperty", "member": "SIZE"}, "idx": 0},
    }
    made = call("create_symbol", 7, size, {"enum": "DimDynamic", "member": "DYNAMIC"})
    options = ["--guards", language] if language else []
    done = replay(log(made), tmp_path / "log.json", *options)
    assert done.exit_code == 0, done.output
    assert done.output.replace("\n", "").isprintable()
    if language == "c":
        code = without_comments(done.output)
        assert "evil" in done.output or "evil" not in name
        assert "evil" not in code and code.count("check_guards") == 1
    if language == "smtlib":
        assert all(line.startswith(("(", ";")) for line in done.output.splitlines())
        assert not any(line.startswith("(assert false") for line in done.output.splitlines())


def without_comments(text: str) -> str:
    code = ""
    while "/*" in text:
        before, _, rest = text.partition("/*")
        code += before
        text = rest.partition("*/")[2]
    return code + text


@pytest.mark.parametrize(
    "source", ["x" + ".a" * 100_000, "(" * 1_000 + "x", "x" + "[0]" * 50_000, "-" * 4_900 + "x"]
)
def test_sources_that_python_cannot_parse(source: str) -> None:
    with pytest.raises(SymfxError, match="not a number that a guard program can read"):
        read_source(source)


SEARCHES = 20_000 if os.environ.get("SYMFX_LONG") else 250


def test_mutated_logs(tmp_path: Path) -> None:
    """Each replays or is refused, within ten seconds and a gigabyte, and none runs code."""
    write_example_logs(tmp_path)
    found = file_fuzzing.run(Path(__file__).parent / "mutate_logs.py", tmp_path, SEARCHES)
    assert found["loaded"] > SEARCHES // 10
