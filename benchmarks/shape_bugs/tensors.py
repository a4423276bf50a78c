"""Shape bugs of losses, and of operations on tensors without layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


class _Regression(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


@bug("mse_loss of [n, 1] with [n]", "x: f32[n, 8]", "y: f32[n]", silent=True, n=16)
class LossOfColumn(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.net(x), y)  # BUG


class LossOfColumnMended(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(self.net(x).squeeze(1), y)


@bug("a loss by hand of [n, 1] with [n]", "x: f32[n, 8]", "y: f32[n]", silent=True, n=16)
class LossByHand(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out = self.net(x)
        return ((out - y) ** 2).mean()  # BUG


class LossByHandMended(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return ((self.net(x)[:, 0] - y) ** 2).mean()


@bug("the hits of [n, 1] with [n]", "x: f32[n, 8]", "y: i64[n]", silent=True, n=16)
class HitsOfColumn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        guess = self.fc(x).argmax(1, keepdim=True)
        return (guess == y).float().mean()  # BUG


class HitsOfColumnMended(HitsOfColumn):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        guess = self.fc(x).argmax(1)
        return (guess == y).float().mean()


@bug("advantages of [n] minus [n, 1]", "obs: f32[n, 8]", "returns: f32[n]", silent=True, n=16)
class Advantages(_Regression):
    def forward(self, obs: Tensor, returns: Tensor) -> Tensor:
        value = self.net(obs)
        advantage = returns - value  # BUG
        return advantage.pow(2).mean()


class AdvantagesMended(_Regression):
    def forward(self, obs: Tensor, returns: Tensor) -> Tensor:
        return (returns - self.net(obs).squeeze(-1)).pow(2).mean()


@bug("binary_cross_entropy of [n, 1] with [n]", "x: f32[n, 8]", "y: f32[n]", n=16)
class BinaryColumn(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.net(x), y)  # BUG


class BinaryColumnMended(_Regression):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.net(x), y.unsqueeze(1))


class _Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 5)
        self.loss = nn.CrossEntropyLoss()


@bug("class indices as a column", "x: f32[n, 8]", "y: i64[n, 1]", n=16)
class ColumnOfClasses(_Classifier):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.fc(x), y)  # BUG


class ColumnOfClassesMended(_Classifier):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self.fc(x), y.squeeze(1))


@bug("one-hot classes with another number of classes", "x: f32[n, 8]", "y: i64[n]", n=16)
class OneHotClasses(_Classifier):
    classes = 10

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        target = F.one_hot(y, self.classes).float()
        return self.loss(self.fc(x), target)  # BUG


class OneHotClassesMended(OneHotClasses):
    classes = 5


@bug(
    "cross_entropy of a sequence with the classes last",
    "h: f32[n, t, 8]",
    "y: i64[n, t]",
    n=3,
    t=10,
)
class ClassesLast(_Classifier):
    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(h)
        return self.loss(logits, y)  # BUG


class ClassesLastMended(_Classifier):
    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(h)
        return self.loss(logits.view(-1, 5), y.view(-1))


@bug(
    "the targets are shifted and the logits are not",
    "h: f32[n, t, 8]",
    "y: i64[n, t]",
    where=("t >= 2",),
    n=3,
    t=10,
)
class ShiftedTargets(_Classifier):
    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(h)
        return self.loss(logits.reshape(-1, 5), y[:, 1:].reshape(-1))  # BUG


class ShiftedTargetsMended(_Classifier):
    def forward(self, h: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(h)[:, :-1]
        return self.loss(logits.reshape(-1, 5), y[:, 1:].reshape(-1))


@bug(
    "a segmentation mask with a dimension of channels",
    "x: f32[n, 3, h, w]",
    "mask: i64[n, 1, h, w]",
    n=2,
    h=16,
    w=16,
)
class MaskWithChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        logits = self.conv(x)
        return F.cross_entropy(logits, mask)  # BUG


class MaskWithChannelsMended(MaskWithChannels):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return F.cross_entropy(self.conv(x), mask.squeeze(1))


@bug(
    "logits of a smaller image than the mask",
    "x: f32[n, 3, h, w]",
    "mask: i64[n, h, w]",
    where=("h >= 4", "w >= 4"),
    n=2,
    h=16,
    w=16,
)
class SmallerLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        logits = self.conv(x)
        return F.cross_entropy(logits, mask)  # BUG


class SmallerLogitsMended(SmallerLogits):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        logits = F.interpolate(self.conv(x), size=mask.shape[-2:], mode="nearest")
        return F.cross_entropy(logits, mask)


@bug("gather with actions of rank 1", "q: f32[n, 4]", "actions: i64[n]", n=16)
class ActionsOfRankOne(nn.Module):
    def forward(self, q: Tensor, actions: Tensor) -> Tensor:
        return q.gather(1, actions)  # BUG


class ActionsOfRankOneMended(ActionsOfRankOne):
    def forward(self, q: Tensor, actions: Tensor) -> Tensor:
        return q.gather(1, actions.unsqueeze(1)).squeeze(1)


@bug("scatter with classes of rank 1", "y: i64[n]", n=16)
class OneHotByScatter(nn.Module):
    def forward(self, y: Tensor) -> Tensor:
        hot = torch.zeros(y.size(0), 10)
        return hot.scatter_(1, y, 1.0)  # BUG


class OneHotByScatterMended(OneHotByScatter):
    def forward(self, y: Tensor) -> Tensor:
        hot = torch.zeros(y.size(0), 10)
        return hot.scatter_(1, y.unsqueeze(1), 1.0)


@bug(
    "index_add with rows of another number than indices",
    "x: f32[e, 8]",
    "edge: i64[2, e]",
    "nodes: f32[v, 8]",
    e=20,
    v=6,
)
class SumOverEdges(nn.Module):
    def forward(self, x: Tensor, edge: Tensor, nodes: Tensor) -> Tensor:
        return nodes.index_add(0, edge[0], nodes)  # BUG


class SumOverEdgesMended(SumOverEdges):
    def forward(self, x: Tensor, edge: Tensor, nodes: Tensor) -> Tensor:
        return nodes.index_add(0, edge[0], x)


@bug("the factors of a product in the wrong order", "x: f32[n, 8]", n=16)
class OrderOfFactors(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x  # BUG


class OrderOfFactorsMended(OrderOfFactors):
    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


@bug(
    "a graph layer multiplies features and adjacency in the wrong order",
    "x: f32[v, 16]",
    "adj: f32[v, v]",
    v=10,
)
class GraphLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        return torch.mm(self.fc(x), adj)  # BUG


class GraphLayerMended(GraphLayer):
    def forward(self, x: Tensor, adj: Tensor) -> Tensor:
        return torch.mm(adj, self.fc(x))


@bug("cat of ranks 2 and 1", "x: f32[n, 8]", "age: f32[n]", n=16)
class RanksOfCat(nn.Module):
    def forward(self, x: Tensor, age: Tensor) -> Tensor:
        return torch.cat([x, age], dim=1)  # BUG


class RanksOfCatMended(RanksOfCat):
    def forward(self, x: Tensor, age: Tensor) -> Tensor:
        return torch.cat([x, age[:, None]], dim=1)


@bug(
    "cat of sequences of other lengths along the features",
    "a: f32[n, s, 8]",
    "b: f32[n, t, 8]",
    n=4,
    s=5,
    t=6,
)
class DimensionOfCat(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((a, b), dim=-1)  # BUG


class DimensionOfCatMended(DimensionOfCat):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((a, b), dim=1)


@bug("stack where cat is meant", "a: f32[n, 8]", "b: f32[n, 8]", n=4)
class StackForCat(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 2)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        both = torch.stack([a, b], 1)
        return self.fc(both)  # BUG


class StackForCatMended(StackForCat):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.fc(torch.cat([a, b], 1))


@bug("stack of another size", "a: f32[n, 8]", "b: f32[n, 16]", n=4)
class StackOfSizes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(16, 8)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([a, b])  # BUG


class StackOfSizesMended(StackOfSizes):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.stack([a, self.project(b)])


@bug("the mean over the wrong dimension", "x: f32[n, t, 32]", n=4, t=10)
class MeanOfFeatures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.mean(dim=-1)
        return self.fc(pooled)  # BUG


class MeanOfFeaturesMended(MeanOfFeatures):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean(dim=1))


@bug(
    "a masked mean without the dimension of features",
    "h: f32[n, t, 16]",
    "mask: f32[n, t]",
    n=4,
    t=10,
)
class MaskedMean(nn.Module):
    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        total = (h * mask).sum(1)  # BUG
        return total / mask.sum(1, keepdim=True)


class MaskedMeanMended(MaskedMean):
    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        total = (h * mask.unsqueeze(-1)).sum(1)
        return total / mask.sum(1, keepdim=True)


@bug("a mean without keepdim", "x: f32[n, t, 16]", n=4, t=10)
class NoKeepdim(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(-1)
        return x - mean  # BUG


class NoKeepdimMended(NoKeepdim):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)


@bug("norms of rows of a batch divide the columns", "x: f32[n, 16]", n=10)
class NormsOfRows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1)  # BUG


class NormsOfRowsMended(NormsOfRows):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.norm(dim=1, keepdim=True)


@bug("cdist of points of other dimensions", "a: f32[n, 3]", "b: f32[m, 2]", n=4, m=5)
class DistancesOfPoints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(2, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, b).min(1).values  # BUG


class DistancesOfPointsMended(DistancesOfPoints):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cdist(a, self.lift(b)).min(1).values


@bug("gates in three parts of four", "x: f32[n, 8]", "h: f32[n, 16]", n=4)
class GatesOfCell(nn.Module):
    gates = 4

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, self.gates * 16)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, z, n = self.fc(torch.cat([x, h], 1)).chunk(3, dim=1)
        return (1 - z.sigmoid()) * n.tanh() + r.sigmoid() * h  # BUG


class GatesOfCellMended(GatesOfCell):
    gates = 3


@bug("a start token of a written batch", "x: f32[n, t, 8]", n=20, t=10)
class StartToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(32, 1, 8)
        return torch.cat([start, x], 1)  # BUG


class StartTokenMended(StartToken):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([torch.zeros(x.size(0), 1, 8), x], 1)


@bug("a pair of variables is unpacked from a batch", "x: f32[n, 8]", n=5)
class UnpackedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.fc(x)  # BUG
        return mean + torch.exp(logvar)


class UnpackedBatchMended(UnpackedBatch):
    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = self.fc(x).chunk(2, 1)
        return mean + torch.exp(logvar)


@bug("a sample of a VAE has another width than the decoder", "x: f32[n, 784]", n=4)
class WidthOfLatent(nn.Module):
    latent = 10

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Linear(784, 40)
        self.dec = nn.Linear(self.latent, 784)

    def forward(self, x: Tensor) -> Tensor:
        mean, logvar = torch.split(self.enc(x), 20, dim=1)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * logvar)
        return self.dec(z)  # BUG


class WidthOfLatentMended(WidthOfLatent):
    latent = 20


@bug("pairs with a dimension too few", "a: f32[n, 16]", "b: f32[m, 16]", n=4, m=6)
class AllPairs(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(a, b, dim=-1)  # BUG


class AllPairsMended(AllPairs):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return F.cosine_similarity(a[:, None], b[None], dim=-1)
