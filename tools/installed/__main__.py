"""``python -m tools.installed``: print the table of programs, and write it into docs/install.md."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from tools.installed.comparison import CASES, Comparison, compare
from tools.installed.ways import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "install.md"
BEGIN, END = "<!-- programs: begin -->\n", "<!-- programs: end -->\n"


def _result(found: Comparison, outcome: Outcome) -> str:
    if found.refused is not None:
        return "refused" if re.search(found.refused, outcome.error, re.DOTALL) else "not refused"
    return "fails" if outcome.error else f"{len(outcome.guards)}"


def _table(found: list[Comparison]) -> str:
    lines = [
        "| program | way: guards of stock torch / of symfx |",
        "| --- | --- |",
    ]
    by_name: dict[str, list[Comparison]] = defaultdict(list)
    for one in found:
        by_name[one.name].append(one)
    for name, cases in by_name.items():
        ways = []
        for case in cases:
            results = _result(case, case.stock), _result(case, case.symfx)
            ways.append(f"{case.way}: {results[0]} / {results[1]}")
        lines.append(f"| {name.replace('_', ' ')} | {'; '.join(ways)} |")
    counts = [
        (
            sum(not case.complaints for case in found),
            sum(len(case.stock.guards) for case in found if not case.stock.error),
            sum(len(case.symfx.guards) for case in found if not case.stock.error),
        )
    ]
    right, stock, ours = counts[0]
    fails = sum(_result(case, case.stock) in ("fails", "not refused") for case in found)
    lines.append("")
    lines.append(
        f"{len(by_name)} programs in {len(found)} cases, with torch {torch.__version__}: symfx is "
        f"right in {right}, stock torch in {len(found) - fails}. Where both are, stock torch has "
        f"{stock} guards and symfx {ours}."
    )
    return "\n".join(lines) + "\n"


def main(
    only: Annotated[str, typer.Option(help="A regular expression of names.")] = ".",
    write: Annotated[bool, typer.Option("--write", help="Write it into docs/install.md.")] = False,
) -> None:
    """Take each program with stock torch and with symfx, and compare the runs at other sizes."""
    found = []
    for name, way in CASES:
        if re.search(only, name):
            found.append(compare(name, way))
            for complaint in found[-1].complaints:
                print(f"{name}, {way}: {complaint}", file=sys.stderr, flush=True)
    table = _table(found)
    print(table)
    if write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + table + END + rest.partition(END)[2])
    if any(case.complaints for case in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
