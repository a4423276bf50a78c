"""Shape bugs as people report them: one change of a known program, or of a line of its dtypes.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug(
    "einsum of queries and keys with the same letter for lengths",
    "q: f32[n, s, 32]",
    "k: f32[n, t, 32]",
    where=("s >= 2", "t >= 2"),
    n=2,
    s=5,
    t=7,
)
class SelfAttentionScratch(nn.Module):
    eq = "nqhd,nqhd->nhq"

    def __init__(self) -> None:
        super().__init__()
        self.h, self.d = 4, 8
        self.wq = nn.Linear(8, 8, bias=False)
        self.wk = nn.Linear(8, 8, bias=False)
        self.o = nn.Linear(32, 32)

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        N, S, T = q.shape[0], q.shape[1], k.shape[1]
        v = k.reshape(N, T, self.h, self.d)
        q = self.wq(q.reshape(N, S, self.h, self.d))
        k = self.wk(v)
        energy = torch.einsum("nqhd,nqhd->nhq", [q, k])  # BUG
        att = torch.softmax(energy / (32**0.5), dim=-1)
        return self.o(torch.einsum("nhq,nqhd->nqhd", [att, v]).reshape(N, T, 32))


class SelfAttentionScratchMended(SelfAttentionScratch):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        N, S, T = q.shape[0], q.shape[1], k.shape[1]
        v = k.reshape(N, T, self.h, self.d)
        q = self.wq(q.reshape(N, S, self.h, self.d))
        k = self.wk(v)
        energy = torch.einsum("nqhd,nkhd->nhqk", [q, k])
        att = torch.softmax(energy / (32**0.5), dim=3)
        return self.o(torch.einsum("nhql,nlhd->nqhd", [att, v]).reshape(N, S, self.h * self.d))


@bug(
    "F.pad with the differences in the wrong order",
    "x: f32[n, 3, h, w]",
    where=("h >= 4", "w >= 4"),
    n=1,
    h=33,
    w=48,
)
class UNetPad(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inc = nn.Conv2d(3, 8, 3, padding=1)
        self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1))
        self.up = nn.ConvTranspose2d(16, 8, kernel_size=2, stride=2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.up(self.down(x1))
        diffY = x1.size()[2] - x2.size()[2]
        diffX = x1.size()[3] - x2.size()[3]
        x2 = F.pad(x2, [diffY // 2, diffY - diffY // 2, diffX // 2, diffX - diffX // 2])
        return self.out(torch.cat([x1, x2], dim=1))  # BUG


class UNetPadMended(UNetPad):
    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.up(self.down(x1))
        diffY = x1.size()[2] - x2.size()[2]
        diffX = x1.size()[3] - x2.size()[3]
        x2 = F.pad(x2, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        return self.out(torch.cat([x1, x2], dim=1))


@bug(
    "outputs of a decoder loop stored with batch and time exchanged",
    "src: i64[n, s]",
    "trg: i64[n, 6]",
    where=("n >= 7",),
    n=8,
    s=5,
)
class Seq2SeqLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2 = nn.Embedding(30, 16), nn.Embedding(40, 16)
        self.enc = nn.GRU(16, 32, batch_first=True)
        self.dec = nn.GRU(16, 32, batch_first=True)
        self.fc = nn.Linear(32, 40)

    def forward(self, src: Tensor, trg: Tensor) -> Tensor:
        batch, L = trg.shape
        outputs = torch.zeros(L, batch, 40)
        _, h = self.enc(self.e1(src))
        tok = trg[:, 0]
        for t in range(1, L):
            o, h = self.dec(self.e2(tok).unsqueeze(1), h)
            outputs[:, t] = self.fc(o.squeeze(1))  # BUG
            tok = trg[:, t]
        return outputs


class Seq2SeqLoopMended(Seq2SeqLoop):
    def forward(self, src: Tensor, trg: Tensor) -> Tensor:
        batch, L = trg.shape
        outputs = torch.zeros(batch, L, 40)
        _, h = self.enc(self.e1(src))
        tok = trg[:, 0]
        for t in range(1, L):
            o, h = self.dec(self.e2(tok).unsqueeze(1), h)
            outputs[:, t] = self.fc(o.squeeze(1))
            tok = trg[:, t]
        return outputs


@bug(
    "degrees of nodes divide features",
    "x: f32[v, 16]",
    "edge: i64[2, e]",
    where=("e >= 17",),
    v=10,
    e=30,
)
class SageMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(32, 8)

    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        row, col = edge
        msgs = x[col]
        out = torch.zeros_like(x)
        out.index_add_(0, row, msgs)
        deg = torch.zeros(x.size(0)).index_add_(0, row, torch.ones(row.size(0)))
        out = out / deg.clamp(min=1)  # BUG
        return self.lin(torch.cat([x, out], dim=-1))


class SageMeanMended(SageMean):
    def forward(self, x: Tensor, edge: Tensor) -> Tensor:
        row, col = edge
        out = torch.zeros_like(x)
        out.index_add_(0, row, x[col])
        deg = torch.zeros(x.size(0)).index_add_(0, row, torch.ones(row.size(0)))
        out = out / deg.clamp(min=1).unsqueeze(-1)
        return self.lin(torch.cat([x, out], dim=-1))


@bug("positions of arange go into Linear as integers", "x: f32[n, t, 8]", n=2, t=5)
class IntPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pos = nn.Linear(1, 8)

    def forward(self, x: Tensor) -> Tensor:
        p = torch.arange(x.size(1), device=x.device).unsqueeze(-1)
        return x + self.pos(p)  # BUG


class IntPositionsMended(IntPositions):
    def forward(self, x: Tensor) -> Tensor:
        p = torch.arange(x.size(1), device=x.device, dtype=x.dtype).unsqueeze(-1)
        return x + self.pos(p)


@bug("an expanded view is changed in place", "x: f32[n, 8]", where=("n >= 2",), n=3)
def expanded(x: Tensor) -> Tensor:
    base = torch.zeros(1, 8).expand(x.size(0), 8)
    base += x  # BUG
    return base


def expanded_mended(x: Tensor) -> Tensor:
    base = torch.zeros(1, 8).expand(x.size(0), 8).clone()
    base += x
    return base


@bug(
    "lengths of ctc_loss for each step",
    "x: f32[n, t, 20]",
    "y: i64[n, 4]",
    where=("t >= 10",),
    n=3,
    t=30,
)
class CtcLengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(20, 16, batch_first=True)
        self.fc = nn.Linear(16, 11)
        self.ctc = nn.CTCLoss(blank=0, zero_infinity=True)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(self.rnn(x)[0]).log_softmax(2)
        il = torch.full((x.size(1),), x.size(1), dtype=torch.long)
        tl = torch.full((x.size(0),), y.size(1), dtype=torch.long)
        return self.ctc(logits.permute(1, 0, 2), y, il, tl)  # BUG


class CtcLengthsMended(CtcLengths):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        logits = self.fc(self.rnn(x)[0]).log_softmax(2)
        il = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        tl = torch.full((x.size(0),), y.size(1), dtype=torch.long)
        return self.ctc(logits.permute(1, 0, 2), y, il, tl)


@bug(
    "shift of logits and labels in a causal LM",
    "ids: i64[n, t]",
    where=("t >= 2", "t <= 64"),
    n=2,
    t=8,
)
class GptShift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.lm = GPT2LMHeadModel(
            GPT2Config(vocab_size=90, n_embd=32, n_layer=1, n_head=2, n_positions=64)
        )

    def forward(self, ids: Tensor) -> Tensor:
        logits = self.lm(ids).logits
        shift_logits = logits[..., :-1, :].contiguous()
        shift_labels = ids.contiguous()
        return F.cross_entropy(  # BUG
            shift_logits.view(-1, shift_logits.size(-1)), shift_labels.view(-1)
        )


class GptShiftMended(GptShift):
    def forward(self, ids: Tensor) -> Tensor:
        logits = self.lm(ids).logits
        shift_logits = logits[..., :-1, :].contiguous()
        shift_labels = ids[..., 1:].contiguous()
        return F.cross_entropy(shift_logits.view(-1, shift_logits.size(-1)), shift_labels.view(-1))


@bug(
    "the head of a backbone is replaced with another width",
    "x: f32[n, 3, h, w]",
    where=("h >= 32", "w >= 32"),
    n=2,
    h=64,
    w=64,
)
class Finetune(nn.Module):
    width = 2048

    def __init__(self) -> None:
        super().__init__()
        from transformers import ResNetConfig, ResNetForImageClassification

        self.net = ResNetForImageClassification(
            ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        )
        self.net.classifier = nn.Sequential(nn.Flatten(), nn.Linear(self.width, 5))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(pixel_values=x).logits  # BUG


class FinetuneMended(Finetune):
    width = 16


@bug(
    "dice of masks with and without a channel",
    "p: f32[n, 1, h, w]",
    "m: f32[n, h, w]",
    silent=True,
    n=4,
    h=8,
    w=8,
)
def dice(p: Tensor, m: Tensor) -> Tensor:
    p = torch.sigmoid(p)
    inter = (p * m).sum(dim=(-2, -1))  # BUG
    union = p.sum(dim=(-2, -1)) + m.sum(dim=(-2, -1))
    return 1 - ((2.0 * inter + 1) / (union + 1)).mean()


def dice_mended(p: Tensor, m: Tensor) -> Tensor:
    p = torch.sigmoid(p).squeeze(1)
    inter = (p * m).sum(dim=(-2, -1))
    union = p.sum(dim=(-2, -1)) + m.sum(dim=(-2, -1))
    return 1 - ((2.0 * inter + 1) / (union + 1)).mean()


@bug("label smoothing scatters a flat target", "logits: f32[n, t, 30]", "y: i64[n, t]", n=3, t=4)
class LabelSmoothing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.KLDivLoss(reduction="sum")

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        x = logits.reshape(-1, 30).log_softmax(-1)
        true = torch.full_like(x, 0.1 / 28)
        true.scatter_(1, y.unsqueeze(1), 0.9)  # BUG
        return self.c(x, true)


class LabelSmoothingMended(LabelSmoothing):
    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        x = logits.reshape(-1, 30).log_softmax(-1)
        true = torch.full_like(x, 0.1 / 28)
        true.scatter_(1, y.reshape(-1).unsqueeze(1), 0.9)
        return self.c(x, true)


@bug("a float64 time feature joins float32", "x: f32[n, 8]", n=4)
class DoubleTime(nn.Module):
    freqs: Tensor
    dt = torch.float64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("freqs", torch.from_numpy(np.linspace(0, 1, 8)).to(self.dt))
        self.lin = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.lin(x * self.freqs)  # BUG


class DoubleTimeMended(DoubleTime):
    dt = torch.float32


@bug(
    "nearest neighbors are gathered without the feature dimension",
    "x: f32[n, p, 3]",
    where=("p >= 8",),
    n=2,
    p=20,
)
def knn_features(x: Tensor) -> Tensor:
    d = torch.cdist(x, x)
    idx = d.topk(8, dim=-1, largest=False).indices
    nbrs = torch.gather(x.unsqueeze(1), 2, idx)  # BUG
    return nbrs - x.unsqueeze(2)


def knn_features_mended(x: Tensor) -> Tensor:
    d = torch.cdist(x, x)
    idx = d.topk(8, dim=-1, largest=False).indices
    n, p, _ = x.shape
    nbrs = torch.gather(
        x.unsqueeze(1).expand(n, p, p, 3), 2, idx.unsqueeze(-1).expand(-1, -1, -1, 3)
    )
    return nbrs - x.unsqueeze(2)


@bug(
    "a spectrogram is fed to a Linear of n_fft bins",
    "wav: f32[n, t]",
    where=("t >= 1024",),
    n=2,
    t=16000,
)
class SpecNet(nn.Module):
    window: Tensor
    bins = 400

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(400))
        self.lin = nn.Linear(self.bins, 64)

    def forward(self, wav: Tensor) -> Tensor:
        s = torch.stft(wav, 400, hop_length=160, window=self.window, return_complex=True).abs()
        return self.lin(s.transpose(1, 2)).mean(1)  # BUG


class SpecNetMended(SpecNet):
    bins = 201


@bug("InfoNCE labels of half of the rows", "a: f32[n, 16]", "b: f32[n, 16]", where=("n >= 2",), n=4)
def nt_xent(a: Tensor, b: Tensor) -> Tensor:
    z = F.normalize(torch.cat([a, b], dim=0), dim=1)
    sim = z @ z.t() / 0.5
    mask = torch.eye(2 * a.size(0), dtype=torch.bool)
    sim = sim.masked_fill(mask, -1e9)
    labels = torch.arange(a.size(0)) + a.size(0)
    return F.cross_entropy(sim, labels)  # BUG


def nt_xent_mended(a: Tensor, b: Tensor) -> Tensor:
    z = F.normalize(torch.cat([a, b], dim=0), dim=1)
    sim = z @ z.t() / 0.5
    mask = torch.eye(2 * a.size(0), dtype=torch.bool)
    sim = sim.masked_fill(mask, -1e9)
    m = a.size(0)
    labels = torch.cat([torch.arange(m) + m, torch.arange(m)])
    return F.cross_entropy(sim, labels)


@bug(
    "depths of samples broadcast against rays",
    "o: f32[r, 3]",
    "d: f32[r, 3]",
    where=("r >= 65",),
    r=100,
)
class Rays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 4))

    def points(self, o: Tensor, d: Tensor, z: Tensor) -> Tensor:
        return o + d * z  # BUG

    def forward(self, o: Tensor, d: Tensor) -> Tensor:
        z = torch.linspace(2.0, 6.0, steps=64)
        pts = self.points(o, d, z)
        rgb, sigma = self.mlp(pts).split([3, 1], dim=-1)
        alpha = 1 - torch.exp(-F.relu(sigma[..., 0]))
        w = (
            alpha
            * torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], -1), -1)[
                :, :-1
            ]
        )
        return (w[..., None] * rgb.sigmoid()).sum(-2)


class RaysMended(Rays):
    def points(self, o: Tensor, d: Tensor, z: Tensor) -> Tensor:
        return o[:, None, :] + d[:, None, :] * z[:, None]


@bug(
    "a residual is added into a slice of one channel",
    "x: f32[n, 8, t]",
    where=("t >= 3",),
    n=2,
    t=9,
)
class AddedIntoSlice(nn.Module):
    width = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)[:, : self.width]
        y += x  # BUG
        return y.relu()


class AddedIntoSliceMended(AddedIntoSlice):
    width = 8


@bug("fractions are counted into integers", "scores: f32[n, 5]", n=4)
def counted(scores: Tensor) -> Tensor:
    counts = torch.zeros(5, dtype=torch.long)
    counts += scores.softmax(1).sum(0)  # BUG
    return counts


def counted_mended(scores: Tensor) -> Tensor:
    counts = torch.zeros(5)
    counts += scores.softmax(1).sum(0)
    return counts


@bug("a first state of float64", "x: f32[n, t, 8]", n=3, t=4)
class StateOfDoubles(nn.Module):
    kind = torch.float64

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(8, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        first = torch.from_numpy(np.zeros((1, 1, 8))).to(self.kind)
        return self.rnn(x, first.expand(1, x.size(0), 8).contiguous())[0]  # BUG


class StateOfDoublesMended(StateOfDoubles):
    kind = torch.float32


@bug("two sequences with other features are padded", "a: f32[n, 6]", "b: f32[m, 7]", n=3, m=5)
def padded(a: Tensor, b: Tensor) -> Tensor:
    return nn.utils.rnn.pad_sequence([a, b], batch_first=True)  # BUG


def padded_mended(a: Tensor, b: Tensor) -> Tensor:
    return nn.utils.rnn.pad_sequence([a, b[:, :6]], batch_first=True)


@bug("an error of a layer is told by the program's own", "x: f32[n, 7]", n=3)
class ToldByTheProgram(nn.Module):
    features = 8

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(self.features, 4)

    def forward(self, x: Tensor) -> Tensor:
        try:
            return self.fc(x)  # BUG
        except RuntimeError as error:
            raise ValueError(f"inputs of {tuple(x.shape)} do not fit") from error


class ToldByTheProgramMended(ToldByTheProgram):
    features = 7
