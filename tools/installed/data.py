"""Programs whose sizes and branches depend on data, and programs with control flow operators."""

from __future__ import annotations

from typing import Any

import torch
from torch._higher_order_ops import associative_scan, map, scan, while_loop
from torch.export import Dim

from tools.installed.program import ints, program, t

TWO = ((3, 4), (5, 6), (2, 9), (8, 3))
EXPORTS = ("export", "strict", "decomposed", "saved")


def x(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def rows_and_number(a: int, n: int) -> tuple[Any, ...]:
    return t(a, 3), torch.tensor(n)


def rows() -> Any:
    return ({0: Dim.AUTO}, None)


@program(x, TWO, ways=("export", "strict", "decomposed"))
def nonzero_rows():
    return lambda x: x.nonzero().float().sum(0)


@program(x, TWO, ways=("export", "strict"))
def masked_values():
    return lambda x: x[x > 0].exp()


@program(rows_and_number, ((3, 2), (5, 4), (4, 3), (6, 6)), rows, ways=EXPORTS)
def ones_of_an_item():
    def f(x, n):
        count = n.item()
        torch._check(count >= 1)
        torch._check(count <= 100)
        return torch.ones(count).sum() + x

    return f


@program(rows_and_number, ((3, 2), (5, 4), (4, 3), (6, 6)), rows, ways=EXPORTS[:3])
def slice_by_an_item():
    def f(x, n):
        count = n.item()
        torch._check(count >= 1)
        torch._check(count <= x.shape[0])
        return x[:count].sum(0)

    return f


@program(rows_and_number, ((3, 2), (5, 4), (4, 3), (6, 5)), rows, ways=("export", "strict"))
def narrow_by_an_item():
    def f(x, n):
        count = n.item()
        torch._check(count >= 0)
        torch._check(count < x.shape[0])
        return x.narrow(0, count, 1) * count

    return f


@program(rows_and_number, ((3, 2), (5, 4), (4, 3), (6, 6)), rows, ways=("export", "strict"))
def index_by_an_item():
    def f(x, n):
        at = n.item() - 1
        torch._check(at >= 0)
        torch._check(at < x.shape[0])
        return x[at]

    return f


@program(lambda n: (ints(n, below=3) + 1,), ((4,), (6,), (2,), (9,)), ways=("export", "strict"))
def repeated_by_data():
    return lambda n: torch.repeat_interleave(torch.arange(n.shape[0]), n)


@program(
    lambda n: (torch.tensor([n, n + 1]),),
    ((4,), (6,), (2,), (9,)),
    lambda: (None,),
    ways=("export", "strict"),
)
def list_of_a_tensor():
    def f(n):
        a, b = n.tolist()
        torch._check(a >= 1)
        torch._check(b >= 1)
        return torch.zeros(a, b) + torch.ones(a, 1)

    return f


@program(
    rows_and_number,
    ((3, 2), (5, 4), (4, 3), (6, 6)),
    rows,
    ways=("export", "strict"),
    refused=dict.fromkeys(("export", "strict"), "data-dependent"),
)
def a_branch_on_data():
    return lambda x, n: x + 1 if n.item() > 3 else x - 1


@program(
    lambda a, b: (t(a, b), ints(a, below=3)),
    TWO,
    lambda: ({0: Dim.AUTO}, {0: Dim.AUTO}),
    ways=("export", "strict"),
    refused=dict.fromkeys(("export", "strict"), "data-dependent"),
)
def a_view_by_data():
    return lambda x, y: x.sum(1)[: y.max().item()].sum() if y.max().item() % 2 == 0 else x.sum()


@program(x, TWO, ways=("export", "strict", "aot_eager", "decomposed"))
def cond():
    def f(x):
        return torch.cond(x.sum() > 0, lambda v: v.sin(), lambda v: v.cos(), (x,))

    return f


@program(x, TWO, ways=("export", "strict", "aot_eager"))
def cond_on_a_size():
    def f(x):
        return torch.cond(x.shape[0] > 4, lambda v: v.sin(), lambda v: v.cos(), (x,))

    return f


@program(x, TWO, ways=("export", "strict"))
def cond_with_a_closure():
    def f(x):
        y = x * 2
        return torch.cond(x.sum() > 0, lambda v: v.sin() + y, lambda v: v.cos() - y, (x,))

    return f


@program(x, TWO, ways=("export", "strict"))
def cond_in_a_cond():
    def f(x):
        def inner(v):
            return torch.cond(v.sum() > 1, lambda w: w + 1, lambda w: w - 1, (v,))

        return torch.cond(x.sum() > 0, inner, lambda v: v * 2, (x,))

    return f


@program(
    lambda a, b: (t(a, b), t(b)),
    ((3, 4), (5, 4), (2, 4), (8, 4)),
    lambda: ({0: Dim.DYNAMIC}, None),
    ways=("export", "strict", "aot_eager"),
)
def mapped_rows():
    return lambda x, y: map(lambda row, y: row * y + row.sum(), x, y)


@program(
    lambda a, b: (t(b), t(a, b)),
    ((3, 4), (5, 4), (2, 4), (8, 4)),
    lambda: (None, {0: Dim.DYNAMIC}),
    ways=("export", "strict", "aot_eager"),
)
def scanned_rows():
    def f(init, xs):
        def step(carry, row):
            carry = carry * 0.5 + row
            return carry, carry.sin()

        return scan(step, init, xs)

    return f


@program(x, ((8, 4), (5, 6), (6, 9), (7, 3)), ways=("aot_eager",))
def associative_scan_of_rows():
    return lambda x: associative_scan(lambda a, b: a + b, x, 0, combine_mode="generic")


@program(
    lambda a, b: (torch.tensor(a), t(a, b)),
    TWO,
    lambda: (None, {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}),
    ways=("export", "strict", "aot_eager"),
)
def while_loop_over_a_counter():
    def f(n, x):
        return while_loop(lambda n, x: n > 0, lambda n, x: (n - 1, x * 0.5 + 1), (n, x))

    return f


@program(x, TWO, ways=("eager", "aot_eager"))
def item_with_a_graph_break():
    return lambda x: x * 2 if x.sum().item() > 0 else x * 3


@program(x, TWO, ways=("export", "aot_eager"))
def where_in_place_of_a_branch():
    return lambda x: torch.where(x.sum() > 0, x + 1, x - 1)


@program(x, TWO, ways=("export", "strict"))
def checked_sizes():
    def f(x):
        torch._check(x.shape[0] >= 2)
        torch._check(x.shape[1] < 100)
        return x[:2].sum(0)

    return f


@program(x, TWO, ways=("export",))
def unique_values():
    return lambda x: torch.unique(x.round())


@program(x, TWO, ways=("draft",))
def drafted_values():
    return lambda x: x[x > 0].sum()


@program(
    lambda a, b: (t(a, b), t(a) > 0),
    TWO,
    lambda: ({0: Dim.AUTO, 1: Dim.AUTO}, {0: Dim.AUTO}),
    ways=("export", "strict", "decomposed"),
)
def rows_by_a_mask():
    return lambda x, keep: x[keep] @ x.t()


@program(rows_and_number, ((3, 2), (5, 4), (4, 3), (6, 6)), rows, ways=("export", "strict"))
def two_tensors_of_an_item():
    def f(x, n):
        count = n.item()
        torch._check(count >= 2)
        return torch.ones(count, 3) + torch.zeros(count, 1), torch.full((count,), 2.0)[1:]

    return f


# Sizes that a joint graph computes, and dimensions that are marked.


@program(x, ((3, 4), (6, 5), (9, 7), (12, 4)), ways=("aot_eager", "inductor"))
def half_of_the_rows_with_gradients():
    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x[: x.shape[0] // 2 + 1] * self.scale

    return Half()


@program(rows_and_number, ((4, 2), (6, 4), (4, 1), (9, 9)), rows, ways=EXPORTS)
def two_parts_of_data():
    def f(x, n):
        first = n.item()
        torch._check(first >= 0)
        torch._check(first <= x.shape[0])
        a, b = torch.split(x, [first, x.shape[0] - first])
        return a.sum(0) + b.sum(0) * first

    return f
