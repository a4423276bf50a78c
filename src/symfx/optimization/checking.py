"""The check: the original and the optimized model run at two batch sizes, and are compared."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from symfx.errors import OptimizationError
from symfx.optimization.clock import now
from symfx.optimization.graphs.effects import state_of
from symfx.optimization.report import Check, Report
from symfx.user_code import where

__all__ = [
    "TOLERANCES",
    "CapturedPart",
    "SameDraws",
    "Trials",
    "agree",
    "copy_inputs",
    "leaves",
    "opened",
]

#: The largest difference that passes the check, relative to the largest value of a result, by
#: dtype. Rounding differs where weights are folded and sums are taken in another order; the
#: difference that a wrong rewrite makes is far larger. The one for int8 is that of float32 results
#: of linear layers in 8-bit integers.
TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
    torch.int8: 1e-1,
    torch.complex128: 1e-10,
    torch.complex64: 1e-4,
}


def leaves(value: object) -> list[Any]:
    """The leaves of nested tuples, lists, dictionaries and registered classes."""
    return pytree.tree_leaves(value)


def copy_inputs(value: Any) -> Any:
    """The same arguments in new memory, so that a run cannot change those of another run."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), value)


@dataclass
class CapturedPart:
    """A graph of a module for calls like the example's.

    Attributes:
        graph: the graph, whose names are those of the module's submodules and tensors.
        report: the modules that it keeps whole, with the reasons.
    """

    graph: fx.Graph
    report: Report


