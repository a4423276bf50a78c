"""Run a trace against its model, at the example's and at other shapes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils import _pytree as pytree

from symfx.algebra import Term, evaluate
from symfx.errors import SymfxError
from symfx.tracing.admission import Measure
from symfx.tracing.arguments import Leaf, describe
from symfx.tracing.model_state import module_of, untouched, written_by
from symfx.user_code import where

if TYPE_CHECKING:
    from symfx.symbolic_shapes import SymbolInfo
    from symfx.tracing import Trace

__all__ = ["Run", "Tolerance", "Verification", "verify"]

#: Both bounds, or (relative, absolute).
Tolerance: TypeAlias = float | tuple[float, float]

# Sizes that catch what round ones hide: odd, prime, away from the powers of two.
_SIZES = (3, 5, 7, 11, 13, 17, 2, 4, 9, 6, 8, 16, 12, 10)
_ATTEMPTS = 5000
_INF = float("inf")


@dataclass(frozen=True)
class Run:
    """The graph against the model at one shape.

    Attributes:
        sizes: the values of the symbols.
        example: whether these are the example's own.
        difference: the largest absolute difference of any result; None where none was computed.
        relative: the largest relative difference.
        failure: what disagreed, None where nothing did.
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
    """How a trace fared against its model; true where they agree at every shape.

    Attributes:
        runs: one for each shape, the example's first.
        wanted: how many shapes beside the example's were asked for.
        note: why there are fewer, None if there are not.
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
        from symfx.tracing.report import describe_verification

        return "\n".join(line.plain for line in describe_verification(self))


def verify(
    trace: Trace, *, shapes: int = 5, seed: int = 0, tolerance: Tolerance | None = None
) -> Verification:
    """Run a trace's graph against its model on made-up inputs.

    Shapes are drawn near the example's and away from it, odd and prime ones among them, and
    only such as the trace admits. Floats are drawn from a normal distribution with the example's
    mean and deviation (and never negative, nor beyond its maximum, if the example is not
    negative); integers are drawn from the example's own values, so that indices stay
    valid (a tensor that counts 0, 1, 2... counts on); bools are drawn evenly. Model and graph
    start from the same random state and the same buffers. The user's model is left as it was,
    but for what it keeps in lists and dicts of its own.

    Args:
        trace: what to verify.
        shapes: how many shapes beside the example's.
        seed: where all drawing starts from.
        tolerance: how far results may differ; see `symfx.tracing.Trace.verify`.

    Example:
        >>> import torch
        >>> from symfx.tracing import trace
        >>> t = trace(torch.relu, torch.randn(3, 4), dynamic=[("n", None)])
        >>> bool(verify(t, shapes=2))
        True
    """
    if shapes < 0:
        raise SymfxError(f"shapes is {shapes}", fix="ask for none (0) or more")
    rng = random.Random(seed)
    symbols = _input_symbols(trace)
    example = {info.term: int(info.hint) for info in symbols if info.hint is not None}
    others = list(itertools.islice(_assignments(trace, symbols, rng), shapes))
    note = None
    if len(others) < shapes:
        note = (
            "nothing is dynamic: the example's shape is the only one"
            if not symbols
            else f"only {len(others)} of {shapes} other shapes were found that the guards admit"
        )
    runner = _Runner(trace, seed, tolerance)
    runs = [
        runner.run(index, values, is_example=index == 0)
        for index, values in enumerate([example, *others])
    ]
    return Verification(tuple(runs), shapes, note)


def _input_symbols(trace: Trace) -> list[SymbolInfo]:
    """The symbols that an input's shape or value gives."""
    at_inputs = set(trace._admission.facts.values())
    return [info for info in trace.symbols if not info.unbacked and info.term in at_inputs]


