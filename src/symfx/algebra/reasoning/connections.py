"""Connections: the symbols that facts mention together, and the time of the last fact of each."""

from __future__ import annotations

from symfx.algebra.terms.term import Term, by_uid

__all__ = ["Connections"]


class Connections:
    """The groups of connected symbols of a store of facts.

    Two symbols are *connected* if some fact mentions both, or through others. A fact can decide
    only questions about symbols that are connected with its own, so `stamp` tells whether
    anything has been learned that could matter to a term.

    Attributes:
        version: the number of facts that have been learned.
    """

    def __init__(self) -> None:
        self.version = 0
        # A union-find of symbols, with the assumptions about the symbols of each group.
        self._parent: dict[Term, Term] = {}
        self._members: dict[Term, list[Term]] = {}
        self._order: dict[Term, int] = {}
        self._changed: dict[Term, int] = {}
        self._stamps: dict[Term, tuple[int, int]] = {}

    def copy(self) -> Connections:
        """Connections that change independently of these."""
        other = Connections()
        other.version = self.version
        other._parent = self._parent.copy()
        other._members = {root: members.copy() for root, members in self._members.items()}
        other._order = self._order.copy()
        other._changed = self._changed.copy()
        other._stamps = self._stamps.copy()
        return other

    def take_back(self, before: Connections) -> None:
        """Return to an earlier copy, with a new version.

        Stamps of later facts differ from those that were given in between, so that a memo with
        such a stamp is never taken for a current one.
        """
        version = self.version + 1
        vars(self).update(vars(before))
        self.version = version

    def _root(self, symbol: Term) -> Term:
        parent = self._parent
        root = symbol
        while (above := parent.get(root, root)) is not root:
            root = above
        while symbol is not root:
            parent[symbol], symbol = root, parent.get(symbol, symbol)
        return root

    def stamp(self, term: Term) -> int:
        """A number that grows when a fact comes about a symbol connected with the term's."""
        memo = self._stamps.get(term)
        if memo is not None and memo[0] == self.version:
            return memo[1]
        newest = 0
        changed, parent = self._changed, self._parent
        for symbol in term.free_symbols:
            root = self._root(symbol) if symbol in parent else symbol
            if root in changed and changed[root] > newest:
                newest = changed[root]
        self._stamps[term] = (self.version, newest)
        return newest

    def touch(self, term: Term) -> None:
        """Note that something was learned about a term, which connects its symbols."""
        self.version += 1
        roots = {self._root(s) for s in term.free_symbols}
        if len(roots) < 2:
            for only in roots:
                self._changed[only] = self.version
            return
        members = self._members
        # The largest group keeps its root, so that n merges cost n log n at most.
        head = max(roots, key=lambda r: (len(members.get(r, ())), r.uid))
        for other in roots - {head}:
            self._parent[other] = head
            if other in members:
                members.setdefault(head, []).extend(members.pop(other))
        self._changed[head] = self.version

    def add(self, assumption: Term) -> None:
        """Count a condition that was assumed, and has symbols, among those of its group."""
        self._order[assumption] = len(self._order)
        root = self._root(next(iter(assumption.free_symbols)))
        self._members.setdefault(root, []).append(assumption)

    def components(self, *terms: Term) -> list[Term]:
        """One symbol of each group of connected symbols that the terms depend on."""
        roots = {self._root(s) for term in terms for s in term.free_symbols}
        return sorted(roots, key=by_uid)

    def connected(self, *terms: Term) -> list[Term]:
        """The assumptions about symbols connected with those of the terms, oldest first."""
        found: list[Term] = []
        for root in self.components(*terms):
            found += self._members.get(root, ())
        return sorted(found, key=lambda c: self._order[c])
