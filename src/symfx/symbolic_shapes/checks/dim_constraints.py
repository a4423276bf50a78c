"""Which sizes do the guards admit? Ranges, remainders and equalities, and fixes to suggest.

Every constraint on one size is solved for it, around its value at tracing: the result is a range
of integers, a remainder, or one value. What is suggested is what was solved, and a fix that does
not imply all constraints on its size is not suggested.
"""

from __future__ import annotations

import ast
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sympy
from torch.utils._sympy import functions as torch_fn
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges

from symfx.algebra.reasoning import intervals
from symfx.errors import SymfxError
from symfx.symbolic_shapes.checks.text import DynamicDimConstraintPrinter
from symfx.symbolic_shapes.torch_api.standalone_questions import decide_under

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["DimConstraints"]

_REMAINDERS = (torch_fn.Mod, torch_fn.PythonMod, sympy.Mod)
_RATIONAL = (sympy.Symbol, sympy.Number, sympy.Add, sympy.Mul, sympy.Pow)
# A suggestion speaks of sizes; 0 and 1 are specialised on.
_LEAST_SIZE = 2


@dataclass(frozen=True)
class _Solution:
    """The sizes that the constraints on one symbol admit, around its value at tracing.

    Attributes:
        low: the least, None where there is none.
        high: the greatest.
        modulus: 1, or what the size leaves a remainder of.
        remainder: the remainder.
    """

    low: int | None
    high: int | None
    modulus: int
    remainder: int

    @property
    def value(self) -> int | None:
        """The only size, where there is one."""
        return self.low if self.low is not None and self.low == self.high else None


