"""What was promised about inputs, held against what tracing made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sympy

from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.text import ShapeGuardPythonPrinter
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.records import ValueRangesSLoc
from symfx.symbolic_shapes.torch_api.constraints import EqualityConstraint, StrictMinMaxConstraint
from symfx.symbolic_shapes.torch_api.questions import SympyQuestions

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["Condition", "Promises", "Report", "raise_for"]


@dataclass
class Condition:
    """One check: a sympy condition or the equality of an input with an expression."""

    expr: sympy.Basic
    comment: str
    source: Source | None = None


@dataclass
class Report:
    """What is found out on the way to the checks.

    Attributes:
        symbol_to_source: the inputs that each symbol stands for, that which defines it first.
        promises: the ranges promised for each symbol.
        equal: what each input must equal, but for those that define a symbol.
        conditions: the checks, in order.
        broken: promises that do not hold: whether it only warns, of what, and how.
    """

    symbol_to_source: dict[sympy.Symbol, list[Source]] = field(default_factory=dict)
    promises: dict[sympy.Symbol, list[Any]] = field(default_factory=dict)
    equal: list[tuple[Source, sympy.Basic]] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    broken: list[tuple[bool, str, str]] = field(default_factory=list)


class Promises(SympyQuestions):
    """Promises held against guards; see `ShapeEnv`."""

    def _check_fixed(self, at: Source, expr: sympy.Basic, promise: Any, report: Report) -> None:
        """A size was promised to vary, but is an expression or a number."""
        name = self._debug_name(at)
        strict = isinstance(promise, StrictMinMaxConstraint)
        if not expr.is_number:
            if not strict or self._keeps(promise, expr):
                return
            report.broken.append(
                (
                    promise.warn_only,
                    name,
                    f"Not all values of {self._render_range_for_constraint_violation(at, promise)}"
                    f" are valid because {name} was inferred to be equal to {expr}.",
                )
            )
            return
        if strict and promise.vr.lower == promise.vr.upper == expr:
            return
        if not strict and expr in (0, 1):
            return  # every program is specialised on those
        stack = self.specialization_stacks.get(at)
        because = f" It was specialised here:\n{''.join(stack.format())}" if stack else ""
        report.broken.append(
            (
                promise.warn_only,
                name,
                f"You marked {name} as dynamic but your code specialized it to be a constant "
                f"({expr}). Mark it static, or find what pins it.{because}",
            )
        )

    def _keeps(self, promise: Any, expr: sympy.Basic) -> bool:
        """Whether nothing but other promised or bounded sizes decides an expression."""
        return all(symbol in self._by_sympy for symbol in expr.free_symbols)

    def _debug_name(self, source: Source) -> str:
        return self.source_name_to_debug_name.get(source.name, source.name)

    def _render_range_for_constraint_violation(self, source: Source, c: Any) -> str:
        """A promise about a source in words."""
        if not isinstance(c, StrictMinMaxConstraint):
            return str(c.render(source))
        name = self._debug_name(source)
        usual = self._default_value_range()
        low = f"{c.vr.lower} <= " if c.vr.lower > usual.lower else ""
        high = f" <= {c.vr.upper}" if c.vr.upper < usual.upper else ""
        bounds = f" {low}{name}{high}" if low or high else ""
        return f"{name} = {source.name} in the specified range{bounds}"

    def _impose(
        self,
        equalities: EqualityConstraint,
        placeholders: Sequence[Any],
        sources: Sequence[Source],
        report: Report,
    ) -> None:
        """Hold what was said to be equal against the sizes at tracing, and rely on it."""
        place = {source.name: i for i, source in enumerate(sources)}

        def expression(source: Any) -> sympy.Basic:
            size = placeholders[place[source.base.name]].shape[source.idx]
            return size.node.expr if isinstance(size, SymTypes) else sympy.Integer(size)

        def value(expr: sympy.Basic) -> Any:
            return self.hint_of(self.read_registering(expr))

        for left, right in equalities.source_pairs:
            one, other = expression(left), expression(right)
            if not self.evaluate_expr(sympy.Eq(one, other)):
                raise ConstraintViolationError(
                    f"{left.name} = {value(one)} is not equal to {right.name} = {value(other)}",
                    fix="give dimensions that differ different names",
                )
        for source, root, function in equalities.derived_equalities:
            if isinstance(root, sympy.Basic):
                of, name = root, str(root)
                if root in self.var_to_sources:
                    name = self.var_to_sources[root][0].name
            else:
                of, name = expression(root), self._debug_name(root)
            expected, found = function(of), expression(source)
            if not self.evaluate_expr(sympy.Eq(found, expected)):
                raise ConstraintViolationError(
                    f"Expected input {source.name} to be equal to {function(sympy.Symbol(name))}, "
                    f"where {name} = {value(of)}, but got {value(found)}",
                    fix="make the sizes fit what was said of them",
                )
        for phantom in equalities.phantom_symbols:
            if isinstance(phantom, sympy.Symbol):
                known = self.var_to_sources.get(phantom, [])
                report.symbol_to_source.setdefault(phantom, []).extend(known)

    def _check_equality(
        self, at: Source, expr: sympy.Basic, promised: EqualityConstraint, report: Report
    ) -> None:
        (symbol,) = expr.free_symbols
        if symbol not in report.promises:
            return
        first = report.symbol_to_source[symbol][0]
        name, other = self._debug_name(at), self._debug_name(first)
        if isinstance(expr, sympy.Symbol):
            if not promised.is_equal(at, first):
                text = (
                    f"The values of {name} = {at.name} and {other} = {first.name} "
                    "must always be equal."
                )
                report.broken.append((promised.warn_only, name, text))
        elif not promised.is_derived(at, first, lambda x: expr.xreplace({symbol: x})):
            related = expr.xreplace({symbol: sympy.Symbol(other)})
            text = (
                f"The values of {name} = {at.name} must always be related to "
                f"the values of {other} = {first.name} by {name} = {related}."
            )
            report.broken.append((promised.warn_only, name, text))

    def _check_condition(
        self, symbol: sympy.Symbol, expr: sympy.Basic, why: str, report: Report
    ) -> None:
        """A guard on a size for which a range was promised, and what caused it."""
        printer = ShapeGuardPythonPrinter(
            report.symbol_to_source, lambda source: source.name, self.var_to_sources
        )
        for promise in report.promises.get(symbol, ()):
            source = report.symbol_to_source[symbol][0]
            where = self._render_range_for_constraint_violation(source, promise)
            guard = printer.doprint(expr)
            text = (
                f"Not all values of {where} satisfy the generated guard {guard}. "
                f"Promise only sizes for which it holds, or change what needs it: {why}."
            )
            report.broken.append((promise.warn_only, self._debug_name(source), text))

    def _check_range(
        self, symbol: sympy.Symbol, low: Any, high: Any, origins: ValueRangesSLoc, report: Report
    ) -> None:
        """The range of a size for which another one was promised, and what caused its ends."""
        from torch.utils._sympy.numbers import int_oo

        usual = self._default_value_range()
        for promise in report.promises.get(symbol, ()):
            promised = promise.vr & usual
            below = low is not None and promised.lower < low
            above = high is not None and promised.upper > high
            if below or above:
                source = report.symbol_to_source[symbol][0]
                where = self._render_range_for_constraint_violation(source, promise)
                ends = ((below, origins.lower), (above, origins.upper))
                why = " and ".join(dict.fromkeys(str(at) for broken, at in ends if broken))
                least, most = -int_oo if low is None else low, int_oo if high is None else high
                text = (
                    f"Not all values of {where} satisfy the generated guard "
                    f"{least} <= {source.name} <= {most}. Promise "
                    f"{max(least, promised.lower)} <= {source.name} <= {min(most, promised.upper)}"
                    f", or change what needs it: {why}."
                )
                report.broken.append((promise.warn_only, self._debug_name(source), text))


def raise_for(broken: list[tuple[bool, str, str]]) -> None:
    """Refuse a trace that breaks promises that are more than advice."""
    serious = dict.fromkeys((name, text) for warn_only, name, text in broken if not warn_only)
    if serious:
        names = ", ".join(sorted({name for name, _ in serious}))
        lines = "\n".join(f"  - {text}" for _, text in serious)
        raise ConstraintViolationError(f"Constraints violated ({names})!\n{lines}")
