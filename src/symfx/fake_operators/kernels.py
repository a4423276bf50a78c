"""What some operators return, by size, that torch has no fake kernels for.

Used where torch's own fake mode gives up, and nowhere else; each is compared with the real kernel
by ``tests/parity/test_beyond_stock.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

__all__ = ["KERNELS"]

_aten = torch.ops.aten

KERNELS: dict[Any, Callable[..., Any]] = {}
"""For an operator, a function of fake arguments that returns fake results, or NotImplemented."""


def _kernel(*operators: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        KERNELS.update(dict.fromkeys(operators, function))
        return function

    return register


def _column_major(like: torch.Tensor, batch: Sequence[Any], rows: Any, columns: Any) -> Any:
    """A batch of matrices whose columns are contiguous, as LAPACK leaves them."""
    return like.new_empty((*batch, columns, rows)).mT


@_kernel(_aten.geqrf.default)
def _geqrf(a: torch.Tensor) -> Any:
    *batch, m, n = a.shape
    least = torch.sym_min(m, n)  # type: ignore[no-untyped-call]
    return _column_major(a, batch, m, n), a.new_empty((*batch, least))


@_kernel(_aten.histogram.bin_ct)
def _histogram(a: torch.Tensor, bins: Any = 100, **options: Any) -> Any:
    return a.new_empty((bins,)), a.new_empty((bins + 1,))


@_kernel(_aten.histogram.bins_tensor)
def _histogram_of(a: torch.Tensor, bins: torch.Tensor, **options: Any) -> Any:
    return a.new_empty((bins.shape[0] - 1,)), torch.empty_like(bins)


@_kernel(_aten._histogramdd_bin_edges.default)
def _histogramdd_edges(a: torch.Tensor, bins: Sequence[Any], **options: Any) -> Any:
    return [a.new_empty((n + 1,)) for n in bins]


@_kernel(_aten._histogramdd_from_bin_cts.default)
def _histogramdd(a: torch.Tensor, bins: Sequence[Any], **options: Any) -> Any:
    return a.new_empty(tuple(bins))


@_kernel(_aten._histogramdd_from_bin_tensors.default)
def _histogramdd_of(a: torch.Tensor, bins: Sequence[torch.Tensor], **options: Any) -> Any:
    return a.new_empty([edges.shape[0] - 1 for edges in bins])


def _ctc(log_probs: torch.Tensor, width: Any) -> Any:
    steps = log_probs.shape[0]
    batch = log_probs.shape[1:-1]
    losses = log_probs.new_empty(batch or ())
    return losses, log_probs.new_empty((*(batch or (1,)), steps, width))


@_kernel(_aten._ctc_loss.default)
def _ctc_loss(
    log_probs: torch.Tensor, targets: Any, input_lengths: Any, target_lengths: Any, *args: Any
) -> Any:
    # Between the labels of a target, before and after them, there may be blanks.
    return _ctc(log_probs, 2 * max(target_lengths) + 1)


@_kernel(_aten._ctc_loss.Tensor)
def _ctc_loss_of(
    log_probs: torch.Tensor, targets: Any, input_lengths: Any, target_lengths: Any, *args: Any
) -> Any:
    env = log_probs.fake_mode.shape_env  # type: ignore[attr-defined]
    if env is None:
        return NotImplemented
    width = env.create_unbacked_symint()
    torch._check(width >= 1)  # type: ignore[no-untyped-call]
    return _ctc(log_probs, width)


@_kernel(_aten.linalg_lstsq.default)
def _lstsq(
    a: torch.Tensor, b: torch.Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    if a.dim() != b.dim() or driver not in (None, "gelsy", "gels"):
        # A vector on the right; or residuals that are there only at full rank.
        return NotImplemented
    *batch, m, n = a.shape
    k = b.shape[-1]
    if any(bool(x != y) for x, y in zip(batch, b.shape[:-2], strict=True)):
        return NotImplemented
    # The solution takes the place of the right side, which may be longer.
    rows = torch.sym_max(m, n)  # type: ignore[no-untyped-call]
    solution = _column_major(b, batch, rows, k)[..., :n, :]
    residuals = b.new_empty((*batch, k) if driver == "gels" and m > n else (0,))
    rank = a.new_empty((0,) if driver == "gels" else tuple(batch), dtype=torch.int64)
    return solution, residuals, rank, a.new_empty((0,))
