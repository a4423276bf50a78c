"""The command line of tools.operators; see the package."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict
from pathlib import Path

from torch.testing._internal.common_methods_invocations import op_db

import tools.operators
from tools.operators.report import page
from tools.operators.tally import Row, full_name, rows

PAGE = Path(__file__).parents[2] / "docs" / "operators.md"


def main() -> None:
    """Write the page, or print the rows of the operators that the arguments name."""
    parser = argparse.ArgumentParser(description=(tools.operators.__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="operators whose rows are printed")
    parser.add_argument("--part", default="0/1", help="part of the operators, such as 0/2")
    parser.add_argument("--save", type=Path, help="file for the rows, in place of the page")
    parser.add_argument("--join", type=Path, nargs="+", help="files of saved rows for the page")
    options = parser.parse_args()
    logging.disable(logging.ERROR)  # torch's fake kernels log what they raise
    if options.join:
        lines = [line for path in options.join for line in path.read_text().splitlines()]
        order = {name: i for i, name in enumerate(map(full_name, op_db))}
        found = sorted((Row(**json.loads(line)) for line in lines), key=lambda r: order[r.name])
        PAGE.write_text(page(found))
        return
    part, parts = map(int, options.part.split("/"))
    found = []
    for r in rows(options.names, op_db[part::parts]):
        found.append(r)
        if options.save:
            with options.save.open("a") as file:
                file.write(json.dumps(asdict(r)) + "\n")
        elif options.names or r.symfx < r.samples:
            print(r, file=sys.stderr, flush=True)
    if not options.names and not options.save:
        PAGE.write_text(page(found))


if __name__ == "__main__":
    main()