@dataclass
class _Case:
    """One batch and the run of the original on it.

    Attributes:
        args, kwargs: the arguments.
        seconds: the time that the run took.
        expected: the result, opened by `opened`; None if the run failed.
        runs: the original takes such a batch.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seconds: float = 0.0
    expected: Any = None
    runs: bool = True


class Trials:
    """A model's results for a sample and for a batch of another size, to compare others with.

    Args:
        original: the model; it is run, so pass a copy if it keeps a state.
        args: the positional arguments of the sample.
        kwargs: the keyword arguments.
        patience: the seconds that a run may take. Where the sample would take longer, only its
            first rows are run, at least two, if the model takes such a batch.

    Attributes:
        original: the model.
        args, kwargs: the tried arguments: those of the sample, or their first rows.
        rows: the size of the first dimension of the tried arguments; None if they have none.
        size: the size of the first dimension of the sample's arguments.
        seconds: the time of the original's first run on the tried arguments.
        row: the first row of the tried arguments; None if the model takes no single row.
        gradients: the runs record gradients, because the original computes gradients itself and
            fails without.
        part: a graph of the whole model for calls like the sample's, if it was captured as such.
        left_unchanged: the runs wrote to no attribute of the model's modules.
        changes_nothing: a run of the model, or of a form of it, is known to leave the model's
            modules and tensors as they are.

    Raises:
        OptimizationError: the original cannot run on the sample.
    """

    def __init__(
        self,
        original: nn.Module,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        patience: float = math.inf,
    ) -> None:
        self.original = original
        self._coarsest = _coarsest([*original.parameters(), *original.buffers(), args, kwargs])
        self._same_draws = SameDraws()
        self._patience = patience
        self.size = self.rows = _batch(args, kwargs)
        self.gradients = self.changes_nothing = False
        self.part: CapturedPart | None = None
        self._cases: list[_Case] = []
        before = state_of(original)
        try:
            self._run_original((tuple(args), dict(kwargs)))
        except OptimizationError as error:
            self.gradients = True
            self._cases.clear()
            try:
                self._run_original((tuple(args), dict(kwargs)))
            except OptimizationError:
                raise error from error.__cause__
        self.left_unchanged = state_of(original) == before

    def _run_original(self, whole: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
        """Run the original on the sample and on another batch size."""
        size, patience = self.size, self._patience
        sample: _Case | None = None
        other: _Case | None = None
        # The smaller batch comes first: from its time follows that of the other.
        if size is not None and size > 1:
            other = self._run(*_first_rows(whole, size, 1))
            rows = (
                max(2, int(patience / other.seconds)) if other.seconds * size > patience else size
            )
            if other.runs and rows < size:
                sample = self._run(*_first_rows(whole, size, rows))
                self.rows = rows
        if sample is None or not sample.runs:
            sample, self.rows = self._run(*whole, needed=True), size
        if size and (other is None or not other.runs):
            other = self._run(*_doubled(whole, size))
        self._sample = sample
        self._other = other if other is not None and other.runs else None
        self.args, self.kwargs, self.seconds = sample.args, sample.kwargs, sample.seconds
        single = other is not None and other.runs and _batch(other.args, other.kwargs) == 1
        self.row = (other.args, other.kwargs) if other is not None and single else None

    def check(
        self, optimized: Callable[..., Any], report: Report, tolerance: float | None = None
    ) -> float:
        """Run a model on the same batches, in the same order, and compare the results.

        Args:
            optimized: the model; it is run, so pass a copy if it keeps a state.
            report: gets the checks.
            tolerance: replaces those of `TOLERANCES`.

        Returns:
            the seconds that the model took for the sample.

        Raises:
            OptimizationError: the results differ beyond the tolerance.
        """
        checks: dict[int, Check] = {}
        seconds = 0.0
        for case in self._cases:
            mine = copy_inputs((case.args, case.kwargs))
            with _quiet(case), self._same_draws, torch.set_grad_enabled(self.gradients):
                start = now()
                try:
                    found = optimized(*mine[0], **mine[1])
                except Exception as error:
                    # The original took no such batch either. The batch is only run because the
                    # failed run of the original may have changed its state.
                    if not case.runs:
                        continue
                    raise OptimizationError(
                        f"the optimized model fails where the original runs: "
                        f"{type(error).__name__}: {error}",
                        fix=_REPORT_IT,
                    ) from error
                if case is self._sample:
                    seconds = now() - start
            if case is not self._sample and case is not self._other:
                continue
            batch = _batch(case.args, case.kwargs)
            checks[id(case)] = _compare(found, case.expected, batch, tolerance, self._coarsest)
        for compared in (self._sample, self._other):
            if compared is None:
                continue
            report.checks.append(checks[id(compared)])
            if not report.checks[-1].passed:
                raise OptimizationError(
                    f"the optimized model differs from the original, at {report.checks[-1]}",
                    fix=_REPORT_IT,
                )
        if self._other is None:
            report.notes.append("checked at one batch size, because the original takes no other")
        if self.rows != self.size:
            report.notes.append(
                f"tried on the example's first {self.rows} rows of {self.size}, because a run of "
                f"all rows takes more than {self._patience:g} s"
            )
        return seconds

    def are_reproduced_by(self, captured: Callable[..., Any], *, everywhere: bool = False) -> bool:
        """Whether a graph that is not rewritten returns the model's results.

        The runs are those of the original, in the same order, up to the first that it returned
        from. Equal operators on equal numbers leave no room for rounding, but for sums that
        threads split differently.

        Args:
            captured: the graph; it is run, so pass a copy if it keeps a state.
            everywhere: all runs are compared.
        """
        for case in self._cases:
            with _quiet(case), self._same_draws, torch.set_grad_enabled(self.gradients):
                same = agree(captured, case.args, case.kwargs, case.expected)
            if case.runs and not (same and everywhere):
                return same
        return True

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], needed: bool = False) -> _Case:
        case = _Case(args, kwargs)
        self._cases.append(case)
        mine = copy_inputs((args, kwargs))
        with self._same_draws, torch.set_grad_enabled(self.gradients):
            start = now()
            try:
                result = self.original(*mine[0], **mine[1])
            except Exception as error:
                if needed:
                    raise _cannot_run(error) from error
                case.runs = False
            else:
                case.seconds = now() - start
                # The result may be the model's own memory, which a later run changes.
                case.expected = copy_inputs(opened(result))
        return case


def _cannot_run(error: Exception) -> OptimizationError:
    """The error for a model that raised ``error`` on its example inputs."""
    return OptimizationError(
        f"the model cannot run on these inputs: {type(error).__name__}: {error}",
        where=where(error),
        fix="give example inputs that the model takes",
    )


_REPORT_IT = "pass fuse=False, and please report the model to symfx"


def _quiet(case: _Case) -> contextlib.AbstractContextManager[Any]:
    """Hide what a run writes to stderr, where it must fail: torch.fx prints the line that fails."""
    return contextlib.nullcontext() if case.runs else contextlib.redirect_stderr(io.StringIO())


def agree(
    module: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], expected: Any
) -> bool:
    """Whether a module returns the expected results, with a hundredth of the check's tolerance.

    Args:
        module: the module.
        args: its positional arguments, which are copied.
        kwargs: its keyword arguments, which are copied.
        expected: the results, opened by `opened`.
    """
    args, kwargs = copy_inputs((args, kwargs))
    try:
        check = _compare(module(*args, **kwargs), expected, None, None)
    except Exception:  # noqa: BLE001 - the module's code may raise anything
        return False
    return check.relative <= _EXACT * check.tolerance


#: The share of the check's tolerance that is left for results of the same operators.
_EXACT = 0.01


class SameDraws:
    """A context in which random numbers start from the same state each time it is entered.

    Leaving it restores the state of the generator outside.
    """

    def __init__(self) -> None:
        self._start = torch.random.get_rng_state()

    def __enter__(self) -> None:
        self._outside = torch.random.get_rng_state()
        torch.random.set_rng_state(self._start)

    def __exit__(self, *exception: object) -> None:
        torch.random.set_rng_state(self._outside)


def _batch(args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    for leaf in leaves((tuple(args), dict(kwargs))):
        if isinstance(leaf, Tensor) and leaf.ndim:
            return leaf.shape[0]
    return None


def _first_rows(whole: tuple[Any, Any], size: int, rows: int) -> tuple[Any, Any]:
    """The arguments with the first rows of each tensor that has ``size`` rows."""

    def cut(leaf: Tensor) -> Tensor:
        return leaf if leaf.ndim == 0 or leaf.shape[0] != size else leaf[:rows]

    found: tuple[Any, Any] = pytree.tree_map_only(Tensor, cut, whole)
    return found


def _doubled(whole: tuple[Any, Any], size: int) -> tuple[Any, Any]:
    """The arguments with twice as many rows; the second half has other numbers."""

    def double(leaf: Tensor) -> Tensor:
        if leaf.ndim == 0 or leaf.shape[0] != size:
            return leaf
        second = leaf * 0.5 if leaf.is_floating_point() else leaf
        return torch.cat([leaf, second.flip(0)])

    found: tuple[Any, Any] = pytree.tree_map_only(Tensor, double, whole)
    return found


def _coarsest(values: Any) -> float:
    """The largest of the tolerances of the tensors in a value.

    A float64 result that is computed from float32 numbers is only as exact as these.
    """
    found = [leaf for leaf in leaves(values) if isinstance(leaf, Tensor)]
    return max((TOLERANCES.get(tensor.dtype, 0.0) for tensor in found), default=0.0)


def _compare(
    found: Any,
    expected: Any,
    batch: int | None,
    tolerance: float | None,
    coarsest: float = 0.0,
) -> Check:
    """The comparison of a result with the expected one, which `opened` has opened.

    Args:
        found: the result.
        expected: the expected result.
        batch: see `Check`.
        tolerance: replaces those of `TOLERANCES`.
        coarsest: the least tolerance of fractional results.
    """
    mine, structure = pytree.tree_flatten(opened(found))
    theirs, wanted = pytree.tree_flatten(expected)
    if structure != wanted:
        raise OptimizationError(
            "the optimized model returns another structure than the original", fix=_REPORT_IT
        )
    worst = Check(
        batch, 0.0, 0.0, tolerance if tolerance is not None else TOLERANCES[torch.float32]
    )
    for ours, original in zip(mine, theirs, strict=True):
        if not isinstance(original, Tensor):
            if ours is not original and ours != original:
                raise OptimizationError(
                    f"the optimized model returns {ours!r} where the original returns {original!r}",
                    fix=_REPORT_IT,
                )
            continue
        if ours.shape != original.shape or ours.dtype != original.dtype:
            raise OptimizationError(
                f"the optimized model returns {tuple(ours.shape)} of {ours.dtype} where the "
                f"original returns {tuple(original.shape)} of {original.dtype}",
                fix=_REPORT_IT,
            )
        allowed = TOLERANCES.get(original.dtype, 0.0)
        allowed = max(allowed, coarsest) if allowed else allowed
        allowed = tolerance if tolerance is not None else allowed
        now = Check(batch, *_difference(ours, original), allowed)
        if _excess(now) >= _excess(worst):
            worst = now
    return worst


def opened(value: Any) -> Any:
    """The value, with the attributes of each object of another class, such as a dataclass."""

    def open_leaf(leaf: Any) -> Any:
        attributes = getattr(leaf, "__dict__", None)
        if attributes is None or callable(leaf) or isinstance(leaf, Tensor | type | Enum):
            return leaf
        return type(leaf).__qualname__, opened(dict(attributes))

    return pytree.tree_map(open_leaf, value)


def _excess(check: Check) -> float:
    if check.relative == 0:
        return 0.0
    return check.relative / check.tolerance if check.tolerance else float("inf")


def _difference(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest absolute difference, and its ratio to the largest expected value."""
    found, expected = found.detach(), expected.detach()
    if not expected.numel():
        return 0.0, 0.0
    if found.is_quantized or not (expected.is_floating_point() or expected.is_complex()):
        same = bool((found == expected).all())
        return (0.0, 0.0) if same else (1.0, float("inf"))
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = found.to(wide), expected.to(wide)
    known = torch.isfinite(b)
    # Infinities and NaN must be at the same places.
    odd = torch.where(known, torch.zeros_like(b), b)
    if not torch.equal(torch.isfinite(a), known) or not torch.allclose(
        torch.where(known, torch.zeros_like(a), a), odd, equal_nan=True
    ):
        return float("inf"), float("inf")
    if not bool(known.any()):
        return 0.0, 0.0
    difference = float((a - b)[known].abs().max())
    scale = float(b[known].abs().max())
    return difference, difference / scale if scale else (0.0 if difference == 0 else float("inf"))
