"""The sizes that the guards admit: ranges, remainders and equalities, and suggested fixes.

Every constraint on one size is solved for that size, around its value at tracing: the result is a
range of integers, a remainder, or one value. A fix is suggested only where it implies all
constraints on its size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._sympy import functions as torch_fn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra.reasoning import intervals
from symfx.symbolic_shapes.checks.dim_suggestions import (
    LEAST_SIZE,
    dim_text,
    explain_forced,
    given_dims,
    is_as_given,
    is_derivable,
    is_number,
    root_of,
    through_root,
)
from symfx.symbolic_shapes.checks.size_solutions import (
    REMAINDERS,
    SizeSolution,
    linear_congruence,
    solve_condition,
    without_floor,
)
from symfx.symbolic_shapes.checks.text import DynamicDimConstraintPrinter
from symfx.symbolic_shapes.torch_api.standalone_questions import decide_under

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["DimConstraints"]

_RATIONAL = (sympy.Symbol, sympy.Number, sympy.Add, sympy.Mul, sympy.Pow)


class DimConstraints:
    """The constraints that guards put on the sizes of inputs, and their solution.

    Args:
        symbol_to_source: the inputs that each symbol stands for.
        var_to_val: the value of each symbol at tracing.
        marked_dynamic: the symbols that were promised to vary.
        source_name_to_debug_name: the user's name of an input's size, by its source's name.

    Example:
        >>> from torch._dynamo.source import LocalSource, TensorProperty, TensorPropertySource
        >>> s = sympy.Symbol("s", integer=True, positive=True)
        >>> rows = TensorPropertySource(LocalSource("x"), TensorProperty.SIZE, 0)
        >>> constraints = DimConstraints({s: [rows]}, {s: sympy.Integer(8)}, {s}, {})
        >>> constraints.add(2 * s <= 40), constraints.add(s >= 4)
        (False, False)
        >>> constraints.solve()
        >>> sorted(constraints.dynamic_results)
        ["4 <= L['x'].size()[0]", "L['x'].size()[0] <= 20"]
    """

    def __init__(
        self,
        symbol_to_source: dict[sympy.Symbol, list[Source]],
        var_to_val: Mapping[sympy.Symbol, sympy.Integer],
        marked_dynamic: set[sympy.Symbol],
        source_name_to_debug_name: Mapping[str, str],
    ) -> None:
        self._var_to_val = var_to_val
        self._marked_dynamic = marked_dynamic
        self._dcp = DynamicDimConstraintPrinter(symbol_to_source, source_name_to_debug_name)
        self._univariate_inequalities: dict[sympy.Symbol, set[sympy.Basic]] = defaultdict(set)
        self._multivariate_inequalities: set[sympy.Basic] = set()
        # The conditions on one size alone, as they were added.
        self._conditions_on: dict[sympy.Symbol, list[sympy.Basic]] = defaultdict(list)
        self._congruences: dict[sympy.Symbol, set[sympy.Basic]] = defaultdict(set)
        self._constants: dict[str, int] = {}
        self._forced: dict[str, sympy.Basic] = {}
        self._symbolic_equivalences: list[tuple[Source, sympy.Basic]] = []
        self._substitutions: dict[sympy.Symbol, sympy.Integer] = {}
        self._solutions: dict[sympy.Symbol, SizeSolution] = {}
        self._inconsistencies: list[str] = []
        self._static_results: set[str] = set()
        self._dynamic_results: set[str] = set()

    @property
    def static_results(self) -> set[str]:
        """The sizes that the constraints pin to one value, as ``source == value``."""
        return self._static_results

    @property
    def dynamic_results(self) -> set[str]:
        """The conditions on sizes that may vary, as Python."""
        return self._dynamic_results

    # -- adding constraints ---------------------------------------------------------------------

    def add(self, expr: sympy.Basic) -> bool:
        """Add a condition on sizes.

        Args:
            expr: the condition, as sympy.

        Returns:
            Whether the condition always holds.
        """
        if expr in (True, sympy.true):
            return True
        if isinstance(expr, sympy.And):
            trivial = [self.add(part) for part in expr.args]
            return all(trivial)
        if expr.xreplace(self._var_to_val) == sympy.false:
            self._inconsistencies.append(f"{expr} does not hold at tracing")
            return False
        symbols = expr.free_symbols
        if len(symbols) > 1:
            self._multivariate_inequalities.add(expr)
            return False
        (symbol,) = symbols
        self._conditions_on[symbol].append(expr)
        if not isinstance(expr, sympy.core.relational.Relational):
            return False  # a disjunction: it admits no single range that could be suggested
        if decide_under(expr, {}) == sympy.true:
            return True
        if isinstance(expr, sympy.Ne) and expr.has(torch_fn.FloorDiv):
            # The value at tracing is on one side; suggestions stay there.
            sides = (sympy.Lt(*expr.args), sympy.Gt(*expr.args))
            expr = next(s for s in sides if s.xreplace(self._var_to_val) == sympy.true)
        before = len(self._congruences[symbol])
        rewritten = self.rewrite_with_congruences(symbol, without_floor(expr))
        if rewritten == sympy.true:
            return len(self._congruences[symbol]) == before
        if rewritten == sympy.false:
            self._inconsistencies.append(f"{expr} does not hold at tracing")
        elif all(isinstance(part, _RATIONAL) for side in rewritten.args
                 for part in sympy.preorder_traversal(side)):  # fmt: skip
            self._univariate_inequalities[symbol].add(rewritten)
        else:
            self._multivariate_inequalities.add(expr)  # it cannot be solved here
        return False

    def add_equality(self, source: Source, expr: sympy.Basic) -> None:
        """Add the equality of a size and an expression.

        Args:
            source: the size.
            expr: the expression, as sympy.
        """
        if expr.is_number:
            self._constants[source.name] = int(expr)
            self._static_results.add(f"{source.name} == {expr}")
        else:
            self._symbolic_equivalences.append((source, expr))

    def add_forced(self, source: Source, value: sympy.Basic) -> None:
        """Add a size that was promised to vary, and that the stated equalities pin to a value.

        Args:
            source: the size.
            value: its value.
        """
        self._forced[self._described(source.name)] = value

    def _described(self, source_name: str) -> str:
        name = self._dcp.source_name_to_debug_name.get(source_name)
        return source_name if name is None else f"{name} = {source_name}"

    def rewrite_with_congruences(self, s: sympy.Symbol, expr: sympy.Basic) -> sympy.Basic:
        """An expression without ``//`` and ``%``, given the values of the remainders at tracing.

        Each remainder is replaced by its value at tracing, and a congruence of the symbol states
        that value. Every solution of the result and the congruences solves the expression.

        Args:
            s: the only symbol in the expression.
            expr: an expression or a condition.
        """
        if not expr.args:
            return expr
        args = [self.rewrite_with_congruences(s, arg) for arg in expr.args]
        if isinstance(expr, (torch_fn.FloorDiv, torch_fn.CleanDiv, *REMAINDERS)):
            base, divisor = args
            rest = base.xreplace(self._var_to_val) % divisor.xreplace(self._var_to_val)
            congruence = (base - rest) % divisor
            if congruence != 0:
                self._congruences[s].add(congruence)
            return rest if isinstance(expr, REMAINDERS) else (base - rest) / divisor
        return expr if tuple(args) == expr.args else expr.func(*args)

    # -- solving --------------------------------------------------------------------------------

    def _reduce_congruences(self) -> dict[sympy.Symbol, set[sympy.Basic]]:
        """The congruences of each symbol, the linear ones among them combined into one."""
        reduced = {}
        for symbol, congruences in self._congruences.items():
            whole: intervals.Congruence | None = intervals.ANYTHING
            others: set[sympy.Basic] = set()
            for congruence in congruences:
                linear = linear_congruence(symbol, congruence)
                met = None if linear is None or whole is None else intervals.meet(whole, linear)
                if met is None:
                    others.add(congruence)
                else:
                    whole = met
            modulus, remainder = whole or intervals.ANYTHING
            found = {(symbol - remainder) % modulus} if modulus > 1 else set()
            tail = modulus * sympy.Symbol("tail", integer=True) + remainder
            reduced[symbol] = found | {c for c in others if c.xreplace({symbol: tail}) != 0}
        return reduced

    def _congruence_of(self, symbol: sympy.Symbol) -> intervals.Congruence:
        """The linear congruences of a symbol combined into one: a modulus and a remainder."""
        result: intervals.Congruence = intervals.ANYTHING
        for congruence in self._congruences.get(symbol, ()):
            linear = linear_congruence(symbol, congruence)
            met = None if linear is None else intervals.meet(result, linear)
            result = met or result
        return result

    def _raise_inconsistencies(self) -> None:
        if self._inconsistencies:
            lines = "\n".join(self._inconsistencies)
            self._inconsistencies.clear()
            raise ValueError(f"The following inconsistencies were found:\n{lines}")

    def solve(self) -> None:
        """Solve the constraints; `static_results` and `dynamic_results` are the solutions.

        Raises:
            ValueError: a constraint does not hold at tracing.
        """
        self._raise_inconsistencies()
        waiting = set(self._univariate_inequalities) | set(self._congruences)
        while waiting:
            symbol = min(waiting, key=str)
            waiting.discard(symbol)
            solution = self._solve_one(symbol)
            self._solutions[symbol] = solution
            if solution.value is None or symbol in self._substitutions:
                continue
            self._substitutions[symbol] = sympy.Integer(solution.value)
            waiting |= self._substitute(symbol)
        for symbol, solution in self._solutions.items():
            self._add_results(symbol, solution)
        for source, expr in self._symbolic_equivalences:
            value = expr.xreplace(self._substitutions)
            if value.is_number:
                self._static_results.add(f"{source.name} == {value}")
            else:
                self._dynamic_results.add(f"{source.name} == {self._dcp.doprint(value)}")

    def _substitute(self, symbol: sympy.Symbol) -> set[sympy.Symbol]:
        """Put a symbol's value into the constraints on several symbols.

        Returns:
            The symbols that have further constraints of their own now.
        """
        old, self._multivariate_inequalities = self._multivariate_inequalities, set()
        touched = set()
        for expr in old:
            self.add(expr.xreplace({symbol: self._substitutions[symbol]}))
            touched |= expr.free_symbols
        self._raise_inconsistencies()
        touched &= self._univariate_inequalities.keys() | self._congruences.keys()
        return touched - self._substitutions.keys()

    def _solve_one(self, symbol: sympy.Symbol) -> SizeSolution:
        """The range of one symbol around its value at tracing, and its remainder."""
        value = self._var_to_val.get(symbol)
        low = 1 if symbol.is_positive else 0 if symbol.is_nonnegative else None
        high = None
        for condition in self._univariate_inequalities.get(symbol, ()):
            at_least, at_most = solve_condition(condition, symbol, value)
            low = at_least if low is None else low if at_least is None else max(low, at_least)
            high = at_most if high is None else high if at_most is None else min(high, at_most)
        modulus, remainder = self._congruence_of(symbol)
        if modulus > 1:
            low = None if low is None else low + (remainder - low) % modulus
            high = None if high is None else high - (high - remainder) % modulus
        return SizeSolution(low, high, modulus, remainder)

    def _add_results(self, symbol: sympy.Symbol, solution: SizeSolution) -> None:
        """Add the solution of one symbol to the results."""
        sources = self._dcp.symbol_to_source.get(symbol)
        if not sources:
            return
        name = sources[0].name
        if solution.value is not None:
            self._static_results.add(f"{name} == {solution.value}")
            return
        if solution.modulus > 1:
            factor = f"{solution.modulus}*_{self._dcp.source_name_to_debug_name.get(name, name)}"
            rest = f" + {solution.remainder}" if solution.remainder else ""
            self._dynamic_results.add(f"{name} == {factor}{rest}")
        if solution.low is not None:
            self._dynamic_results.add(f"{solution.low} <= {name}")
        if solution.high is not None:
            self._dynamic_results.add(f"{name} <= {solution.high}")

    def remove_redundant_dynamic_results(self) -> None:
        """Drop the results that sizes are at least 2: they are so by default."""
        start = f"{LEAST_SIZE} <= "
        self._dynamic_results = {r for r in self._dynamic_results if not r.startswith(start)}

    def forced_specializations(self) -> dict[str, sympy.Basic]:
        """The sizes that were promised to vary and are pinned to one value, with the value.

        Returns:
            Values by ``"name = source"``, or by the source alone where it has no name.
        """
        forced = dict(self._forced)
        for symbol, value in self._substitutions.items():
            sources = self._dcp.symbol_to_source.get(symbol)
            if symbol in self._marked_dynamic and sources:
                forced[self._described(sources[0].name)] = value
        return forced

    # -- suggesting -----------------------------------------------------------------------------

    def prettify_results(
        self,
        original_signature: Any = None,
        dynamic_shapes: Any = None,
        constraint_violation_error: Any = None,
        forced_specializations: Mapping[str, Any] | None = None,
    ) -> str:
        """The dimensions to write in place of those that the program does not admit.

        Args:
            original_signature: not used; callers of torch's method pass it.
            dynamic_shapes: the dimensions as they were given to ``torch.export``.
            constraint_violation_error: not used; callers of torch's method pass it.
            forced_specializations: from `forced_specializations`.

        Returns:
            The explanation; empty where the user gave no names.
        """
        if not self._dcp.source_name_to_debug_name:
            return ""
        given = given_dims(dynamic_shapes)
        text = explain_forced(forced_specializations or {}, given)
        fixes = self._fixes(given)
        if fixes:
            text += "\nSuggested fixes:\n  " + "\n  ".join(fixes)
        return text

    def _name(self, symbol: sympy.Symbol) -> str | None:
        """The user's name of the size that a symbol stands for."""
        for source in self._dcp.symbol_to_source.get(symbol, ()):
            name = self._dcp.source_name_to_debug_name.get(source.name)
            if name is not None:
                return name
        return None

    def _holds(self, symbol: sympy.Symbol, solution: SizeSolution) -> bool:
        """Whether every size of a solution satisfies all conditions on the size alone."""
        low, high = solution.quotients()
        quotient = sympy.Symbol("q", integer=True)
        sizes = solution.modulus * quotient - solution.shortfall
        bounds = ValueRanges(-int_oo if low is None else low, int_oo if high is None else high)
        return all(
            decide_under(condition.xreplace({symbol: sizes}), {quotient: bounds}) == sympy.true
            for condition in self._conditions_on[symbol]
        )

    def _fixes(self, given: Mapping[str, Any]) -> list[str]:
        """One line for each name that needs another dimension; each satisfies the conditions."""
        ranges: dict[str, str] = {}
        equal: dict[str, str] = {}
        roots: dict[sympy.Symbol, sympy.Basic] = {}
        for symbol, solved in self._solutions.items():
            name, solution = self._name(symbol), solved
            if name is None or is_number(name):
                continue
            if not self._holds(symbol, solution):
                value = int(self._var_to_val[symbol])
                solution = SizeSolution(value, value, 1, 0)  # the size at tracing always holds
            root = root_of(name)
            if root is not None:  # the user derived this size from another: suggest that one
                of_root = through_root(root, solution)
                if of_root is None:
                    continue
                name, solution = root[0], of_root
            roots[symbol] = sympy.Symbol(name)
            if solution.value is not None:
                roots[symbol] = sympy.Integer(solution.value)
                equal[name] = f"{name} = {solution.value}"
            elif solution.modulus > 1:
                fresh = f"_{name}"
                low, high = solution.quotients()
                ranges[fresh] = dim_text(fresh, low, high, below=solution.shortfall > 0)
                derived = solution.modulus * sympy.Symbol(fresh) - solution.shortfall
                roots[symbol] = derived
                equal[name] = f"{name} = {derived}"
            elif not is_as_given(solution, given.get(name)):
                ranges[name] = dim_text(name, solution.low, solution.high)
        for at, value in self._constants.items():
            name = self._dcp.source_name_to_debug_name.get(at)
            if name is None or is_number(name):
                continue
            root = root_of(name)
            if root is not None:
                name, (factor, summand) = root[0], root[1:]
                value = (value - summand) // factor if factor else value  # noqa: PLW2901
            equal[name] = f"{name} = {value}"
        for source, expr in self._symbolic_equivalences:
            # The size of an automatic dimension has no name but its source.
            name = self._dcp.source_name_to_debug_name.get(source.name, source.name)
            if is_number(name) or (name != source.name and root_of(name) is not None):
                continue
            named = {s: self._name(s) for s in expr.free_symbols}
            if any(n is None for n in named.values()):
                continue
            meant = expr.xreplace({s: roots.get(s, sympy.Symbol(n)) for s, n in named.items()})
            if meant != sympy.Symbol(name) and is_derivable(meant):
                ranges.pop(name, None)
                equal[name] = f"{name} = {meant}"
        return [ranges[n] for n in sorted(ranges)] + [equal[n] for n in sorted(equal)]
