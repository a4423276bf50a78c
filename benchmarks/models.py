"""The six models that the benchmarks trace and that the end-to-end tests verify.

A `Workload` is a function of ``(params, buffers, *inputs)``. Parameters and buffers are arguments
and no constants of the graph, so that the same call means the same work for every peer: in symbolic
mode each dimension of each of them is dynamic.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from examples.encoder import EncoderStack

__all__ = ["WORKLOADS", "BasicBlock", "ResNet", "Workload", "build"]

Sizes = Mapping[str, int]
Tensors = dict[str, Tensor]

VOCABULARY = 1000


@dataclass(frozen=True)
class Workload:
    """One program to trace, with its arguments at each admissible shape.

    Attributes:
        name: its name on the command line and in tests.
        title: the model in words, for a table.
        function: the program, ``function(params, buffers, *inputs)``.
        params: the parameters to trace with.
        buffers: the buffers to trace with.
        make_inputs: the function from sizes of the named dimensions to inputs.
        example: the sizes at which it is traced.
        others: other admissible sizes, at which the graph runs.
        dims: for each input, the named dimension at each dynamic position.
    """

    name: str
    title: str
    function: Callable[..., Any]
    params: Tensors
    buffers: Tensors
    make_inputs: Callable[[Sizes], tuple[Tensor, ...]]
    example: Sizes
    others: tuple[Sizes, ...]
    dims: tuple[Mapping[int, str], ...]

    def arguments(self, sizes: Sizes | None = None) -> tuple[Any, ...]:
        """The arguments of ``function``; buffers are fresh copies, since programs write them."""
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        return (self.params, buffers, *self.make_inputs(sizes or self.example))

    def closed(self) -> tuple[Callable[..., Any], tuple[Tensor, ...]]:
        """The program as a function of the inputs alone, and its arguments."""
        params, buffers, *inputs = self.arguments()

        def function(*inputs: Tensor) -> Any:
            return self.function(params, buffers, *inputs)

        return function, tuple(inputs)

    def dynamic_shapes(self) -> tuple[Any, ...]:
        """The ``dynamic_shapes`` of make_fx: static parameters, inputs with named dimensions."""
        return (None, None, *(dict(dims) for dims in self.dims))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, itself a convolution where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


class ResNet(nn.Module):
    """The shape of ResNet-18: a stem, four stages of two blocks, a linear head."""

    def __init__(self, width: int = 64, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
        )
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(4):
            wider = width * 2**stage
            blocks.append(BasicBlock(channels, wider, stride=1 if stage == 0 else 2))
            blocks.append(BasicBlock(wider, wider, stride=1))
            channels = wider
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(self.blocks(self.stem(x))).flatten(1))
        return logits


@contextlib.contextmanager
def _seeded(seed: int = 0) -> Iterator[None]:
    """A context with the same random numbers in every run; it keeps the caller's random state."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _state(model: nn.Module, *, trainable: bool) -> tuple[Tensors, Tensors]:
    """The parameters and the buffers as plain tensors, for arguments."""
    params = {
        name: param.detach().requires_grad_(trainable) for name, param in model.named_parameters()
    }
    return params, dict(model.named_buffers())


# No weight and no other dimension shares the size of a named dimension: equal sizes get one symbol,
# and the work should not depend on such an accident. No size is 0 or 1.
_TEXT_EXAMPLE = {"batch": 5, "seq": 17}
_TEXT_OTHERS = (
    {"batch": 2, "seq": 17},
    {"batch": 5, "seq": 3},
    {"batch": 9, "seq": 11},
    {"batch": 7, "seq": 6},
    {"batch": 4, "seq": 38},
)
_TEXT_DIMS = {0: "batch", 1: "seq"}
_IMAGE_EXAMPLE = {"batch": 5, "height": 96, "width": 80}
_IMAGE_OTHERS = (
    {"batch": 2, "height": 96, "width": 80},
    {"batch": 5, "height": 65, "width": 130},
    {"batch": 4, "height": 112, "width": 72},
    {"batch": 6, "height": 97, "width": 99},
    {"batch": 3, "height": 160, "width": 70},
)
_IMAGE_DIMS = {0: "batch", 2: "height", 3: "width"}


