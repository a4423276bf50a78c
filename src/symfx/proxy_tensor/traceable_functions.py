"""Traceable forms of torch functions whose own form cannot be traced, or is traced wrongly.

Tracing on fake tensors ends where a function reads a number to check it or to branch on it.
A few of torch's decompositions compute other results than the function that they stand for.
The forms here compute the same results. They turn torch's checks into assertions of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.nn import functional as F
from torch.nn._reduction import legacy_get_string

from symfx.proxy_tensor.compared_sizes import FORMS_OF_LOSSES
from symfx.proxy_tensor.forms import Forms
from symfx.proxy_tensor.functions_of_sizes import FORMS_BY_SIZE, one_hot
from symfx.proxy_tensor.indexing import get_item, set_item
from symfx.proxy_tensor.number_tensors import has_symbol, tensor_of_numbers
from symfx.proxy_tensor.pools_by_size import POOLS
from symfx.proxy_tensor.recurrent import recurrent_form
from symfx.proxy_tensor.sizes_as_options import FORMS_BY_OPTION
from symfx.proxy_tensor.sizes_in_composites import FORMS_OF_COMPOSITES
from symfx.proxy_tensor.symbolic_math import choose
from symfx.proxy_tensor.views_by_size import VIEWS
from symfx.sym_node import is_channels_last_contiguous_2d, is_contiguous
from symfx.symbolic_shapes import statically_known_true

__all__ = ["TRACEABLE"]

TRACEABLE = Forms()
"""For a torch function, its traceable form.

The form returns NotImplemented where the function's own form can be traced."""


for _forms in (
    FORMS_BY_SIZE,
    POOLS,
    VIEWS,
    FORMS_BY_OPTION,
    FORMS_OF_COMPOSITES,
    FORMS_OF_LOSSES,
):
    TRACEABLE.update(_forms)
TRACEABLE[torch.Tensor.__getitem__] = get_item
TRACEABLE[torch.Tensor.__setitem__] = set_item
# torch's own form takes no symbolic number beside a Python number.
TRACEABLE[torch.sym_ite] = choose


@TRACEABLE.of(torch.tensor)
def _tensor(
    data: Any,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
    pin_memory: bool = False,
) -> Any:
    if not has_symbol(data) or pin_memory:
        return NotImplemented
    return tensor_of_numbers(data, dtype=dtype, device=device).requires_grad_(requires_grad)


@TRACEABLE.of(torch.as_tensor)
def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Any:
    if not has_symbol(data):
        return NotImplemented
    return tensor_of_numbers(data, dtype=dtype, device=device)


@TRACEABLE.of(torch.asarray)
def _asarray(
    obj: Any,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    copy: bool | None = None,
    requires_grad: bool = False,
) -> Any:
    if not has_symbol(obj) or copy is False:
        return NotImplemented
    return tensor_of_numbers(obj, dtype=dtype, device=device).requires_grad_(requires_grad)


