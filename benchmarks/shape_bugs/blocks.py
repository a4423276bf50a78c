"""Shape bugs inside of networks: blocks of layers, prompts, latents, patches and grids.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("embedded categories are joined along the batch", "ids: i64[n, 3]", n=5)
class Categories(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(10, d) for d in (4, 4, 4)])
        self.head = nn.Linear(12, 1)

    def forward(self, ids: Tensor) -> Tensor:
        rows = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        joined = torch.cat(rows)
        return self.head(joined)  # BUG


class CategoriesMended(Categories):
    def forward(self, ids: Tensor) -> Tensor:
        rows = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        return self.head(torch.cat(rows, dim=1))


@bug("patches are flattened with their channels", "x: f32[n, 3, 32, 32]", n=2)
class PatchFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 64, 8, stride=8)
        self.norm = nn.LayerNorm(64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x).flatten(1)
        return self.norm(x.transpose(0, 1))  # BUG


class PatchFlattenMended(PatchFlatten):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


@bug("the pair of MultiheadAttention goes to a norm", "x: f32[n, t, 16]", n=2, t=5)
class PairToNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        attended = self.attention(x, x, x)
        return self.norm(x + attended)  # BUG


class PairToNormMended(PairToNorm):
    def forward(self, x: Tensor) -> Tensor:
        attended, _ = self.attention(x, x, x)
        return self.norm(x + attended)


@bug("latents without a batch attend to inputs", "x: f32[n, t, 16]", n=3, t=7)
class Latents(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(6, 16))
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.attention(self.latents, x, x)  # BUG
        return out.mean(1)


class LatentsMended(Latents):
    def forward(self, x: Tensor) -> Tensor:
        latents = self.latents.unsqueeze(0).expand(x.size(0), -1, -1)
        out, _ = self.attention(latents, x, x)
        return out.mean(1)


@bug("a learned prompt is joined without a batch", "ids: i64[n, t]", n=3, t=7)
class Prompt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.prompt = nn.Parameter(torch.randn(4, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.cat([self.prompt, self.table(ids)], dim=1)  # BUG
        return self.block(x)


class PromptMended(Prompt):
    def forward(self, ids: Tensor) -> Tensor:
        prompt = self.prompt[None].repeat(ids.shape[0], 1, 1)
        return self.block(torch.cat([prompt, self.table(ids)], dim=1))


@bug("the padding mask forgets the prompt", "ids: i64[n, t]", "pad: bool[n, t]", n=3, t=7)
class PromptMask(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.prompt = nn.Parameter(torch.randn(1, 4, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, ids: Tensor, pad: Tensor) -> Tensor:
        prompt = self.prompt.expand(ids.shape[0], -1, -1)
        x = torch.cat([prompt, self.table(ids)], dim=1)
        return self.block(x, src_key_padding_mask=pad)  # BUG


class PromptMaskMended(PromptMask):
    def forward(self, ids: Tensor, pad: Tensor) -> Tensor:
        prompt = self.prompt.expand(ids.shape[0], -1, -1)
        x = torch.cat([prompt, self.table(ids)], dim=1)
        seen = torch.zeros(ids.shape[0], 4, dtype=torch.bool, device=pad.device)
        return self.block(x, src_key_padding_mask=torch.cat([seen, pad], dim=1))


@bug(
    "slopes of heads times distances without dimensions of positions",
    "scores: f32[n, 4, t, t]",
    where=("t >= 5",),
    n=2,
    t=6,
)
def slopes_of_heads(scores: Tensor) -> Tensor:
    t = scores.size(-1)
    slopes = 2.0 ** -torch.arange(1, 5, dtype=torch.float32)
    place = torch.arange(t)
    distance = place[None, :] - place[:, None]
    return scores + slopes * distance  # BUG


def slopes_of_heads_mended(scores: Tensor) -> Tensor:
    t = scores.size(-1)
    slopes = 2.0 ** -torch.arange(1, 5, dtype=torch.float32)
    place = torch.arange(t)
    distance = place[None, :] - place[:, None]
    return scores + slopes.view(4, 1, 1) * distance


@bug("kept patches are gathered without their features", "x: f32[n, 16, 32]", n=2)
class MaskedPatches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        keep = torch.rand(n, length).argsort(dim=1)[:, :4]
        return self.layer(torch.gather(x, 1, keep.unsqueeze(-1)))  # BUG


class MaskedPatchesMended(MaskedPatches):
    def forward(self, x: Tensor) -> Tensor:
        n, length, d = x.shape
        keep = torch.rand(n, length).argsort(dim=1)[:, :4]
        kept = torch.gather(x, 1, keep.unsqueeze(-1).expand(-1, -1, d))
        return self.layer(kept)


@bug("coordinates of a CoordConv are not counted", "x: f32[n, 8, h, w]", n=2, h=10, w=12)
class CoordConv(nn.Module):
    channels = 9

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(self.channels, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(n, 1, h, w)
        columns = torch.linspace(-1, 1, w).view(1, 1, 1, w).expand(n, 1, h, w)
        return self.conv(torch.cat([x, rows, columns], dim=1))  # BUG


class CoordConvMended(CoordConv):
    channels = 10


@bug("anchors without the dimensions of cells", "x: f32[n, 32, g, g]", where=("g >= 4",), n=2, g=13)
class Anchors(nn.Module):
    anchors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(32, 3 * 85, 1)
        self.register_buffer("anchors", torch.tensor([[10.0, 13], [16, 30], [33, 23]]))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        y = self.head(x).view(n, 3, 85, h, w).permute(0, 1, 3, 4, 2)
        wh = (y[..., 2:4].sigmoid() * 2) ** 2 * self.anchors  # BUG
        return torch.cat([y[..., :2].sigmoid(), wh, y[..., 4:]], -1)


class AnchorsMended(Anchors):
    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        y = self.head(x).view(n, 3, 85, h, w).permute(0, 1, 3, 4, 2)
        wh = (y[..., 2:4].sigmoid() * 2) ** 2 * self.anchors.view(1, 3, 1, 1, 2)
        return torch.cat([y[..., :2].sigmoid(), wh, y[..., 4:]], -1)


@bug("a head of boxes is viewed with the classes of COCO", "x: f32[n, 32, g, g]", n=2, g=13)
class BoxesOfAnother(nn.Module):
    classes = 80

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(32, 3 * (5 + 20), 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        b, _, ny, nx = y.shape
        y = y.view(b, 3, 5 + self.classes, ny, nx)  # BUG
        return y.permute(0, 1, 3, 4, 2).contiguous()


class BoxesOfAnotherMended(BoxesOfAnother):
    classes = 20


@bug("pixel_unshuffle of an odd image", "x: f32[n, 3, h, w]", n=2, h=33, w=48)
class Unshuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_unshuffle(x, 2)  # BUG
        return F.pixel_shuffle(self.body(y), 2)


class UnshuffledMended(Unshuffled):
    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        x = F.pad(x, (0, w % 2, 0, h % 2))
        return F.pixel_shuffle(self.body(F.pixel_unshuffle(x, 2)), 2)[..., :h, :w]


@bug(
    "skips of dilated convolutions have other lengths",
    "x: f32[n, 8, t]",
    n=2,
    t=64,
    where=("t >= 16",),
)
class Skips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv1d(8, 8, 2, dilation=2**i) for i in range(3)])
        self.out = nn.Conv1d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            skips.append(x)
        return self.out(torch.stack(skips).sum(0))  # BUG


class SkipsMended(Skips):
    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            skips.append(x)
        last = skips[-1].size(-1)
        return self.out(torch.stack([skip[..., -last:] for skip in skips]).sum(0))


@bug("a BatchNorm1d after a Conv2d", "x: f32[n, 3, 16, 16]", n=4)
class NormOfAnotherRank(nn.Module):
    norm: type[nn.Module] = nn.BatchNorm1d

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = self.norm(8)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn(self.conv(x)))  # BUG
        return y.mean((2, 3))


class NormOfAnotherRankMended(NormOfAnotherRank):
    norm = nn.BatchNorm2d


@bug("layer_norm over a length that is written", "x: f32[n, t, 16]", n=2, t=40)
class NormOfLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm([32, 16])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # BUG


class NormOfLengthMended(NormOfLength):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)


@bug("group_norm with the channels last", "x: f32[n, t, 32]", n=2, t=10)
class GroupsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(32, 32, 3, padding=1)
        self.norm = nn.GroupNorm(8, 32)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return torch.relu(self.norm(y))  # BUG


class GroupsLastMended(GroupsLast):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)


@bug(
    "weights of attention pooling times steps without a transpose",
    "h: f32[n, t, 16]",
    where=("t >= 2",),
    n=3,
    t=9,
)
class AttentionPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, h: Tensor) -> Tensor:
        weights = torch.softmax(self.score(torch.tanh(h)), dim=1)
        return torch.bmm(weights, h).squeeze(1)  # BUG


class AttentionPoolingMended(AttentionPooling):
    def forward(self, h: Tensor) -> Tensor:
        weights = torch.softmax(self.score(torch.tanh(h)), dim=1)
        return torch.bmm(weights.transpose(1, 2), h).squeeze(1)


@bug(
    "the state of a GRU with batch_first has the batch first",
    "x: f32[n, t, 8]",
    where=("n >= 3",),
    n=5,
    t=6,
)
class StateBatchFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 16, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(x.size(0), 2, 16)
        out, _ = self.rnn(x, h0)  # BUG
        return out[:, -1]


class StateBatchFirstMended(StateBatchFirst):
    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(2, x.size(0), 16)
        out, _ = self.rnn(x, h0)
        return out[:, -1]


@bug(
    "the convolutions of a text keep the width of one",
    "ids: i64[n, t]",
    where=("t >= 5",),
    n=2,
    t=20,
)
class TextCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 12)
        self.convs = nn.ModuleList([nn.Conv2d(1, 6, (k, 12)) for k in (3, 4, 5)])
        self.fc = nn.Linear(18, 2)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids).unsqueeze(1)
        maps = [F.relu(conv(x)) for conv in self.convs]
        pooled = [F.max_pool1d(m, m.size(2)).squeeze(2) for m in maps]  # BUG
        return self.fc(torch.cat(pooled, 1))


class TextCnnMended(TextCnn):
    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids).unsqueeze(1)
        maps = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        pooled = [F.max_pool1d(m, m.size(2)).squeeze(2) for m in maps]
        return self.fc(torch.cat(pooled, 1))


@bug(
    "modes of a Fourier layer times all frequencies",
    "x: f32[n, 4, s]",
    where=("s >= 32",),
    n=2,
    s=64,
)
class FourierLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(4, 4, 12, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        mixed = torch.einsum("bix,iox->box", spectrum, self.weights)  # BUG
        return torch.fft.irfft(mixed, n=x.size(-1))


class FourierLayerMended(FourierLayer):
    def forward(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(x)
        out = torch.zeros(x.size(0), 4, x.size(-1) // 2 + 1, dtype=torch.cfloat)
        out[:, :, :12] = torch.einsum("bix,iox->box", spectrum[:, :, :12], self.weights)
        return torch.fft.irfft(out, n=x.size(-1))


@bug("the columns of a random projection are its rows", "x: f32[n, 3]", n=5)
class RandomFeatures(nn.Module):
    b: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("b", torch.randn(64, 3))
        self.out = nn.Linear(128, 1)

    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * x @ self.b  # BUG
        return self.out(torch.cat([angle.sin(), angle.cos()], dim=-1))


class RandomFeaturesMended(RandomFeatures):
    def forward(self, x: Tensor) -> Tensor:
        angle = 2 * math.pi * x @ self.b.T
        return self.out(torch.cat([angle.sin(), angle.cos()], dim=-1))


@bug("a layer after a skip of a field is not widened", "x: f32[n, 63]", n=5)
class RadianceField(nn.Module):
    widths = (63, 64, 64, 64, 64)

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(w, 64) for w in self.widths])
        self.sigma = nn.Linear(64, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for i, layer in enumerate(self.layers):
            if i == 3:
                h = torch.cat([x, h], -1)
            h = F.relu(layer(h))  # BUG
        return self.sigma(h)


class RadianceFieldMended(RadianceField):
    widths = (63, 64, 64, 127, 64)
