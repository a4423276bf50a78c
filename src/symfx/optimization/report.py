"""The report of an optimization as data: rewrites, parts left alone, checks, times."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from torch import fx

__all__ = ["Check", "LeftAlone", "Report", "Rewrite"]

#: A pass that takes fewer seconds is left out of the text of a report.
_SHORT = 1e-3


@dataclass(frozen=True)
class Rewrite:
    """One change to the graph.

    Attributes:
        what: the change in words, such as ``"folded BatchNorm2d into Conv2d"``.
        nodes: the names of the nodes that were replaced.
        into: the name of the node that replaces them; None if they were removed.
    """

    what: str
    nodes: tuple[str, ...]
    into: str | None = None

    def __str__(self) -> str:
        return f"{self.what}: {', '.join(self.nodes)}" + (f" -> {self.into}" if self.into else "")


@dataclass(frozen=True)
class LeftAlone:
    """A node or module that could have been rewritten and was not.

    Attributes:
        node: the name of the node or module.
        why: the reason.
    """

    node: str
    why: str

    def __str__(self) -> str:
        return f"{self.node}: {self.why}"


@dataclass(frozen=True)
class Check:
    """One comparison of the optimized model with the original.

    Attributes:
        batch: the size of the inputs' first dimension; None where they have none.
        difference: the largest absolute difference between two results.
        relative: the largest difference relative to the largest value of the result.
        tolerance: the largest ``relative`` that passes.
    """

    batch: int | None
    difference: float
    relative: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        at = "the example" if self.batch is None else f"batch {self.batch}"
        return (
            f"{at}: largest difference {self.difference:.2g}, relative {self.relative:.2g} "
            f"({'within' if self.passed else 'beyond'} {self.tolerance:.2g})"
        )


@dataclass
class Report:
    """The report of an optimization. Its `str` is for people.

    Attributes:
        rewrites: the changes, in the order they were made.
        left_alone: the nodes and modules that were not changed, with the reasons.
        checks: the comparisons with the original.
        seconds: the time that each pass took, by name.
        timings: the median seconds of one run of each form that was timed.
        notes: further remarks, such as an option that this machine cannot follow.
    """

    rewrites: list[Rewrite] = field(default_factory=list)
    left_alone: list[LeftAlone] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def rewrote(self, what: str, nodes: Sequence[fx.Node | str], into: fx.Node | None) -> None:
        """Add a change."""
        names = tuple(node if isinstance(node, str) else node.name for node in nodes)
        self.rewrites.append(Rewrite(what, names, into.name if into is not None else None))

    def leave(self, node: fx.Node | str, why: str) -> None:
        """Add a node or module that is not changed, once for each reason."""
        entry = LeftAlone(node if isinstance(node, str) else node.name, why)
        if entry not in self.left_alone:
            self.left_alone.append(entry)

    def add_part(self, path: str, part: Report) -> None:
        """Add the report of a part of the model; its names get the part's path before them."""

        def below(name: str) -> str:
            return f"{path}.{name}"

        for each in part.rewrites:
            into = None if each.into is None else below(each.into)
            self.rewrites.append(Rewrite(each.what, tuple(map(below, each.nodes)), into))
        self.left_alone += [LeftAlone(below(each.node), each.why) for each in part.left_alone]

    def extend(self, other: Report) -> None:
        """Add all of another report."""
        self.rewrites += other.rewrites
        self.left_alone += other.left_alone
        self.checks += other.checks
        self.timings.update(other.timings)
        self.notes += other.notes
        for name, seconds in other.seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the body's seconds to those of the pass ``name``."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def __str__(self) -> str:
        lines = [f"{len(self.rewrites)} rewrites"]
        lines += [f"  {rewrite}" for rewrite in self.rewrites]
        if self.left_alone:
            lines += ["left alone", *(f"  {entry}" for entry in self.left_alone)]
        if self.checks:
            lines += ["checked against the original", *(f"  {check}" for check in self.checks)]
        if self.timings:
            lines.append("one run, median")
            lines += [f"  {name}: {1e3 * time:.3g} ms" for name, time in self.timings.items()]
        long = {name: time for name, time in self.seconds.items() if time >= _SHORT}
        if long:
            lines.append("time taken")
            lines += [f"  {name}: {1e3 * time:.3g} ms" for name, time in long.items()]
        return "\n".join([*lines, *self.notes])