def _encoder(name: str, *, small: bool, dropout: float, with_grad: bool) -> Workload:
    layers, width, heads, hidden = (2, 32, 2, 48) if small else (8, 64, 4, 128)
    model = EncoderStack(layers, width, heads, hidden, dropout=dropout).train()
    params, buffers = _state(model, trainable=True)

    def forward(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        result: Tensor = functional_call(model, (params, buffers), (x,))
        return result

    def gradients(params: Tensors, buffers: Tensors, x: Tensor) -> tuple[Tensor, ...]:
        loss = forward(params, buffers, x).square().mean()
        return (loss, *torch.autograd.grad(loss, list(params.values())))

    def make_inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        with _seeded():
            return (torch.randn(sizes["batch"], sizes["seq"], width),)

    return Workload(
        name=name,
        title=f"{layers} encoder layers, train" + (" + autograd.grad" if with_grad else ""),
        function=gradients if with_grad else forward,
        params=params,
        buffers=buffers,
        make_inputs=make_inputs,
        example=_TEXT_EXAMPLE,
        others=_TEXT_OTHERS,
        dims=(_TEXT_DIMS,),
    )


def _resnet(name: str, *, small: bool, train: bool) -> Workload:
    model = ResNet(width=8, classes=10) if small else ResNet()
    model.train(train)
    params, buffers = _state(model, trainable=train)

    def forward(params: Tensors, buffers: Tensors, x: Tensor) -> Tensor:
        result: Tensor = functional_call(model, (params, buffers), (x,))
        return result

    def make_inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        with _seeded():
            return (torch.randn(sizes["batch"], 3, sizes["height"], sizes["width"]),)

    return Workload(
        name=name,
        title=f"ResNet-18-like, {'train' if train else 'eval'}",
        function=forward,
        params=params,
        buffers=buffers,
        make_inputs=make_inputs,
        example=_IMAGE_EXAMPLE,
        others=_IMAGE_OTHERS,
        dims=(_IMAGE_DIMS,),
    )


def _bert(name: str, *, small: bool) -> Workload:
    from transformers import BertConfig, BertModel

    layers, width = (2, 32) if small else (4, 128)
    # Any: transformers types neither the keywords of its configurations nor its models' methods.
    config_class: Any = BertConfig
    config = config_class(
        vocab_size=VOCABULARY,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * width,
        attn_implementation="sdpa",
    )
    model: Any = BertModel(config, add_pooling_layer=False)
    model.eval()
    params, buffers = _state(model, trainable=False)

    def forward(params: Tensors, buffers: Tensors, ids: Tensor, mask: Tensor) -> Tensor:
        keywords = {"attention_mask": mask}
        result: Tensor = functional_call(
            model, (params, buffers), (ids,), keywords
        ).last_hidden_state
        return result

    def make_inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        with _seeded():
            shape = sizes["batch"], sizes["seq"]
            mask = torch.ones(shape, dtype=torch.long)
            mask[0, -1] = 0  # the first sentence is one word shorter than the others
            return torch.randint(VOCABULARY, shape), mask

    return Workload(
        name=name,
        title=f"BERT, {layers} layers, eval",
        function=forward,
        params=params,
        buffers=buffers,
        make_inputs=make_inputs,
        example=_TEXT_EXAMPLE,
        others=_TEXT_OTHERS,
        dims=(_TEXT_DIMS, _TEXT_DIMS),
    )


def _gpt2(name: str, *, small: bool, layers: int | None) -> Workload:
    from transformers import GPT2Config, GPT2Model

    width = 32 if small else 128
    layers = layers or (2 if small else 4)
    config_class: Any = GPT2Config
    config = config_class(
        vocab_size=VOCABULARY,
        n_positions=512,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        attn_implementation="sdpa",
    )
    model: Any = GPT2Model(config)
    model.eval()
    params, buffers = _state(model, trainable=False)

    def forward(params: Tensors, buffers: Tensors, ids: Tensor) -> Tensor:
        result: Tensor = functional_call(model, (params, buffers), (ids,)).last_hidden_state
        return result

    def make_inputs(sizes: Sizes) -> tuple[Tensor, ...]:
        with _seeded():
            return (torch.randint(VOCABULARY, (sizes["batch"], sizes["seq"])),)

    return Workload(
        name=name,
        title=f"GPT-2, {layers} layers, eval",
        function=forward,
        params=params,
        buffers=buffers,
        make_inputs=make_inputs,
        example=_TEXT_EXAMPLE,
        others=_TEXT_OTHERS,
        dims=(_TEXT_DIMS,),
    )


@dataclass(frozen=True)
class _Options:
    """The options of `build`; each builder reads some of them."""

    small: bool
    dropout: float
    layers: int | None


_BUILDERS: dict[str, Callable[[str, _Options], Workload]] = {
    "encoder": lambda name, o: _encoder(name, small=o.small, dropout=o.dropout, with_grad=False),
    "resnet-eval": lambda name, o: _resnet(name, small=o.small, train=False),
    "resnet-train": lambda name, o: _resnet(name, small=o.small, train=True),
    "bert": lambda name, o: _bert(name, small=o.small),
    "gpt2": lambda name, o: _gpt2(name, small=o.small, layers=o.layers),
    "encoder-grad": lambda name, o: _encoder(
        name, small=o.small, dropout=o.dropout, with_grad=True
    ),
}

WORKLOADS: tuple[str, ...] = tuple(_BUILDERS)
"""The names that `build` takes, in the order of the table."""


def build(
    name: str, *, small: bool = False, dropout: float = 0.1, layers: int | None = None
) -> Workload:
    """Build one workload, with the same random weights each time.

    Args:
        name: one of `WORKLOADS`.
        small: whether the model has fewer and narrower layers, for tests.
        dropout: the dropout of encoder layers, which stand in train mode; other models have none.
        layers: the number of GPT-2's layers, in place of the usual number.

    Raises:
        KeyError: for a name that is not in `WORKLOADS`.
    """
    with _seeded():
        return _BUILDERS[name](name, _Options(small, dropout, layers))
