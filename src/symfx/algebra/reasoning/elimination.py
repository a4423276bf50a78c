"""Systems of linear inequalities over integers: contradictions and bounds, by elimination.

Fourier and Motzkin's elimination adds positive multiples of two inequalities such that an unknown
vanishes. Each result is divided by the common divisor of its coefficients and its constant rounded
down, which is exact for integers. Both steps keep every integer solution, so a contradiction shows
that there is none. A system that grows too large loses inequalities: the search is weaker then,
never wrong.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, TypeAlias

__all__ = ["Row", "System"]

Unknown: TypeAlias = "Hashable"
Row: TypeAlias = "tuple[Mapping[Any, int], int]"
"""Coefficients by unknown, and a constant: their sum is at least 0, or is 0."""

_Key: TypeAlias = "tuple[tuple[Unknown, int], ...]"

# Inequalities that a system may have, and combinations that one elimination may make.
_ROWS = 48
_COMBINED = 400
# Rounds of narrowing the bounds of unknowns.
_ROUNDS = 4


class System:
    """Equations and inequalities of integers.

    Args:
        equations: sums that are 0.
        inequalities: sums that are at least 0.
        kept: the unknowns that are not eliminated.

    Attributes:
        contradiction: whether they have no solution, as far as the search has found.
    """

    def __init__(
        self,
        equations: Iterable[Row] = (),
        inequalities: Iterable[Row] = (),
        kept: frozenset[Unknown] = frozenset(),
    ) -> None:
        self.contradiction = False
        self._kept = kept
        # Coefficients, divided by their common divisor, with the least constant.
        self._rows: dict[_Key, int] = {}
        # The order of the unknowns, which makes each search take the same steps every time.
        self._places: dict[Unknown, int] = {}
        unsolved = [(dict(coeffs), const) for coeffs, const in equations]
        rows = [(dict(coeffs), const) for coeffs, const in inequalities]
        if unsolved:
            # Bounds that solving the equations would hide.
            first = System(inequalities=rows)
            rows += ((dict(key), const) for key, const in first._rows.items() if len(key) == 1)
            self.contradiction = first.contradiction
        while unsolved and not self.contradiction:
            coeffs, const = unsolved.pop()
            _drop_zeros(coeffs)
            if not coeffs:
                self.contradiction |= const != 0
                continue
            g = math.gcd(*coeffs.values())
            if const % g:
                self.contradiction = True
                return
            if g > 1:
                coeffs, const = {u: c // g for u, c in coeffs.items()}, const // g
            solved = min(coeffs, key=lambda u: (u in kept, abs(coeffs[u])))
            if abs(coeffs[solved]) > 1 or solved in kept:
                # An equation that gives no unknown exactly is two inequalities.
                rows += (coeffs, const), ({u: -c for u, c in coeffs.items()}, -const)
                continue
            for others in (unsolved, rows):
                for i, (other, other_const) in enumerate(others):
                    if other.get(solved):
                        by = -other[solved] * coeffs[solved]
                        for u, c in coeffs.items():
                            other[u] = other.get(u, 0) + by * c
                        others[i] = other, other_const + by * const
        for coeffs, const in rows:
            self._add(coeffs, const)
        self._narrow()

    def _add(self, coeffs: dict[Unknown, int], const: int) -> None:
        _drop_zeros(coeffs)
        if not coeffs:
            self.contradiction |= const < 0
            return
        g = math.gcd(*coeffs.values())
        if g > 1:
            coeffs, const = {u: c // g for u, c in coeffs.items()}, const // g
        place = self._places
        key = tuple(sorted(coeffs.items(), key=lambda item: place.setdefault(item[0], len(place))))
        known = self._rows.get(key)
        if known is not None and known <= const:
            return
        self._rows[key] = const
        opposite = self._rows.get(tuple((u, -c) for u, c in key))
        if opposite is not None and opposite + const < 0:
            self.contradiction = True

    def _narrow(self) -> None:
        """Add the bounds of each unknown that follow from those of the others, rounded."""
        ends: dict[tuple[Unknown, int], int] = {}  # (u, 1): u <= end; (u, -1): -u <= end
        for _ in range(_ROUNDS):
            found = False
            for key, const in self._rows.items():
                tops = [
                    None if (end := ends.get((u, 1 if c > 0 else -1))) is None else abs(c) * end
                    for u, c in key
                ]
                open_ends = tops.count(None)
                if open_ends > 1:
                    continue
                total = const + sum(top for top in tops if top is not None)
                for (u, c), top in zip(key, tops, strict=True):
                    if top is None or not open_ends:
                        # -c*u <= the most that the rest can be.
                        rest = total - (top or 0)
                        side = (u, -1 if c > 0 else 1)
                        end = rest // abs(c)
                        if side not in ends or end < ends[side]:
                            ends[side] = end
                            found = True
            if not found:
                break
        for (u, sign), end in ends.items():
            self._add({u: -sign}, end)

    def has_solution(self) -> bool:
        """False if the system is found to have no solution."""
        while not self.contradiction and self._eliminate():
            pass
        return not self.contradiction

    def least(self, unknown: Unknown) -> int | None:
        """The largest lower bound that the system is found to give a kept unknown, or None."""
        while not self.contradiction and self._eliminate():
            pass
        bounds = [
            -(const // c)
            for key, const in self._rows.items()
            if len(key) == 1
            for u, c in key
            if u == unknown and c > 0
        ]
        return max(bounds, default=None)

    def ends(self) -> dict[Any, tuple[int | None, int | None]]:
        """The ends of the unknowns that inequalities of one unknown tell."""
        found: dict[Any, tuple[int | None, int | None]] = {}
        for key, const in self._rows.items():
            if len(key) == 1:
                ((unknown, c),) = key
                low, high = found.get(unknown, (None, None))
                if c > 0:
                    end = -(const // c)
                    found[unknown] = (end if low is None else max(low, end)), high
                else:
                    end = const // -c
                    found[unknown] = low, (end if high is None else min(high, end))
        return found

    def _eliminate(self) -> bool:
        """Eliminate one unknown that is not kept; False if no such unknown is left."""
        above: dict[Unknown, list[_Key]] = {}
        below: dict[Unknown, list[_Key]] = {}
        large: tuple[set[Unknown], set[Unknown]] = set(), set()
        for key in self._rows:
            for u, c in key:
                (above if c > 0 else below).setdefault(u, []).append(key)
                if c > 1 or c < -1:
                    large[c > 0].add(u)
        # An unknown that all inequalities bound from the same side only is of no use.
        idle = (above.keys() ^ below.keys()) - self._kept
        if idle:
            for u in idle:
                for key in above.get(u, ()) or below.get(u, ()):
                    self._rows.pop(key, None)
            return bool(self._rows)
        unknowns = above.keys() - self._kept
        if not unknowns:
            return False
        place = self._places
        # The elimination of an unknown is exact for integers where one side has coefficients of 1
        # alone, so such unknowns go first.
        inexact = large[0] & large[1]

        def cost(u: Unknown) -> tuple[bool, int, int]:
            return u in inexact, len(above[u]) * len(below[u]), place[u]

        chosen = min(unknowns, key=cost)
        if len(above[chosen]) * len(below[chosen]) > _COMBINED:
            self._rows.clear()
            return False
        pairs = [
            (key, self._rows[key], other, self._rows[other])
            for key in above[chosen]
            for other in below[chosen]
        ]
        for key in (*above[chosen], *below[chosen]):
            self._rows.pop(key, None)
        for key, const, other, other_const in pairs:
            coeffs, others = dict(key), dict(other)
            by, other_by = -others[chosen], coeffs[chosen]
            g = math.gcd(by, other_by)
            by, other_by = by // g, other_by // g
            total = {u: by * c for u, c in key}
            for u, c in other:
                total[u] = total.get(u, 0) + other_by * c
            self._add(total, by * const + other_by * other_const)
            if self.contradiction:
                return False
        if len(self._rows) > _ROWS:
            short = sorted(self._rows.items(), key=lambda row: len(row[0]))
            self._rows = dict(short[:_ROWS])
        return True


def _drop_zeros(coeffs: dict[Unknown, int]) -> None:
    for u in [u for u, c in coeffs.items() if not c]:
        del coeffs[u]
