"""Shape bugs of models of language and of sequences: decoders, masks, heads, caches.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("the last state of a bidirectional LSTM has both directions", "ids: i64[n, t]", n=4, t=12)
class BothDirections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 50, padding_idx=0)
        self.lstm = nn.LSTM(50, 64, num_layers=2, bidirectional=True, batch_first=True, dropout=0.5)
        self.fc = nn.Linear(64 * 2, 3)

    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        _, (hidden, _) = self.lstm(embedded)
        return self.fc(hidden[-1])  # BUG


class BothDirectionsMended(BothDirections):
    def forward(self, ids: Tensor) -> Tensor:
        embedded = self.embedding(ids)
        _, (hidden, _) = self.lstm(embedded)
        return self.fc(torch.cat((hidden[-2, :, :], hidden[-1, :, :]), dim=1))


@bug("outputs of a bidirectional GRU to a decoder of one direction", "ids: i64[n, t]", n=4, t=12)
class EncoderStates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 32)
        self.encoder = nn.GRU(32, 48, bidirectional=True, batch_first=True)
        self.decoder = nn.GRU(32, 48, batch_first=True)
        self.bridge = nn.Linear(96, 48)

    def forward(self, ids: Tensor) -> Tensor:
        emb = self.embed(ids)
        _, h = self.encoder(emb)
        out, _ = self.decoder(emb, h)  # BUG
        return out


class EncoderStatesMended(EncoderStates):
    def forward(self, ids: Tensor) -> Tensor:
        emb = self.embed(ids)
        _, h = self.encoder(emb)
        h = torch.tanh(self.bridge(torch.cat([h[0], h[1]], dim=1))).unsqueeze(0)
        out, _ = self.decoder(emb, h)
        return out


@bug("steps of a decoder with a dimension too many", "src: i64[n, s]", "trg: i64[n, 6]", n=4, s=9)
class TeacherForcing(nn.Module):
    squeeze = False

    def __init__(self) -> None:
        super().__init__()
        self.src, self.trg = nn.Embedding(80, 16), nn.Embedding(90, 16)
        self.encoder = nn.GRU(16, 32, batch_first=True)
        self.cell = nn.GRU(16, 32, batch_first=True)
        self.out = nn.Linear(32, 90)

    def forward(self, src: Tensor, trg: Tensor) -> Tensor:
        batch_size, trg_len = trg.shape
        outputs = torch.zeros(batch_size, trg_len, 90)
        _, hidden = self.encoder(self.src(src))
        step = trg[:, 0]
        for t in range(1, trg_len):
            output, hidden = self.cell(self.trg(step).unsqueeze(1), hidden)
            logits = self.out(output)
            if self.squeeze:
                logits = logits.squeeze(1)
            outputs[:, t] = logits  # BUG
            step = trg[:, t]
        return outputs


class TeacherForcingMended(TeacherForcing):
    squeeze = True


@bug(
    "logits of all steps with targets that are shifted",
    "src: i64[n, t]",
    where=("t >= 2",),
    n=4,
    t=9,
)
class ShiftedTargets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(90, 16)
        self.rnn = nn.LSTM(16, 16, batch_first=True)
        self.out = nn.Linear(16, 90)

    def forward(self, src: Tensor) -> Tensor:
        logits, _ = self.rnn(self.emb(src))
        logits = self.out(logits)
        return F.cross_entropy(logits.reshape(-1, 90), src[:, 1:].reshape(-1))  # BUG


class ShiftedTargetsMended(ShiftedTargets):
    def forward(self, src: Tensor) -> Tensor:
        logits, _ = self.rnn(self.emb(src[:, :-1]))
        logits = self.out(logits)
        return F.cross_entropy(logits.reshape(-1, 90), src[:, 1:].reshape(-1))


@bug(
    "additive attention joins along the steps", "hidden: f32[n, 32]", "enc: f32[n, s, 64]", n=4, s=7
)
class AdditiveAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn, self.v = nn.Linear(96, 32), nn.Linear(32, 1, bias=False)

    def forward(self, hidden: Tensor, enc: Tensor) -> Tensor:
        src_len = enc.shape[1]
        hidden = hidden.unsqueeze(1).repeat(1, src_len, 1)
        energy = torch.tanh(self.attn(torch.cat((hidden, enc), dim=1)))  # BUG
        return F.softmax(self.v(energy).squeeze(2), dim=1)


class AdditiveAttentionMended(AdditiveAttention):
    def forward(self, hidden: Tensor, enc: Tensor) -> Tensor:
        src_len = enc.shape[1]
        hidden = hidden.unsqueeze(1).repeat(1, src_len, 1)
        energy = torch.tanh(self.attn(torch.cat((hidden, enc), dim=2)))
        return F.softmax(self.v(energy).squeeze(2), dim=1)


@bug("heads that do not divide the width", "x: f32[n, t, 100]", n=2, t=10)
class HeadsOfWidth(nn.Module):
    heads = 8

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(100, 100) for _ in range(3))

    def split(self, x: Tensor) -> Tensor:
        new_shape = (*x.size()[:-1], self.heads, 100 // self.heads)
        return x.view(new_shape).permute(0, 2, 1, 3)  # BUG

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.size(-1))
        context = torch.matmul(F.softmax(scores, dim=-1), v).permute(0, 2, 1, 3).contiguous()
        return context.view(*context.size()[:-2], 100)


class HeadsOfWidthMended(HeadsOfWidth):
    heads = 4


@bug("a view of heads that were transposed", "x: f32[n, t, 64]", where=("t >= 2",), n=2, t=10)
class TransposedHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(64, 192)
        self.out = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.size()
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (y.view(b, t, 8, d // 8).transpose(1, 2) for y in (q, k, v))
        y = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
        return self.out(y.transpose(1, 2).view(b, t, d))  # BUG


class TransposedHeadsMended(TransposedHeads):
    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.size()
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (y.view(b, t, 8, d // 8).transpose(1, 2) for y in (q, k, v))
        y = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
        return self.out(y.transpose(1, 2).contiguous().view(b, t, d))


@bug(
    "a causal mask that forgets the cached keys",
    "x: f32[n, t, 32]",
    "past: f32[n, 4, p, 8]",
    n=2,
    t=3,
    p=5,
)
class CachedKeys(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)

    def mask(self, t: int, s: int) -> Tensor:
        return torch.tril(torch.ones(t, t)).bool()

    def forward(self, x: Tensor, past: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, 4, 8).permute(2, 0, 3, 1, 4)
        k = torch.cat([past, k], dim=2)
        v = torch.cat([past, v], dim=2)
        scores = q @ k.transpose(2, 3)
        mask = self.mask(t, k.size(2))
        scores = scores.masked_fill(~mask, float("-inf"))  # BUG
        return (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1)


class CachedKeysMended(CachedKeys):
    def mask(self, t: int, s: int) -> Tensor:
        return torch.tril(torch.ones(t, s), diagonal=s - t).bool()


@bug("a padding mask with the sequence first", "src: f32[n, t, 32]", "ids: i64[t, n]", n=3, t=7)
class PaddingFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            d_model=32, nhead=4, dim_feedforward=64, batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=2)

    def forward(self, src: Tensor, ids: Tensor) -> Tensor:
        return self.encoder(src, src_key_padding_mask=ids == 1)  # BUG


class PaddingFirstMended(PaddingFirst):
    def forward(self, src: Tensor, ids: Tensor) -> Tensor:
        return self.encoder(src, src_key_padding_mask=(ids == 1).t())


@bug(
    "nn.Transformer with the batch first", "src: f32[n, s, 32]", "tgt: f32[n, t, 32]", n=3, s=7, t=5
)
class WholeTransformer(nn.Module):
    first = False

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.Transformer(32, 4, 1, 1, dim_feedforward=64, batch_first=self.first)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        mask = torch.triu(torch.full((tgt.size(1), tgt.size(1)), float("-inf")), diagonal=1)
        return self.transformer(src, tgt, tgt_mask=mask)  # BUG


class WholeTransformerMended(WholeTransformer):
    first = True


@bug("an encoder layer of another width than the embedding", "ids: i64[n, t]", n=3, t=7)
class WidthOfLayer(nn.Module):
    width = 512

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(200, 300)
        self.project = nn.Linear(300, self.width) if self.width == 256 else nn.Identity()
        layer = nn.TransformerEncoderLayer(self.width, 8, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.decoder = nn.Linear(self.width, 200)

    def forward(self, ids: Tensor) -> Tensor:
        src = self.project(self.embed(ids)) * math.sqrt(300)
        output = self.encoder(src)  # BUG
        return self.decoder(output)


class WidthOfLayerMended(WidthOfLayer):
    width = 256


@bug("cosines of an odd width", "x: f32[n, t, 33]", where=("t <= 60",), n=3, t=7)
class OddWidth(nn.Module):
    def encode(self, length: int, width: int) -> Tensor:
        position = torch.arange(length).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        pe = torch.zeros(length, width)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)  # BUG
        return pe

    def forward(self, x: Tensor) -> Tensor:
        return x + self.encode(60, x.size(-1))[: x.size(1)]


class OddWidthMended(OddWidth):
    def encode(self, length: int, width: int) -> Tensor:
        position = torch.arange(length).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
        pe = torch.zeros(length, width)
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term[: width // 2])
        return pe


@bug(
    "the table of positions has the sequence first",
    "x: f32[n, t, 64]",
    where=("t <= 500",),
    n=3,
    t=7,
)
class PositionsFirst(nn.Module):
    pe: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pe", torch.zeros(500, 1, 64))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pe[: x.size(1)]  # BUG
        return self.dropout(x)


class PositionsFirstMended(PositionsFirst):
    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pe[: x.size(1)].transpose(0, 1)
        return self.dropout(x)


@bug("rotary angles for half of the width of a head", "q: f32[n, 4, t, 16]", n=3, t=7)
class Rotary(nn.Module):
    inv_freq: Tensor

    def __init__(self) -> None:
        super().__init__()
        inv_freq = 1.0 / (10000 ** (torch.arange(0, 16, 2).float() / 16))
        self.register_buffer("inv_freq", inv_freq)

    def angles(self, freqs: Tensor) -> Tensor:
        return freqs

    def forward(self, q: Tensor) -> Tensor:
        t = torch.arange(q.shape[2], device=q.device).type_as(self.inv_freq)
        emb = self.angles(torch.einsum("i,j->ij", t, self.inv_freq))
        cos, sin = emb.cos()[None, None], emb.sin()[None, None]
        half1, half2 = q[..., :8], q[..., 8:]
        rotated = torch.cat((-half2, half1), dim=-1)
        return q * cos + rotated * sin  # BUG


class RotaryMended(Rotary):
    def angles(self, freqs: Tensor) -> Tensor:
        return torch.cat((freqs, freqs), dim=-1)


@bug(
    "a cache of keys is joined along the heads",
    "k: f32[n, 4, t, 8]",
    "cache: f32[n, 4, s, 8]",
    n=2,
    t=1,
    s=6,
)
def extend_cache(k: Tensor, cache: Tensor) -> Tensor:
    return torch.cat((cache, k), 1)  # BUG


def extend_cache_mended(k: Tensor, cache: Tensor) -> Tensor:
    return torch.cat((cache, k), -2)


@bug("the second cell of a stack takes the state of the first", "x: f32[n, 10, 8]", n=4)
class StackOfCells(nn.Module):
    inside = 8

    def __init__(self) -> None:
        super().__init__()
        self.cell1 = nn.LSTMCell(8, 51)
        self.cell2 = nn.LSTMCell(self.inside, 51)
        self.linear = nn.Linear(51, 1)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        n_samples = x.size(0)
        h_t = torch.zeros(n_samples, 51, dtype=torch.float32)
        c_t = torch.zeros(n_samples, 51, dtype=torch.float32)
        h_t2 = torch.zeros(n_samples, 51, dtype=torch.float32)
        c_t2 = torch.zeros(n_samples, 51, dtype=torch.float32)
        for input_t in torch.split(x, 1, dim=1):
            h_t, c_t = self.cell1(input_t.squeeze(1), (h_t, c_t))
            h_t2, c_t2 = self.cell2(h_t, (h_t2, c_t2))  # BUG
            outputs.append(self.linear(h_t2))
        return torch.cat(outputs, dim=1)


class StackOfCellsMended(StackOfCells):
    inside = 51


@bug("projections of an LSTM", "x: f32[n, t, 20]", n=4, t=5)
class Projected(nn.Module):
    width = 128

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(20, 128, num_layers=2, proj_size=32, batch_first=True)
        self.fc = nn.Sequential(nn.LayerNorm(self.width), nn.Linear(self.width, 4))

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.rnn(x)
        return self.fc(y[:, -1])  # BUG


class ProjectedMended(Projected):
    width = 32


@bug(
    "ctc_loss of log probabilities with the batch first",
    "x: f32[n, t, 20]",
    "y: i64[n, 6]",
    n=4,
    t=50,
)
class Ctc(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(20, 29)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        log_probs = F.log_softmax(self.fc(x), dim=2)
        input_lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        target_lengths = torch.full((x.size(0),), y.size(1), dtype=torch.long)
        return F.ctc_loss(log_probs, y, input_lengths, target_lengths)  # BUG


class CtcMended(Ctc):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        log_probs = F.log_softmax(self.fc(x), dim=2).permute(1, 0, 2)
        input_lengths = torch.full((x.size(0),), x.size(1), dtype=torch.long)
        target_lengths = torch.full((x.size(0),), y.size(1), dtype=torch.long)
        return F.ctc_loss(log_probs, y, input_lengths, target_lengths)


@bug("tied weights of a hidden state of another width", "ids: i64[n, t]", n=4, t=5)
class TiedWeights(nn.Module):
    hidden = 200

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Embedding(500, 100)
        self.rnn = nn.GRU(100, self.hidden, batch_first=True)
        self.decoder = nn.Linear(self.hidden, 500)
        self.decoder.weight = self.encoder.weight

    def forward(self, ids: Tensor) -> Tensor:
        output, _ = self.rnn(self.encoder(ids))
        decoded = self.decoder(output)  # BUG
        return decoded.view(-1, 500)


class TiedWeightsMended(TiedWeights):
    hidden = 100


@bug("windows of words with the features last", "text: i64[n, t]", where=("t >= 5",), n=4, t=20)
class TextCnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(1000, 128)
        self.convs = nn.ModuleList(nn.Conv1d(128, 100, k) for k in (3, 4, 5))
        self.fc = nn.Linear(300, 2)

    def forward(self, text: Tensor) -> Tensor:
        x = self.emb(text)
        pooled = [F.relu(conv(x)).max(dim=2).values for conv in self.convs]  # BUG
        return self.fc(torch.cat(pooled, 1))


class TextCnnMended(TextCnn):
    def forward(self, text: Tensor) -> Tensor:
        x = self.emb(text).permute(0, 2, 1)
        pooled = [F.relu(conv(x)).max(dim=2).values for conv in self.convs]
        return self.fc(torch.cat(pooled, 1))


@bug("the filters of all windows are joined", "text: i64[n, t]", where=("t >= 5",), n=4, t=20)
class FiltersOfWindows(nn.Module):
    features = 100

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 64)
        self.convs1 = nn.ModuleList([nn.Conv2d(1, 100, (k, 64)) for k in [3, 4, 5]])
        self.fc1 = nn.Linear(self.features, 2)

    def forward(self, text: Tensor) -> Tensor:
        x = self.embed(text).unsqueeze(1)
        xs = [F.relu(conv(x)).squeeze(3) for conv in self.convs1]
        xs = [F.max_pool1d(i, i.size(2)).squeeze(2) for i in xs]
        return self.fc1(torch.cat(xs, 1))  # BUG


class FiltersOfWindowsMended(FiltersOfWindows):
    features = 300


@bug("one-hot letters with the letters last", "ids: i64[n, t]", where=("t >= 7",), n=4, t=30)
class Letters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(70, 32, 7)

    def forward(self, ids: Tensor) -> Tensor:
        x = F.one_hot(ids, 70).float()
        return self.conv(x)  # BUG


class LettersMended(Letters):
    def forward(self, ids: Tensor) -> Tensor:
        x = F.one_hot(ids, 70).float()
        return self.conv(x.transpose(1, 2))


@bug(
    "a batch norm between the layers of a sequence",
    "x: f32[n, t, 12]",
    where=("n * t >= 2",),
    n=4,
    t=9,
)
class NormOfSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 24, batch_first=True)
        self.bn = nn.BatchNorm1d(24)

    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x)[0]
        return self.bn(y)  # BUG


class NormOfStepsMended(NormOfSteps):
    def forward(self, x: Tensor) -> Tensor:
        y = self.lstm(x)[0]
        return self.bn(y.transpose(1, 2)).transpose(1, 2)


@bug("the letters of einsum put heads before positions", "x: f32[n, t, 64]", n=2, t=10)
class LettersOfHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(64, 3 * 64, bias=False)
        self.to_out = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (y.reshape(b, n, 4, 16) for y in self.to_qkv(x).split(64, dim=-1))
        attn = torch.einsum("bihd,bjhd->bhij", q, k).softmax(dim=-1)
        out = torch.einsum("bhij,bhjd->bihd", attn, v)  # BUG
        return self.to_out(out.reshape(b, n, -1))


class LettersOfHeadsMended(LettersOfHeads):
    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = (y.reshape(b, n, 4, 16) for y in self.to_qkv(x).split(64, dim=-1))
        attn = torch.einsum("bihd,bjhd->bhij", q, k).softmax(dim=-1)
        out = torch.einsum("bhij,bjhd->bihd", attn, v)
        return self.to_out(out.reshape(b, n, -1))


@bug("groups of keys are not repeated", "x: f32[n, t, 64]", n=2, t=10)
class GroupedQueries(nn.Module):
    repeat = False

    def __init__(self) -> None:
        super().__init__()
        self.wq, self.wk, self.wv = nn.Linear(64, 64), nn.Linear(64, 16), nn.Linear(64, 16)

    def forward(self, x: Tensor) -> Tensor:
        bsz, seqlen, _ = x.shape
        xq = self.wq(x).view(bsz, seqlen, 8, 8).transpose(1, 2)
        xk = self.wk(x).view(bsz, seqlen, 2, 8).transpose(1, 2)
        xv = self.wv(x).view(bsz, seqlen, 2, 8).transpose(1, 2)
        if self.repeat:
            xk, xv = xk.repeat_interleave(4, dim=1), xv.repeat_interleave(4, dim=1)
        out = F.scaled_dot_product_attention(xq, xk, xv, is_causal=True)  # BUG
        return out.transpose(1, 2).flatten(2)


class GroupedQueriesMended(GroupedQueries):
    repeat = True


@bug("an update of low rank in the wrong order", "x: f32[n, t, 64]", n=2, t=10)
class LowRank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(64, 128)
        self.a = nn.Parameter(torch.zeros(4, 64))
        self.b = nn.Parameter(torch.zeros(128, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a @ self.b  # BUG


class LowRankMended(LowRank):
    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


@bug("gates of experts without the features", "x: f32[n, t, 32]", n=2, t=10)
class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(32, 6)
        self.experts = nn.ModuleList([nn.Linear(32, 32) for _ in range(6)])

    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)
        return torch.sum(weights * outputs, dim=2)  # BUG


class ExpertsMended(Experts):
    def forward(self, x: Tensor) -> Tensor:
        weights = F.softmax(self.gate(x), dim=-1)
        outputs = torch.stack([expert(x) for expert in self.experts], dim=2)
        return torch.sum(weights.unsqueeze(-1) * outputs, dim=2)


@bug("a packed sequence goes to a linear layer", "x: f32[n, t, 8]", "lengths: i64[n]", n=3, t=6)
class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        out, _ = self.gru(packed)
        return self.fc(out)  # BUG


class PackedMended(Packed):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
        )
        out, _ = self.gru(packed)
        out, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        return self.fc(out)


@bug("forecasts are stacked with time first", "x: f32[n, 24]", "y: f32[n, 5]", silent=True, n=3)
class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.GRUCell(1, 16), nn.Linear(16, 1)

    def join(self, steps: list[Tensor]) -> Tensor:
        return torch.stack(steps)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 16)
        for i in range(x.shape[1]):
            h = self.cell(x[:, i : i + 1], h)
        steps, step = [], self.out(h)
        for _ in range(y.shape[1]):
            steps.append(step)
            h = self.cell(step, h)
            step = self.out(h)
        return F.mse_loss(self.join(steps), y)  # BUG


class ForecastMended(Forecast):
    def join(self, steps: list[Tensor]) -> Tensor:
        return torch.cat(steps, dim=1)
