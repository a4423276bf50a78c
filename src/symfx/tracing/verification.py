"""`Trace.verify`: the graph and the model run at several shapes, and their results compared."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from rich.text import Text

from symfx.algebra import Term
from symfx.errors import SymfxError
from symfx.symbolic_shapes import SymbolInfo
from symfx.tracing.columns import count, number, section
from symfx.tracing.comparison import Comparison
from symfx.tracing.example_values import copy_of, inputs_at
from symfx.tracing.model_state import module_of, untouched, written_tensors
from symfx.tracing.traced_model import TracedModel
from symfx.user_code import where

__all__ = ["Run", "Tolerance", "Verification", "describe_verification", "verdict", "verify"]

#: One bound for the relative and the absolute difference, or (relative, absolute).
Tolerance: TypeAlias = float | tuple[float, float]

#: Sizes to try: odd and prime ones first, because round sizes hide mistakes.
_SIZES = (3, 5, 7, 11, 13, 17, 2, 4, 9, 6, 8, 16, 12, 10)
#: How many random assignments of sizes are tried before the search for admissible ones ends.
_ATTEMPTS = 5000


@dataclass(frozen=True)
class Run:
    """The comparison of graph and model at one shape.

    Attributes:
        sizes: the values of the symbols.
        example: whether these are the values of the example.
        difference: the largest absolute difference of any result; None if no numbers were
            compared.
        relative: the largest relative difference.
        failure: a sentence about the first disagreement; None if graph and model agree.
    """

    sizes: Mapping[str, int]
    example: bool
    difference: float | None
    relative: float | None
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether graph and model agree."""
        return self.failure is None


@dataclass(frozen=True)
class Verification:
    """The comparison of graph and model at several shapes; true if they agree at every shape.

    Attributes:
        runs: one for each shape, the example's first.
        wanted: how many shapes beside the example's were requested.
        note: why there are fewer shapes; None if there are not.
    """

    runs: tuple[Run, ...]
    wanted: int
    note: str | None = None

    def __bool__(self) -> bool:
        return all(run.passed for run in self.runs)

    @property
    def difference(self) -> float | None:
        """The largest absolute difference over all runs."""
        return max((r.difference for r in self.runs if r.difference is not None), default=None)

    def __str__(self) -> str:
        return "\n".join(line.plain for line in describe_verification(self))


def describe_verification(verification: Verification) -> list[Text]:
    """A verification as a table with a line for each run."""
    rows = [(("sizes", "dim"), ("largest difference", "dim"), ("relative", "dim"), ("", ""))]
    for run in verification.runs:
        sizes = ", ".join(f"{name}={size}" for name, size in run.sizes.items()) or "static"
        outcome = ("agrees", "green") if run.passed else (f"FAILS: {run.failure}", "bold red")
        if run.example:
            outcome = (f"{outcome[0]} (the example)", outcome[1])
        rows.append(
            ((sizes, ""), (number(run.difference), ""), (number(run.relative), ""), outcome)
        )
    lines = section("verification against eager", rows, caps=(60, 20, 12))
    if verification.note:
        lines.append(Text(f"  note: {verification.note}", style="yellow"))
    lines.append(Text(f"  {verdict(verification)}", style="bold" if verification else "bold red"))
    return lines


def verdict(verification: Verification) -> str:
    """A verification in one sentence."""
    runs = verification.runs
    failed = sum(not run.passed for run in runs)
    shapes = count(len(runs), "shape")
    if failed:
        return f"verification failed at {failed} of {shapes}"
    biggest = verification.difference
    if biggest is None:
        return f"verified at {shapes}; the results have no numbers"
    same = "equal to eager" if biggest == 0 else f"largest difference {number(biggest)}"
    return f"verified at {shapes}: {same}"


def verify(
    trace: TracedModel, *, shapes: int = 5, seed: int = 0, tolerance: Tolerance | None = None
) -> Verification:
    """Run the graph and the model of a trace on random inputs, and compare their results.

    Shapes are near the example's and away from it, odd and prime ones among them; the trace
    admits each of them. Floats are drawn from a normal distribution with the example's mean and
    deviation; if the example has no negative value, they lie between its smallest and its
    largest. Integers are drawn from the example's own values, so that indices stay valid; a
    tensor that counts 0, 1, 2... counts on. Bools are drawn evenly. Model and graph start from
    the same random state and the same buffers. The user's model is restored, except for the
    contents of lists and dicts that it holds.

    Args:
        trace: the trace.
        shapes: the number of shapes beside the example's.
        seed: the seed of all random numbers.
        tolerance: the largest difference between results that agree; see
            `symfx.tracing.Trace.verify`.

    Example:
        >>> import torch
        >>> from symfx.tracing import trace
        >>> t = trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
        >>> bool(verify(t, shapes=2))
        True
    """
    if shapes < 0:
        raise SymfxError(f"shapes is {shapes}", fix="give a number of shapes, 0 or more")
    rng = random.Random(seed)
    symbols = _input_symbols(trace)
    example = {info.term: int(info.hint) for info in symbols if info.hint is not None}
    others = list(itertools.islice(_assignments(trace, symbols, rng), shapes))
    note = None
    if len(others) < shapes:
        if symbols:
            note = f"only {len(others)} of {shapes} other shapes were found that the guards admit"
        elif any(info.unbacked and info.sources for info in trace.symbols):
            note = "sizes that a spec describes are not varied"
        else:
            note = "nothing is dynamic: the example's shape is the only one"
    runner = _Runner(trace, seed, tolerance)
    runs = [
        runner.run(index, values, is_example=index == 0)
        for index, values in enumerate([example, *others])
    ]
    return Verification(tuple(runs), shapes, note)


