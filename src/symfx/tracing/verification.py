"""`Trace.verify`: the graph and the model run at several shapes, and their results compared."""

from __future__ import annotations

import contextlib
import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from rich.text import Text
from torch._subclasses.fake_tensor import FakeTensor

from symfx.algebra import Term
from symfx.errors import InputMismatchError, SymfxError, describe
from symfx.tracing.autocast import Autocast
from symfx.tracing.columns import count, number, section
from symfx.tracing.comparison import Comparison
from symfx.tracing.example_values import Draw, copy_of, inputs_at
from symfx.tracing.markup import element, table
from symfx.tracing.model_state import module_of, untouched, written_tensors
from symfx.tracing.shape_search import ShapeSearch
from symfx.tracing.stated import read_where
from symfx.tracing.traced_model import AbsentModel, TracedModel
from symfx.user_code import where as line_of

__all__ = [
    "MakeInputs",
    "Run",
    "Tolerance",
    "Verification",
    "describe_verification",
    "sizes_in_words",
    "verdict",
    "verify",
]

#: One bound for the relative and the absolute difference, or (relative, absolute).
Tolerance: TypeAlias = float | tuple[float, float]

#: Draws the arguments of a call: from the size of each symbol, by name, to the positional
#: arguments as a tuple, or the arguments by name as a dict.
MakeInputs: TypeAlias = Callable[[dict[str, int]], Any]

#: Seeds of torch lie between this number and its negative.
_SEEDS = 1 << 63


@dataclass(frozen=True)
class Run:
    """The comparison of graph and model at one shape.

    Attributes:
        sizes: the values of the symbols.
        example: whether these are the values of the example.
        difference: the largest absolute difference of any result; None if no numbers were
            compared.
        relative: the largest relative difference.
        failure: a sentence about the first disagreement; None if there is none.
        model_error: the exception of the model itself on the inputs that were drawn, in a
            sentence; None if it ran. There is nothing to compare the graph with then.
    """

    sizes: Mapping[str, int]
    example: bool
    difference: float | None
    relative: float | None
    failure: str | None = None
    model_error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether no disagreement of graph and model was found."""
        return self.failure is None

    @property
    def compared(self) -> bool:
        """Whether the model ran, so that the graph could be compared with it."""
        return self.model_error is None


@dataclass(frozen=True, repr=False)
class Verification:
    """The comparison of graph and model at several shapes; true if no disagreement was found.

    Attributes:
        runs: one for each shape, the example's first.
        wanted: how many shapes beside the example's were requested.
        note: why there are fewer shapes; None if there are not.
        remarks: settings that differ from those of the caller, a sentence each.
    """

    runs: tuple[Run, ...]
    wanted: int
    note: str | None = None
    remarks: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(run.passed for run in self.runs)

    @property
    def difference(self) -> float | None:
        """The largest absolute difference over all runs."""
        return max((r.difference for r in self.runs if r.difference is not None), default=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """`note`, `remarks`, and each exception of the model itself once, with its shapes."""
        # Messages that differ in numbers alone are one exception at several shapes.
        alike: dict[str, list[Run]] = {}
        for run in self.runs:
            if run.model_error is not None:
                alike.setdefault(re.sub(r"\d+", "#", run.model_error), []).append(run)
        errors = []
        for first, *others in alike.values():
            more = f" and {count(len(others), 'other shape')}" if others else ""
            errors.append(
                f"at {sizes_in_words(first.sizes)}{more} {first.model_error}; the graph cannot be "
                "compared there: draw inputs that the model takes, by make_inputs="
            )
        return (*([self.note] if self.note else []), *self.remarks, *errors)

    def __repr__(self) -> str:
        return f"<symfx.Verification: {verdict(self)}>"

    def __str__(self) -> str:
        return "\n".join(line.plain for line in describe_verification(self))

    def _repr_html_(self) -> str:
        rows = [
            (
                sizes_in_words(run.sizes) + (" (the example)" if run.example else ""),
                number(run.difference),
                number(run.relative),
                run.failure or run.model_error or "agrees",
            )
            for run in self.runs
        ]
        header = ("sizes", "largest difference", "relative", "outcome")
        notes = [element("p", f"note: {note}") for note in self.notes]
        shown = table("verification against eager", header, rows)
        return element("div", shown, *notes, element("strong", verdict(self)))


def sizes_in_words(sizes: Mapping[str, int]) -> str:
    """The values of symbols as text, such as ``batch=3, seq=5``."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "the static shape"


