"""The dtypes of the results of operators, by families of operators."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from symfx.shape_rules.promotion import (
    Call,
    Element,
    Known,
    category,
    elements_of,
    number_dtype,
    promoted,
)

__all__ = ["FLOATING", "IN_PLACE", "result_dtype"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Operators whose result is boolean.
_BOOLEAN = _words(
    """
    eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ not_equal greater greater_equal less
    less_equal isnan isinf isfinite isposinf isneginf isreal isclose isin logical_not logical_and
    logical_or logical_xor signbit bool
    """
)
#: Operators whose result has the dtype of their first tensor.
_KEEPING = _words(
    """
    getitem view reshape _unsafe_view flatten unflatten ravel view_as reshape_as transpose swapaxes
    swapdims t adjoint permute movedim moveaxis squeeze unsqueeze expand expand_as broadcast_to
    repeat tile repeat_interleave clone contiguous detach alias cpu cuda split chunk unbind
    tensor_split unsafe_split unsafe_chunk split_with_sizes select narrow slice index index_select
    gather take take_along_dim masked_select masked_fill masked_scatter tril triu flip fliplr flipud
    roll rot90 diagonal diag diag_embed unfold relu relu6 neg negative positive neg_ sign floor ceil
    round trunc pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d
    replication_pad1d replication_pad2d replication_pad3d max_pool1d max_pool2d max_pool3d
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    lp_pool1d lp_pool2d lp_pool3d max_unpool1d max_unpool2d max_unpool3d interpolate upsample
    pixel_shuffle pixel_unshuffle channel_shuffle dropout dropout1d dropout2d dropout3d
    alpha_dropout gelu silu mish elu selu celu leaky_relu hardtanh hardswish hardsigmoid softplus
    softsign tanhshrink hardshrink softshrink logsigmoid rrelu threshold prelu glu layer_norm
    rms_norm group_norm batch_norm instance_norm local_response_norm normalize fold im2col col2im
    grid_sample grid_sampler_2d grid_sampler_3d affine_grid cummax cummin msort amax amin
    new_zeros new_ones new_empty new_full zeros_like ones_like empty_like rand_like randn_like
    full_like randint_like scatter scatter_add scatter_reduce index_copy index_add index_fill
    index_put index_reduce select_scatter slice_scatter diagonal_scatter square clip
    """
)
#: Operators whose result has the dtype to which their tensors are promoted.
_PROMOTING = _words(
    """
    add sub subtract mul multiply rsub floordiv floor_divide mod remainder fmod pow maximum minimum
    fmax fmin iadd isub imul ifloordiv imod ipow and_ or_ xor iand ior ixor invert not_ __and__
    __or__ __xor__ __invert__ bitwise_and bitwise_or bitwise_xor bitwise_not lshift rshift where
    lerp cat concat concatenate stack hstack vstack dstack column_stack row_stack addcmul clamp
    clamp_min clamp_max heaviside hypot gcd lcm outer ger inner mm bmm matmul __matmul__ mv dot
    vdot addmm
    baddbmm addmv addbmm addr einsum tensordot kron cross linear bilinear conv1d conv2d conv3d
    conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention
    """
)
#: As `_PROMOTING`; integers become floats of the default dtype.
FLOATING = _words(
    """
    truediv div divide true_divide itruediv exp exp2 expm1 log log10 log1p log2 sqrt rsqrt sin cos
    tan asin acos atan sinh cosh tanh asinh acosh atanh sigmoid reciprocal erf erfc erfinv lgamma
    digamma atan2 arctan2 logit sinc deg2rad rad2deg logsumexp softmax log_softmax softmin i0
    polygamma mvlgamma special_i0 xlogy ldexp
    """
)
#: Operators that add or multiply along dimensions: integers become int64.
_SUMMING = _words("sum nansum prod cumsum cumprod trace")
#: Operators whose result is indices.
_INDICES = _words(
    """
    argmax argmin argsort nonzero argwhere searchsorted bucketize multinomial randperm one_hot
    count_nonzero bincount histc_ tril_indices triu_indices
    """
)
#: Operators with two results: the first has the dtype of the argument, the second has indices.
_WITH_INDICES = _words(
    """
    max min sort topk kthvalue mode median nanmedian cummax cummin max_pool1d max_pool2d max_pool3d
    max_pool2d_with_indices max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d
    """
)
#: Methods that cast, by name.
_CASTS = {
    "float": torch.float32,
    "double": torch.float64,
    "half": torch.float16,
    "bfloat16": torch.bfloat16,
    "long": torch.int64,
    "int": torch.int32,
    "short": torch.int16,
    "char": torch.int8,
    "byte": torch.uint8,
    "bool": torch.bool,
}
#: Functions that make tensors of the default dtype.
_MAKING = _words("zeros ones empty rand randn linspace logspace eye empty_strided hann_window")
#: Python's operators that change their first operand.
IN_PLACE = _words(
    """
    iadd isub imul ifloordiv imod ipow itruediv iand ior ixor ilshift irshift setitem index_put copy
    """
)
#: Operators that take a Boolean argument as an operand; other operators take it as a setting.
_KEEPS_BOOL = _words("and_ or_ xor where fill add mul sub")
#: Python's operators on two numbers.
_ARITHMETIC = _words("add sub mul floordiv mod truediv iadd isub imul ifloordiv imod itruediv")
#: Of `FLOATING`, the operators of several operands.
_OF_SEVERAL = _words("truediv div divide true_divide itruediv atan2 arctan2 xlogy ldexp")
_REAL = {torch.complex64: torch.float32, torch.complex128: torch.float64}
_COMPLEX = {real: whole for whole, real in _REAL.items()} | {whole: whole for whole in _REAL}


def result_dtype(call: Call) -> Known:
    """The dtype of the result of an operator; a tuple for several results."""
    name, first = call.name, call.first
    kinds = {e.dtype for e in call.elements}
    if name in _ARITHMETIC and kinds and kinds <= {int, float}:
        return float if name in ("truediv", "itruediv") or float in kinds else int
    if call.in_place and name != "requires_grad" and first not in (bool, int, float):
        return first
    if call.asks_unknown:
        return None
    for names, result in _FAMILIES:
        if name in names:
            return result(call)
    if name in _CASTS:
        return _CASTS[name]
    if name in ("to", "type", "_to_copy", "type_as"):
        other = call.argument(1, "other")
        is_dtype = isinstance(other, Element) and other.dtype is not torch.device
        return call.asked or (other.dtype if is_dtype else first)
    return None


def _default(call: Call) -> Known:
    return call.asked or torch.get_default_dtype()


def _promotion(call: Call) -> Known:
    scales = ("alpha", "beta")
    options = [value for name, value in call.kwargs.items() if name not in scales]
    operands = [*elements_of((*call.args, *options))]
    if call.name == "where":
        condition = 1 if call.target == "where" else 0
        values = [value for i, value in enumerate(call.args) if i != condition]
        operands = [*elements_of((*values, *call.kwargs.values()))]
    return promoted([e for e in operands if e.dtype is not bool or call.name in _KEEPS_BOOL])


def _floats(call: Call) -> Known:
    """The dtype of operands as floats."""
    if call.asked is not None:
        return call.asked
    if call.name in ("div", "divide") and call.kwargs.get("rounding_mode"):
        return _promotion(call)
    return _as_float(call.first if call.name not in _OF_SEVERAL else promoted(call.elements))


def _as_float(dtype: Known) -> Known:
    if isinstance(dtype, torch.dtype) and category(dtype) < 2:
        return torch.get_default_dtype()
    return dtype


def _sums(call: Call) -> Known:
    first = call.first
    if call.asked is None and isinstance(first, torch.dtype) and category(first) < 2:
        return torch.int64
    return call.asked or first


def _with_indices(call: Call) -> Known:
    other = call.argument(1, "other")
    if call.name in ("max", "min", "median", "nanmedian") and len(call.elements) == 1:
        return call.first  # of all elements
    if "pool" in call.name and not call.name.endswith("with_indices"):
        place = 2 if call.name.startswith("adaptive") else 6
        if call.argument(place, "return_indices") is not True:
            return call.first
    if isinstance(other, Element) and isinstance(other.dtype, torch.dtype):
        return promoted([call.elements[0], other])
    return (call.first, torch.int64)


def _as_given(call: Call) -> Known:
    """The dtype of a tensor that is made of numbers."""
    if call.asked is not None:
        return call.asked
    options = ("device", "layout", "out")
    values = [value for name, value in call.kwargs.items() if name not in options]
    given = [*elements_of((*call.args, *values))]
    given = [e for e in given if e.dtype is not bool or call.name != "arange"]
    if call.name == "full":
        value = call.argument(1, "fill_value")
        given = [*elements_of(value)]
    kinds = {e.dtype for e in given}
    if any(isinstance(kind, torch.dtype) or kind is None for kind in kinds):
        return kinds.pop() if len(kinds) == 1 else None
    if not kinds:
        return torch.get_default_dtype()
    return functools.reduce(torch.promote_types, map(number_dtype, kinds))


def _first(call: Call) -> Known:
    return call.asked or call.first


def _real(call: Call) -> Known:
    return _REAL.get(call.first, call.first)


def _complex(call: Call) -> Known:
    return _COMPLEX.get(_as_float(call.first))


def _mean(call: Call) -> Known:
    first = call.first
    if call.asked is None and isinstance(first, torch.dtype) and category(first) < 2:
        return None
    return call.asked or _real(call) if call.name in ("std", "var", "norm") else _first(call)


#: For each family of operators the dtype of the result.
_FAMILIES: tuple[tuple[frozenset[str], Callable[[Call], Known]], ...] = (
    (_BOOLEAN, lambda call: torch.bool),
    (_WITH_INDICES, _with_indices),
    (_words("all any"), lambda call: torch.uint8 if call.first == torch.uint8 else torch.bool),
    (_INDICES, lambda call: torch.int64),
    (_MAKING, _default),
    (_words("randint"), lambda call: call.asked or torch.int64),
    (_words("full tensor as_tensor scalar_tensor arange"), _as_given),
    (_SUMMING, _sums),
    (_words("real imag abs angle view_as_real"), _real),
    (_words("fft ifft fft2 ifft2 fftn ifftn rfft rfft2 rfftn view_as_complex"), _complex),
    (_words("mean std var norm nanmean"), _mean),
    (_PROMOTING, _promotion),
    (FLOATING, _floats),
    (_KEEPING, _first),
)
