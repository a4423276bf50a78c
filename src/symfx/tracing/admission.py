"""What `Trace.check` compares: the inputs of another call against the conditions of a trace."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from symfx.algebra import Term, evaluate, substitute
from symfx.algebra.terms.definedness import UNDEFINED
from symfx.algebra.terms.linear import determined_symbols
from symfx.errors import InputMismatchError, SymfxError
from symfx.symbolic_shapes import GuardProgram, InputFact, Provenance, ShapeEnv
from symfx.symbolic_shapes.checks.measures import Measure, measures
from symfx.symbolic_shapes.checks.needed_guards import needed_guards
from symfx.tracing.arguments import Layout, Leaf
from symfx.tracing.dynamic import Entry
from symfx.tracing.markup import element
from symfx.tracing.mismatches import Kind, LeafMeasure, Mismatch, differences
from symfx.tracing.tables import GuardTable

__all__ = ["Admission", "CheckResult", "holds"]

# The most choices of strides that mean nothing with which inputs are tried.
_CHOICES = 500


@dataclass(frozen=True)
class CheckResult:
    """Whether inputs fit a trace; true where they do.

    Attributes:
        failures: a sentence for each difference.

    Example:
        >>> result = CheckResult(("dimension 0 of x is 3, not 4",))
        >>> bool(result)
        False
        >>> print(result)
        these inputs do not fit:
          dimension 0 of x is 3, not 4
    """

    failures: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failures

    def _repr_html_(self) -> str:
        if not self.failures:
            return element("p", "these inputs fit")
        failures = element("ul", *(element("li", sentence) for sentence in self.failures))
        return element("div", element("strong", "these inputs do not fit"), failures)

    def __str__(self) -> str:
        if not self.failures:
            return "these inputs fit"
        return "\n  ".join(("these inputs do not fit:", *self.failures))


def _numbers_of(leaf: Leaf) -> list[LeafMeasure]:
    if isinstance(leaf.example, torch.Tensor):
        numbers = [LeafMeasure(leaf, measure) for measure, _ in measures(leaf.example)]
        one_integer = leaf.example.dim() == 0 and not leaf.example.is_floating_point()
        return [*numbers, LeafMeasure(leaf, Measure("item"))] if one_integer else numbers
    return [LeafMeasure(leaf, Measure("value"))]


class Admission:
    """The conditions that inputs must satisfy for the graph of a trace to hold.

    Args:
        layout: the inputs.
        entries: the dynamic dimensions of each leaf.
        env: the environment of the trace.
        offsets_matter: whether the graph depends on the storage offsets of its inputs.
    """

    def __init__(
        self,
        layout: Layout,
        entries: Sequence[Entry],
        env: ShapeEnv,
        offsets_matter: bool = True,
    ) -> None:
        self.layout = layout
        self.entries = tuple(entries)
        self.env = env
        self._by_source = {
            number.measure.source(number.leaf.name): number
            for leaf in layout.leaves
            for number in _numbers_of(leaf)
        }
        #: The term that each number of an input must equal.
        self.facts: dict[LeafMeasure, Term] = {}
        # The strides that matter where their dimension has one element too.
        self._asked: set[LeafMeasure] = set()
        for fact in env.input_facts():
            number = self.number_at(fact.source)
            if number is not None:
                self.facts[number] = fact.term
                if fact.asked:
                    self._asked.add(number)
        # The items of tensors that the program read, and that guards are about.
        guarded = {symbol for guard in env.guards for symbol in guard.term.free_symbols}
        for info in env.symbol_table():
            for source in info.sources:
                number = self.number_at(source)
                if number is not None and number.measure.kind == "item" and info.term in guarded:
                    self.facts[number] = info.term
        if not offsets_matter:
            self._drop_offsets()
        for leaf in layout.leaves:
            self._fix_static(leaf)
        #: The symbols of values that the program reads from input tensors by ``.item()``.
        self.items = {
            symbol: leaf
            for symbol, record in env.symbols.records.items()
            for leaf in layout.leaves
            if isinstance(leaf.example, torch.Tensor)
            and any(source.name == f"{leaf.name}.item()" for source in record.sources)
        }
        self._compiled: tuple[object, GuardProgram | None] = (None, None)
        self._needed: tuple[object, GuardTable] = (None, GuardTable())
        #: What the graph asserts of the inputs alone: the conditions of a spec of dynamic shapes.
        given = {symbol for term in self.facts.values() for symbol in term.free_symbols}
        self._asserted = [a for a in env.deferred_asserts() if a.term.free_symbols <= given]

    def _drop_offsets(self) -> None:
        """Admit any storage offset that no guard is about."""
        offsets = [n for n in self.facts if n.measure.kind == "storage_offset"]
        told = [t for n, t in self.facts.items() if n not in offsets]
        told += [guard.term for guard in self.env.guards]
        for number in offsets:
            symbols = self.facts[number].free_symbols
            if not any(symbols & term.free_symbols for term in told):
                del self.facts[number]

    def _fix_static(self, leaf: Leaf) -> None:
        """Sizes and strides without a fact of the environment must equal the example's."""
        if isinstance(leaf.example, torch.Tensor) and leaf.example.layout is torch.strided:
            for measure, value in measures(leaf.example):
                if measure.kind in ("size", "stride"):
                    number = LeafMeasure(leaf, measure)
                    self.facts.setdefault(number, self.env.table.const(value))

    def number_at(self, source: str) -> LeafMeasure | None:
        """The number of an input that a source such as ``x.size()[1]`` names, if it names one."""
        return self._by_source.get(source)

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CheckResult:
        """Whether the graph holds for the arguments of a call; if not, why."""
        try:
            return self.check_leaves(self.layout.flatten(args, kwargs))
        except InputMismatchError as error:
            return CheckResult((error.what,))

    @property
    def guards(self) -> GuardTable:
        """The guards, without those that follow from the others."""
        known = (self.env.facts.version, len(self.env.guards))
        if self._needed[0] != known:
            self._needed = known, GuardTable(needed_guards(self.env))
        return self._needed[1]

    def program(self) -> GuardProgram:
        """The conditions on sizes, strides and numbers, as a program.

        Raises:
            SymfxError: a guard has a symbol that no input gives.
        """
        facts = [
            InputFact(
                number.measure.source(number.leaf.name), "expression", term, number in self._asked
            )
            for number, term in self.facts.items()
        ]
        names = [leaf.name for leaf in self.layout.leaves]
        return GuardProgram.of(self.env, self.guards, parameters=names, facts=facts)

    def _fits(self, leaves: Sequence[Any]) -> bool:
        """Whether inputs of the right types fit, by the compiled checker.

        False also if there is no such checker: `check_leaves` then finds the answer.
        """
        known = (self.env.facts.version, len(self.env.guards))
        if self._compiled[0] != known:
            try:
                self._compiled = known, self.program()
            except SymfxError:
                self._compiled = known, None
        program = self._compiled[1]
        return program is not None and program.check(*leaves)

    def check_leaves(self, leaves: Sequence[Any]) -> CheckResult:
        """Whether the graph holds for flat inputs; if not, why."""
        return CheckResult(tuple(mismatch.text for mismatch in self.mismatches(leaves)))

    def mismatches(self, leaves: Sequence[Any]) -> list[Mismatch]:
        """The differences between flat inputs and the conditions; none where the graph holds."""
        found: list[Mismatch] = []
        alike: dict[Leaf, Any] = {}
        for leaf, entry, value in zip(self.layout.leaves, self.entries, leaves, strict=True):
            differing = list(differences(leaf, entry, value))
            found += differing
            # The sizes of a tensor of another dtype or device are compared all the same.
            if all(mismatch.kind in ("dtype", "device") for mismatch in differing):
                alike[leaf] = value
        if not found and not self._asserted and self._fits(leaves):
            return []
        values, disagreements = self.bind(alike)
        found += disagreements
        if not found:
            values |= self._idle_strides(alike, values)
        found += self._broken(values, complete=not found)
        return found

    def _idle_strides(
        self, leaves: Mapping[Leaf, Any], values: Mapping[Term, int]
    ) -> dict[Term, int]:
        """Strides for dimensions of one element with which inputs fit; none if there are none.

        Such a stride means nothing: the tensor is the same with any other number. The guards may
        be about the order of the strides all the same.
        """
        guarded = {symbol for term, _ in self.conditions for symbol in term.free_symbols}
        idle: dict[Term, list[int]] = {}
        for number, term in self.facts.items():
            if number.measure.kind == "stride" and term in guarded and term not in values:
                tensor = leaves[number.leaf]
                others = [s * n for s, n in zip(tensor.stride(), tensor.shape, strict=True)]
                near = (number.of(tensor), *tensor.stride(), *others, 2 * max(others))
                idle[term] = list(dict.fromkeys((*idle.get(term, ()), *near)))
        if not idle:
            return {}
        told = [
            (term, number.of(leaves[number.leaf]))
            for number, term in self.facts.items()
            if term.free_symbols & idle.keys()
            and (number in self._asked or number.matters(leaves[number.leaf]))
        ]
        for chosen in itertools.islice(itertools.product(*idle.values()), _CHOICES):
            choice = dict(zip(idle, chosen, strict=True))
            given = {**values, **choice}
            if all(evaluate(term, given) == n for term, n in told) and self.admits(given):
                return choice
        return {}

    def values_of(self, leaves: Sequence[Any]) -> dict[Term, int]:
        """The values of the symbols in flat inputs of the right types."""
        return self.bind(dict(zip(self.layout.leaves, leaves, strict=True)))[0]

    def bind(self, leaves: Mapping[Leaf, Any]) -> tuple[dict[Term, int], list[Mismatch]]:
        """The values of the symbols in inputs of the right types, and the numbers that differ."""
        found: list[Mismatch] = []
        values: dict[Term, int] = {}
        first: dict[Term, LeafMeasure] = {}
        values.update(self.items_of(leaves))
        present = {
            n: t
            for n, t in self.facts.items()
            if n.leaf in leaves and (n in self._asked or n.matters(leaves[n.leaf]))
        }
        # Sizes and values first: strides and offsets follow from them.
        order = sorted(present, key=lambda n: n.measure.kind in ("stride", "storage_offset"))
        for number in order:
            term, actual = present[number], number.of(leaves[number.leaf])
            if term.op == "symbol" and term not in values:
                values[term] = actual
                first[term] = number
        # Of a size that is a multiple of a symbol, the symbol is a part.
        sizes = {t: n for n, t in present.items() if n.measure.kind in ("size", "value")}
        for symbol, term, factor, rest in determined_symbols(sizes, values):
            number = sizes[term]
            others = int(evaluate(rest, values))
            values[symbol], left = divmod(number.of(leaves[number.leaf]) - others, factor)
            if left:
                actual = number.of(leaves[number.leaf])
                text = f"{number} is {actual}, which {term} never is"
                found.append(Mismatch("expression", text, number.leaf, number, actual, term=term))
                del values[symbol]
        reported: set[Leaf] = set()
        strided: dict[Leaf, None] = {}  # inputs of other strides, in order
        for number in order:
            term = present[number]
            if not all(symbol in values for symbol in term.free_symbols):
                continue  # a symbol of it is a size of an input that is reported already
            expected, actual = evaluate(term, values), number.of(leaves[number.leaf])
            if expected == actual:
                continue
            if number.measure.kind == "stride":
                strided[number.leaf] = None
                continue
            reported.add(number.leaf)
            kind: Kind = "size"
            if term.op == "symbol":
                kind = "equality"
                text = f"{term} is {expected} ({first[term]}) and also {actual} ({number})"
            elif term.free_symbols:
                kind = "expression"
                text = f"{number} is {actual}, not {term} = {expected}"
            else:
                text = f"{number} is {actual}; it is static: {expected} when traced"
            found.append(Mismatch(kind, text, number.leaf, number, actual, expected, term))
        # Where sizes differ the strides do too, and need no sentence.
        found += [
            Mismatch("strides", self._strides(leaf, leaves[leaf], values), leaf)
            for leaf in strided
            if leaf not in reported
        ]
        return values, found

    def _strides(self, leaf: Leaf, value: torch.Tensor, values: Mapping[Term, int]) -> str:
        terms = [
            (self.facts.get(LeafMeasure(leaf, Measure("stride", i))), leaf.example.stride(i))
            for i in range(value.dim())
        ]
        expected = tuple(
            evaluate(term, values)
            if term is not None and term.free_symbols <= set(values)
            else traced
            for term, traced in terms
        )
        advice = "pass it in the traced layout, or trace again"
        if leaf.example.is_contiguous():
            # `contiguous` keeps the strides of dimensions of size 1.
            call = "clone(memory_format=torch.contiguous_format)"
            advice = f"pass {leaf.path}.{call if value.is_contiguous() else 'contiguous()'}"
        return f"the strides of {leaf.path} are {value.stride()}, not {expected}: {advice}"

    def items_of(self, leaves: Mapping[Leaf, Any]) -> dict[Term, int]:
        """The values that the program reads from input tensors by ``.item()``."""
        return {
            symbol: leaves[leaf].item()
            for symbol, leaf in self.items.items()
            if leaf in leaves
            and leaves[leaf].numel() == 1
            and leaves[leaf].dtype == leaf.example.dtype
            and not leaves[leaf].is_meta
        }

    def admits(self, values: Mapping[Term, int]) -> bool:
        """Whether the guards and ranges admit these values of the symbols."""
        return not any(self._broken(values, complete=False))

    def _broken(self, values: Mapping[Term, int], *, complete: bool) -> Iterator[Mismatch]:
        """The guards and ranges that these values of the symbols break.

        Args:
            values: the values.
            complete: whether the inputs gave all values that they can give. Then a guard with a
                symbol of unknown value is reported too, because it cannot be checked.
        """
        in_broken_guards: set[Term] = set()
        table = self.env.symbol_table()
        unbacked = {info.term for info in table if info.unbacked}
        for condition, cause in self.conditions:
            symbols = condition.free_symbols
            if not all(symbol in values for symbol in symbols):
                # What is asserted of data is checked when the graph runs.
                if complete and not symbols & unbacked:
                    text = f"{condition} cannot be checked: no input gives one of its symbols"
                    yield Mismatch("unchecked", text, term=condition, cause=cause)
                continue
            if not holds(condition, values):
                in_broken_guards |= symbols
                text = self._broken_guard(condition, cause, values)
                given = {symbol: values[symbol] for symbol in symbols}
                yield Mismatch("condition", text, found=given, term=condition, cause=cause)
        for info in table:
            value = values.get(info.term)
            if value is None or info.term in in_broken_guards:
                continue
            low, high = info.lower, info.upper
            if (low is not None and value < low) or (high is not None and value > high):
                left = f"{low} <= " if low is not None else ""
                right = f" <= {high}" if high is not None else ""
                place = self._place(info.sources)
                text = f"{info.name} is {value}{place}, outside {left}{info.name}{right}"
                yield Mismatch("range", text, found=value, wanted=(low, high), term=info.term)

    @property
    def conditions(self) -> list[tuple[Term, Provenance]]:
        """The guards, and what the graph asserts of the inputs alone, each with its cause."""
        guards = [(guard.term, guard.provenance) for guard in self.guards]
        return guards + [(each.term, each.provenance) for each in self._asserted]

    def _broken_guard(self, condition: Term, cause: Provenance, values: Mapping[Term, int]) -> str:
        symbols = sorted(condition.free_symbols, key=lambda s: str(s.name))
        given = ", ".join(
            f"{self.name_of(s)} is {values[s]}"
            if self._item_of(s) is not None
            else f"{s.name} = {values[s]}"
            for s in symbols
        )
        frame = cause.frame
        line = f", relied on by {frame.with_text}" if frame else ""
        if cause.stated:
            line = ", as where= states"
        return f"{self.shown(condition)} does not hold for {given}{line}"

    def _item_of(self, symbol: Term) -> LeafMeasure | None:
        """The tensor whose one item a symbol is, where guards are about it."""
        return next(
            (n for n, t in self.facts.items() if t is symbol and n.measure.kind == "item"), None
        )

    def name_of(self, symbol: Term) -> str:
        """A symbol by its name, or, for the item of a tensor, by the path of the tensor."""
        item = self._item_of(symbol)
        return str(symbol.name) if item is None else item.leaf.path

    def shown(self, condition: Term) -> Term:
        """A condition with ``path.item()`` in place of the symbols of items."""
        items = {s: n for s in condition.free_symbols if (n := self._item_of(s)) is not None}
        names = {s: self.env.table.symbol(f"{n.leaf.path}.item()") for s, n in items.items()}
        return substitute(condition, names) if names else condition

    def value_at(self, number: LeafMeasure, values: Mapping[Term, int]) -> int:
        """A number of the inputs at these values of the symbols; the example's if none is known."""
        term = self.facts.get(number)
        if term is None or not term.free_symbols <= values.keys():
            return number.of(number.leaf.example)
        return int(evaluate(term, values))

    def numbers_of(self, symbol: Term) -> list[LeafMeasure]:
        """The sizes, values and items of inputs that are a symbol, or else expressions of it."""
        itself = [
            number
            for number, term in self.facts.items()
            if term is symbol and number.measure.kind in ("size", "value", "item")
        ]
        return itself or self.numbers_with(symbol)

    def numbers_with(self, symbol: Term) -> list[LeafMeasure]:
        """The sizes and values of inputs that are expressions of a symbol."""
        return [
            number
            for number, term in self.facts.items()
            if number.measure.kind in ("size", "value") and symbol in term.free_symbols
        ]

    def _place(self, sources: Sequence[str]) -> str:
        """The first of these sources that names a number of an input, in parentheses."""
        found = [number for number in map(self.number_at, sources) if number is not None]
        return f" ({found[0]})" if found else ""


def holds(condition: Term, values: Mapping[Term, int]) -> bool:
    """Whether a condition has a value, and holds, at these values of its symbols."""
    try:
        return bool(evaluate(condition, values))
    except UNDEFINED:
        return False
