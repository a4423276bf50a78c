"""The metadata of a node's value: a snapshot in ``meta["val"]``, and ``meta["tensor_meta"]``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.passes.shape_prop import TensorMetadata

from symfx.fake_operators.cache import OperationCache
from symfx.fake_operators.descriptions import state_of
from symfx.proxy_tensor.symbols import SYMBOLIC_TYPES
from symfx.sym_node import SymNode
from symfx.torch_bridge.fake_tensors import (
    attributes_at_birth,
    fake_from_meta,
    plain_alias,
    storage_marker,
)
from symfx.torch_bridge.modes import BelowTorch, active_fake_mode

__all__ = [
    "extract_val",
    "is_sym_node",
    "snapshot_fake",
    "tensor_metadata",
]


def is_sym_node(node: fx.Node) -> bool:
    """Whether a node's value is a symbolic number.

    Args:
        node: a node of a graph that was traced on tensors.

    Raises:
        AttributeError: `node` is no node.

    Example:
        >>> graph = fx.Graph(); x = graph.placeholder("x")
        >>> is_sym_node(x)
        False
    """
    return isinstance(node.meta.get("val"), SYMBOLIC_TYPES)


def snapshot_fake(val: torch.Tensor, include_real: bool = False) -> torch.Tensor:
    """A fake tensor on the storage of another that keeps its present sizes and strides.

    Args:
        val: a fake tensor; any other tensor is detached.
        include_real: whether the snapshot keeps the real tensor that `val` may carry.

    Example:
        >>> mode = FakeTensorMode()
        >>> with mode: x = torch.ones(2, 3)
        >>> y = snapshot_fake(x); _ = x.t_()
        >>> y.shape, x.shape
        (torch.Size([2, 3]), torch.Size([3, 2]))
    """
    if not isinstance(val, FakeTensor):
        return val.detach()
    state = state_of(val)
    description = state.description
    if state.elem is None or description is None or not description.owner.live:
        # Only a live cache forgets the alias when the tensor's sizes change.
        elem = plain_alias(val)
    else:
        elem = state.elem
    mode = val.fake_mode
    if include_real and val.real_tensor is not None:
        return FakeTensor(mode, elem, val.fake_device, real_tensor=val.real_tensor)
    with BelowTorch():
        storage_marker(mode)(elem)
        return fake_from_meta(elem, val.fake_device, attributes_at_birth(mode, val.fake_device))


def extract_val(val: Any, include_real: bool = False) -> Any:
    """The entry of ``node.meta["val"]`` for a value.

    Tensors become snapshots that hold no data, also inside of lists, tuples and dictionaries.
    Symbolic and other numbers stay.

    Args:
        val: the result of an operator, or an input of the program.
        include_real: see `snapshot_fake`.

    Example:
        >>> extract_val((torch.ones(3), 2))[0].shape
        torch.Size([3])
    """
    if isinstance(val, FakeTensor):
        return snapshot_fake(val, include_real)
    if isinstance(val, (list, tuple)):
        parts = [extract_val(v) for v in val]
        return type(val)(*parts) if hasattr(val, "_fields") else type(val)(parts)
    if isinstance(val, dict):
        return {k: extract_val(v) for k, v in val.items()}
    if isinstance(val, torch.Tensor):
        return None if _is_sparse(val) else _fake_like(val)
    return val


def _fake_like(tensor: torch.Tensor) -> torch.Tensor:
    """A fake tensor with the sizes of a real one, in the active fake mode or a new one."""
    mode = active_fake_mode() or FakeTensorMode(allow_fallback_kernels=True)
    device = tensor.device
    if device.type == "meta" or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        with mode:
            return torch.empty_strided(
                tensor.shape, tensor.stride(), device=device, dtype=tensor.dtype
            )
    with BelowTorch():
        elem = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
        storage_marker(mode)(elem)
        return fake_from_meta(elem, device, attributes_at_birth(mode, device))


# -- tensor_meta ---------------------------------------------------------------------------------


def tensor_metadata(tensor: torch.Tensor, cache: OperationCache | None = None) -> TensorMetadata:
    """The entry of ``node.meta["tensor_meta"]``, as torch.fx's shape propagation makes it.

    Args:
        tensor: the tensor.
        cache: remembers the entry for fake tensors of equal description.
    """
    description = None if cache is None else cache.describe(tensor)
    if description is None:
        return _tensor_metadata(tensor, tensor.requires_grad)
    if description.tensor_meta is None:
        description.tensor_meta = _tensor_metadata(tensor, False)
    metadata: TensorMetadata = description.tensor_meta
    return metadata._replace(requires_grad=True) if tensor.requires_grad else metadata


def _tensor_metadata(tensor: torch.Tensor, requires_grad: bool) -> TensorMetadata:
    if _is_sparse(tensor):
        return TensorMetadata(tensor.shape, tensor.dtype, requires_grad, (), None, False, {})
    qparams: dict[str, Any] = {}
    if tensor.is_quantized:
        scheme = tensor.qscheme()
        qparams["qscheme"] = scheme
        if scheme in (torch.per_tensor_affine, torch.per_tensor_symmetric):
            qparams |= {"scale": tensor.q_scale(), "zero_point": tensor.q_zero_point()}
        else:
            qparams |= {
                "scale": tensor.q_per_channel_scales().tolist(),
                "zero_point": tensor.q_per_channel_zero_points().tolist(),
                "axis": tensor.q_per_channel_axis(),
            }
    return TensorMetadata(
        tensor.shape,
        tensor.dtype,
        requires_grad,
        tensor.stride(),
        _memory_format(tensor),
        tensor.is_quantized,
        qparams,
    )


def _memory_format(tensor: torch.Tensor) -> torch.memory_format | None:
    """The first of torch's dense formats that the tensor surely has."""
    rank = tensor.dim()
    formats = [torch.contiguous_format]
    if rank == 4:
        formats.append(torch.channels_last)
    elif rank == 5:
        formats.append(torch.channels_last_3d)
    symbolic = [n for n in (*tensor.shape, *tensor.stride()) if isinstance(n, torch.SymInt)]
    if not symbolic:
        for memory_format in formats:
            if tensor.is_contiguous(memory_format=memory_format):
                return memory_format
        return None
    node = symbolic[0].node
    if type(node) is not SymNode:
        return None
    sizes = [_as_node(node, n) for n in tensor.shape]
    strides = [_as_node(node, n) for n in tensor.stride()]
    questions: dict[torch.memory_format, Callable[..., SymNode]] = {
        torch.contiguous_format: node.is_contiguous,
        torch.channels_last: node.is_channels_last_contiguous_2d,
        torch.channels_last_3d: node.is_channels_last_contiguous_3d,
    }
    for memory_format in formats:
        answer = questions[memory_format](sizes, strides)
        # A condition that is false at tracing cannot be proved, and a proof attempt is costly.
        if answer.hint is not False and answer.statically_known_true("", 0):
            return memory_format
    return None


def _as_node(node: SymNode, number: Any) -> Any:
    return number.node if isinstance(number, torch.SymInt) else node.wrap_int(number)


def _is_sparse(tensor: torch.Tensor) -> bool:
    return tensor.layout not in (torch.strided, torch._mkldnn)  # type: ignore[attr-defined]
