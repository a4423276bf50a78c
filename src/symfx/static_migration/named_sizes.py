"""The effects of a program on the user's named sizes: conditions, and names that it fixes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.fx import Node

from symfx.algebra import Term, evaluate
from symfx.algebra.reasoning.plain_forms import plain_form
from symfx.static_migration.decisions import branch_taken
from symfx.static_migration.printing import place_of
from symfx.static_migration.results import ExcludedSizes, FixedName
from symfx.static_migration.solver import Solver, smallest_conflict
from symfx.static_migration.term_sizes import Demand, TermSizes

__all__ = [
    "NamedCondition",
    "conditions_of",
    "excluded_sizes",
    "fixed_names",
    "from_two",
    "said_of",
]

#: With more conditions than this, a condition that follows from the others is kept too.
_MOST_CONDITIONS = 40
#: Conditions on one size are tried at the sizes below this, for remainders by less than the second.
_MOST_TRIED, _MOST_REMAINDERS = 400, 130
#: Seconds for each question whether a condition on several names is one on each of them.
_SECONDS = 2.0


# -- conditions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NamedCondition:
    """A condition on the named sizes.

    Args:
        text: the condition as text.
        term: the condition.
        origin: the line that caused it, for a guard of a trace.
    """

    text: str
    term: Term
    origin: str = ""


def conditions_of(
    sizes: TermSizes, declared: Sequence[str], solver: Solver
) -> list[NamedCondition]:
    """The demands, without those that follow from others or that say little."""
    found: dict[str, NamedCondition] = {}
    for name in declared:
        symbol = sizes.table.symbol(name)
        term = sizes.facts.resolve(symbol)
        if term is not symbol and term.value is None:
            text = f"{name} == {term}"
            found[text] = NamedCondition(text, symbol.eq(term))
    for symbol in sorted(_data_symbols(sizes), key=lambda symbol: symbol.uid):
        term = sizes.facts.resolve(symbol)
        if term.value is not None:
            text = f"{symbol.name} == {term}"
            found[text] = NamedCondition(text, symbol.eq(term))
    for demand in sizes.demands:
        whole = plain_form(sizes.facts.resolve(demand.condition))
        for part in whole.args if whole.op == "and" else (whole,):
            condition = from_two(plain_form(part))
            if condition.op != "const" and not _is_trivial(condition):
                text = str(condition)
                found.setdefault(text, NamedCondition(text, condition, demand.origin))
    return _simplified(_without_implied([*found.values()], solver), solver)


def _data_symbols(sizes: TermSizes) -> set[Term]:
    """The sizes that depend on data, and that some operator demands something of."""
    symbols = {s for demand in sizes.demands for s in demand.condition.free_symbols}
    return {symbol for symbol in symbols if re.fullmatch(r"u\d+", symbol.name)}


def from_two(condition: Term) -> Term:
    """``n != 1`` as ``n >= 2``, and ``n <= 1`` as ``n == 1``, since named sizes are 1 or more.

    Any other condition is returned unchanged.
    """
    if len(condition.free_symbols) != 1:
        return condition
    (symbol,) = condition.free_symbols
    if re.fullmatch(r"u\d+", symbol.name):
        return condition
    if condition is symbol.ne(1):
        return symbol >= 2
    return symbol.eq(1) if condition is (symbol <= 1) else condition


def _without_implied(conditions: list[NamedCondition], solver: Solver) -> list[NamedCondition]:
    """The conditions that do not follow from the others."""
    kept = [*conditions]
    if len(kept) > _MOST_CONDITIONS:
        return kept
    not_negative = [symbol >= 0 for c in conditions for symbol in c.term.free_symbols]
    for condition in conditions:
        others = [other.term for other in kept if other is not condition]
        if solver.follows([*not_negative, *others], condition.term):
            kept.remove(condition)
    return kept


def _simplified(conditions: list[NamedCondition], solver: Solver) -> list[NamedCondition]:
    """The conditions with those on one size written as a range and a remainder if they are that.

    ``h == 2*(h//2)`` and ``h//2 == 2*(h//4)`` together are ``h % 4 == 0``.
    """
    conditions = [part for whole in conditions for part in _factors_of_one(whole, solver)]
    conditions = [part for whole in conditions for part in _bounds_of_quotient(whole)]
    conditions = [part for whole in conditions for part in _remainders(whole)]
    by_symbol: dict[Term, list[NamedCondition]] = {}
    for condition in conditions:
        if len(condition.term.free_symbols) == 1:
            (symbol,) = condition.term.free_symbols
            by_symbol.setdefault(symbol, []).append(condition)
    written: dict[int, list[NamedCondition]] = {}
    for symbol, group in by_symbol.items():
        simple = _range_and_remainder(symbol, group, solver)
        if simple is not None:
            written |= {id(condition): [] for condition in group}
            written[id(group[0])] = simple
    return [new for old in conditions for new in written.get(id(old), [old])]


def _factors_of_one(condition: NamedCondition, solver: Solver) -> list[NamedCondition]:
    """``a*b == 1`` as ``a == 1`` and ``b == 1``, if no factor can be negative."""
    product = _side_of_equation(condition.term, 1)
    if product is None or len(product.factors) < 2:
        return [condition]
    positive = [symbol >= 1 for symbol in condition.term.free_symbols]
    if not all(solver.follows(positive, factor >= 0) for factor in product.factors):
        return [condition]
    parts = [factor.eq(1) for factor in product.factors]
    return [NamedCondition(str(part), part, condition.origin) for part in parts]


def _bounds_of_quotient(condition: NamedCondition) -> list[NamedCondition]:
    """``a//k == 1`` as the bounds of ``a``."""
    quotient = _side_of_equation(condition.term, 1)
    if quotient is None or quotient.op != "floordiv" or quotient.args[1].value is None:
        return [condition]
    above, below = quotient.args
    bounds = (above >= below, above <= 2 * below - 1)
    terms = [term for term in bounds if not _is_trivial(term)]
    return [NamedCondition(str(term), term, condition.origin) for term in terms]


def _side_of_equation(term: Term, number: int) -> Term | None:
    """The only monomial of ``monomial == number``; ``None`` for other conditions."""
    if term.op != "eq" or len(term.args) != 1:
        return None
    total = term.args[0]
    if total.op != "sum" or total.const != -number or [*total.coeffs.values()] != [1]:
        return None
    monomial: Term = next(iter(total.coeffs))
    return monomial


def _remainders(condition: NamedCondition) -> list[NamedCondition]:
    """An equation of several names as one remainder for each, if it says that and no more.

    ``h*w == 49*(h//7)*(w//7)`` is ``h % 7 == 0`` and ``w % 7 == 0``.
    """
    symbols = condition.term.free_symbols
    if condition.term.op != "eq" or len(symbols) < 2:
        return [condition]
    quotients = sorted(_quotients(condition.term), key=lambda term: term.uid)
    terms = [(q.args[0] % q.args[1]).eq(0) for q in quotients]
    positive = [symbol >= 1 for symbol in symbols]
    solver = Solver(_SECONDS)
    if not terms or not solver.follows([*positive, *terms], condition.term):
        return [condition]
    if not all(solver.follows([*positive, condition.term], term) for term in terms):
        return [condition]
    return [NamedCondition(str(term), term, condition.origin) for term in terms]


def _quotients(term: Term) -> set[Term]:
    """The names divided by numbers in a term."""
    if term.op == "floordiv" and term.args[1].value is not None:
        return {term} if term.args[0].op == "symbol" else set()
    parts = [*term.args, *(term.coeffs if term.op == "sum" else ())]
    return {found for part in parts if isinstance(part, Term) for found in _quotients(part)}


def _range_and_remainder(
    symbol: Term, group: list[NamedCondition], solver: Solver
) -> list[NamedCondition] | None:
    """Conditions on one size as bounds and a remainder; ``None`` if they are not of this form."""
    try:
        fitting = [
            size
            for size in range(1, _MOST_TRIED)
            if all(evaluate(condition.term, {symbol: size}) for condition in group)
        ]
    except (KeyError, ZeroDivisionError, OverflowError):
        return None
    if not fitting:
        return None
    low, high = fitting[0], fitting[-1]
    step = _step_of(fitting)
    if step is None:
        return _with_an_exception(symbol, fitting, group, solver)
    bounded = high < _MOST_TRIED - _MOST_REMAINDERS
    if bounded and step > 1:
        return None  # "n == 1 or n == 4" says more than a remainder within bounds
    terms: list[Term] = [symbol.eq(low)] if low == high else []
    if step > 1:
        terms.append((symbol % step).eq(low % step))
    if low > (low % step or step) and low < high:
        terms.append(symbol >= low)
    if bounded and low < high:
        terms.append(symbol <= high)
    old = [condition.term for condition in group]
    positive = [symbol >= 1]
    if not all(solver.follows([*positive, *old], term) for term in terms):
        return None
    if not all(solver.follows([*positive, *terms], term) for term in old):
        return None
    origin = next((c.origin for c in reversed(group) if c.origin), "")
    return [NamedCondition(str(term), term, origin) for term in terms]


def _step_of(sizes: Sequence[int]) -> int | None:
    """The distance of sizes that all have the same distance; ``None`` for other sizes."""
    low, high = sizes[0], sizes[-1]
    steps = range(1, _MOST_REMAINDERS)
    return next((step for step in steps if [*sizes] == [*range(low, high + 1, step)]), None)


def _with_an_exception(
    symbol: Term, fitting: Sequence[int], group: list[NamedCondition], solver: Solver
) -> list[NamedCondition] | None:
    """Conditions on one size with one small exception.

    ``h == 2 or h % 2 == 1``, ``t == 1 or t >= 64``.
    """
    for size in fitting[:3]:
        rest = [other for other in fitting if other != size]
        step = _step_of(rest) if rest else None
        if step is None or rest[-1] < _MOST_TRIED - step - 1 or (step > 1 and rest[0] > step):
            continue
        table = symbol.table
        exception = symbol.eq(size)
        others = symbol >= rest[0] if step == 1 else (symbol % step).eq(rest[0] % step)
        term = table.or_(exception, others)
        old = table.and_(*(condition.term for condition in group))
        if solver.follows([symbol >= 1, old], term) and solver.follows([symbol >= 1, term], old):
            origin = next((c.origin for c in reversed(group) if c.origin), "")
            return [NamedCondition(str(term), term, origin)]
    return None


def _is_trivial(condition: Term) -> bool:
    """Whether a condition only says that one named size is at least 1, or at least 0."""
    if condition.op != "ge" or len(condition.free_symbols) != 1:
        return False
    (symbol,) = condition.free_symbols
    return str(condition) in (f"{symbol.name} >= 0", f"{symbol.name} >= 1")


# -- names -----------------------------------------------------------------------------------------


def fixed_names(
    sizes: TermSizes, declared: Sequence[str], solver: Solver, root: torch.nn.Module
) -> list[tuple[FixedName, list[Node]]]:
    """The declared names that the program fixes to numbers, and the user's conditions do not.

    Each comes with the nodes that fix it.
    """
    said = said_of(sizes)
    fixed: list[tuple[FixedName, list[Node]]] = []
    for name in declared:
        symbol = sizes.table.symbol(name)
        term = sizes.facts.resolve(symbol)
        if term.value is None:
            continue
        equation = symbol.eq(term)
        if solver.follows(said, equation):
            continue
        origin, nodes = _origin_of(sizes, equation, solver, root)
        first = _first_origin(sizes, symbol, equation, solver, root)
        if first and nodes and first not in origin:
            origin = f"{first} (with {origin})"
        fixed.append((FixedName(name, int(term.value), origin), nodes))
    return fixed


def _first_origin(
    sizes: TermSizes, symbol: Term, equation: Term, solver: Solver, root: torch.nn.Module
) -> str:
    """The first operator after which a size is a number, unless it is 1."""
    for demand in sizes.demands:
        if demand.node is None or symbol not in demand.condition.free_symbols:
            continue
        if solver.follows([symbol >= 2, demand.condition], equation):
            return _origin_of_demand(demand, root)
    return ""


def excluded_sizes(
    sizes: TermSizes,
    declared: Sequence[str],
    conditions: Sequence[NamedCondition],
    solver: Solver,
    root: torch.nn.Module,
) -> list[tuple[ExcludedSizes, list[Node]]]:
    """The conditions on declared names that do not follow from the user's own.

    Each comes with the nodes that demand it.
    """
    said = said_of(sizes)
    excluded: list[tuple[ExcludedSizes, list[Node]]] = []
    for found in conditions:
        condition = found.term
        names = [name for name in declared if sizes.table.symbol(name) in condition.free_symbols]
        if not names or _on_data(condition) or solver.follows(said, condition):
            continue
        failing = solver.ask([*said, sizes.table.not_(condition)], small=True)
        values = {name: failing.values[name] for name in names if name in failing.values}
        origin, nodes = _origin_of(sizes, condition, solver, root)
        excluded.append((ExcludedSizes(found.text, values, origin), nodes))
    return excluded


def _on_data(condition: Term) -> bool:
    """Whether a condition has a size that depends on data."""
    return any(re.fullmatch(r"u\d+", symbol.name) for symbol in condition.free_symbols)


def said_of(sizes: TermSizes) -> list[Term]:
    """The user's conditions, those of the path, and that sizes of inputs are 1 or more."""
    return [
        d.condition
        for d in sizes.demands
        if (d.node.target is branch_taken if d.node is not None else not d.origin)
    ]


def _origin_of(
    sizes: TermSizes, conclusion: Term, solver: Solver, root: torch.nn.Module
) -> tuple[str, list[Node]]:
    """The lines of the operators that are needed for a conclusion, and their nodes."""
    demands = sizes.demands
    negation = sizes.table.not_(conclusion)
    core = smallest_conflict(solver, [*(d.condition for d in demands), negation])
    needed = [demands[i] for i in core if i < len(demands)] or [
        d for d in demands if d.condition.free_symbols & conclusion.free_symbols
    ]
    origins = [place for demand in needed if (place := _origin_of_demand(demand, root))]
    nodes = [demand.node for demand in needed if demand.node is not None]
    first, *further = [*dict.fromkeys(origins)] or ["the program"]
    return f"{first} (with {further[-1]})" if further else first, nodes


def _origin_of_demand(demand: Demand, root: torch.nn.Module) -> str:
    if demand.origin:
        return demand.origin
    return place_of(demand.node, root) if demand.node is not None else ""
