"""Shape bugs of programs on images and clips.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("Linear has the flattened size of another image size", "x: f32[n, 3, 32, 32]", n=8)
class FlattenedSize(nn.Module):
    flattened = 16 * 7 * 7

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(self.flattened, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(x.size(0), -1)
        return self.fc(x)  # BUG


class FlattenedSizeMended(FlattenedSize):
    flattened = 16 * 6 * 6


@bug("the batch is written into a view", "x: f32[n, 1, 28, 28]", n=32)
class HardCodedBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(64, -1)  # BUG
        return self.fc(x)  # BUG


class HardCodedBatchMended(HardCodedBatch):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.view(x.size(0), -1))


@bug(
    "view(-1, k) with a wrong k moves images between rows", "x: f32[n, 3, 32, 32]", "y: i64[n]", n=8
)
class ViewOfWrongWidth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 16, 5), nn.Linear(16 * 14 * 14, 10)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        x = x.view(-1, 16 * 14 * 14)  # BUG
        return F.cross_entropy(self.fc(x), y)  # BUG


class ViewOfWrongWidthMended(ViewOfWrongWidth):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return F.cross_entropy(self.fc(x.view(-1, 16 * 14 * 14)), y)


@bug("Linear without flatten before it", "x: f32[n, 1, 28, 28]", n=8)
class NoFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Linear(8 * 14 * 14, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.fc(x)  # BUG


class NoFlattenMended(NoFlatten):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).flatten(1))


@bug("flatten takes the batch too", "x: f32[n, 1, 28, 28]", n=8)
class FlattenOfBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x)
        return self.fc(x)  # BUG


class FlattenOfBatchMended(FlattenOfBatch):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(x, 1))


@bug("channels are last", "x: f32[n, 32, 32, 3]", n=8)
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # BUG


class ChannelsLastMended(ChannelsLast):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.permute(0, 3, 1, 2))


@bug(
    "in_channels is not the out_channels before",
    "x: f32[n, 3, h, w]",
    where=("h >= 8", "w >= 8"),
    n=4,
    h=32,
    w=32,
)
class NextChannels(nn.Module):
    middle = 16

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(self.middle, 64, 3), nn.AdaptiveAvgPool2d(1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)  # BUG


class NextChannelsMended(NextChannels):
    middle = 32


@bug("gray images to a network for colors", "x: f32[n, 1, 64, 64]", n=4)
class GrayImages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.stem(x)))  # BUG


class GrayImagesMended(GrayImages):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.stem(x.expand(-1, 3, -1, -1))))


@bug(
    "an image without a batch to BatchNorm2d",
    "x: f32[3, h, w]",
    where=("h >= 3", "w >= 3"),
    h=32,
    w=32,
)
class NoBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.bn(x)  # BUG


class NoBatchMended(NoBatch):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x.unsqueeze(0)))


@bug("num_features of BatchNorm2d", "x: f32[n, 3, h, w]", n=4, h=16, w=16)
class NormFeatures(nn.Module):
    features = 32

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 64, 3, padding=1), nn.BatchNorm2d(self.features)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        out = self.bn(out)  # BUG
        return F.relu(out)


class NormFeaturesMended(NormFeatures):
    features = 64


@bug("LayerNorm over channels that are not last", "x: f32[n, 64, h, w]", n=4, h=16, w=16)
class LayerNormOfChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(64)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)  # BUG


class LayerNormOfChannelsMended(LayerNormOfChannels):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@bug("a residual around a stride without downsampling", "x: f32[n, 16, h, w]", n=2, h=32, w=32)
class ResidualStride(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.down = nn.Conv2d(16, 16, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x)))
        return F.relu(out + x)  # BUG


class ResidualStrideMended(ResidualStride):
    def forward(self, x: Tensor) -> Tensor:
        out = self.conv2(F.relu(self.conv1(x)))
        return F.relu(out + self.down(x))


@bug("a residual around more channels", "x: f32[n, 16, h, w]", n=2, h=8, w=8)
class ResidualChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 32, 3, padding=1)
        self.project = nn.Conv2d(16, 32, 1)

    def forward(self, x: Tensor) -> Tensor:
        residual = x
        out = F.relu(self.conv(x))
        out += residual  # BUG
        return out


class ResidualChannelsMended(ResidualChannels):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x)) + self.project(x)


@bug(
    "a skip of a U-Net has an odd size",
    "x: f32[n, 3, h, w]",
    where=("h >= 4", "w >= 4"),
    n=2,
    h=33,
    w=33,
)
class SkipOfOddSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.dec = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enc(x))
        y = F.relu(self.mid(F.max_pool2d(skip, 2)))
        y = self.up(y)
        y = torch.cat([y, skip], dim=1)  # BUG
        return self.dec(y)


class SkipOfOddSizeMended(SkipOfOddSize):
    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enc(x))
        y = F.relu(self.mid(F.max_pool2d(skip, 2)))
        y = F.interpolate(self.up(y), size=skip.shape[2:], mode="bilinear")
        return self.dec(torch.cat([y, skip], dim=1))


@bug(
    "a decoder that forgets the channels of the skip",
    "x: f32[n, 3, h, w]",
    where=("h % 2 == 0", "w % 2 == 0"),
    n=2,
    h=32,
    w=32,
)
class SkipChannels(nn.Module):
    decoded = 16

    def __init__(self) -> None:
        super().__init__()
        self.enc, self.mid = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.Upsample(scale_factor=2)
        self.dec = nn.Conv2d(self.decoded, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.enc(x))
        y = self.up(F.relu(self.mid(F.max_pool2d(skip, 2))))
        y = torch.cat([y, skip], dim=1)
        return self.dec(y)  # BUG


class SkipChannelsMended(SkipChannels):
    decoded = 24


@bug("a skip joined along the batch", "x: f32[n, 8, h, w]", n=2, h=16, w=16)
class SkipAlongBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x)])  # BUG


class SkipAlongBatchMended(SkipAlongBatch):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x), self.b(x)], 1)


@bug("pooling to an empty image", "x: f32[n, 3, 32, 32]", n=2)
class PoolToEmpty(nn.Module):
    stages = 6

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for i in range(self.stages):
            layers += [nn.Conv2d(width, 8 << i, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            width = 8 << i
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).flatten(1)  # BUG


class PoolToEmptyMended(PoolToEmpty):
    stages = 5


@bug("Linear forgets the grid of the adaptive pooling", "x: f32[n, 3, h, w]", n=2, h=64, w=48)
class LinearAfterAdaptive(nn.Module):
    grid = 7

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 32, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool2d((self.grid, self.grid))
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv(x))
        x = torch.flatten(x, 1)
        return self.fc(x)  # BUG


class LinearAfterAdaptiveMended(LinearAfterAdaptive):
    grid = 1


@bug("a transposed convolution without output padding", "x: f32[n, 1, 28, 28]", n=4)
class TransposedConvolution(nn.Module):
    padding = 0

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.dec = nn.ConvTranspose2d(8, 1, 3, stride=2, padding=1, output_padding=self.padding)

    def forward(self, x: Tensor) -> Tensor:
        back = self.dec(F.relu(self.enc(x)))
        return F.mse_loss(back, x)  # BUG


class TransposedConvolutionMended(TransposedConvolution):
    padding = 1


@bug("the reconstruction is flat and the image is not", "x: f32[n, 1, 28, 28]", n=4)
class FlatReconstruction(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enc, self.dec = nn.Linear(784, 32), nn.Linear(32, 784)

    def forward(self, x: Tensor) -> Tensor:
        back = self.dec(F.relu(self.enc(x.flatten(1))))
        return F.mse_loss(back, x)  # BUG


class FlatReconstructionMended(FlatReconstruction):
    def forward(self, x: Tensor) -> Tensor:
        back = self.dec(F.relu(self.enc(x.flatten(1))))
        return F.mse_loss(back, x.flatten(1))


@bug("time before channels in Conv1d", "x: f32[n, t, 16]", where=("t >= 5",), n=4, t=50)
class TimeBeforeChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(16, 32, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))  # BUG


class TimeBeforeChannelsMended(TimeBeforeChannels):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x.transpose(1, 2)))


@bug("squeeze() takes the batch of 1 too", "x: f32[n, 8, 1, 1]", n=1)
class SqueezeOfBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.squeeze()  # BUG
        return torch.log_softmax(self.fc(x), dim=1)  # BUG


class SqueezeOfBatchMended(SqueezeOfBatch):
    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.fc(x.squeeze(-1).squeeze(-1)), dim=1)


@bug("patches do not divide the image", "x: f32[n, 3, 30, 30]", n=2)
class PatchesOfImage(nn.Module):
    patch = 8

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * self.patch**2, 32)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        p = self.patch
        x = x.reshape(n, c, h // p, p, w // p, p)  # BUG
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * p * p)
        return self.embed(x)


class PatchesOfImageMended(PatchesOfImage):
    patch = 6


@bug("a position for the class token is missing", "x: f32[n, 3, 32, 32]", n=2)
class ClassToken(nn.Module):
    extra = 0

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 48, 8, stride=8)
        self.cls = nn.Parameter(torch.zeros(1, 1, 48))
        self.pos = nn.Parameter(torch.zeros(1, 16 + self.extra, 48))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.size(0), -1, -1), x], dim=1)
        return x + self.pos  # BUG


class ClassTokenMended(ClassToken):
    extra = 1


@bug("the class token has no batch", "x: f32[n, 16, 48]", n=2)
class TokenOfOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, 48))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.cls, x], dim=1)  # BUG


class TokenOfOneMended(TokenOfOne):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)


@bug("PixelShuffle needs channels for each pixel", "x: f32[n, 16, h, w]", n=2, h=8, w=8)
class ShuffledPixels(nn.Module):
    channels = 3

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, self.channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)  # BUG


class ShuffledPixelsMended(ShuffledPixels):
    channels = 12


@bug(
    "a filter without the dimensions of channels",
    "x: f32[n, 1, h, w]",
    where=("h >= 3", "w >= 3"),
    n=2,
    h=8,
    w=8,
)
class FlatFilter(nn.Module):
    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.ones(3, 3) / 9)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel)  # BUG


class FlatFilterMended(FlatFilter):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel[None, None])


@bug(
    "frames before channels in Conv3d",
    "clip: f32[n, t, 3, h, w]",
    where=("t >= 3", "h >= 3", "w >= 3"),
    n=2,
    t=16,
    h=32,
    w=32,
)
class FramesBeforeChannels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, 8, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.conv(clip).mean((2, 3, 4))  # BUG


class FramesBeforeChannelsMended(FramesBeforeChannels):
    def forward(self, clip: Tensor) -> Tensor:
        return self.conv(clip.transpose(1, 2)).mean((2, 3, 4))


@bug("frames to a 2D network one clip at a time", "clip: f32[n, t, 3, 32, 32]", n=2, t=5)
class ClipToImageNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.lstm = nn.LSTM(8, 16, batch_first=True)

    def forward(self, clip: Tensor) -> Tensor:
        features = self.cnn(clip)  # BUG
        return self.lstm(features)[0]


class ClipToImageNetworkMended(ClipToImageNetwork):
    def forward(self, clip: Tensor) -> Tensor:
        n, t = clip.shape[:2]
        features = self.cnn(clip.flatten(0, 1)).view(n, t, -1)
        return self.lstm(features)[0]


@bug("channel weights without the dimensions of the image", "x: f32[n, 32, h, w]", n=2, h=8, w=8)
class ChannelWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(32, 4), nn.Linear(4, 32)

    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean((2, 3))
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(weights))))
        return x * weights  # BUG


class ChannelWeightsMended(ChannelWeights):
    def forward(self, x: Tensor) -> Tensor:
        weights = x.mean((2, 3))
        weights = torch.sigmoid(self.fc2(F.relu(self.fc1(weights))))
        return x * weights[:, :, None, None]


@bug("a generator's view has another grid than its Linear", "z: f32[n, 100]", n=4)
class GeneratorGrid(nn.Module):
    grid = 7

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(100, 64 * 8 * 8)
        self.up = nn.ConvTranspose2d(64, 1, 4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.fc(z)
        x = x.view(z.size(0), 64, self.grid, self.grid)  # BUG
        return torch.tanh(self.up(x))


class GeneratorGridMended(GeneratorGrid):
    grid = 8


@bug("a label joined to an image as a vector", "x: f32[n, 1, 28, 28]", "label: i64[n]", n=4)
class LabelAsVector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 1)
        self.conv = nn.Conv2d(2, 8, 3)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        e = self.embed(label)
        both = torch.cat([x, e], 1)  # BUG
        return self.conv(both)


class LabelAsVectorMended(LabelAsVector):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        e = self.embed(label)[:, :, None, None].expand(-1, -1, 28, 28)
        return self.conv(torch.cat([x, e], 1))


@bug("a Linear head of a backbone with other features", "x: f32[n, 3, h, w]", n=2, h=32, w=32)
class HeadOfBackbone(nn.Module):
    features = 2048

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 512, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.head = nn.Sequential(nn.Linear(self.features, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, x: Tensor) -> Tensor:
        f = self.backbone(x)
        return self.head(f)  # BUG


class HeadOfBackboneMended(HeadOfBackbone):
    features = 512


@bug(
    "the mean of images without the dimensions of the image", "x: f32[n, 3, h, w]", n=2, h=32, w=32
)
class MeanOfChannels(nn.Module):
    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]))

    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean  # BUG


class MeanOfChannelsMended(MeanOfChannels):
    def forward(self, x: Tensor) -> Tensor:
        return x - self.mean.view(1, 3, 1, 1)
