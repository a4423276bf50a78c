"""Products of matrices, linear maps, attention and einsum."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.rules.elementwise import broadcast_shapes
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Sizes, size_text
from symfx.shape_rules.table import at_least, axes, exactly, module_rule, rule
from symfx.shape_rules.weights import weight_shape

__all__ = ["linear"]

_INNER = "one matrix has as many columns as the other has rows"


@rule(torch.matmul, "matmul", operator.matmul, "__matmul__", torch.ops.aten.matmul)
def matmul(d: Sizes, input: Shape, other: Shape) -> Shape:
    """Multiply matrices or vectors; the batch dimensions broadcast."""
    if not input or not other:
        raise IllTypedError("matmul takes no tensor of rank 0")
    if len(input) == 1 and len(other) == 1:
        d.equal(input[0], other[0], "both vectors have one length")
        return Shape()
    if len(input) == 1:
        d.equal(input[0], other[-2], _INNER)
        return Shape((*other[:-2], other[-1]))
    d.equal(input[-1], other[-2] if len(other) > 1 else other[0], _INNER)
    if len(other) == 1:
        return Shape(input[:-1])
    batch = broadcast_shapes(d, Shape(input[:-2]), Shape(other[:-2]), what="the batches broadcast")
    return Shape((*batch, input[-2], other[-1]))


@rule(torch.mm, "mm", torch.ops.aten.mm)
def mm(d: Sizes, input: Shape, mat2: Shape) -> Shape:
    """Multiply two matrices."""
    exactly(input, 2, "mm")
    exactly(mat2, 2, "mm")
    d.equal(input[1], mat2[0], _INNER)
    return Shape((input[0], mat2[1]))


@rule(torch.bmm, "bmm", torch.ops.aten.bmm)
def bmm(d: Sizes, input: Shape, mat2: Shape) -> Shape:
    """Multiply two batches of matrices."""
    exactly(input, 3, "bmm")
    exactly(mat2, 3, "bmm")
    batch = d.equal(input[0], mat2[0], "the batches of bmm are of one size")
    d.equal(input[2], mat2[1], _INNER)
    return Shape((batch, input[1], mat2[2]))


@rule(torch.mv, "mv", torch.ops.aten.mv)
def mv(d: Sizes, input: Shape, vec: Shape) -> Shape:
    """Multiply a matrix and a vector."""
    exactly(input, 2, "mv")
    exactly(vec, 1, "mv")
    d.equal(input[1], vec[0], "a matrix has as many columns as the vector has entries")
    return Shape((input[0],))


@rule(torch.dot, "dot", torch.vdot, "vdot", torch.ops.aten.dot, torch.ops.aten.vdot)
def dot(d: Sizes, input: Shape, other: Shape) -> Shape:
    """The scalar product of two vectors."""
    return inner(d, exactly(input, 1, "dot"), exactly(other, 1, "dot"))


@rule(torch.inner, "inner")
def inner(d: Sizes, input: Shape, other: Shape) -> Shape:
    """The scalar products along the last dimensions."""
    if not input or not other:
        return broadcast_shapes(d, input, other)
    d.equal(input[-1], other[-1], "both vectors have one length")
    return Shape((*input[:-1], *other[:-1]))


@rule(torch.outer, "outer", torch.ger)
def outer(d: Sizes, input: Shape, vec2: Shape) -> Shape:
    """One product for each pair of entries of two vectors."""
    return Shape((*exactly(input, 1, "outer"), *exactly(vec2, 1, "outer")))


@rule(torch.addmm, "addmm", torch.ops.aten.addmm)
def addmm(d: Sizes, input: Shape, mat1: Shape, mat2: Shape, **options: Any) -> Shape:
    """A product of matrices plus a tensor that broadcasts to it."""
    return _expand_to(d, input, mm(d, mat1, mat2), "the first tensor broadcasts to the product")


@rule(torch.baddbmm, "baddbmm", torch.ops.aten.baddbmm)
def baddbmm(d: Sizes, input: Shape, batch1: Shape, batch2: Shape, **options: Any) -> Shape:
    """A product of batches of matrices plus a tensor that broadcasts to it."""
    return _expand_to(
        d, input, bmm(d, batch1, batch2), "the first tensor broadcasts to the product"
    )


def _expand_to(d: Sizes, shape: Shape, to: Shape, what: str) -> Shape:
    if len(shape) > len(to):
        raise IllTypedError(f"{what}: {shape} has more dimensions than {to}")
    for a, b in zip(reversed(shape), reversed(to), strict=False):
        d.stretch(a, b, what)
    return to


@rule(F.linear, torch.ops.aten.linear)
def linear(d: Sizes, input: Shape, weight: Any, bias: Any = None) -> Shape:
    """Map the last dimension from the weight's columns to its rows."""
    at_least(input, 1, "linear")
    if not isinstance(weight, Shape):
        return UNKNOWN  # type: ignore[return-value]
    if len(weight) not in (1, 2) or (len(weight) == 1 and isinstance(bias, Shape)):
        raise IllTypedError(f"linear takes a matrix of weights, not {weight}")
    d.equal(input[-1], weight[-1], f"a linear map takes {size_text(weight[-1])} features")
    result = Shape((*input[:-1], *weight[:-1]))
    if isinstance(bias, Shape):
        _expand_to(d, bias, result, "the bias broadcasts to the output")
    return result


