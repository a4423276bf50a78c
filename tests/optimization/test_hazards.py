"""Models that a careless optimizer gets wrong: the result against eager."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import symfx
from symfx.optimization import fuse, optimize_for_inference, remove_dropout
from symfx.optimization.graphs.capture import copy_of

Make = Callable[[], nn.Module]
CASES: dict[str, tuple[Make, tuple[int, ...]]] = {}


def case(*shape: int) -> Callable[[type[nn.Module]], type[nn.Module]]:
    def register(kind: type[nn.Module]) -> type[nn.Module]:
        CASES[kind.__name__] = kind, shape
        return kind

    return register


def settle(model: nn.Module) -> nn.Module:
    """In eval mode, with statistics, weights and biases that are not the neutral ones."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.running_mean is not None:
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight)
                nn.init.normal_(module.bias)
    return model.eval()


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)

    @staticmethod
    def make() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@case(2, 3, 8, 9)
class Ordinary(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


@case(2, 3, 8, 9)
class ResultUsedTwice(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.bn(y) + y


@case(2, 3, 8, 9)
class SharedConvolution(Pair):
    """Upstream 104593: one convolution on two paths, normalized on one of them."""

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.conv(x + 1)


@case(2, 3, 8, 9)
class SharedConvolutionTwoNorms(Pair):
    """Upstream 197539: one convolution, two normalizations."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.other(self.conv(x))


@case(2, 3, 8, 9)
class SharedNorm(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.second(self.bn(self.conv(x))))


@case(2, 3, 8, 9)
class OneModuleUnderTwoNames(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.again = self.conv
        self.holder = nn.ModuleDict({"same": self.bn})

    def forward(self, x: Tensor) -> Tensor:
        return self.holder["same"](self.conv(x)) - self.again(x)


@case(2, 3, 8, 9)
class TiedWeights(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.twin = nn.Conv2d(3, 4, 3, padding=1)
        self.twin.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.twin(x) + self.conv.weight.sum()


@case(2, 4, 8, 9)
class WeightOfAConvolutionAsMatrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x)).permute(0, 2, 3, 1)
        return F.linear(y, self.conv.weight[:, :, 0, 0]).permute(0, 3, 1, 2)


@case(2, 4, 8, 9)
class VanishingChannels(nn.Module):
    """A channel that is multiplied with zero, and one whose variance is nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, eps=1e-12)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def train(self, mode: bool = True) -> nn.Module:
        with torch.no_grad():
            self.bn.weight[0] = 0
            self.bn.running_var[1] = 0
        return super().train(mode)


@case(2, 3, 8, 9)
class NoRunningStatistics(nn.Module):
    """Upstream 71259."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@case(2, 3, 8, 9)
class NotAffine(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.bn = nn.BatchNorm2d(4, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(input=self.conv(input=x))


@case(2, 3, 8, 9)
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))
        self.bias = nn.Parameter(torch.randn(4))
        self.register_buffer("mean", torch.randn(4))
        self.register_buffer("var", torch.rand(4) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.weight, self.bias, padding=(1, 0))
        y = F.batch_norm(y, self.mean, self.var, weight=None, bias=self.bias, eps=1e-3)
        y = F.dropout(y, 0.5, self.training)
        return F.relu(y, inplace=True)


@case(2, 3, 8, 9)
class FunctionalDropoutThatStaysOn(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x * 2, 0.5)


@case(2, 3, 8, 9)
class Kwargs(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(stride=2, input=x, weight=self.conv.weight)
        return F.relu(input=y, inplace=False)


@case(2, 3, 8, 9)
class BufferReadElsewhere(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) * self.bn.running_mean.sum() + self.conv.bias.max()


@case(2, 3, 8, 9)
class BufferWritten(Pair):
    """Each run changes a number that the next one uses."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add_(1)
        return self.bn(self.conv(x)) * self.seen


@case(2, 3, 8, 9)
class StatisticsWritten(Pair):
    def forward(self, x: Tensor) -> Tensor:
        self.bn.running_mean.add_(0.5)
        return self.bn(self.conv(x))


@case(2, 3, 8, 9)
class Counts(Pair):
    """State that torch.fx does not see, in a part and in the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.plain = 0, torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.plain += 2
        return self.bn(self.conv(x)) * self.calls + self.plain


@case(2, 3, 8, 9)
class CountsInside(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.part = Counts()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)) + self.part(x)


@case(2, 3, 8, 9)
class KeepsItsResult(Pair):
    def forward(self, x: Tensor) -> Tensor:
        last = getattr(self, "last", None)
        self.last = torch.relu(self.bn(self.conv(x)))
        return self.last if last is None else self.last + last


class Doubled(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input)


@case(2, 3, 8, 9)
class SubclassOfConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = Doubled(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Squared(nn.BatchNorm2d):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) ** 2


@case(2, 3, 8, 9)
class SubclassOfNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), Squared(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@case(2, 3, 8, 9)
class Hooks(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.conv.register_forward_hook(lambda module, args, result: result * 3)
        self.act = nn.ReLU()
        self.act.register_forward_pre_hook(lambda module, args: (args[0] - 1,))

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


@case(2, 3, 8, 9)
class HooksOnTheWhole(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.register_forward_hook(lambda module, args, result: result + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@case(2, 3, 8, 9)
class HooksOnTraced(nn.Module):
    """torch.fx forgets hooks when it copies a graph module."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.fx.symbolic_trace(Pair.make())
        self.part.register_forward_hook(lambda module, args, result: result + 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * 2


@case(2, 3, 8, 9)
class ReplacedForward(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.bn.forward = lambda x: x + 1

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


@case(2, 3, 8, 9)
class Parametrized(Pair):
    def __init__(self) -> None:
        super().__init__()
        parametrizations.weight_norm(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


@case(2, 3, 8, 9)
class InPlaceBehindUse(Pair):
    """Nodes that use a value after a write read the written value."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        before = y.mean()
        z = self.act(y)
        return z + y + before


@case(2, 3, 8, 9)
class InPlaceOnView(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        part = y[:, :2]
        part.relu_()
        return y * 2


@case(2, 3, 8, 9)
class InPlaceOnInput(Pair):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        F.relu(x, inplace=True)
        return self.bn(y) + self.conv(x)


@case(2, 3, 8, 9)
class InPlaceBetween(Pair):
    """The input of the convolution is overwritten before the normalization runs."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + 1
        y = self.conv(x)
        x.mul_(0)
        return self.bn(y) + x.sum()


@case(2, 4, 8, 9)
class InPlaceSum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.sigmoid(x)
        y += self.bn(self.conv(x))
        return F.relu_(y) - x


@case(2, 4, 8, 9)
class ResidualReadLater(nn.Module):
    """The sum must not be written over the term, which the next layer takes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        z = torch.relu(self.b(y) + y)
        return torch.relu(self.c(y) + z) + y


@case(2, 4, 8, 9)
class ResidualBroadcast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.a(x) + self.b(x).mean((2, 3), keepdim=True))


@case(2, 4, 8, 9)
class SumOfItself(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return torch.relu(y + y) + torch.add(self.a(x), x, alpha=3)


@case(2, 3, 8, 9)
class Viewed(Pair):
    """A view needs strides that channels last in memory would not have."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn(self.conv(x)))
        return y.view(y.shape[0], -1) + y.permute(0, 2, 3, 1).reshape(y.size(0), -1)


@case(2, 3, 8, 9)
class Chunked(Pair):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        a, b = torch.relu(self.bn(self.conv(x))).chunk(2, 1)
        return a, torch.cat([b, a], 1), a.stride(), self.conv(x).split(2, 1)


@case(2, 4, 12, 12)
class MaxPoolIndices(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(4, 4, 3), nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool(self.conv(x))


@case(2, 4, 8, 8)
class MakesTensors(nn.Module):
    """Tensors that each run makes: random numbers, and tensors that are written to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(4, 1, 1)
        total += self.conv(x).mean()
        noise = torch.rand(4, 1, 1) + torch.randn_like(x)
        return self.conv(x) * total + noise + torch.full((x.shape[0], 1, 1, 1), 2.0)


@case(2, 3, 8, 9)
class OldNormedWeights(Pair):
    def __init__(self) -> None:
        super().__init__()
        torch.nn.utils.weight_norm(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return self.conv(x)
        return -x


@case(2, 3, 8, 9)
class UntraceablePart(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.part = Branching()

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.part(x))) + self.conv(self.part(-x))


@case(2, 3, 8, 9)
class UntraceableWhole(Branching):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if len(x) > 1 else x


class WritesItsInput(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.ndim > 0 and bool(x.sum() < 1e9):
            x.mul_(2)
        return x


@case(2, 3, 8, 9)
class UntraceableWrite(Pair):
    def __init__(self) -> None:
        super().__init__()
        self.part = WritesItsInput()

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = torch.relu(y)
        self.part(y)
        return self.bn(y) + z


@case(3, 6)
class LinearNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(6, 5), nn.BatchNorm1d(5)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.fc(x))


@case(3, 5, 6)
class LinearNormOfAnotherDimension(LinearNorm):
    """Five rows and five channels: the normalization is for the rows."""


@case(3, 4, 9)
class Conv1dNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6), nn.ReLU(inplace=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


@case(2, 4, 5, 6, 7)
class Conv3dNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(nn.Conv3d(4, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


@case(2, 4, 5, 6)
class TransposedNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.ConvTranspose2d(4, 6, 3, 2, 1, 1, groups=2), nn.BatchNorm2d(6), nn.SiLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


@case(2, 4, 9, 9)
class NormBefore(nn.Module):
    """Exact without padding, and with padding that repeats values; not with zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 6, 3, groups=2),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


@case(2, 4, 9, 9)
class PaddingByName(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seq = nn.Sequential(
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 4, padding="same", dilation=3),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding="valid"),
            nn.GELU("tanh"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


@case(3, 9, 9)
class Unbatched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).flatten(1)


@case(2, 3, 8, 9)
class TrainModePart(Pair):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))

    def train(self, mode: bool = True) -> TrainModePart:
        super().train(mode)
        self.bn.train()  # frozen the other way round
        return self


@case(2, 3, 8, 9)
class Assertion(Pair):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == 3, "three channels"
        return self.bn(self.conv(x))


@case(4, 5, 8)
class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.attention(x, x, x)[0])


X: list[Tensor] = []
PASSES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "optimize": lambda model: symfx.optimize(model, X.pop(), measure=False),
    "optimize at first use": symfx.optimize,
    "fuse": fuse,
    "remove_dropout": remove_dropout,
    "optimize_for_inference": optimize_for_inference,
    "every region": lambda model: optimize_for_inference(
        model, {"mkldnn_layout_optimize": {"heuristic": lambda region: True}}
    ),
}