def _assignments(
    trace: Trace, symbols: Sequence[SymbolInfo], rng: random.Random
) -> Iterator[dict[Term, int]]:
    """Values of the symbols that the trace admits, each once, the example's left out."""
    if not symbols:
        return
    choices = {info.term: _sizes(info) for info in symbols}
    seen = {tuple(info.hint for info in symbols)}
    # First every symbol away from the example at once, then at random.
    ladders = [
        {term: sizes[step % len(sizes)] for term, sizes in choices.items()} for step in range(4)
    ]
    drawn = ({term: rng.choice(sizes) for term, sizes in choices.items()} for _ in range(_ATTEMPTS))
    for values in itertools.chain(ladders, drawn):
        key = tuple(values.values())
        if key not in seen:
            seen.add(key)
            if trace._admission.admits(values):
                yield values


def _sizes(info: SymbolInfo) -> list[int]:
    """Values worth trying for a symbol, the most telling first."""
    hint = int(info.hint or 0)
    # Numbers that are no sizes may be negative.
    low = info.lower if info.lower is not None else -hint - 3
    high = info.upper if info.upper is not None else max(2 * hint + 3, 17)
    # Multiples and halves of the example's size pass where guards ask for divisibility.
    telling = [hint + 1, low, 2 * hint, hint - 1, 3 * hint, hint // 2, 4 * hint, high]
    wide = [*telling, *_SIZES, 2 * hint + 1, hint]
    return [size for size in dict.fromkeys(wide) if low <= size <= high] or [hint]


class _Runner:
    """Runs model and graph side by side."""

    def __init__(self, trace: Trace, seed: int, tolerance: Tolerance | None) -> None:
        self.trace = trace
        self.seed = seed
        bounds = (tolerance, tolerance) if isinstance(tolerance, (int, float)) else tolerance
        self.bounds = (None, None) if bounds is None else bounds

    def run(self, index: int, values: Mapping[Term, int], *, is_example: bool) -> Run:
        trace = self.trace
        sizes = {str(term): value for term, value in values.items()}
        leaves = self._inputs(index, values, as_is=is_example)
        admitted = trace._admission.check_leaves(leaves)
        if not admitted:
            return Run(sizes, is_example, None, None, f"check refuses it: {admitted.failures[0]}")
        eager = self._attempt("the model", self._eager, leaves)
        graph = self._attempt("the graph", self._graph, leaves)
        failures = [side for side in (eager, graph) if isinstance(side, str)]
        if isinstance(eager, str) or isinstance(graph, str):
            return Run(sizes, is_example, None, None, "; ".join(failures))
        comparison = _Comparison(self.bounds)
        for what, (expected, actual) in {
            part: (eager[part], graph[part]) for part in eager
        }.items():
            comparison.compare(what, expected, actual)
        return Run(
            sizes, is_example, comparison.difference, comparison.relative, comparison.failure
        )

    def _attempt(
        self, side: str, run: Callable[[list[Any]], dict[str, Any]], leaves: Sequence[Any]
    ) -> dict[str, Any] | str:
        """What one side leaves behind, or how it failed."""
        own = [_copy(leaf) for leaf in leaves]
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            try:
                return run(own)
            except Exception as error:  # noqa: BLE001 - whatever the user's code raises is a finding
                first = (str(error).strip() or "no message").splitlines()[0]
                at = where(error)
                return f"{side} raised {type(error).__name__}: {first}" + (f" ({at})" if at else "")

    def _eager(self, leaves: list[Any]) -> dict[str, Any]:
        trace = self.trace
        args, kwargs = trace._admission.layout.unflatten(leaves)
        with (
            untouched(trace.model, written_by(trace.graph_module)),
            torch.set_grad_enabled(trace._grad_enabled),
        ):
            result = trace.model(*args, **kwargs)
            return {"the result": result, "the inputs": leaves, **self._state()}

    def _graph(self, leaves: list[Any]) -> dict[str, Any]:
        trace = self.trace
        # Views of parameters are written to in models' own no_grad, which a graph does not hold.
        with untouched(trace.model, written_by(trace.graph_module)), torch.no_grad():
            result = trace.run(leaves)
            return {"the result": result, "the inputs": leaves, **self._state()}

    def _state(self) -> dict[str, Any]:
        """What the run has left in the buffers, and in other tensors that the graph writes to."""
        module = module_of(self.trace.model)
        buffers = {} if module is None else dict(module.named_buffers())
        state = {f"the buffer {name}": _copy(buffer) for name, buffer in buffers.items()}
        names = {id(buffer): name for name, buffer in self.trace.graph_module.named_buffers()}
        for i, tensor in enumerate(written_by(self.trace.graph_module)):
            if names.get(id(tensor)) not in buffers:
                state[f"the tensor {names.get(id(tensor), i)}"] = _copy(tensor)
        return state

    def _inputs(self, index: int, values: Mapping[Term, int], *, as_is: bool) -> list[Any]:
        """Inputs at these values of the symbols; the example's own if ``as_is``."""
        admission = self.trace._admission
        generator = torch.Generator().manual_seed(self.seed + index)
        leaves = []
        for leaf in admission.layout.leaves:
            example = leaf.example
            if as_is:
                leaves.append(example)
            elif isinstance(example, torch.Tensor):
                leaves.append(self._tensor(leaf, values, generator))
            else:
                term = admission.facts.get(Measure(leaf, "value"))
                leaves.append(example if term is None else evaluate(term, values))
        return leaves

    def _tensor(
        self, leaf: Leaf, values: Mapping[Term, int], generator: torch.Generator
    ) -> torch.Tensor:
        facts, example = self.trace._admission.facts, leaf.example
        if example.layout is not torch.strided:
            raise SymfxError(
                f"{leaf.path} is {example.layout}; inputs are made up for dense tensors only"
            )

        def measured(kind: str, index: int = 0) -> int:
            measure = Measure(leaf, kind, index)
            term = facts.get(measure)
            return measure.of(example) if term is None else int(evaluate(term, values))

        size = [measured("size", i) for i in range(example.dim())]
        stride = [measured("stride", i) for i in range(example.dim())]
        offset = measured("offset")
        # All of the storage is filled, so that any layout (expanded, transposed, a slice) is right.
        extent = offset + 1 + sum((n - 1) * st for n, st in zip(size, stride, strict=True) if n)
        counted = _counted(example, size)
        if counted is not None:
            return counted
        storage = _values(example.detach(), extent, generator)
        made = torch.as_strided(storage, size, stride, offset)
        return made.requires_grad_(example.requires_grad)


def _copy(value: Any) -> Any:
    """A tensor with storage of its own and the same layout; anything else as it is."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return value
    flat = value.detach()
    extent = (
        value.storage_offset()
        + 1
        + sum((n - 1) * st for n, st in zip(value.shape, value.stride(), strict=True) if n)
    )
    storage = torch.as_strided(flat, (extent,), (1,), 0).clone()
    made = torch.as_strided(storage, value.size(), value.stride(), value.storage_offset())
    return made.requires_grad_(value.requires_grad)


def _counted(example: torch.Tensor, size: Sequence[int]) -> torch.Tensor | None:
    """Positions 0, 1, 2... at another size, where the example counts along its last dimension."""
    if example.is_floating_point() or example.is_complex() or example.dtype is torch.bool:
        return None
    if example.dim() == 0 or example.size(-1) < 3 or not example.is_contiguous():
        return None
    positions = torch.arange(example.size(-1), dtype=example.dtype, device=example.device)
    if not torch.equal(example, positions.expand_as(example)):
        return None
    longer = torch.arange(size[-1], dtype=example.dtype, device=example.device)
    return longer.expand(tuple(size)).contiguous()


def _values(example: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """That many values in the manner of the example's, flat."""
    dtype, device = example.dtype, example.device
    if dtype is torch.bool:
        return torch.randint(0, 2, (count,), generator=generator).to(device, dtype)
    flat = example.reshape(-1).cpu()
    ordinary = example.is_floating_point() or example.is_complex()
    if ordinary and (flat.numel() == 0 or bool(torch.isfinite(flat).all())):
        wide = torch.complex128 if example.is_complex() else torch.float64
        drawn = torch.randn(count, generator=generator, dtype=wide)
        many = flat.to(wide)
        # An example of one value tells no spread.
        if flat.numel() > 1 and float(many.std()) > 0:
            drawn = drawn * many.std() + many.mean()
            low = None if example.is_complex() else float(many.min())
            if low is not None and low >= 0:  # such as a probability, or what a log is taken of
                drawn = drawn.abs().clamp(low, float(many.max()))
        return drawn.to(device, dtype)
    if flat.numel() == 0:
        return torch.zeros(count, dtype=dtype, device=device)
    picks = torch.randint(0, flat.numel(), (count,), generator=generator)
    return flat[picks].to(device)


def _sizes_as_tuples(tree: Any) -> Any:
    """The tree with each torch.Size as the tuple that a graph gives for it."""
    return pytree.tree_map(
        lambda leaf: tuple(leaf) if isinstance(leaf, torch.Size) else leaf,
        tree,
        is_leaf=lambda node: isinstance(node, torch.Size),
    )


class _Comparison:
    """The first disagreement between results, and the largest differences."""

    def __init__(self, bounds: tuple[float, float] | tuple[None, None]) -> None:
        self.bounds = bounds
        self.difference: float | None = None
        self.relative: float | None = None
        self.failure: str | None = None

    def _fail(self, sentence: str) -> None:
        self.failure = self.failure or sentence

    def compare(self, what: str, expected: Any, actual: Any) -> None:
        """Compare what the model gave with what the graph gave."""
        expected_leaves, expected_spec = pytree.tree_flatten_with_path(_sizes_as_tuples(expected))
        actual_leaves, actual_spec = pytree.tree_flatten_with_path(_sizes_as_tuples(actual))
        if expected_spec != actual_spec:
            self._fail(f"{what}: the graph gives another structure")
            return
        for (path, one), (_, other) in zip(expected_leaves, actual_leaves, strict=True):
            self._leaf(what + pytree.keystr(path), one, other)

    def _leaf(self, what: str, expected: Any, actual: Any) -> None:
        if not isinstance(expected, torch.Tensor):
            if isinstance(actual, torch.Tensor) or not _equal(expected, actual):
                self._fail(f"{what}: the model gives {expected!r}, the graph {describe(actual)}")
            return
        if not isinstance(actual, torch.Tensor):
            self._fail(f"{what}: the model gives {describe(expected)}, the graph {actual!r}")
            return
        for part in ("dtype", "device", "layout", "shape"):
            one, other = getattr(expected, part), getattr(actual, part)
            if one != other:
                self._fail(
                    f"{what} has {part} {_words(one)} in the model, {_words(other)} in the graph"
                )
                return
        self._measure(expected.detach(), actual.detach())
        try:
            torch.testing.assert_close(
                actual, expected, rtol=self.bounds[0], atol=self.bounds[1], equal_nan=True
            )
        except AssertionError:
            self._fail(f"{what} differs beyond the tolerance")

    def _measure(self, expected: torch.Tensor, actual: torch.Tensor) -> None:
        if expected.layout is not torch.strided or expected.numel() == 0:
            return
        wide = torch.complex128 if expected.is_complex() else torch.float64
        one, other = expected.to(wide), actual.to(wide)
        # Equal infinities differ by nothing, and so do two NaN.
        equal = (one == other) | (one.isnan() & other.isnan())
        gap = torch.where(equal, 0.0, (one - other).abs().nan_to_num(_INF, posinf=_INF))
        scale = one.abs().clamp(min=torch.finfo(torch.float64).tiny)
        ratio = torch.where(equal, 0.0, (gap / scale).nan_to_num(_INF, posinf=_INF))
        self.difference = max(self.difference or 0.0, float(gap.max()))
        self.relative = max(self.relative or 0.0, float(ratio.max()))


def _equal(expected: Any, actual: Any) -> bool:
    return type(expected) is type(actual) and (
        expected == actual or (isinstance(expected, float) and repr(expected) == repr(actual))
    )


def _words(value: Any) -> str:
    return str(tuple(value)) if isinstance(value, torch.Size) else str(value)
