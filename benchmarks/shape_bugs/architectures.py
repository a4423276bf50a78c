"""Shape bugs of whole architectures: autoencoders, GANs, U-Nets, pyramids, transformers of images.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("windows larger than what is left of a small image", "x: f32[n, 3, 32, 32]", n=4)
class SmallImage(nn.Module):
    first = (11, 4, 2)

    def __init__(self) -> None:
        super().__init__()
        kernel, stride, padding = self.first
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, kernel, stride, padding),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((6, 6))
        self.classifier = nn.Sequential(nn.Dropout(), nn.Linear(256 * 6 * 6, 10))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)  # BUG
        x = torch.flatten(self.avgpool(x), 1)
        return self.classifier(x)


class SmallImageMended(SmallImage):
    first = (5, 1, 2)


@bug("transposed convolutions return another size", "x: f32[n, 1, 28, 28]", n=4)
class ConvAutoencoder(nn.Module):
    extra = (1, 1)

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
        )
        first, second = self.extra
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=first),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, stride=2, padding=1, output_padding=second),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, stride=2, padding=1, output_padding=1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        z = self.encoder(x)
        recon = self.decoder(z)
        return F.binary_cross_entropy(recon, torch.sigmoid(x))  # BUG


class ConvAutoencoderMended(ConvAutoencoder):
    extra = (0, 1)


class _Generator(nn.Sequential):
    def __init__(self, latent: int) -> None:
        super().__init__(
            nn.ConvTranspose2d(latent, 64, 4, 1, 0, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(True),
            nn.ConvTranspose2d(64, 32, 4, 2, 1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(True),
            nn.ConvTranspose2d(32, 3, 4, 2, 1, bias=False),
            nn.Tanh(),
        )


@bug("a latent without the dimensions of an image", "z: f32[n, 100]", n=8)
class FlatLatent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.main = _Generator(100)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)  # BUG


class FlatLatentMended(FlatLatent):
    def forward(self, z: Tensor) -> Tensor:
        return self.main(z.view(z.size(0), -1, 1, 1))


@bug("a discriminator keeps its image of one pixel", "x: f32[n, 3, 64, 64]", n=8)
class DiscriminatorLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for width in (16, 32, 64, 128):
            layers += [nn.Conv2d(channels, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)]
            channels = width
        layers += [nn.Conv2d(channels, 1, 4, 1, 0, bias=False), nn.Sigmoid()]
        self.net = nn.Sequential(*layers)
        self.criterion = nn.BCELoss()

    def forward(self, x: Tensor) -> Tensor:
        label = torch.full((x.size(0),), 1.0)
        output = self.net(x)
        return self.criterion(output, label)  # BUG


class DiscriminatorLossMended(DiscriminatorLoss):
    def forward(self, x: Tensor) -> Tensor:
        label = torch.full((x.size(0),), 1.0)
        output = self.net(x).view(-1)
        return self.criterion(output, label)


class _Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.shortcut = nn.Sequential()
        if shortcut and (stride != 1 or inside != outside):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)  # BUG
        return F.relu(out)


@bug("blocks with a stride and no shortcut", "x: f32[n, 3, h, w]", at=_Block, n=2, h=32, w=32)
class NoShortcut(nn.Module):
    shortcut = False

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        blocks = []
        inside = 16
        for width, depth, stride in ((16, 2, 1), (32, 2, 2), (64, 2, 2)):
            for i in range(depth):
                blocks.append(_Block(inside, width, stride if i == 0 else 1, self.shortcut))
                inside = width
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean((2, 3)))


class NoShortcutMended(NoShortcut):
    shortcut = True


def _double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(outside, outside, 3, padding=1),
    )


@bug(
    "the skips of a U-Net in the wrong order",
    "x: f32[n, 1, h, w]",
    where=("h % 8 == 0", "w % 8 == 0"),
    n=1,
    h=64,
    w=64,
)
class SkipsInOrder(nn.Module):
    widths = (8, 16, 32)

    def __init__(self) -> None:
        super().__init__()
        self.downs, self.ups, self.convs = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        inside = 1
        for width in self.widths:
            self.downs.append(_double(inside, width))
            inside = width
        self.bottom = _double(32, 64)
        for width in reversed(self.widths):
            self.ups.append(nn.ConvTranspose2d(width * 2, width, 2, 2))
            self.convs.append(_double(width * 2, width))
        self.pool = nn.MaxPool2d(2)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, conv, skip in zip(self.ups, self.convs, skips, strict=True):
            x = up(x)
            x = conv(torch.cat((skip, x), dim=1))  # BUG
        return self.out(x)


class SkipsInOrderMended(SkipsInOrder):
    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottom(x)
        for up, conv, skip in zip(self.ups, self.convs, skips[::-1], strict=True):
            x = up(x)
            x = conv(torch.cat((skip, x), dim=1))
        return self.out(x)


@bug(
    "a U-Net at an image of odd size",
    "x: f32[n, 3, h, w]",
    where=("h >= 4", "w >= 4"),
    n=1,
    h=75,
    w=75,
)
class OddUNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = _double(3, 8), _double(8, 16), _double(16, 32)
        self.up1, self.up2 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.conv1, self.conv2 = _double(32, 16), _double(16, 8)

    def join(self, x1: Tensor, x2: Tensor) -> Tensor:
        return torch.cat([x2, x1], dim=1)  # BUG

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = self.conv1(self.join(self.up1(x3), x2))
        return self.conv2(self.join(self.up2(y), x1))


class OddUNetMended(OddUNet):
    def join(self, x1: Tensor, x2: Tensor) -> Tensor:
        dy = x2.size()[2] - x1.size()[2]
        dx = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return torch.cat([x2, x1], dim=1)


@bug("a position for the class token is missing", "img: f32[n, 3, 224, 224]", n=2)
class ClassToken(nn.Module):
    extra = 0

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 192, kernel_size=16, stride=16)
        patches = (224 // 16) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 192))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + self.extra, 192))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(192, 3, 384, batch_first=True) for _ in range(2)
        )
        self.head = nn.Linear(192, 1000)

    def forward(self, img: Tensor) -> Tensor:
        x = self.proj(img).flatten(2).transpose(1, 2)
        cls = self.cls_token.expand(img.shape[0], -1, -1)
        x = torch.cat([cls, x], dim=1)
        x = x + self.pos_embed  # BUG
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class ClassTokenMended(ClassToken):
    extra = 1


@bug("patches do not divide the image", "x: f32[n, 3, 224, 224]", n=2)
class PatchSize(nn.Module):
    patch = 15

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(3 * self.patch**2, 64)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        p = self.patch
        x = x.reshape(n, c, h // p, p, w // p, p)  # BUG
        x = x.permute(0, 2, 4, 1, 3, 5).reshape(n, (h // p) * (w // p), c * p * p)
        return self.embed(x)


class PatchSizeMended(PatchSize):
    patch = 16


@bug("a pyramid adds levels of odd sizes", "x: f32[n, 3, h, w]", n=1, h=100, w=150)
class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 32, 3, 2, 1)
        self.c2 = nn.Conv2d(32, 64, 3, 2, 1)
        self.c3 = nn.Conv2d(64, 128, 3, 2, 1)
        self.lateral = nn.ModuleDict({str(c): nn.Conv2d(c, 64, 1) for c in (32, 64, 128)})

    def up(self, top: Tensor, side: Tensor) -> Tensor:
        return F.interpolate(top, scale_factor=2, mode="nearest") + side  # BUG

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        c1 = F.relu(self.c1(x))
        c2 = F.relu(self.c2(c1))
        c3 = F.relu(self.c3(c2))
        p3 = self.lateral["128"](c3)
        p2 = self.up(p3, self.lateral["64"](c2))
        p1 = self.up(p2, self.lateral["32"](c1))
        return {"p1": p1, "p2": p2, "p3": p3}


class PyramidMended(Pyramid):
    def up(self, top: Tensor, side: Tensor) -> Tensor:
        return F.interpolate(top, size=side.shape[-2:], mode="nearest") + side


@bug("the pooled branch of ASPP is not resized", "x: f32[n, 16, h, w]", n=2, h=20, w=20)
class Aspp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [nn.Conv2d(16, 8, 1)]
            + [nn.Conv2d(16, 8, 3, padding=d, dilation=d) for d in (6, 12, 18)]
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 8, 1), nn.ReLU())
        self.project = nn.Conv2d(8 * 5, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        res = [conv(x) for conv in self.convs]
        res.append(self.pool(x))
        return self.project(torch.cat(res, dim=1))  # BUG


class AsppMended(Aspp):
    def forward(self, x: Tensor) -> Tensor:
        res = [conv(x) for conv in self.convs]
        pooled = F.interpolate(
            self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=False
        )
        res.append(pooled)
        return self.project(torch.cat(res, dim=1))


@bug("the gate of squeeze-and-excitation has rank 2", "x: f32[n, 32, h, w]", n=2, h=16, w=16)
class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(32, 8, bias=False), nn.ReLU(), nn.Linear(8, 32, bias=False), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y)
        return x * y  # BUG


class SqueezeExciteMended(SqueezeExcite):
    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


@bug("maps of spatial attention without their channel", "x: f32[n, 16, h, w]", n=2, h=16, w=16)
class SpatialAttention(nn.Module):
    keep = False

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        avg_out = torch.mean(x, dim=1, keepdim=self.keep)
        max_out, _ = torch.max(x, dim=1, keepdim=self.keep)
        y = torch.cat([avg_out, max_out], dim=1)
        return x * torch.sigmoid(self.conv1(y))  # BUG


class SpatialAttentionMended(SpatialAttention):
    keep = True


@bug("the grid of a transformer of space is channels first", "x: f32[n, 1, 28, 28]", n=4)
class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flow = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        grid = torch.tanh(self.flow(x))
        return F.grid_sample(x, grid, align_corners=False)  # BUG


class SpatialTransformerMended(SpatialTransformer):
    def forward(self, x: Tensor) -> Tensor:
        grid = torch.tanh(self.flow(x)).permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, align_corners=False)


@bug("theta is reshaped from another number of features", "x: f32[n, 1, 32, 32]", n=4)
class Localization(nn.Module):
    features = 10 * 3 * 3

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(1, 8, kernel_size=7),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
            nn.Conv2d(8, 10, kernel_size=5),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(True),
        )
        self.fc_loc = nn.Sequential(
            nn.Linear(self.features, 32), nn.ReLU(True), nn.Linear(32, 3 * 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        xs = self.localization(x)
        xs = xs.view(-1, self.features)  # BUG
        theta = self.fc_loc(xs)
        theta = theta.view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.size()), align_corners=False)  # BUG
        return F.grid_sample(x, grid, align_corners=False)  # BUG


class LocalizationMended(Localization):
    features = 10 * 4 * 4


@bug("a branch of an inception block without padding", "x: f32[n, 64, h, w]", n=2, h=28, w=28)
class InceptionBranch(nn.Module):
    padding = 1

    def __init__(self) -> None:
        super().__init__()
        self.b1 = nn.Conv2d(64, 16, 1)
        self.b2 = nn.Sequential(nn.Conv2d(64, 16, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, padding=1))
        self.b3 = nn.Sequential(
            nn.Conv2d(64, 8, 1), nn.ReLU(), nn.Conv2d(8, 16, 5, padding=self.padding)
        )
        self.b4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(64, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [branch(x) for branch in (self.b1, self.b2, self.b3, self.b4)]
        return torch.cat(outputs, 1)  # BUG


class InceptionBranchMended(InceptionBranch):
    padding = 2


@bug("a dense block counts its channels wrongly", "x: f32[n, 16, h, w]", n=2, h=8, w=8)
class DenseBlock(nn.Module):
    start = 0

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            OrderedDict(
                (f"layer{i}", nn.Conv2d(16 + (i + self.start) * 12, 12, 3, padding=1))
                for i in range(4)
            )
        )
        self.norm = nn.BatchNorm2d(16 + (4 + self.start) * 12)

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers.values():
            features.append(F.relu(layer(torch.cat(features, 1))))
        return self.norm(torch.cat(features[1:], 1))  # BUG


class DenseBlockMended(DenseBlock):
    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers.values():
            features.append(F.relu(layer(torch.cat(features, 1))))
        return self.norm(torch.cat(features, 1))


@bug("the time of a video is not folded into the batch", "video: f32[n, t, 3, 32, 32]", n=2, t=5)
class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        )
        self.rnn = nn.LSTM(8 * 16, 32, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, video: Tensor) -> Tensor:
        features = self.cnn(video)  # BUG
        out, _ = self.rnn(features)
        return self.head(out[:, -1, :])


class VideoMended(Video):
    def forward(self, video: Tensor) -> Tensor:
        b, t, c, h, w = video.size()
        features = self.cnn(video.view(b * t, c, h, w))
        out, _ = self.rnn(features.view(b, t, -1))
        return self.head(out[:, -1, :])


@bug("features of a CNN are wider than the LSTM takes", "x: f32[n, t, 1, 28, 28]", n=2, t=5)
class CnnThenLstm(nn.Module):
    size = 16 * 5 * 5

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3)
        self.lstm = nn.LSTM(input_size=self.size, hidden_size=64, num_layers=1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        batch_size, timesteps = x.shape[:2]
        c_in = x.view(batch_size * timesteps, 1, 28, 28)
        c_out = F.max_pool2d(F.relu(self.conv1(c_in)), 2)
        c_out = F.max_pool2d(F.relu(self.conv2(c_out)), 3)
        r_in = c_out.view(batch_size, timesteps, -1)
        _, (h_n, _) = self.lstm(r_in)  # BUG
        return h_n[-1]


class CnnThenLstmMended(CnnThenLstm):
    size = 16 * 3 * 3


@bug("a spectrogram without its channel", "spec: f32[n, 64, t]", where=("t >= 4",), n=8, t=100)
class Spectrogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.MaxPool2d(4))
        self.fc = nn.Linear(8, 35)

    def forward(self, spec: Tensor) -> Tensor:
        x = self.conv(spec)  # BUG
        return self.fc(x.mean(dim=[2, 3]))


class SpectrogramMended(Spectrogram):
    def forward(self, spec: Tensor) -> Tensor:
        x = self.conv(spec.unsqueeze(1))
        return self.fc(x.mean(dim=[2, 3]))


@bug("bilinear interpolation of maps without channels", "depth: f32[n, h, w]", n=2, h=30, w=40)
def upsample_depth(depth: Tensor) -> Tensor:
    return F.interpolate(depth, scale_factor=2, mode="bilinear", align_corners=True)  # BUG


def upsample_depth_mended(depth: Tensor) -> Tensor:
    up = F.interpolate(depth[:, None], scale_factor=2, mode="bilinear", align_corners=True)
    return up.squeeze(1)


@bug("a depthwise blur without groups", "x: f32[n, 3, h, w]", n=2, h=16, w=16)
def blur(x: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel[None, :]) / 16
    weight = kernel.repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, weight, padding=1)  # BUG


def blur_mended(x: Tensor) -> Tensor:
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = (kernel[:, None] * kernel[None, :]) / 16
    weight = kernel.repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, weight, padding=1, groups=x.shape[1])


@bug("channels that no square of the factor divides", "x: f32[n, 3, h, w]", n=1, h=24, w=24)
class SuperResolution(nn.Module):
    out = 3 * 3

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 32, 5, padding=2), nn.Tanh())
        self.last = nn.Conv2d(32, self.out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.body(x)), 2)  # BUG


class SuperResolutionMended(SuperResolution):
    out = 3 * 2 * 2


@bug("the head of a detector for another number of classes", "x: f32[n, 3, 64, 64]", n=2)
class YoloHead(nn.Module):
    classes = 20

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 3, 4, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 4, 1)
        )
        self.detect = nn.Conv2d(32, 3 * (5 + self.classes), 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.detect(self.backbone(x))
        b, _, g, _ = out.shape
        out = out.view(b, 3, 5 + 80, g, g).permute(0, 1, 3, 4, 2).contiguous()  # BUG
        xy, conf = torch.sigmoid(out[..., 0:2]), torch.sigmoid(out[..., 4])
        return xy, conf


class YoloHeadMended(YoloHead):
    classes = 80


@bug("a new head for another backbone", "x: f32[n, 3, h, w]", n=2, h=64, w=64)
class NewHead(nn.Module):
    width = 512

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential()
        self.backbone.add_module("conv", nn.Conv2d(3, 1024, 3, 2, 1))
        self.backbone.add_module("pool", nn.AdaptiveAvgPool2d((1, 1)))
        self.backbone.add_module("flatten", nn.Flatten())
        self.backbone.add_module("fc", nn.Linear(1024, 1000))
        self.backbone.fc = nn.Linear(self.width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)  # BUG


class NewHeadMended(NewHead):
    width = 1024


@bug("points times their transformation", "points: f32[n, 3, p]", n=4, p=128)
class PointTransform(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(3, 64, 1)
        self.fc = nn.Linear(64, 9)

    def forward(self, points: Tensor) -> Tensor:
        x = torch.relu(self.conv(points))
        x = torch.max(x, 2, keepdim=True)[0]
        trans = self.fc(x.view(-1, 64)).view(-1, 3, 3)
        return torch.bmm(points, trans)  # BUG


class PointTransformMended(PointTransform):
    def forward(self, points: Tensor) -> Tensor:
        x = torch.relu(self.conv(points))
        x = torch.max(x, 2, keepdim=True)[0]
        trans = self.fc(x.view(-1, 64)).view(-1, 3, 3)
        return torch.bmm(points.transpose(2, 1), trans).transpose(2, 1)


@bug("a causal convolution does not cut its padding", "x: f32[n, 16, t]", n=2, t=50)
class Temporal(nn.Module):
    chomp = False

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(16, 16, 3, padding=2 * 2**i, dilation=2**i) for i in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        for i, conv in enumerate(self.convs):
            y = conv(x)
            if self.chomp:
                y = y[:, :, : -2 * 2**i].contiguous()
            x = F.relu(y) + x  # BUG
        return x


class TemporalMended(Temporal):
    chomp = True


@bug("group_norm in groups that do not divide the channels", "x: f32[n, 3, h, w]", n=2, h=8, w=8)
def norm_by_groups(x: Tensor, groups: int = 8) -> Tensor:
    weight = torch.ones(12, 3, 1, 1)
    return F.group_norm(F.conv2d(x, weight), groups)  # BUG


def norm_by_groups_mended(x: Tensor, groups: int = 4) -> Tensor:
    weight = torch.ones(12, 3, 1, 1)
    return F.group_norm(F.conv2d(x, weight), groups)


@bug("patches by unfold keep the channels apart", "x: f32[n, 3, 64, 64]", n=2)
class UnfoldedPatches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_tokens = nn.Linear(3 * 8 * 8, 96)

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 8, 8).unfold(3, 8, 8)
        patches = patches.contiguous().view(x.size(0), 3, -1, 64)
        return self.to_tokens(patches)  # BUG


class UnfoldedPatchesMended(UnfoldedPatches):
    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, 8, 8).unfold(3, 8, 8)
        patches = patches.permute(0, 2, 3, 1, 4, 5).contiguous().view(x.size(0), -1, 3 * 64)
        return self.to_tokens(patches)


@bug(
    "windows of an image that they do not divide",
    "x: f32[n, h, w, 32]",
    where=("h % 7 == 0", "w % 7 == 0"),
    n=1,
    h=56,
    w=56,
)
class Windows(nn.Module):
    table = (2 * 7) ** 2

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(32, 96), nn.Linear(32, 32)
        self.bias = nn.Parameter(torch.zeros(4, 49, 49))

    def partition(self, x: Tensor, size: int) -> Tensor:
        B, H, W, C = x.shape
        x = x.view(B, H // size, size, W // size, size, C)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, size * size, C)

    def attend(self, x: Tensor) -> Tensor:
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, 4, C // 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k) + self.bias  # BUG
        return self.proj((attn.softmax(-1) @ v).transpose(1, 2).reshape(B_, N, C))

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.partition(x, 7))


class WindowsMended(Windows):
    def attend(self, x: Tensor) -> Tensor:
        B_, N, C = x.shape
        qkv = self.qkv(x).reshape(B_, N, 3, 4, C // 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) + self.bias.unsqueeze(0)
        return self.proj((attn.softmax(-1) @ v).transpose(1, 2).reshape(B_, N, C))


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, 2, 1)
        self.deep = nn.Conv2d(24, 48, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Any]:
        low = F.relu(self.stem(x))
        return {"low": low, "out": F.relu(self.deep(low))}


@bug("a head takes the other entry of a dict", "x: f32[n, 3, h, w]", n=2, h=32, w=32)
class DictOfFeatures(nn.Module):
    key = "low"

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.classifier = nn.Conv2d(48, 21, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        input_shape = x.shape[-2:]
        features = self.backbone(x)
        y = self.classifier(features[self.key])  # BUG
        y = F.interpolate(y, size=input_shape, mode="bilinear", align_corners=False)
        return OrderedDict(out=y)


class DictOfFeaturesMended(DictOfFeatures):
    key = "out"