def _input_symbols(trace: TracedModel) -> list[SymbolInfo]:
    """The symbols that are a size, a stride or the value of an input."""
    at_inputs = set(trace.admission.facts.values())
    return [info for info in trace.symbols if not info.unbacked and info.term in at_inputs]


def _assignments(
    trace: TracedModel, symbols: Sequence[SymbolInfo], rng: random.Random
) -> Iterator[dict[Term, int]]:
    """Values of the symbols that the trace admits, each once, without the example's."""
    if not symbols:
        return
    choices = {info.term: _sizes(info) for info in symbols}
    seen = {tuple(info.hint for info in symbols)}
    # First all symbols at the values most worth trying, then random choices.
    ladders = [
        {term: sizes[step % len(sizes)] for term, sizes in choices.items()} for step in range(4)
    ]
    drawn = ({term: rng.choice(sizes) for term, sizes in choices.items()} for _ in range(_ATTEMPTS))
    for values in itertools.chain(ladders, drawn):
        key = tuple(values.values())
        if key not in seen:
            seen.add(key)
            if trace.admission.admits(values):
                yield values


def _sizes(info: SymbolInfo) -> list[int]:
    """Values to try for a symbol, those most likely to show a mistake first."""
    hint = int(info.hint or 0)
    # A number that is not a size may be negative.
    low = info.lower if info.lower is not None else -hint - 3
    high = info.upper if info.upper is not None else max(2 * hint + 3, 17)
    # Multiples and halves of the example's size satisfy guards on divisibility.
    first = [hint + 1, low, 2 * hint, hint - 1, 3 * hint, hint // 2, 4 * hint, high]
    wide = [*first, *_SIZES, 2 * hint + 1, hint]
    return [size for size in dict.fromkeys(wide) if low <= size <= high] or [hint]


class _Runner:
    """Runs the model and the graph on the same inputs, and compares their results."""

    def __init__(self, trace: TracedModel, seed: int, tolerance: Tolerance | None) -> None:
        self.trace = trace
        self.seed = seed
        bounds = (tolerance, tolerance) if isinstance(tolerance, (int, float)) else tolerance
        self.bounds = (None, None) if bounds is None else bounds

    def run(self, index: int, values: Mapping[Term, int], *, is_example: bool) -> Run:
        """The comparison at these values of the symbols.

        Args:
            index: the number of the run, from which its random numbers are seeded.
            values: the values.
            is_example: whether to run on the example's own inputs.
        """
        trace = self.trace
        sizes = {str(term): value for term, value in values.items()}
        if is_example:
            leaves = [leaf.example for leaf in trace.admission.layout.leaves]
        else:
            generator = torch.Generator().manual_seed(self.seed + index)
            leaves = inputs_at(trace.admission, values, generator)
        admitted = trace.admission.check_leaves(leaves)
        if not admitted:
            return Run(sizes, is_example, None, None, f"check refuses it: {admitted.failures[0]}")
        eager = self._attempt("the model", self._eager, leaves)
        graph = self._attempt("the graph", self._graph, leaves)
        failures = [side for side in (eager, graph) if isinstance(side, str)]
        if isinstance(eager, str) or isinstance(graph, str):
            return Run(sizes, is_example, None, None, "; ".join(failures))
        comparison = Comparison(self.bounds)
        for what, expected in eager.items():
            comparison.compare(what, expected, graph[what])
        return Run(
            sizes, is_example, comparison.difference, comparison.relative, comparison.failure
        )

    def _attempt(
        self, side: str, run: Callable[[list[Any]], dict[str, Any]], leaves: Sequence[Any]
    ) -> dict[str, Any] | str:
        """The results of one side by name, or a sentence about its exception."""
        own = [copy_of(leaf) for leaf in leaves]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            try:
                return run(own)
            except Exception as error:  # noqa: BLE001 - an exception of the user's code is a result
                first = (str(error).strip() or "no message").splitlines()[0]
                at = where(error)
                return f"{side} raised {type(error).__name__}: {first}" + (f" ({at})" if at else "")

    def _eager(self, leaves: list[Any]) -> dict[str, Any]:
        trace = self.trace
        args, kwargs = trace.admission.layout.unflatten(leaves)
        with (
            untouched(trace.model, written_tensors(trace.graph_module)),
            torch.set_grad_enabled(trace.grad_enabled),
        ):
            result = trace.model(*args, **kwargs)
            return {"the result": result, "the inputs": leaves, **self._state()}

    def _graph(self, leaves: list[Any]) -> dict[str, Any]:
        trace = self.trace
        # A model writes to views of parameters under no_grad, which a graph does not contain.
        with untouched(trace.model, written_tensors(trace.graph_module)), torch.no_grad():
            result = trace.run(leaves)
            return {"the result": result, "the inputs": leaves, **self._state()}

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
