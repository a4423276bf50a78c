"""Whether other inputs fit a trace, and in what they do not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from symfx.algebra import Term, evaluate
from symfx.errors import InputMismatchError, SymfxError
from symfx.symbolic_shapes import Dim, GuardProgram, InputFact, Provenance, ShapeEnv
from symfx.tracing.arguments import Layout, Leaf, describe
from symfx.tracing.dynamic import Entry

if TYPE_CHECKING:
    from symfx.algebra import Scalar

__all__ = ["Admission", "CheckResult", "Measure"]


@dataclass(frozen=True)
class CheckResult:
    """Whether inputs fit a trace; true where they do.

    Attributes:
        failures: a sentence for each thing that does not fit.

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

    def __str__(self) -> str:
        if not self.failures:
            return "these inputs fit"
        return "\n  ".join(("these inputs do not fit:", *self.failures))


@dataclass(frozen=True)
class Measure:
    """One number that an input brings along: a size, a stride, its offset, or its own value.

    Attributes:
        leaf: which input.
        kind: ``"size"``, ``"stride"``, ``"offset"`` or ``"value"``.
        index: the dimension of a size or stride.
    """

    leaf: Leaf
    kind: str
    index: int = 0

    def of(self, value: Any) -> int:
        """This measure of an input."""
        if self.kind == "size":
            return int(value.size(self.index))
        if self.kind == "stride":
            return int(value.stride(self.index))
        return int(value.storage_offset() if self.kind == "offset" else value)

    def matters(self, value: Any) -> bool:
        """Whether it says anything: the stride of a dimension of one element does not."""
        return self.kind != "stride" or (
            value.size(self.index) > 1 and all(n > 0 for n in value.shape)
        )

    def __str__(self) -> str:
        return {
            "size": f"dimension {self.index} of {self.leaf.path}",
            "stride": f"stride {self.index} of {self.leaf.path}",
            "offset": f"the storage offset of {self.leaf.path}",
            "value": self.leaf.path,
        }[self.kind]

    def source(self) -> str:
        """The measure as a ShapeEnv's source."""
        method = "storage_offset" if self.kind == "offset" else self.kind
        index = f"[{self.index}]" if self.kind in ("size", "stride") else ""
        return self.leaf.name if self.kind == "value" else f"{self.leaf.name}.{method}(){index}"

    def short(self) -> str:
        """The measure as an expression in Python, for tables."""
        return {
            "size": f"{self.leaf.path}.shape[{self.index}]",
            "stride": f"{self.leaf.path}.stride({self.index})",
            "offset": f"{self.leaf.path}.storage_offset()",
            "value": self.leaf.path,
        }[self.kind]


_SOURCE = re.compile(
    r"(?P<leaf>\w+)(?:\.(?P<kind>size|stride|storage_offset)\(\)(?:\[(?P<i>\d+)\])?)?"
)


