"""The names and signs of the operations in binary constraints."""

from __future__ import annotations

from typing import Final

__all__ = [
    "op_add",
    "op_consistency",
    "op_div",
    "op_eq",
    "op_gt",
    "op_imp",
    "op_leq",
    "op_lt",
    "op_matching",
    "op_mod",
    "op_mul",
    "op_neq",
    "op_precision",
    "op_sub",
]

# arithmetic of dimensions; division rounds down
op_add: Final = "+"
op_sub: Final = "-"
op_mul: Final = "*"
op_div: Final = "/"
op_mod: Final = "%"

# comparisons
op_eq: Final = "="
op_neq: Final = "!="
op_lt: Final = "<"
op_gt: Final = ">"
op_leq: Final = "≤"
op_imp: Final = "=>"

# relations of gradual types: matches a shape, is equal where both are known, is as precise as
op_matching: Final = "⊳"
op_consistency: Final = "~"
op_precision: Final = "⊑"
