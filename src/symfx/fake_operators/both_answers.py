"""Kernels run under both answers to a question, to see whether the result depends on the answer.

torch's fake kernels ask many questions about sizes and strides (``n == 1``, ``n >= 2``). A guard on
each answer would refuse inputs at which the result is the same. So where the facts leave a question
open, the kernel runs once for each answer. The answers of a run are its path. If one description
of the results is right on every path, the operator needs no guard. Otherwise the questions are
guarded on which the result depends, beginning with the last.

The runs get copies of the tensor arguments, because torch keeps the answers to some questions on
the tensors. Nothing is learned from an answer. So the runs include paths that contradict the facts
in a way that the prover misses, which can cost a guard and cannot save one.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from symfx.algebra import Scalar, Term
from symfx.algebra.reasoning.facts import Facts
from symfx.algebra.reasoning.prover import Prover
from symfx.errors import SymfxError
from symfx.fake_operators.rules import Arg, New, Number, Result, View

__all__ = [
    "ERRORS",
    "AbandonedError",
    "Answers",
    "General",
    "OpenQuestionError",
    "Outcome",
    "Place",
    "answering",
    "results_but_strides",
    "results_on_all_paths",
    "watching",
]

# The runs that one call of an operator may cost. A kernel with more open questions guards them.
_RUNS = 24

ERRORS = (
    RuntimeError, ValueError, TypeError, IndexError, ArithmeticError, AssertionError, SymfxError,
)  # fmt: skip
"""The errors by which a kernel refuses its arguments."""

Outcome: TypeAlias = "tuple[Result | None, ...]"
"""The results of a run; None for a result that was None."""
Place: TypeAlias = "tuple[int, int]"
"""A stride of the results of a run: the position of the result, and the dimension."""
_Path: TypeAlias = "tuple[tuple[Term, bool], ...]"


# The kernels of torch catch Exception in places, and these must pass through them.
class OpenQuestionError(BaseException):
    """A kernel asked a question that the facts leave open."""


class AbandonedError(BaseException):
    """A kernel asked for a number, or made a symbol: it cannot run under other answers."""


def _is_no_trial(record: logging.LogRecord) -> bool:
    """Whether a record of torch's log is about no trial run, whose errors are not shown."""
    error = record.exc_info[1] if record.exc_info else None
    while error is not None:
        if isinstance(error, (OpenQuestionError, AbandonedError)):
            return False
        error = error.__context__
    return True


# torch logs each error of a fake kernel with its traceback.
logging.getLogger("torch._subclasses.fake_tensor").addFilter(_is_no_trial)


class Ledger(Protocol):
    """The part of the ledger of guards that is used here."""

    answers: Any


@contextlib.contextmanager
def watching(ledger: Ledger) -> Iterator[None]:
    """Inside, the first open question is an `OpenQuestionError` instead of a guard."""
    with answering(ledger, _Watch()):
        yield


class General:
    """Takes the answers of the general case without a guard, where the values at tracing agree.

    torch names such an answer for questions to which either answer gives the same values.

    Args:
        env: the environment.
        all_as_traced: whether the questions of a function that chooses between operators get the
            answer at tracing, because any choice gives the same values in the same layout. The
            kernels of the operators guard what they need themselves.
        one_way: whether the function makes its result in the same way whatever the answers are.

    Attributes:
        log: the questions that were answered so.
    """

    on_trial = False

    def __init__(self, env: Any, all_as_traced: bool, one_way: bool = False) -> None:
        self._env = env
        self.one_way = one_way
        self._all_as_traced = all_as_traced
        self.log: list[Term] = []

    def __call__(self, term: Term, hint: Scalar, fallback: Scalar | None) -> bool | None:
        """The answer; None for a question that is to be guarded."""
        if term.sort != "bool":
            return None
        chooses = self._all_as_traced and self._env.current_operator is None
        if not chooses and (fallback is None or bool(hint) is not bool(fallback)):
            return None
        self.log.append(term)
        return bool(hint)

    def refuse(self) -> None:
        """Let an assertion be recorded."""


@contextlib.contextmanager
def answering(ledger: Ledger, answers: Any) -> Iterator[None]:
    """Inside, open questions go to these answers, and leave no guards."""
    before, ledger.answers = ledger.answers, answers
    try:
        yield
    finally:
        ledger.answers = before


class _Watch:
    """Raises at the first open question about a condition."""

    on_trial = True

    def __call__(self, term: Term, hint: Scalar, fallback: Scalar | None) -> bool | None:
        if term.sort == "bool":
            raise OpenQuestionError
        return None

    def refuse(self) -> None:
        """Let an assertion be recorded."""


