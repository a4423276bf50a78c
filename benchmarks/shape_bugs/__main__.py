"""``python -m benchmarks.shape_bugs``: what each checker finds, as tables of Markdown."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass, field
from typing import Annotated

import torch
import typer
from rich.console import Console

from benchmarks.shape_bugs import (
    architectures,
    blocks,
    domains,
    language,
    objectives,
    reported,
    sequences,
    tensors,
    training,
    vision,
)
from benchmarks.shape_bugs.cases import Case, all_cases
from benchmarks.shape_bugs.checkers import CHECKERS, Checker, run_eager

FAMILIES = (
    vision,
    sequences,
    tensors,
    architectures,
    language,
    training,
    domains,
    reported,
    blocks,
    objectives,
)


@dataclass
class Score:
    """The figures of one checker, with names or with sizes.

    A bug counts as found if the wrong program is refused and its mended version is not.
    """

    cases: int = 0
    found: int = 0
    line: int = 0
    offer: int = 0
    mended: int = 0
    known: int = 0
    missed: list[str] = field(default_factory=list)

    def add(self, case: Case, checker: Checker, named: bool) -> None:
        """Put one case to the checker."""
        wrong = checker.check(case, case.wrong, named)
        mended = checker.check(case, case.mended, named)
        self.cases += 1
        self.mended += not mended.refused
        self.known += not mended.refused and not mended.unknown
        if wrong.refused and not mended.refused:
            self.found += 1
            self.line += wrong.names_line_of(case)
            self.offer += wrong.offer
        else:
            self.missed.append(case.name)


def _refuse_bad_case(case: Case) -> None:
    """Refuse a case whose wrong program does not fail in eager, or whose mended one does."""
    run_eager(case, case.mended)
    try:
        run_eager(case, case.wrong)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError):
        if case.silent:
            raise
        return
    if not case.silent:
        raise typer.BadParameter(f"{case.name} runs in eager")


def main(
    only: Annotated[list[str] | None, typer.Option(help="Put this case alone.")] = None,
    missed: Annotated[
        bool, typer.Option("--missed", help="Print the names of the misses.")
    ] = False,
) -> None:
    """Put each bug and its mended version to each checker, with sizes and with names."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # torch.export logs each refusal
    torch.manual_seed(0)
    console = Console()
    progress = Console(stderr=True)
    cases = [case for case in all_cases() if not only or case.name in only]
    for case in cases:
        _refuse_bad_case(case)
    print(f"{len(cases)} bugs, {sum(case.silent for case in cases)} of which run in eager\n")
    print("| checker | inputs | found | line right | with an offer | mended accepted | all known |")
    print("|---|---|---|---|---|---|---|")
    misses: list[str] = []
    for checker in CHECKERS:
        for named in (False, True) if checker.takes_names else (False,):
            score = Score()
            for case in cases:
                if progress.is_terminal:
                    progress.print(f"[dim]{checker.name}: {case.name}[/]", end="\r")
                torch._dynamo.reset()
                score.add(case, checker, named)
            kind = "names" if named else "sizes"
            known = str(score.known) if checker.name.startswith("symfx") else "-"
            offer = str(score.offer) if checker.name.startswith("symfx") else "-"
            print(
                f"| {checker.name} | {kind} | {score.found} | {score.line} | {offer} "
                f"| {score.mended} | {known} |"
            )
            misses.append(f"{checker.name}, {kind}: {', '.join(score.missed) or 'none'}")
    if missed:
        for line in misses:
            console.print(line, highlight=False)


if __name__ == "__main__":
    typer.run(main)
