"""Folding: a layer and the scalings before and behind it become one layer, where exact."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from symfx.optimization.graphs.effects import read_argument
from symfx.optimization.graphs.layers import Affine, LayerCall
from symfx.optimization.graphs.reader import Reader
from symfx.optimization.graphs.surgery import install, succeed
from symfx.optimization.report import Report
from symfx.optimization.runtime.layers import Layer
from symfx.optimization.runtime.normalization import NormalizedLinear, ScaleShift

__all__ = ["fold_affine"]


def fold_affine(module: fx.GraphModule, report: Report, *, norms_only: bool = False) -> None:
    """Fold scalings into the layers before and behind them, until no fold is left.

    Scalings are batch normalization, and multiplications and additions of numbers. A scaling
    before a convolution that pads with zeros is folded only if it shifts nothing, because the
    padding is not shifted.

    Args:
        module: the graph, which is changed. Its modules and tensors are not changed: new ones
            replace them.
        report: gets the folds, and the scalings that stay with the reasons.
        norms_only: fold batch normalization alone.
    """
    again = True
    while again:
        again = False
        reader = Reader(module)
        for node in list(module.graph.nodes):
            affine = reader.affine(node)
            if affine is None or (norms_only and not affine.is_norm):
                continue
            again |= (
                _fold_behind(reader, affine, report)
                or _fold_before(reader, affine, report)
                or (not norms_only and _fold_chain(reader, affine, report))
            )
    for node in module.graph.nodes:
        affine = reader.affine(node)
        if affine is None:
            _explain(reader, node, report)
        elif affine.is_norm or not norms_only:
            _explain_unfolded(reader, affine, report)


def _fold_behind(reader: Reader, affine: Affine, report: Report) -> bool:
    """Replace `affine(layer(x))` by one layer, if exact; return whether it was."""
    layer = reader.layer(affine.source)
    if layer is None or _hindrance(reader, layer, affine) is not None:
        return False
    dtype, device = layer.weight.dtype, layer.weight.device
    with torch.no_grad():
        bias = _wide(layer.bias, layer.channels, device)
        weight = _scaled(layer, affine.scale.to(device), output=True).to(dtype)
        bias = (bias * affine.scale.to(device) + affine.shift.to(device)).to(dtype)
        folded = layer.build(weight.contiguous(), bias)
        if layer.kind is nn.Linear and affine.is_norm and not _is_flat(reader, layer.source):
            assert isinstance(folded, nn.Linear)
            plain = layer.build(layer.weight, layer.bias)
            assert isinstance(plain, nn.Linear)
            folded = NormalizedLinear(plain, folded, affine.scale, affine.shift)
    folded.training = reader.module.training
    node = install(reader.module, layer.node, folded, (layer.source,), "folded")
    reader.adopt(node, affine.node)
    olds, names = (layer.node, affine.node), (layer.node.name, affine.node.name)
    succeed(olds, node, names[0])
    report.rewrote(f"folded {affine.name} into {layer.kind.__name__}", names, node)
    return True


def _fold_before(reader: Reader, affine: Affine, report: Report) -> bool:
    """Replace `layer(affine(x))` by one layer, if exact; return whether it was."""
    if len(affine.node.users) != 1:
        return False
    layer = reader.layer(next(iter(affine.node.users)))
    if layer is None or layer.source is not affine.node:
        return False
    if _hindrance_before(reader, layer, affine) is not None:
        return False
    dtype, device = layer.weight.dtype, layer.weight.device
    with torch.no_grad():
        shift = affine.shift.to(device).expand(layer.channels_in)
        bias = _wide(layer.bias, layer.channels, device) + _response(layer, shift)
        weight = _scaled(layer, affine.scale.to(device), output=False).to(dtype)
        folded = layer.build(weight.contiguous(), bias.to(dtype))
    folded.training = reader.module.training
    node = install(reader.module, layer.node, folded, (affine.source,), "folded")
    reader.adopt(node, layer.node)
    olds, names = (affine.node, layer.node), (affine.node.name, layer.node.name)
    succeed(olds, node, names[1])
    report.rewrote(f"folded {affine.name} into {layer.kind.__name__}", names, node)
    return True


def _fold_chain(reader: Reader, affine: Affine, report: Report) -> bool:
    """Replace `second(first(x))`, a scaling of a batch normalization, by one scaling."""
    first = reader.affine(affine.source)
    # BatchNorm1d is missing: its channels may or may not have a dimension behind them.
    heads = ("BatchNorm2d", "BatchNorm3d", "ScaleShift")
    if first is None or first.spatial is None or first.name not in heads:
        return False
    if len(first.node.users) != 1 or not reader.aliases.is_quiet(first.source):
        return False
    if not reader.aliases.is_quiet(first.node) or affine.dtype not in (None, torch.float):
        return False
    module = reader.module_of(first.node)
    if module is None or any(t.dtype is not torch.float for t in _floats(module)):
        return False
    if not affine.is_scalar and (
        affine.spatial != first.spatial or affine.scale.numel() != first.scale.numel()
    ):
        return False
    with torch.no_grad():
        scale = (first.scale * affine.scale).float()
        shift = (first.shift * affine.scale + affine.shift).float()
    joined = ScaleShift(scale, shift, first.spatial)
    joined.training = reader.module.training
    node = install(reader.module, first.node, joined, (first.source,), "scaled")
    reader.adopt(node, affine.node)
    olds, names = (first.node, affine.node), (first.node.name, affine.node.name)
    succeed(olds, node, names[0])
    report.rewrote(f"folded {affine.name} into {first.name}", names, node)
    return True


def _floats(module: nn.Module) -> list[Tensor]:
    tensors = [*module.parameters(), *module.buffers()]
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def _hindrance(reader: Reader, layer: LayerCall, affine: Affine) -> str | None:
    """The reason why `affine(layer(x))` is not one layer; None if it is."""
    if len(layer.node.users) > 1:
        return f"another node uses {layer.node.name} too"
    if affine.dtype not in (None, layer.weight.dtype):
        return "its numbers have another dtype"
    if not affine.is_scalar:
        if affine.scale.numel() != layer.channels:
            return "it does not have a number for each channel"
        # Behind a linear layer, BatchNorm1d scales its channels too; see `NormalizedLinear`.
        fits = layer.kind is nn.Linear and affine.name == "BatchNorm1d"
        if affine.spatial not in (None, layer.dimensions) and not fits:
            return "its numbers are not for the channels"
    if not reader.aliases.is_quiet(layer.source) or not reader.aliases.is_quiet(layer.node):
        return "a node writes to the memory of the values between"
    return None


def _hindrance_before(reader: Reader, layer: LayerCall, affine: Affine) -> str | None:
    """The reason why `layer(affine(x))` is not one layer; None if it is."""
    if affine.dtype not in (None, layer.weight.dtype):
        return "its numbers have another dtype"
    if not affine.is_norm and not reader.is_float(affine.source):
        return "its input may be integers"
    if not affine.is_scalar:
        if affine.scale.numel() != layer.channels_in:
            return "it does not have a number for each channel"
        if affine.spatial != layer.dimensions:
            return "its numbers are not for the channels"
    elif affine.is_norm:
        return "its numbers are not for the channels"
    if bool((affine.shift != 0).any()):
        if layer.transposed:
            return "a transposed convolution sums fewer shifted values at the border"
        padding = layer.options.get("padding", 0)
        pads = layer.dimensions and padding != "valid"
        pads = pads and (isinstance(padding, str) or any(padding))
        if pads and layer.options.get("padding_mode", "zeros") == "zeros":
            return "the zeros that the convolution pads with are not shifted"
    if not reader.aliases.is_quiet(affine.source) or not reader.aliases.is_quiet(affine.node):
        return "a node writes to the memory of the values between"
    return None


def _is_flat(reader: Reader, node: fx.Node) -> bool:
    """Whether the graph shows that the value has two dimensions for every input."""
    while True:
        module = reader.module_of(node)
        if type(module) is nn.Flatten:
            return bool(module.start_dim == 1 and module.end_dim == -1)
        if node.target in (torch.flatten, "flatten"):
            start, end = (
                read_argument(node, 1, "start_dim", 0),
                read_argument(node, 2, "end_dim", -1),
            )
            return bool(start == 1 and end == -1)
        layer, activation = reader.layer(node), reader.activation(node)
        if layer is not None and layer.kind is nn.Linear:
            node = layer.source
        elif activation is not None:
            node = activation.source
        elif (source := reader.idle_source(node)) is not None:
            node = source
        else:
            return False


def _explain_unfolded(reader: Reader, affine: Affine, report: Report) -> None:
    layer = reader.layer(affine.source)
    if layer is not None:
        why = _hindrance(reader, layer, affine)
        report.leave(affine.node, f"not folded into {layer.node.name}: {why}")
    for user in affine.node.users:
        behind = reader.layer(user)
        if behind is not None and behind.source is affine.node:
            why = _hindrance_before(reader, behind, affine)
            if why is None:
                why = f"another node uses {affine.node.name} too"
            report.leave(affine.node, f"not folded into {user.name}: {why}")


def _explain(reader: Reader, node: fx.Node, report: Report) -> None:
    """Report why a batch normalization or a layer cannot be read."""
    module = reader.modules.get(str(node.target)) if node.op == "call_module" else None
    if module is not None and parametrize.is_parametrized(module):
        names = ", ".join(module.parametrizations)
        report.leave(
            node,
            f"its {names} is computed by a parametrization in each run; "
            "torch.nn.utils.parametrize.remove_parametrizations fixes it",
        )
    if not isinstance(module, nn.modules.batchnorm._BatchNorm):
        return
    if module.training:
        report.leave(node, "it is in train mode, and normalizes by the batch at hand")
    elif module.running_mean is None or module.running_var is None:
        report.leave(node, "it has no running statistics, and normalizes by the batch at hand")
    elif reader.module_of(node) is None:
        report.leave(node, "it has hooks, or a forward set on the instance")
    else:
        report.leave(node, "the model writes to its numbers, or its class is not torch's")


def _wide(bias: Tensor | None, channels: int, device: torch.device) -> Tensor:
    if bias is None:
        return torch.zeros(channels, dtype=torch.double, device=device)
    return bias.detach().double()


def _scaled(layer: Layer, factor: Tensor, *, output: bool) -> Tensor:
    """The weight with its output or input channels multiplied.

    The product is taken in double precision where float32 could overflow or underflow. Elsewhere
    one more rounding costs less than two copies of a large weight.

    A convolution's weight is (out, in/groups, ...), a transposed one's (in, out/groups, ...):
    the first dimension counts channels of all groups, the second those within one.
    """
    weight = layer.weight.detach()
    sizes = factor[factor != 0].abs()
    if weight.dtype is torch.float and not ((sizes < 1e-20) | ~(sizes < 1e20)).any():
        factor = factor.float()
    else:
        weight = weight.double()
    if factor.ndim == 0:
        return weight * factor
    if output != layer.transposed:
        return weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    groups = layer.options.get("groups", 1)
    grouped = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
    within = factor.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
    return (grouped * within).reshape(weight.shape)


def _response(layer: Layer, constant: Tensor) -> Tensor:
    """The output, without the bias, for an input whose channels are constant everywhere."""
    if layer.transposed:  # the constant is zero; see `_hindrance_before`
        return torch.zeros(layer.channels, dtype=torch.double, device=constant.device)
    weight = layer.weight.detach().double().flatten(2).sum(2) if layer.dimensions else None
    if weight is None:
        return layer.weight.detach().double() @ constant
    groups = layer.options.get("groups", 1)
    rows = weight.reshape(groups, -1, weight.shape[1])
    return (rows @ constant.reshape(groups, -1, 1)).reshape(-1)
