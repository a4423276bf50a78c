"""Fake kernels for operators whose kernel in torch is missing, or returns wrong sizes.

``tests/parity/test_beyond_stock.py`` compares each of them with the real kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._prims_common import make_contiguous_strides_for

__all__ = ["KERNELS"]

_aten = torch.ops.aten

KERNELS: dict[Any, Callable[..., Any]] = {}
"""For an operator, a function of fake arguments that returns fake results, or NotImplemented."""

ASKED_FIRST: set[Any] = set()
"""Operators whose fake kernel in torch is wrong, so that the one here is called instead."""


def _kernel(
    *operators: Any, first: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        KERNELS.update(dict.fromkeys(operators, function))
        if first:
            ASKED_FIRST.update(operators)
        return function

    return register


def _is_symbolic(a: torch.Tensor) -> bool:
    return any(isinstance(n, torch.SymInt) for n in (*a.shape, *a.stride(), a.storage_offset()))


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


# torch's fake kernel describes one GPU's kernel, which takes bfloat16 alone.
@_kernel(_aten._grouped_mm.default, first=True)
def _grouped_mm(
    a: torch.Tensor, b: torch.Tensor, offs: Any = None, bias: Any = None, out_dtype: Any = None
) -> Any:
    jagged = 2 in (a.dim(), b.dim())
    if (
        {a.dim(), b.dim()} - {2, 3}
        or a.device.type != "cpu"
        or a.dtype is not b.dtype
        or a.dtype not in (torch.float32, torch.bfloat16, torch.float16)
        or bias is not None
        or out_dtype not in (None, a.dtype)
        or jagged != (offs is not None)
        or (jagged and (offs.dim() != 1 or offs.dtype is not torch.int32))
    ):
        return NotImplemented
    groups = offs.shape[0] if jagged else a.shape[0]
    agree = [given == groups for given in (x.shape[0] for x in (a, b) if x.dim() == 3)]
    # Where both are cut into groups, the cut dimension is the one that is summed over, and it
    # may be longer than the groups together.
    if not (a.dim() == b.dim() == 2):
        agree.append(a.shape[-1] == b.shape[-2])
    if not all(agree):
        return NotImplemented
    cut_alike = a.dim() == b.dim()
    return a.new_empty((*([groups] if cut_alike else []), a.shape[-2], b.shape[-1]))


# torch's fake kernel returns a row-major tensor. The real kernel fills a copy, which keeps the
# order of the dimensions.
@_kernel(_aten.index_fill.int_Scalar, _aten.index_fill.int_Tensor, first=True)
def _index_fill(a: torch.Tensor, dim: int, index: torch.Tensor, value: Any) -> Any:
    return a.clone().index_fill_(dim, index, value)


# torch's fake kernels of these two keep the order of the dimensions, and the real kernels do not.
@_kernel(_aten.log_sigmoid_forward.default, first=True)
def _log_sigmoid(a: torch.Tensor) -> Any:
    if a.device.type != "cpu":
        return NotImplemented
    return _aten.log_sigmoid_forward.default(a.new_empty(a.shape))


@_kernel(_aten.rrelu_with_noise.default, first=True)
def _rrelu(a: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    if a.device.type != "cpu":
        return NotImplemented
    return _aten.rrelu_with_noise.default(a, *args, **kwargs).new_empty(a.shape)


# torch's fake kernels cut the shape at a negative dimension as Python does, so they repeat sizes.
@_kernel(_aten.unique_consecutive.default, first=True)
def _unique_consecutive(
    a: torch.Tensor, return_inverse: bool = False, return_counts: bool = False, dim: Any = None
) -> Any:
    if dim is None or dim >= 0:
        return NotImplemented
    return _aten.unique_consecutive.default(a, return_inverse, return_counts, dim + a.dim())


@_kernel(_aten.unique_dim.default, first=True)
def _unique_dim(a: torch.Tensor, dim: int, *options: bool, **more: bool) -> Any:
    if dim >= 0:
        return NotImplemented
    return _aten.unique_dim.default(a, dim + a.dim(), *options, **more)


# torch's fake kernel returns a row-major tensor. The real kernel joins two slices, once a
# dimension.
@_kernel(_aten.roll.default, first=True)
def _roll(a: torch.Tensor, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Any:
    if a.dim() not in (4, 5) or not len(dims) == len(shifts) > 0 or _is_symbolic(a):
        return NotImplemented
    if any(type(shift) is not int for shift in shifts) or a.numel() == 0:
        return NotImplemented
    for shift, dim in zip(shifts, dims, strict=True):
        size = a.size(dim)
        start = -shift % size
        a = torch.cat([a.narrow(dim, start, size - start), a.narrow(dim, 0, start)], dim)
    return a


# torch's fake kernels take a size that is data for none that is 1, and say nothing. The real
# kernels take any size, so the graph asserts it.
@_kernel(
    _aten.squeeze.default,
    _aten.squeeze.dim,
    _aten.squeeze.dims,
    _aten.squeeze_.default,
    _aten.squeeze_.dim,
    _aten.squeeze_.dims,
    first=True,
)
def _squeeze(a: torch.Tensor, dim: Any = None) -> Any:
    dims = range(a.dim()) if dim is None else dim if isinstance(dim, (list, tuple)) else (dim,)
    for d in dims:
        size = a.shape[d] if -a.dim() <= d < a.dim() else 1
        if isinstance(size, torch.SymInt) and not size.node.has_hint():
            one: Any = size == 1
            known = isinstance(one, bool)
            if not (one if known else one.node.guard_or_false(__file__, 0)):  # nothing shows it
                torch._check(size != 1)
    return NotImplemented


def _ctc(log_probs: torch.Tensor, width: Any) -> Any:
    steps = log_probs.shape[0]
    batch = log_probs.shape[1:-1]
    losses = log_probs.new_empty(batch or ())
    return losses, log_probs.new_empty((*(batch or (1,)), steps, width))


@_kernel(_aten._ctc_loss.default)
def _ctc_loss(
    log_probs: torch.Tensor, targets: Any, input_lengths: Any, target_lengths: Any, *args: Any
) -> Any:
    # Blanks may stand between the labels of a target, before and after them.
    return _ctc(log_probs, 2 * max(target_lengths) + 1)


@_kernel(_aten._ctc_loss.Tensor)
def _ctc_loss_of(
    log_probs: torch.Tensor, targets: Any, input_lengths: Any, target_lengths: Any, *args: Any
) -> Any:
    width = _count(log_probs)
    if width is None:
        return NotImplemented
    torch._check(width >= 1)  # type: ignore[no-untyped-call]
    return _ctc(log_probs, width)


@_kernel(_aten._ctc_loss_backward.default, _aten._ctc_loss_backward.Tensor)
def _ctc_loss_backward(grad: torch.Tensor, log_probs: torch.Tensor, *args: Any) -> Any:
    return log_probs.new_empty(log_probs.shape)


@_kernel(_aten.fractional_max_pool3d_backward.default)
def _fractional_max_pool3d_backward(grad: torch.Tensor, a: torch.Tensor, *args: Any) -> Any:
    return a.new_empty(a.shape)


@_kernel(_aten.linalg_lstsq.default)
def _lstsq(
    a: torch.Tensor, b: torch.Tensor, rcond: float | None = None, *, driver: str | None = None
) -> Any:
    *batch, m, n = a.shape
    is_vector = b.dim() == 1 or (a.dim() - 1 == b.dim() and _same(b.shape, a.shape[:-1]))
    right = b.unsqueeze(-1) if is_vector else b
    if a.dim() != right.dim():
        return NotImplemented
    k = right.shape[-1]
    both = torch.broadcast_shapes(tuple(batch), right.shape[:-2])  # type: ignore[no-untyped-call]
    # LAPACK writes the solution over the right side, which may be longer.
    rows = torch.sym_max(m, n)  # type: ignore[no-untyped-call]
    solution = _column_major(b, both, rows, k)[..., :n, :]
    finds_values = driver in ("gelsd", "gelss")
    residuals: Any = (0,)
    if driver == "gels" and m > n:
        residuals = (*both, k)
    elif finds_values and m > n:
        # Residuals exist where the rank is full, which only data tells.
        count = _count(a, k) if not both else None
        if count is None:
            return NotImplemented
        residuals = (count,)
    real = a.dtype.to_real()
    least = torch.sym_min(m, n)  # type: ignore[no-untyped-call]
    return (
        solution.squeeze(-1) if is_vector else solution,
        b.new_empty(residuals, dtype=real),
        a.new_empty((0,) if driver == "gels" else tuple(batch), dtype=torch.int64),
        a.new_empty((*batch, least) if finds_values else (0,), dtype=real),
    )


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(bool(x == y) for x, y in zip(a, b, strict=True))


def _count(like: torch.Tensor, most: Any = None) -> Any:
    """A new unbacked size; None where the environment allows none."""
    env = like.fake_mode.shape_env  # type: ignore[attr-defined]
    if env is None or not env.allow_dynamic_output_shape_ops:
        return None
    count = env.create_unbacked_symint()
    torch._check(count >= 0)  # type: ignore[no-untyped-call]
    if most is not None:
        torch._check(count <= most)  # type: ignore[no-untyped-call]
    return count


# -- sparse ------------------------------------------------------------------------------------

# torch's fake kernel for known sizes returns a sparse tensor without elements.


@_kernel(_aten._to_sparse.sparse_dim, first=True)
def _to_sparse_dims(a: torch.Tensor, sparse_dim: int) -> Any:
    count = _count(a) if a.layout is torch.strided else None
    if count is None or not 0 <= sparse_dim <= a.dim():
        return NotImplemented
    return _aten._sparse_coo_tensor_with_dims_and_tensors(
        sparse_dim,
        a.dim() - sparse_dim,
        a.shape,
        a.new_empty((sparse_dim, count), dtype=torch.int64),
        a.new_empty((count, *a.shape[sparse_dim:])),
        dtype=a.dtype,
        layout=torch.sparse_coo,
        device=a.device,
        is_coalesced=True,
    )


@_kernel(_aten._to_sparse.default, first=True)
def _to_sparse(
    a: torch.Tensor,
    *,
    layout: torch.layout | None = None,
    blocksize: Any = None,
    dense_dim: int | None = None,
) -> Any:
    if layout not in (None, torch.sparse_coo) or blocksize is not None or dense_dim is not None:
        return NotImplemented
    return _to_sparse_dims(a, a.dim())


@_kernel(_aten.sparse_sampled_addmm.default)
def _sampled_addmm(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, **factors: Any) -> Any:
    # The result has the sparsity of `a`.
    return a.clone()


@_kernel(_aten._sparse_mm_reduce_impl.default)
def _mm_reduce(a: torch.Tensor, b: torch.Tensor, reduce: str) -> Any:
    out = b.new_empty((a.shape[0], b.shape[1]))
    needs_places = torch.is_grad_enabled() and (a.requires_grad or b.requires_grad)
    if reduce in ("amax", "amin") and needs_places:
        return out, b.new_empty(out.shape, dtype=torch.int64)
    return out, b.new_empty((0,), dtype=torch.int64)


# -- lists of tensors ----------------------------------------------------------------------------


# torch's fake kernel needs the number of elements as an int.
@_kernel(_aten._foreach_max.default, first=True)
def _foreach_max(tensors: Sequence[torch.Tensor]) -> Any:
    if not any(map(_is_symbolic, tensors)):
        return NotImplemented
    return [t.new_empty(()) for t in tensors]


# -- resizing ----------------------------------------------------------------------------------


# torch's fake kernel does not turn symbolic sizes into known ones.
@_kernel(_aten.resize_.default, first=True)
def _resize(a: torch.Tensor, size: Sequence[Any], *, memory_format: Any = None) -> Any:
    if memory_format not in (None, torch.contiguous_format) or not _is_symbolic(a):
        return NotImplemented
    if not _same(a.shape, size):
        _set_size(a, size)
    return a


def _set_size(a: torch.Tensor, size: Sequence[Any]) -> None:
    strides: Any = make_contiguous_strides_for(tuple(size))
    # This makes the storage larger where it must.
    _aten.set_.source_Storage_storage_offset(
        a, a.untyped_storage(), a.storage_offset(), size, strides
    )


@_kernel(_aten.resize_as_.default, first=True)
def _resize_as(a: torch.Tensor, like: torch.Tensor, *, memory_format: Any = None) -> Any:
    return _resize(a, like.shape, memory_format=memory_format)


# -- into an argument named out ----------------------------------------------------------------


def _into_out(operator: Any, functional: Any) -> None:
    """Give an operator with ``out`` arguments the kernel of its functional form."""
    names = [a.name for a in operator._schema.arguments if a.is_out]

    @_kernel(operator, first=True)
    def run(*args: Any, **kwargs: Any) -> Any:
        outs = [kwargs.pop(name) for name in names]
        known = KERNELS.get(functional)
        found = NotImplemented if known is None else known(*args, **kwargs)
        if found is NotImplemented:
            found = functional(*args, **kwargs)
        for out, result in zip(outs, found if len(outs) > 1 else (found,), strict=True):
            torch._check(  # type: ignore[no-untyped-call]
                torch.can_cast(result.dtype, out.dtype) and out.device == result.device,
                lambda result=result, out=out: (
                    f"{operator} cannot write its result of "
                    f"{result.dtype} on {result.device} to out, of {out.dtype} on {out.device}"
                ),
            )
            if result.layout is torch.strided and not _same(out.shape, result.shape):
                _set_size(out, result.shape)
        return outs[0] if len(outs) == 1 else tuple(outs)


for _operator, _functional in (
    (_aten._native_batch_norm_legit.out, _aten._native_batch_norm_legit.default),
    (_aten._native_batch_norm_legit.no_stats_out, _aten._native_batch_norm_legit.no_stats),
    (_aten.angle.out, _aten.angle.default),
    (_aten.gather.out, _aten.gather.default),
    (_aten.geqrf.a, _aten.geqrf.default),
    (_aten.histogram.bin_ct_out, _aten.histogram.bin_ct),
    (_aten.histogram.bins_tensor_out, _aten.histogram.bins_tensor),
    (_aten.linalg_lstsq.out, _aten.linalg_lstsq.default),
    (_aten.scatter.reduce_out, _aten.scatter.reduce),
    (_aten.scatter.src_out, _aten.scatter.src),
    (_aten.scatter.value_out, _aten.scatter.value),
    (_aten.scatter.value_reduce_out, _aten.scatter.value_reduce),
    (_aten.scatter_add.out, _aten.scatter_add.default),
    (_aten.sparse_sampled_addmm.out, _aten.sparse_sampled_addmm.default),
):
    _into_out(_operator, _functional)