class DimConstraints:
    """The constraints that guards put on the sizes of inputs, and their solution.

    Args:
        symbol_to_source: the inputs that each symbol stands for.
        var_to_val: the value of each symbol at tracing.
        marked_dynamic: the symbols that were promised to vary.
        source_name_to_debug_name: what the user calls an input's size, by its source's name.

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
        # What was asked of one size alone, as it was asked.
        self._conditions_on: dict[sympy.Symbol, list[sympy.Basic]] = defaultdict(list)
        self._congruences: dict[sympy.Symbol, set[sympy.Basic]] = defaultdict(set)
        self._symbolic_equivalences: list[tuple[Source, sympy.Basic]] = []
        self._substitutions: dict[sympy.Symbol, sympy.Integer] = {}
        self._solutions: dict[sympy.Symbol, _Solution] = {}
        self._inconsistencies: list[str] = []
        self._static_results: set[str] = set()
        self._dynamic_results: set[str] = set()

    @property
    def static_results(self) -> set[str]:
        """The sizes that the constraints pin to one value, as ``source == value``."""
        return self._static_results

    @property
    def dynamic_results(self) -> set[str]:
        """What sizes that may vary must satisfy, as Python."""
        return self._dynamic_results

    # -- taking constraints ---------------------------------------------------------------------

    def add(self, expr: sympy.Basic) -> bool:
        """Take a condition on sizes.

        Args:
            expr: the condition, as sympy.

        Returns:
            Whether it says nothing.
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
            return False  # a disjunction: it has no one range to suggest
        if decide_under(expr, {}) == sympy.true:
            return True
        if isinstance(expr, sympy.Ne) and expr.has(torch_fn.FloorDiv):
            # The value at tracing is on one side; suggestions stay there.
            sides = (sympy.Lt(*expr.args), sympy.Gt(*expr.args))
            expr = next(s for s in sides if s.xreplace(self._var_to_val) == sympy.true)
        before = len(self._congruences[symbol])
        rewritten = self.rewrite_with_congruences(symbol, _without_floor(expr))
        if rewritten == sympy.true:
            return len(self._congruences[symbol]) == before
        if rewritten == sympy.false:
            self._inconsistencies.append(f"{expr} does not hold at tracing")
        elif all(isinstance(part, _RATIONAL) for side in rewritten.args
                 for part in sympy.preorder_traversal(side)):  # fmt: skip
            self._univariate_inequalities[symbol].add(rewritten)
        else:
            self._multivariate_inequalities.add(expr)  # beyond what is solved here
        return False

    def add_equality(self, source: Source, expr: sympy.Basic) -> None:
        """Take that a size equals an expression.

        Args:
            source: the size.
            expr: the expression, as sympy.
        """
        if expr.is_number:
            self._static_results.add(f"{source.name} == {expr}")
        else:
            self._symbolic_equivalences.append((source, expr))

    def rewrite_with_congruences(self, s: sympy.Symbol, expr: sympy.Basic) -> sympy.Basic:
        """An expression without ``//`` and ``%``, given what their remainders are at tracing.

        Each remainder gets its value at tracing; that it has it is taken as a congruence of the
        symbol. So every solution of the result and the congruences is one of the expression.

        Args:
            s: the only symbol in the expression.
            expr: an expression or a condition.
        """
        if not expr.args:
            return expr
        args = [self.rewrite_with_congruences(s, arg) for arg in expr.args]
        if isinstance(expr, (torch_fn.FloorDiv, torch_fn.CleanDiv, *_REMAINDERS)):
            base, divisor = args
            rest = base.xreplace(self._var_to_val) % divisor.xreplace(self._var_to_val)
            congruence = (base - rest) % divisor
            if congruence != 0:
                self._congruences[s].add(congruence)
            return rest if isinstance(expr, _REMAINDERS) else (base - rest) / divisor
        return expr if tuple(args) == expr.args else expr.func(*args)

    # -- solving --------------------------------------------------------------------------------

    def _reduce_congruences(self) -> dict[sympy.Symbol, set[sympy.Basic]]:
        """The congruences of each symbol as one of it alone, and those that have no such form."""
        reduced = {}
        for symbol, congruences in self._congruences.items():
            whole: intervals.Congruence | None = intervals.ANYTHING
            others: set[sympy.Basic] = set()
            for congruence in congruences:
                linear = _linear_congruence(symbol, congruence)
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

    def _modulus(self, symbol: sympy.Symbol) -> intervals.Congruence:
        result: intervals.Congruence = intervals.ANYTHING
        for congruence in self._congruences.get(symbol, ()):
            linear = _linear_congruence(symbol, congruence)
            met = None if linear is None else intervals.meet(result, linear)
            result = met or result
        return result

    def _raise_inconsistencies(self) -> None:
        if self._inconsistencies:
            lines = "\n".join(self._inconsistencies)
            self._inconsistencies.clear()
            raise ValueError(f"The following inconsistencies were found:\n{lines}")

    def solve(self) -> None:
        """Solve the constraints; `static_results` and `dynamic_results` say what came out.

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
            self._tell(symbol, solution)
        for source, expr in self._symbolic_equivalences:
            value = expr.xreplace(self._substitutions)
            if value.is_number:
                self._static_results.add(f"{source.name} == {value}")
            else:
                self._dynamic_results.add(f"{source.name} == {self._dcp.doprint(value)}")

    def _substitute(self, symbol: sympy.Symbol) -> set[sympy.Symbol]:
        """Put a symbol's value into the other constraints; which symbols have new ones then."""
        old, self._multivariate_inequalities = self._multivariate_inequalities, set()
        touched = set()
        for expr in old:
            self.add(expr.xreplace({symbol: self._substitutions[symbol]}))
            touched |= expr.free_symbols
        self._raise_inconsistencies()
        touched &= self._univariate_inequalities.keys() | self._congruences.keys()
        return touched - self._substitutions.keys()

    def _solve_one(self, symbol: sympy.Symbol) -> _Solution:
        """The range of one symbol around its value at tracing, and its remainder."""
        value = self._var_to_val.get(symbol)
        low = 1 if symbol.is_positive else 0 if symbol.is_nonnegative else None
        high = None
        for condition in self._univariate_inequalities.get(symbol, ()):
            at_least, at_most = _integers(condition, symbol, value)
            low = at_least if low is None else low if at_least is None else max(low, at_least)
            high = at_most if high is None else high if at_most is None else min(high, at_most)
        modulus, remainder = self._modulus(symbol)
        if modulus > 1:
            low = None if low is None else low + (remainder - low) % modulus
            high = None if high is None else high - (high - remainder) % modulus
        return _Solution(low, high, modulus, remainder)

    def _tell(self, symbol: sympy.Symbol, solution: _Solution) -> None:
        """Put a solution into words."""
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
        """Forget that sizes are at least 2, which is so by default."""
        start = f"{_LEAST_SIZE} <= "
        self._dynamic_results = {r for r in self._dynamic_results if not r.startswith(start)}

    def forced_specializations(self) -> dict[str, sympy.Basic]:
        """The sizes that were promised to vary and are pinned to one value, with the value.

        Returns:
            Values by ``"name = source"``, or by the source alone where it has no name.
        """
        names = self._dcp.source_name_to_debug_name
        forced = {}
        for symbol, value in self._substitutions.items():
            sources = self._dcp.symbol_to_source.get(symbol)
            if symbol in self._marked_dynamic and sources:
                name = sources[0].name
                forced[f"{names[name]} = {name}" if name in names else name] = value
        return forced

    # -- suggesting -----------------------------------------------------------------------------

    def prettify_results(
        self,
        original_signature: Any = None,
        dynamic_shapes: Any = None,
        constraint_violation_error: Any = None,
        forced_specializations: Mapping[str, Any] | None = None,
    ) -> str:
        """What to write in place of the dimensions that the program does not admit.

        Args:
            original_signature: the program's; kept for callers of torch's method.
            dynamic_shapes: the dimensions as they were given to ``torch.export``.
            constraint_violation_error: the error to be explained; kept likewise.
            forced_specializations: from `forced_specializations`.

        Returns:
            The explanation; empty where the user gave no names.
        """
        if not self._dcp.source_name_to_debug_name:
            return ""
        given = _given_dims(dynamic_shapes)
        text = _explain_forced(forced_specializations or {}, given)
        fixes = self._fixes(given)
        if fixes:
            text += "\nSuggested fixes:\n  " + "\n  ".join(fixes)
        return text

    def _name(self, symbol: sympy.Symbol) -> str | None:
        """What the user calls the size that a symbol stands for."""
        for source in self._dcp.symbol_to_source.get(symbol, ()):
            name = self._dcp.source_name_to_debug_name.get(source.name)
            if name is not None:
                return name
        return None

    def _holds(self, symbol: sympy.Symbol, solution: _Solution) -> bool:
        """Whether every size of a solution satisfies all that was asked of the size alone."""
        low, high = _quotients(solution)
        quotient = sympy.Symbol("q", integer=True)
        sizes = solution.modulus * quotient + solution.remainder
        bounds = ValueRanges(-int_oo if low is None else low, int_oo if high is None else high)
        return all(
            decide_under(condition.xreplace({symbol: sizes}), {quotient: bounds}) == sympy.true
            for condition in self._conditions_on[symbol]
        )

    def _fixes(self, given: Mapping[str, Any]) -> list[str]:
        """One line for each name that has to mean something else; each was tried."""
        ranges: dict[str, str] = {}
        equal: dict[str, str] = {}
        roots: dict[sympy.Symbol, sympy.Basic] = {}
        for symbol, solved in self._solutions.items():
            name, solution = self._name(symbol), solved
            if name is None:
                continue
            if not self._holds(symbol, solution):
                value = int(self._var_to_val[symbol])
                solution = _Solution(value, value, 1, 0)  # the size at tracing always will do
            root = _root_of(name)
            if root is not None:  # the user derived this size from another: mend that one
                of_root = _through(root, solution)
                if of_root is None:
                    continue
                name, solution = root[0], of_root
            roots[symbol] = sympy.Symbol(name)
            if solution.value is not None:
                roots[symbol] = sympy.Integer(solution.value)
                equal[name] = f"{name} = {solution.value}"
            elif solution.modulus > 1:
                fresh = f"_{name}"
                low, high = _quotients(solution)
                ranges[fresh] = _dim(fresh, low, high)
                derived = solution.modulus * sympy.Symbol(fresh) + solution.remainder
                roots[symbol] = derived
                equal[name] = f"{name} = {derived}"
            elif not _is_as_given(solution, given.get(name)):
                ranges[name] = _dim(name, solution.low, solution.high)
        for source, expr in self._symbolic_equivalences:
            name = self._dcp.source_name_to_debug_name.get(source.name)
            if name is None or _root_of(name) is not None:
                continue
            named = {s: self._name(s) for s in expr.free_symbols}
            if any(n is None for n in named.values()):
                continue
            meant = expr.xreplace({s: roots.get(s, sympy.Symbol(n)) for s, n in named.items()})
            if meant != sympy.Symbol(name):
                ranges.pop(name, None)
                equal[name] = f"{name} = {meant}"
        return [ranges[n] for n in sorted(ranges)] + [equal[n] for n in sorted(equal)]


