"""Functions on tensor types: broadcast, combine, and compute the types of layers."""

from __future__ import annotations

import itertools
from typing import Any

import sympy
import torch
from torch.fx.tensor_type import Dyn, TensorType, is_consistent, is_more_precise

from symfx.graph_gradual_typechecker.checker_sizes import CheckerSizes, dimension_of, shape_of
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.layout import flatten
from symfx.shape_rules.rules.windows import per_dimension, window
from symfx.shape_rules.table import known_rules
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
    """The type of a tensor of rank `n`, from ``Dyn`` or a type of this rank.

    Raises:
        IllTypedError: the type has another rank, or is not a tensor type.

    Example:
        >>> expand_to_tensor_dim(Dyn, 2)
        TensorType[(Dyn, Dyn)]
    """
    if t == Dyn:
        return TensorType((Dyn,) * n)
    if not isinstance(t, TensorType):
        raise IllTypedError(f"{t} is not a tensor type")
    if len(t.dims) != n:
        raise IllTypedError(f"a tensor of rank {n} is needed, but {t} has rank {len(t.dims)}")
    return t


def broadcast_types(t1: Any, t2: Any) -> tuple[Any, Any]:
    """Two types expanded to one rank, with 1 replaced by the other type's dimension.

    Raises:
        IllTypedError: an argument is not a tensor type.

    Example:
        >>> broadcast_types(TensorType((4, 1)), TensorType((3,)))
        (TensorType[(4, 3)], TensorType[(4, 3)])
    """
    if any(t == Dyn or isinstance(t, Var) for t in (t1, t2)):
        return t1, t2
    for t in (t1, t2):
        if not isinstance(t, TensorType):
            raise IllTypedError(
                f"the types {t1} and {t2} do not broadcast: {t} is not a tensor type"
            )
    rank = max(len(t1.dims), len(t2.dims))
    one, other = ([1] * (rank - len(t.dims)) + [*t.dims] for t in (t1, t2))
    pairs = [
        (b, b) if a == 1 else (a, a) if b == 1 else (a, b) for a, b in zip(one, other, strict=True)
    ]
    return TensorType(tuple(a for a, _ in pairs)), TensorType(tuple(b for _, b in pairs))


def get_greatest_upper_bound(type1: Any, type2: Any) -> Any:
    """The most precise type that two types give together.

    Raises:
        IllTypedError: the types contradict each other.

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
    """The size of a dimension after the window of a two-dimensional layer.

    Args:
        d_in: the dimension: a number, a sympy symbol or ``Dyn``.
        module_instance: a convolution or pooling layer.
        index: 0 for the height, 1 for the width.

    Raises:
        IllTypedError: the dimension is not one of these.
    """
    if d_in == Dyn:
        return Dyn
    if not isinstance(d_in, (int, sympy.Expr)):
        raise IllTypedError(
            f"{d_in!r} is not a dimension, for {module_instance}: give a number, a symbol or Dyn"
        )
    m = module_instance
    stride = m.kernel_size if m.stride is None else m.stride
    settings = (m.kernel_size, m.padding, stride, m.dilation)
    kernel, padding, step, dilation = (per_dimension(value, 2)[index] for value in settings)
    sizes = CheckerSizes()
    return dimension_of(window(sizes.size(d_in), kernel, padding, step, dilation))


def _checked(rule_of: type[torch.nn.Module], tensor_type: Any, module: Any) -> TensorType:
    sizes = CheckerSizes()
    result = known_rules()[rule_of](sizes, (shape_of(sizes, tensor_type),), {}, module)
    return TensorType(tuple(map(dimension_of, result)))


def maxpool2d_check(typ: TensorType, module_instance: Any) -> TensorType:
    """The type of the result of max pooling, for a tensor of rank 3 or 4.

    Raises:
        IllTypedError: the layer does not take such a tensor.
    """
    return _checked(torch.nn.MaxPool2d, typ, module_instance)


def adaptiveavgpool2d_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type of the result of adaptive pooling, for a tensor of rank 3 or 4.

    Raises:
        IllTypedError: the layer does not take such a tensor.
    """
    return _checked(torch.nn.AdaptiveAvgPool2d, tensor_type, module_instance)


def linear_check(tensor_type: TensorType, module_instance: Any) -> TensorType:
    """The type of the result of a linear layer.

    Raises:
        IllTypedError: the last dimension of the input is not `in_features`.
    """
    return _checked(torch.nn.Linear, tensor_type, module_instance)


def flatten_check(tensor_type: TensorType, start_dim: int, end_dim: int) -> TensorType:
    """The type of a flattened tensor.

    Raises:
        IllTypedError: the tensor has no such dimensions.
    """
    sizes = CheckerSizes()
    result = flatten(sizes, shape_of(sizes, tensor_type), start_dim, end_dim)
    return TensorType(tuple(map(dimension_of, result)))
