"""Reading the computation of a node, be it the call of a module, a function or a method.

A `Reader` returns a node as one of the parts that rewrites know: `LayerCall`, `Affine`,
`Activation`, `MaxPool`. It returns None where that would not be exact: for a module with hooks, a
subclass, an unknown option, or a weight that changes as the model runs.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from symfx.optimization.graphs.aliases import Aliases
from symfx.optimization.graphs.effect_tables import DROPOUT_FUNCTIONS, DROPOUT_MODULES
from symfx.optimization.graphs.effects import attribute_of, is_plain, read_argument, storage_of
from symfx.optimization.graphs.layers import Activation, Affine, LayerCall
from symfx.optimization.runtime.layers import CONVS, MaxPool
from symfx.optimization.runtime.normalization import ScaleShift

__all__ = ["Reader"]

_CONV_FUNCTIONS: dict[Any, tuple[int, bool]] = {
    torch.conv1d: (1, False),
    torch.conv2d: (2, False),
    torch.conv3d: (3, False),
    torch.conv_transpose1d: (1, True),
    torch.conv_transpose2d: (2, True),
    torch.conv_transpose3d: (3, True),
}
#: Functions and methods that compute the product of two matrices.
_PRODUCTS: frozenset[Any] = frozenset({torch.matmul, torch.mm, operator.matmul, "matmul", "mm"})
_MAX_POOLS: frozenset[Any] = frozenset({F.max_pool2d, torch.max_pool2d})
_MODULE_OF = {form: module for module, form in CONVS.items()}
#: The number of dimensions behind that of the channels; None where any number is allowed.
_BATCH_NORMS: dict[type[nn.Module], int | None] = {
    nn.BatchNorm1d: 1,
    nn.BatchNorm2d: 2,
    nn.BatchNorm3d: 3,
    nn.SyncBatchNorm: None,
}


class Reader:
    """Reads the nodes of a graph.

    An instance is out of date once the graph is rewritten; `adopt` keeps it up to date with one
    new call of a module.

    Args:
        module: the graph with its modules.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.modules = dict(module.named_modules())
        self.aliases = Aliases(module, self.modules)

    def adopt(self, new: fx.Node, old: fx.Node) -> None:
        """Add a call of a new module that replaces an old node."""
        self.modules[str(new.target)] = self.module.get_submodule(str(new.target))
        self.aliases.adopt(new, old)

    def module_of(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls; None for other nodes and for modules with hooks."""
        if node.op != "call_module":
            return None
        found = self.modules.get(str(node.target))
        return found if found is not None and is_plain(found) else None

    def constant(self, value: Any) -> Tensor | None:
        """The tensor that an argument is in every run, or None."""
        if not isinstance(value, fx.Node) or value.op != "get_attr":
            return None
        found = attribute_of(self.module, str(value.target))
        if not isinstance(found, Tensor) or not self.aliases.is_quiet(value):
            return None
        return found

    def steady(self, *tensors: Tensor | None) -> bool:
        """Whether these are plain tensors that no node writes to."""
        return all(
            tensor is None
            or (
                type(tensor) in (Tensor, nn.Parameter)
                and tensor.layout is torch.strided
                and storage_of(tensor) not in self.aliases.written_storages
            )
            for tensor in tensors
        )

    def layer(self, node: fx.Node) -> LayerCall | None:
        """The convolution or linear layer that a node calls, or None."""
        module = self.module_of(node)
        if module is not None:
            found = self._layer_of_module(node, module)
        elif node.op == "call_function":
            found = self._layer_of_function(node)
        elif node.op == "call_method":
            found = self._product(node)
        else:
            found = None
        if found is None or not self.steady(found.weight, found.bias):
            return None
        return found if found.weight.is_floating_point() else None

    def _layer_of_module(self, node: fx.Node, module: nn.Module) -> LayerCall | None:
        source = read_argument(node, 0, "input")
        if not isinstance(source, fx.Node) or len(node.args) + len(node.kwargs) != 1:
            return None
        kind = type(module)
        options: dict[str, Any] = {}
        if isinstance(module, nn.modules.conv._ConvNd) and kind in CONVS:
            options = {
                "stride": module.stride,
                "padding": module.padding,
                "dilation": module.dilation,
                "groups": module.groups,
                "padding_mode": module.padding_mode,
            }
            if CONVS[kind][1]:
                options["output_padding"] = module.output_padding
        elif kind is not nn.Linear:
            return None
        weight, bias = module.weight, module.bias
        if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
            return None
        return LayerCall(kind, weight, bias, options, node, source)

    def _product(self, node: fx.Node) -> LayerCall | None:
        """A product with a constant matrix, which is a linear layer with that matrix turned."""
        bias: Tensor | None = None
        place = 0
        if node.target in (torch.addmm, "addmm"):
            given, place = read_argument(node, 0, "input"), 1
            bias = self.constant(given)
            if bias is None or any(
                read_argument(node, 9, name, 1) != 1 for name in ("beta", "alpha")
            ):
                return None
        elif node.target not in _PRODUCTS:
            return None
        source = read_argument(node, place, "mat1" if place else "input")
        weight = self.constant(read_argument(node, place + 1, "mat2" if place else "other"))
        if weight is None or not isinstance(source, fx.Node) or weight.ndim != 2:
            return None
        if self.constant(source) is not None or (
            bias is not None and bias.shape != weight.shape[1:]
        ):
            return None
        turned, keyword = weight.detach().t(), "mat1" if place else "input"
        return LayerCall(nn.Linear, turned, bias, {}, node, source, place, keyword)

    def _layer_of_function(self, node: fx.Node) -> LayerCall | None:
        if (product := self._product(node)) is not None:
            return product
        source = read_argument(node, 0, "input")
        weight = self.constant(read_argument(node, 1, "weight"))
        given = read_argument(node, 2, "bias")
        bias = self.constant(given)
        if not isinstance(source, fx.Node) or weight is None or (given is None) != (bias is None):
            return None
        if node.target is F.linear:
            return (
                LayerCall(nn.Linear, weight, bias, {}, node, source) if weight.ndim == 2 else None
            )
        if node.target not in _CONV_FUNCTIONS:
            return None
        size, transposed = form = _CONV_FUNCTIONS[node.target]
        order = ["stride", "padding", "dilation", "groups"]
        if transposed:
            order = ["stride", "padding", "output_padding", "groups", "dilation"]
        defaults = {"stride": 1, "padding": 0, "output_padding": 0, "dilation": 1, "groups": 1}
        options: dict[str, Any] = {}
        for place, name in enumerate(order, 3):
            value = read_argument(node, place, name, defaults[name])
            if name == "groups" or (name == "padding" and isinstance(value, str)):
                fits = isinstance(value, int | str)
            else:
                value = _tuple(value, size)
                fits = value is not None
            if not fits:
                return None  # computed by the graph
            options[name] = value
        return LayerCall(_MODULE_OF[form], weight, bias, options, node, source)

    def affine(self, node: fx.Node) -> Affine | None:
        """The scaling that a node is: batch normalization, `x * a` or `x + a`; or None."""
        module = self.module_of(node)
        if isinstance(module, ScaleShift):
            if module.rectify or not isinstance(node.args[0], fx.Node):
                return None
            scale, shift = module.scale.double().reshape(-1), module.shift.double().reshape(-1)
            return Affine(node, node.args[0], scale, shift, "ScaleShift", module.spatial)
        return self._batch_norm(node) or self._arithmetic(node)

    def _batch_norm(self, node: fx.Node) -> Affine | None:
        module: Any = self.module_of(node)
        source = read_argument(node, 0, "input")
        spatial: int | None
        if module is not None and type(module) in _BATCH_NORMS and not module.training:
            mean, var = module.running_mean, module.running_var
            weight, bias, eps = module.weight, module.bias, module.eps
            name, spatial = type(module).__name__, _BATCH_NORMS[type(module)]
        elif node.op == "call_function" and node.target is F.batch_norm:
            if read_argument(node, 5, "training", False) is not False:
                return None
            places = ((1, "running_mean"), (2, "running_var"), (3, "weight"), (4, "bias"))
            given = [read_argument(node, *place) for place in places]
            mean, var, weight, bias = map(self.constant, given)
            found = (mean, var, weight, bias)
            if any((g is None) != (t is None) for g, t in zip(given, found, strict=True)):
                return None
            eps = read_argument(node, 7, "eps", 1e-5)
            name, spatial = "batch_norm", None
        else:
            return None
        if mean is None or var is None:
            return None  # it normalizes by the batch at hand
        if not isinstance(source, fx.Node) or not isinstance(eps, float | int):
            return None
        if not self.steady(mean, var, weight, bias):
            return None
        with torch.no_grad():
            scale = torch.rsqrt(var.double() + eps)
            if weight is not None:
                scale = scale * weight.double()
            shift = -mean.double() * scale
            if bias is not None:
                shift = shift + bias.double()
        return Affine(node, source, scale, shift, name, spatial)

    def _arithmetic(self, node: fx.Node) -> Affine | None:
        names = {
            operator.add: "add",
            torch.add: "add",
            operator.sub: "sub",
            torch.sub: "sub",
            operator.mul: "mul",
            torch.mul: "mul",
            operator.truediv: "div",
            torch.div: "div",
            torch.true_divide: "div",
        }
        if node.op == "call_function":
            name = names.get(node.target)  # type: ignore[arg-type]
        elif node.op == "call_method":
            name = str(node.target) if str(node.target) in names.values() else None
        else:
            name = None
        if name is None or len(node.args) != 2 or node.kwargs:
            return None
        one, other = node.args
        number, source = self._number(other), one
        turned = False
        if number is None:
            number, source, turned = self._number(one), other, True
        if number is None or not isinstance(source, fx.Node) or self._is_attribute(source):
            return None
        value, spatial, dtype = number
        ones, zeros = torch.ones_like(value), torch.zeros_like(value)
        with torch.no_grad():
            if name == "add":
                pair = ones, value
            elif name == "mul":
                pair = value, zeros
            elif name == "sub":
                pair = (-ones, value) if turned else (ones, -value)
            elif turned or bool((value == 0).any()):
                return None
            else:
                pair = 1 / value, zeros
        return Affine(node, source, *pair, name, spatial, dtype)

    @staticmethod
    def _is_attribute(node: fx.Node) -> bool:
        return node.op == "get_attr"

    def _number(self, value: Any) -> tuple[Tensor, int | None, torch.dtype | None] | None:
        """A scalar or one number for each channel, and the number of dimensions behind that.

        The third value is the dtype to which the number promotes, or None.
        """
        if isinstance(value, bool):
            return None
        if isinstance(value, int | float):
            if not math.isfinite(value):
                return None
            return torch.tensor(value, dtype=torch.double), None, None
        tensor = self.constant(value)
        if tensor is None or not tensor.is_floating_point() or not self.steady(tensor):
            return None
        numbers = tensor.detach().double()
        if tensor.numel() == 1 and tensor.ndim <= 1:
            return numbers.reshape(()), None, tensor.dtype if tensor.ndim else None
        # (C, 1, 1) and (1, C, 1, 1): the channels, then one dimension for each one behind them.
        channels, *rest = tensor.shape[1:] if tensor.shape[0] == 1 else tensor.shape
        if any(size != 1 for size in rest):
            return None
        return numbers.reshape(channels), len(rest), tensor.dtype

    def is_float(self, node: fx.Node) -> bool:
        """Whether the graph shows that the value is a tensor of fractional numbers."""
        if self.layer(node) is not None:
            return True
        affine = self.affine(node)
        if affine is not None and (affine.is_norm or self.is_float(affine.source)):
            return True
        dtype = node.meta.get("symfx_dtype")
        return isinstance(dtype, torch.dtype) and dtype.is_floating_point

    def idle_source(self, node: fx.Node) -> fx.Node | None:
        """The argument of an identity or an inactive dropout, which returns it; otherwise None."""
        module = self.module_of(node)
        source = read_argument(node, 0, "input")
        if module is not None:
            idle = type(module) is nn.Identity or (
                type(module) in DROPOUT_MODULES and not module.training
            )
        else:
            idle = (
                node.op == "call_function"
                and node.target in DROPOUT_FUNCTIONS
                and read_argument(node, 2, "training", True) is False
            )
        return source if idle and isinstance(source, fx.Node) else None

    def max_pool(self, node: fx.Node) -> MaxPool | None:
        """The max-pooling of an image that a node is, if it returns no indices; or None."""
        module = self.module_of(node)
        if type(module) is nn.MaxPool2d and len(node.args) + len(node.kwargs) == 1:
            given: list[Any] = [module.kernel_size, module.stride, module.padding, module.dilation]
            ceil, indices = module.ceil_mode, module.return_indices
        elif node.op == "call_function" and node.target in _MAX_POOLS:
            names = (("kernel_size", None), ("stride", None), ("padding", 0), ("dilation", 1))
            given = [read_argument(node, i, *name) for i, name in enumerate(names, 1)]
            ceil = read_argument(node, 5, "ceil_mode", False)
            indices = read_argument(node, 6, "return_indices", False)
        else:
            return None
        given[1] = given[0] if given[1] is None else given[1]
        sizes = [_tuple(value, 2) for value in given]
        if None in sizes or sizes[3] != (1, 1) or indices is not False or type(ceil) is not bool:
            return None
        kernel, stride, padding, _ = sizes
        return MaxPool(kernel, stride, padding, ceil)  # type: ignore[arg-type]

    def activation(self, node: fx.Node) -> Activation | None:
        """The activation that a node is, in place or not; or None."""
        source = read_argument(node, 0, "input")
        if not isinstance(source, fx.Node):
            return None
        module = self.module_of(node)
        if module is not None:
            read = _MODULE_ACTIVATIONS.get(type(module))
            form = read(module) if read else None
        elif node.op == "call_function":
            form = _function_activation(node)
        elif node.op == "call_method" and len(node.args) == 1 and not node.kwargs:
            form = _SIMPLE.get(str(node.target).removesuffix("_"))
        else:
            form = None
        return Activation(node, source, *form) if form else None


_Form = tuple[str, tuple[float, ...], str, Callable[[Tensor], Tensor]]
_SIMPLE: dict[str, _Form] = {
    "relu": ("relu", (), "", torch.relu),
    "sigmoid": ("sigmoid", (), "", torch.sigmoid),
    "tanh": ("tanh", (), "", torch.tanh),
}


def _gelu(approximate: Any) -> _Form | None:
    if approximate not in ("none", "tanh"):
        return None
    return "gelu", (), approximate, lambda x: F.gelu(x, approximate=approximate)


def _hardtanh(low: Any, high: Any) -> _Form | None:
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return "hardtanh", (float(low), float(high)), "", lambda x: F.hardtanh(x, low, high)


def _leaky(slope: Any) -> _Form | None:
    if not isinstance(slope, int | float):
        return None
    return "leaky_relu", (float(slope),), "", lambda x: F.leaky_relu(x, slope)


_SWISH: _Form = ("swish", (), "", F.silu)
_HARDSWISH: _Form = ("hardswish", (), "", F.hardswish)
_HARDSIGMOID: _Form = ("hardsigmoid", (), "", F.hardsigmoid)

_MODULE_ACTIVATIONS: dict[type[nn.Module], Callable[[Any], _Form | None]] = {
    nn.ReLU: lambda module: _SIMPLE["relu"],
    nn.Sigmoid: lambda module: _SIMPLE["sigmoid"],
    nn.Tanh: lambda module: _SIMPLE["tanh"],
    nn.SiLU: lambda module: _SWISH,
    nn.Hardswish: lambda module: _HARDSWISH,
    nn.Hardsigmoid: lambda module: _HARDSIGMOID,
    nn.ReLU6: lambda module: _hardtanh(0.0, 6.0),
    nn.Hardtanh: lambda module: _hardtanh(module.min_val, module.max_val),
    nn.LeakyReLU: lambda module: _leaky(module.negative_slope),
    nn.GELU: lambda module: _gelu(module.approximate),
}


def _function_activation(node: fx.Node) -> _Form | None:
    target = node.target
    if target in (torch.relu, torch.relu_, F.relu):
        return _SIMPLE["relu"]
    if target in (torch.sigmoid, torch.sigmoid_, F.sigmoid):
        return _SIMPLE["sigmoid"]
    if target in (torch.tanh, torch.tanh_, F.tanh):
        return _SIMPLE["tanh"]
    if target is F.silu:
        return _SWISH
    if target is F.hardswish:
        return _HARDSWISH
    if target is F.hardsigmoid:
        return _HARDSIGMOID
    if target is F.relu6:
        return _hardtanh(0.0, 6.0)
    if target is F.hardtanh:
        return _hardtanh(
            read_argument(node, 1, "min_val", -1.0), read_argument(node, 2, "max_val", 1.0)
        )
    if target is F.leaky_relu:
        return _leaky(read_argument(node, 1, "negative_slope", 0.01))
    if target is F.gelu:
        return _gelu(read_argument(node, 1, "approximate", "none"))
    return None


def _tuple(value: Any, size: int) -> tuple[int, ...] | None:
    if isinstance(value, int):
        return (value,) * size
    if isinstance(value, tuple | list) and all(isinstance(v, int) for v in value):
        return tuple(value) * size if len(value) == 1 else tuple(value)
    return None
