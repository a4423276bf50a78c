"""Calls of the operators that the table knows, each with inputs that work: for comparison with eager.

A sample is a program of tensors; tensors are given by their shapes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

SAMPLES: dict[str, tuple[Any, list[Any]]] = {}


def sample(name: str, program: Callable[..., Any], *inputs: Any) -> None:
    assert name not in SAMPLES, name
    SAMPLES[name] = (program, list(inputs))


class Ints(tuple):
    """The shape of a tensor of indices."""


for n, shape in ((1, (2, 4, 16)), (2, (2, 4, 16, 17)), (3, (2, 4, 9, 10, 11))):
    for kind, cls in {
        "conv": lambda n: getattr(nn, f"Conv{n}d")(4, 6, 3, stride=2, padding=1, groups=2),
        "conv same": lambda n: getattr(nn, f"Conv{n}d")(4, 6, 3, padding="same", dilation=2),
        "conv transposed": lambda n: getattr(nn, f"ConvTranspose{n}d")(
            4, 6, 3, stride=2, output_padding=1
        ),
        "max pool": lambda n: getattr(nn, f"MaxPool{n}d")(3, stride=2, padding=1),
        "max pool up": lambda n: getattr(nn, f"MaxPool{n}d")(2, ceil_mode=True),
        "avg pool": lambda n: getattr(nn, f"AvgPool{n}d")(3, stride=2, ceil_mode=True, padding=1),
        "adaptive": lambda n: getattr(nn, f"AdaptiveAvgPool{n}d")(3),
        "adaptive max": lambda n: getattr(nn, f"AdaptiveMaxPool{n}d")(2),
        "batch norm": lambda n: getattr(nn, f"BatchNorm{n}d")(4),
        "instance norm": lambda n: getattr(nn, f"InstanceNorm{n}d")(4),
        "zero pad": lambda n: getattr(nn, f"ZeroPad{n}d")(2),
        "dropout": lambda n: getattr(nn, f"Dropout{n}d")(),
        "upsample": lambda n: nn.Upsample(scale_factor=2),
        "upsample to": lambda n: nn.Upsample(size=(7,) * n),
        "group norm": lambda n: nn.GroupNorm(2, 4),
    }.items():
        sample(f"{kind} {n}d", cls(n), shape)
    pooled = tuple(2 if i < 2 else 3 for i in range(n + 2))
    sample(f"max unpool {n}d", getattr(nn, f"MaxUnpool{n}d")(2), pooled, Ints(pooled))
    sample(f"conv {n}d without batch", getattr(nn, f"Conv{n}d")(4, 6, 3), shape[1:])

for cls in (
    nn.ReLU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
    nn.Hardswish,
    nn.ELU,
    nn.Mish,
    nn.PReLU,
):
    sample(cls.__name__, cls(), (2, 3, 4))
sample("Linear", nn.Linear(4, 5), (2, 3, 4))
sample("Linear of a vector", nn.Linear(4, 5), (4,))
sample("Bilinear", nn.Bilinear(4, 5, 6), (2, 3, 4), (2, 3, 5))
sample("LayerNorm", nn.LayerNorm((3, 4)), (2, 3, 4))
sample("RMSNorm", nn.RMSNorm(4), (2, 3, 4))
sample("Embedding", nn.Embedding(10, 6), Ints((2, 3)))
sample("EmbeddingBag", nn.EmbeddingBag(10, 6), Ints((2, 3)))
sample("Softmax", nn.Softmax(-1), (2, 3))
sample("GLU", nn.GLU(), (2, 6))
sample("Flatten", nn.Flatten(), (2, 3, 4))
sample("Unflatten", nn.Unflatten(1, (2, -1)), (2, 6, 4))
sample("PixelShuffle", nn.PixelShuffle(2), (2, 8, 3, 4))
sample("PixelUnshuffle", nn.PixelUnshuffle(2), (2, 8, 4, 6))
sample("Unfold", nn.Unfold(3, padding=1), (2, 4, 6, 7))
sample("Fold", nn.Fold((6, 7), 3, padding=1), (2, 36, 42))
sample("RNN", nn.RNN(4, 5, num_layers=2, bidirectional=True), (7, 3, 4))
sample("GRU", nn.GRU(4, 5, batch_first=True), (3, 7, 4))
sample("LSTM", nn.LSTM(4, 5, proj_size=3, batch_first=True), (3, 7, 4))
sample("LSTM without batch", nn.LSTM(4, 5), (7, 4))
sample("GRUCell", nn.GRUCell(4, 5), (3, 4))
sample("LSTMCell", nn.LSTMCell(4, 5), (3, 4))
sample(
    "MultiheadAttention",
    nn.MultiheadAttention(8, 2, kdim=5, vdim=6),
    (4, 2, 8),
    (7, 2, 5),
    (7, 2, 6),
)
sample("TransformerEncoderLayer", nn.TransformerEncoderLayer(8, 2, 16), (4, 2, 8))
sample("TransformerDecoderLayer", nn.TransformerDecoderLayer(8, 2, 16), (4, 2, 8), (5, 2, 8))
sample(
    "TransformerEncoder", nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2), (4, 2, 8)
)
sample("Transformer", nn.Transformer(8, 2, 1, 1, 16), (4, 2, 8), (5, 2, 8))
sample("CrossEntropyLoss", nn.CrossEntropyLoss(), (4, 10), Ints((4,)))
sample("MSELoss", nn.MSELoss(reduction="none"), (4, 10), (4, 10))

sample("matmul", torch.matmul, (5, 1, 2, 3), (4, 3, 6))
sample("matmul of vectors", torch.matmul, (3,), (3,))
sample("matmul with a vector", lambda x, y: x @ y, (5, 2, 3), (3,))
sample("vector with matmul", lambda x, y: x @ y, (2,), (5, 2, 3))
sample("mm", torch.mm, (2, 3), (3, 4))
sample("bmm", torch.bmm, (5, 2, 3), (5, 3, 4))
sample("mv", torch.mv, (2, 3), (3,))
sample("addmm", torch.addmm, (4,), (2, 3), (3, 4))
sample("baddbmm", torch.baddbmm, (2, 1), (5, 2, 3), (5, 3, 4))
sample("outer", torch.outer, (2,), (3,))
sample("einsum", lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y), (2, 3, 4, 5), (2, 3, 6, 5))
sample("einsum with dots", lambda x, y: torch.einsum("...ij,jk->...ik", x, y), (2, 7, 3, 4), (4, 5))
sample("einsum without arrow", lambda x, y: torch.einsum("ij,jk", x, y), (3, 4), (4, 5))
sample("tensordot", lambda x, y: torch.tensordot(x, y, dims=2), (2, 3, 4), (3, 4, 5))
sample("linear", lambda x, w: F.linear(x, w), (2, 3), (4, 3))
sample(
    "attention",
    lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=False),
    (2, 3, 4, 5),
    (2, 3, 6, 5),
    (2, 3, 6, 7),
)

sample("reshape", lambda x: torch.reshape(x, (3, -1)), (2, 6))
sample("view", lambda x: x.view(-1, 2, 3), (2, 6))
sample("view of sizes", lambda x: x.view(x.size(0) * x.shape[1], -1), (2, 3, 6))
sample("flatten", lambda x: torch.flatten(x, 1, -2), (2, 3, 4, 5))
sample("unflatten", lambda x: x.unflatten(-1, (2, 3)), (4, 6))
sample("permute", lambda x: x.permute(2, 0, 1), (2, 3, 4))
sample("transpose", lambda x: x.transpose(-1, 0), (2, 3, 4))
sample("T", lambda x: x.t(), (2, 3))
sample("mT", lambda x: x.mT, (2, 3, 4))
sample("movedim", lambda x: torch.movedim(x, 0, -1), (2, 3, 4))
sample("expand", lambda x: x.expand(5, -1, 4), (3, 1))
sample("expand_as", lambda x, y: x.expand_as(y), (3, 1), (2, 3, 4))
sample("broadcast_to", lambda x: torch.broadcast_to(x, (2, 3)), (1, 3))
sample("repeat", lambda x: x.repeat(4, 2, 1), (3, 5))
sample("tile", lambda x: x.tile(2), (3, 5))
sample("repeat_interleave", lambda x: x.repeat_interleave(2, dim=1), (3, 5))
sample("squeeze", lambda x: x.squeeze(1), (3, 1, 5))
sample("squeeze of nothing", lambda x: x.squeeze(0), (3, 1, 5))
sample("unsqueeze", lambda x: x.unsqueeze(-1), (3, 5))
sample("diagonal", lambda x: torch.diagonal(x, 1), (4, 6))
sample("unfold method", lambda x: x.unfold(1, 3, 2), (2, 8))
sample("roll", lambda x: torch.roll(x, 1, 0), (2, 8))
sample("flip", lambda x: torch.flip(x, (0,)), (2, 8))

sample("cat", lambda x, y: torch.cat([x, y, x], dim=1), (2, 3), (2, 4))
sample("stack", lambda x, y: torch.stack((x, y), dim=-1), (2, 3), (2, 3))
sample("split", lambda x: torch.split(x, 3, dim=1)[-1], (2, 8))
sample("split by sizes", lambda x: x.split([2, 6], dim=1), (2, 8))
sample("chunk", lambda x: x.chunk(3, dim=1), (2, 8))
sample("unbind", lambda x: x.unbind(1)[0], (2, 3, 4))
sample("tensor_split", lambda x: torch.tensor_split(x, 3), (8, 2))
sample("meshgrid", lambda x, y: torch.meshgrid(x, y, indexing="ij"), (2,), (3,))

sample("row", lambda x: x[0], (2, 3))
sample("last of each", lambda x: x[:, -1], (2, 3, 4))
sample("slices", lambda x: x[1:, ::2, -2:], (4, 5, 6))
sample("negative slices", lambda x: x[:-1, -10:], (4, 5))
sample("ellipsis", lambda x: x[..., 0, :], (2, 3, 4, 5))
sample("none", lambda x: x[:, None, ..., None], (2, 3))
sample("indices", lambda x, i: x[i], (5, 3), Ints((2, 4)))
sample("indices in the middle", lambda x, i: x[:, i], (5, 3, 2), Ints((4,)))
sample("two indices", lambda x, i, j: x[i, :, j], (5, 3, 6), Ints((4,)), Ints((4,)))
sample("two indices together", lambda x, i, j: x[:, i, j], (5, 3, 6), Ints((4,)), Ints((1,)))
sample("index_select", lambda x, i: x.index_select(1, i), (2, 5), Ints((3,)))
sample("gather", lambda x, i: torch.gather(x, 1, i), (2, 5), Ints((2, 3)))
sample("narrow", lambda x: x.narrow(1, 1, 2), (2, 5))
sample("select", lambda x: x.select(1, 2), (2, 5))
sample("embedding", lambda i, w: F.embedding(i, w), Ints((2, 3)), (10, 4))
sample("where", lambda x, y: torch.where(x > 0, x, y), (2, 1), (3,))
sample("masked_fill", lambda x, y: x.masked_fill(y > 0, 0.0), (2, 3), (3,))
sample("one_hot", lambda i: F.one_hot(i, 10), Ints((2, 3)))
sample("take_along_dim", lambda x, i: torch.take_along_dim(x, i, 1), (2, 5), Ints((2, 3)))

for name in ("sum", "mean", "amax", "prod", "logsumexp", "argmax", "std", "var", "norm"):
    dim = {"dim": -1}
    sample(f"{name} along one", lambda x, name=name: getattr(x, name)(dim=-1), (2, 3, 4))
    sample(f"{name} kept", lambda x, name=name: getattr(x, name)(dim=1, keepdim=True), (2, 3, 4))
sample("sum of all", lambda x: x.sum(), (2, 3))
sample("sum along two", lambda x: torch.sum(x, (0, 2)), (2, 3, 4))
sample("max along", lambda x: torch.max(x, 1), (2, 3))
sample("max of two", lambda x, y: torch.max(x, y), (2, 3), (3,))
sample("median", lambda x: torch.median(x, 1, True), (2, 3))
sample("mode", torch.mode, (2, 3))
sample("kthvalue", lambda x: torch.kthvalue(x, 2, 0), (2, 3))
sample("cummax", lambda x: torch.cummax(x, 0), (2, 3))
sample("aminmax", lambda x: torch.aminmax(x, dim=0), (2, 3))
sample("any along none", lambda x: torch.any(x > 0, dim=()), (2, 3))
sample("roll along", lambda x: x.roll((1, 2), (0, 1)), (2, 3))
sample("argsort", lambda x: x.argsort(-1, descending=True), (2, 5))
sample("pairwise_distance", F.pairwise_distance, (2, 5), (2, 5))
sample("inner", torch.inner, (2, 5), (3, 5))
sample("topk", lambda x: torch.topk(x, 2), (2, 5))
sample("sort", lambda x: torch.sort(x, -1), (2, 5))
sample("cumsum", lambda x: torch.cumsum(x, 1), (2, 5))
sample("softmax", lambda x: torch.softmax(x, -1), (2, 5))
sample("log_softmax", lambda x: F.log_softmax(x, dim=-1), (2, 5))
sample("std over dims", lambda x: x.std((0, 1), True), (2, 5, 3))
sample("cosine_similarity", lambda x, y: F.cosine_similarity(x, y), (2, 5), (2, 5))
sample("cdist", torch.cdist, (7, 2, 5), (7, 3, 5))
sample(
    "cross_entropy", lambda x, t: F.cross_entropy(x, t, reduction="none"), (4, 10, 3), Ints((4, 3))
)

sample("add", torch.add, (2, 1, 3), (4, 1))
sample("arithmetic", lambda x, y: (2 * x - y / 3) ** 2 % 5, (2, 3), (3,))
sample("comparison", lambda x, y: (x <= y) & (x != 0), (2, 3), (3,))
sample("lerp", lambda x, y: torch.lerp(x, y, 0.5), (2, 3), (3,))
sample("clamp", lambda x: x.clamp(min=0), (2, 3))
sample("addcmul", torch.addcmul, (2, 3), (3,), (2, 1))
sample("layer_norm", lambda x: F.layer_norm(x, (4,)), (2, 4))
sample("group_norm", lambda x: F.group_norm(x, 2), (2, 4, 3))
sample("interpolate", lambda x: F.interpolate(x, scale_factor=1.5), (2, 3, 5, 6))
sample("interpolate to", lambda x: F.interpolate(x, size=(4, 9)), (2, 3, 5, 6))
sample("pad", lambda x: F.pad(x, (1, 2, 0, 3)), (2, 3, 4))
sample("conv2d", lambda x, w: F.conv2d(x, w, stride=2, padding=1), (2, 3, 8, 9), (4, 3, 3, 3))
sample("max_pool2d", lambda x: F.max_pool2d(x, 2), (2, 3, 8, 9))
sample("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2), (2, 3, 8))
sample(
    "grid_sample", lambda x, g: F.grid_sample(x, g, align_corners=False), (2, 3, 8, 9), (2, 4, 5, 2)
)

sample("arange", lambda x: torch.arange(1, x.size(0), 2), (8, 2))
sample("arange of floats", lambda x: torch.arange(0, 1, 0.3), (8, 2))
sample("full", lambda x: torch.full((x.shape[0], 3), 1.0), (8, 2))
sample("new_zeros", lambda x: x.new_zeros(x.size(0), 1), (8, 2))
sample("ones_like", torch.ones_like, (8, 2))
sample("tril", lambda x: torch.tril(x), (8, 8))
sample("eye", lambda x: torch.eye(x.size(0)), (8, 2))
sample("linspace", lambda x: torch.linspace(0, 1, 7), (8, 2))
sample("sizes", lambda x: x.reshape(x.size(0) // 2, x.numel() // (x.size(0) // 2)), (8, 2))

sample("hstack", lambda x, y: torch.hstack([x, y]), (2, 3), (2, 4))
sample("hstack of vectors", lambda x, y: torch.hstack([x, y]), (3,), (4,))
sample("vstack", lambda x, y: torch.vstack([x, y]), (3,), (2, 3))
sample("dstack", lambda x, y: torch.dstack([x, y]), (2, 3), (2, 3))
sample("column_stack", lambda x, y: torch.column_stack([x, y]), (2,), (2, 3))
sample("kron", torch.kron, (2, 3), (4, 5))
sample("linalg.norm", lambda x: torch.linalg.norm(x, dim=-1), (2, 3))
sample("linalg.vector_norm", lambda x: torch.linalg.vector_norm(x, dim=1, keepdim=True), (2, 3))
sample("linalg.inv", lambda x: torch.linalg.inv(x), (2, 3, 3))
sample("linalg.det", lambda x: torch.linalg.det(x), (2, 3, 3))
sample("linalg.solve", lambda x, y: torch.linalg.solve(x, y), (2, 3, 3), (2, 3, 4))
sample("linalg.cholesky", lambda x: torch.linalg.cholesky(x @ x.mT + torch.eye(3)), (3, 3))
sample("linalg.qr", lambda x: torch.linalg.qr(x), (2, 4, 3))
sample("linalg.svd", lambda x: torch.linalg.svd(x, full_matrices=False), (2, 4, 3))
sample("linalg.eigh", lambda x: torch.linalg.eigh(x), (3, 3))
sample("fft", lambda x: torch.fft.fft(x, n=7), (2, 5))
sample("ifft2", lambda x: torch.fft.ifft2(x), (2, 5, 4))
sample("rfft", lambda x: torch.fft.rfft(x, dim=0), (6, 2))
sample("irfft", lambda x: torch.fft.irfft(x), (2, 5))
sample("rfftn", lambda x: torch.fft.rfftn(x, dim=(0, 1)), (6, 4, 2))
sample("fftshift", lambda x: torch.fft.fftshift(x), (6, 4))
sample("scatter", lambda x, i, y: x.scatter(1, i, y), (2, 5), Ints((2, 3)), (2, 3))
sample("index_add", lambda x, i, y: x.index_add(0, i, y), (5, 2), Ints((3,)), (3, 2))
sample("clamp by a tensor", lambda x, y: torch.clamp(x, min=y), (2, 1), (3,))
sample("diff", lambda x: torch.diff(x, dim=1), (2, 5))
sample("trilinear", nn.Upsample(scale_factor=2, mode="trilinear"), (2, 3, 4, 5, 6))
