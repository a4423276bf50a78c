"""``--help`` of each command, its examples, completion in three shells, and what these import."""

from __future__ import annotations

import inspect
import re
import shlex
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from command_line import loaded, symfx
from symfx import __version__
from symfx.cli.application import COMMANDS, app, main

LISTED = [name for name, entry in COMMANDS.items() if entry.group]
#: The commands that can be called; `cache` is a group of two.
CALLED = [[name] for name in LISTED if name != "cache"] + [["cache", "info"], ["cache", "clear"]]
HEAVY = ("torch", "sympy", "numpy", "lark", "z3", "symfx.tracing")


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as left:
        main([*words, "--help"])
    assert not left.value.code
    return capsys.readouterr().out


@dataclass(frozen=True)
class Called:
    """A command, and the words that call it."""

    words: tuple[str, ...]
    params: list[Any]


@pytest.fixture(params=CALLED, ids=" ".join)
def command(request: pytest.FixtureRequest) -> Called:
    name, *rest = request.param
    found = COMMANDS[name].load(name)
    assert found.name == name
    for word in rest:
        found = found.commands[word]
    return Called(tuple(request.param), found.params)


def test_a_summary_is_the_first_sentence_of_its_command() -> None:
    for name, entry in COMMANDS.items():
        first, _, _ = " ".join(inspect.cleandoc(entry.load(name).help).split("\n")).partition(". ")
        assert entry.summary.removesuffix(".") == first.removesuffix("."), name


def test_the_page_of_symfx_lists_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    page = help_of(capsys)
    found = re.findall(r"^  ([a-z-]+)  +[A-Z]", page, re.MULTILINE)
    assert found == LISTED


@pytest.mark.parametrize("columns", [40, 60, 200])
def test_pages_are_as_wide_as_the_terminal(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: Called,
    columns: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    page = help_of(capsys, *command.words)
    prose = re.sub(r"^Examples\n(  .*\n)+", "", page, flags=re.MULTILINE)
    longest = max(prose.splitlines(), key=len)
    assert len(longest) <= min(columns, 100), longest
    if columns == 60:  # the lines to copy fit too
        assert max(map(len, page.splitlines())) <= 60
    assert not re.search(r"<\w+>|\\\[", page), "types of Python, or an escape"


def test_an_option_with_a_value_names_it_and_a_flag_does_not(
    capsys: pytest.CaptureFixture[str], command: Any
) -> None:
    page = help_of(capsys, *command.words)
    for param in command.params:
        if param.param_type_name == "option":
            assert bool(param.metavar) is not param.is_flag, param.name
            assert re.search(rf"^  .*{param.opts[0]}\b", page, re.MULTILINE)
            assert param.help.endswith("."), param.name


def test_common_options_mean_the_same(command: Called) -> None:
    texts = {o: p.help for p in command.params for o in (*p.opts, *p.secondary_opts)}
    assert {"-q", "--quiet", "-v", "--verbose", "--debug"} <= texts.keys()
    assert texts["-q"] == "Print one line; failures go to stderr."
    assert texts["-v"] == "Also print to stderr each step of the command and its time."


def test_the_examples_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All examples, in the order of the pages: one writes the file that the next ones read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *__import__("sys").path])
    ran = set()
    for words in CALLED:
        name = words[0]
        page = help_of(capsys, *words)
        (examples,) = re.findall(r"^Examples\n((?:  .*\n)+)", page, re.MULTILINE)
        for line in examples.replace("\\\n", " ").splitlines():
            program, *words = shlex.split(line)
            assert program == "symfx" and words[0] in LISTED
            if {"train.py", "sweep", "cache"} & set(words):
                continue  # these need files of their own, or change the user's cache
            with pytest.raises(SystemExit) as left:
                main(words)
            out, err = capsys.readouterr()
            assert not left.value.code and out, (line, err)
            ran.add(name)
    assert ran == set(LISTED) - {"sweep", "cache"}


@pytest.mark.parametrize("words", [[], ["trace"], ["typecheck"], ["optimize"], ["doctor"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    ask = f"from symfx.cli import main\ntry: main({[*words, '--help']!r})\nexcept SystemExit: pass"
    assert loaded(HEAVY, ask) == []


def test_help_of_symfx_imports_no_command() -> None:
    modules = [f"symfx.cli.{entry.place.partition(':')[0]}" for entry in COMMANDS.values()]
    modules.remove("symfx.cli.user_programs")  # it decides what `symfx run` runs
    ask = "from symfx.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass"
    assert loaded(modules, ask) == []


def test_a_name_that_is_nearly_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["tarce"])
    assert left.value.code == 2 and "'trace'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version(option: str) -> None:
    done = symfx(option)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"symfx {__version__}\n", "")


def test_the_package_is_an_application_of_typer() -> None:
    assert isinstance(app, typer.Typer)
    assert import_module("symfx.cli").main is main


# -- completion ------------------------------------------------------------------------------------

SHELLS = {
    "bash": lambda text: {
        "COMP_WORDS": text,
        "COMP_CWORD": str(len(text.split(" ")) - 1),
    },
    "zsh": lambda text: {"_TYPER_COMPLETE_ARGS": text},
    "fish": lambda text: {
        "_TYPER_COMPLETE_ARGS": text,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    },
}


@pytest.mark.parametrize("shell", SHELLS)
def test_completion(shell: str) -> None:
    def completed(text: str) -> str:
        env = {"_SYMFX_COMPLETE": f"complete_{shell}", **SHELLS[shell](text)}
        done = symfx(env=env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert re.findall(r"\b(?:trace|typecheck|cost)\b", completed("symfx t"))[:1] == ["trace"]
    assert "cost" not in completed("symfx t").split()
    assert "--max-nodes" in completed("symfx trace --max")
    assert "run-program" not in completed("symfx run")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_a_shell(shell: str) -> None:
    done = symfx(env={"_SYMFX_COMPLETE": f"source_{shell}"})
    assert done.returncode == 0 and f"complete_{shell}" in done.stdout


def test_completion_imports_nothing_heavy() -> None:
    ask = (
        "import os; os.environ |= {'_SYMFX_COMPLETE': 'complete_bash', "
        "'COMP_WORDS': 'symfx trace --s', 'COMP_CWORD': '2'}\n"
        "from symfx.cli import main\ntry: main([])\nexcept SystemExit: pass"
    )
    assert loaded(HEAVY, ask) == []
