"""Shape bugs of generative models, geometry, signals, policies and search.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug

# Generative models


@bug(
    "the embedding of the time step is added as [n, c]",
    "x: f32[n, 3, h, h]",
    "t: f32[n]",
    n=4,
    h=16,
)
class TimeOfDiffusion(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, 32))
        self.out = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        emb = self.time(t[:, None])
        return self.out(F.silu(self.conv(x) + emb))  # BUG


class TimeOfDiffusionMended(TimeOfDiffusion):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        emb = self.time(t[:, None])
        return self.out(F.silu(self.conv(x) + emb[:, :, None, None]))


@bug(
    "the noise level of [n] times images",
    "x: f32[n, 3, 32, 32]",
    "noise: f32[n, 3, 32, 32]",
    "t: i64[n]",
    n=8,
)
class NoiseLevel(nn.Module):
    alphas: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("alphas", torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0))

    def forward(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        a = self.alphas[t]
        return a.sqrt() * x + (1 - a).sqrt() * noise  # BUG


class NoiseLevelMended(NoiseLevel):
    def forward(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        a = self.alphas[t].view(-1, 1, 1, 1)
        return a.sqrt() * x + (1 - a).sqrt() * noise


@bug("codes keep their channels last", "x: f32[n, 3, 32, 32]", n=4)
class Codebook(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 16, 4, 4)
        self.codes = nn.Embedding(64, 16)
        self.decoder = nn.ConvTranspose2d(16, 3, 4, 4)

    def quantized(self, z: Tensor) -> Tensor:
        last = z.permute(0, 2, 3, 1)
        distances = torch.cdist(last.reshape(-1, 16), self.codes.weight)
        return self.codes(distances.argmin(1)).view(last.shape)

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        q = self.quantized(z)
        return self.decoder(z + (q - z).detach())  # BUG


class CodebookMended(Codebook):
    def quantized(self, z: Tensor) -> Tensor:
        return super().quantized(z).permute(0, 3, 1, 2)


@bug("halves of an odd width in a coupling layer", "x: f32[n, 7]", n=16)
class Coupling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 2 * self.width()))

    def width(self) -> int:
        return 3

    def forward(self, x: Tensor) -> Tensor:
        kept, moved = x[:, :3], x[:, 3:]
        log_scale, shift = self.net(kept).chunk(2, dim=1)
        return torch.cat([kept, moved * log_scale.exp() + shift], dim=1)  # BUG


class CouplingMended(Coupling):
    def width(self) -> int:
        return 4


@bug("log densities of [n, 1] with [n]", "z: f32[n, 6]", "log_det: f32[n]", silent=True, n=16)
def flow_loss(z: Tensor, log_det: Tensor) -> Tensor:
    prior = -0.5 * z.pow(2).sum(1, keepdim=True)
    return -(prior + log_det).mean()  # BUG


def flow_loss_mended(z: Tensor, log_det: Tensor) -> Tensor:
    prior = -0.5 * z.pow(2).sum(1)
    return -(prior + log_det).mean()


@bug("a mixture sums no dimensions", "h: f32[n, 16]", "y: f32[n, 4]", n=8)
class MixtureDensity(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Linear(16, 5)
        self.means = nn.Linear(16, 5 * 4)

    def parts(self, h: Tensor, y: Tensor) -> Tensor:
        means = self.means(h).view(-1, 5, 4)
        return -0.5 * (y[:, None] - means) ** 2

    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        log_weights = self.weights(h).log_softmax(1)
        return -torch.logsumexp(log_weights + self.parts(h, y), dim=1).mean()  # BUG


class MixtureDensityMended(MixtureDensity):
    def parts(self, h: Tensor, y: Tensor) -> Tensor:
        return super().parts(h, y).sum(-1)


@bug("style weights as one convolution without groups", "x: f32[n, 8, 16, 16]", "s: f32[n, 8]", n=4)
class ModulatedConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8, 3, 3))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        n = x.shape[0]
        weights = (self.weight * s[:, None, :, None, None]).view(n * 12, 8, 3, 3)
        out = F.conv2d(x.reshape(1, n * 8, 16, 16), weights, padding=1)  # BUG
        return out.view(n, 12, 16, 16)


class ModulatedConvolutionMended(ModulatedConvolution):
    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        n = x.shape[0]
        weights = (self.weight * s[:, None, :, None, None]).view(n * 12, 8, 3, 3)
        out = F.conv2d(x.reshape(1, n * 8, 16, 16), weights, padding=1, groups=n)
        return out.view(n, 12, 16, 16)


# Losses and metrics


@bug("cross-correlations of samples with features", "a: f32[n, 32]", "b: f32[n, 32]", n=8)
def redundancy(a: Tensor, b: Tensor) -> Tensor:
    c = a @ b.T / a.shape[0]
    return (c - torch.eye(a.shape[1])).pow(2).sum()  # BUG


def redundancy_mended(a: Tensor, b: Tensor) -> Tensor:
    c = a.T @ b / a.shape[0]
    return (c - torch.eye(a.shape[1])).pow(2).sum()


@bug("center words without a dimension", "center: i64[n]", "negative: i64[n, k]", n=4, k=5)
class SkipGram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside, self.outside = nn.Embedding(100, 16), nn.Embedding(100, 16)

    def forward(self, center: Tensor, negative: Tensor) -> Tensor:
        v, u = self.inside(center), self.outside(negative)
        return F.logsigmoid(-torch.bmm(u, v)).sum(1).mean()  # BUG


class SkipGramMended(SkipGram):
    def forward(self, center: Tensor, negative: Tensor) -> Tensor:
        v, u = self.inside(center), self.outside(negative)
        return F.logsigmoid(-torch.bmm(u, v.unsqueeze(2))).sum(1).mean()


@bug("the differences of rows and of columns are added", "x: f32[n, 3, h, w]", n=2, h=8, w=8)
def total_variation(x: Tensor) -> Tensor:
    down = (x[..., 1:, :] - x[..., :-1, :]).abs()
    across = (x[..., :, 1:] - x[..., :, :-1]).abs()
    return (down + across).mean()  # BUG


def total_variation_mended(x: Tensor) -> Tensor:
    down = (x[..., 1:, :] - x[..., :-1, :]).abs()
    across = (x[..., :, 1:] - x[..., :, :-1]).abs()
    return down.mean() + across.mean()


@bug("weights for another number of classes", "x: f32[n, 8]", "y: i64[n]", n=16)
class WeightsOfClasses(nn.Module):
    counts = (10.0, 20.0, 30.0, 5.0)

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)
        self.loss = nn.CrossEntropyLoss(weight=1 / torch.tensor(self.counts))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.fc(x), y)  # BUG


class WeightsOfClassesMended(WeightsOfClasses):
    counts = (10.0, 20.0, 30.0, 5.0, 1.0)  # type: ignore[assignment]


@bug(
    "logits are resized to the batch of the masks too",
    "x: f32[n, 3, 32, 32]",
    "y: i64[n, 64, 64]",
    n=2,
)
class ResizedLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = F.interpolate(self.net(x), size=y.shape, mode="bilinear")  # BUG
        return F.cross_entropy(logits, y)


class ResizedLogitsMended(ResizedLogits):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = F.interpolate(self.net(x), size=y.shape[-2:], mode="bilinear")
        return F.cross_entropy(logits, y)


# Policies


@bug("advantages of t + 1 values", "rewards: f32[t, n]", "values: f32[t + 1, n]", t=10, n=4)
def temporal_differences(rewards: Tensor, values: Tensor) -> Tensor:
    return rewards + 0.99 * values - values[:-1]  # BUG


def temporal_differences_mended(rewards: Tensor, values: Tensor) -> Tensor:
    return rewards + 0.99 * values[1:] - values[:-1]


@bug(
    "log_prob of actions as a column",
    "obs: f32[n, 8]",
    "actions: i64[n, 1]",
    "adv: f32[n]",
    silent=True,
    n=16,
)
class PolicyGradient(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 4)

    def forward(self, obs: Tensor, actions: Tensor, adv: Tensor) -> Tensor:
        log_probs = self.net(obs).log_softmax(-1)
        taken = log_probs.gather(1, actions)
        return -(taken * adv).mean()  # BUG


class PolicyGradientMended(PolicyGradient):
    def forward(self, obs: Tensor, actions: Tensor, adv: Tensor) -> Tensor:
        log_probs = self.net(obs).log_softmax(-1)
        taken = log_probs.gather(1, actions).squeeze(1)
        return -(taken * adv).mean()


@bug("max along a dimension is a pair", "points: f32[n, k, 3]", n=2, k=64)
class PointFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.local, self.head = nn.Linear(3, 64), nn.Linear(64, 10)

    def forward(self, points: Tensor) -> Tensor:
        best: Any = torch.max(F.relu(self.local(points)), 1)
        return self.head(best)  # BUG


class PointFeaturesMended(PointFeatures):
    def forward(self, points: Tensor) -> Tensor:
        best: Any = torch.max(F.relu(self.local(points)), 1)
        return self.head(best[0])


# Geometry


@bug("rotations times points as rows", "r: f32[n, 3, 3]", "p: f32[n, k, 3]", n=2, k=10)
def rotate(r: Tensor, p: Tensor) -> Tensor:
    return torch.bmm(r, p)  # BUG


def rotate_mended(r: Tensor, p: Tensor) -> Tensor:
    return torch.bmm(p, r.transpose(1, 2))


@bug("homogeneous coordinates for a batch alone", "p: f32[n, k, 3]", n=2, k=10)
def homogeneous(p: Tensor) -> Tensor:
    return torch.cat([p, p.new_ones(p.shape[0], 1)], dim=-1)  # BUG


def homogeneous_mended(p: Tensor) -> Tensor:
    return torch.cat([p, p.new_ones(*p.shape[:-1], 1)], dim=-1)


@bug(
    "padding of the width for a missing row",
    "x: f32[n, 8, h, w]",
    "skip: f32[n, 8, h + 1, w]",
    n=2,
    h=7,
    w=9,
)
def pad_skip(x: Tensor, skip: Tensor) -> Tensor:
    x = F.pad(x, (0, 1, 0, 0))
    return torch.cat([x, skip], dim=1)  # BUG


def pad_skip_mended(x: Tensor, skip: Tensor) -> Tensor:
    x = F.pad(x, (0, 0, 0, 1))
    return torch.cat([x, skip], dim=1)


@bug("fold with another stride than unfold", "x: f32[n, 3, 32, 32]", n=2)
class Tiles(nn.Module):
    stride = 4

    def forward(self, x: Tensor) -> Tensor:
        tiles = F.unfold(x, 8, stride=8)
        return F.fold(tiles * 2, (32, 32), 8, stride=self.stride)  # BUG


class TilesMended(Tiles):
    stride = 8


@bug(
    "merged patches have four times the channels",
    "x: f32[n, h, w, 48]",
    where=("h % 2 == 0", "w % 2 == 0"),
    n=2,
    h=8,
    w=8,
)
class PatchMerging(nn.Module):
    wide = 2

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(self.wide * 48)
        self.reduction = nn.Linear(self.wide * 48, 96)

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, -1)))  # BUG


class PatchMergingMended(PatchMerging):
    wide = 4


# Signals and sequences


@bug("irfft gives an even length", "x: f32[n, 8, t]", n=2, t=33)
class FourierLayer(nn.Module):
    def length(self, x: Tensor) -> int | None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x) * 0.5
        return x + torch.fft.irfft(spectrum, n=self.length(x))  # BUG


class FourierLayerMended(FourierLayer):
    def length(self, x: Tensor) -> int | None:
        return x.shape[-1]


@bug("a causal convolution is not trimmed", "x: f32[n, 16, t]", n=2, t=50)
class CausalResidual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(16, 16, 3, padding=4, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.conv(x))  # BUG


class CausalResidualMended(CausalResidual):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.conv(x)[..., :-4])


@bug("glu halves the channels", "x: f32[n, 16, t]", n=2, t=50)
class GatedConvolution(nn.Module):
    outside = 32

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(16, self.outside, 5, padding=2)
        self.second = nn.Conv1d(32, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.glu(self.first(x), dim=1))  # BUG


class GatedConvolutionMended(GatedConvolution):
    outside = 64


@bug("the last valid step by indices of rank 1", "x: f32[n, t, 8]", "last: i64[n]", n=4, t=9)
class LastValidStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 12, batch_first=True)

    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        return out.gather(1, last)  # BUG


class LastValidStepMended(LastValidStep):
    def forward(self, x: Tensor, last: Tensor) -> Tensor:
        out, _ = self.rnn(x)
        index = last.view(-1, 1, 1).expand(-1, 1, out.size(2))
        return out.gather(1, index).squeeze(1)


@bug("a mask of steps selects vectors", "x: f32[n, t, 8]", "mask: bool[n, t]", n=2, t=9)
def masked_steps(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, x, torch.zeros_like(x)).sum(1)  # BUG


def masked_steps_mended(x: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask[..., None], x, torch.zeros_like(x)).sum(1)


@bug("expand with -1 for a dimension to come", "x: f32[n, t, 8]", "context: f32[n, 4]", n=2, t=9)
class ContextOfSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 8)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        each = context.expand(-1, x.shape[1], -1)  # BUG
        return self.fc(torch.cat([x, each], dim=-1))


class ContextOfStepsMended(ContextOfSteps):
    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        each = context[:, None].expand(-1, x.shape[1], -1)
        return self.fc(torch.cat([x, each], dim=-1))


@bug(
    "the memory is not repeated for the beams",
    "tokens: i64[4*n, t]",
    "memory: f32[n, s, 16]",
    n=2,
    t=5,
    s=7,
)
class Beams(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        return self.layer(self.embed(tokens), memory)  # BUG


class BeamsMended(Beams):
    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        return self.layer(self.embed(tokens), memory.repeat_interleave(4, 0))


@bug("queries are repeated along their own dimension", "image: f32[n, 3, 64, 64]", n=2)
class ObjectQueries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 32, 16, 16)
        self.queries = nn.Embedding(10, 32)
        self.attention = nn.MultiheadAttention(32, 4)

    def forward(self, image: Tensor) -> Tensor:
        memory = self.body(image).flatten(2).permute(2, 0, 1)
        queries = self.queries.weight.repeat(1, image.shape[0], 1)
        return self.attention(queries, memory, memory)[0]  # BUG


class ObjectQueriesMended(ObjectQueries):
    def forward(self, image: Tensor) -> Tensor:
        memory = self.body(image).flatten(2).permute(2, 0, 1)
        queries = self.queries.weight.unsqueeze(1).repeat(1, image.shape[0], 1)
        return self.attention(queries, memory, memory)[0]


@bug(
    "a bias of relative positions of the full length",
    "x: f32[n, t, 32]",
    where=("t <= 64",),
    n=2,
    t=20,
)
class RelativePositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)
        self.bias = nn.Parameter(torch.zeros(4, 64, 64))

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 8**0.5 + self.bias  # BUG
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, 32)


class RelativePositionsMended(RelativePositions):
    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 8**0.5 + self.bias[:, :t, :t]
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, 32)


@bug(
    "a mask of windows with a batch of windows",
    "x: f32[8*n, 4, 16, 16]",
    "mask: f32[8, 16, 16]",
    where=("n >= 2",),
    n=3,
)
def window_scores(x: Tensor, mask: Tensor) -> Tensor:
    return (x + mask[:, None]).softmax(-1)  # BUG


def window_scores_mended(x: Tensor, mask: Tensor) -> Tensor:
    grouped = x.view(-1, 8, 4, 16, 16) + mask[:, None]
    return grouped.softmax(-1).flatten(0, 1)


@bug("scores of tags plus transitions without a dimension", "emissions: f32[n, t, 6]", n=4, t=9)
class TagScores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(6, 6))

    def step(self, alpha: Tensor) -> Tensor:
        return alpha + self.transitions  # BUG

    def forward(self, emissions: Tensor) -> Tensor:
        alpha = emissions[:, 0]
        return self.step(alpha).logsumexp(1) + emissions[:, -1]


class TagScoresMended(TagScores):
    def step(self, alpha: Tensor) -> Tensor:
        return alpha.unsqueeze(2) + self.transitions


@bug("cat of input and state along the batch", "x: f32[n, 8]", "h: f32[n, 16]", n=4)
class CellByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Linear(24, 16)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.gates(torch.cat([x, h])))  # BUG


class CellByHandMended(CellByHand):
    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.gates(torch.cat([x, h], 1)))


# Layers


@bug(
    "the state of a convolutional LSTM has the size before pooling",
    "x: f32[n, 3, h, w]",
    where=("h >= 2", "w >= 2"),
    n=2,
    h=16,
    w=16,
)
class ConvolutionalCell(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)
        self.gates = nn.Conv2d(3 + 8, 4 * 8, 3, padding=1)

    def state(self, x: Tensor, small: Tensor) -> Tensor:
        return torch.zeros(x.size(0), 8, x.size(2), x.size(3))

    def forward(self, x: Tensor) -> Tensor:
        small = self.pool(x)
        both = torch.cat([small, self.state(x, small)], 1)  # BUG
        i, _, o, g = self.gates(both).chunk(4, 1)
        return o.sigmoid() * torch.tanh(i.sigmoid() * g.tanh())


class ConvolutionalCellMended(ConvolutionalCell):
    def state(self, x: Tensor, small: Tensor) -> Tensor:
        return torch.zeros(x.size(0), 8, small.size(2), small.size(3))


@bug(
    "one slope a channel, of other channels",
    "x: f32[n, 3, h, w]",
    where=("h >= 3", "w >= 3"),
    n=2,
    h=8,
    w=8,
)
class Slopes(nn.Module):
    channels = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.slope = nn.PReLU(self.channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope(self.conv(x))  # BUG


class SlopesMended(Slopes):
    channels = 16


@bug("a bilinear layer gets its inputs in the other order", "a: f32[n, 8]", "b: f32[n, 12]", n=4)
class PairScore(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(8, 12, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.bilinear(b, a)  # BUG


class PairScoreMended(PairScore):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.bilinear(a, b)


@bug("a depthwise layer with a multiplier", "x: f32[n, 16, h, w]", n=2, h=8, w=8)
class Separable(nn.Module):
    inside = 16

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(16, 32, 3, padding=1, groups=16)
        self.pointwise = nn.Conv2d(self.inside, 64, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))  # BUG


class SeparableMended(Separable):
    inside = 32


@bug(
    "keys of another width without kdim",
    "text: f32[n, t, 32]",
    "image: f32[n, k, 48]",
    n=2,
    t=5,
    k=9,
)
class CrossModal(nn.Module):
    widths: dict[str, int] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True, **self.widths)

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        return self.attention(text, image, image, need_weights=False)[0]  # BUG


class CrossModalMended(CrossModal):
    widths = {"kdim": 48, "vdim": 48}  # noqa: RUF012


@bug("capsules without their dimensions", "u: f32[n, 32, 8]", n=2)
class Capsules(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(10, 32, 16, 8))

    def forward(self, u: Tensor) -> Tensor:
        return (self.weight @ u[:, :, :, None]).sum(1)  # BUG


class CapsulesMended(Capsules):
    def forward(self, u: Tensor) -> Tensor:
        return (self.weight @ u[:, None, :, :, None]).sum(2)


@bug("weights of steps times steps, without a transpose", "x: f32[n, t, 16]", n=2, t=9)
class AttentionPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(1)
        return torch.bmm(weights, x).squeeze(1)  # BUG


class AttentionPoolingMended(AttentionPooling):
    def forward(self, x: Tensor) -> Tensor:
        weights = self.score(x).softmax(1)
        return torch.bmm(weights.transpose(1, 2), x).squeeze(1)