class Admission:
    """What the inputs of a trace must satisfy, ready to be asked.

    Args:
        layout: the inputs.
        entries: what was said to be dynamic, for each leaf.
        env: the environment of the trace.
    """

    def __init__(self, layout: Layout, entries: Sequence[Entry], env: ShapeEnv) -> None:
        self.layout = layout
        self.entries = tuple(entries)
        self.env = env
        self._by_name = {leaf.name: leaf for leaf in layout.leaves}
        #: What each measure of an input must equal.
        self.facts: dict[Measure, Term] = {}
        for fact in env.input_facts():
            measure = self.measure(fact.source)
            if measure is not None:
                self.facts[measure] = fact.term
        for leaf in layout.leaves:
            self._fix_static(leaf)
        self._compiled: tuple[object, GuardProgram | None] = (None, None)

    def _fix_static(self, leaf: Leaf) -> None:
        """What the environment says nothing about is as it was in the example."""
        if isinstance(leaf.example, torch.Tensor) and leaf.example.layout is torch.strided:
            for kind in ("size", "stride"):
                for i in range(leaf.example.dim()):
                    measure = Measure(leaf, kind, i)
                    if measure not in self.facts:
                        term = self.env.table.const(measure.of(leaf.example))
                        self.facts[measure] = term

    def measure(self, source: str) -> Measure | None:
        """The measure that a source such as ``x.size()[1]`` speaks of; None if it is no input's."""
        match = _SOURCE.fullmatch(source)
        leaf = self._by_name.get(match["leaf"]) if match else None
        if match is None or leaf is None:
            return None
        kind = {None: "value", "storage_offset": "offset"}.get(match["kind"], match["kind"])
        return Measure(leaf, kind, int(match["i"] or 0))

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> CheckResult:
        """Whether the arguments of a call fit."""
        try:
            return self.check_leaves(self.layout.flatten(args, kwargs))
        except InputMismatchError as error:
            return CheckResult((error.what,))

    def program(self) -> GuardProgram:
        """What the inputs' sizes, strides and numbers must satisfy, compiled.

        Raises:
            SymfxError: a guard is about what the inputs do not tell.
        """
        facts = [InputFact(m.source(), "expression", term) for m, term in self.facts.items()]
        names = [leaf.name for leaf in self.layout.leaves]
        return GuardProgram.of(self.env, parameters=names, facts=facts)

    def _fits(self, leaves: Sequence[Any]) -> bool:
        """Whether inputs of the right kinds fit, by the compiled checker; False where unsure."""
        known = (self.env.facts.version, len(self.env.guards))
        if self._compiled[0] != known:
            try:
                self._compiled = known, self.program()
            except SymfxError:
                self._compiled = known, None
        program = self._compiled[1]
        return program is not None and program.check(*leaves)

    def check_leaves(self, leaves: Sequence[Any]) -> CheckResult:
        """Whether inputs, already flat, fit."""
        failures: list[str] = []
        sound: dict[Leaf, Any] = {}
        for leaf, entry, value in zip(self.layout.leaves, self.entries, leaves, strict=True):
            problem = _unlike(leaf, entry, value)
            if problem:
                failures.append(problem)
            else:
                sound[leaf] = value
        if not failures and self._fits(leaves):
            return CheckResult()
        values, disagreements = self._bind(sound)
        failures += disagreements
        failures += self._broken(values, complete=not failures)
        return CheckResult(tuple(failures))

    def _bind(self, leaves: Mapping[Leaf, Any]) -> tuple[dict[Term, int], list[str]]:
        """The values of the symbols, and where inputs contradict what was traced."""
        failures: list[str] = []
        values: dict[Term, int] = {}
        bound_at: dict[Term, Measure] = {}
        present = {
            m: t for m, t in self.facts.items() if m.leaf in leaves and m.matters(leaves[m.leaf])
        }
        # Sizes and values first: strides follow from them.
        order = sorted(present, key=lambda measure: measure.kind in ("stride", "offset"))
        for measure in order:
            term, actual = present[measure], measure.of(leaves[measure.leaf])
            if term.op == "symbol" and term not in values:
                values[term] = actual
                bound_at[term] = measure
        odd: set[Leaf] = set()  # inputs whose sizes are reported: their strides follow
        bent: dict[Leaf, None] = {}
        for measure in order:
            term = present[measure]
            if not all(symbol in values for symbol in term.free_symbols):
                continue  # its own symbol stands on an input that is reported already
            expected, actual = evaluate(term, values), measure.of(leaves[measure.leaf])
            if expected == actual:
                continue
            if measure.kind == "stride":
                bent[measure.leaf] = None
                continue
            odd.add(measure.leaf)
            if term.op == "symbol":
                first = bound_at[term]
                failures.append(f"{term} is {expected} ({first}) and also {actual} ({measure})")
            elif term.free_symbols:
                failures.append(f"{measure} is {actual}, not {term} = {expected}")
            else:
                failures.append(f"{measure} is {actual}; it is static: {expected} when traced")
        for leaf in bent.keys() - odd:
            failures.append(self._strides(leaf, leaves[leaf], values))
        return values, failures

    def _strides(self, leaf: Leaf, value: torch.Tensor, values: Mapping[Term, int]) -> str:
        terms = [
            (self.facts.get(Measure(leaf, "stride", i)), leaf.example.stride(i))
            for i in range(value.dim())
        ]
        expected = tuple(
            evaluate(term, values) if term is not None and term.free_symbols <= set(values) else st
            for term, st in terms
        )
        advice = (
            f"pass {leaf.path}.contiguous()"
            if leaf.example.is_contiguous()
            else "give it the layout it had, or trace again"
        )
        return f"the strides of {leaf.path} are {value.stride()}, not {expected}: {advice}"

    def admits(self, values: Mapping[Term, int]) -> bool:
        """Whether the guards and ranges admit these values of the symbols."""
        return not any(self._broken(values, complete=False))

    def _broken(self, values: Mapping[Term, int], *, complete: bool) -> Iterator[str]:
        """A sentence for each guard or range that these values of the symbols break.

        With ``complete`` all inputs are well, so a guard about an unknown symbol is a failure:
        what cannot be checked is not admitted.
        """
        to_blame: set[Term] = set()
        table = self.env.symbol_table()
        unbacked = {info.term for info in table if info.unbacked}
        for guard in self.env.guards:
            symbols = guard.term.free_symbols
            if not all(symbol in values for symbol in symbols):
                if complete and not symbols & unbacked:
                    yield f"whether {guard.term} holds cannot be told from these inputs"
                continue
            try:
                holds: Scalar = evaluate(guard.term, values)
            except ZeroDivisionError:
                holds = False
            if not holds:
                to_blame |= symbols
                yield _broken_guard(guard.term, guard.provenance, values)
        for info in table:
            value = values.get(info.term)
            if value is None or info.term in to_blame:
                continue
            low, high = info.lower, info.upper
            if (low is not None and value < low) or (high is not None and value > high):
                left = f"{low} <= " if low is not None else ""
                right = f" <= {high}" if high is not None else ""
                yield f"{info.name} is {value}{self._place(info.sources)}, outside " + (
                    f"{left}{info.name}{right}"
                )

    def _place(self, sources: Sequence[str]) -> str:
        found = [m for m in map(self.measure, sources) if m is not None]
        return f" ({found[0]})" if found else ""


