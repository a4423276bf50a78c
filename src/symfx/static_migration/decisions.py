"""The outcomes of branches that the types of the inputs leave open, and the paths they make.

A program that branches on ``n >= 5`` for inputs of any ``n``, or on data, is traced once for each
outcome. The graph of a path has a call of `branch_taken` for each such branch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from symfx.shape_rules.errors import OpenBranchError

__all__ = ["Decision", "Decisions", "OpenBranch", "branch_taken", "explored"]

_T = TypeVar("_T")
#: A path with more open branches than this, or a program with more paths, is refused.
_MOST_BRANCHES, _MOST_PATHS = 8, 32


def branch_taken(condition: Any, truth: bool, text: str) -> None:
    """Stand in a graph for a branch that the program takes.

    Args:
        condition: the condition of the branch, or text of a condition on the named sizes.
        truth: the outcome.
        text: the branch in words.
    """


@dataclass(frozen=True)
class OpenBranch:
    """A branch that the types of the inputs leave open.

    Args:
        holds: the condition, as text; empty for a condition on data.
        fails: its negation.
        place: the line of the branch.
        value: the name of the value that the program branches on, for a condition on data.
        implicit: the program does not branch: an operator takes both sizes, or ``except`` follows.
        likely: the outcome to follow first, which most inputs have.
    """

    holds: str
    fails: str
    place: str
    value: str = ""
    implicit: bool = False
    likely: bool = True

    def error(self) -> OpenBranchError:
        """The error for a program that takes no plan."""
        if not self.holds:
            return OpenBranchError(
                f"the program branches on {self.value}, which is not a condition on the sizes of "
                "its inputs",
                where=self.place,
                fix="say more about the inputs, or branch on sizes",
            )
        return OpenBranchError(
            f"{self.holds} holds for some of the inputs and not for others",
            where=self.place,
            fix=f"say which: where {self.holds}, or where {self.fails}",
        )


@dataclass(frozen=True)
class Decision:
    """The outcome of one open branch.

    Args:
        branch: the branch.
        truth: the outcome.
    """

    branch: OpenBranch
    truth: bool

    @property
    def condition(self) -> str:
        """The condition that holds, as text; empty for a condition on data."""
        return self.branch.holds if self.truth else self.branch.fails

    @property
    def opposite(self) -> str:
        """The negation of the condition."""
        return self.branch.fails if self.truth else self.branch.holds

    def __str__(self) -> str:
        if self.condition:
            return f"where {self.condition}, at {self.branch.place}"
        holds = "holds" if self.truth else "does not hold"
        return f"where the condition {holds} at {self.branch.place}"


class Decisions:
    """The outcomes along one path: first those that were planned, then the first choice.

    Args:
        planned: the outcomes of the first open branches.
    """

    def __init__(self, planned: Sequence[bool] = ()) -> None:
        self._planned = planned
        self.taken: list[Decision] = []

    @property
    def full(self) -> bool:
        """Whether the path has as many open branches as a path may have."""
        return len(self.taken) >= _MOST_BRANCHES

    def restart(self) -> None:
        """Begin the path again, for another trace of the same program."""
        self.taken.clear()

    def next(self, branch: OpenBranch) -> Decision:
        """Decide the next open branch.

        Raises:
            OpenBranchError: the path has too many open branches.
        """
        if self.full:
            raise branch.error()
        i = len(self.taken)
        truth = self._planned[i] if i < len(self._planned) else branch.likely
        self.taken.append(Decision(branch, truth))
        return self.taken[-1]


def explored(follow: Callable[[Decisions], _T]) -> Iterator[tuple[tuple[Decision, ...], _T]]:
    """Follow a program along each of its paths.

    Args:
        follow: follows one path, and asks the decisions for the outcome of each open branch.

    Yields:
        The decisions of a path, and the result of following it.
    """
    planned: Sequence[bool] = ()
    for _ in range(_MOST_PATHS):
        decisions = Decisions(planned)
        result = follow(decisions)
        taken = tuple(decisions.taken)
        yield taken, result
        while taken and taken[-1].truth != taken[-1].branch.likely:
            taken = taken[:-1]
        if not taken:
            return
        planned = [*(decision.truth for decision in taken[:-1]), not taken[-1].truth]
