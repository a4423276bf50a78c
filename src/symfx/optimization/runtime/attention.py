"""Multi-head attention between projected queries, keys and values, as one node of a graph."""

from __future__ import annotations

import torch
from torch import Tensor

from symfx.errors import InputMismatchError
from symfx.optimization.runtime.leaf_calls import Effect, leaf_function
from symfx.optimization.runtime.one_pass import sdpa

__all__ = ["additive_mask", "attend", "fast_path_mask", "self_attend"]


@leaf_function(Effect.FRESH)
def self_attend(
    projected: Tensor, heads: int, batch_first: bool, mask: Tensor | None = None
) -> Tensor:
    """Attention of a sequence to itself, as in `torch.nn.MultiheadAttention`.

    Args:
        projected: queries, keys and values side by side, of shape ``(batch, length, 3 * width)``,
            ``(length, batch, 3 * width)`` or ``(length, 3 * width)``.
        heads: the number of heads; they divide ``width``.
        batch_first: whether the first of three dimensions is the batch.
        mask: see `attend`.
    """
    query, key, value = projected.chunk(3, -1)
    result: Tensor = attend(query, key, value, heads, batch_first, mask)
    return result


@leaf_function(Effect.FRESH)
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    batch_first: bool,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention of queries to the keys and values of another sequence.

    `torch.nn.MultiheadAttention` computes the same between its projections; the formula is that of
    Vaswani et al., "Attention Is All You Need" (2017), section 3.2.

    Args:
        query: of shape ``(batch, length, width)``, ``(length, batch, width)`` or
            ``(length, width)``.
        key: likewise, of another length.
        value: of the shape of ``key``.
        heads: the number of heads; they divide ``width``.
        batch_first: whether the first of three dimensions is the batch.
        mask: the numbers of `additive_mask`, of shape ``(length, length of key)`` or
            ``(batch * heads, length, length of key)``.

    Returns:
        the heads' results side by side, of the shape of ``query``, contiguous.

    Raises:
        InputMismatchError: the two sequences differ in their batch size.
    """
    if query.dim() == key.dim() == 3:
        batch = 0 if batch_first else 1
        if query.shape[batch] != key.shape[batch]:
            raise InputMismatchError(
                f"attention between batches of {query.shape[batch]} and {key.shape[batch]}",
                fix="pass queries and keys of one batch size",
            )
    # Each head gets the shape (batch, heads, length, width of a head).
    batched = query.dim() == 3
    q, k, v = (_heads(x, heads, batch_first, batched) for x in (query, key, value))
    if mask is not None and mask.dim() == 3:
        mask = mask.view(-1, heads, *mask.shape[1:])
    found: Tensor = sdpa(q, k, v, attn_mask=mask)
    order = (0, 2, 1, 3) if batch_first or not batched else (2, 0, 1, 3)
    return found.permute(order).reshape(query.shape)


def _heads(x: Tensor, heads: int, batch_first: bool, batched: bool) -> Tensor:
    if not batched:
        x, batch_first = x.unsqueeze(0), True
    order = (0, 2, 1, 3) if batch_first else (1, 2, 0, 3)
    return x.reshape(*x.shape[:-1], heads, x.shape[-1] // heads).permute(order)


@leaf_function(Effect.VIEW)
def additive_mask(mask: Tensor, like: Tensor) -> Tensor:
    """A mask as numbers that are added to the scores: for a Boolean one, -inf where it is True.

    Args:
        mask: of any dtype that `torch.nn.MultiheadAttention` takes.
        like: a tensor of the dtype of the result.
    """
    if mask.dtype is torch.bool:
        return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
    return mask.to(like.dtype)


@leaf_function(Effect.VIEW)
def fast_path_mask(mask: Tensor, like: Tensor, learns: bool, floats: bool) -> Tensor:
    """The mask that has the effect of ``mask`` on the fast path of torch, where torch takes it.

    On that path torch's kernel hides each score whose number in the mask is not zero, and a row
    that is wholly hidden is NaN. Elsewhere the numbers are added, and such a row is zero.

    Args:
        mask: see `additive_mask`.
        like: the first argument of the layer.
        learns: whether a weight of the layers that lead to the scores requires gradients.
        floats: whether the path is taken with a mask of numbers too.
    """
    taken = (
        torch.backends.mha.get_fastpath_enabled()
        and like.dim() == 3
        and not torch.is_autocast_enabled()
        and not (torch.is_grad_enabled() and (learns or like.requires_grad))
        and (floats or not mask.is_floating_point())
    )
    if not taken:
        result: Tensor = additive_mask(mask, like)
        return result
    hidden = mask != 0
    added = torch.zeros_like(mask, dtype=like.dtype).masked_fill_(hidden, float("-inf"))
    return added.masked_fill_(hidden.all(-1, keepdim=True), float("nan"))