@TRACEABLE.of(torch.Tensor.new_tensor)
def _new_tensor(
    x: torch.Tensor,
    data: Any,
    *,
    dtype: torch.dtype | None = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> Any:
    if not has_symbol(data) or pin_memory:
        return NotImplemented
    made = tensor_of_numbers(data, dtype=dtype or x.dtype, device=device or x.device)
    return made.requires_grad_(requires_grad)


def _assert_all(condition: torch.Tensor, message: str) -> None:
    torch._assert_async(condition.all(), message)


@TRACEABLE.of(torch.equal, torch.Tensor.equal)
def _equal(a: torch.Tensor, b: torch.Tensor) -> Any:
    if a.dim() != b.dim() or any(bool(m != n) for m, n in zip(a.shape, b.shape, strict=True)):
        return False
    return (a == b).all().item()


@TRACEABLE.of(torch.cov, torch.Tensor.cov)
def _cov(
    x: torch.Tensor,
    *,
    correction: int = 1,
    fweights: torch.Tensor | None = None,
    aweights: torch.Tensor | None = None,
) -> Any:
    if x.dim() > 2 or x.dtype is torch.bool:
        return NotImplemented
    rows = x if x.dim() == 2 else x.reshape(1, -1)
    weights = fweights
    for given, kind in ((fweights, "fweights"), (aweights, "aweights")):
        if given is not None:
            _assert_all(given >= 0, f"cov(): {kind} cannot be negative")
    if aweights is not None:
        weights = aweights if weights is None else weights * aweights
    total: Any = rows.shape[1] if weights is None else weights.sum()
    weighted = rows if weights is None else rows * weights
    centered = rows - (weighted.sum(1) / total).unsqueeze(1)
    if aweights is not None and weights is not None and correction != 0:
        freedom: Any = total - correction * (weights * aweights).sum() / total
    else:
        freedom = total - correction
    freedom = (
        freedom.clamp(min=0) if isinstance(freedom, torch.Tensor) else torch.sym_max(freedom, 0)  # type: ignore[no-untyped-call]
    )
    spread = centered if weights is None else centered * weights
    return (torch.mm(centered, spread.mT.conj()) / freedom).squeeze()


@TRACEABLE.of(torch.corrcoef, torch.Tensor.corrcoef)
def _corrcoef(x: torch.Tensor) -> Any:
    covariance = _cov(x)
    if covariance is NotImplemented:
        return covariance
    if covariance.dim() == 0:
        return covariance / covariance
    variance = covariance.diagonal()
    deviation = (variance.real if variance.is_complex() else variance).sqrt()
    result = covariance / deviation.unsqueeze(1) / deviation
    if result.is_complex():
        return torch.complex(result.real.clamp(-1, 1), result.imag.clamp(-1, 1))
    return result.clamp(-1, 1)


@TRACEABLE.of(torch.linalg.matrix_rank)
def _matrix_rank(*args: Any, out: torch.Tensor | None = None, **kwargs: Any) -> Any:
    # On fake tensors torch's own form returns `out` without writing to it.
    if out is None:
        return NotImplemented
    found = torch.linalg.matrix_rank(*args, **kwargs)
    if out.dim() != found.dim() or any(
        bool(m != n) for m, n in zip(out.shape, found.shape, strict=True)
    ):
        out.resize_(found.shape)
    return out.copy_(found)


@TRACEABLE.of(F.one_hot)
def _one_hot(x: torch.Tensor, num_classes: Any = -1) -> Any:
    if not isinstance(x, torch.Tensor):
        return NotImplemented
    if isinstance(num_classes, torch.SymInt):
        return one_hot(x, num_classes)
    if num_classes != -1:
        # torch's own form keeps the order of the dimensions, and the operator does not.
        row_major = statically_known_true(is_contiguous(x.shape, x.stride()))
        return NotImplemented if row_major else F.one_hot(x.contiguous(), num_classes)
    _assert_all(x >= 0, "Class values must be non-negative.")
    count = (x.max() + 1).item()
    torch._check(count >= 1)  # type: ignore[no-untyped-call]
    classes = torch.arange(count, device=x.device)
    return (x.unsqueeze(-1) == classes).to(torch.int64)


@TRACEABLE.of(torch.max_pool1d, F.max_pool1d)
def _max_pool1d(
    x: torch.Tensor,
    kernel_size: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    pooled = POOLS[F.max_pool1d](
        x, kernel_size, stride, padding, dilation, ceil_mode, return_indices
    )
    # torch's own form needs the length as an int if no gradient is asked for.
    if pooled is not NotImplemented:
        return pooled
    if return_indices or not x.is_floating_point():
        return NotImplemented
    x = x.contiguous()

    def along_both(option: Any, other: int) -> tuple[int, int]:
        return (other, option if isinstance(option, int) else option[0])

    pooled = F.max_pool2d(
        x.unsqueeze(-2),
        along_both(kernel_size, 1),
        along_both(kernel_size if stride in (None, (), []) else stride, 1),
        along_both(padding, 0),
        along_both(dilation, 1),
        ceil_mode,
    )
    return pooled.squeeze(-2)


@TRACEABLE.of(F.gaussian_nll_loss)
def _gaussian_nll_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Any:
    if not isinstance(var, torch.Tensor) or reduction not in ("none", "mean", "sum"):
        return NotImplemented
    _assert_all(var >= 0, "var has negative entry/entries")
    if var.dim() == input.dim() - 1:
        var = var.unsqueeze(-1)
    if var.dim() != input.dim() or any(
        bool(v != n) and bool(v != 1) for v, n in zip(var.shape, input.shape, strict=True)
    ):
        raise ValueError("var is of incorrect size")
    var = var.clone()
    with torch.no_grad():
        var.clamp_(min=eps)
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


@TRACEABLE.of(F.interpolate)
def _interpolate(input: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    found = FORMS_BY_OPTION[F.interpolate](input, *args, **kwargs)
    if found is not NotImplemented:
        return found
    size = args[0] if args else kwargs.get("size")
    if isinstance(input, torch.Tensor) and input.dim() == 4 and size is not None:
        lies_as_nhwc = is_channels_last_contiguous_2d(input.shape, input.stride())
        sizes = size if isinstance(size, (list, tuple)) else [size]
        # torch's decomposition asks whether one pixel is left: then nothing is to be reordered.
        if statically_known_true(lies_as_nhwc) and not any(
            statically_known_true(n >= 2) for n in sizes
        ):
            found = F.interpolate(input.contiguous(), *args, **kwargs)
            return found.contiguous(memory_format=torch.channels_last)
    # torch's decomposition for three dimensions keeps their order, and the operator does not.
    if not isinstance(input, torch.Tensor) or input.dim() != 3 or input.is_contiguous():
        return NotImplemented
    return F.interpolate(input.contiguous(), *args, **kwargs)


# torch's decomposition compares each class with the wrong targets.
@TRACEABLE.of(F.multilabel_margin_loss)
def _multilabel_margin_loss(
    input: torch.Tensor,
    target: torch.Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Any:
    if input.shape != target.shape or input.dim() not in (1, 2):
        return NotImplemented
    if size_average is not None or reduce is not None:
        reduction = legacy_get_string(size_average, reduce)
    classes = input.shape[-1]
    within = (target >= -1) & (target < classes)
    _assert_all(within, "multilabel_margin_loss: target is out of range")
    # The targets of a row end before its first -1.
    given = (target >= 0).to(torch.int64).cumprod(-1) > 0
    place = torch.where(given, target, 0)
    is_place = place.unsqueeze(-1) == torch.arange(classes, device=target.device)
    is_target = (is_place & given.unsqueeze(-1)).any(-2)
    margin = 1 - input.gather(-1, place).unsqueeze(-1) + input.unsqueeze(-2)
    counts = given.unsqueeze(-1) & ~is_target.unsqueeze(-2)
    loss = torch.where(counts, margin.clamp(min=0), 0).sum((-2, -1)) / classes
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


@TRACEABLE.of(F.multi_head_attention_forward)
def _multi_head_attention_forward(*args: Any, **kwargs: Any) -> Any:
    """Run torch's own code of the function, so that the trace records the operators inside.

    That code first asks whether a mode takes the call over, which would lead here again, so the
    answer is no.
    """
    own = F.multi_head_attention_forward
    names = {**own.__globals__, "has_torch_function": lambda _: False}
    body = FunctionType(own.__code__, names, own.__name__, own.__defaults__, own.__closure__)
    return body(*args, **kwargs)


def _layer_by_layer(function: Callable[..., Any]) -> Callable[..., Any]:
    """The form of a recurrent network: its layers one by one, with dropout between them.

    torch's decomposition of a network of several layers never applies the dropout.
    """

    whole = recurrent_form(function)

    def form(input: torch.Tensor, *args: Any) -> Any:
        if len(args) != 8:
            return NotImplemented
        # Of a packed sequence torch takes the batch sizes, and no switch for `batch_first`.
        sizes = () if isinstance(args[2], bool) else args[:1]
        states, weights, biased, layers, dropout, train, both_ways = args[len(sizes) :][:7]
        batch_first = not sizes and args[-1]
        if not train or not dropout or layers < 2:
            return whole(input, *args)
        several = isinstance(states, (list, tuple))
        ways = 2 if both_ways else 1
        count = len(weights) // layers
        finals: list[tuple[torch.Tensor, ...]] = []
        output = input.transpose(0, 1) if batch_first else input
        for i in range(layers):
            if i > 0:
                output = torch.dropout(output, dropout, True)
            own = [s[i * ways : (i + 1) * ways] for s in (states if several else (states,))]
            layer = (
                output,
                *sizes,
                tuple(own) if several else own[0],
                weights[i * count : (i + 1) * count],
                biased,
                1,
                0.0,
                train,
                both_ways,
                *(() if sizes else (False,)),
            )
            found = whole(*layer)
            output, *last = function(*layer) if found is NotImplemented else found
            finals.append(tuple(last))
        if batch_first:
            output = output.transpose(0, 1)
        return (output, *(torch.cat(parts) for parts in zip(*finals, strict=True)))

    return form


for _function in (torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu):
    TRACEABLE[_function] = _layer_by_layer(_function)
