"""Programs with state, structures, subclasses and operators of their own; models; training."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import torch
from torch import nn
from torch.export import Dim
from torch.nn import functional as F

from tools.installed.program import ORDINARY, ints, program, t

TWO = ((3, 4), (5, 6), (2, 9), (8, 3))
ROWS = ((3, 4), (5, 4), (2, 4), (8, 4))
STEPS = ((2, 5), (3, 7), (4, 3), (6, 9))
ALL = (*ORDINARY, "decomposed", "saved", "unflattened")


def x(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def first() -> Any:
    return ({0: Dim.AUTO},)


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(4))

    def forward(self, x):
        self.seen.add_(x.shape[0])
        self.mean.mul_(0.9).add_(x.mean(0) * 0.1)
        return x - self.mean, self.seen + 1


@program(x, ROWS, first, ways=ALL)
def buffers_that_are_written():
    return Counter()


@program(x, ROWS, first, ways=(*ORDINARY, "decomposed"))
def batch_norm_in_training():
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU()).train()


@program(x, TWO)
def inputs_that_are_written():
    def f(x):
        x.add_(1)
        return x * 2

    return f


@program(x, ((3, 4), (5, 6), (4, 9), (8, 3)))
def views_that_are_written():
    def f(x):
        y = x.clone()
        y[:, 0] = 7
        y[1:].mul_(2)
        return y

    return f


@program(
    lambda a, b: ({"x": t(a, b), "more": [t(b), (t(a, 1), None)]},),
    TWO,
    lambda: ({"x": {0: Dim.AUTO, 1: Dim.AUTO}, "more": [{0: Dim.AUTO}, ({0: Dim.AUTO}, None)]},),
)
def nested_containers():
    def f(tree):
        y, (z, _) = tree["more"]
        return {"sum": tree["x"] + y + z, "parts": [y, (z,)], "n": tree["x"].shape[0]}

    return f


Pair = namedtuple("Pair", ["left", "right"])


@program(x, TWO)
def named_tuples_returned():
    return lambda x: Pair(x + 1, Pair(x.t(), x.sum()))


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = self.a

    def forward(self, x):
        return self.b(self.a(x).relu()) + self.a.weight.sum()


@program(x, ROWS, first, ways=ALL)
def shared_modules():
    return Shared()


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.out = nn.Linear(8, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.embed(tokens).mean(1))


@program(lambda a, b: (ints(a, b),), TWO, ways=ALL)
def tied_weights():
    return Tied()


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = 0.25
        self.eps = 1e-5

    def forward(self, x):
        return x * self.scale / (x.norm() + self.eps)


@program(x, TWO, ways=(*ORDINARY, "automatic"))
def float_attributes():
    return Scaled()


@program(
    lambda a, s: (t(a, 3), s / 7),
    ((3, 1), (5, 2), (4, 3), (6, 5)),
    lambda: ({0: Dim.AUTO}, None),
    ways=("automatic", "aot_eager"),
)
def float_inputs():
    return lambda x, s: F.dropout(x, 0.0) * s + s * 2


@program(
    lambda a, s: (t(a, 3), s / 7),
    ((3, 1), (5, 2), (4, 3), (6, 5)),
    lambda: ({0: Dim.AUTO}, None),
    ways=("automatic", "aot_eager"),
)
def float_inputs_asked():
    def f(x, s):
        if not 0.0 <= s <= 1.0:
            raise ValueError("the scale is between 0 and 1")
        return x * s if s != 0.0 else x

    return f


@program(lambda a, b: (t(a, b), a), TWO, lambda: ({0: Dim.AUTO}, None), ways=("automatic",))
def integers_of_each_call():
    return lambda x, n: x * n


@program(x, TWO, ways=("automatic",))
def recompiled_for_sizes():
    return lambda x: x.view(-1) * 2


@program(x, ((3, 4), (3, 5), (3, 6), (4, 7)), ways=("automatic",))
def recompiled_twice():
    return lambda x: x.sum(1) if x.shape[1] > 4 else x.sum(0)


@program(x, TWO, ways=("eager", "aot_eager", "automatic"))
def graph_breaks():
    def f(x):
        y = x * x.shape[0]
        torch._dynamo.graph_break()
        return y.view(-1)[: x.shape[1]]

    return f


@program(x, TWO, ways=("aot_eager",))
def lists_that_grow():
    def f(x):
        parts = [x]
        for i in range(3):
            parts.append(parts[-1] * i + x.shape[0])
        return torch.cat(parts)

    return f


@torch.library.custom_op("symfx_installed::double_rows", mutates_args=())
def double_rows(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x, x])


@double_rows.register_fake
def _(x):
    return x.new_empty(2 * x.shape[0], *x.shape[1:])


@torch.library.custom_op("symfx_installed::positive", mutates_args=())
def positive(x: torch.Tensor) -> torch.Tensor:
    return x[x > 0]


@positive.register_fake
def _(x):
    return x.new_empty(torch.library.get_ctx().new_dynamic_size())


@torch.library.custom_op("symfx_installed::add_to", mutates_args=("x",))
def add_to(x: torch.Tensor, y: torch.Tensor) -> None:
    x.add_(y)


@program(x, TWO, ways=(*ORDINARY, "decomposed"))
def custom_operator():
    return lambda x: double_rows(x).sum(0) + x


@program(x, TWO, ways=("export", "strict"))
def custom_operator_of_data():
    return lambda x: positive(x).sum()


@program(x, TWO, ways=(*ORDINARY, "decomposed"))
def custom_operator_that_writes():
    def f(x):
        y = x * 1
        add_to(y, x)
        return y

    return f


def jagged(a: int, b: int) -> tuple[Any, ...]:
    lengths = [1 + (i * b) % 5 for i in range(a)]
    parts = [t(n, 4) for n in lengths]
    return (torch.nested.as_nested_tensor(parts, layout=torch.jagged),)


@program(jagged, TWO, ways=("aot_eager",))
def jagged_tensor():
    return lambda x: (x * 2).sin() * 3


@program(jagged, TWO, ways=("aot_eager",))
def jagged_to_padded():
    return lambda x: x.values().sum(0) + x.offsets().shape[0]


def tokens(a: int, b: int) -> tuple[Any, ...]:
    return (ints(a, b, below=50),)


def queries(a: int, b: int) -> tuple[Any, ...]:
    return t(a, 2, b, 8), t(a, 2, b, 8) + 1, t(a, 2, b, 8) * 2


@program(queries, ((2, 128), (3, 256), (2, 64), (1, 96)), ways=("aot_eager", "export"), atol=1e-3)
def flex_attention():
    from torch.nn.attention.flex_attention import flex_attention

    def f(q, k, v):
        return flex_attention(q, k, v, score_mod=lambda s, b, h, i, j: s + (i - j))

    return f


# Models.


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def steps(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b, 16),)


def batch_and_steps() -> Any:
    return ({0: Dim.AUTO, 1: Dim.AUTO},)


@program(steps, STEPS, batch_and_steps, ways=ALL)
def encoder_in_eval():
    return encoder().eval()


@program(steps, STEPS, batch_and_steps, ways=("export", "train"))
def encoder_in_training():
    return encoder().train()


@program(steps, STEPS, batch_and_steps, ways=("export", "strict", "aot_eager"))
def recurrent():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(16, 8, batch_first=True)

        def forward(self, x):
            return self.rnn(x[:, :1])[0]

    return Last()


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x):
        return F.relu(self.main(x) + x)


def resnet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3),
        nn.MaxPool2d(3, 2, 1),
        Block(8),
        Block(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )


def images(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, 3, 32 * b, 32 * b),)


@program(images, ((2, 1), (3, 2), (4, 1), (5, 3)), ways=(*ORDINARY, "decomposed"))
def resnet_in_eval():
    return resnet().eval()


@program(images, ((2, 1), (3, 2), (4, 1), (5, 3)), ways=("train",), atol=1e-3)
def resnet_in_training():
    return resnet().train()


@program(steps, STEPS, ways=("train",))
def gradients_of_a_loss():
    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.main = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))

        def forward(self, x):
            return F.mse_loss(self.main(x), x) + self.main(x).var()

    return Loss()


@program(x, TWO, ways=("make_fx",))
def traced_by_make_fx():
    return lambda x: x.view(-1).softmax(0)[: x.shape[0]]


@program(x, ROWS, lambda: ({0: Dim.AUTO},), ways=("inductor",))
def compiled_by_inductor():
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8))


@program(x, TWO, ways=("inductor",))
def reductions_by_inductor():
    return lambda x: (x.softmax(-1) * x.shape[0]).sum(0) + x.mean(0)


@program(lambda a, b: (t(a, b),), ((3, 4), (5, 6), (2, 9), (8, 3)), ways=("export", "aot_eager"))
def nested_regions():
    @torch.compiler.nested_compile_region
    def region(x, y):
        return x.sin() * y.shape[0]

    return lambda x: region(x, x) + region(x + 1, x)


@program(lambda a, b: (t(a, 4),), ((3, 4), (5, 6), (2, 9), (8, 3)), ways=("train",))
def checkpointed():
    from torch.utils.checkpoint import checkpoint

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, x):
            def part(x):
                return self.linear(x)[: x.shape[0] // 2 + 1].relu()

            return checkpoint(part, x, use_reentrant=False)

    return Model()


@program(lambda a, b: (t(a, b),), ((3, 4), (5, 6), (2, 9), (8, 3)), ways=("aot_eager",))
def function_transforms():
    def f(x):
        gradient = torch.func.grad(lambda v: (v.sin() * v.shape[0]).sum())(x)
        return gradient + torch.vmap(lambda row: row * row.shape[0])(x)

    return f


@program(
    lambda a, b: (t(a, 4),),
    ((3, 4), (5, 6), (2, 9), (8, 3)),
    lambda: ({0: Dim("rows", max=64)},),
    ways=("packaged",),
)
def packaged_by_aot_inductor():
    return nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 2), nn.Softmax(-1))
