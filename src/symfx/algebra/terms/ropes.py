"""Ropes: long sums that are kept as the two sums that they came about from.

``a + b`` of a long ``a`` remembers its two parts and a fingerprint: a random linear combination
of the coefficients, so that the fingerprint of a sum is the sum of the fingerprints. The
coefficients are merged once, at their first reading. A fingerprint finds a candidate for "the
same sum"; the coefficients decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from symfx.algebra.terms.term import Term

__all__ = ["Rope", "merged_rope"]

Rope: TypeAlias = "tuple[Term, int, Term, int]"
"""Two integer terms with their scales: ``(a, 2, b, -1)`` is 2*a - b."""


def merged_rope(rope: Rope) -> dict[Term, int]:
    """The coefficients of the sum that a rope stands for."""
    spine: list[tuple[Term, int]] = []
    scale = 1
    part_rope: Rope | None = rope
    while part_rope is not None:
        left, by_left, right, by_right = part_rope
        if right._rope is not None:
            return _merged_shared(rope)
        spine.append((right, scale * by_right))
        part, scale = left, scale * by_left
        part_rope = part._rope
    # The usual case, one term added after the other.
    merged = {m: scale * c for m, c in part.coeffs.items()}
    for right, scale in reversed(spine):
        # Without a rope, so the coefficients are there: no call of the property.
        for monomial, coeff in right._coeffs.items():  # type: ignore[union-attr]
            merged[monomial] = merged.get(monomial, 0) + scale * coeff
    return _without_zeros(merged)


def _without_zeros(coeffs: dict[Term, int]) -> dict[Term, int]:
    return {m: c for m, c in coeffs.items() if c} if 0 in coeffs.values() else coeffs


def _merged_shared(rope: Rope) -> dict[Term, int]:
    """`merged_rope` of a rope whose right parts are ropes too."""
    # Ropes share parts (v + v is a rope of v twice): each part is looked at once, after all
    # that it is a part of, when the scale of all its occurrences together is known.
    order: list[Term] = []
    seen: set[Term] = set()
    left, by_left, right, by_right = rope
    # Left is pushed last, so that monomials come in the order they were added.
    stack: list[tuple[Term, bool]] = [(right, False), (left, False)]
    while stack:
        part, parts_done = stack.pop()
        if parts_done:
            order.append(part)
        elif part not in seen:
            seen.add(part)
            if part._rope is not None:
                stack += [(part, True), (part._rope[2], False), (part._rope[0], False)]
            else:
                order.append(part)
    scales = dict.fromkeys(order, 0)
    scales[left] += by_left
    scales[right] += by_right
    for part in reversed(order):
        if part._rope is not None:
            left, by_left, right, by_right = part._rope
            scales[left] += scales[part] * by_left
            scales[right] += scales[part] * by_right
    total: dict[Term, int] = {}
    for part in order:
        if part._rope is None:
            scale = scales[part]
            for monomial, coeff in part.coeffs.items():
                total[monomial] = total.get(monomial, 0) + scale * coeff
    return _without_zeros(total)