def _broken_guard(condition: Term, cause: Provenance, values: Mapping[Term, int]) -> str:
    given = ", ".join(
        f"{symbol.name} = {values[symbol]}"
        for symbol in sorted(condition.free_symbols, key=lambda s: str(s.name))
    )
    frame = cause.frame
    blamed = f", relied on by {frame}: {frame.line}" if frame else ""
    return f"{condition} does not hold for {given}{blamed}"


def _unlike(leaf: Leaf, entry: Entry, value: Any) -> str | None:
    """How an input differs from the example in what a trace always fixes; None if it does not."""
    then = leaf.example
    if isinstance(then, torch.Tensor):
        if not isinstance(value, torch.Tensor):
            return f"{leaf.path} is {describe(value)}, not a tensor"
        for what in ("dtype", "device", "layout"):
            now, before = getattr(value, what), getattr(then, what)
            if now != before:
                return f"{leaf.path} has {what} {now}, not {before}"
        if value.dim() != then.dim():
            return f"{leaf.path} has {value.dim()} dimensions, not {then.dim()}"
        return None
    if isinstance(entry, Dim) or entry is True:
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{leaf.path} is {describe(value)}, not an int"
        return None
    if value is then or (
        type(value) is type(then)
        and not isinstance(value, torch.Tensor)
        and (value == then) is True
    ):
        return None
    return f"{leaf.path} is {describe(value)}; it is static: {describe(then)} when traced"
