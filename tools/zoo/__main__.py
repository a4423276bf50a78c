"""The command line of tools.zoo; see the package."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from dataclasses import asdict
from pathlib import Path

import tools.zoo
from tools.zoo.models import ZOO
from tools.zoo.outcomes import SHAPES, Outcome, outcome
from tools.zoo.report import page

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"


def main() -> int:
    """Write the page, or print the rows of the models that the arguments name."""
    parser = argparse.ArgumentParser(description=(tools.zoo.__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="models whose rows are printed")
    parser.add_argument("--list", action="store_true", help="print the names of the models")
    parser.add_argument("--shapes", type=int, default=SHAPES, help="other shapes to compare at")
    parser.add_argument("--save", type=Path, help="a file to which rows are added as they come")
    parser.add_argument("--join", type=Path, help="a file of saved rows to write the page from")
    options = parser.parse_args()
    if options.list:
        print("\n".join(ZOO))
        return 0
    if unknown := [name for name in options.names if name not in ZOO]:
        parser.error(f"no model of the zoo is called {', '.join(unknown)}; --list names them")
    if options.join:
        lines = options.join.read_text().splitlines()
        latest = {row.name: row for row in (Outcome(**json.loads(line)) for line in lines)}
        PAGE.write_text(page([latest[name] for name in ZOO if name in latest]))
        return 0
    # The models, and torch's fake kernels, warn and log about their own affairs.
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    found = []
    for name in options.names or ZOO:
        found.append(outcome(ZOO[name], options.shapes))
        if options.save:
            with options.save.open("a") as file:
                file.write(json.dumps(asdict(found[-1])) + "\n")
        print(json.dumps(asdict(found[-1]), indent=1), file=sys.stderr, flush=True)
    if not options.names:
        PAGE.write_text(page(found))
    return int(any(row.problem is not None for row in found))


if __name__ == "__main__":
    sys.exit(main())
