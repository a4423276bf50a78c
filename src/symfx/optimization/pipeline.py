"""`symfx.optimize`: a model in, a faster one that has been checked against it out."""

from __future__ import annotations

import copy
import inspect
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.errors import InputMismatchError, OptimizationError
from symfx.optimization.checking import TOLERANCES, SameDraws, Trials, copy_inputs
from symfx.optimization.graphs.capture import capture, copy_of
from symfx.optimization.graphs.effects import Effect, keeps_no_state, one_node
from symfx.optimization.graphs.surgery import clean
from symfx.optimization.passes.fold_layers import fold_affine
from symfx.optimization.passes.fuse import lower
from symfx.optimization.passes.inplace import settle_writes
from symfx.optimization.passes.simplify import fold_constants, join_reshapes, merge_duplicates
from symfx.optimization.reference.editing import check_module, drop_idle
from symfx.optimization.report import Report
from symfx.optimization.runtime.probing import has_bfloat16
from symfx.optimization.tuning import tune

__all__ = ["OptimizedModel", "optimize"]

#: What is spent on timing the forms against each other, in seconds, and rounds at most.
_BUDGET, _ROUNDS = 0.4, 8
#: Fused operators that take less than this share of the original's time need no other rival.
_CLEARLY = 0.9
#: Of its time in the check, where neither had run before, they need no timing at all.
_OBVIOUSLY = 0.8

NO_BFLOAT16 = "this CPU has no instructions for bfloat16: computed in float32"

Example = Tensor | Sequence[Any] | Mapping[str, Any]
_Made = tuple[fx.GraphModule, torch.dtype | None]


