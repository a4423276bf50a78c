"""The shapes at which `Trace.verify` runs: values of the symbols that the trace admits."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence

import torch

from symfx.algebra import Term
from symfx.algebra.reasoning.drawn_values import drawn_values, satisfies
from symfx.shape_language.lowering import condition_term
from symfx.symbolic_shapes import SymbolInfo
from symfx.tracing.stated import Stated
from symfx.tracing.traced_model import TracedModel

__all__ = ["ShapeSearch"]

#: Sizes to try: odd and prime ones first, because round sizes hide mistakes.
_SIZES = (3, 5, 7, 11, 13, 17, 2, 4, 9, 6, 8, 16, 12, 10)
#: How many random assignments of sizes are tried before the search for admissible ones ends.
_ATTEMPTS = 5000
#: How many guards a note names.
_GUARDS = 3


class ShapeSearch:
    """Looks for values of a trace's symbols that the trace admits.

    Args:
        trace: the trace.
        rng: the source of random choices.
        where: conditions on the symbols that the values must satisfy besides.

    Raises:
        SpecError: a condition names no symbol of the trace.

    Attributes:
        symbols: the symbols that are a size, a stride or the value of an input.
        example: their values in the example.
    """

    def __init__(
        self, trace: TracedModel, rng: random.Random, where: Sequence[Stated] = ()
    ) -> None:
        self.trace = trace
        self.rng = rng
        self._where = [str(condition) for condition in where]
        at_inputs = {
            symbol
            for number, term in trace.admission.facts.items()
            if term.op == "symbol" or number.measure.kind in ("size", "value")
            for symbol in term.free_symbols
        }
        listed = {info.term for info in trace.symbols}
        self.symbols = [
            info
            for info in trace.shape_env.symbol_table()
            if not info.unbacked
            and info.term in at_inputs
            and (info.term in listed or info.term not in trace.admission.items)
        ]
        self.example = {info.term: int(info.hint) for info in self.symbols if info.hint is not None}
        names = {str(info.name): info.term for info in self.symbols}
        table = trace.shape_env.table
        self._wanted = [condition_term(table, c.tree, names, c.text) for c in where]
        # A number of a tensor that the trace does not compute with stays as in the example.
        self._items = trace.admission.items_of(
            {leaf: leaf.example for leaf in trace.admission.layout.leaves}
        )
        self._dtypes = {term: leaf.example.dtype for term, leaf in trace.admission.items.items()}
        # Ranges that are small enough are searched without gaps.
        spans = [_span(info) for info in self.symbols]
        known = [span for span in spans if span is not None]
        self.every = len(known) == len(spans) and math.prod(map(len, known)) <= _ATTEMPTS
        if self.every:
            ranges = zip(self.symbols, known, strict=True)
            self.choices = {info.term: list(span) for info, span in ranges}
        else:
            self.choices = {info.term: _sizes(info) for info in self.symbols}

    def assignments(self) -> Iterator[dict[Term, int]]:
        """Values of the symbols that the trace admits, each once, without the example's."""
        if not self.symbols:
            return
        seen = {tuple(info.hint for info in self.symbols)}
        for values in itertools.chain(self._ladders(), self._others()):
            key = tuple(values.values())
            if key not in seen:
                seen.add(key)
                if not self._holds(values) or not satisfies(self._wanted, values):
                    continue
                if self.trace.admission.admits(self._items | values):
                    yield values

    def _holds(self, values: Mapping[Term, int]) -> bool:
        """Whether the tensors that the program reads numbers from can hold these values."""
        for term, dtype in self._dtypes.items():
            if term in values and not dtype.is_floating_point and dtype is not torch.bool:
                limits = torch.iinfo(dtype)
                if not limits.min <= values[term] <= limits.max:
                    return False
        return True

    def _ladders(self) -> Iterator[dict[Term, int]]:
        """All symbols at once at the sizes most worth trying."""
        sizes = {info.term: _sizes(info) for info in self.symbols}
        for step in range(4):
            yield {term: values[step % len(values)] for term, values in sizes.items()}

    def _others(self) -> Iterator[dict[Term, int]]:
        """All assignments in a random order if they are few, otherwise random ones that fit."""
        if self.every:
            every = list(itertools.product(*self.choices.values()))
            self.rng.shuffle(every)
            yield from (dict(zip(self.choices, values, strict=True)) for values in every)
            return
        if not self._where:
            for _ in range(_ATTEMPTS):
                yield {term: self.rng.choice(sizes) for term, sizes in self.choices.items()}
        # Sizes that conditions leave few of are not met by chance.
        conditions = [*self._wanted, *(guard.term for guard in self.trace.shape_env.guards)]
        ranges = {info.term: (info.lower, info.upper) for info in self.symbols}
        yield from drawn_values(conditions, ranges, self.choices, self.rng)

    def why_no_more(self, found: int, wanted: int) -> str:
        """A sentence that says why fewer shapes were found than wanted."""
        if not self.symbols:
            if any(info.unbacked and info.sources for info in self.trace.symbols):
                return "sizes that a spec describes are not varied"
            return "nothing is dynamic: the example's shape is the only one"
        limits = [
            f"{info.lower} <= {info.name} <= {info.upper}"
            if info.lower != info.upper
            else f"{info.name} == {info.lower}"
            for info in self.symbols
            if info.upper is not None
        ]
        guards = [text for guard in self.trace.guards if (text := str(guard.term)) not in limits]
        limits += [*self._where, *guards[:_GUARDS]]
        if len(guards) > _GUARDS:
            limits.append(f"{len(guards) - _GUARDS} more guards")
        if self.every:
            return f"only {found} of {wanted} other shapes exist: {', '.join(limits)}"
        return (
            f"only {found} of {wanted} other shapes were found: "
            f"{'the trace and where= admit' if self._where else 'the trace admits'} only "
            f"{', '.join(limits)}"
        )


def _span(info: SymbolInfo) -> range | None:
    """The range of a symbol; None if a bound is open."""
    if info.lower is None or info.upper is None:
        return None
    return range(info.lower, min(info.upper, info.lower + _ATTEMPTS) + 1)


def _sizes(info: SymbolInfo) -> list[int]:
    """Values to try for a symbol, those most likely to show a mistake first."""
    hint = int(info.hint or 0)
    # A number that is not a size may be negative.
    low = info.lower if info.lower is not None else -hint - 3
    high = info.upper if info.upper is not None else max(2 * hint + 3, 17)
    # Multiples and halves of the example's size satisfy guards on divisibility.
    first = [hint + 1, low, 2 * hint, hint - 1, 3 * hint, hint // 2, 4 * hint, high]
    wide = [*first, *_SIZES, 2 * hint + 1, hint]
    found = [size for size in dict.fromkeys(wide) if low <= size <= high]
    return found or [hint]
