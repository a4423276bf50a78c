"""Operators on single elements, of one tensor or of several tensors that broadcast."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.fractions_of_sizes import compared as fraction_compared
from symfx.shape_rules.fractions_of_sizes import computed, magnitude, power, quotient
from symfx.shape_rules.sizes import NO_TENSOR, UNKNOWN, Dim, NoTensor, Shape, Size, Sizes
from symfx.shape_rules.table import at_least, axis, exactly, module_rule, rule
from symfx.shape_rules.weights import weight_shape

__all__ = ["broadcast_shapes", "into", "named"]


def broadcast_shapes(d: Sizes, *shapes: Shape, what: str = "broadcasting") -> Shape:
    """The shape that shapes broadcast to, aligned at their last dimensions."""
    result: tuple[Dim, ...] = ()
    for shape in shapes:
        longer, shorter = (result, shape) if len(result) >= len(shape) else (shape, result)
        lacking = len(longer) - len(shorter)
        result = (
            *longer[:lacking],
            *(
                d.broadcast(a, b, what)
                for a, b in zip(
                    *(
                        (longer[lacking:], shorter)
                        if longer is result
                        else (shorter, longer[lacking:])
                    ),
                    strict=True,
                )
            ),
        )
    return Shape(result)


def _words(text: str) -> list[str]:
    return text.split()


def named(*names: str) -> list[Any]:
    """The functions of these names in torch and torch.nn.functional, and the methods."""
    found: list[Any] = []
    for name in names:
        for home in (torch, F, torch.special):
            function = getattr(home, name, None)
            if callable(function) and function not in found and not isinstance(function, type):
                found.append(function)
        if hasattr(torch.Tensor, name):
            found.append(name)
        in_place = f"{name}_"
        if hasattr(torch.Tensor, in_place):
            found.append(in_place)
        for home in (torch, F):
            function = getattr(home, in_place, None)
            if callable(function) and function not in found:
                found.append(function)
        packets = (getattr(torch.ops.aten, n, None) for n in (name, in_place))
        found += [packet for packet in packets if packet is not None]
    return found


#: Operators that keep the shape of their first tensor; all other arguments are settings.
_SAME = _words(
    "abs acos acosh alpha_dropout angle asin asinh atan atanh bernoulli bfloat16 bitwise_not "
    "bool byte ceil celu char clone conj contiguous cos cosh "
    "cpu cuda deg2rad detach digamma double dropout dropout1d dropout2d "
    "dropout3d elu erf erfc erfinv exp exp2 expm1 feature_alpha_dropout fill fix float "
    "floor frac gelu half hardshrink hardsigmoid hardswish hardtanh i0 int "
    "isfinite isinf isnan leaky_relu lgamma log log10 log1p log2 "
    "logical_not logit logsigmoid long mish nan_to_num neg negative positive "
    "rad2deg real reciprocal relu relu6 requires_grad round rrelu rsqrt selu sgn short "
    "sigmoid sign signbit silu sin sinc sinh softplus softshrink softsign "
    "sqrt square tan tanh tanhshrink threshold to trunc type_as zero ones_like zeros_like "
    "rand_like randn_like empty_like full_like randint_like alias lift_fresh_copy "
    "_to_copy detach_copy lift_fresh isposinf isneginf isreal imag conj_physical resolve_conj "
    "resolve_neg mvlgamma entr ndtr ndtri log_ndtr erfcx i0e i1 i1e bessel_j0 bessel_j1 bessel_y0 "
    "bessel_y1 airy_ai msort "
)


def _unary_targets() -> list[Any]:
    unique: dict[Any, None] = dict.fromkeys(named(*_SAME))
    for name in ("uniform_", "normal_", "type", "pin_memory", "retain_grad", "requires_grad_"):
        unique[name] = None
    return [*unique]


#: The memory formats that only tensors of one rank can have.
_LAYOUTS = {torch.channels_last: 4, torch.channels_last_3d: 5}


@rule(*_unary_targets())
def elementwise(d: Sizes, input: Any, *settings: Any, **options: Any) -> Any:
    """Keep the shape."""
    for layout, rank in _LAYOUTS.items():
        if options.get("memory_format") is layout and isinstance(input, Shape):
            exactly(input, rank, f"the memory format {layout}")
    return input


@rule(operator.pos)
def unchanged(d: Sizes, value: Any) -> Any:
    """Keep the shape, or the number."""
    return value


@rule(operator.neg)
def negative(d: Sizes, value: Any) -> Any:
    """Keep the shape; a number with the other sign."""
    if isinstance(value, (int, float, Size)):
        return -value
    return (computed(d, "-", 0, value) or NO_TENSOR) if isinstance(value, NoTensor) else value


@rule(operator.abs)
def absolute(d: Sizes, value: Any) -> Any:
    """Keep the shape; a number without its sign."""
    if isinstance(value, (int, float, Size)):
        return abs(value)
    return magnitude(d, value) if isinstance(value, NoTensor) else value


@rule(operator.invert)
def inverted(d: Sizes, value: Any) -> Any:
    """Keep the shape; ``-n - 1`` of a number."""
    if isinstance(value, Dim):
        return -1 - value
    return value


_SAME_MODULES = (
    nn.AlphaDropout,
    nn.CELU,
    nn.Dropout,
    nn.ELU,
    nn.GELU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.Identity,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.RReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanh,
    nn.Tanhshrink,
    nn.Threshold,
)


@rule(torch.ops.aten.native_dropout)
def native_dropout(d: Sizes, input: Shape, *settings: Any) -> Any:
    """The result, and a mask of the elements that are kept."""
    return (input, input)


@module_rule(*_SAME_MODULES)
def elementwise_module(d: Sizes, module: nn.Module, input: Shape) -> Shape:
    """Keep the shape."""
    return input


@module_rule(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.FeatureAlphaDropout)
def channel_dropout_module(d: Sizes, module: nn.Module, input: Shape) -> Shape:
    """Keep the shape; whole channels are left out."""
    if isinstance(module, nn.Dropout1d) and len(input) not in (2, 3):
        raise IllTypedError(f"Dropout1d takes a tensor of rank 2 or 3, not {input}")
    return at_least(input, 2, type(module).__name__) if module.training else input


@module_rule(nn.Softmax2d)
def softmax_2d_module(d: Sizes, module: nn.Module, input: Shape) -> Shape:
    """Keep the shape."""
    if len(input) not in (3, 4):
        raise IllTypedError(f"Softmax2d takes a tensor of rank 3 or 4, not {input}")
    return input


@module_rule(nn.PReLU)
def prelu_module(d: Sizes, module: nn.PReLU, input: Shape) -> Shape:
    """As `prelu`."""
    return prelu(d, input, weight_shape(module, "weight") or Shape((module.num_parameters,)))


@rule(*named("prelu"))
def prelu(d: Sizes, input: Shape, weight: Shape) -> Shape:
    """Keep the shape; several slopes are one for each channel."""
    if len(weight) > 1:
        raise IllTypedError(f"prelu takes a vector of slopes, not {weight}")
    slopes = weight[0] if weight else 1
    if not (isinstance(slopes, int) and slopes == 1):
        channels = input[1] if len(input) > 1 else 1
        d.equal(channels, slopes, "prelu has one slope for each channel")
    return input


@rule(F.glu, torch.ops.aten.glu)
def glu(d: Sizes, input: Shape, dim: int = -1) -> Shape:
    """Halve a dimension: one half gates the other."""
    i = axis(dim, len(input), "glu")
    half = d.fits(input[i], 2, what=f"glu halves dimension {dim}")
    return Shape((*input[:i], half, *input[i + 1 :]))


@module_rule(nn.GLU)
def glu_module(d: Sizes, module: nn.GLU, input: Shape) -> Shape:
    """As `glu`."""
    return glu(d, input, module.dim)


#: Operators whose tensors broadcast; numbers broadcast to any shape.
_BROADCAST = _words(
    "add addcdiv addcmul arctan2 atan2 bitwise_and bitwise_left_shift bitwise_or "
    "bitwise_right_shift bitwise_xor clamp clamp_max clamp_min clip complex copysign div "
    "divide eq float_power floor_divide fmax fmin fmod gcd ge greater greater_equal gt "
    "heaviside hypot igamma igammac isclose lcm ldexp le lerp less less_equal logaddexp "
    "logaddexp2 logical_and logical_or logical_xor lt maximum minimum mul multiply ne "
    "nextafter not_equal polar pow remainder rsub sub subtract true_divide where xlog1py "
    "xlogy "
)
_OPERATORS = tuple(
    getattr(operator, name)
    for name in _words(
        "add and_ floordiv iadd iand ifloordiv ilshift imod imul ior irshift isub ixor mod "
        "mul or_ sub xor"
    )
)
#: Sizes shifted by more bits are not computed.
_LARGEST_SHIFT = 32
_ARITHMETIC: dict[Any, str] = {}
for _sign, _names in {
    "+": "add iadd",
    "-": "sub isub",
    "*": "mul imul",
    "//": "floordiv ifloordiv",
    "%": "mod imod",
}.items():
    for _name in _words(_names):
        _ARITHMETIC[getattr(operator, _name)] = _sign


def _broadcast_targets(*, in_place: bool) -> list[Any]:
    found = [*named(*_BROADCAST), "__and__", "__or__"]
    kept = [target for target in found if _ends_in_place(target) is in_place]
    operators = [op for op in _OPERATORS if op not in _ARITHMETIC]
    kept += [op for op in operators if op.__name__.startswith("i") is in_place]
    return [*dict.fromkeys(kept)]


def _ends_in_place(target: Any) -> bool:
    name = target if isinstance(target, str) else target.__name__
    return name.endswith("_") and not name.endswith("__")


def into(d: Sizes, input: Shape, *others: Any) -> Shape:
    """The shape of a tensor that is changed in place, to which the other tensors broadcast."""
    what = "the operand broadcasts to the tensor that is changed in place"
    for other in others:
        if isinstance(other, Shape):
            if len(other) > len(input):
                raise IllTypedError(f"{what}: {other} has more dimensions than {input}")
            for a, b in zip(reversed(input), reversed(other), strict=False):
                d.stretch(b, a, what)
    return input


@rule(*_broadcast_targets(in_place=True), "expand_as_")
def broadcasting_in_place(d: Sizes, input: Any, *operands: Any, **options: Any) -> Any:
    """Keep the shape of the first tensor, to which the others broadcast."""
    if isinstance(input, Shape):
        return into(d, input, *operands, *options.values())
    return UNKNOWN


@rule("masked_fill_", torch.ops.aten.masked_fill_)
def masked_fill_in_place(d: Sizes, input: Shape, mask: Shape, value: Any) -> Shape:
    """Keep the shape, to which the mask broadcasts; the value is one number."""
    if isinstance(value, Shape):
        exactly(value, 0, "the value of masked_fill_")
    return into(d, input, mask)


@rule(*(target for target in named("masked_fill") if not _ends_in_place(target)))
def masked_fill(d: Sizes, input: Shape, mask: Shape, value: Any) -> Shape:
    """The shape that tensor and mask broadcast to; the value is one number."""
    if isinstance(value, Shape):
        exactly(value, 0, "the value of masked_fill")
    return broadcast_shapes(d, input, mask, what="the mask broadcasts")


@rule(*_broadcast_targets(in_place=False))
def broadcasting(d: Sizes, *operands: Any, **options: Any) -> Any:
    """The shape that the tensors broadcast to; numbers and sizes fit any shape."""
    given = (*operands, *options.values())
    shapes = [x for x in given if isinstance(x, Shape)]
    if shapes:
        return broadcast_shapes(d, *shapes, what="the operands broadcast")
    return NO_TENSOR if _are_numbers(*given) else UNKNOWN


@rule(operator.lshift)
def shifted_left(d: Sizes, left: Any, right: Any) -> Any:
    """The shape that tensors broadcast to; a size times a power of 2."""
    if isinstance(left, Dim) and isinstance(right, int) and 0 <= right <= _LARGEST_SHIFT:
        return left * 2**right
    return broadcasting(d, left, right)


@rule(operator.rshift)
def shifted_right(d: Sizes, left: Any, right: Any) -> Any:
    """The shape that tensors broadcast to; a size divided by a power of 2, rounded down."""
    if isinstance(left, Dim) and isinstance(right, int) and 0 <= right <= _LARGEST_SHIFT:
        return left // 2**right
    return broadcasting(d, left, right)


def _are_numbers(*values: Any) -> bool:
    """Whether values are sizes and other numbers, and no tensors."""
    return all(isinstance(v, (int, float, Size, NoTensor)) for v in values)


def _of_tensors(d: Sizes, left: Any, right: Any) -> Any:
    return broadcasting(d, left, right)


def _of_tensors_in_place(d: Sizes, left: Any, right: Any) -> Any:
    """As ``y += x``: a tensor ``y`` keeps its shape, and a number becomes a tensor."""
    return into(d, left, right) if isinstance(left, Shape) else broadcasting(d, left, right)


def _arithmetic_rule(sign: str, combined: Callable[..., Any], *targets: Any) -> None:
    def arithmetic(d: Sizes, left: Any, right: Any) -> Any:
        if isinstance(left, Shape) or isinstance(right, Shape):
            return combined(d, left, right)
        if isinstance(left, Dim) and isinstance(right, Dim):
            return d.compute(sign, left, right)
        if _are_numbers(left, right):
            return computed(d, sign, left, right) or NO_TENSOR
        if sign == "+" and isinstance(left, (tuple, list)) and isinstance(right, (tuple, list)):
            return (*left, *right)
        return UNKNOWN

    arithmetic.__doc__ = "Tensors broadcast, sizes are computed, and ``+`` joins tuples."
    rule(*targets)(arithmetic)


@rule(operator.truediv)
def division(d: Sizes, left: Any, right: Any) -> Any:
    """The shape that tensors broadcast to; a fraction of numbers."""
    if _are_numbers(left, right):
        found = quotient(d, left, right)
        return NO_TENSOR if found is None else found
    return broadcasting(d, left, right)


@rule(operator.itruediv)
def division_in_place(d: Sizes, left: Any, right: Any) -> Any:
    """As `division`; a tensor on the left keeps its shape."""
    return into(d, left, right) if isinstance(left, Shape) else division(d, left, right)


@rule(operator.pow)
def powers(d: Sizes, left: Any, right: Any) -> Any:
    """The shape that tensors broadcast to; a number to the power of a number."""
    if _are_numbers(left, right):
        found = power(d, left, right)
        return NO_TENSOR if found is None else found
    return broadcasting(d, left, right)


@rule(operator.ipow)
def powers_in_place(d: Sizes, left: Any, right: Any) -> Any:
    """As `powers`; a tensor on the left keeps its shape."""
    return into(d, left, right) if isinstance(left, Shape) else powers(d, left, right)


for _sign in sorted(set(_ARITHMETIC.values())):
    _found = [op for op, sign in _ARITHMETIC.items() if sign == _sign]
    _changing = [op for op in _found if op.__name__.startswith("i")]
    _arithmetic_rule(_sign, _of_tensors, *(op for op in _found if op not in _changing))
    _arithmetic_rule(_sign, _of_tensors_in_place, *_changing)


def _comparison_rule(sign: str, *targets: Any) -> None:
    def comparison(d: Sizes, left: Any, right: Any) -> Any:
        shapes = [x for x in (left, right) if isinstance(x, Shape)]
        if shapes:
            return broadcast_shapes(d, *shapes, what="the operands broadcast")
        if isinstance(left, Dim) and isinstance(right, Dim):
            return d.compare(sign, left, right)
        if sign in ("==", "!=") and all(isinstance(x, (tuple, list)) for x in (left, right)):
            return _compare_tuples(d, sign, left, right)
        exact = fraction_compared(d, sign, left, right)
        if exact is not None:
            return exact
        both = isinstance(left, NoTensor) and isinstance(right, NoTensor)
        return NO_TENSOR if both else UNKNOWN

    comparison.__doc__ = "Tensors broadcast; the comparison of sizes is true, false or unknown."
    rule(*targets)(comparison)


def _compare_tuples(d: Sizes, sign: str, left: Any, right: Any) -> Any:
    if len(left) != len(right):
        return sign == "!="
    if not all(isinstance(size, Dim) for size in (*left, *right)):
        return UNKNOWN
    same = [d.compare("==", a, b) for a, b in zip(left, right, strict=True)]
    if any(truth is False for truth in same):
        return sign == "!="
    if all(truth is True for truth in same):
        return sign == "=="
    open_ = [truth for truth in same if truth is not True]
    return open_[0] if len(open_) == 1 and sign == "==" else UNKNOWN


for _sign, _name in {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}.items():
    _comparison_rule(_sign, getattr(operator, _name))


@rule("copy_", torch.ops.aten.copy, torch.ops.aten.copy_)
def copied_into(d: Sizes, input: Shape, src: Any, *settings: Any, **options: Any) -> Shape:
    """Keep the shape, to which the source broadcasts."""
    return into(d, input, src)