def describe_verification(verification: Verification) -> list[Text]:
    """A verification as a table with a line for each run."""
    rows = [(("sizes", "dim"), ("largest difference", "dim"), ("relative", "dim"), ("", ""))]
    for run in verification.runs:
        sizes = sizes_in_words(run.sizes) if run.sizes else "static"
        outcome = ("agrees", "green")
        if not run.passed:
            outcome = (f"FAILS: {run.failure}", "bold red")
        elif not run.compared:
            outcome = ("not comparable: the model itself fails", "yellow")
        if run.example:
            outcome = (f"{outcome[0]} (the example)", outcome[1])
        rows.append(
            ((sizes, ""), (number(run.difference), ""), (number(run.relative), ""), outcome)
        )
    lines = section("verification against eager", rows, caps=(60, 20, 12))
    lines += [Text(f"  note: {note}", style="yellow") for note in verification.notes]
    lines.append(Text(f"  {verdict(verification)}", style="bold" if verification else "bold red"))
    return lines


def verdict(verification: Verification) -> str:
    """A verification in one sentence."""
    runs = [run for run in verification.runs if run.compared]
    failed = sum(not run.passed for run in runs)
    shapes = count(len(runs), "shape")
    others = len(verification.runs) - len(runs)
    skipped = f"; {count(others, 'other shape')} not comparable" if others else ""
    if failed:
        return f"verification failed at {failed} of {shapes}{skipped}"
    biggest = verification.difference
    if biggest is None:
        return f"verified at {shapes}; the results have no numbers{skipped}"
    same = "equal to eager" if biggest == 0 else f"largest difference {number(biggest)}"
    return f"verified at {shapes}: {same}{skipped}"


def verify(
    trace: TracedModel,
    *,
    shapes: int = 5,
    seed: int = 0,
    tolerance: Tolerance | None = None,
    make_inputs: MakeInputs | None = None,
    on_run: Callable[[Run], object] | None = None,
    where: Any = None,
) -> Verification:
    """Run the graph and the model of a trace on random inputs, and compare their results.

    Shapes are near the example's and away from it, odd and prime ones among them; the trace
    admits each of them. Floats are drawn from a normal distribution with the example's mean and
    deviation; if the example has no negative value, they lie between its smallest and its
    largest. Integers are the example's own, so that indices stay valid: whole rows along the
    dimensions that change, in the example's order; a tensor that counts 0, 1, 2... counts on.
    Bools are drawn evenly. Where the model itself fails on integers, smaller ones are tried; if
    it still fails, the shape is not comparable. Model and graph start from the same random state
    and the same buffers. The user's model is restored, except for the contents of lists and dicts
    that it holds.

    Args:
        trace: the trace.
        shapes: the number of shapes beside the example's.
        seed: the seed of all random numbers.
        tolerance: the largest difference between results that agree; see
            `symfx.tracing.Trace.verify`.
        make_inputs: a function that draws the inputs; see `symfx.tracing.Trace.verify`.
        on_run: a function that gets each comparison when it is done.
        where: conditions on the shapes beside the example's; see `symfx.tracing.Trace.verify`.

    Raises:
        SymfxError: an argument cannot be used, or an input or a parameter has no data.
        InputMismatchError: the model itself fails on the example, or ``make_inputs`` draws inputs
            of other sizes than those asked for.

    Example:
        >>> import torch
        >>> from symfx.tracing import trace
        >>> t = trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
        >>> bool(verify(t, shapes=2))
        True
    """
    _refuse_arguments(shapes, seed, tolerance, make_inputs)
    _refuse_dataless(trace)
    search = ShapeSearch(trace, random.Random(seed), read_where(where))
    runner = _Runner(trace, seed, tolerance, make_inputs)
    tell = on_run or (lambda run: None)
    # The example runs first: if the model fails on it, no other shape is looked for.
    runs = [runner.run_example(search.example)]
    tell(runs[0])
    others = list(itertools.islice(search.assignments(), shapes))
    for index, values in enumerate(others, 1):
        runs.append(runner.run(index, values))
        tell(runs[-1])
    note = search.why_no_more(len(others), shapes) if len(others) < shapes else None
    inputs = [leaf.example for leaf in trace.admission.layout.leaves]
    remarks = []
    if trace.autocast != (present := Autocast.now(inputs)) and (
        trace.autocast.is_on or present.is_on
    ):
        remarks.append(
            f"the model ran under {trace.autocast}, as when it was traced; the call of verify is "
            f"under {present}"
        )
    return Verification(tuple(runs), shapes, note, tuple(remarks))


