"""Shape bugs around networks: losses, returns, filters, pairs, and what is joined after a network.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("the value of a dueling network loses its column", "x: f32[n, 8]", where=("n >= 2",), n=5)
class Dueling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 32)
        self.value, self.advantage = nn.Linear(32, 1), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.body(x))
        value = self.value(h).squeeze(-1)
        advantage = self.advantage(h)
        return value + advantage - advantage.mean(dim=1, keepdim=True)  # BUG


class DuelingMended(Dueling):
    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.body(x))
        advantage = self.advantage(h)
        return self.value(h) + advantage - advantage.mean(dim=1, keepdim=True)


@bug(
    "features of a student are smaller than those of its teacher",
    "x: f32[n, 3, h, w]",
    where=("h >= 16", "w >= 16"),
    n=2,
    h=32,
    w=48,
)
class Distilled(nn.Module):
    stride = 2

    def __init__(self) -> None:
        super().__init__()
        self.teacher = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1))
        self.student = nn.Sequential(
            nn.Conv2d(3, 32, 3, 2, 1),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.Conv2d(32, 32, 3, self.stride, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.teacher(x)
        return F.mse_loss(self.student(x), wanted)  # BUG


class DistilledMended(Distilled):
    stride = 1


@bug("cosine similarity along a dimension that vectors lack", "a: f32[n, 16]", "b: f32[n, 16]", n=4)
def cosine_along_two(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a, b, dim=2).mean()  # BUG


def cosine_along_two_mended(a: Tensor, b: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(a, b, dim=1).mean()


@bug(
    "anchors of triplets without the dimension of negatives",
    "a: f32[n, 16]",
    "p: f32[n, 16]",
    "q: f32[n, k, 16]",
    where=("n >= 2", "k >= 2"),
    n=4,
    k=5,
)
def triplets(a: Tensor, p: Tensor, q: Tensor) -> Tensor:
    near = (a - p).pow(2).sum(-1)
    far = (a - q).pow(2).sum(-1)  # BUG
    return F.relu(near - far + 1).mean()


def triplets_mended(a: Tensor, p: Tensor, q: Tensor) -> Tensor:
    near = (a - p).pow(2).sum(-1, keepdim=True)
    far = (a.unsqueeze(1) - q).pow(2).sum(-1)
    return F.relu(near - far + 1).mean()


@bug("weights of the chosen experts without the features", "x: f32[n, 8]", where=("n >= 3",), n=5)
class ChosenExperts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.Parameter(torch.randn(4, 8, 6))

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, dim=-1)
        out = torch.einsum("nd,nkdf->nkf", x, self.experts[chosen])
        return (weights * out).sum(1)  # BUG


class ChosenExpertsMended(ChosenExperts):
    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.gate(x).softmax(-1).topk(2, dim=-1)
        out = torch.einsum("nd,nkdf->nkf", x, self.experts[chosen])
        return (weights[..., None] * out).sum(1)


@bug("labels are not extended by a prompt", "ids: i64[n, t]", "labels: i64[n, t]", n=2, t=6)
class PromptedLabels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(40, 16)
        self.prompt = nn.Parameter(torch.randn(1, 5, 16))
        self.head = nn.Linear(16, 40)

    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat([self.prompt.expand(ids.size(0), -1, -1), self.table(ids)], 1)
        logits = self.head(x)
        return F.cross_entropy(logits.view(-1, 40), labels.view(-1))  # BUG


class PromptedLabelsMended(PromptedLabels):
    def forward(self, ids: Tensor, labels: Tensor) -> Tensor:
        x = torch.cat([self.prompt.expand(ids.size(0), -1, -1), self.table(ids)], 1)
        logits = self.head(x)
        ignored = labels.new_full((labels.size(0), 5), -100)
        return F.cross_entropy(logits.view(-1, 40), torch.cat([ignored, labels], dim=1).view(-1))


@bug(
    "an error of patches times a mask of patches",
    "x: f32[n, l, 48]",
    "mask: f32[n, l]",
    where=("l >= 49",),
    n=2,
    l=64,
)
class PatchLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(48, 48)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        error = (self.decoder(x) - x) ** 2
        return (error * mask).sum() / mask.sum()  # BUG


class PatchLossMended(PatchLoss):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        error = ((self.decoder(x) - x) ** 2).mean(dim=-1)
        return (error * mask).sum() / mask.sum()


@bug(
    "codes are looked up with the channels first",
    "z: f32[n, 16, h, w]",
    where=("h >= 2", "w >= 17"),
    n=2,
    h=8,
    w=20,
)
class Quantizer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.codes = nn.Embedding(32, 16)

    def forward(self, z: Tensor) -> Tensor:
        flat = z.reshape(-1, z.shape[-1])
        distance = torch.cdist(flat, self.codes.weight)  # BUG
        return self.codes(distance.argmin(1))


class QuantizerMended(Quantizer):
    def forward(self, z: Tensor) -> Tensor:
        flat = z.permute(0, 2, 3, 1).reshape(-1, 16)
        distance = torch.cdist(flat, self.codes.weight)
        return self.codes(distance.argmin(1)).view(z.size(0), *z.shape[2:], 16)


@bug(
    "branch and trunk of an operator network",
    "u: f32[n, 50]",
    "y: f32[m, 2]",
    where=("n >= 2", "m >= 2"),
    n=4,
    m=9,
)
class DeepOperator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Linear(50, 32), nn.Tanh(), nn.Linear(32, 24))
        self.trunk = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 24))

    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return (self.branch(u) * self.trunk(y)).sum(-1)  # BUG


class DeepOperatorMended(DeepOperator):
    def forward(self, u: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("np,mp->nm", self.branch(u), self.trunk(y))


@bug("the time of an equation is a scalar", "x: f32[n, 2]", "t: f32[]", n=4)
class Dynamics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t], dim=1))  # BUG


class DynamicsMended(Dynamics):
    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.net(torch.cat([x, t.expand(x.size(0), 1)], dim=1))


@bug(
    "a state of a filter stands in rows", "x: f32[n, 4]", "p: f32[n, 4, 4]", where=("n >= 5",), n=6
)
class Filter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.eye(4))

    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        x = torch.matmul(self.step, x)  # BUG
        p = self.step @ p @ self.step.T
        return x.unsqueeze(1) @ p


class FilterMended(Filter):
    def forward(self, x: Tensor, p: Tensor) -> Tensor:
        x = torch.matmul(x, self.step.T)
        p = self.step @ p @ self.step.T
        return x.unsqueeze(1) @ p


@bug("the distance of Mahalanobis of a batch", "x: f32[n, 3]", where=("n >= 4",), n=6)
def mahalanobis(x: Tensor) -> Tensor:
    centered = x - x.mean(0)
    covariance = centered.T @ centered / (x.size(0) - 1)
    return centered @ torch.linalg.pinv(covariance) @ centered  # BUG


def mahalanobis_mended(x: Tensor) -> Tensor:
    centered = x - x.mean(0)
    covariance = centered.T @ centered / (x.size(0) - 1)
    return (centered @ torch.linalg.pinv(covariance) * centered).sum(1)


@bug(
    "quantiles minus a target without a column", "x: f32[n, 8]", "y: f32[n]", where=("n >= 4",), n=6
)
class Quantiles(nn.Module):
    levels: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(8, 3)
        self.register_buffer("levels", torch.tensor([0.1, 0.5, 0.9]))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        error = y - self.net(x)  # BUG
        return torch.max(self.levels * error, (self.levels - 1) * error).mean()


class QuantilesMended(Quantiles):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        error = y[:, None] - self.net(x)
        return torch.max(self.levels * error, (self.levels - 1) * error).mean()


@bug(
    "weights of classes times losses of a batch",
    "logits: f32[n, 5]",
    "y: i64[n]",
    where=("n >= 6",),
    n=8,
)
def focal(logits: Tensor, y: Tensor) -> Tensor:
    alpha = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2])
    ce = F.cross_entropy(logits, y, reduction="none")
    pt = torch.exp(-ce)
    return (alpha * (1 - pt) ** 2 * ce).mean()  # BUG


def focal_mended(logits: Tensor, y: Tensor) -> Tensor:
    alpha = torch.tensor([0.2, 0.2, 0.2, 0.2, 0.2])
    ce = F.cross_entropy(logits, y, reduction="none")
    pt = torch.exp(-ce)
    return (alpha[y] * (1 - pt) ** 2 * ce).mean()


@bug("F.pad pads the features and not the steps", "x: f32[n, t, 8]", n=2, t=7)
class PadSteps(nn.Module):
    sides: tuple[int, ...] = (2, 0)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(x, self.sides).transpose(1, 2)
        return x + self.conv(y).transpose(1, 2)  # BUG


class PadStepsMended(PadSteps):
    sides = (0, 0, 2, 0)


@bug("boxes of each class and boxes of targets", "x: f32[n, 64]", "boxes: f32[n, 4]", n=6)
class BoxHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.regress = nn.Linear(64, 4 * 3)

    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        return F.smooth_l1_loss(self.regress(x), boxes)  # BUG


class BoxHeadMended(BoxHead):
    def forward(self, x: Tensor, boxes: Tensor) -> Tensor:
        each = self.regress(x).view(-1, 3, 4)
        return F.smooth_l1_loss(each[:, 0], boxes)


@bug("margins of classes for the number of another data set", "x: f32[n, 32]", "y: i64[n]", n=6)
class Margins(nn.Module):
    classes = 100

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(120, 32))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        cosine = F.linear(F.normalize(x), F.normalize(self.weight))
        hot = F.one_hot(y, self.classes).float()
        logits = 30 * (cosine - 0.3 * hot)  # BUG
        return F.cross_entropy(logits, y)


class MarginsMended(Margins):
    classes = 120


@bug(
    "the waveform of a vocoder and its target",
    "mel: f32[n, 80, t]",
    "wave: f32[n, 1, 256*t]",
    n=2,
    t=10,
)
class Vocoder(nn.Module):
    strides: tuple[int, ...] = (8, 8, 2)

    def __init__(self) -> None:
        super().__init__()
        widths = [80, 32, 16, 1]
        self.ups = nn.Sequential(
            *(
                nn.ConvTranspose1d(widths[i], widths[i + 1], 2 * s, stride=s, padding=s // 2)
                for i, s in enumerate(self.strides)
            )
        )

    def forward(self, mel: Tensor, wave: Tensor) -> Tensor:
        return F.l1_loss(self.ups(mel), wave)  # BUG


class VocoderMended(Vocoder):
    strides = (8, 8, 4)


@bug("squeeze of a dimension that is not 1", "x: f32[n, 8]", "y: f32[n]", where=("n >= 3",), n=5)
class NoOpSqueeze(nn.Module):
    outputs = 2

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, self.outputs))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        predicted = self.net(x).squeeze(-1)
        return F.mse_loss(predicted, y)  # BUG


class NoOpSqueezeMended(NoOpSqueeze):
    outputs = 1


@bug("a slice takes more columns than it has", "x: f32[n, 6]", n=3)
class Columns(nn.Module):
    width = 5

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros(x.size(0), 8)
        out[:, : self.width] = x  # BUG
        return out


class ColumnsMended(Columns):
    width = 6


@bug("rows of a table by an index of rank 2", "x: f32[k, 8]", "pairs: i64[e, 2]", k=10, e=4)
def rows_of_pairs(x: Tensor, pairs: Tensor) -> Tensor:
    ends = torch.index_select(x, 0, pairs)  # BUG
    return ends.flatten(1)


def rows_of_pairs_mended(x: Tensor, pairs: Tensor) -> Tensor:
    ends = torch.index_select(x, 0, pairs.flatten())
    return ends.view(pairs.size(0), -1)


@bug("repeat with fewer sizes than dimensions", "state: f32[n, 4, 8]", n=3)
def repeated_state(state: Tensor) -> Tensor:
    return state.repeat(2, 1).mean(1)  # BUG


def repeated_state_mended(state: Tensor) -> Tensor:
    return state.repeat(2, 1, 1).mean(1)


@bug("the factors of unflatten do not fit", "x: f32[n, 48]", n=3)
class Factors(nn.Module):
    heads = 5

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(48, 48)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).unflatten(-1, (self.heads, 8)).sum(1)  # BUG


class FactorsMended(Factors):
    heads = 6


@bug(
    "steps of a decoder: context and token have the batch in other places",
    "token: i64[n]",
    "memory: f32[n, t, 16]",
    where=("n >= 2",),
    n=3,
    t=6,
)
class DecoderStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 8)
        self.rnn = nn.GRU(24, 16)

    def forward(self, token: Tensor, memory: Tensor) -> Tensor:
        embedded = self.table(token).unsqueeze(0)
        weights = torch.softmax(memory.sum(-1), dim=1).unsqueeze(1)
        context = torch.bmm(weights, memory)
        out, _ = self.rnn(torch.cat([embedded, context], dim=2))  # BUG
        return out.squeeze(0)


class DecoderStepMended(DecoderStep):
    def forward(self, token: Tensor, memory: Tensor) -> Tensor:
        embedded = self.table(token).unsqueeze(0)
        weights = torch.softmax(memory.sum(-1), dim=1).unsqueeze(1)
        context = torch.bmm(weights, memory).permute(1, 0, 2)
        out, _ = self.rnn(torch.cat([embedded, context], dim=2))
        return out.squeeze(0)
