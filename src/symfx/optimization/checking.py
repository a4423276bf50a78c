"""Is the optimised model the original? Both are run, at two batch sizes, and compared."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from symfx.errors import OptimizationError
from symfx.optimization.graphs.capture import copy_of
from symfx.optimization.graphs.effects import keeps_no_state
from symfx.optimization.report import Check, Report
from symfx.user_code import where

__all__ = ["TOLERANCES", "FirstUse", "SameDraws", "Trials", "copy_inputs", "leaves"]

#: How far a result may be off, relative to the largest value in it, by dtype. Rounding differs
#: where weights are folded and sums are taken in another order; a wrong rewrite is far beyond.
TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-10,
    torch.float32: 1e-4,
    torch.bfloat16: 5e-2,
    torch.float16: 5e-3,
    torch.complex128: 1e-10,
    torch.complex64: 1e-4,
}


def leaves(value: object) -> list[Any]:
    """The leaves of nested tuples, lists, dictionaries and registered classes."""
    return pytree.tree_leaves(value)


def copy_inputs(value: Any) -> Any:
    """The same arguments in memory of their own, so that a run cannot change those of another."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), value)


@dataclass
class _Case:
    """One batch that the original was run on.

    Attributes:
        args, kwargs: what it was given.
        seconds: how long it took.
        expected: what it returned, opened; None where it does not take such a batch.
        runs: does it?
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    seconds: float = 0.0
    expected: Any = None
    runs: bool = True


class Trials:
    """What a model returns for a sample and for a batch of another size, to hold others against.

    Args:
        original: the model; it is run, so pass a copy if it keeps a state.
        args: the positional arguments of the sample.
        kwargs: the keyword arguments.
        patience: how many seconds a run may take. Where the sample would take longer, its first
            rows alone are run, two at least, if the model takes such a batch.

    Attributes:
        original: the model.
        args, kwargs: what stands for the sample: all of it, or its first rows.
        rows: the size of the first dimension of that; None where the sample has none.
        size: the same of the sample.
        seconds: how long the original took for it, at its first run.

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
        self._same_draws = SameDraws()
        self._cases: list[_Case] = []
        self.size = self.rows = size = _batch(args, kwargs)
        whole = tuple(args), dict(kwargs)
        self._patience = patience
        sample: _Case | None = None
        other: _Case | None = None
        # The smaller batch comes first: it tells how long the other will take.
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

    def check(
        self, optimized: Callable[..., Any], report: Report, tolerance: float | None = None
    ) -> float:
        """Run a model on the same batches, in the same order, and note how much it differs.

        Args:
            optimized: the model; it is run, so pass a copy if it keeps a state.
            report: gets the checks.
            tolerance: instead of those in `TOLERANCES`.

        Returns:
            how many seconds it took for the sample.

        Raises:
            OptimizationError: it differs beyond the tolerance.
        """
        checks: dict[int, Check] = {}
        seconds = 0.0
        for case in self._cases:
            mine = copy_inputs((case.args, case.kwargs))
            with self._same_draws:
                start = time.perf_counter()
                try:
                    found = optimized(*mine[0], **mine[1])
                except Exception as error:
                    # The original took no such batch, and neither need this one; it was only
                    # shown it, since what has been tried may leave a trace in a model.
                    if not case.runs:
                        continue
                    raise OptimizationError(
                        f"the optimised model fails where the original runs: "
                        f"{type(error).__name__}: {error}",
                        fix=_REPORT_IT,
                    ) from error
                if case is self._sample:
                    seconds = time.perf_counter() - start
            if case is not self._sample and case is not self._other:
                continue
            batch = _batch(case.args, case.kwargs)
            checks[id(case)] = _compare(found, case.expected, batch, tolerance)
        for compared in (self._sample, self._other):
            if compared is None:
                continue
            report.checks.append(checks[id(compared)])
            if not report.checks[-1].passed:
                raise OptimizationError(
                    f"the optimised model differs from the original, at {report.checks[-1]}",
                    fix=_REPORT_IT,
                )
        if self._other is None:
            report.notes.append("the original takes no other batch size: checked at one")
        if self.rows != self.size:
            report.notes.append(
                f"tried on the example's first {self.rows} rows of {self.size}, since all of them "
                f"take more than {self._patience:g} s a run"
            )
        return seconds

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any], needed: bool = False) -> _Case:
        case = _Case(args, kwargs)
        self._cases.append(case)
        mine = copy_inputs((args, kwargs))
        with self._same_draws:
            start = time.perf_counter()
            try:
                result = self.original(*mine[0], **mine[1])
            except Exception as error:
                if needed:
                    raise _cannot_run(error) from error
                case.runs = False
            else:
                case.seconds = time.perf_counter() - start
                # What is returned may be the model's own memory, which a later run changes.
                case.expected = copy_inputs(_opened(result))
        return case


def _cannot_run(error: Exception) -> OptimizationError:
    """What to tell the user whose model raised this on its example inputs."""
    return OptimizationError(
        f"the model cannot run on these inputs: {type(error).__name__}: {error}",
        where=where(error),
        fix="give inputs that the model takes",
    )


_REPORT_IT = (
    "do not use it; turn passes off one by one to find which it is, and report the model to symfx"
)


