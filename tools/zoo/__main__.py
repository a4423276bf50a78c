"""The command line of tools.zoo; see the package."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import tools.zoo
from symfx.cli.sweep_progress import progress_table
from symfx.sweep.architectures import ARCHITECTURES
from symfx.sweep.journal import Journal
from symfx.sweep.model_lists import jobs_of_patterns
from symfx.sweep.places import LocalProcesses
from symfx.sweep.runner import run_sweep
from tools.zoo.minimality import minimality
from tools.zoo.outcomes import SHAPES, outcome
from tools.zoo.report import page
from tools.zoo.round_trips import round_trip

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "zoo.md"
JOURNAL = ROOT / "build" / "zoo.sweep" / "journal.jsonl"


def main() -> int:
    """Write the page, or print the rows of the models that the arguments name."""
    parser = argparse.ArgumentParser(description=(tools.zoo.__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="models whose rows are printed")
    parser.add_argument("--list", action="store_true", help="print the names of the models")
    parser.add_argument("--shapes", type=int, default=SHAPES, help="other shapes to compare at")
    parser.add_argument("-j", "--jobs", type=int, default=1, help="how many models run at a time")
    parser.add_argument("--fresh", action="store_true", help="run all models again")
    parser.add_argument(
        "--round-trip",
        action="store_true",
        help="save each trace, load it here and in another process, and compare both",
    )
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        help="with --round-trip: an interpreter that loads the traces too, for instance with "
        "another release of torch; repeatable",
    )
    parser.add_argument(
        "--minimal",
        action="store_true",
        help="look for guards that could be left out, and for shapes that torch.export takes and "
        "the trace refuses",
    )
    options = parser.parse_args()
    if options.list:
        print("\n".join(ARCHITECTURES))
        return 0
    if unknown := [name for name in options.names if name not in ARCHITECTURES]:
        parser.error(f"no model of the zoo is called {', '.join(unknown)}; --list names them")
    if options.round_trip:
        return _round_trips(options.names or list(ARCHITECTURES), [sys.executable, *options.python])
    if options.minimal:
        return _minimal(options.names or list(ARCHITECTURES), options.shapes)
    patterns = [f"transformers:{name}" for name in options.names or ["*"]]
    jobs = [replace(job, shapes=options.shapes) for job in jobs_of_patterns(patterns)]
    with (
        Journal(JOURNAL, fresh=options.fresh) as journal,
        progress_table(len(jobs), told=True) as table,
    ):
        place, killed = LocalProcesses(options.jobs), True
        try:
            found = run_sweep(
                jobs, [place], journal, started=table.started, finished=table.finished
            )
            killed = False
        finally:
            place.close(killed=killed)
    rows = [outcome(result) for result in found]
    if options.names:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        PAGE.write_text(page(rows))
    return int(any(row.problem is not None for row in rows))


def _round_trips(names: list[str], pythons: list[str]) -> int:
    """Print for each model whether its trace is the same after it was saved and loaded."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    same = 0
    for name in names:
        found = round_trip(ARCHITECTURES[name], pythons)
        same += not found.differences
        print(f"{name}: {'; '.join(found.differences) or 'the same'}", flush=True)
    print(f"{same} of {len(names)} traces are the same after saving and loading")
    return int(same < len(names))


def _minimal(names: list[str], shapes: int) -> int:
    """Print for each model the guards that could be left out, and the shapes refused."""
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    guards = asked = wrong = 0
    for name in names:
        found = minimality(ARCHITECTURES[name], shapes)
        guards, asked = guards + found.guards, asked + found.asked
        told = [f"{text} could be left out" for text in found.needless]
        told += [f"torch.export takes {text}" for text in found.refused]
        wrong += len(told)
        told += [] if found.problem is None else [found.problem]
        print(f"{name}: {'; '.join(told) or 'nothing'}", flush=True)
    print(f"{guards} guards and {asked} shapes of {len(names)} models: {wrong} findings")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