class OptimizedModel(nn.Module):
    """A model that computes what another does, faster. Made by `optimize`.

    It is for inference: gradients with respect to its inputs are right, but the folded weights
    are not the parameters of the original any more.

    Attributes:
        graph_module: the graph that runs; None before the first use, where no example inputs
            were given.
        report: what was done, what was left alone and why, and the checks.
        dtype: what convolutions and matrix products are computed in, if it is not their own.
    """

    graph_module: fx.GraphModule | None
    report: Report

    def __init__(
        self,
        graph_module: fx.GraphModule | None,
        report: Report,
        make: Callable[[tuple[Any, ...], dict[str, Any]], _Made] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.training = graph_module is not None and graph_module.training
        self.report = report
        self.dtype = dtype
        self._make = make

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the original's ``forward`` takes and returns.

        Raises:
            InputMismatchError: an argument is given that the example did without.
            OptimizationError: at the first use, where it only now becomes clear that the
                optimised model differs from the original.
        """
        if self.graph_module is None:
            if self._make is None:
                raise OptimizationError("this optimised model is empty", fix="optimise it again")
            self.graph_module, self.dtype = self._make(args, kwargs)
            self._make = None
        if isinstance(args, fx.Proxy):  # `torch.fx` traces this model itself
            args, kwargs = self._arranged(args, kwargs), {}
        if self.dtype is None:
            return self.graph_module(*args, **kwargs)
        return _Lowered(self.graph_module, self.dtype)(*args, **kwargs)

    def _arranged(self, args: fx.Proxy, kwargs: Any) -> tuple[Any, ...]:
        """The graph's arguments, taken from all those that a traced model will be given."""
        assert self.graph_module is not None
        parameters = [node for node in self.graph_module.graph.nodes if node.op == "placeholder"]
        names = tuple(str(node.target) for node in parameters)
        defaults = {str(node.target): node.args[0] for node in parameters if node.args}
        values: Any = arranged(args, kwargs, names, defaults)  # type: ignore[arg-type]
        return tuple(values[index] for index in range(len(names)))

    def save(self, path: str | Path) -> None:
        """Write the model to one file, which `symfx.optimization.load` reads again.

        Args:
            path: the file, a safetensors file with the graph as JSON in its header. There is no
                code in it.

        Raises:
            OptimizationError: something in the model cannot be described as data, such as a
                module with hooks, or of a class that is not torch's.
        """
        from symfx.optimization.saving import save

        save(self, path)


@one_node(Effect.VIEW)
def arranged(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    names: tuple[str, ...],
    defaults: Mapping[str, Any],
) -> tuple[Any, ...]:
    """The values of parameters, in their order, in a call with these arguments.

    Raises:
        InputMismatchError: they do not fit the parameters.
    """
    found = {**defaults, **dict(zip(names, args, strict=False)), **kwargs}
    twice = [name for name in names[: len(args)] if name in kwargs]
    if len(args) > len(names) or twice or set(found) != set(names):
        raise InputMismatchError(
            f"{len(args)} arguments and {sorted(kwargs)} do not fit the parameters {list(names)}",
            fix="give each of them once",
        )
    return tuple(found[name] for name in names)


class _Lowered(nn.Module):
    """Runs a module's convolutions and matrix products in a lower precision; results are float32.

    Args:
        module: what is run.
        dtype: the precision.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module returns."""
        from torch.utils import _pytree as pytree

        with torch.autocast("cpu", dtype=self.dtype):
            result = self.module(*args, **kwargs)
        return pytree.tree_map_only(
            Tensor, lambda t: t.float() if t.dtype is self.dtype else t, result
        )


def optimize(
    model: nn.Module,
    example_inputs: Example | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
    check: bool = True,
    tolerance: float | None = None,
    measure: bool = True,
    patience: float = 0.2,
    fuse: bool = True,
    tracer: type[fx.Tracer] = fx.Tracer,
) -> OptimizedModel:
    """Make a model of the same meaning that runs faster on the CPU.

    Batch normalisation and other scalings are folded into layers, what is constant is computed
    ahead, what is repeated is computed once, and convolutions run as oneDNN's fused operators
    with their weights packed. The result takes any batch and image size that the model takes.

    Args:
        model: the model, normally in eval mode. It is never changed.
        example_inputs: what the model may be called with: a tensor, a sequence of positional
            arguments, or a mapping of keyword arguments. Without them the model is optimised
            when it is first used.
        example_kwargs: keyword arguments, beside positional ones.
        dtype: `torch.bfloat16` to compute convolutions and matrix products in it, where the CPU
            has instructions for that and, with ``measure``, is found to be faster by them; the
            report says if not. Results are float32 all the same. By default nothing is computed
            in another dtype.
        check: compare the result with the original, on the example and on another batch size.
        tolerance: how far results may be off, relative to the largest value in them; by default
            1e-4 for float32 (see `symfx.optimization.TOLERANCES`).
        measure: time the forms that the model can take, and the algorithms that its layers can
            be computed by at the example's shapes, and choose the fastest. Without it the form
            with all fusions is taken, and the result is the same each time.
        patience: how many seconds one run of the model may take while it is checked and timed.
            Where the example takes longer, its first rows stand for all of it, two at least;
            with `math.inf` all of it is run.
        fuse: use oneDNN's fused operators.
        tracer: the class that traces the model.

    Raises:
        OptimizationError: the result differs from the original, the model cannot run on the
            example, or an option cannot be followed.
        TracingError: the model cannot be copied.

    Example:
        >>> import torch, symfx
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
        >>> fast = symfx.optimize(model, torch.randn(2, 4))
        >>> print(fast.report.rewrites[0])
        folded BatchNorm1d into Linear: _0, _1 -> _0
    """
    check_module(model)
    if dtype not in (None, torch.float32, torch.bfloat16):
        raise OptimizationError(
            f"{dtype} is not offered", where="dtype", fix="leave it out, or pass torch.bfloat16"
        )
    options = _Options(
        dtype if dtype is torch.bfloat16 else None,
        check,
        tolerance,
        measure,
        patience,
        fuse,
        tracer,
    )
    report = Report()
    if example_inputs is None and not example_kwargs:
        original = copy_of(model)
        return OptimizedModel(
            None,
            report,
            lambda args, kwargs: _build(original, args, kwargs, options, report),
        )
    args, kwargs = _arguments(example_inputs, example_kwargs)
    module, dtype = _build(model, args, kwargs, options, report)
    return OptimizedModel(module, report, dtype=dtype)


@dataclass(frozen=True)
class _Options:
    """How to optimise; see `optimize`."""

    dtype: torch.dtype | None
    check: bool
    tolerance: float | None
    measure: bool
    patience: float
    fuse: bool
    tracer: type[fx.Tracer]


def _arguments(
    inputs: Example | None, kwargs: Mapping[str, Any] | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), {**inputs, **(kwargs or {})}
    if isinstance(inputs, Tensor):
        return (inputs,), dict(kwargs or {})
    if isinstance(inputs, Sequence) and not isinstance(inputs, str):
        return tuple(inputs), dict(kwargs or {})
    if inputs is None:
        return (), dict(kwargs or {})
    raise OptimizationError(
        f"example_inputs is a {type(inputs).__name__}",
        where="example_inputs",
        fix="pass a tensor, a tuple of positional arguments, or a dictionary of keyword arguments",
    )


def _build(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
    report: Report,
) -> _Made:
    bound, given = _bind(model, args, kwargs)
    with torch.no_grad(), SameDraws():
        with report.timed("capture"):
            folded = capture(copy_of(model), options.tracer, report, bound)
            _note_dtypes(folded, given)
            # It is run, and may keep a state.
            original = model if keeps_no_state(folded) else copy_of(model)
        folded = _fold(folded, report)
        trials: Trials | None = None
        if options.check or options.measure:
            with report.timed("check"):
                trials = Trials(original, args, kwargs, options.patience)
        if options.dtype is not None and not has_bfloat16():
            report.notes.append(NO_BFLOAT16)
        elif options.dtype is not None:
            return _in_lower_precision(folded, options.dtype, trials, options, report)
        return _fused(original, folded, trials, options, report), None


def _fused(
    original: nn.Module,
    folded: fx.GraphModule,
    trials: Trials | None,
    options: _Options,
    report: Report,
) -> fx.GraphModule:
    """The folded graph, or the same with fused operators if it is faster."""
    before = len(report.rewrites)
    forms = {"folded": folded}
    if options.fuse:
        with report.timed("fuse"):
            fused = lower(_twin(folded), report=report, linears=options.measure)
        if trials is not None and options.measure:
            with report.timed("choose algorithms"):
                _tune(fused, trials, report)
        if len(report.rewrites) > before:
            forms["fused"] = fused
    chosen = "fused" if "fused" in forms else "folded"
    seconds = _check(trials, forms[chosen], None, options, report)
    if trials is not None and options.measure and chosen == "fused":
        with report.timed("measure"):
            chosen = _fastest(original, forms, trials, seconds, report)
        if chosen == "folded":
            report.rewrites = report.rewrites[:before]
            report.notes.append("the fused operators were slower here, and are not used")
            report.checks.clear()
            _check(trials, folded, None, options, report)
    return forms[chosen]


def _in_lower_precision(
    folded: fx.GraphModule,
    dtype: torch.dtype,
    trials: Trials | None,
    options: _Options,
    report: Report,
) -> _Made:
    """The folded graph, to be run in a lower precision, if that is faster."""
    _check(trials, folded, dtype, options, report)
    if trials is not None and options.measure:
        with report.timed("measure"):
            mine = _runnable(folded)
            medians = _medians({"float32": mine, str(dtype): _Lowered(mine, dtype)}, trials)
        report.timings.update(medians)
        if medians[str(dtype)] > medians["float32"]:
            report.notes.append(f"{dtype} was slower here: computed in float32")
            report.checks.clear()
            return _fused(trials.original, folded, trials, options, report), None
    return folded, dtype


def _twin(module: fx.GraphModule) -> fx.GraphModule:
    """A graph of its own that shares the modules and tensors, which no pass changes."""
    twin = fx.GraphModule(module, copy.deepcopy(module.graph), type(module).__name__)
    twin.training = module.training
    return twin


def _tune(module: fx.GraphModule, trials: Trials, report: Report) -> None:
    args, kwargs = copy_inputs((trials.args, trials.kwargs))
    times = Fraction(trials.size, trials.rows) if trials.size and trials.rows else Fraction(1)
    tune(module, _runnable(module), args, kwargs, report, times)


def _check(
    trials: Trials | None,
    module: fx.GraphModule,
    dtype: torch.dtype | None,
    options: _Options,
    report: Report,
) -> float | None:
    """Compare with the original, and tell how many seconds the sample took."""
    if trials is None or not options.check:
        return None
    checked: nn.Module = _runnable(module)
    tolerance = options.tolerance
    if dtype is not None:
        checked = _Lowered(checked, dtype)
        tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    with report.timed("check"):
        return trials.check(checked, report, tolerance)


def _runnable(module: fx.GraphModule) -> fx.GraphModule:
    """The module, or a copy if a run leaves traces in it."""
    return module if keeps_no_state(module) else copy_of(module)


def _bind(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters that the example leaves at their defaults, and those that it gives."""
    try:
        signature = inspect.signature(model.forward)
        given = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputMismatchError(
            f"the forward of {type(model).__name__} does not take these example inputs: {error}",
            where=f"forward{signature}",
            fix="give the arguments that you would call the model with",
        ) from error
    left = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if name not in given.arguments and parameter.default is not parameter.empty
    }
    fixed = {
        name: value
        for name, value in given.arguments.items()
        if value is None or isinstance(value, bool | str)
    }
    return {**left, **fixed}, dict(given.arguments)


def _note_dtypes(module: fx.GraphModule, given: Mapping[str, Any]) -> None:
    for node in module.graph.nodes:
        value = given.get(str(node.target)) if node.op == "placeholder" else None
        if isinstance(value, Tensor):
            node.meta["symfx_dtype"] = value.dtype


def _fold(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """Everything that needs no other operators than torch's ordinary ones."""
    passes: list[tuple[str, Callable[[fx.GraphModule, Report], None]]] = [
        ("writes", settle_writes),
        ("identities", drop_idle),
        ("constants", fold_constants),
        ("duplicates", merge_duplicates),
        ("reshapes", join_reshapes),
        ("folding", fold_affine),
    ]
    for name, run in passes:
        with report.timed(name):
            run(module, report)
    return clean(module)


def _fastest(
    original: nn.Module,
    forms: Mapping[str, fx.GraphModule],
    trials: Trials,
    seconds: float | None,
    report: Report,
) -> str:
    """The name of the form that runs fastest; the folded one is only tried where that is open.

    Args:
        original: the model; it is run.
        forms: of the model, by name.
        trials: the runs of the original.
        seconds: that the fused form took for the sample; None if it has not run.
        report: gets the times.
    """
    if seconds is not None and seconds < _OBVIOUSLY * trials.seconds:
        report.timings.update({"original": trials.seconds, "fused": seconds})
        return "fused"
    original = original if keeps_no_state(forms["folded"]) else copy_of(original)
    contestants = {"original": original, "fused": _runnable(forms["fused"])}
    medians = _medians(contestants, trials)
    if medians["fused"] > _CLEARLY * medians["original"]:
        medians |= _medians({**contestants, "folded": _runnable(forms["folded"])}, trials)
    report.timings.update(medians)
    return min((name for name in forms if name in medians), key=medians.__getitem__)


def _medians(contestants: Mapping[str, nn.Module], trials: Trials) -> dict[str, float]:
    """The median seconds of one run of each, in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        for name, contestant in contestants.items():
            args, kwargs = copy_inputs((trials.args, trials.kwargs))
            start = time.perf_counter()
            contestant(*args, **kwargs)
            seconds[name].append(time.perf_counter() - start)
        if time.perf_counter() - started > _BUDGET:
            break
    # The first round warms up, unless there was time for no other.
    return {name: statistics.median(runs[1:] or runs) for name, runs in seconds.items()}
