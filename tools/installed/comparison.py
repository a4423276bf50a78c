"""One program taken in one way by stock torch and by torch with symfx installed."""

from __future__ import annotations

import importlib
import re
import time
from dataclasses import dataclass

import symfx
from tools.installed.program import PROGRAMS
from tools.installed.ways import Outcome, take

__all__ = ["CASES", "Comparison", "compare"]


for _module in ("sizes", "data", "modules", "language_models"):
    importlib.import_module(f"tools.installed.{_module}")  # registers its programs

CASES = [(program.name, way) for program in PROGRAMS.values() for way in program.ways]
"""Each program with each way in which it is taken."""


@dataclass(frozen=True)
class Comparison:
    """The outcomes of one case.

    Attributes:
        name: the name of the program.
        way: the way in which it was taken.
        stock: the outcome with stock torch.
        symfx: the outcome with symfx installed.
        refused: what the message of the error has to say, where the program must be refused.
        seconds: the seconds that both took.
    """

    name: str
    way: str
    stock: Outcome
    symfx: Outcome
    refused: str | None
    seconds: tuple[float, float]

    @property
    def complaints(self) -> list[str]:
        """The ways in which symfx is worse than it has to be; an empty list for none."""
        found = []
        if self.refused is not None:
            if not re.search(self.refused, self.symfx.error, re.DOTALL):
                found.append(f"must be refused with {self.refused!r}: {self.symfx.error or 'ran'}")
            return found
        if self.symfx.error:
            return [self.symfx.error]
        if len(self.symfx.guards) > len(self.stock.guards) and not self.stock.error:
            found.append(f"guards {self.symfx.guards}, and stock torch {self.stock.guards}")
        if self.symfx.fixed > self.stock.fixed and not self.stock.error:
            found.append(f"{self.symfx.fixed} numbers fixed, and {self.stock.fixed} by stock torch")
        if self.symfx.graphs > self.stock.graphs and not self.stock.error:
            found.append(f"{self.symfx.graphs} graphs, and {self.stock.graphs} by stock torch")
        return found


def compare(name: str, way: str) -> Comparison:
    """Take a program in one way by both."""
    program = PROGRAMS[name]
    start = time.perf_counter()
    stock = take(program, way)
    between = time.perf_counter()
    with symfx.installed():
        ours = take(program, way)
    end = time.perf_counter()
    return Comparison(
        name, way, stock, ours, program.refused.get(way), (between - start, end - between)
    )
