"""Small programs for the behavior that PyTorch's own tests of make_fx try, side by side.

symfx and torch trace each program. Both graphs have the same inputs and the same operators in the
same order. The graph of symfx computes the results of the program, at the traced shapes and others.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_proxy_tensor import assert_same, operators
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx as stock_make_fx
from torch.nn import functional as F
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils import _pytree as pytree

from symfx.proxy_tensor import make_fx

EVERY, SYMBOLIC, REAL = ("real", "fake", "symbolic"), ("symbolic",), ("real",)
TRACED, OTHER = (3, 4), (5, 6)


def t(*shape: int) -> torch.Tensor:
    return torch.linspace(-1.1, 1.3, max(1, torch.Size(shape).numel())).reshape(shape)


def one(a: int, b: int) -> tuple[Any, ...]:
    return (t(a, b),)


def two(a: int, b: int) -> tuple[Any, ...]:
    return t(a, b), t(a, b) + 2


def same(*args: Any) -> Callable[[int, int], tuple[Any, ...]]:
    """The same inputs for every shape."""
    return lambda a, b: args


@dataclasses.dataclass
class Case:
    f: Callable[..., Any]
    make: Callable[[int, int], tuple[Any, ...]]
    modes: tuple[str, ...]
    options: dict[str, Any]


CASES: dict[str, Case] = {}


def case(
    make: Any = one, modes: tuple[str, ...] = ("real", "symbolic"), **options: Any
) -> Callable[[Any], Any]:
    def register(f: Any) -> Any:
        CASES[f.__name__] = Case(f, make, modes, options)
        return f

    return register


def simple(name: str, f: Any, make: Any = one, modes: Any = ("real", "symbolic"), **o: Any) -> None:
    CASES[name] = Case(f, make, modes, o)


# -- inputs and outputs --------------------------------------------------------------------------

simple("varargs", lambda *xs: sum(xs), two)
simple("builtin", torch.sin)
simple("partial", functools.partial(torch.add, torch.ones(1)), one, REAL)
simple("lowest_rank", lambda x, n: x + n, same(t(3), torch.tensor(5)), EVERY)
simple("int_input", lambda x, n: x * n + n, lambda a, b: (t(a, b), a + 4))
simple("bool_and_float_inputs", lambda x, n, s: x * s if n else x, same(t(3), True, 2.5))
simple("string_and_none_inputs", lambda x, s, n: x + len(s), same(t(3), "abc", None))
simple("sizes_out", lambda x: (x.shape[0], x.cos(), x.shape[0] / 5, x.shape))
simple("nothing_out", lambda x: None)
simple("input_twice", lambda x, y: x + y, same(*[t(3, 4)] * 2))
simple("aliases_out", lambda x: (x.view(-1), x, x))


@dataclasses.dataclass
class Pair:
    left: torch.Tensor
    right: torch.Tensor


pytree.register_dataclass(Pair)
Named = namedtuple("Named", "left right")


@case(lambda a, b: (Pair(t(a, b), t(a, b)), Named(t(a), t(b))))
def dataclass_and_namedtuple(p, q):
    return Pair(p.left + p.right, q.left), Named(q.right * 2, [p.left])


@case(lambda a, b: (OrderedDict(k=[t(a), {"m": t(b)}], j=t(a, b)),))
def nested_containers(d):
    return OrderedDict(z=d["j"] + d["k"][1]["m"], y=(d["k"][0],))


# -- constants and values ------------------------------------------------------------------------


@case(modes=EVERY)
def constant_that_is_written_to(x):
    c = torch.tensor(1.0)
    c.add_(2)
    return torch.full((2, 3), c.item()) + x.sum()


@case(modes=EVERY)
def constant_taken_apart(x):
    (c,) = torch.unbind(torch.tensor([2]), 0)
    return c.item() * x


@case(modes=EVERY)
def constants_of_each_kind(x):
    return x + torch.tensor([1.0, 2.0]).sum() * torch.tensor(2), torch.tensor(True).item()


simple("item_into_full", lambda n: torch.full((4,), n.item()), same(torch.tensor(3.5)), SYMBOLIC)
simple("item_as_size", lambda n: torch.zeros(n.item()), same(torch.tensor(3)), SYMBOLIC)
simple("item_as_end", lambda n: torch.arange(0, n.item()), same(torch.tensor(5)), SYMBOLIC)
simple("list_of_items", lambda n: sum(n.tolist()), same(torch.tensor([1, 2])), SYMBOLIC)
simple("nonzero", lambda x: torch.nonzero(x), one, SYMBOLIC)
simple("where_as_nonzero", lambda x: torch.where(x > 0), one, SYMBOLIC)
simple("mask_index", lambda x: x[x > 0] * 2, one, SYMBOLIC)
simple("masked_select", lambda x: x.masked_select(x > 0), one, SYMBOLIC)
simple("unique", lambda x: torch.unique(x), same(torch.tensor([1, 1, 2])), SYMBOLIC)
simple(
    "repeat_interleave",
    lambda n, x: x.repeat_interleave(n),
    same(torch.tensor([1, 2, 3]), t(3)),
    SYMBOLIC,
)


@case(same(torch.tensor([2, 3]), t(5)), SYMBOLIC)
def split_by_values(sizes, x):
    return torch.split(x, sizes.tolist())


@case(same(torch.tensor(10), t(10)), SYMBOLIC)
def item_equated_with_a_size(n, y):
    z = torch.zeros(n.item())
    torch._check(z.size(0) == y.size(0))
    return y * 2 if z.size(0) == 4 else y + 2


@case(same(torch.tensor(3)), SYMBOLIC)
def checked_item(n):
    n = n.item()
    torch._check(n >= 2)
    torch._check(n <= 10)
    return torch.ones(n)


# -- sizes -----------------------------------------------------------------------------------------

simple("root_of_a_size", lambda x: x / x.size(-1) ** 0.5)
simple("size_as_float", lambda x: x / torch.sym_float(x.size(0)))
simple("negative_index", lambda x: x[-x.shape[0] + 1 :])
simple("size_on_the_left", lambda x: x.size(0) + x)
simple("expanded", lambda x: x.expand(2, *x.shape) * 1)
simple("zeros_of_both", lambda x, y: y.new_zeros([*x.shape, *x.shape[:1]]), two)
simple("joined", lambda x, y: torch.cat([x, y]), lambda a, b: (t(a, b), t(a + 1, b)))
simple("loop_over_a_size", lambda x: sum(x[i] for i in range(x.shape[0])), same(t(3, 4)))
simple("offset", lambda x, y: x + y, lambda a, b: (t(9)[4 : 4 + a], t(a)), SYMBOLIC)
simple("resized_image", lambda x: F.interpolate(x, size=(x.shape[2] * 2, 7)),
       lambda a, b: (t(1, 3, a + 1, b + 1),))  # fmt: skip


@case()
def strides(x):
    assert x.is_contiguous()
    return x.t().contiguous().view(-1)


# -- writing ---------------------------------------------------------------------------------------


@case(modes=EVERY)
def sizes_changed_in_place(x):
    x = x.clone()
    x.unsqueeze_(-1)
    assert x.shape[-1] == 1
    return x.squeeze_(-1).t_()


@case()
def written_through_an_index(x):
    y = x.clone()
    y[0, 1:] = 3.0
    y[y > 0] = 0.0
    return y


@case(modes=EVERY)
def data_replaced(x):
    y = x.clone()
    y.data = x[:2] * 2
    return y + 1


simple(
    "index_put", lambda x, i: x.index_put((i,), x[:1]), lambda a, b: (t(a, b), torch.tensor([1, 2]))
)
simple("many_at_once", lambda x, y: torch._foreach_add([x, y], [y, x]), two)
simple("only_one_of_several", lambda x: x.split(2)[0], same(t(4, 2)))
simple("detached", lambda x: x.clone().detach_().detach() + 1)


# -- gradients and transforms ----------------------------------------------------------------------


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        return g * 2 * ctx.saved_tensors[0]


@case(modes=EVERY)
def function_of_ones_own(x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(Square.apply(x).sum(), x)


@case(lambda a, b: ({"w": t(2, b).requires_grad_()}, t(a, b)))
def one_step_of_training(parameters, x):
    loss = F.silu(F.linear(x, parameters["w"])).sum()
    grads = torch.autograd.grad(loss, list(parameters.values()))
    return {k: p - 0.1 * g for (k, p), g in zip(parameters.items(), grads, strict=True)}


@case()
def regions_of_gradients(x):
    with torch.no_grad():
        y = x.sin()
    with torch.enable_grad():
        z = y * 2
    with torch.inference_mode():
        return z, x + 1


@case()
def autocast_inside_autocast(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.t()
        with torch.autocast("cpu", enabled=False):
            return y.float() @ y.float()


simple("batched_gradient", lambda x: torch.vmap(torch.func.grad(lambda r: r.sin().sum()))(x))
simple("forward_jacobian", lambda x: torch.func.jacfwd(lambda r: r.sin())(x), same(t(3)), EVERY)
simple("hessian", lambda x: torch.func.hessian(lambda r: (r**3).sum())(x), same(t(3)), EVERY)
simple(
    "batched_noise", lambda x: torch.vmap(lambda r: r + torch.rand(()), randomness="different")(x)
)
simple("noise", lambda x: F.dropout(x, 0.5) + torch.randn_like(x) + torch.bernoulli(x.clamp(0, 1)))


# -- kinds of tensors ------------------------------------------------------------------------------


class Wrapper(torch.Tensor):
    """A tensor that holds another tensor, and runs operators on the latter."""

    @staticmethod
    def __new__(cls, inner):
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), dtype=inner.dtype, strides=inner.stride()
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        args, kwargs = pytree.tree_map_only(cls, lambda w: w.inner, (args, kwargs or {}))
        return pytree.tree_map_only(torch.Tensor, cls, func(*args, **kwargs))


@case(modes=EVERY)
def wrapper_subclass(x):
    y = Wrapper(x)
    return (y * 2 + y).sum(0).inner


@case(two, EVERY)
def two_tensors_in_one(x, y):
    z = TwoTensor(x, y)
    z = (z.sin() + 1) * z
    return z.a, z.b


simple("sparse", lambda x: torch.sparse.mm(x, torch.ones(4, 2)), same(t(3, 4).to_sparse()), REAL)
simple("made_sparse", lambda x: x.to_sparse().to_dense(), one, ("real", "fake"))
simple("complex", lambda z: (z * (1 + 2j)).abs(), lambda a, b: (t(a, b).to(torch.complex64),))
simple("fourier", lambda x: torch.fft.fft(x).real)
simple("float8", lambda x: x.to(torch.float8_e4m3fn).to(torch.float32))

_net = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5)).eval()
_lstm = nn.LSTM(4, 3)
simple("module", _net, same(t(3, 4)), REAL)
simple("module_with_leave", _net, lambda a, b: (t(a, 4),), SYMBOLIC, _allow_non_fake_inputs=True)
simple("recurrent", _lstm, same(t(5, 2, 4)), REAL)
simple(
    "module_as_input", lambda m, x: m(x) + 1, same(_net, t(3, 4)), REAL, proxy_module_inputs=True
)


@pytest.mark.parametrize(
    ("name", "mode"), [(n, m) for n, c in CASES.items() for m in c.modes], ids=lambda v: str(v)
)
def test_program(name: str, mode: str) -> None:
    c = CASES[name]
    graphs = []
    for maker in (make_fx, stock_make_fx):
        torch.manual_seed(0)
        graphs.append(maker(c.f, tracing_mode=mode, **c.options)(*c.make(*TRACED)))
    ours, stock = graphs
    ours.graph.lint()
    assert operators(ours.graph) == operators(stock.graph)
    inputs = [[n.name for n in g.graph.nodes if n.op == "placeholder"] for g in graphs]
    assert inputs[0] == inputs[1]
    for shape in (TRACED, OTHER) if mode == "symbolic" else (TRACED,):
        mine, theirs = (copy.deepcopy(c.make(*shape)) for _ in range(2))
        torch.manual_seed(1)
        actual = ours(*mine)
        torch.manual_seed(1)
        expected = c.f(*theirs)
        assert_same(actual, expected, mine, theirs)


ABOVE: dict[str, Callable[..., Any]] = {
    "batched": lambda x: torch.vmap(lambda r: r.sin().sum())(x),
    "gradient": lambda x: torch.func.grad(lambda r: (F.silu(r) * r).sum())(x),
    "directional": lambda x: torch.func.jvp(torch.sin, (x,), (x,))[1],
    "both": lambda x: torch.vmap(torch.func.grad(lambda r: r.sin().sum()))(x),
    "functional": lambda x: torch.func.functionalize(lambda r: r.clone().add_(1))(x),
}


@pytest.mark.parametrize("mode", ["real", "symbolic"])
@pytest.mark.parametrize("name", ABOVE)
def test_transforms_above_autograd(name: str, mode: str) -> None:
    """torch makes constants of a transform's tensors here; symfx's graph runs on all inputs."""
    g = make_fx(ABOVE[name], tracing_mode=mode, pre_dispatch=True)(t(*TRACED))  # type: ignore[arg-type]
    assert not any(n.op == "get_attr" for n in g.graph.nodes)
    for shape in (TRACED, OTHER) if mode == "symbolic" else (TRACED,):
        torch.testing.assert_close(g(t(*shape) * 2), ABOVE[name](t(*shape) * 2))
