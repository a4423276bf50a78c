"""`symfx.optimize`: make a faster model, and check it against the original."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.errors import OptimizationError
from symfx.optimization.checking import TOLERANCES, SameDraws, Trials, copy_inputs
from symfx.optimization.contest import fastest_form, median_seconds, runnable
from symfx.optimization.fidelity import capture_exactly, capture_parts
from symfx.optimization.graphs.aliases import keeps_no_state
from symfx.optimization.graphs.arguments import Arguments, bind_arguments
from symfx.optimization.graphs.capture import (
    capture,
    capture_at_once,
    check_module,
    copy_of,
)
from symfx.optimization.graphs.surgery import clean
from symfx.optimization.graphs.whole_models import SAVED_INSTEAD, is_whole
from symfx.optimization.model import NO_BFLOAT16, OptimizedModel
from symfx.optimization.parts import has_parts, optimize_parts, restore_idle_parts, runners
from symfx.optimization.passes.chain_kernels import chain_kernels, unchained
from symfx.optimization.passes.fold_layers import fold_affine
from symfx.optimization.passes.formulas import name_formulas
from symfx.optimization.passes.fuse import lower
from symfx.optimization.passes.inplace import settle_writes
from symfx.optimization.passes.keep_values import keep_values
from symfx.optimization.passes.simplify import (
    drop_identities,
    fold_constants,
    join_reshapes,
    merge_duplicates,
)
from symfx.optimization.report import Report
from symfx.optimization.runtime.conv_kernels import has_bfloat16
from symfx.optimization.runtime.fused_conv import FusedConv
from symfx.optimization.runtime.fused_linear import FusedLinear
from symfx.optimization.runtime.quantized_linear import has_int8
from symfx.optimization.tuning import lower_precision, tune
from symfx.work import share_of_work

__all__ = ["optimize"]

#: Another dtype is used if it is so many times as fast as float32.
_LEAST_GAIN = 1.03
#: The usual shares of the time that the long passes take: from which share to which.
_SHARES = {
    "capture": (0.0, 0.1),
    "check": (0.1, 0.3),
    "parts": (0.3, 0.6),
    "choose algorithms": (0.6, 0.8),
    "measure": (0.8, 1.0),
}
#: The share of the time that float32 takes, where another dtype is tried too.
_FIRST_DTYPE = 0.6

Example = Tensor | Sequence[Any] | Mapping[str, Any]


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
    """Make a faster model with the same results, for inference on the CPU.

    Batch normalization and other scalings are folded into layers, constants are computed ahead,
    repeated nodes are computed once, and convolutions run as oneDNN's fused operators with packed
    weights. The result takes any batch and image size that the model takes.

    Args:
        model: the model, normally in eval mode. It is never changed.
        example_inputs: arguments for the model: a tensor, a sequence of positional arguments, or
            a mapping of keyword arguments. Without them the model is optimized at its first use.
        example_kwargs: keyword arguments, beside positional ones.
        dtype: `torch.bfloat16` to compute convolutions and matrix products in it, or `torch.int8`
            to compute linear layers in 8-bit integers (dynamic quantization: the weight's step is
            one for each channel of the result, the input's is found at each call). Either is
            used if the CPU has instructions for it and, with ``measure``, a timed run is faster;
            the report has the error and the gain. Results are float32 all the same. By default no
            dtype is changed.
        check: compare the result with the original, on the example and on another batch size.
        tolerance: the largest difference between results that agree, relative to the largest
            value in them; by default 1e-4 for float32 (see `symfx.optimization.TOLERANCES`).
        measure: time the forms of the model, and the algorithms of its layers at the example's
            shapes, and choose the fastest. Without it the form with all fusions is taken, and the
            result is the same each time.
        patience: the seconds that one run of the model may take while it is checked and timed.
            Where the example takes longer, its first rows stand for it, at least two; with
            `math.inf` all of it is run.
        fuse: use oneDNN's fused operators.
        tracer: the class that traces the model.

    Raises:
        OptimizationError: the result differs from the original, the model cannot run on the
            example, or an option has a value that is not supported.
        TracingError: the model cannot be copied.

    Example:
        >>> import torch, symfx
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
        >>> fast = symfx.optimize(model, torch.randn(2, 4))
        >>> print(fast.report.rewrites[0])
        folded BatchNorm1d into Linear: _0, _1 -> _0
    """
    check_module(model)
    if dtype not in (None, torch.float32, torch.bfloat16, torch.int8):
        raise OptimizationError(
            f"{dtype} is not supported",
            where="dtype",
            fix="leave it out, or pass torch.bfloat16 or torch.int8",
        )
    if dtype in (torch.bfloat16, torch.int8) and not fuse:
        raise OptimizationError(
            f"only fused operators compute in {dtype}",
            where="fuse=False",
            fix=f"leave out fuse, or dtype={dtype}",
        )
    options = _Options(
        None if dtype is torch.float32 else dtype,
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
    return OptimizedModel(_build(model, args, kwargs, options, report), report)


@dataclass(frozen=True)
class _Options:
    """The options of `optimize`."""

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


@contextlib.contextmanager
def _long(name: str, report: Report) -> Iterator[None]:
    """A pass that may take long."""
    with report.timed(name), share_of_work(*_SHARES[name]):
        yield


def _build(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: _Options,
    report: Report,
) -> fx.GraphModule:
    arguments = bind_arguments(model, args, kwargs)
    with torch.no_grad(), SameDraws():
        captured, trials = _capture(model, args, kwargs, arguments, options, report)
        _note_dtypes(captured, arguments.given)
        folded = _fold(captured, report)
        if options.dtype is not None:
            if has_int8() if options.dtype is torch.int8 else has_bfloat16():
                return _in_other_dtype(model, folded, options.dtype, trials, options, report)
            report.notes.append(_NO_INT8 if options.dtype is torch.int8 else NO_BFLOAT16)
        return _fused(model, folded, trials, options, report)


def _capture(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    arguments: Arguments,
    options: _Options,
    report: Report,
) -> tuple[fx.GraphModule, Trials | None]:
    """The model as a graph with the same results, and the runs of the model, if it is run."""
    copied, tracer = copy_of(model), options.tracer
    if not (options.check or options.measure):
        with _long("capture", report):
            return capture(copied, tracer, report, arguments), None
    with _long("capture", report):
        captured = capture_at_once(copied, tracer, report, arguments)
    with _long("check", report):
        # A model that keeps a state is copied before it is run.
        still = captured is not None and keeps_no_state(captured)
        trials = Trials(model if still else copy_of(model), args, kwargs, options.patience)
        if captured is None:
            parts = (model, copied, trials, tracer, arguments, report)
            captured = capture_parts(*parts, exactly=options.check)
        elif options.check:
            captured = capture_exactly(model, captured, trials, tracer, arguments, report)
    return captured, trials


def _fused(
    model: nn.Module,
    folded: fx.GraphModule,
    trials: Trials | None,
    options: _Options,
    report: Report,
) -> fx.GraphModule:
    """The folded graph with fused operators, the folded graph, or the model, if that is faster."""
    before = len(report.rewrites)
    forms = {"folded": folded}
    if options.fuse:
        fused = _lowered(folded, trials, options, report, linears=options.measure)
        if trials is not None and options.measure:
            with _long("choose algorithms", report):
                tune(fused, runnable(fused, trials), trials, report)
            restore_idle_parts(fused)
            fused = _chained(fused, report)
        if len(report.rewrites) > before:
            forms["fused"] = fused
    else:
        forms["folded"] = _with_parts(folded, trials, options, report)
    chosen = "fused" if "fused" in forms else "folded"
    seconds = _check(trials, forms[chosen], None, options, report)
    if trials is not None and options.measure and chosen == "fused":
        with _long("measure", report):
            chosen = fastest_form(forms, trials, seconds, report)
        if chosen != "fused":
            report.rewrites = report.rewrites[:before] if chosen == "folded" else []
            report.notes.append(_SLOWER[chosen])
            report.checks.clear()
        if chosen == "original":
            forms["original"] = _unchanged(model, trials, options, report)
        if chosen != "fused":
            _check(trials, forms[chosen], None, options, report)
    return forms[chosen]


def _unchanged(
    model: nn.Module, trials: Trials, options: _Options, report: Report
) -> fx.GraphModule:
    """A call of the model; a file gets a graph of the same operators, if there is one."""
    whole = {"": "its own operators are faster here"}
    module = capture(copy_of(model), report=report, closed=whole)
    arguments = bind_arguments(model, trials.args, trials.kwargs)
    operators = capture(copy_of(model), options.tracer, arguments=arguments)
    if options.check:
        operators = capture_exactly(model, operators, trials, options.tracer, arguments, Report())
    if not is_whole(operators):
        module.meta[SAVED_INSTEAD] = operators
    return module


def _in_other_dtype(
    model: nn.Module,
    folded: fx.GraphModule,
    dtype: torch.dtype,
    trials: Trials | None,
    options: _Options,
    report: Report,
) -> fx.GraphModule:
    """The model in bfloat16 or int8, if that is faster than the fastest form in float32."""
    found = Report()
    if trials is None or not options.measure:
        form = _lowered(folded, trials, options, found, linears=True)
        lower_precision(form, dtype, None, (), {}, found)
        restore_idle_parts(form)
        _check(trials, form, dtype, options, found)
        report.extend(found)
        return form
    in_float32 = Report()
    with share_of_work(0.0, _FIRST_DTYPE):
        float32 = _fused(model, folded, trials, options, in_float32)
    if any(isinstance(each, FusedConv | FusedLinear) for each in float32.modules()):
        form = _unchained(float32)
        found.rewrites, found.left_alone = in_float32.rewrites[:], in_float32.left_alone[:]
    else:
        form = _lowered(folded, trials, options, found, linears=True)
    with report.timed("choose algorithms"), share_of_work(_FIRST_DTYPE, 1.0):
        args, kwargs = copy_inputs((trials.args, trials.kwargs))
        twin = runnable(form, trials)
        if lower_precision(form, dtype, twin, args, kwargs, found, _times(trials)):
            _check(trials, form, dtype, options, found)
            forms = {
                "float32": runnable(float32, trials),
                str(dtype): runnable(form, trials),
            }
            found.timings = median_seconds(forms, trials)
    restore_idle_parts(form)
    gain = found.timings["float32"] / found.timings[str(dtype)] if found.timings else 0.0
    if gain < _LEAST_GAIN:
        report.extend(in_float32)
        report.notes.append(f"{dtype} is not faster here: computed in float32")
        return float32
    report.extend(found)
    error = max((check.relative for check in report.checks), default=None)
    measured = "not compared" if error is None else f"the largest relative error is {error:.2g}"
    report.notes.append(f"{dtype} is {gain:.2f} times as fast as float32; {measured}")
    return form


def _lowered(
    folded: fx.GraphModule,
    trials: Trials | None,
    options: _Options,
    report: Report,
    *,
    linears: bool,
) -> fx.GraphModule:
    """The folded graph with fused operators, in its parts too; see `lower` for ``linears``."""
    with report.timed("fuse"):
        fused = keep_values(lower(_twin(folded), report=report, linears=linears), report)
    return _with_parts(fused, trials, options, report, linears=linears)


_NO_INT8 = "this CPU has no fast instructions for 8-bit integers: computed in float32"

_SLOWER = {
    "folded": "the fused operators were slower here, and are not used",
    "original": "every other form was slower here: the model is returned unchanged",
}


def _with_parts(
    module: fx.GraphModule,
    trials: Trials | None,
    options: _Options,
    report: Report,
    *,
    linears: bool = False,
) -> fx.GraphModule:
    """The graph, with the parts of modules that it keeps whole optimized."""
    if trials is None or not has_parts(module):
        return module

    def rewrite(part: fx.GraphModule, arguments: Arguments, found: Report) -> fx.GraphModule:
        _note_dtypes(part, arguments.given)
        folded = _fold(part, found)
        if not options.fuse:
            return folded
        return keep_values(lower(folded, report=found, linears=linears), found)

    module = copy_of(module)
    with _long("parts", report), torch.set_grad_enabled(trials.gradients):
        optimize_parts(module, trials, options.tracer, rewrite, report)
    return module


def _twin(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of the graph that shares the modules and tensors, which no pass changes."""
    twin = fx.GraphModule(module, copy.deepcopy(module.graph), type(module).__name__)
    twin.training = module.training
    return twin


def _chained(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """The graph with kernels that run in one call, in its parts too."""
    for runner in runners(module):
        if isinstance(runner.module, fx.GraphModule):
            runner.module = chain_kernels(runner.module, report)
    return chain_kernels(module, report)


def _unchained(module: fx.GraphModule) -> fx.GraphModule:
    """A copy of the graph with each kernel as a node of its own, in its parts too."""
    module = copy_of(module)
    for runner in runners(module):
        if isinstance(runner.module, fx.GraphModule):
            runner.module = unchained(runner.module)
    return unchained(module)


def _times(trials: Trials) -> Fraction:
    """The ratio of the rows of the example to those of the trials."""
    return Fraction(trials.size, trials.rows) if trials.size and trials.rows else Fraction(1)


def _check(
    trials: Trials | None,
    module: fx.GraphModule,
    dtype: torch.dtype | None,
    options: _Options,
    report: Report,
) -> float | None:
    """Compare with the original; return the seconds that the sample took."""
    if trials is None or not options.check:
        return None
    checked: nn.Module = runnable(module, trials)
    tolerance = options.tolerance
    if dtype is not None:
        tolerance = TOLERANCES[dtype] if tolerance is None else tolerance
    with report.timed("check"):
        return trials.check(checked, report, tolerance)


def _note_dtypes(module: fx.GraphModule, given: Mapping[str, Any]) -> None:
    for node in module.graph.nodes:
        value = given.get(str(node.target)) if node.op == "placeholder" else None
        if isinstance(value, Tensor):
            node.meta["symfx_dtype"] = value.dtype


def _fold(module: fx.GraphModule, report: Report) -> fx.GraphModule:
    """Run the passes whose result has only torch's ordinary operators."""
    passes: list[tuple[str, Callable[[fx.GraphModule, Report], None]]] = [
        ("writes", settle_writes),
        ("identities", drop_identities),
        ("formulas", name_formulas),
        ("constants", fold_constants),
        ("duplicates", merge_duplicates),
        ("reshapes", join_reshapes),
        ("folding", fold_affine),
    ]
    for name, run in passes:
        with report.timed(name):
            run(module, report)
    return clean(module)
