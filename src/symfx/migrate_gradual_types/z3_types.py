"""Gradual tensor types as sorts of z3.

A dimension is a pair ``dim(0, _)``, which is ``Dyn``, or ``dim(1, size)``. A tensor type is
``Dyn`` or one of ``tensor0`` to ``tensorN`` with as many dimensions, N being the bound on ranks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from symfx.extras import importing
from symfx.shape_rules.ranks import DEFAULT_MAX_RANK, get_max_rank

with importing("types", "the solver of gradual types"):
    import z3

__all__ = ["HAS_Z3", "D", "dim", "dyn", "dyn_type", "tensor_sort", "tensor_type", "z3_dyn"]

#: Always true: without z3 this module cannot be imported.
HAS_Z3 = True

dyn = z3.DeclareSort("Dyn")
dyn_type = z3.Const("dyn", dyn)


def _dimension_sort() -> Any:
    sort = z3.Datatype("dimension")
    sort.declare("dim", ("0", z3.IntSort()), ("1", z3.IntSort()))
    return sort.create()


dim = _dimension_sort()
#: The constructor of a dimension: ``D(1, 64)`` is 64, ``D(0, z3.Int("any"))`` is ``Dyn``.
D = dim.dim


@cache
def _sort_up_to(rank: int) -> Any:
    # z3 keeps sorts by name: this name differs from that of PyTorch's sort.
    sort = z3.Datatype(f"TensorType{rank}")
    sort.declare("Dyn", ("dyn", dyn))
    for n in range(rank + 1):
        sort.declare(f"tensor{n}", *((str(i), dim) for i in range(n)))
    return sort.create()


def tensor_sort() -> Any:
    """The sort of tensor types for the current bound on ranks.

    The sort is `tensor_type` for each bound up to the default.
    """
    return _sort_up_to(max(get_max_rank(), DEFAULT_MAX_RANK))


#: The sort of tensor types with up to eight dimensions.
tensor_type = _sort_up_to(DEFAULT_MAX_RANK)
#: The type ``Dyn``.
z3_dyn = tensor_type.Dyn(dyn_type)
