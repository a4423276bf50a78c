"""The shapes of a layer's weights, which decide its sizes also where its attributes differ.

A weight may be replaced after the layer was built, shared with another layer, or lazy.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from symfx.shape_rules.sizes import Shape

__all__ = ["weight_shape"]


def weight_shape(module: nn.Module, name: str, otherwise: tuple[int, ...] = ()) -> Shape | None:
    """The shape of a parameter or buffer of a layer.

    The module's dictionaries are read directly: during a trace its attributes are proxies.

    Args:
        module: the layer.
        name: the name of the parameter or buffer.
        otherwise: the shape if the layer computes the weight, by a parametrization.

    Returns:
        The shape; ``None`` for a lazy parameter, and for a parameter that the layer does not have.
    """
    for home in (module._parameters, module._buffers, vars(module)):
        if name in home:
            value = home[name]
            if not isinstance(value, torch.Tensor) or is_lazy(value):
                return None
            return Shape(value.shape)
    return Shape(otherwise) if otherwise and hasattr(module, "parametrizations") else None