def run_twice(model: nn.Module, x: Tensor) -> list[object]:
    """Two runs, since the first may change state that the second reads; and the input afterwards."""
    results: list[object] = []
    with torch.no_grad():
        for _ in range(2):
            torch.manual_seed(1)
            mine = x.clone()
            results += [model(mine), mine]
    return results


@pytest.mark.parametrize("name", CASES)
def test_against_eager(name: str) -> None:
    make, shape = CASES[name]
    torch.manual_seed(0)
    model = settle(make())
    x = torch.randn(shape)
    state = copy.deepcopy(model.state_dict())
    expected = run_twice(copy_of(model), x)
    for label, function in PASSES.items():
        X[:] = [x.clone()]
        optimized = function(copy_of(model) if label == "remove_dropout" else model)
        found = run_twice(optimized, x)
        torch.testing.assert_close(
            found, expected, rtol=1e-4, atol=1e-4, msg=lambda m, label=label: f"{label}: {m}"
        )
        smaller = run_twice(optimized, x[:1]) if name != "Unbatched" else None
        if smaller is not None:
            assert len(smaller) == 4
        torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)


def test_train_mode_is_left_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    x = torch.randn(2, 3, 8, 8)
    optimized = optimize_for_inference(model)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(optimized(x), twin(x))
    assert all(
        torch.equal(a, b)
        for a, b in zip(optimized.state_dict().values(), twin.state_dict().values(), strict=False)
        if a.shape == b.shape and a.ndim == 1
    )
    assert optimized.training


def test_folding_takes_the_norms_away() -> None:
    model = settle(nn.Sequential(*(CASES[n][0]() for n in ("Ordinary", "NormBefore"))))
    kinds = [type(m) for m in fuse(model[0]).modules()]
    assert nn.BatchNorm2d not in kinds
    # Of the three, the middle one stays: the next convolution pads with zeros.
    assert sum(isinstance(m, nn.BatchNorm2d) for m in fuse(model[1]).modules()) == 1
