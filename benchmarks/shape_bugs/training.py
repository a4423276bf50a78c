"""Shape bugs of training: losses, targets, samples, metrics, batches of several inputs.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("images go to a linear layer as they are", "x: f32[n, 1, 28, 28]", n=8)
class ImagesAsTheyAre(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=1)  # BUG


class ImagesAsTheyAreMended(ImagesAsTheyAre):
    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x.view(x.shape[0], -1)), dim=1)


@bug("flatten takes the batch too", "x: f32[n, 1, 28, 28]", "y: i64[n]", n=8)
class FlattenedBatch(nn.Module):
    start = 0

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.Tanh())
        self.head = nn.Linear(4 * 13 * 13, 10)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        hidden = torch.flatten(self.body(x), self.start)
        return nn.CrossEntropyLoss()(self.head(hidden), y)  # BUG


class FlattenedBatchMended(FlattenedBatch):
    start = 1


@bug("squeeze drops a last batch of one", "x: f32[n, 16]", "y: f32[n, 2]", n=1)
class SqueezedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 16)
        self.fc = nn.Linear(10, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        feats = self.conv(x.unsqueeze(1)).squeeze()
        return self.fc(torch.cat((feats, y), dim=1))  # BUG


class SqueezedBatchMended(SqueezedBatch):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        feats = self.conv(x.unsqueeze(1)).squeeze(-1)
        return self.fc(torch.cat((feats, y), dim=1))


@bug("one-hot targets of integers", "x: f32[n, 20]", "y: i64[n, 10]", n=8)
class OneHotTargets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 10)
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.fc(x), y)  # BUG


class OneHotTargetsMended(OneHotTargets):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.fc(x), y.argmax(dim=1))


@bug("a binary target without the dimension of the output", "x: f32[n, 20]", "y: f32[n]", n=8)
class BinaryTarget(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 1))
        self.criterion = nn.BCEWithLogitsLoss()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.criterion(self.layers(x), y)  # BUG


class BinaryTargetMended(BinaryTarget):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.criterion(self.layers(x), y.unsqueeze(1))


@bug("losses of tokens and a mask of sentences", "logits: f32[n, t, 50]", "y: i64[n, t]", n=3, t=7)
def masked_loss(logits: Tensor, y: Tensor) -> Tensor:
    mask = (y != 0).float()
    loss = F.cross_entropy(logits.view(-1, 50), y.view(-1), reduction="none")
    return (loss * mask).sum() / mask.sum()  # BUG


def masked_loss_mended(logits: Tensor, y: Tensor) -> Tensor:
    mask = (y != 0).float()
    loss = F.cross_entropy(logits.view(-1, 50), y.view(-1), reduction="none")
    return (loss.view_as(y) * mask).sum() / mask.sum()


@bug("similarities without a transpose", "a: f32[n, 64]", "b: f32[n, 64]", n=8)
def contrastive(a: Tensor, b: Tensor) -> Tensor:
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    logits = a @ b / 0.07  # BUG
    return F.cross_entropy(logits, torch.arange(a.size(0), device=a.device))


def contrastive_mended(a: Tensor, b: Tensor) -> Tensor:
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    logits = a @ b.t() / 0.07
    return F.cross_entropy(logits, torch.arange(a.size(0), device=a.device))


@bug("the diagonal of one half of the pairs", "a: f32[n, 64]", "b: f32[n, 64]", n=8)
def simclr(a: Tensor, b: Tensor) -> Tensor:
    z = torch.cat([a, b], dim=0)
    sim = torch.mm(z, z.t()) / 0.5
    mask = torch.eye(a.size(0), dtype=torch.bool)
    sim = sim.masked_fill(mask, -1e9)  # BUG
    targets = torch.arange(2 * a.size(0))
    return F.cross_entropy(sim, (targets + a.size(0)) % (2 * a.size(0)))


def simclr_mended(a: Tensor, b: Tensor) -> Tensor:
    z = torch.cat([a, b], dim=0)
    sim = torch.mm(z, z.t()) / 0.5
    mask = torch.eye(z.size(0), dtype=torch.bool)
    sim = sim.masked_fill(mask, -1e9)
    targets = torch.arange(2 * a.size(0))
    return F.cross_entropy(sim, (targets + a.size(0)) % (2 * a.size(0)))


@bug("twins are joined along the batch", "a: f32[n, 1, 28, 28]", "b: f32[n, 1, 28, 28]", n=4)
class Siamese(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 5, 2), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 32)
        )
        self.out = nn.Linear(64, 1)

    def embed(self, x: Tensor) -> Tensor:
        return self.cnn(x)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat((self.embed(a), self.embed(b)))
        return torch.sigmoid(self.out(both))  # BUG


class SiameseMended(Siamese):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.cat((self.embed(a), self.embed(b)), dim=-1)
        return torch.sigmoid(self.out(both))


@bug("mean and variance are halves of the batch", "x: f32[n, 784]", where=("n >= 2",), n=8)
class VaeChunks(nn.Module):
    dim = 0

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 2 * 20))
        self.dec = nn.Sequential(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 784))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mu, logvar = torch.chunk(self.enc(x), 2, dim=self.dim)
        z = mu + torch.randn_like(logvar) * torch.exp(0.5 * logvar)
        return self.dec(z), mu, logvar  # BUG


class VaeChunksMended(VaeChunks):
    dim = 1


@bug("noise of another width than the latent", "x: f32[n, 784]", n=8)
class VaeNoise(nn.Module):
    latent = 16

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.mu, self.std = nn.Linear(784, 64), nn.Linear(64, 20), nn.Linear(64, 20)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = torch.relu(self.fc1(x))
        mu, logvar = self.mu(h), self.std(h)
        std = logvar.mul(0.5).exp()
        eps = torch.randn(x.size(0), self.latent)
        z = eps.mul(std).add_(mu)  # BUG
        kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
        return {"z": z, "kl": kl}


class VaeNoiseMended(VaeNoise):
    latent = 20


@bug("a condition of a VAE without its image", "x: f32[n, 1, 28, 28]", "label: i64[n]", n=8)
class ConditionedImage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1 + 10, 8, 3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        y = F.one_hot(label, num_classes=10).float()
        return self.conv(torch.cat([x, y], dim=1))  # BUG


class ConditionedImageMended(ConditionedImage):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        y = F.one_hot(label, num_classes=10).float()
        y = y[:, :, None, None].expand(-1, -1, x.size(2), x.size(3))
        return self.conv(torch.cat([x, y], dim=1))


@bug(
    "actions without the dimension of gather",
    "s: f32[n, 4]",
    "a: i64[n]",
    "r: f32[n]",
    "s2: f32[n, 4]",
    n=8,
)
class QLearning(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor) -> Tensor:
        chosen = self.q(s).gather(1, a)  # BUG
        target = r + 0.99 * self.q(s2).max(1)[0].detach()
        return F.smooth_l1_loss(chosen, target)


class QLearningMended(QLearning):
    def forward(self, s: Tensor, a: Tensor, r: Tensor, s2: Tensor) -> Tensor:
        chosen = self.q(s).gather(1, a.unsqueeze(1)).squeeze(1)
        target = r + 0.99 * self.q(s2).max(1)[0].detach()
        return F.smooth_l1_loss(chosen, target)


@bug(
    "chosen values keep the dimension of gather",
    "s: f32[n, 4]",
    "a: i64[n]",
    "r: f32[n]",
    silent=True,
    n=8,
)
class QColumn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.policy_net = nn.Linear(4, 2)

    def forward(self, s: Tensor, a: Tensor, r: Tensor) -> Tensor:
        state_action_values = self.policy_net(s).gather(1, a[:, None])
        return F.smooth_l1_loss(state_action_values, r)  # BUG


class QColumnMended(QColumn):
    def forward(self, s: Tensor, a: Tensor, r: Tensor) -> Tensor:
        state_action_values = self.policy_net(s).gather(1, a[:, None])
        return F.smooth_l1_loss(state_action_values, r.unsqueeze(1))


@bug(
    "advantages of a batch times values of a column",
    "values: f32[n, 1]",
    "returns: f32[n]",
    silent=True,
    n=8,
)
def actor_critic(values: Tensor, returns: Tensor) -> Tensor:
    advantage = returns - values  # BUG
    return advantage.pow(2).mean()


def actor_critic_mended(values: Tensor, returns: Tensor) -> Tensor:
    advantage = returns - values.squeeze(-1)
    return advantage.pow(2).mean()


@bug(
    "an accuracy against a column of labels", "scores: f32[n, 10]", "y: i64[n, 1]", silent=True, n=8
)
def accuracy(scores: Tensor, y: Tensor) -> Tensor:
    predicted = scores.argmax(dim=1)
    return (predicted == y).float().mean()  # BUG


def accuracy_mended(scores: Tensor, y: Tensor) -> Tensor:
    predicted = scores.argmax(dim=1)
    return (predicted == y.view(-1)).float().mean()


@bug("a teacher of other classes", "x: f32[n, 32]", n=8)
class Distillation(nn.Module):
    classes = 10

    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = nn.Linear(32, self.classes), nn.Linear(32, 100)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            teacher = self.teacher(x)
        soft = F.log_softmax(self.student(x) / 4, dim=1)
        return F.kl_div(soft, F.softmax(teacher / 4, dim=1), reduction="batchmean")  # BUG


class DistillationMended(Distillation):
    classes = 100


@bug(
    "weights of images without the dimensions of an image",
    "x: f32[n, 3, h, w]",
    "lam: f32[n]",
    n=8,
    h=32,
    w=32,
)
def mixup(x: Tensor, lam: Tensor) -> Tensor:
    index = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[index]  # BUG


def mixup_mended(x: Tensor, lam: Tensor) -> Tensor:
    index = torch.randperm(x.size(0))
    lam = lam.view(-1, 1, 1, 1)
    return lam * x + (1 - lam) * x[index, :]


@bug(
    "a gradient penalty mixes images by rows",
    "real: f32[n, 3, 16, 16]",
    "fake: f32[n, 3, 16, 16]",
    n=8,
)
class Penalty(nn.Module):
    ones: tuple[int, ...] = (1,)

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Sequential(nn.Flatten(), nn.Linear(768, 1))

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        alpha = torch.rand(real.size(0), *self.ones)
        mixed = alpha * real + (1 - alpha) * fake  # BUG
        return self.critic(mixed).mean()


class PenaltyMended(Penalty):
    ones = (1, 1, 1)


@bug("images minus the means of their channels", "x: f32[n, 3, h, w]", n=2, h=32, w=32)
def normalized(x: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    return (x - mean) / std  # BUG


def normalized_mended(x: Tensor) -> Tensor:
    mean = torch.tensor([0.485, 0.456, 0.406])
    std = torch.tensor([0.229, 0.224, 0.225])
    return (x - mean[:, None, None]) / std[:, None, None]


@bug(
    "maps of an image next to a row of numbers",
    "image: f32[n, 3, 32, 32]",
    "table: f32[n, 12]",
    n=4,
)
class ImageAndTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.mlp = nn.Linear(12, 8)
        self.head = nn.Linear(24, 1)

    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        image, table = self.cnn(image), self.mlp(table)
        return self.head(torch.cat([image, table], dim=1))  # BUG


class ImageAndTableMended(ImageAndTable):
    def forward(self, image: Tensor, table: Tensor) -> Tensor:
        image, table = self.cnn(image).flatten(1), self.mlp(table)
        return self.head(torch.cat([image, table], dim=1))


@bug(
    "the numbers next to embedded categories are not counted",
    "cats: i64[n, 3]",
    "nums: f32[n, 5]",
    n=4,
)
class Categories(nn.Module):
    numbers = 0

    def __init__(self) -> None:
        super().__init__()
        sizes = [(10, 4), (20, 6), (7, 3)]
        self.embeds = nn.ModuleList([nn.Embedding(c, s) for c, s in sizes])
        self.bn = nn.BatchNorm1d(5)
        self.lin = nn.Linear(sum(s for _, s in sizes) + self.numbers, 32)

    def forward(self, cats: Tensor, nums: Tensor) -> Tensor:
        embedded = [e(cats[:, i]) for i, e in enumerate(self.embeds)]
        x = torch.cat(embedded, 1)
        x = torch.cat([x, self.bn(nums)], 1)
        return F.relu(self.lin(x))  # BUG


class CategoriesMended(Categories):
    numbers = 5


@bug("boxes are compared without a dimension of pairs", "a: f32[n, 4]", "b: f32[m, 4]", n=5, m=7)
def overlaps(a: Tensor, b: Tensor) -> Tensor:
    low = torch.max(a[:, :2], b[:, :2])  # BUG
    high = torch.min(a[:, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0)
    return inter[..., 0] * inter[..., 1]


def overlaps_mended(a: Tensor, b: Tensor) -> Tensor:
    low = torch.max(a[:, None, :2], b[:, :2])
    high = torch.min(a[:, None, 2:], b[:, 2:])
    inter = (high - low).clamp(min=0)
    return inter[..., 0] * inter[..., 1]


@bug("messages of edges with an index of rank 1", "x: f32[v, 16]", "edge: i64[2, e]", v=6, e=20)
class Messages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(16, 16)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        row, col = edge
        msg = self.lin(x)[row]
        out = torch.zeros_like(x)
        return out.scatter_add(0, col, msg)  # BUG


class MessagesMended(Messages):
    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        row, col = edge
        msg = self.lin(x)[row]
        out = torch.zeros_like(x)
        return out.scatter_add(0, col.unsqueeze(1).expand_as(msg), msg)


@bug(
    "attention of graphs repeats nodes along one way",
    "h: f32[v, 8]",
    "adj: f32[v, v]",
    where=("v >= 2",),
    v=6,
)
class GraphAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.zeros(8, 5))
        self.a = nn.Parameter(torch.zeros(10, 1))

    def pairs(self, wh: Tensor) -> Tensor:
        left = wh.repeat_interleave(wh.size(0), dim=0)
        return torch.cat([left, wh], dim=1)  # BUG

    def forward(self, h: Tensor, adj: Tensor) -> Tensor:
        wh = torch.mm(h, self.W)
        v = wh.size(0)
        e = F.leaky_relu(torch.matmul(self.pairs(wh).view(v, v, -1), self.a).squeeze(2))
        attention = torch.where(adj > 0, e, -9e15 * torch.ones_like(e))
        return F.elu(torch.matmul(F.softmax(attention, dim=1), wh))


class GraphAttentionMended(GraphAttention):
    def pairs(self, wh: Tensor) -> Tensor:
        left = wh.repeat_interleave(wh.size(0), dim=0)
        return torch.cat([left, wh.repeat(wh.size(0), 1)], dim=1)


@bug("a bias of each user as a column", "user: i64[n]", "item: i64[n]", silent=True, n=8)
class Recommender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.u, self.i = nn.Embedding(50, 16), nn.Embedding(60, 16)
        self.ub, self.ib = nn.Embedding(50, 1), nn.Embedding(60, 1)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        dot = (self.u(user) * self.i(item)).sum(1)
        return dot + self.ub(user) + self.ib(item).squeeze(1)  # BUG


class RecommenderMended(Recommender):
    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        dot = (self.u(user) * self.i(item)).sum(1)
        return dot + self.ub(user).squeeze(1) + self.ib(item).squeeze(1)


@bug("frequencies of a field are counted without the point", "points: f32[n, s, 3]", n=4, s=16)
class Nerf(nn.Module):
    inside = 3 * 2 * 6

    def __init__(self) -> None:
        super().__init__()
        self.pts_linears = nn.ModuleList(
            [nn.Linear(self.inside, 32)]
            + [nn.Linear(32 + self.inside, 32) if i == 2 else nn.Linear(32, 32) for i in range(3)]
        )

    def forward(self, points: Tensor) -> Tensor:
        enc = [points]
        for i in range(6):
            for fn in (torch.sin, torch.cos):
                enc.append(fn(2.0**i * points))
        h = inputs = torch.cat(enc, -1)
        for i, layer in enumerate(self.pts_linears):
            h = F.relu(layer(h))  # BUG
            if i == 2:
                h = torch.cat([inputs, h], -1)
        return h


class NerfMended(Nerf):
    inside = 3 + 3 * 2 * 6


@bug("the mean of a set next to its members", "x: f32[n, k, 16]", n=4, k=10)
class DeepSet(nn.Module):
    keepdim = False

    def __init__(self) -> None:
        super().__init__()
        self.phi, self.rho = nn.Linear(16, 16), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.phi(x))
        pooled = h.mean(dim=1, keepdim=self.keepdim).expand_as(h)  # BUG
        return self.rho(torch.cat((h, pooled), dim=-1))


class DeepSetMended(DeepSet):
    keepdim = True


@bug("a decoder that mirrors the encoder wrongly", "x: f32[n, 30]", n=4)
class Mirror(nn.Module):
    widths = (30, 16, 4)
    back = (4, 8, 30)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = self.layers(self.widths)
        self.decoder = self.layers(self.back)

    def layers(self, widths: tuple[int, ...]) -> nn.Sequential:
        made: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            made.extend([nn.Linear(a, b), nn.ReLU()])
        return nn.Sequential(*made[:-1])

    def forward(self, x: Tensor) -> Tensor:
        code = self.encoder(x)
        gate = torch.sigmoid(self.encoder[0](x))
        return self.decoder[2](self.decoder[1](self.decoder[0](code)) * gate)  # BUG


class MirrorMended(Mirror):
    back = (4, 16, 30)


@bug("products of two features by nn.Bilinear", "q: f32[n, 24]", "d: f32[n, 32]", n=4)
class Scores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(24, 32, 1)

    def forward(self, q: Tensor, d: Tensor) -> Tensor:
        return self.bilinear(d, q).squeeze(-1)  # BUG


class ScoresMended(Scores):
    def forward(self, q: Tensor, d: Tensor) -> Tensor:
        return self.bilinear(q, d).squeeze(-1)


@bug(
    "a batch is written into a buffer of another size",
    "x: f32[n, 8]",
    "keep: f32[64, 8]",
    where=("n <= 64",),
    n=5,
)
def remember(x: Tensor, keep: Tensor) -> Tensor:
    keep = keep.clone()
    keep[:] = x  # BUG
    return keep.mean(0)


def remember_mended(x: Tensor, keep: Tensor) -> Tensor:
    keep = keep.clone()
    keep[: x.size(0)] = x
    return keep.mean(0)


@bug(
    "losses of a list of tasks are stacked with other batches",
    "x: f32[n, 16]",
    "y: f32[m, 16]",
    n=3,
    m=4,
)
class Tasks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({"a": nn.Linear(16, 2), "b": nn.Linear(16, 2)})

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        outputs: dict[str, Any] = {"a": self.heads["a"](x), "b": self.heads["b"](y)}
        return torch.stack(list(outputs.values())).mean()  # BUG


class TasksMended(Tasks):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        outputs: dict[str, Any] = {"a": self.heads["a"](x), "b": self.heads["b"](y)}
        return torch.cat(list(outputs.values())).mean()


@bug(
    "labels of segmentation are flattened and logits are not",
    "x: f32[n, 3, h, w]",
    "y: i64[n, h, w]",
    n=2,
    h=16,
    w=16,
)
class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.net(x)
        return F.nll_loss(F.log_softmax(logits, 1), y.view(-1))  # BUG


class PixelsMended(Pixels):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.net(x)
        logits = logits.permute(0, 2, 3, 1).reshape(-1, 5)
        return F.nll_loss(F.log_softmax(logits, 1), y.view(-1))


@bug(
    "the dice of probabilities and of a mask of one channel",
    "x: f32[n, 3, h, w]",
    "y: f32[n, h, w]",
    n=2,
    h=16,
    w=16,
)
class Dice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        probs = torch.sigmoid(self.net(x))
        m1 = probs.view(probs.shape[0], -1)
        m2 = y.view(y.shape[0], y.shape[1], -1)
        inter = (m1 * m2.sum(1)).sum()  # BUG
        return 1 - 2 * inter / (m1.sum() + m2.sum())


class DiceMended(Dice):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        probs = torch.sigmoid(self.net(x))
        m1 = probs.view(probs.shape[0], -1)
        m2 = y.view(y.shape[0], -1)
        inter = (m1 * m2).sum()
        return 1 - 2 * inter / (m1.sum() + m2.sum())


@bug("the step of an optimizer by hand", "x: f32[n, 10]", "y: f32[n, 1]", n=8)
def one_step(x: Tensor, y: Tensor) -> Tensor:
    w, b = torch.zeros(10, 1), torch.zeros(1)
    error = x @ w + b - y
    grad = x @ error / x.shape[0]  # BUG
    return w - 0.1 * grad


def one_step_mended(x: Tensor, y: Tensor) -> Tensor:
    w, b = torch.zeros(10, 1), torch.zeros(1)
    error = x @ w + b - y
    grad = x.T @ error / x.shape[0]
    return w - 0.1 * grad