class Answers:
    """The answers of one run of a kernel, and the path that they make.

    Args:
        facts: the facts of the environment.
        script: the answers to the first questions.

    Attributes:
        log: the questions of the run that the facts leave open, with their answers.
    """

    on_trial = True

    def __init__(self, facts: Facts, script: _Path = ()) -> None:
        self._facts = facts
        self._script = script
        self.log: list[tuple[Term, bool]] = []
        self._near: Prover | None = None
        self._stated = 0
        self._about: set[Term] = set()

    def __call__(self, term: Term, hint: Scalar, fallback: Scalar | None) -> bool | None:
        """The answer to a question that the facts of the environment leave open."""
        if term.sort != "bool":
            raise AbandonedError
        known = None if not self.log else self._prover(term).decide_at_first(term)
        if known is not None:
            return known
        at = len(self.log)
        # Off the path of the values at tracing, their answers are as good as others.
        answer = bool(hint)
        if at < len(self._script):
            asked, answer = self._script[at]
            if asked is not term:
                raise AbandonedError  # the kernel does not ask the same questions again
        self.log.append((term, answer))
        return answer

    def refuse(self) -> None:
        """Abandon the run, because an assertion would outlive it."""
        raise AbandonedError

    def _prover(self, condition: Term) -> Prover:
        """A prover of the answers so far, and of the facts about the symbols of a condition."""
        near = self._near
        if (
            near is None
            or self._stated < len(self.log)
            or not (condition.free_symbols <= self._about)
        ):
            conditions = [asked if holds else ~asked for asked, holds in self.log]
            # A new store, because a prover remembers the questions that it left open.
            store = self._facts.layer(*conditions, condition)
            for stated in conditions:
                store.assume(stated)
            near = self._near = Prover(store)
            self._stated = len(self.log)
            self._about = {s for c in (*conditions, condition) for s in c.free_symbols}
        return near

    @property
    def impossible(self) -> bool:
        """Whether the answers contradict the facts, or each other."""
        return self.first_impossible is not None

    @property
    def first_impossible(self) -> int | None:
        """The place in the log of the first answer that contradicts the facts and those before."""
        for i, (asked, answer) in enumerate(self.log):
            before = Answers(self._facts)
            before.log = self.log[:i]
            prover = before._prover(asked)
            if prover.facts.contradiction is not None or prover.decide(asked) is (not answer):
                return i
        return None

    def agrees(self, a: Outcome, b: Outcome, *, but_strides: bool = False) -> bool:
        """Whether two descriptions of the results mean the same on this path.

        Args:
            a, b: the descriptions.
            but_strides: whether the strides of new tensors may differ.
        """
        return len(a) == len(b) and all(
            self._same_result(one, other, but_strides) for one, other in zip(a, b, strict=True)
        )

    def _same_result(self, a: Result | None, b: Result | None, but_strides: bool) -> bool:
        if a is None or b is None or isinstance(a, Arg) or isinstance(b, Arg):
            return a == b
        if len(a.sizes) != len(b.sizes) or not all(map(self._same, a.sizes, b.sizes)):
            return False
        if isinstance(a, New):
            if not isinstance(b, New) or (a.dtype, a.device) != (b.dtype, b.device):
                return False
            if but_strides:
                return True
        elif not isinstance(b, View) or a.of != b.of:
            return False
        if any(self._same(size, 0) for size in a.sizes):
            return True  # strides and offset of a tensor without elements mean nothing
        if isinstance(a, View) and isinstance(b, View) and not self._same(a.offset, b.offset):
            return False
        # Strides move nothing in a tensor of at most one element, whichever of its sizes is 0.
        elements = functools.reduce(operator.mul, a.sizes, 1)
        if isinstance(elements, Term) and self._holds(elements <= 1):
            return True
        return all(
            self._same(one, other) or self._same(size, 1)
            for size, one, other in zip(a.sizes, a.strides, b.strides, strict=True)
        )

    def differing_strides(self, a: Outcome, b: Outcome) -> set[Place]:
        """The strides that differ on this path between descriptions which agree but for strides."""
        return {
            (k, d)
            for k, (one, other) in enumerate(zip(a, b, strict=True))
            if isinstance(one, New) and isinstance(other, New)
            if not self._same_result(one, other, but_strides=False)
            for d, (s, t) in enumerate(zip(one.strides, other.strides, strict=True))
            if not self._same(s, t) and not self._same(one.sizes[d], 1)
        }

    def _same(self, a: Number, b: Number) -> bool:
        if a is b or a == b:
            return True
        if isinstance(a, Term):
            return self._holds(a.eq(b))
        return isinstance(b, Term) and self._holds(b.eq(a))

    def _holds(self, condition: Term) -> bool:
        if condition.op == "const":
            return bool(condition.args[0])
        return bool(self.log) and self._prover(condition).decide(condition) is True


