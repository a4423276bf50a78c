"""The summary of a sweep: as lines of a terminal, as JSON, and as a page of HTML."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rich.text import Text

from symfx._version import __version__
from symfx.sweep.jobs import STEPS, Result
from symfx.tracing.markup import Html, element, table

__all__ = ["as_data", "as_html", "describe", "line_of"]

SCHEMA, VERSION = "symfx sweep", 1
_COLORS = {
    "ok": "green",
    "failed": "red",
    "timeout": "yellow",
    "memory": "yellow",
    "crash": "magenta",
    "skipped": "dim",
}
_STYLE = """<style>
body{font:14px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}
table{border-collapse:collapse}td,th{padding:.25em .7em;border-bottom:1px solid #ddd}
.ok{color:#176f2c}.failed,.crash{color:#b00020}.timeout,.memory{color:#8a5a00}.skipped{color:#777}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}td,th{border-color:#444}
.ok{color:#6fcf85}.failed,.crash{color:#ff7a8a}.timeout,.memory{color:#e8b35a}}
</style>"""


def line_of(result: Result) -> Text:
    """A result on one line."""
    line = Text(f"{result.outcome:<8}", _COLORS.get(result.outcome, ""))
    line.append(f"{result.name:<24}", "")
    for step in result.steps:
        if step.outcome == "ok":
            line.append(f" {step.step} {step.seconds:.1f} s", "default")
        else:
            line.append(f" {step.step}: {step.outcome}", _COLORS.get(step.outcome, ""))
    if result.message:
        line.append(f"  {result.message.splitlines()[0]}", "default")
    return line


def _counts(results: Sequence[Result]) -> dict[str, int]:
    return dict(Counter(result.outcome for result in results))


def _in_words(results: Sequence[Result]) -> str:
    counts = _counts(results)
    shown = [f"{counts[outcome]} {outcome}" for outcome in _COLORS if counts.get(outcome)]
    noun = "model" if len(results) == 1 else "models"
    return f"{len(results)} {noun}: {', '.join(shown)}"


def describe(results: Sequence[Result]) -> list[Text]:
    """The summary as lines: a table of steps, each model that went wrong, and the counts."""
    lines = []
    for step in STEPS:
        taken = [s for result in results for s in result.steps if s.step == step]
        if taken:
            good = sum(s.outcome == "ok" for s in taken)
            seconds = sum(s.seconds for s in taken)
            lines.append(Text(f"{step:<10} {good} of {len(taken)} ok, {seconds:.1f} s in all"))
    lines += [line_of(result) for result in results if result.outcome != "ok"]
    return [*lines, Text(_in_words(results), "bold")]


def _versions() -> dict[str, str]:
    found = {"symfx": __version__}
    for package in ("torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def as_data(results: Sequence[Result]) -> dict[str, Any]:
    """The summary as JSON has it."""
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "versions": _versions(),
        "counts": _counts(results),
        "models": [result.as_data() for result in results],
    }


def as_html(results: Sequence[Result], title: str) -> str:
    """The summary as a page that needs nothing else: no script, no other file.

    Args:
        results: the results.
        title: the title of the page.
    """
    steps = [step for step in STEPS if any(s.step == step for r in results for s in r.steps)]
    rows = []
    for result in results:
        by_step = {step.step: step for step in result.steps}
        cells = [
            element("span", f"{s.outcome} {s.seconds:.1f} s" if s.seconds else s.outcome,
                    class_=s.outcome) if (s := by_step.get(step)) else ""
            for step in steps
        ]  # fmt: skip
        peak = "" if result.peak_memory is None else f"{result.peak_memory / 2**20:.0f} MiB"
        outcome = element("span", result.outcome, class_=result.outcome)
        rows.append([result.name, outcome, *cells, peak, _details(result)])
    releases = ", ".join(f"{name} {release}" for name, release in _versions().items())
    header = ["model", "outcome", *steps, "memory", "details"]
    body = element(
        "body",
        element("h1", title),
        element("p", f"{_in_words(results)}. {releases}, {time.strftime('%Y-%m-%d %H:%M')}."),
        table("models", header, rows),
    )
    head = element("head", element("meta", charset="utf-8"), element("title", title), Html(_STYLE))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


def _details(result: Result) -> str:
    """What is worth telling of a model: its failure, or its guards and pins."""
    told = [result.message] if result.message else []
    for step in result.steps:
        told += [f"pinned: {text}, {line}" for text, line in step.facts.get("pins", ())]
        told += [f"guard: {text}, {line}" for text, line in step.facts.get("guards", ())]
    return "\n".join(told)
