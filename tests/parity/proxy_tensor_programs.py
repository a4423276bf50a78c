"""Programs for both tracers: (name, function, inputs, inputs of another admissible shape)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Program:
    name: str
    f: Callable[..., Any]
    make: Callable[[int, int], tuple[Any, ...]]
    modes: tuple[str, ...] = ("real", "fake", "symbolic")
    # Operators that symfx may record differently, since it orders arithmetic on sizes differently.
    exact: bool = True
    kwargs: dict[str, Any] = field(default_factory=dict)
    random: bool = False


PROGRAMS: list[Program] = []


def program(
    make: Callable[[int, int], tuple[Any, ...]], **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(f: Callable[..., Any]) -> Callable[..., Any]:
        PROGRAMS.append(Program(f.__name__, f, make, **options))
        return f

    return register


def t(*shape: int) -> torch.Tensor:
    return torch.linspace(-1.0, 1.3, max(1, torch.Size(shape).numel())).reshape(shape)


def ints(*shape: int, below: int = 7) -> torch.Tensor:
    return (torch.arange(torch.Size(shape).numel()) % below).reshape(shape)


def xy(a: int, b: int) -> tuple[Any, ...]:
    return t(a, b), t(a, b) + 2


def x(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def image(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, 3, 4 * b, 4 * b),)


@program(xy)
def pointwise(x, y):
    return (x.sin() + y * 2 - 1.5) / (y.exp() + 1)


@program(xy)
def promotion(x, y):
    return x + 1, x.to(torch.int64) + 1.5, (x > 0) * 2, x.double() + y, x.half() * y


@program(x)
def reductions(x):
    return x.sum(), x.mean(0), x.amax(1, keepdim=True), x.std(1), x.argmax(), x.var(0)


@program(x)
def views(x):
    y = x.t().unsqueeze(0).expand(3, -1, -1)
    return y.reshape(-1), x[1:, ::2], x.view(-1), x.flatten(), x.select(0, 1), x.diagonal()


@program(x)
def size_arithmetic(x):
    a, b = x.shape
    return x.new_ones(a * b + 1, b), x.repeat(2, a), torch.arange(a + b), x.view(b, a), x.numel()


@program(x)
def size_outputs(x):
    a, b = x.shape
    return a, a * b, x.shape, [x, (a + b) // 2]


@program(xy)
def in_place(x, y):
    z = x.clone()
    z.add_(y).mul_(2)
    z[0] = 5
    z[:, 1:].relu_()
    return z


@program(xy)
def mutated_input(x, y):
    x.add_(y)
    y.copy_(x)
    return x * y


@program(x)
def in_place_views(x):
    y = x.clone()
    y.t_()
    z = y.unsqueeze_(0)
    return z + 1, y.squeeze_(0).sum(0)


@program(x)
def several_results(x):
    values, indices = x.topk(2, dim=1)
    a, b = x.split([1, x.shape[1] - 1], dim=1)
    return values, indices, a, b, x.unbind(0)[0], torch.aminmax(x), x.sort(1)[0]


@program(x)
def no_tensor_results(x):
    return None, 3, "a", {"k": x + 1, "n": None}, (x, [x * 2])


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


@program(lambda a, b: ({"p": t(a, b), "q": [t(a, b), t(b)]}, (t(a), None)))
def trees_in(tree, pair):
    return {"s": tree["p"] + tree["q"][0], "t": [tree["q"][1] * 2, pair[0]]}


@program(x)
def constants(x):
    c = torch.tensor(2.0)
    d = torch.tensor([1.0, 2.0])
    return x * c + d.sum(), c + 1, torch.ones(3) + c


@program(x)
def known_item(x):
    n = torch.tensor(3).item()
    if torch.tensor(True):
        return x * n
    return x


_weight = nn.Parameter(t(4, 5))
_plain = t(5)


@program(lambda a, b: (t(a, 5),), kwargs={"_allow_non_fake_inputs": True})
def closed_over(x):
    return F.linear(x, _weight) + _plain.sum(), x + _plain


@program(x)
def factories(x):
    n = x.shape[0]
    return (
        torch.zeros(n, 2),
        torch.full((n,), 1.5),
        torch.arange(n).to(x.dtype) + x[:, 0],
        torch.empty_like(x).fill_(2.0),
        x.new_full((2, n), 3),
        torch.eye(n),
        torch.linspace(0, 1, 5),
    )


@program(x)
def gradient(x):
    x = x.detach().requires_grad_()
    y = (x.sin() * x).sum()
    (g,) = torch.autograd.grad(y, x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    return y, g, h


@program(x)
def backward(x):
    w = torch.ones_like(x).requires_grad_()
    (x * w).exp().mean().backward()
    return w.grad


@program(x)
def functorch_grad(x):
    return torch.func.grad(lambda v: (v.cos() * v).sum())(x)


@program(xy)
def functorch_vmap(x, y):
    return torch.vmap(lambda a, b: torch.dot(a, b) + a.sum())(x, y)


@program(x)
def functorch_jvp(x):
    return torch.func.jvp(lambda v: v.tanh(), (x,), (torch.ones_like(x),))


@program(x)
def functorch_jacrev(x):
    return torch.func.jacrev(lambda v: (v * v).sum(1))(x)


@program(xy)
def functionalized(x, y):
    def f(x, y):
        z = x.view(-1)
        z.add_(1)
        y[0].copy_(x[1])
        return x * y

    return torch.func.functionalize(f)(x.clone(), y.clone())


@program(x, random=True)
def random(x):
    return torch.rand_like(x) + torch.randn(x.shape[0]).unsqueeze(1), F.dropout(x, 0.5, True)


@program(lambda a, b: (t(a, b), t(b, a + 1)))
def matmul_family(x, y):
    return x @ y, torch.mm(x, y), torch.einsum("ab,bc->ca", x, y), torch.addmm(y[0], x, y)


@program(lambda a, b: (t(a, 3, b), t(a, b, 7)))
def batched_matmul(x, y):
    return torch.bmm(x, y), x @ y, torch.baddbmm(torch.zeros(3, 7), x, y)


_conv = nn.Conv2d(3, 6, 3, stride=2, padding=1)
_norm = nn.BatchNorm2d(6)


@program(image, kwargs={"_allow_non_fake_inputs": True})
def convolution(x):
    return F.max_pool2d(_conv(x).relu(), 2), F.interpolate(x, scale_factor=2)


@program(image, kwargs={"_allow_non_fake_inputs": True})
def convolution_channels_last(x):
    return _conv(x.to(memory_format=torch.channels_last)).relu() + 1


@program(lambda a, b: (t(a, 6, b, b),))
def batch_norm(x):
    mean, var = torch.zeros(6), torch.ones(6)
    return F.batch_norm(x, mean, var, training=True), mean, var


@program(lambda a, b: (t(a, b, 8),))
def layer_norm_softmax(x):
    return F.layer_norm(x, (8,)), x.softmax(-1), x.log_softmax(1), F.gelu(x)


@program(lambda a, b: (t(a, 2, b, 8), t(a, 2, b, 8), t(a, 2, b, 8)))
def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@program(lambda a, b: (ints(a, b), t(7, 4)), modes=("fake", "symbolic"))
def embedding(i, w):
    return F.embedding(i, w), w[i], F.one_hot(i, 7)


@program(lambda a, b: (t(a, b), ints(a, b, below=3)))
def gather_scatter(x, i):
    i = i.clamp(max=1)
    return x.gather(1, i), torch.zeros_like(x).scatter_add(1, i, x), x.index_select(0, i[0, :1])


@program(xy)
def joining(x, y):
    return torch.cat([x, y]), torch.stack([x, y], 1), torch.cat([x, y, x], 1), F.pad(x, (1, 2))


@program(xy)
def masks(x, y):
    m = x > 0
    return torch.where(m, x, y), x.masked_fill(m, 0), m.any(), m.logical_not(), x.clamp(0, 1)


@program(lambda a, b: (t(a, b), 3, 2.5, True))
def numbers_in(x, n, scale, flag):
    return x * scale + n if flag else x


@program(lambda a, b: (t(a, 1, b), t(1, a, b), t(b)))
def broadcasting(x, y, z):
    return x + y * z, torch.broadcast_tensors(x, y)[0]


@program(lambda a, b: (t(a, b).to(torch.complex64),))
def complex_numbers(x):
    return x * 2j, x.abs(), torch.view_as_real(x), x.conj() + 1, x.real


@program(x)
def low_precision(x):
    y = x.bfloat16()
    return y @ y.t(), y.float().half() + 1


@program(xy, kwargs={"decomposition_table": "core"})
def decomposed(x, y):
    return F.gelu(x) + y.tanh().var(0), F.layer_norm(x, x.shape[1:])


@program(xy)
def no_grad_region(x, y):
    x = x.detach().requires_grad_()
    with torch.no_grad():
        z = x * y
    return z + (x * y).detach()


@program(xy)
def autocast_region(x, y):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return x @ y.t(), (x + y).sum()


@program(x)
def out_argument(x):
    out = torch.empty_like(x)
    torch.sin(x, out=out)
    return out + 1


@program(x)
def copies(x):
    y = x.contiguous().clone(memory_format=torch.contiguous_format)
    z = torch.empty_strided(x.shape, x.stride()).copy_(x)
    return y.to(torch.float64), z.to(x), x.t().contiguous()


@program(x)
def storage_aliases(x):
    y = x.clone()
    z = y.view(-1)
    z[0] = 3.0
    w = torch.as_strided(y, (2, 2), (1, 1))
    return y, w.add_(1)


@program(xy)
def untouched_inputs(x, y):
    return x


@program(lambda a, b: (t(a, b),), modes=("symbolic",), exact=False)
def data_dependent_sizes(x):
    i = (x > 0).nonzero()
    return i, i.shape[0] * 2, x[i[:, 0]].sum(0), x[x > 0].sin()


@program(lambda a, b: (ints(a, b).sum(), t(a)), modes=("symbolic",), exact=False)
def item(n, x):
    m = n.item()
    return x * m, x.sum() + m


_encoder = nn.TransformerEncoder(
    nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False
).eval()


@program(lambda a, b: (t(a, b, 8),), kwargs={"_allow_non_fake_inputs": True})
def encoder_eval(x):
    return _encoder(x)


_train_encoder = nn.TransformerEncoder(
    nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True),
    2,
    enable_nested_tensor=False,
).train()


@program(lambda a, b: (t(a, b, 8),), kwargs={"_allow_non_fake_inputs": True})
def encoder_gradients(x):
    return torch.autograd.grad(_train_encoder(x).sum(), list(_train_encoder.parameters()))


_lstm = nn.LSTM(4, 3, batch_first=True)


@program(lambda a, b: (t(3, b, 4),), modes=("fake",), kwargs={"_allow_non_fake_inputs": True})
def lstm(x):
    return _lstm(x)[0]
