"""Promises about sizes, such as that they vary or are equal, compared with the guards of a trace.

torch's classes call a promise a constraint: `StrictMinMaxConstraint` promises a range of sizes,
`RelaxedUnspecConstraint` a size that varies, `EqualityConstraint` relations between sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sympy

from symfx.sym_node import SymTypes
from symfx.symbolic_shapes.checks.text import ShapeGuardPythonPrinter
from symfx.symbolic_shapes.errors import ConstraintViolationError
from symfx.symbolic_shapes.records import ValueRangesSLoc
from symfx.symbolic_shapes.torch_api.constraints import EqualityConstraint, StrictMinMaxConstraint

if TYPE_CHECKING:
    from torch._guards import Source

    from symfx.symbolic_shapes.shape_env import ShapeEnv

__all__ = ["Promises"]


class Promises:
    """The promises about the inputs of one trace, and those that tracing broke.

    Args:
        env: the environment of the trace.

    Attributes:
        sources: the inputs that each symbol stands for; the input that defines it comes first.
        ranges: the promised ranges of each symbol.
        broken: each broken promise: whether it only warns, the input's name, and the message.
        solved: the promised sizes that the stated equalities leave one value, with the value.
    """

    def __init__(self, env: ShapeEnv) -> None:
        self._env = env
        self.sources: dict[sympy.Symbol, list[Source]] = {}
        self.ranges: dict[sympy.Symbol, list[Any]] = {}
        self.broken: list[tuple[bool, str, str]] = []
        self.solved: list[tuple[Source, sympy.Basic]] = []
        self._pinned: set[sympy.Symbol] = set()

    def raise_if_broken(self) -> None:
        """Refuse a trace that breaks a promise which does more than warn.

        Raises:
            ConstraintViolationError: the message names each broken promise and its cause.
        """
        serious = dict.fromkeys((name, text) for warns, name, text in self.broken if not warns)
        if serious:
            names = ", ".join(sorted({name for name, _ in serious}))
            lines = "\n".join(f"  - {text}" for _, text in serious)
            raise ConstraintViolationError(
                f"Constraints violated ({names})! For more information, run with "
                f'TORCH_LOGS="+dynamic".\n{lines}'
            )

    def name_of(self, source: Source) -> str:
        """The name by which messages call an input."""
        return self._env.source_name_to_debug_name.get(source.name, source.name)

    # -- equalities that the caller states ---------------------------------------------------------

    def impose(
        self, equalities: EqualityConstraint, placeholders: Sequence[Any], sources: Sequence[Source]
    ) -> None:
        """Check the stated equalities against the sizes at tracing, and guard on them.

        Raises:
            ConstraintViolationError: the sizes at tracing differ.
        """
        env = self._env
        place = {source.name: i for i, source in enumerate(sources)}

        def expression(source: Any) -> sympy.Basic:
            size = placeholders[place[source.base.name]].shape[source.idx]
            return size.node.expr if isinstance(size, SymTypes) else sympy.Integer(size)

        def value(expr: sympy.Basic) -> Any:
            return env.hint_of(env.read_registering(expr))

        for left, right in equalities.source_pairs:
            one, other = expression(left), expression(right)
            if not env.evaluate_expr(sympy.Eq(one, other)):
                raise ConstraintViolationError(
                    f"{left.name} = {value(one)} is not equal to {right.name} = {value(other)}",
                    fix="give dimensions that differ different names",
                )
        for source, root, function in equalities.derived_equalities:
            if isinstance(root, sympy.Basic):
                of, name = root, str(root)
                if root in env.var_to_sources:
                    name = env.var_to_sources[root][0].name
            else:
                of, name = expression(root), self.name_of(root)
            expected, found = function(of), expression(source)
            in_both = found.free_symbols & expected.free_symbols
            if not env.evaluate_expr(sympy.Eq(found, expected)):
                raise ConstraintViolationError(
                    f"Expected input {source.name} to be equal to {function(sympy.Symbol(name))}, "
                    f"where {name} = {value(of)}, but got {value(found)}",
                    fix="give inputs whose sizes have the stated relation, or state another one",
                )
            self._pinned |= {s for s in in_both if env.simplify(s).is_number}
        for phantom in equalities.phantom_symbols:
            if isinstance(phantom, sympy.Symbol):
                known = env.var_to_sources.get(phantom, [])
                self.sources.setdefault(phantom, []).extend(known)

    def check_equality(self, at: Source, expr: sympy.Basic, stated: EqualityConstraint) -> None:
        """Compare an input's expression with the equalities that the caller stated."""
        (symbol,) = expr.free_symbols
        if symbol not in self.ranges:
            return
        first = self.sources[symbol][0]
        name, other = self.name_of(at), self.name_of(first)
        if isinstance(expr, sympy.Symbol):
            if not stated.is_equal(at, first):
                text = (
                    f"The values of {name} = {at.name} and {other} = {first.name} "
                    "must always be equal."
                )
                self.broken.append((stated.warn_only, name, text))
        elif not stated.is_derived(at, first, lambda x: expr.xreplace({symbol: x})):
            related = expr.xreplace({symbol: sympy.Symbol(other)})
            text = (
                f"The values of {name} = {at.name} must always be related to "
                f"the values of {other} = {first.name} by {name} = {related}."
            )
            self.broken.append((stated.warn_only, name, text))

    # -- promised ranges ---------------------------------------------------------------------------

    def check_expression(self, at: Source, expr: sympy.Basic, promise: Any) -> None:
        """Check a promise about a size that is an expression or a number, not a symbol."""
        name = self.name_of(at)
        strict = isinstance(promise, StrictMinMaxConstraint)
        if not expr.is_number:
            if not strict or all(s in self._env.symbols.by_sympy for s in expr.free_symbols):
                return
            text = (
                f"Not all values of {self._in_words(at, promise)}"
                f" are valid because {name} was inferred to be equal to {expr}."
            )
            self.broken.append((promise.warn_only, name, text))
            return
        if strict and promise.vr.lower == promise.vr.upper == expr:
            return
        if not strict and expr in (0, 1):
            return  # every program is specialized on those
        stack = self._env.specialization_stacks.get(at)
        because = f"\n\nUser stack:\n{''.join(stack.format())}" if stack else ""
        text = (
            f"You marked {name} as dynamic but your code specialized it to be a constant "
            f"({expr}). If you're using mark_dynamic, either remove it or use maybe_mark_dynamic. "
            f"If you're using Dim.DYNAMIC, replace it with either Dim.STATIC or Dim.AUTO.{because}"
        )
        self.broken.append((promise.warn_only, name, text))
        if self._env.source_to_var.get(at.name) in self._pinned:
            self.solved.append((at, expr))

    def check_guard(self, symbol: sympy.Symbol, guard: sympy.Basic, cause: str) -> None:
        """Report a guard on a symbol for which a range was promised."""
        printer = ShapeGuardPythonPrinter(
            self.sources, lambda source: source.name, self._env.var_to_sources
        )
        for promise in self.ranges.get(symbol, ()):
            source = self.sources[symbol][0]
            text = (
                f"Not all values of {self._in_words(source, promise)} satisfy the generated guard "
                f"{printer.doprint(guard)}. "
                f"Promise only sizes for which it holds, or change what needs it: {cause}."
            )
            self.broken.append((promise.warn_only, self.name_of(source), text))

    def check_range(
        self, symbol: sympy.Symbol, low: Any, high: Any, origins: ValueRangesSLoc
    ) -> None:
        """Compare the range of a symbol with the promised one.

        Args:
            symbol: the symbol.
            low: its lower bound, None where it has none.
            high: its upper bound, None where it has none.
            origins: the causes of the bounds.
        """
        from torch.utils._sympy.numbers import int_oo

        usual = self._env._default_value_range()
        for promise in self.ranges.get(symbol, ()):
            promised = promise.vr & usual
            below = low is not None and promised.lower < low
            above = high is not None and promised.upper > high
            if below or above:
                source = self.sources[symbol][0]
                ends = ((below, origins.lower), (above, origins.upper))
                cause = " and ".join(dict.fromkeys(str(at) for broken, at in ends if broken))
                least, most = -int_oo if low is None else low, int_oo if high is None else high
                ends_in_words = [f"{least} <= {source.name}"] if low is not None else []
                ends_in_words += [f"{source.name} <= {most}"] if high is not None else []
                text = (
                    f"Not all values of {self._in_words(source, promise)} satisfy the generated "
                    f"guard {' and '.join(ends_in_words)}. Promise "
                    f"{max(least, promised.lower)} <= {source.name} <= {min(most, promised.upper)}"
                    f", or change what needs it: {cause}."
                )
                self.broken.append((promise.warn_only, self.name_of(source), text))

    def _in_words(self, source: Source, promise: Any) -> str:
        """A promise about an input in words."""
        if not isinstance(promise, StrictMinMaxConstraint):
            return str(promise.render(source))
        name = self.name_of(source)
        usual = self._env._default_value_range()
        low = f"{promise.vr.lower} <= " if promise.vr.lower > usual.lower else ""
        high = f" <= {promise.vr.upper}" if promise.vr.upper < usual.upper else ""
        bounds = f" {low}{name}{high}" if low or high else ""
        return f"{name} = {source.name} in the specified range{bounds}"
