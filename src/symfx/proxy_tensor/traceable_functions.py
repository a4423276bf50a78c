"""Traceable forms of torch functions whose own form reads data.

Tracing on fake tensors ends where a function reads a number to check it or to branch on it.
The forms here compute the same results. They turn torch's checks into assertions of the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from symfx.proxy_tensor.indexing import get_item, set_item
from symfx.proxy_tensor.number_tensors import has_symbol, tensor_of_numbers

__all__ = ["TRACEABLE"]

TRACEABLE: dict[Any, Callable[..., Any]] = {}
"""For a torch function, its traceable form.

The form returns NotImplemented where the function's own form reads no data."""


def _form_of(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(form: Callable[..., Any]) -> Callable[..., Any]:
        TRACEABLE.update(dict.fromkeys(functions, form))
        return form

    return register


_form_of(torch.Tensor.__getitem__)(get_item)
_form_of(torch.Tensor.__setitem__)(set_item)


@_form_of(torch.tensor)
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


@_form_of(torch.as_tensor)
def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Any:
    if not has_symbol(data):
        return NotImplemented
    return tensor_of_numbers(data, dtype=dtype, device=device)


@_form_of(torch.asarray)
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


@_form_of(torch.Tensor.new_tensor)
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


@_form_of(torch.equal, torch.Tensor.equal)
def _equal(a: torch.Tensor, b: torch.Tensor) -> Any:
    if a.dim() != b.dim() or any(bool(m != n) for m, n in zip(a.shape, b.shape, strict=True)):
        return False
    return (a == b).all().item()


@_form_of(torch.cov, torch.Tensor.cov)
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


@_form_of(torch.corrcoef, torch.Tensor.corrcoef)
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


@_form_of(torch.linalg.matrix_rank)
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


@_form_of(F.one_hot)
def _one_hot(x: torch.Tensor, num_classes: Any = -1) -> Any:
    if not isinstance(num_classes, int) or num_classes != -1 or not isinstance(x, torch.Tensor):
        return NotImplemented
    _assert_all(x >= 0, "Class values must be non-negative.")
    count = (x.max() + 1).item()
    torch._check(count >= 1)  # type: ignore[no-untyped-call]
    classes = torch.arange(count, device=x.device)
    return (x.unsqueeze(-1) == classes).to(torch.int64)


@_form_of(F.gaussian_nll_loss)
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