@module_rule(nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
def linear_module(d: Sizes, module: nn.Linear, input: Shape) -> Shape:
    """As `linear`, with the layer's weight and bias."""
    weight = weight_shape(module, "weight", (module.out_features, module.in_features))
    if weight is None:  # a lazy layer takes the features of its first input
        return Shape((*at_least(input, 1, "Linear")[:-1], module.out_features))
    return linear(d, input, weight, weight_shape(module, "bias"))


@module_rule(nn.Bilinear)
def bilinear_module(d: Sizes, module: nn.Bilinear, input1: Shape, input2: Shape) -> Shape:
    """As `bilinear`."""
    declared = (module.out_features, module.in1_features, module.in2_features)
    weight = weight_shape(module, "weight", declared) or Shape(declared)
    return bilinear(d, input1, input2, weight, weight_shape(module, "bias"))


@rule(F.bilinear)
def bilinear(d: Sizes, input1: Shape, input2: Shape, weight: Shape, bias: Any = None) -> Shape:
    """Map the last dimensions of two tensors to one; their other dimensions are equal."""
    out, one, other = exactly(weight, 3, "the weight of bilinear")
    result = _bilinear(d, input1, input2, one, other, out)
    if not isinstance(bias, Shape):
        return result
    d.equal(
        at_least(bias, 1, "the bias of bilinear")[0], out, "the bias has one value for each output"
    )
    return broadcast_shapes(d, result, bias, what="the bias of bilinear is added")


def _bilinear(d: Sizes, x: Shape, y: Shape, in1: Dim, in2: Dim, out: Dim) -> Shape:
    if len(at_least(x, 1, "bilinear")) != len(y):
        raise IllTypedError(f"bilinear takes tensors of one rank, not {x} and {y}")
    d.equal(x[-1], in1, "the last dimension of the first input is in1_features")
    d.equal(y[-1], in2, "the last dimension of the second input is in2_features")
    pairs = zip(x[:-1], y[:-1], strict=True)
    return Shape(
        (
            *(
                d.equal(a, b, "the inputs of bilinear have equal dimensions but the last")
                for a, b in pairs
            ),
            out,
        )
    )


@rule(torch.einsum, torch.ops.aten.einsum)
def einsum(d: Sizes, equation: str, *operands: Any, **options: Any) -> Shape:
    """Sum products over the dimensions that the equation names."""
    if (
        len(operands) == 1
        and isinstance(operands[0], (list, tuple))
        and not isinstance(operands[0], Shape)
    ):
        operands = tuple(operands[0])
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(operands):
        raise IllTypedError(f"einsum '{equation}' takes {len(inputs)} tensors, not {len(operands)}")
    sizes: dict[str, Dim] = {}
    rest: list[Shape] = []
    for names, shape in zip(inputs, operands, strict=True):
        before, dots, after = names.partition("...")
        named = len(before) + len(after)
        if len(shape) < named or (not dots and len(shape) != named):
            raise IllTypedError(f"'{names}' in einsum '{equation}' does not name {shape}")
        if dots:
            rest.append(Shape(shape[len(before) : len(shape) - len(after)]))
        last = shape[len(shape) - len(after) :] if after else ()
        for name, size in (*zip(before, shape, strict=False), *zip(after, last, strict=True)):
            what = f"'{name}' in einsum '{equation}' is one size"
            sizes[name] = d.broadcast(sizes[name], size, what) if name in sizes else size
    common = broadcast_shapes(d, *rest, what=f"'...' in einsum '{equation}'")
    if not arrow:
        once = sorted(n for n in sizes if left.count(n) == 1)
        right = ("..." if "..." in left else "") + "".join(once)
    before, dots, after = right.partition("...")
    missing = [name for name in before + after if name not in sizes]
    if missing:
        raise IllTypedError(f"einsum '{equation}' has no input with dimension '{missing[0]}'")
    return Shape(
        (*(sizes[n] for n in before), *(common if dots else ()), *(sizes[n] for n in after))
    )


@rule(torch.tensordot)
def tensordot(d: Sizes, a: Shape, b: Shape, dims: Any = 2) -> Shape:
    """Sum products over pairs of dimensions."""
    if isinstance(dims, int):
        if not 0 <= dims <= min(len(a), len(b)):
            raise IllTypedError(f"tensordot of {a} and {b} cannot sum over {dims} dimensions")
        pairs = [[*range(len(a) - dims, len(a))], [*range(dims)]]
    else:
        pairs = [axes(side, len(x), "tensordot") for x, side in zip((a, b), dims, strict=True)]
    if len(pairs[0]) != len(pairs[1]):
        raise IllTypedError(f"tensordot takes as many dimensions of each tensor, not {dims}")
    for i, j in zip(*pairs, strict=True):
        d.broadcast(a[i], b[j], "tensordot sums over dimensions of one size")
    return Shape(
        (
            *(s for i, s in enumerate(a) if i not in pairs[0]),
            *(s for i, s in enumerate(b) if i not in pairs[1]),
        )
    )


@rule(F.scaled_dot_product_attention, torch.ops.aten.scaled_dot_product_attention)
def attention(
    d: Sizes,
    query: Shape,
    key: Shape,
    value: Shape,
    attn_mask: Any = None,
    *rest: Any,
    **options: Any,
) -> Shape:
    """The values of the keys for each query; keys have the width of the queries."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        at_least(x, 2, f"the {name} of attention")
    d.equal(query[-1], key[-1], "queries and keys are of one width")
    d.equal(key[-2], value[-2], "there are as many values as keys")
    if options.get("enable_gqa", rest[3] if len(rest) > 3 else False) is True:
        batch = _grouped(d, query, key, value)
    else:
        what = "the batches of attention broadcast"
        batch = broadcast_shapes(
            d, Shape(query[:-2]), Shape(key[:-2]), Shape(value[:-2]), what=what
        )
    if isinstance(attn_mask, Shape):
        scores = Shape((*batch, query[-2], key[-2]))
        _expand_to(d, attn_mask, scores, "the mask broadcasts to queries by keys")
    return Shape((*batch, query[-2], value[-1]))


def _grouped(d: Sizes, query: Shape, key: Shape, value: Shape) -> Shape:
    """The batch of attention whose queries have a multiple of the heads of keys and values."""
    for name, x in (("query", query), ("key", key), ("value", value)):
        at_least(x, 3, f"the {name} of grouped attention")
    for name, x in (("keys", key), ("values", value)):
        d.fits(query[-3], x[-3], what=f"the heads of the queries are a multiple of the {name}'")
    what = "the batches of attention broadcast"
    batch = broadcast_shapes(d, Shape(query[:-3]), Shape(key[:-3]), Shape(value[:-3]), what=what)
    return Shape((*batch, query[-3]))


@rule(
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu,
    torch.ops.aten._scaled_dot_product_flash_attention,
    torch.ops.aten._scaled_dot_product_efficient_attention,
)
def fused_attention(
    d: Sizes, query: Shape, key: Shape, value: Shape, *rest: Any, **options: Any
) -> Any:
    """The result of attention, and a tensor for the derivative."""
    return (attention(d, query, key, value), Shape(query[:-1]))