def _refuse_arguments(
    shapes: Any, seed: Any, tolerance: Any, make_inputs: MakeInputs | None
) -> None:
    """Refuse arguments of `verify` that cannot be used.

    Raises:
        SymfxError: an argument is such.
    """
    if not isinstance(shapes, int) or isinstance(shapes, bool) or shapes < 0:
        raise SymfxError(
            f"shapes is {describe(shapes)}",
            where="verify(shapes=...)",
            fix="give a number of shapes, 0 or more",
        )
    if not isinstance(seed, int) or not -_SEEDS <= seed < _SEEDS:
        raise SymfxError(
            f"seed is {describe(seed)}",
            where="verify(seed=...)",
            fix="give an int of 64 bits, such as 0",
        )
    bounds = tolerance if isinstance(tolerance, tuple) else (tolerance, tolerance)
    usable = tolerance is None or (
        len(bounds) == 2
        and all(isinstance(b, (int, float)) and not isinstance(b, bool) and b >= 0 for b in bounds)
    )
    if not usable:
        raise SymfxError(
            f"tolerance is {describe(tolerance)}",
            where="verify(tolerance=...)",
            fix="give a number that is 0 or more, or a pair of such numbers: the largest relative "
            "and the largest absolute difference",
        )
    if make_inputs is not None and not callable(make_inputs):
        raise SymfxError(
            f"make_inputs is {describe(make_inputs)}",
            where="verify(make_inputs=...)",
            fix="give a function of a dict with the size of each symbol, that returns the "
            "positional arguments of the model as a tuple, or its arguments by name as a dict",
        )


def _refuse_dataless(trace: TracedModel) -> None:
    """Refuse to run a model that is not there, or whose tensors have no data.

    Raises:
        SymfxError: one of them is.
    """
    if isinstance(trace.model, AbsentModel):
        raise SymfxError(
            f"the trace was loaded without {trace.name}, and there is nothing to compare it with",
            where="verify()",
            fix="load it with the model: symfx.load(path, model=...)",
        )
    module = module_of(trace.model)
    state = [] if module is None else [*module.named_parameters(), *module.named_buffers()]
    inputs = [(leaf.path, leaf.example) for leaf in trace.admission.layout.leaves]
    for name, value in [*inputs, *state]:
        if isinstance(value, torch.Tensor) and (value.is_meta or isinstance(value, FakeTensor)):
            raise SymfxError(
                f"{name} is a tensor without data, so graph and model cannot run",
                where="verify()",
                fix="trace with tensors on a real device, such as cpu",
            )


