"""Random programs of views, slices, dimensions of size 1 and questions about layouts.

A program is Python source, drawn step by step: a step is kept if eager takes it. A description of
each input has its sizes, some of which vary, and its layout in memory, so that inputs of the same
kind can be made at other sizes.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F

import symfx
from symfx import Dim

Sizes = Mapping[str, int]

NAMES = ("a", "b", "c")
LAYOUTS = ("plain", "plain", "transposed", "gaps", "rows", "tail", "copies")
_MOST_ELEMENTS = 3000
# The strides of dimensions of size 1 in "loose" inputs start at this number.
_LOOSE = 97


@dataclass(frozen=True)
class Input:
    """A tensor input: a name or a number for each size, and the layout of the tensor in memory."""

    sizes: tuple[str | int, ...]
    layout: str

    def at(self, values: Sizes) -> tuple[int, ...]:
        return tuple(values[s] if isinstance(s, str) else s for s in self.sizes)

    def make(self, values: Sizes, seed: int, *, loose: bool = False) -> torch.Tensor:
        """The input at these sizes; with `loose`, dimensions of size 1 have unusual strides."""
        generator = torch.Generator().manual_seed(seed)

        def drawn(*size: int) -> torch.Tensor:
            return torch.randn(size, generator=generator, dtype=torch.float64)

        size = self.at(values)
        if self.layout == "transposed":
            made = drawn(*size[:-2], size[-1], size[-2]).transpose(-1, -2)
        elif self.layout == "gaps":
            made = drawn(*size[:-1], size[-1] + 3)[..., : size[-1]]
        elif self.layout == "rows":
            made = drawn(2 * size[0], *size[1:])[::2]
        elif self.layout == "tail":
            made = drawn(size[0] + 2, *size[1:])[2:]
        elif self.layout == "copies":
            made = drawn(*size[:-1], 1).expand(size)
        else:
            made = drawn(*size)
        if loose:
            strides = [
                _LOOSE + d if n == 1 else st
                for d, (n, st) in enumerate(zip(made.shape, made.stride(), strict=True))
            ]
            made = made.as_strided(made.shape, strides)
        return made


@dataclass
class Program:
    """A drawn program.

    Attributes:
        inputs: the inputs by name.
        lines: the statements, each of which makes one value.
        dims: the names of the sizes that vary.
        example: the values of these sizes for tracing.
    """

    inputs: dict[str, Input]
    dims: dict[str, Dim]
    example: dict[str, int]
    lines: list[str] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)

    @property
    def source(self) -> str:
        returned = ", ".join([*self.tensors[-4:], *self.numbers])
        body = [f"    {line}" for line in (*self.lines, f"return ({returned},)")]
        return "\n".join([f"def program({', '.join(self.inputs)}):", *body, ""])

    def __str__(self) -> str:
        told = [f"# {name}: {i.layout} {i.sizes}" for name, i in self.inputs.items()]
        dims = ", ".join(f"{d.name} >= {d.min}" for d in self.dims.values())
        return "\n".join([*told, f"# traced at {self.example}; {dims}", self.source])

    def function(self) -> Callable[..., Any]:
        scope: dict[str, Any] = {"torch": torch, "F": F}
        exec(compile(self.source, "<program>", "exec"), scope)
        made: Callable[..., Any] = scope["program"]
        return made

    def arguments(self, values: Sizes, *, loose: bool = False) -> list[torch.Tensor]:
        return [
            shape.make(values, seed, loose=loose) for seed, shape in enumerate(self.inputs.values())
        ]

    def dynamic(self) -> list[Any]:
        return [
            tuple(self.dims[s] if isinstance(s, str) else None for s in shape.sizes)
            for shape in self.inputs.values()
        ]

    def trace(self) -> symfx.Trace:
        # An example of size 1 may pin its dimension, which is weak and not wrong.
        return symfx.trace(
            self.function(),
            tuple(self.arguments(self.example)),
            dynamic=self.dynamic(),
            strict=False,
        )


# T stands for a tensor, U for another, D for a dimension of T, N for a number, K for a constant.
_VIEWS = """
T[None];T[:, None];T[..., None];T.unsqueeze(D);T.squeeze(D);T.squeeze();T.transpose(D, D);T.mT;
T[:, 1:];T[1:];T[..., :K];T[..., ::2];T[:, K:];T[:1];T[:, :1];T[0];T[:, -1];T.select(D, 0);
T.narrow(D, 0, 1);T.narrow(D, 1, T.shape[D] - 1);T.flatten();T.flatten(0, 1);T.reshape(-1);
T.reshape(1, -1);T.reshape(T.shape[0], -1);T.view(-1);T.view(T.shape);T.movedim(0, -1);
T.unfold(D, 1, 1);T.unfold(D, 2, 1);T.diagonal();T.expand(K, *T.shape);T.expand_as(U);
T.permute(*reversed(range(T.dim())));T.chunk(2, D)[0];T.split(1, D)[0];T.unbind(D)[0];
T.unflatten(D, (1, -1));T.unflatten(D, (-1, 1));T.detach();T.view_as(T);T.swapaxes(0, -1);
torch.as_strided(T, T.size(), T.stride(), T.storage_offset());
torch.as_strided(T, T.size(), T.stride());T[:N];T[:, :N];T.clone().transpose_(D, D);
T.clone().unsqueeze_(D);T.clone().squeeze_(D);torch.as_strided(T.contiguous(), (N,), (1,));T.clone().swapaxes_(0, -1)
"""
_COMPUTED = """
T.flip(D);T.sort(D)[0];T.sort(D)[1];T.msort();T.gather(D, torch.zeros_like(T).long());
torch.ones_like(T);torch.zeros_like(T);T.nan_to_num();T.clone();T.contiguous();T.relu();T + U;
T * 2;T + T.mT;T.cumsum(D);torch.cat([T, T], D);torch.stack([T, T], D);T.sum(D);
T.sum(D, keepdim=True);T.index_select(D, torch.tensor([0]));T.tril();
torch.where(T > 0, T, U);T @ T.mT;T.softmax(D);T.repeat(*[1] * T.dim());T.repeat_interleave(2, D);
T.masked_fill(T > 0, 0);T.argsort(D);T.topk(1, D)[0];T.amax(D);T.mean(D, keepdim=True);T.round();
torch.full_like(T, 2);torch.nn.functional.pad(T, (1, 0));T.to(torch.float32);T.double();T > 0;
T.new_zeros(T.shape);T.new_ones(T.numel());torch.rand_like(T) * 0;T.logsumexp(D);T.cummax(D)[0];
T.new_empty_strided(T.size(), T.stride()).fill_(1);torch.empty_like(T).fill_(3);T.rot90();
torch.empty_strided(T.size(), T.stride()).fill_(2);T.triu();T.take_along_dim(T.argsort(D), D);
T.scatter(D, torch.zeros_like(T).long(), U);T.fmod(2);T.std(D);T.kthvalue(1, D)[0];T.lerp(U, 0.5);
T.index_fill(D, torch.tensor([0]), 1.0);T.logcumsumexp(D);T.trunc();T.sign();torch.atan2(T, U);
T.clone(memory_format=torch.contiguous_format);torch.linalg.vector_norm(T, dim=D);T.fliplr();
T.sum() / N;T * N;T.new_zeros(N);T + float(N);T.as_strided(T.shape, T.stride(), 0);T.diff(dim=D);
torch.nn.functional.layer_norm(T, T.shape[-1:]);T.cross(T, D);T.var(D);T.clamp(0);T.logit(1e-3);T[T > 0];T.nonzero();
T.clone(memory_format=torch.preserve_format);T.contiguous(memory_format=torch.channels_last);
torch.nn.functional.avg_pool2d(T, 1);torch.nn.functional.conv2d(T, torch.ones_like(T)[:1]);
T.clone().flip(D).mul_(2);T.add_(0);
torch.nn.functional.conv2d(T, torch.ones(2, T.shape[1], 1, 1).double())
"""
_ASKED = """
T.numel();T.stride(D);T.stride(0);T.stride(-1);T.storage_offset();int(T.is_contiguous());
T.size(D);T.stride()[D];T.numel() // T.shape[0];T.stride(0) * T.stride(-1);N + 1;N * N;T.dim();
T.numel() + T.stride(D);len(T);int(T.stride(D) > 1);int(T.stride(0) >= T.stride(-1));
N // 2;max(N, 3);T.shape.numel();
int(T.is_contiguous(memory_format=torch.channels_last));T.numel() / T.shape[0];int(T.mT.is_contiguous());
T.flip(D).numel();T.flip(D).stride(D);T[:, 1:].storage_offset();T[1:].storage_offset()
"""
# Steps as models have them, for inputs that are row-major.
_OF_MODELS = """
T[:, 1:];T[:, :-1];T[:, :3];T[:, :5];T[..., :4];T[1:];T[:2];T[:, 2:];T[:, ::2];T.chunk(2, D)[0];
torch.cat(T.chunk(2, D)[::-1], D);T.chunk(3, D)[-1];T.split(2, D)[0];torch.cat(T.split(3, D), D);
T.transpose(D, D);T.mT;T.flatten(0, 1);T.flatten(1);T.reshape(T.shape[0], -1);T.unsqueeze(D);
T.contiguous();T.reshape(-1, T.shape[-1]);T.movedim(0, -1);torch.cat([T, T], D);T + U;T * U;
torch.cat([T, U], D);torch.stack([T, T], D);T + T.mean(D, keepdim=True);T.softmax(D);T.cumsum(D);
T.relu();F.gelu(T);T @ T.mT;T.sum(D);T.roll(1, D);T.flip(D);F.pad(T, (1, 1));T.topk(2, D)[0];
F.pad(T, (0, -T.shape[-1] % 4));F.layer_norm(T, T.shape[-1:]);F.avg_pool1d(T, 2);T.sort(D)[0];
F.max_pool1d(T, 2);F.interpolate(T, scale_factor=2);T.narrow(D, 0, 2);T.index_select(D, torch.tensor([0, 1]));
T.repeat(*[2] * T.dim());T.repeat_interleave(2, D);torch.where(T > 0, T, U);T.tril();T.diff(dim=D);
T.masked_fill(T > 0, 0);T.var(D);F.normalize(T, dim=D);F.glu(T, D);T.unfold(D, 2, 1);T.amax(D);
F.scaled_dot_product_attention(T, T, T);T[:, T.shape[1] // 2:];T[..., : T.shape[-1] // 2];T[0];
T[:, -1];T.unflatten(D, (2, -1));T.unflatten(D, (-1, 2));T.exp().log1p();T.argmax(D);T.unbind(D)[0];
T.cummax(D)[0];T.logsumexp(D);torch.einsum("...ij,...kj->...ik", T, T);T.gather(D, T.argsort(D));
T.view(T.shape[0], -1);T.expand_as(U);torch.outer(T.flatten(), T.flatten()[:3]);T.mean();T.squeeze(D);
torch.arange(T.shape[D]).double() + T.sum();F.conv1d(T, torch.ones(4, T.shape[1], 2).double());
F.group_norm(T, 1);F.instance_norm(T);F.adaptive_avg_pool1d(T, 3);T.tile(2);T.clone().add_(1);
F.avg_pool2d(T, 2);F.max_pool2d(T, 2, 1);F.conv2d(T, torch.ones(2, T.shape[1], 2, 2).double(), padding=1);
F.cosine_similarity(T, T, D);torch.cdist(T, T);T.std(D, keepdim=True);T.clamp(-1, 1).square();T - T.mT;
torch.cat([T[:, 1:], T[:, :1]], 1);T.view(-1)[: T.shape[0]];F.embedding(T.long().abs() % 5, torch.ones(5, 3).double())
"""


def _forms(text: str) -> list[str]:
    return [form.strip() for form in text.replace("\n", "").split(";")]


VIEWS, COMPUTED, ASKED, OF_MODELS = map(_forms, (_VIEWS, _COMPUTED, _ASKED, _OF_MODELS))


def draw_program(picks: random.Random, steps: int = 6, *, plain: bool = False) -> Program:
    """A program of at most so many steps that eager takes at its example.

    Args:
        picks: draws.
        steps: the most steps.
        plain: whether inputs are row-major and have sizes from 2, and steps are as in models.
    """
    families, layouts = (
        ((VIEWS, COMPUTED, ASKED), LAYOUTS) if not plain else ((OF_MODELS,), ("plain",))
    )
    dims, example = {}, {}
    for name in NAMES:
        low = 2 if plain else picks.choice((0, 1, 1, 2, 2))
        dims[name] = Dim(name, min=low)
        example[name] = picks.choice((1, 3, 4)) if low <= 1 else picks.randint(2, 6)
    inputs = {}
    for name in ("x", "y")[: picks.choice((1, 1, 2))]:
        rank = picks.choice((1, 2, 2, 3, 3, 4))
        sizes = tuple(picks.choice((*NAMES, *NAMES, 1, 3)) for _ in range(rank))
        layout = picks.choice(layouts)
        inputs[name] = Input(sizes, "plain" if layout == "transposed" and rank < 2 else layout)
    used = {s for shape in inputs.values() for s in shape.sizes}
    program = Program(
        inputs,
        {n: d for n, d in dims.items() if n in used},
        {n: v for n, v in example.items() if n in used},
    )
    values: dict[str, Any] = dict(zip(inputs, program.arguments(program.example), strict=True))
    program.tensors = list(inputs)
    attempts = 0
    while len(program.lines) < steps and attempts < 8 * steps:
        attempts += 1
        family = picks.choices(families, (4, 3, 3)[: len(families)])[0]
        _try_step(picks, program, values, picks.choice(family))
    if not program.numbers and not plain:
        last = program.tensors[-1]
        _try_step(picks, program, values, f"{last}.numel()")
    program.tensors = [t for t in program.tensors if t not in inputs] or program.tensors
    return program


def _try_step(picks: random.Random, program: Program, values: dict[str, Any], form: str) -> None:
    """Add a step if eager takes it and its value is small."""
    # The latest tensor is the most frequent choice, so that programs are chains.
    chosen = picks.choice(program.tensors[-1:] + program.tensors[-3:])
    if "N" in form and not program.numbers:
        return
    rank = values[chosen].dim()
    text = ""
    for letter, after in zip(form, form[1:] + " ", strict=True):
        alone = not after.isalpha() and not (text and text[-1].isalnum())
        if letter == "T" and alone:
            text += chosen
        elif letter == "U" and alone:
            text += picks.choice(program.tensors)
        elif letter == "D" and alone:
            if not rank:
                return
            text += str(picks.randrange(rank))
        elif letter == "N" and alone:
            text += picks.choice(program.numbers)
        elif letter == "K" and alone:
            text += picks.choice("123")
        else:
            text += letter
    try:
        value = eval(text, {"torch": torch, "F": F}, values)
    except (ArithmeticError, RuntimeError, IndexError, TypeError, ValueError):
        return
    name = f"v{len(program.lines)}"
    if isinstance(value, torch.Tensor):
        if value.numel() > _MOST_ELEMENTS:
            return
        program.tensors.append(name)
    else:
        program.numbers.append(name)
    values[name] = value
    program.lines.append(f"{name} = {text}")


def other_sizes(picks: random.Random, program: Program, count: int) -> Iterator[dict[str, int]]:
    """Sizes within the ranges of the program's dimensions, often small and often 1."""
    for _ in range(count):
        yield {
            name: max(int(dim.min or 0), picks.choice((0, 1, 1, 2, 3, 4, 5, 6, 7)))
            for name, dim in program.dims.items()
        }
