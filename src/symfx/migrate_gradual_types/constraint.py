"""The language of constraints on gradual tensor types.

Variables stand for the types of tensors (`TVar`), for dimensions (`DVar`) and for truth values
(`BVar`). A program becomes a conjunction of constraints; `constraint_transformation` rewrites the
composite ones (a convolution, a broadcast) to comparisons, and `transform_to_z3` translates these
into formulas.

Two constraints are equal if they have the same class and parts. Constraints are mutable and have no
hash.
"""

from __future__ import annotations

from symfx.migrate_gradual_types.composite_constraints import (
    ApplyBroadcasting,
    CalcConv,
    CalcMaxPool,
    CalcProduct,
    CanReshape,
    DGreatestUpperBound,
    GetItem,
    GetItemTensor,
    IndexSelect,
    TGreatestUpperBound,
    Transpose,
)
from symfx.migrate_gradual_types.simple_constraints import (
    BinaryConstraint,
    BinConstraintD,
    BinConstraintT,
    BVar,
    Conj,
    Constraint,
    Disj,
    DVar,
    F,
    Prod,
    T,
    TVar,
    is_algebraic_expression,
    is_bool_expr,
    is_dim,
)

__all__ = [
    "ApplyBroadcasting",
    "BVar",
    "BinConstraintD",
    "BinConstraintT",
    "BinaryConstraint",
    "CalcConv",
    "CalcMaxPool",
    "CalcProduct",
    "CanReshape",
    "Conj",
    "Constraint",
    "DGreatestUpperBound",
    "DVar",
    "Disj",
    "F",
    "GetItem",
    "GetItemTensor",
    "IndexSelect",
    "Prod",
    "T",
    "TGreatestUpperBound",
    "TVar",
    "Transpose",
    "is_algebraic_expression",
    "is_bool_expr",
    "is_dim",
]