def results_on_all_paths(
    facts: Facts,
    run: Callable[[Answers], Outcome | None],
    guard: Callable[[Term], None],
) -> Outcome | None:
    """The description of a kernel's results that is right under both answers to each question.

    Args:
        facts: the facts of the environment.
        run: runs the kernel under some answers; None where it raises an error.
        guard: guards on the answer at tracing to a question that the results depend on.

    Returns:
        The description; None where the kernel cannot be run under other answers.
    """
    try:
        return _Paths(facts, run).settle(guard)
    except AbandonedError:
        return None


def results_but_strides(
    facts: Facts, run: Callable[[Answers], Outcome | None]
) -> tuple[Outcome, set[Place]] | None:
    """The description of a kernel's results at tracing, if all answers give the same but strides.

    Args:
        facts: the facts of the environment.
        run: runs the kernel under some answers; None where it raises an error.

    Returns:
        The description, and the strides that depend on an answer. None where more than the strides
        of new tensors does, and where the kernel cannot be run under other answers.
    """
    try:
        leaves = _Paths(facts, run).all_leaves()
    except AbandonedError:
        return None
    if leaves is None:
        return None
    common = _common(leaves)
    if common is not None:
        return common, set()
    traced = leaves[0][1]
    places: set[Place] = set()
    for answers, outcome in leaves:
        if not answers.agrees(traced, outcome, but_strides=True):
            return None
        places |= answers.differing_strides(traced, outcome)
    return traced, places


_Leaf: TypeAlias = "tuple[Answers, Outcome]"


class _Paths:
    """The runs of one kernel."""

    def __init__(self, facts: Facts, run: Callable[[Answers], Outcome | None]) -> None:
        self._facts = facts
        self._run = run
        self._left = _RUNS

    def settle(self, guard: Callable[[Term], None]) -> Outcome | None:
        """The description that is right on every path, after guards on what it depends on."""
        while True:
            answers, outcome = self._run_along(())
            if outcome is None:
                return None
            leaves = [(answers, outcome)]
            needed = None
            for i in reversed(range(len(answers.log))):
                more = self._below(_turned(answers.log, i))
                if more is not None and _common(leaves + more) is None:
                    more = [leaf for leaf in more if not leaf[0].impossible]
                if more is None or _common(leaves + more) is None:
                    needed = answers.log[i][0]
                    break
                leaves += more
            if needed is None:
                return _common(leaves)
            guard(needed)

    def all_leaves(self) -> list[_Leaf] | None:
        """The results on all paths, that of the tracing first; None where one is an error."""
        answers, outcome = self._run_along(())
        if outcome is None:
            return None
        leaves = [(answers, outcome)]
        for i in reversed(range(len(answers.log))):
            more = self._below(_turned(answers.log, i))
            if more is None:
                return None
            leaves += [leaf for leaf in more if not leaf[0].impossible]
        return leaves

    def _run_along(self, script: _Path) -> tuple[Answers, Outcome | None]:
        if self._left == 0:
            raise AbandonedError
        self._left -= 1
        answers = Answers(self._facts, script)
        return answers, self._run(answers)

    def _below(self, script: _Path) -> list[_Leaf] | None:
        """The results on all paths that begin with these answers; None where one is an error."""
        answers, outcome = self._run_along(script)
        leaves = []
        if outcome is not None:
            leaves.append((answers, outcome))
        else:
            wrong = answers.first_impossible
            if wrong is None:
                return None
            if wrong < len(script):
                return []
            # The run's own answers are impossible, and others to these questions may not be.
        for i in reversed(range(len(script), len(answers.log))):
            more = self._below(_turned(answers.log, i))
            if more is None:
                return None
            leaves += more
        return leaves


def _turned(log: Sequence[tuple[Term, bool]], i: int) -> _Path:
    """The first answers of a log, with the other answer to question i."""
    question, answer = log[i]
    return (*log[:i], (question, not answer))


def _common(leaves: Sequence[_Leaf]) -> Outcome | None:
    """The first of the descriptions that means the same as each of them on its own path."""
    for _, candidate in leaves:
        if all(answers.agrees(candidate, outcome) for answers, outcome in leaves):
            return candidate
    return None
