"""Programs about sizes: dimensions that Dim, derived dimensions and AUTO describe."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.export import Dim
from torch.nn import functional as F

from tools.installed.program import ORDINARY, ints, program, t

#: Sizes at which stock torch keeps its guards.
MORE = ((3, 4), (5, 6), (7, 9), (8, 5))
TWO = ((3, 4), (5, 6), (2, 9), (8, 3))
ALL = (*ORDINARY, "decomposed", "saved")


def x(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def xy(a: int, b: int) -> tuple[Any, ...]:
    return t(a, b), t(a, b) + 2


def one_name() -> Any:
    return ({0: Dim("batch", min=1, max=64)},)


@program(x, ((3, 4), (5, 4), (2, 4), (64, 4)), one_name, ways=ALL)
def named_batch():
    return lambda x: x.relu().sum(0) + x.shape[0]


@program(xy, TWO, lambda: ({0: Dim("a"), 1: Dim("b")},) * 2, ways=ALL)
def two_names():
    return lambda x, y: (x * y).softmax(-1)


@program(xy, TWO, ways=ALL)
def automatic_dims():
    return lambda x, y: x + y


@program(lambda a, b: (t(a, b), t(b, a)), TWO)
def shared_sizes():
    return lambda x, y: x @ y @ x


def derived() -> Any:
    n = Dim("n", min=2)
    return ({0: n}, {0: n + 1})


@program(lambda n: (t(n), t(n + 1)), ((4,), (6,), (2,), (9,)), derived, ways=("export", "strict"))
def one_longer():
    return lambda x, y: x + y[1:]


def doubled() -> Any:
    n = Dim("n", min=2)
    return ({0: n}, {0: 2 * n})


@program(lambda n: (t(n), t(2 * n)), ((4,), (6,), (3,), (9,)), doubled, ways=("export", "strict"))
def twice_as_long():
    return lambda x, y: torch.cat([x, x]) + y


def linear_derived() -> Any:
    n = Dim("n", min=1)
    return ({0: 3 * n - 1},)


@program(lambda n: (t(3 * n - 1),), ((4,), (6,), (2,), (9,)), linear_derived, ways=("export",))
def derived_alone():
    return lambda x: x.cumsum(0)


def multiple() -> Any:
    return ({0: 8 * Dim("blocks", min=1)},)


@program(lambda n: (t(8 * n, 2),), ((4,), (6,), (2,), (9,)), multiple, ways=ALL[:3])
def multiple_of_eight():
    return lambda x: x.reshape(-1, 8, 2).sum(1)


@program(lambda n: (t(n, 6),), ((4,), (6,), (2,), (9,)), ways=ALL)
def flattened():
    return lambda x: x.view(-1)[: x.shape[0] * 2].view(x.shape[0], 2)


@program(x, TWO)
def split_in_two():
    return lambda x: torch.chunk(torch.cat([x, x], 1), 2, 1)[0] + x


@program(x, MORE)
def half_of_the_rows():
    return lambda x: x[: (x.shape[0] + 1) // 2].mean()


@program(x, TWO)
def a_branch_on_a_size():
    return lambda x: x.sum(0) if x.shape[0] >= 2 else x.mean(0)


@program(x, TWO)
def a_branch_that_is_settled():
    return lambda x: x.sum(0) if x.shape[0] * x.shape[1] >= x.shape[0] else x.mean(0)


@program(xy, TWO)
def equal_sizes_asked():
    def f(x, y):
        assert x.shape == y.shape
        return x - y if x.shape[0] == y.shape[0] else x

    return f


@program(x, TWO)
def sizes_returned():
    return lambda x: (x.shape[0] * 2 + 1, x.shape[1] // 2, x.cos())


@program(x, TWO)
def sizes_as_values():
    return lambda x: x * x.shape[0] + x.numel() / x.shape[1]


@program(x, TWO)
def square_roots_of_sizes():
    return lambda x: x / math.sqrt(x.shape[1])


@program(x, TWO)
def arange_of_a_size():
    return lambda x: torch.arange(x.shape[1]) + torch.arange(x.shape[0])[:, None]


@program(x, TWO, ways=ALL)
def new_tensors_of_sizes():
    return lambda x: torch.zeros(x.shape[1], x.shape[0]) + x.new_ones(x.shape).t()


@program(x, ((3, 12), (5, 14), (2, 19), (8, 30)))
def padded_to_a_multiple():
    return lambda x: F.pad(x, (0, -x.shape[1] % 8)).view(x.shape[0], -1, 8).sum(-1)


@program(x, TWO)
def larger_of_sizes():
    return lambda x: x.new_zeros(max(x.shape[0], x.shape[1]), min(x.shape))


@program(x, TWO)
def mask_of_sizes():
    return lambda x: torch.ones(x.shape[1], x.shape[1]).tril() @ x.t()


@program(lambda a, b: (t(a, 3, 4 * b, 4 * b),), ((2, 4), (3, 5), (4, 3), (5, 6)))
def convolution():
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1)
    )


@program(lambda a, b: (t(a, 3, 4 * b, 4 * b),), ((2, 4), (3, 5), (4, 3), (5, 6)))
def pooled_and_resized():
    return lambda x: F.interpolate(F.max_pool2d(x, 2), scale_factor=2, mode="nearest") - x


@program(lambda a, b: (t(a, b, 8),), ((2, 4), (3, 5), (4, 3), (5, 6)))
def attention_by_hand():
    return lambda x: (x @ x.mT / 8**0.5).softmax(-1) @ x


@program(lambda a, b: (t(a, 2, b, 8),), ((2, 4), (3, 5), (4, 3), (5, 6)), ways=ALL)
def attention_fused():
    return lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)


@program(lambda a, b: (ints(a, b),), TWO)
def embedding():
    return torch.nn.Sequential(torch.nn.Embedding(7, 8), torch.nn.LayerNorm(8))


@program(x, TWO)
def einsum():
    return lambda x: torch.einsum("ab,cb->ac", x, x)


@program(lambda a, b: (t(a, b), t(1, b)), TWO)
def broadcast():
    return lambda x, y: x + y.expand_as(x)


@program(x, TWO)
def as_strided_view():
    return lambda x: x.t().contiguous().unfold(0, 2, 1).sum(-1)


@program(x, TWO)
def sorted_and_gathered():
    def f(x):
        values, order = x.sort(-1)
        return values.gather(1, order)

    return f


@program(x, TWO)
def top_of_each_row():
    return lambda x: x.topk(2, dim=1).values


@program(x, ((3, 4), (5, 6), (2, 9), (8, 3)))
def stacked_rows():
    return lambda x: torch.stack([x, x * 2], 1).flatten(0, 1)


@program(lambda a, b: (t(a, b), 3), TWO, lambda: ({0: Dim.AUTO, 1: Dim.AUTO}, None))
def a_constant_number():
    return lambda x, n: x * n


@program(
    lambda a, n: (t(a, 3), n),
    ((3, 4), (5, 6), (2, 9), (8, 3)),
    lambda: ({0: Dim.AUTO}, Dim.DYNAMIC),
    ways=("export", "aot_eager"),
)
def a_number_that_varies():
    return lambda x, n: x.repeat(n, 1) * (n + 1)


@program(lambda a, b: (t(a, b).t(),), TWO)
def transposed_input():
    return lambda x: x.contiguous().view(-1) + x.reshape(-1)


@program(lambda a, b: (t(2 * a, b)[::2],), TWO)
def strided_input():
    return lambda x: x.reshape(-1).sum() + x.stride(0)


# Violated constraints.


@program(
    x,
    TWO,
    lambda: ({0: Dim("batch"), 1: Dim("width")},),
    ways=("export", "strict"),
    refused={"export": "width", "strict": "width"},
)
def a_size_is_fixed():
    return lambda x: x + torch.ones(4)


@program(
    x,
    TWO,
    lambda: ({0: Dim("batch", max=2)},),
    ways=("export",),
    refused={"export": "range|promised"},
)
def a_size_out_of_bounds():
    return lambda x: x + 1


@program(
    xy,
    TWO,
    lambda: ({0: Dim("a")}, {0: Dim("b")}),
    ways=("export", "strict"),
    refused={"export": "a = b|b = a", "strict": "a = b|b = a"},
)
def two_names_of_one_size():
    return lambda x, y: x + y


@program(
    lambda n: (t(n, 3),),
    ((3,), (5,), (7,), (9,)),
    lambda: ({0: Dim("batch")},),
    ways=("export", "strict"),
    refused={"export": r"2\*|// ?2|% ?2", "strict": r"2\*|// ?2|% ?2"},
)
def an_even_size_is_needed():
    def f(x):
        x = torch.cat([x, x[:1]])
        return x.view(2, -1)

    return f


@program(
    x,
    TWO,
    lambda: ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},),
    ways=("export", "strict"),
    refused=dict.fromkeys(("export", "strict"), "specialized it to be a constant.*DYNAMIC"),
)
def dynamic_and_fixed():
    return lambda x: x + torch.ones(4)
