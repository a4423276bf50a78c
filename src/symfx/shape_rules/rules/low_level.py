"""Operators of aten that functions of torch decompose into; graphs of operators have them."""

from __future__ import annotations

from typing import Any

import torch

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes, named
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes
from symfx.shape_rules.table import also, axis, exactly, is_size, known_rules, rule

__all__: list[str] = []

_aten: Any = torch.ops.aten


def _words(text: str) -> list[str]:
    return text.split()


#: Operators that take the arguments of the function or the method of the same name.
_OF_FUNCTIONS = _words(
    """
    multinomial linspace logspace tril_indices triu_indices block_diag repeat_interleave expand_as
    view_as reshape_as narrow_copy movedim flatten unflatten ravel meshgrid hstack vstack dstack
    column_stack atleast_1d atleast_2d atleast_3d cosine_similarity pairwise_distance randperm
    cdist outer inner tensordot bilinear instance_norm hann_window hamming_window vander tile
    broadcast_to fliplr flipud argwhere take_along_dim
    """
)
for _name in _OF_FUNCTIONS:
    _function = getattr(torch, _name, _name)
    if _function not in known_rules():
        _function = _name
    _packet = getattr(_aten, _name, None)
    if _packet is not None and _function in known_rules() and _packet not in known_rules():
        also(_function, _packet)

also("narrow", *named("narrow_copy"))
for _name in _words(
    """
    cholesky_ex inv_ex qr vector_norm matrix_norm det slogdet svdvals eigh eig eigvalsh eigvals
    solve_triangular cross vecdot matrix_rank diagonal multi_dot matrix_exp pinv solve
    """
):
    _packet, _function = getattr(_aten, f"linalg_{_name}", None), getattr(torch.linalg, _name)
    if _packet is not None and _function in known_rules() and _packet not in known_rules():
        also(_function, _packet)
also(torch.linalg.eigh, _aten._linalg_eigh)


@rule(_aten._linalg_det)
def factored_determinant(d: Sizes, A: Shape) -> Any:
    """One number for each square matrix, and the factors that it is computed from."""
    result: Any = known_rules()[torch.linalg.det].function(d, A)
    return (result, A, Shape(A[:-1]))


@rule(_aten._linalg_slogdet)
def factored_sign_and_determinant(d: Sizes, A: Shape) -> Any:
    """Two numbers for each square matrix, and the factors that they are computed from."""
    result: Any = known_rules()[torch.linalg.det].function(d, A)
    return (result, result, A, Shape(A[:-1]))


@rule(_aten._linalg_solve_ex)
def factored_solution(d: Sizes, A: Shape, B: Shape, *, left: bool = True, **options: Any) -> Any:
    """The solution, the factors that it is computed from, and an error code for each matrix."""
    result: Any = known_rules()[torch.linalg.solve].function(d, A, B, left=left)
    return (result, A, Shape(A[:-1]), Shape(A[:-2]))


@rule(_aten._linalg_svd)
def factors(
    d: Sizes, A: Shape, full_matrices: bool = False, compute_uv: bool = True, **options: Any
) -> Any:
    """Two orthogonal matrices, which are empty on request, and the singular values."""
    left, values, right = known_rules()[torch.linalg.svd].function(d, A, full_matrices)
    return (left, values, right) if compute_uv else (Shape((0,)), values, Shape((0,)))


# -- one element at a time -------------------------------------------------------------------------

#: Operators that keep the shape of their first tensor.
_KEEPING = _words(
    """
    _conj _conj_physical alias_copy lift log_normal_ exponential_ geometric_ cauchy_
    random_ special_airy_ai special_bessel_j0 special_bessel_j1 special_bessel_y0
    special_bessel_y1 special_entr special_erfcx special_i0e special_i1 special_i1e special_log_ndtr
    special_ndtri special_ndtr special_modified_bessel_i0 special_modified_bessel_i1
    special_modified_bessel_k0 special_modified_bessel_k1 special_scaled_modified_bessel_k0
    special_scaled_modified_bessel_k1 special_spherical_bessel_j0 _neg_view
    """
)


@rule(
    *(getattr(_aten, name) for name in _KEEPING if hasattr(_aten, name)),
    *(name for name in _KEEPING if name.endswith("_") and hasattr(torch.Tensor, name)),
    *(_aten.uniform_, _aten.normal_),
)
def kept(d: Sizes, input: Shape, *settings: Any, **options: Any) -> Shape:
    """Keep the shape."""
    return input