# -- congruences --------------------------------------------------------------------------------


def _linear_congruence(symbol: sympy.Symbol, congruence: sympy.Basic) -> tuple[int, int] | None:
    """``(a*s + b) % d == 0`` as ``s == r (mod m)``, for rational a and b; None for other forms."""
    scale = sympy.Integer(1)
    if isinstance(congruence, sympy.Mul):  # sympy takes common factors out of a remainder
        scale, congruence = congruence.as_coeff_Mul()
    if not isinstance(congruence, _REMAINDERS) or scale == 0:
        return None
    base, divisor = congruence.args
    coefficient = base.coeff(symbol)
    rest = base - coefficient * symbol
    parts = (coefficient, rest, divisor)
    if not all(getattr(part, "is_Rational", False) for part in parts) or coefficient == 0:
        return None
    common = math.lcm(*(int(part.q) for part in parts))
    a, b, d = (int(part * common) for part in parts)
    g = math.gcd(a, d)
    if b % g:
        return None
    modulus = abs(d // g)
    if modulus == 1:
        return 1, 0
    return modulus, -(b // g) * pow(a // g, -1, modulus) % modulus


def _without_floor(condition: sympy.Basic) -> sympy.Basic:
    """``a * (p // d) + b < c`` and its like as bounds of p, where they are that exactly."""
    if not isinstance(condition, (sympy.Lt, sympy.Le, sympy.Gt, sympy.Ge)):
        return condition
    difference = condition.lhs - condition.rhs
    floors = difference.atoms(torch_fn.FloorDiv)
    if len(floors) != 1:
        return condition
    (floor,) = floors
    base, divisor = floor.args
    scale = difference.coeff(floor)
    rest = difference - scale * floor
    numbers = (divisor, scale, rest)
    if not all(n.is_Integer for n in numbers) or divisor <= 0 or base.has(torch_fn.FloorDiv):
        return condition
    # scale * floor + rest < 0 (or <=, >, >=): which integers may the quotient be?
    bound = -rest / scale
    strict = isinstance(condition, (sympy.Lt, sympy.Gt))
    if isinstance(condition, (sympy.Lt, sympy.Le)) == (scale > 0):
        most = sympy.ceiling(bound) - 1 if strict else sympy.floor(bound)
        return sympy.Lt(base, divisor * (most + 1))
    least = sympy.floor(bound) + 1 if strict else sympy.ceiling(bound)
    return sympy.Ge(base, divisor * least)


# -- ranges -------------------------------------------------------------------------------------


def _integers(
    condition: sympy.Basic, symbol: sympy.Symbol, value: Any
) -> tuple[int | None, int | None]:
    """The integers around a value for which a condition on one symbol holds."""
    # Of a symbol without assumptions sympy finds all solutions, and no others.
    x = sympy.Symbol("x", real=True)
    if isinstance(condition, sympy.Ne):
        return _between(sympy.Eq(*condition.args).xreplace({symbol: x}), value)
    try:
        where = condition.xreplace({symbol: x})
        solutions = where.as_set() if where not in (sympy.true, sympy.false) else None
    except NotImplementedError:
        solutions = None
    if solutions is None:
        return None, None
    pieces = solutions.args if isinstance(solutions, sympy.Union) else (solutions,)
    for piece in pieces:
        if isinstance(piece, sympy.FiniteSet):
            whole = [int(p) for p in piece if p.is_integer]
            if value is None and len(whole) == 1:
                return whole[0], whole[0]
            if value is not None and int(value) in whole:
                return int(value), int(value)
        elif isinstance(piece, sympy.Interval) and (value is None or piece.contains(value)):
            return _inside(piece)
    return None, None


def _between(equation: sympy.Basic, value: Any) -> tuple[int | None, int | None]:
    """The integers around a value that do not solve an equation."""
    solutions = equation.as_set() if equation not in (sympy.true, sympy.false) else sympy.EmptySet
    if not isinstance(solutions, sympy.FiniteSet) or value is None:
        return None, None
    excluded = [int(point) for point in solutions if point.is_integer]
    return (
        max((p + 1 for p in excluded if p < value), default=None),
        min((p - 1 for p in excluded if p > value), default=None),
    )


def _inside(piece: Any) -> tuple[int | None, int | None]:
    """The least and the greatest integer of an interval."""
    low = high = None
    if piece.start.is_finite:
        low = int(sympy.ceiling(piece.start))
        low += bool(piece.left_open and low == piece.start)
    if piece.end.is_finite:
        high = int(sympy.floor(piece.end))
        high -= bool(piece.right_open and high == piece.end)
    return low, high


def _quotients(solution: _Solution) -> tuple[int | None, int | None]:
    """The range of q where the size is ``modulus * q + remainder``."""
    low, high = (
        None if bound is None else (bound - solution.remainder) // solution.modulus
        for bound in (solution.low, solution.high)
    )
    return low, high


# -- names --------------------------------------------------------------------------------------


def _given_dims(dynamic_shapes: Any) -> dict[str, Any]:
    if not dynamic_shapes:
        return {}
    from torch.export.dynamic_shapes import _get_dim_name_mapping

    return dict(_get_dim_name_mapping(dynamic_shapes))


def _root_of(name: str) -> tuple[str, int, int] | None:
    """The root, factor and summand of a derived dimension's name, such as ``2*dx + 1``."""
    if name.isidentifier():
        return None
    tree = ast.parse(name, mode="eval").body
    roots = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    summand = _linear_value(tree, 0)
    return min(roots), _linear_value(tree, 1) - summand, summand


def _linear_value(tree: ast.AST, root: int) -> int:
    """The value of sums and products of integers and a name."""
    match tree:
        case ast.Name():
            return root
        case ast.Constant(value=int(number)):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_linear_value(inner, root)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _linear_value(left, root) + _linear_value(right, root)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _linear_value(left, root) - _linear_value(right, root)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _linear_value(left, root) * _linear_value(right, root)
    raise SymfxError(f"{ast.unparse(tree)!r} is no size derived from a dimension")


def _through(root: tuple[str, int, int], solution: _Solution) -> _Solution | None:
    """What the root of a derived size may be; None where that cannot be said in a range."""
    _, factor, summand = root
    if solution.modulus > 1 or factor <= 0:
        return None
    low = None if solution.low is None else -((summand - solution.low) // factor)
    high = None if solution.high is None else (solution.high - summand) // factor
    return _Solution(low, high, 1, 0)


def _is_as_given(solution: _Solution, dim: Any) -> bool:
    """Whether a range says no more than the user said already."""
    low = None if dim is None else max(_LEAST_SIZE, getattr(dim, "min", 0))
    top = getattr(dim, "max", None)
    high = int(top) if isinstance(top, int) else None
    solved = max(_LEAST_SIZE, solution.low or 0)
    return dim is not None and (solved, solution.high) == (low, high)


def _dim(name: str, low: int | None, high: int | None) -> str:
    bounds = [] if low is None or (low <= _LEAST_SIZE and name[0] != "_") else [f"min={low}"]
    bounds += [] if high is None else [f"max={high}"]
    return f"{name} = Dim({', '.join([repr(name), *bounds])})"


def _explain_forced(forced: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    if not forced:
        return ""
    names = set()
    for key in forced:
        name = key.split(" = ")[0]
        root = getattr(given.get(name), "root", None)
        names.add(name if root is None else root.__name__)
    text = f"Specializations unexpectedly required ({', '.join(sorted(names))})!\n"
    for key, value in sorted(forced.items()):
        text += f"  - solving the guards generated for {key} resulted in a specialized value of "
        text += f"{value}.\n"
    return text
