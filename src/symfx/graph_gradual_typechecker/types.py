"""Tensor types by themselves: stretched, combined, and as layers change them."""

from __future__ import annotations

import itertools
from typing import Any

import sympy
import torch
from torch.fx.tensor_type import Dyn, TensorType, is_consistent, is_more_precise

from symfx.graph_gradual_typechecker.checker_sizes import CheckerSizes, dimension_of, shape_of
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.windows import per_dimension, window
from symfx.unification import Var

__all__ = [
    "adaptiveavgpool2d_check",
    "broadcast_types",
    "calculate_out_dimension",
    "expand_to_tensor_dim",
    "flatten_check",
    "get_greatest_upper_bound",
    "linear_check",
    "maxpool2d_check",
]


def expand_to_tensor_dim(t: Any, n: int) -> TensorType:
    """A type as one of a tensor of rank `n`.

    Raises:
        IllTypedError: it has another rank, or is no tensor type.

    Example:
        >>> expand_to_tensor_dim(Dyn, 2)
        TensorType[(Dyn, Dyn)]
    """
    if t == Dyn:
        return TensorType((Dyn,) * n)
    if not isinstance(t, TensorType):
        raise IllTypedError(f"{t} is no tensor type")
    if len(t.dims) != n:
        raise IllTypedError(f"a tensor of rank {n} is wanted, {t} has rank {len(t.dims)}")
    return t


def broadcast_types(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Two types stretched to one rank, with 1 replaced by the other's dimension.

    Raises:
        IllTypedError: one of them is no tensor type.

    Example:
        >>> broadcast_types(TensorType((4, 1)), TensorType((3,)))
        (TensorType[(4, 3)], TensorType[(4, 3)])
    """
    if any(t == Dyn or isinstance(t, Var) for t in (t1, t2)):
        return t1, t2
    for t in (t1, t2):
        if not isinstance(t, TensorType):
            raise IllTypedError(f"the types {t1} and {t2} do not broadcast: {t} is no tensor type")
    rank = max(len(t1.dims), len(t2.dims))
    one, other = ([1] * (rank - len(t.dims)) + [*t.dims] for t in (t1, t2))
    pairs = [
        (b, b) if a == 1 else (a, a) if b == 1 else (a, b) for a, b in zip(one, other, strict=True)
    ]
    return TensorType(tuple(a for a, _ in pairs)), TensorType(tuple(b for _, b in pairs))


def get_greatest_upper_bound(type1: Any, type2: Any) -> Any:
    """What two types together say: in each dimension the more precise of the two.

    Raises:
        IllTypedError: they contradict each other.

    Example:
        >>> get_greatest_upper_bound(TensorType((2, Dyn)), TensorType((Dyn, 3)))
        TensorType[(2, 3)]
    """
    if type1 == Dyn:
        return type2
    if type2 == Dyn:
        return type1
    if isinstance(type1, (tuple, list)) and isinstance(type2, (tuple, list)):
        return tuple(itertools.starmap(get_greatest_upper_bound, zip(type1, type2, strict=True)))
    if not isinstance(type1, TensorType) or not isinstance(type2, TensorType):
        return None
    if not is_consistent(type1, type2):
        raise IllTypedError(f"the types {type1} and {type2} contradict each other")
    pairs = zip(type1.dims, type2.dims, strict=True)
    return TensorType(tuple(a if is_more_precise(a, b) else b for a, b in pairs))


def calculate_out_dimension(d_in: Any, module_instance: Any, index: int) -> Any:
    """What the window of a two-dimensional layer leaves of a dimension.

    Args:
        d_in: the dimension: a number, a sympy symbol or ``Dyn``.
        module_instance: a convolution or pooling layer.
        index: 0 for the height, 1 for the width.

    Raises:
        IllTypedError: the dimension is none of these.
    """
    if d_in == Dyn:
        return Dyn
    if not isinstance(d_in, (int, sympy.Expr)):
        raise IllTypedError(
            f"{d_in!r} is no dimension, for {module_instance}: give a number, a symbol or Dyn"
        )
    m = module_instance
    stride = m.kernel_size if m.stride is None else m.stride
    settings = (m.kernel_size, m.padding, stride, m.dilation)
    kernel, padding, step, dilation = (per_dimension(value, 2)[index] for value in settings)
    sizes = CheckerSizes()
    return dimension_of(window(sizes.size(d_in), kernel, padding, step, dilation))


def _checked(rule_of: type[torch.nn.Module], tensor_type: Any, module: Any) -> TensorType:
    from symfx.shape_rules.table import known_rules

    sizes = CheckerSizes()
    result = known_rules()[rule_of](sizes, (shape_of(sizes, tensor_type),), {}, module)
    return TensorType(tuple(map(dimension_of, result)))


def maxpool2d_check(typ: TensorType, module_instance: Any) -> TensorType:
    """The type that max pooling gives of a tensor of rank 3 or 4.

    Raises:
        IllTypedError: it takes no such tensor.
    """
    return _checked(torch.nn.MaxPool2d, typ, module_instance)


def adaptiveavgpool2d_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type that adaptive pooling gives of a tensor of rank 3 or 4.

    Raises:
        IllTypedError: it takes no such tensor.
    """
    return _checked(torch.nn.AdaptiveAvgPool2d, tensor_type, module_instance)


def linear_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type that a linear layer gives of a tensor.

    Raises:
        IllTypedError: its last dimension is not `in_features`.
    """
    return _checked(torch.nn.Linear, tensor_type, module_instance)


def flatten_check(tensor_type: TensorType, start_dim: int, end_dim: int) -> TensorType:
    """The type of a flattened tensor.

    Raises:
        IllTypedError: there are no such dimensions.
    """
    from symfx.shape_rules.rules.layout import flatten

    sizes = CheckerSizes()
    result = flatten(sizes, shape_of(sizes, tensor_type), start_dim, end_dim)
    return TensorType(tuple(map(dimension_of, result)))