class _Runner:
    """Runs the model and the graph on the same inputs, and compares their results."""

    def __init__(
        self,
        trace: TracedModel,
        seed: int,
        tolerance: Tolerance | None,
        make_inputs: MakeInputs | None,
    ) -> None:
        self.trace = trace
        self.seed = seed
        self.make_inputs = make_inputs
        bounds = (tolerance, tolerance) if isinstance(tolerance, (int, float)) else tolerance
        self.bounds = (None, None) if bounds is None else bounds

    def run_example(self, values: Mapping[Term, int]) -> Run:
        """The comparison on the example's own inputs, at these values of the symbols.

        Raises:
            InputMismatchError: the model itself fails on them.
        """
        leaves = [leaf.example for leaf in self.trace.admission.layout.leaves]
        sizes = {str(term): value for term, value in values.items()}
        run, error = self._compare(sizes, leaves, example=True)
        if error is not None:
            raise InputMismatchError(
                f"the model itself fails on the example: {_in_words(error)}",
                where=line_of(error),
                fix="trace with an example that the model can run; the graph was not verified",
            ) from error
        return run

    def run(self, index: int, values: Mapping[Term, int]) -> Run:
        """The comparison on drawn inputs, at these values of the symbols.

        Args:
            index: the number of the run, from which its random numbers are seeded.
            values: the values.
        """
        sizes = {str(term): value for term, value in values.items()}
        error: Exception | None = None
        for draw in Draw if self.make_inputs is None else (Draw.VARIED,):
            seed = self.seed + index
            if self.make_inputs is None:
                generator = torch.Generator().manual_seed(seed)
                leaves = inputs_at(self.trace.admission, values, generator, draw=draw)
            else:
                leaves = self._users_inputs(self.make_inputs, seed, values)
            run, error = self._compare(sizes, leaves, example=False)
            if error is None:
                return run
        assert error is not None
        at = line_of(error)
        sentence = f"the model itself raised {_in_words(error)}" + (f" ({at})" if at else "")
        return Run(sizes, example=False, difference=None, relative=None, model_error=sentence)

    def _users_inputs(
        self, make_inputs: MakeInputs, seed: int, values: Mapping[Term, int]
    ) -> list[Any]:
        """Flat inputs of the user's own at these values of the symbols."""
        sizes = {str(term): value for term, value in values.items()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                made = make_inputs(dict(sizes))
            except Exception as error:
                raise InputMismatchError(
                    f"make_inputs failed for {sizes_in_words(sizes)}: {_in_words(error)}",
                    where=line_of(error),
                    fix="make_inputs gets a dict with the size of each symbol",
                ) from error
        if isinstance(made, torch.Tensor):
            made = (made,)
        admission = self.trace.admission
        if isinstance(made, Mapping):
            leaves = admission.layout.flatten((), made)
        elif isinstance(made, (tuple, list)):
            leaves = admission.layout.flatten(made, {})
        else:
            raise InputMismatchError(
                f"make_inputs gave {describe(made)}",
                where="verify(make_inputs=...)",
                fix="return the positional arguments of the model as a tuple, or its arguments by "
                "name as a dict",
            )
        wrong = admission.check_leaves(leaves).failures or [
            f"{term} is {got}, not {values[term]}"
            for term, got in admission.values_of(leaves).items()
            if values.get(term, got) != got
        ]
        if wrong:
            raise InputMismatchError(
                f"make_inputs was asked for {sizes_in_words(sizes)}, and its inputs do not fit: "
                f"{wrong[0]}",
                where="verify(make_inputs=...)",
                fix="return inputs of these sizes, with the dtypes and strides of the example",
            )
        return leaves

    def _compare(
        self, sizes: Mapping[str, int], leaves: Sequence[Any], *, example: bool
    ) -> tuple[Run, Exception | None]:
        """The comparison on flat inputs, and the exception of the model itself if it fails."""
        admitted = self.trace.admission.check_leaves(leaves)
        if not admitted:
            failure = f"check refuses it: {admitted.failures[0]}"
            return Run(sizes, example, None, None, failure), None
        try:
            eager = self._alone(self._eager, leaves)
        except Exception as error:  # noqa: BLE001 - an exception of the user's code is a result
            return Run(sizes, example, None, None), error
        try:
            graph = self._alone(self._graph, leaves)
        except Exception as error:  # noqa: BLE001 - a graph that fails is a finding
            return Run(sizes, example, None, None, f"the graph raised {_in_words(error)}"), None
        comparison = Comparison(self.bounds)
        for what, expected in eager.items():
            comparison.compare(what, expected, graph[what])
        run = Run(sizes, example, comparison.difference, comparison.relative, comparison.failure)
        return run, None

    def _alone(
        self, side: Callable[[list[Any]], dict[str, Any]], leaves: Sequence[Any]
    ) -> dict[str, Any]:
        """The results of one side by name, on copies of the inputs and from the same seed."""
        own = [copy_of(leaf) for leaf in leaves]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return side(own)

    def _eager(self, leaves: list[Any]) -> dict[str, Any]:
        trace = self.trace
        args, kwargs = trace.admission.layout.unflatten(leaves)
        with (
            self._restoring(),
            torch.set_grad_enabled(trace.grad_enabled),
            trace.autocast.restored(),
        ):
            result = trace.model(*args, **kwargs)
            return {"the result": result, "the inputs": leaves, **self._state()}

    def _graph(self, leaves: list[Any]) -> dict[str, Any]:
        # A model writes to views of parameters under no_grad, which a graph does not contain.
        # The graph has the casts of autocast already.
        with self._restoring(), torch.no_grad(), self.trace.autocast.off():
            result = self.trace.run(leaves)
            return {"the result": result, "the inputs": leaves, **self._state()}

    def _restoring(self) -> contextlib.AbstractContextManager[object]:
        """Restores the model at the end of a run."""
        trace = self.trace
        tensors = written_tensors(trace.graph_module)
        module = module_of(trace.model)
        if trace.steps and module is not None:
            tensors += module.parameters()
        return untouched(trace.model, tensors, modules_alone=True)

    def _state(self) -> dict[str, Any]:
        """Copies of the buffers and of other tensors that the graph writes to, by name."""
        module = module_of(self.trace.model)
        buffers = {} if module is None else dict(module.named_buffers())
        state = {f"the buffer {name}": copy_of(buffer) for name, buffer in buffers.items()}
        names = {id(buffer): name for name, buffer in self.trace.graph_module.named_buffers()}
        for i, tensor in enumerate(written_tensors(self.trace.graph_module)):
            if names.get(id(tensor)) not in buffers:
                state[f"the tensor {names.get(id(tensor), i)}"] = copy_of(tensor)
        return state


def _in_words(error: Exception) -> str:
    """The type of an exception and the first line of its message."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"
