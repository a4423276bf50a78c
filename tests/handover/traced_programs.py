"""Programs whose traces are saved, loaded and handed on: each with an example and other inputs."""

from __future__ import annotations

import collections
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import symfx
from benchmarks.models import ResNet
from examples.encoder import EncoderStack

Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class Program:
    """A model and its calls.

    Attributes:
        make: builds the model.
        call: the arguments at a size.
        dynamic: the dynamic dimensions.
        sizes: the sizes that are tried; the first is the example's.
    """

    make: Callable[[], Callable[..., Any]]
    call: Callable[[int], Call]
    dynamic: Any
    sizes: tuple[int, ...] = (4, 2, 5, 11)

    def trace(self, **options: Any) -> symfx.Trace:
        torch.manual_seed(0)
        model = self.make()
        args, kwargs = self.call(self.sizes[0])
        return symfx.trace(model, args, kwargs, dynamic=self.dynamic, **options)


def randn(*shape: int) -> Tensor:
    return torch.randn(*shape)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))


class Counter(nn.Module):
    """Writes to a buffer, and returns a dict with a symbolic number in it."""

    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("unsaved", torch.ones(3), persistent=False)

    def forward(self, x: Tensor, *, scale: Tensor) -> dict[str, Any]:
        self.total.add_(x.shape[0])
        return {"y": x * scale * self.unsaved + self.total, "k": x.shape[0] * 2}


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Any:
        y = torch.cond(x.sum() > 0, lambda x: x.sin() + x.shape[0], lambda x: x.cos(), (x,))
        return self.layer(y)


class ByData(nn.Module):
    """Takes a length from data, and returns a tensor whose size only data tell."""

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        k = lengths.max().item()
        torch._check(k >= 1)
        torch._check(k <= x.shape[0])
        return x[:k].sum(0) + torch.tensor([1.0, 2.0, 3.0]), x.nonzero()


class ByInput(nn.Module):
    """Reads an integer from an input tensor, whose value tracing knows."""

    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        k = n.item()
        torch._check(k >= 1)
        torch._check(k <= x.shape[0])
        return x[:k].sum(0) * k


class Nested(nn.Module):
    """Containers in arguments and results."""

    def forward(self, pair: Any, named: dict[str, Any], *more: Tensor, scale: float = 2.0) -> Any:
        first, (second, third) = pair
        made = collections.OrderedDict(z=first + second, a=[third * scale, named["x"]])
        return made, torch.topk(first, 2), sum(more)


class Tied(nn.Module):
    """Two names of one parameter, and a parameter in channels_last order."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1).to(memory_format=torch.channels_last)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        self.again.weight = self.conv.weight
        self.register_buffer("row", torch.arange(6.0).expand(2, 6)[:, ::2])

    def forward(self, x: Tensor) -> Tensor:
        return self.again(self.conv(x)).mean((2, 3)) + self.row[0]


def guarded(x: Tensor, n: int) -> Tensor:
    if x.shape[0] % 2 == 0 and x.shape[0] > n:
        return x.reshape(2, -1).sum(0)
    return x


def of_sizes(x: Tensor) -> Tensor:
    k = max(x.shape[0] // 3, 1)
    return torch.cat([x.topk(k, dim=0).values, torch.arange(0, 2 * x.shape[0], 2)[:, None] + x])


def attention() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 5, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        return self.lstm(x)


def _method() -> Callable[..., Any]:
    return MLP().forward


PROGRAMS: dict[str, Program] = {
    "mlp": Program(MLP, lambda b: ((randn(b, 8),), {}), {"x": ("b", None)}),
    "method": Program(_method, lambda b: ((randn(b, 8),), {}), {"x": ("b", None)}),
    "counter": Program(
        Counter,
        lambda b: ((randn(b, 3),), {"scale": randn(b, 1)}),
        {"x": ("b", None), "scale": ("b", None)},
    ),
    "branches": Program(Branches, lambda b: ((randn(b, 3),), {}), {"x": ("b", None)}),
    "by-data": Program(
        ByData,
        lambda b: ((randn(b + 3, 3), torch.tensor([1, b])), {}),
        {"x": ("b", None)},
    ),
    "by-input": Program(
        ByInput, lambda b: ((randn(b + 3, 3), torch.tensor(b)), {}), {"x": ("b", None)}
    ),
    "nested": Program(
        Nested,
        lambda b: (
            ([randn(b), (randn(b), randn(b))], {"x": randn(b, 2), "n": 3}, randn(b), randn(b)),
            {},
        ),
        {"pair": [("b",), (("b",), ("b",))], "named": {"x": ("b", None)}, "more": (("b",), ("b",))},
    ),
    "tied": Program(
        Tied,
        lambda b: ((randn(b, 3, 6, b + 2),), {}),
        {"x": (symfx.Dim("b", max=100), None, None, "w")},
    ),
    "guarded": Program(
        lambda: guarded, lambda b: ((randn(b), 3), {}), {"x": ("b",), "n": None}, (8, 6, 12, 20)
    ),
    "of-sizes": Program(lambda: of_sizes, lambda b: ((randn(b, 1),), {}), [("n", None)], (9, 6, 7)),
    "encoder": Program(
        lambda: EncoderStack().eval(),
        lambda b: ((randn(b, b + 3, 64),), {}),
        {"x": ("batch", "seq", None)},
    ),
    "attention": Program(
        attention, lambda b: ((randn(b, b + 3, 8),), {}), {"src": ("batch", "seq", None)}
    ),
    "lstm": Program(Recurrent, lambda b: ((randn(b, 6, 4),), {}), {"x": ("batch", None, None)}),
    "resnet-eval": Program(
        lambda: ResNet(width=4, classes=5).eval(),
        lambda b: ((randn(b, 3, 32, 32),), {}),
        {"x": ("batch", None, None, None)},
    ),
    "resnet-train": Program(
        lambda: ResNet(width=4, classes=5).train(),
        lambda b: ((randn(b, 3, 32, 32),), {}),
        {"x": ("batch", None, None, None)},
    ),
}


class Ids(nn.Module):
    """A transformer as a function of token ids, whose result is one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        result: Tensor = self.model(ids)[0]
        return result


def _transformer(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        small = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 64}
        heads = {"num_attention_heads": 2, "vocab_size": 50}
        if name == "bert":
            config = transformers.BertConfig(**small, **heads, max_position_embeddings=64)
            return Ids(transformers.BertModel(config)).eval()
        if name == "gpt2":
            config = transformers.GPT2Config(
                n_layer=2, n_embd=32, n_head=2, vocab_size=50, n_positions=64, use_cache=False
            )
            return Ids(transformers.GPT2Model(config)).eval()
        config = transformers.LlamaConfig(
            **small, **heads, num_key_value_heads=2, max_position_embeddings=64, use_cache=False
        )
        return Ids(transformers.LlamaModel(config)).eval()

    return make


TRANSFORMERS: dict[str, Program] = {
    name: Program(
        _transformer(name),
        lambda b: ((torch.randint(50, (b, b + 3)),), {}),
        {"ids": ("batch", symfx.Dim("seq", max=64))},
    )
    for name in ("bert", "gpt2", "llama")
}