@rule(_aten.native_dropout_backward)
def dropout_gradient(d: Sizes, grad_output: Shape, mask: Shape, scale: Any) -> Shape:
    """The product of a gradient, a mask and a number."""
    return broadcast_shapes(d, grad_output, mask)


@rule(
    _aten._softmax_backward_data,
    _aten._log_softmax_backward_data,
)
def gradient(d: Sizes, grad_output: Shape, other: Shape, *settings: Any, **options: Any) -> Shape:
    """Keep the shape, which is that of the other tensor."""
    exactly(other, len(grad_output), "the gradient")
    for a, b in zip(grad_output, other, strict=True):
        d.equal(a, b, "the gradient has the shape of the result")
    return grad_output


_POLYNOMIALS = [
    f"special_{shifted}{kind}"
    for shifted in ("", "shifted_")
    for kind in _words(
        """
        chebyshev_polynomial_t chebyshev_polynomial_u chebyshev_polynomial_v chebyshev_polynomial_w
        hermite_polynomial_h hermite_polynomial_he laguerre_polynomial_l legendre_polynomial_p
        """
    )
]
_OF_SEVERAL = [*_POLYNOMIALS, "special_xlog1py", "special_zeta", "_prelu_kernel"]


@rule(
    *(getattr(_aten, name) for name in _OF_SEVERAL if hasattr(_aten, name)),
    *(
        getattr(torch.special, name.removeprefix("special_"))
        for name in [*_POLYNOMIALS, "special_zeta"]
        if hasattr(torch.special, name.removeprefix("special_"))
    ),
    *(_aten.normal, torch.normal, _aten.rrelu_with_noise),
)
def broadcasting(d: Sizes, *operands: Any, **options: Any) -> Any:
    """The shape that the tensors broadcast to; without tensors, the size that is given."""
    shapes = [x for x in (*operands, *options.values()) if isinstance(x, Shape)]
    if shapes:
        return broadcast_shapes(d, *shapes, what="the operands broadcast")
    given = [x for x in (*operands, options.get("size")) if isinstance(x, (tuple, list))]
    return Shape(given[0]) if given and all(map(is_size, given[0])) else UNKNOWN


@rule(*named("polygamma"), torch.special.polygamma, _aten.special_polygamma)
def polygamma(d: Sizes, *given: Any) -> Any:
    """Keep the shape of the tensor; the order is a number."""
    for order in given:
        if isinstance(order, int) and order < 0:
            raise IllTypedError(f"polygamma takes an order of 0 or more, not {order}")
    return next((x for x in given if isinstance(x, Shape)), UNKNOWN)


@rule(_aten.log_sigmoid_forward)
def log_sigmoid_forward(d: Sizes, input: Shape) -> Any:
    """The result, and a buffer for a backward pass."""
    return (input, Shape((d.fresh("a buffer"),)))


@rule(*named("frexp"))
def mantissa_and_exponent(d: Sizes, input: Shape) -> Any:
    """Two numbers for each element."""
    return (input, input)


# -- elements that are searched for ----------------------------------------------------------------


@rule(*named("isin"))
def isin(d: Sizes, elements: Any, test_elements: Any, **options: Any) -> Any:
    """A truth value for each element."""
    return elements if isinstance(elements, Shape) else Shape()


@rule(*named("searchsorted"))
def searchsorted(d: Sizes, sorted_sequence: Shape, values: Any, **options: Any) -> Any:
    """One place in a sorted sequence for each value."""
    if not isinstance(values, Shape):
        return Shape()
    if len(sorted_sequence) > 1:
        if len(values) != len(sorted_sequence):
            raise IllTypedError(
                f"searchsorted takes values of the rank of {sorted_sequence}, not {values}"
            )
        for a, b in zip(sorted_sequence[:-1], values[:-1], strict=True):
            d.equal(a, b, "searchsorted takes values for each sequence")
    return values


@rule(torch.unique_consecutive, "unique_consecutive", torch.functional.unique_consecutive)
def unique_consecutive(
    d: Sizes,
    input: Shape,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: Any = None,
) -> Any:
    """The elements without repetitions; their number is data."""
    return _unique(d, input, return_inverse, return_counts, dim)


@rule(torch.unique, "unique")
def unique(
    d: Sizes,
    input: Shape,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: Any = None,
) -> Any:
    """The different elements; their number is data."""
    return _unique(d, input, return_inverse, return_counts, dim)


