"""Integer terms read as multiples of one symbol."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from symfx.algebra.terms.term import Term

__all__ = ["determined_symbols", "solved_for"]


def solved_for(term: Term, symbol: Term) -> tuple[int, Term] | None:
    """An integer term as a multiple of a symbol and a rest without it.

    Returns:
        The factor and the rest; None for a term of another form, whose value does not determine
        that of the symbol.

    Example:
        >>> from symfx.algebra import Table
        >>> table = Table()
        >>> n = table.symbol("n")
        >>> factor, rest = solved_for(8 * n + 3, n)
        >>> factor, str(rest)
        (8, '3')
        >>> solved_for(n // 2, n)
    """
    factor = term.coeffs.get(symbol) if term.sort == "int" else None
    if not factor:
        return None
    rest = term - symbol * factor
    return None if symbol in rest.free_symbols else (int(factor), rest)


def determined_symbols(
    terms: Iterable[Term], known: Collection[Term]
) -> list[tuple[Term, Term, int, Term]]:
    """The symbols whose values follow from the values of terms, in an order to compute them.

    Args:
        terms: the terms whose values are known.
        known: the symbols whose values are known.

    Returns:
        For each further symbol the symbol, the term that determines it, and the factor and the
        rest of that term: the symbol is ``(term - rest) // factor``. The rest has only symbols
        that are known or stand before.

    Example:
        >>> from symfx.algebra import Table
        >>> table = Table()
        >>> n, m = table.symbol("n"), table.symbol("m")
        >>> found = determined_symbols([n + m, 2 * m], [])
        >>> [(str(symbol), str(term), factor, str(rest)) for symbol, term, factor, rest in found]
        [('m', '2*m', 2, '0'), ('n', 'm + n', 1, 'm')]
    """
    done = set(known)
    waiting = list(terms)
    found: list[tuple[Term, Term, int, Term]] = []
    progress = True
    while progress:
        progress = False
        for term in waiting:
            unknown = term.free_symbols - done
            if len(unknown) != 1:
                continue
            (symbol,) = unknown
            solution = solved_for(term, symbol)
            if solution is not None:
                done.add(symbol)
                found.append((symbol, term, *solution))
                progress = True
    return found
