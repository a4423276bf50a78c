"""Example sizes for the dimensions that a command line names without one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symfx.algebra import Table, Term, evaluate
from symfx.cli.described_inputs import Leaf, arguments_of, leaves_of
from symfx.errors import SpecError
from symfx.shape_language.lowering import condition_term, size_term
from symfx.shape_language.syntax import (
    InputSyntax,
    IntInput,
    Name,
    Number,
    Size,
    TensorSyntax,
    names_in,
)

if TYPE_CHECKING:
    from symfx.tracing.stated import Stated

__all__ = ["chosen_names", "example_sizes", "shape_of"]

#: How many sizes of one name, and how many combinations of sizes, are tried.
_SIZES, _TRIES = 4_000, 60_000


@dataclass(frozen=True)
class _Known:
    """What the inputs together say of a name."""

    low: int | None = None
    high: int | None = None
    example: int | None = None


def shape_of(leaf: Leaf, sizes: Mapping[str, int]) -> list[int]:
    """The sizes of a tensor.

    Args:
        leaf: the tensor.
        sizes: the size of each name.

    Raises:
        SpecError: an expression has a negative size, or divides by zero.
    """
    assert isinstance(leaf.type, TensorSyntax)
    table = Table()
    names = {name: table.const(size) for name, size in sizes.items()}
    shape = []
    for dim in leaf.type.dims:
        assert isinstance(dim, Size)
        size = int(evaluate(size_term(table, dim.value, names), {}))
        if size < 0:
            given = ", ".join(f"{name}={sizes[name]}" for name in names_in(dim.value))
            raise SpecError(
                f"{dim.value} is {size} for {given}, in {leaf.path}",
                where="--input",
                fix="give example sizes for which it is 0 or more",
            )
        shape.append(size)
    return shape


def chosen_names(inputs: Sequence[InputSyntax], stated: Sequence[Stated]) -> dict[str, int]:
    """The example sizes that descriptions left open, by name."""
    leaves = [leaf for argument in arguments_of(inputs).values() for leaf in leaves_of(argument)]
    known = _known(leaves)
    sizes = example_sizes(leaves, stated)
    return {name: size for name, size in sizes.items() if known[name].example is None}


def _known(leaves: Sequence[Leaf]) -> dict[str, _Known]:
    """Each name as all inputs together describe it."""
    known: dict[str, _Known] = {}
    for leaf in leaves:
        uses: list[tuple[str, _Known]] = []
        if isinstance(leaf.type, TensorSyntax):
            for dim in leaf.type.dims:
                if isinstance(dim, Size) and isinstance(dim.value, Name):
                    uses.append((dim.value.name, _Known(dim.low, dim.high, dim.example)))
                elif isinstance(dim, Size):
                    uses += [(name, _Known()) for name in names_in(dim.value)]
        elif isinstance(leaf.type, IntInput):
            uses.append((leaf.name, _Known(example=leaf.type.value)))
        for name, use in uses:
            before = known.get(name, _Known())
            known[name] = _Known(
                _agreed(name, "smallest size", before.low, use.low),
                _agreed(name, "largest size", before.high, use.high),
                _agreed(name, "example", before.example, use.example),
            )
    return known


def _agreed(name: str, what: str, one: int | None, other: int | None) -> int | None:
    """The one of two numbers that is given; both must be equal if both are given."""
    if one is not None and other is not None and one != other:
        raise SpecError(
            f"the dimension {name!r} has two values for its {what}: {one} and {other}",
            where="--input",
            fix="give one value, or use two names",
        )
    return other if one is None else one


def example_sizes(leaves: Sequence[Leaf], stated: Sequence[Stated]) -> dict[str, int]:
    """The example size of each name.

    Raises:
        SpecError: two descriptions of a name differ, or no sizes were found for which the
            conditions hold.
    """
    known = _known(leaves)
    taken = {0, 1} | {use.example for use in known.values() if use.example is not None}
    for leaf in leaves:
        for dim in leaf.type.dims if isinstance(leaf.type, TensorSyntax) else ():
            if isinstance(dim, Size) and isinstance(dim.value, Number):
                taken.add(dim.value.value)
    sizes: dict[str, int] = {}
    for name, use in known.items():
        low = 2 if use.low is None else use.low
        if use.high is not None and use.high < low:
            raise SpecError(
                f"dimension {name}: no size is at least {low} and at most {use.high}",
                where="--input",
                fix="give a smallest size that is not above the largest",
            )
        if use.example is not None:
            sizes[name] = use.example
            continue
        candidates = (n for n in itertools.count(max(low, 3)) if n not in taken)
        size = next(n for n in candidates if _is_odd_prime(n))
        if use.high is not None and size > use.high:
            # No such prime is in the range: take a size that is free, or else the largest.
            inside = range(low, use.high + 1)
            size = next((n for n in inside if n not in taken), max(use.high, low))
        sizes[name] = size
        taken.add(size)
    return _with_room(leaves, stated, _satisfying(stated, sizes, known), known)


def _with_room(
    leaves: Sequence[Leaf],
    stated: Sequence[Stated],
    sizes: dict[str, int],
    known: Mapping[str, _Known],
) -> dict[str, int]:
    """Sizes for which expressions such as ``3 - b`` are 2 or more too, or else 1."""
    table = Table()
    symbols = {name: table.symbol(name) for name in sizes}
    values = {symbols[name]: size for name, size in sizes.items()}
    dims = [
        size_term(table, dim.value, symbols)
        for leaf in leaves
        for dim in (leaf.type.dims if isinstance(leaf.type, TensorSyntax) else ())
        if isinstance(dim, Size) and names_in(dim.value) and not isinstance(dim.value, Name)
    ]
    narrow = [dim for dim in dims if not _hold([dim >= 2], values)]
    if not narrow:
        return sizes
    free = {symbol.name for dim in narrow for symbol in dim.free_symbols}
    held = {n: known[n] if n in free else _Known(example=sizes[n]) for n in sizes}
    conditions = [condition_term(table, s.tree, symbols, s.text) for s in stated]
    for least in (2, 1):
        wanted = [*conditions, *(dim >= least for dim in dims)]
        found = _search(wanted, [*sizes], symbols, sizes, held)
        if found is not None:
            return {**sizes, **found}
    return sizes


def _is_odd_prime(n: int) -> bool:
    return n > 2 and all(n % d for d in range(2, int(n**0.5) + 1))


def _satisfying(
    stated: Sequence[Stated], sizes: dict[str, int], known: Mapping[str, _Known]
) -> dict[str, int]:
    """Sizes for which the conditions hold, changed in no name without a condition that fails."""
    table = Table()
    symbols = {name: table.symbol(name) for name in sizes}
    terms = [condition_term(table, s.tree, symbols, s.text) for s in stated]
    waiting = list(zip(stated, terms, strict=True))
    while waiting:
        group = [waiting.pop(0)]
        names = {symbol.name for symbol in group[0][1].free_symbols}
        while near := [p for p in waiting if any(s.name in names for s in p[1].free_symbols)]:
            group += near
            waiting = [p for p in waiting if p not in near]
            names |= {symbol.name for _, term in near for symbol in term.free_symbols}
        together = [term for _, term in group]
        if not _hold(together, {symbols[name]: sizes[name] for name in names}):
            found = _search(together, sorted(names), symbols, sizes, known)
            if found is None:
                first, _ = group[0]
                raise first.text.error(
                    f"no sizes of {', '.join(sorted(names))} were found for which "
                    + " and ".join(str(condition) for condition, _ in group)
                    + (" hold" if len(group) > 1 else " holds"),
                    first.tree.at,
                    "give example sizes in --input, such as x: f32[n=8, 4]",
                )
            sizes = {**sizes, **found}
    return sizes


def _search(
    terms: Sequence[Term],
    names: Sequence[str],
    symbols: Mapping[str, Term],
    sizes: Mapping[str, int],
    known: Mapping[str, _Known],
) -> dict[str, int] | None:
    """Sizes of names for which conditions hold; None if none were found."""
    free = [name for name in names if known[name].example is None]
    others = {size for name, size in sizes.items() if name not in free}
    each = max(int(_TRIES ** (1 / max(len(free), 1))), 4)
    choices = [list(_choices(known[name], others))[: min(each, _SIZES)] for name in free]
    fixed = {symbols[name]: sizes[name] for name in names if name not in free}
    for tried in itertools.product(*choices):
        values = fixed | {symbols[n]: size for n, size in zip(free, tried, strict=True)}
        if _hold(terms, values):
            return dict(zip(free, tried, strict=True))
    return None


def _choices(use: _Known, others: set[int]) -> Iterator[int]:
    """Sizes of a name, those first that are no size of another dimension."""
    low = 2 if use.low is None else use.low
    high = low + _SIZES if use.high is None else use.high
    span = range(low, min(high, low + _SIZES) + 1)
    yield from (size for size in span if size not in others)
    yield from (size for size in span if size in others)


def _hold(terms: Sequence[Term], values: Mapping[Term, int]) -> bool:
    try:
        return all(evaluate(term, values) for term in terms)
    except ZeroDivisionError:
        return False
