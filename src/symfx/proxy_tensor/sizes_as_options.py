"""Forms of torch functions with an option computed from sizes: a scale, groups, a count.

torch's operators take such an option as a plain number, and a trace would bake it in. The forms
here compute the same results by operators that take symbolic numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.nested._internal.nested_tensor import nested_view_from_values_offsets
from torch.nn import functional as F

from symfx.proxy_tensor.forms import Forms
from symfx.proxy_tensor.interpolation import interpolate_by_scale
from symfx.symbolic_shapes import statically_known_true

__all__ = ["FORMS_BY_OPTION"]

FORMS_BY_OPTION = Forms()
"""For a torch function, its form, which returns NotImplemented where no option is symbolic."""


def _is_symbolic(*numbers: Any) -> bool:
    return any(isinstance(n, (torch.SymInt, torch.SymFloat)) for n in numbers)


# -- counts ----------------------------------------------------------------------------------------


@FORMS_BY_OPTION.of(torch.combinations)
def _combinations(input: torch.Tensor, r: Any = 2, with_replacement: bool = False) -> Any:
    if input.dim() != 1 or type(r) is not int or r < 1 or not _is_symbolic(input.shape[0]):
        return NotImplemented
    n = input.shape[0]
    place = torch.arange(n, device=input.device)
    rows = [place.view([-1 if d == i else 1 for d in range(r)]) for i in range(r)]
    mask = torch.ones([n] * r, dtype=torch.bool, device=input.device)
    for low, high in itertools.pairwise(rows):
        mask = mask & (low <= high if with_replacement else low < high)
    first = n + r - 1 if with_replacement else n
    count = math.prod(first - i for i in range(r)) // math.factorial(r)
    return input[torch.ops.aten.nonzero_static.default(mask, size=count)]


@FORMS_BY_OPTION.of(torch.vander)
def _vander(x: torch.Tensor, N: Any = None, increasing: bool = False) -> Any:
    if x.dim() != 1:
        return NotImplemented
    count = x.shape[0] if N is None else N
    if not _is_symbolic(count) or not statically_known_true(count >= 1):
        return NotImplemented
    first = torch.ones_like(x).unsqueeze(1)
    powers = torch.cat([first, x.unsqueeze(1).expand(-1, count - 1)], 1).cumprod(1)
    return powers if increasing else powers.flip(1)


@FORMS_BY_OPTION.of(F.group_norm, torch.group_norm)
def _group_norm(
    input: torch.Tensor,
    num_groups: Any,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> Any:
    if not isinstance(num_groups, torch.SymInt) or input.dim() < 2:
        return NotImplemented
    batch, channels = input.shape[:2]
    groups: Any = num_groups
    torch._check(num_groups >= 1)  # type: ignore[no-untyped-call]
    torch._check(channels % groups == 0)  # type: ignore[no-untyped-call]
    length = channels // groups * math.prod(input.shape[2:])
    grouped = input.reshape(batch, num_groups, length)
    variance, mean = torch.var_mean(grouped, -1, correction=0, keepdim=True)
    result = ((grouped - mean) * torch.rsqrt(variance + eps)).reshape(input.shape)
    shape = [channels] + [1] * (input.dim() - 2)
    result = result if weight is None else result * weight.view(shape)
    return result if bias is None else result + bias.view(shape)


# -- real numbers ----------------------------------------------------------------------------------


def _quantile_of(function: Callable[..., Any]) -> Callable[..., Any]:
    def form(input: torch.Tensor, q: Any, dim: Any = None, keepdim: bool = False, **kw: Any) -> Any:
        if not _is_symbolic(q):
            return NotImplemented
        torch._check(q >= 0)  # type: ignore[no-untyped-call]
        torch._check(q <= 1)  # type: ignore[no-untyped-call]
        return function(input, input.new_full((), q), dim, keepdim, **kw)

    return form


@FORMS_BY_OPTION.of(F.layer_norm, torch.layer_norm)
def _layer_norm(
    input: torch.Tensor,
    normalized_shape: Any,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: Any = 1e-5,
) -> Any:
    dims = tuple(range(-len(normalized_shape), 0))
    if not _is_symbolic(eps) or not dims or len(dims) > input.dim() or input.is_nested:
        return NotImplemented
    for d in dims:
        torch._check(input.shape[d] == normalized_shape[d])  # type: ignore[no-untyped-call]
    variance, mean = torch.var_mean(input, dims, correction=0, keepdim=True)
    result = (input - mean) * torch.rsqrt(variance + eps)
    result = result if weight is None else result * weight
    return result if bias is None else result + bias


@FORMS_BY_OPTION.of(F.dropout, torch.dropout)
def _dropout(input: torch.Tensor, p: Any = 0.5, training: bool = True, inplace: Any = False) -> Any:
    # In training, the operator draws as its number says, and the number is pinned.
    if not _is_symbolic(p) or training:
        return NotImplemented
    torch._check(p >= 0)  # type: ignore[no-untyped-call]
    torch._check(p <= 1)  # type: ignore[no-untyped-call]
    return input.clone()


for _function, _method in (
    (torch.quantile, torch.Tensor.quantile),
    (torch.nanquantile, torch.Tensor.nanquantile),
):
    FORMS_BY_OPTION.of(_function, _method)(_quantile_of(_function))


@FORMS_BY_OPTION.of(F.pad)
def _pad(input: torch.Tensor, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    if not _is_symbolic(value) or mode != "constant":
        return NotImplemented
    return torch.constant_pad_nd(input, pad, value)


@FORMS_BY_OPTION.of(F.scaled_dot_product_attention)
def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: Any = None,
    enable_gqa: bool = False,
) -> Any:
    if query.is_nested:
        plain = attn_mask is None and not dropout_p and not enable_gqa
        return _of_ragged(query, key, value, is_causal, scale) if plain else NotImplemented
    if not _is_symbolic(scale):
        return NotImplemented
    return F.scaled_dot_product_attention(
        query * scale, key, value, attn_mask, dropout_p, is_causal, scale=1.0, enable_gqa=enable_gqa
    )


def _of_ragged(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_causal: bool, scale: Any
) -> Any:
    """The attention of jagged nested tensors: one over all rows, where a row sees its own sequence.

    torch chooses a kernel by the shortest sequence, which is data.
    """
    tensors: list[Any] = [query, key, value]
    if any(
        t.layout is not torch.jagged or t.dim() != 4 or t._ragged_idx != 2 or t._lengths is not None
        for t in tensors
    ):
        return NotImplemented
    q, k, v = (t.transpose(1, 2).values().transpose(0, 1) for t in tensors)
    own, place = _sequences(tensors[0].offsets(), q.shape[1])
    theirs, their_place = _sequences(tensors[1].offsets(), k.shape[1])
    mask = own.unsqueeze(1) == theirs
    if is_causal:
        mask = mask & (place.unsqueeze(1) >= their_place)
    out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale).transpose(0, 1)
    made: Any = nested_view_from_values_offsets
    return made(out.contiguous(), tensors[0].offsets()).transpose(1, 2)


def _sequences(offsets: torch.Tensor, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """The sequence of each row of a jagged tensor, and the row's place in it."""
    row = torch.arange(rows, device=offsets.device)
    sequence = torch.bucketize(row, offsets[1:], right=True)
    return sequence, row - offsets[sequence]


FORMS_BY_OPTION.of(F.interpolate)(interpolate_by_scale)