@rule(_aten._unique2)
def unique_2(
    d: Sizes,
    input: Shape,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
) -> Any:
    """The different elements, and two tensors which are empty unless they are asked for."""
    count = d.fresh("the number of different elements")
    inverse = input if return_inverse else Shape((0,))
    return (Shape((count,)), inverse, Shape((count,)) if return_counts else Shape((0,)))


def _unique(d: Sizes, input: Shape, inverse: bool, counts: bool, dim: Any) -> Any:
    count = d.fresh("the number of different elements")
    if dim is None:
        values, places = Shape((count,)), input
    else:
        i = axis(dim, len(input), "unique")
        values, places = Shape((*input[:i], count, *input[i + 1 :])), Shape((input[i],))
    parts = (values, *((places,) if inverse else ()), *((Shape((count,)),) if counts else ()))
    return parts if len(parts) > 1 else values


# -- views and layers ------------------------------------------------------------------------------


@rule(*named("as_strided"), _aten.as_strided_copy, takes_unknown=True)
def as_strided(d: Sizes, input: Any, size: Any, *layout: Any, **options: Any) -> Any:
    """The given shape, with one stride for each dimension."""
    strides = layout[0] if layout else options.get("stride")
    offset = options.get("storage_offset", layout[1] if len(layout) > 1 else 0)
    if isinstance(offset, int) and offset < 0:
        raise IllTypedError(f"as_strided takes an offset of 0 or more, not {offset}")
    if isinstance(strides, (tuple, list)) and len(strides) != len(size):
        raise IllTypedError(f"as_strided takes one stride for each size, not {strides} for {size}")
    return Shape(s if is_size(s) else d.fresh("a size") for s in size)


@rule("resize_", _aten.resize_)
def resize(d: Sizes, input: Shape, *size: Any, **options: Any) -> Shape:
    """The given shape, of any number of elements."""
    given = size[0] if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    for each in given:
        if is_size(each):
            d.require(">=", each, 0, "resize_ takes sizes of 0 or more")
    return Shape(each if is_size(each) else d.fresh("a size") for each in given)


@rule("resize_as_", _aten.resize_as_)
def resize_as(d: Sizes, input: Shape, other: Shape, **options: Any) -> Shape:
    """The shape of the other tensor."""
    return other


@rule(*named("diagflat"))
def diagflat(d: Sizes, input: Shape, offset: Dim = 0) -> Shape:
    """All elements on the diagonal of a matrix."""
    size = d.product(input) + d.compute("max", offset, 0 - offset)
    return Shape((size, size))


@rule("sum_to_size")
def sum_to_size(d: Sizes, input: Shape, *size: Any) -> Shape:
    """The given shape, which broadcasts to that of the tensor."""
    given = tuple(size[0]) if len(size) == 1 and isinstance(size[0], (tuple, list)) else size
    wanted = Shape(given)
    if len(wanted) > len(input):
        raise IllTypedError(f"{input} cannot be summed to {wanted}, which has a higher rank")
    for a, b in zip(reversed(wanted), reversed(input), strict=False):
        d.stretch(a, b, "the sum has the given size")
    return wanted


@rule(_aten.mkldnn_rnn_layer)
def recurrent_layer(
    d: Sizes, input: Shape, w0: Any, w1: Any, w2: Any, w3: Any, hx: Shape, cx: Shape, *settings: Any
) -> Any:
    """The outputs of all steps, the last states, and a workspace."""
    length, batch, _ = exactly(input, 3, "mkldnn_rnn_layer")
    hidden: Dim = hx[-1]
    outputs = Shape((length, batch, hidden))
    return (outputs, hx, cx, Shape((d.fresh("a workspace"),)))


@rule(_aten.lstm_cell)
def lstm_cell(d: Sizes, input: Shape, hx: Any, w_ih: Shape, w_hh: Shape, *biases: Any) -> Any:
    """The next hidden and cell states."""
    d.equal(input[-1], w_ih[1], "the last dimension of the input of lstm_cell")
    return (hx[0], hx[1])


@rule(_aten.gru_cell, _aten.rnn_tanh_cell, _aten.rnn_relu_cell)
def recurrent_cell(d: Sizes, input: Shape, hx: Shape, w_ih: Shape, *weights: Any) -> Shape:
    """The next state."""
    d.equal(input[-1], w_ih[1], "the last dimension of the input of a recurrent cell")
    return hx