class SameDraws:
    """Random numbers inside start from the state at hand each time, and leave no trace outside."""

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
    """The first rows of what has ``size`` of them; the rest as it is."""

    def cut(leaf: Tensor) -> Tensor:
        return leaf if leaf.ndim == 0 or leaf.shape[0] != size else leaf[:rows]

    found: tuple[Any, Any] = pytree.tree_map_only(Tensor, cut, whole)
    return found


def _doubled(whole: tuple[Any, Any], size: int) -> tuple[Any, Any]:
    """Twice as many rows; the second half is not the first once more."""

    def double(leaf: Tensor) -> Tensor:
        if leaf.ndim == 0 or leaf.shape[0] != size:
            return leaf
        second = leaf * 0.5 if leaf.is_floating_point() else leaf
        return torch.cat([leaf, second.flip(0)])

    found: tuple[Any, Any] = pytree.tree_map_only(Tensor, double, whole)
    return found


def _compare(found: Any, expected: Any, batch: int | None, tolerance: float | None) -> Check:
    """How much a result differs from what was expected, which has been opened."""
    mine, structure = pytree.tree_flatten(_opened(found))
    theirs, wanted = pytree.tree_flatten(expected)
    if structure != wanted:
        raise OptimizationError("the optimised model returns another structure", fix=_REPORT_IT)
    worst = Check(
        batch, 0.0, 0.0, tolerance if tolerance is not None else TOLERANCES[torch.float32]
    )
    for ours, original in zip(mine, theirs, strict=True):
        if not isinstance(original, Tensor):
            if ours is not original and ours != original:
                raise OptimizationError(
                    f"the optimised model returns {ours!r} for {original!r}", fix=_REPORT_IT
                )
            continue
        if ours.shape != original.shape or ours.dtype != original.dtype:
            raise OptimizationError(
                f"the optimised model returns {tuple(ours.shape)} of {ours.dtype} where the "
                f"original returns {tuple(original.shape)} of {original.dtype}",
                fix=_REPORT_IT,
            )
        allowed = tolerance if tolerance is not None else TOLERANCES.get(original.dtype, 0.0)
        now = Check(batch, *_difference(ours, original), allowed)
        if _excess(now) >= _excess(worst):
            worst = now
    return worst


def _opened(value: Any) -> Any:
    """The same with objects of other classes, such as dataclasses, as their attributes."""

    def open_leaf(leaf: Any) -> Any:
        attributes = getattr(leaf, "__dict__", None)
        if attributes is None or callable(leaf) or isinstance(leaf, Tensor | type | Enum):
            return leaf
        return type(leaf).__qualname__, _opened(dict(attributes))

    return pytree.tree_map(open_leaf, value)


def _excess(check: Check) -> float:
    if check.relative == 0:
        return 0.0
    return check.relative / check.tolerance if check.tolerance else float("inf")


def _difference(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """The largest absolute difference, and that relative to the largest value."""
    found, expected = found.detach(), expected.detach()
    if not expected.numel():
        return 0.0, 0.0
    if found.is_quantized or not (expected.is_floating_point() or expected.is_complex()):
        same = bool((found == expected).all())
        return (0.0, 0.0) if same else (1.0, float("inf"))
    wide = torch.complex128 if expected.is_complex() else torch.float64
    a, b = found.to(wide), expected.to(wide)
    known = torch.isfinite(b)
    # Infinities and NaN have to stand in the same places.
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


def _copy_if_needed(module: nn.Module) -> nn.Module:
    graph = isinstance(module, fx.GraphModule) and keeps_no_state(module)
    return module if graph else copy_of(module)


class FirstUse:
    """A forward pre-hook that checks a model at its first use, and then is gone.

    Args:
        original: what it has to be like; a copy of the user's, since it is run.
        report: gets the checks.
    """

    def __init__(self, original: nn.Module, report: Report) -> None:
        self.original, self.report = original, report

    symfx_transparent = True  # it changes nothing: see `effects.is_plain`

    def watch(self, module: nn.Module) -> None:
        """Check this module, and each copy of it, when it is first used."""
        module.register_forward_pre_hook(self, with_kwargs=True)
        if isinstance(module, fx.GraphModule):  # whose copies have no hooks otherwise
            module._deepcopy_hooks.append(self.watch)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check now, on these arguments.

        Raises:
            OptimizationError: the module differs from the original. It does so at each use.
        """
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not tensors or any(type(t) not in (Tensor, nn.Parameter) for t in tensors):
            return  # somebody traces: there is nothing to compare yet
        if (
            torch.compiler.is_compiling()
            or torch._C._functorch.peek_interpreter_stack() is not None
        ):
            return
        # By itself and not by the handle of `watch`: this module may be a copy of that one.
        for key in [k for k, hook in module._forward_pre_hooks.items() if hook is self]:
            del module._forward_pre_hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)
        if isinstance(module, fx.GraphModule):
            module._deepcopy_hooks[:] = [h for h in module._deepcopy_hooks if h != self.watch]
        try:
            self.report.checks.clear()
            with torch.no_grad():
                trials = Trials(self.original, args, kwargs)
                trials.check(_copy_if_needed(module), self.report)
        except OptimizationError:
            self.watch(module)
            raise
