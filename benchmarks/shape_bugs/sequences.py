"""Shape bugs of recurrent networks, embeddings and attention.

The file is long because each bug is a program of its own, with its mended version.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.shape_bugs.cases import bug


@bug("the pair that LSTM returns goes to Linear", "x: f32[n, t, 8]", n=4, t=10)
class PairOfLSTM(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.lstm(x)
        return self.fc(out)  # BUG


class PairOfLSTMMended(PairOfLSTM):
    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out)


@bug("batch_first is missing", "x: f32[n, t, 8]", "y: i64[n]", n=4, t=10)
class BatchNotFirst(nn.Module):
    first = False

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, batch_first=self.first)
        self.fc = nn.Linear(16, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h0 = torch.zeros(1, x.size(0), 16)
        c0 = torch.zeros(1, x.size(0), 16)
        out, _ = self.lstm(x, (h0, c0))  # BUG
        return F.cross_entropy(self.fc(out[:, -1]), y)


class BatchNotFirstMended(BatchNotFirst):
    first = True


@bug("the last step of the wrong dimension", "x: f32[n, t, 8]", "y: i64[n]", n=4, t=10)
class LastStep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out, _ = self.gru(x)
        last = out[-1]
        logits = self.fc(last)
        return F.cross_entropy(logits, y)  # BUG


class LastStepMended(LastStep):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return F.cross_entropy(self.fc(out[:, -1]), y)


@bug("a hidden state for one layer of two", "x: f32[n, t, 8]", n=4, t=10)
class HiddenLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 16, num_layers=2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(1, x.size(0), 16, device=x.device)
        out, _ = self.gru(x, h0)  # BUG
        return out


class HiddenLayersMended(HiddenLayers):
    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(2, x.size(0), 16, device=x.device)
        return self.gru(x, h0)[0]


@bug("a hidden state of another width", "x: f32[n, t, 8]", "h: f32[1, n, 32]", n=4, t=10)
class HiddenWidth(nn.Module):
    hidden = 64

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, self.hidden, batch_first=True)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        out, h = self.gru(x, h)  # BUG
        return out[:, -1]


class HiddenWidthMended(HiddenWidth):
    hidden = 32


@bug("a hidden state kept for one batch size", "x: f32[n, t, 8]", n=16, t=10)
class KeptHidden(nn.Module):
    hidden: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(8, 16, batch_first=True)
        self.register_buffer("hidden", torch.zeros(1, 32, 16))

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x, self.hidden)  # BUG
        return out


class KeptHiddenMended(KeptHidden):
    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.rnn(x, self.hidden[:, :1].expand(-1, x.size(0), -1).contiguous())
        return out


@bug("Linear forgets that LSTM is bidirectional", "x: f32[n, t, 8]", n=4, t=10)
class BothDirections(nn.Module):
    features = 16

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 16, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(self.features, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x)
        return self.fc(out[:, -1, :])  # BUG


class BothDirectionsMended(BothDirections):
    features = 32


@bug("the width of an embedding is not the LSTM's", "ids: i64[n, t]", n=4, t=10)
class EmbeddingWidth(nn.Module):
    width = 100

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, self.width)
        self.lstm = nn.LSTM(128, 64, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        e = self.embed(ids)
        _, (h, _) = self.lstm(e)  # BUG
        return h[-1]


class EmbeddingWidthMended(EmbeddingWidth):
    width = 128


@bug("ids as float", "ids: f32[n, t]", n=4, t=10)
class FloatIds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(1000, 32)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embed(ids).mean(1)  # BUG


class FloatIdsMended(FloatIds):
    def forward(self, ids: Tensor) -> Tensor:
        return self.embed(ids.long()).mean(1)


@bug("one step of LSTMCell gets the whole sequence", "x: f32[n, 12, 8]", n=4)
class CellOfSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(8, 16)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 16)
        c = torch.zeros(x.size(0), 16)
        for _ in range(x.size(1)):
            h, c = self.cell(x, (h, c))  # BUG
        return h


class CellOfSequenceMended(CellOfSequence):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), 16)
        c = torch.zeros(x.size(0), 16)
        for i in range(x.size(1)):
            h, c = self.cell(x[:, i], (h, c))
        return h


@bug("BatchNorm1d over features that are last", "x: f32[n, t, 64]", n=4, t=10)
class NormOfSequence(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(64)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x)  # BUG


class NormOfSequenceMended(NormOfSequence):
    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x.transpose(1, 2)).transpose(1, 2)


@bug("an embedding to Conv1d without transpose", "ids: i64[n, t]", where=("t >= 3",), n=4, t=20)
class TextConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(500, 64), nn.Conv1d(64, 100, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        x = F.relu(self.conv(x))  # BUG
        return x.max(dim=-1).values


class TextConvolutionMended(TextConvolution):
    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids).transpose(1, 2)
        return F.relu(self.conv(x)).max(dim=-1).values


@bug("a table of positions is too short", "ids: i64[n, t]", where=("t <= 512",), n=2, t=200)
class ShortPositions(nn.Module):
    table: Tensor
    longest = 128

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(500, 32)
        self.register_buffer("table", torch.zeros(self.longest, 32))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        return x + self.table[: ids.size(1)]  # BUG


class ShortPositionsMended(ShortPositions):
    longest = 512


@bug(
    "positions of the batch instead of the sequence",
    "x: f32[n, t, 32]",
    where=("n <= 256", "t <= 256"),
    n=4,
    t=20,
)
class PositionsOfBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(256, 32))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.size(0)]  # BUG


class PositionsOfBatchMended(PositionsOfBatch):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.size(1)]


@bug("queries times keys without a transpose", "x: f32[n, t, 32]", n=2, t=10)
class KeysNotTransposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        weights = torch.softmax(q @ k / math.sqrt(32), -1)  # BUG
        return weights @ v


class KeysNotTransposedMended(KeysNotTransposed):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        return torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(32), -1) @ v


@bug("heads do not divide the width", "x: f32[n, t, 100]", n=2, t=10)
class HeadsOfWidth(nn.Module):
    heads = 8

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(100, 300)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        q, k, v = self.qkv(x).chunk(3, -1)
        q = q.view(n, t, self.heads, d // self.heads).transpose(1, 2)  # BUG
        k = k.view(n, t, self.heads, d // self.heads).transpose(1, 2)
        v = v.view(n, t, self.heads, d // self.heads).transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).reshape(n, t, d)


class HeadsOfWidthMended(HeadsOfWidth):
    heads = 5


@bug("a view after transpose", "x: f32[n, t, 64]", where=("n >= 2", "t >= 2"), n=2, t=10)
class ViewOfTransposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        heads = x.view(n, t, 4, d // 4).transpose(1, 2)
        return heads.view(n, t, d)  # BUG


class ViewOfTransposedMended(ViewOfTransposed):
    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        heads = x.view(n, t, 4, d // 4).transpose(1, 2)
        return heads.transpose(1, 2).contiguous().view(n, t, d)


@bug("a length written into the merge of heads", "x: f32[n, t, 64]", n=2, t=100)
class WrittenLength(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        n = x.size(0)
        heads = x.view(n, -1, 4, 16).transpose(1, 2)
        merged = heads.transpose(1, 2).reshape(n, 128, -1)  # BUG
        return self.out(merged)  # BUG


class WrittenLengthMended(WrittenLength):
    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        heads = x.view(n, -1, 4, 16).transpose(1, 2)
        return self.out(heads.transpose(1, 2).reshape(n, t, -1))


@bug(
    "a padding mask without the dimensions of heads",
    "x: f32[n, t, 32]",
    "mask: bool[n, t]",
    n=3,
    t=10,
)
class MaskOfPadding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(32, 96)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (
            part.reshape(n, t, 4, 8).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-1, -2)
        scores = scores.masked_fill(mask, float("-inf"))  # BUG
        return scores.softmax(-1) @ v


class MaskOfPaddingMended(MaskOfPadding):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = (
            part.reshape(n, t, 4, 8).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-1, -2)
        scores = scores.masked_fill(mask[:, None, None, :], float("-inf"))
        return scores.softmax(-1) @ v


@bug("key_padding_mask without batch_first", "x: f32[n, t, 32]", "mask: bool[n, t]", n=3, t=10)
class MaskOfKeys(nn.Module):
    first = False

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=self.first)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        out, _ = self.attention(x, x, x, key_padding_mask=mask)  # BUG
        return out


class MaskOfKeysMended(MaskOfKeys):
    first = True


@bug("attn_mask with a batch and no heads", "x: f32[n, t, 32]", "mask: f32[n, t, t]", n=3, t=10)
class MaskOfBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, x, x, attn_mask=mask)[0]  # BUG


class MaskOfBatchMended(MaskOfBatch):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.attention(x, x, x, attn_mask=mask.repeat_interleave(4, dim=0))[0]


@bug("tgt_mask of the source's length", "src: f32[n, s, 32]", "tgt: f32[n, t, 32]", n=2, s=12, t=10)
class MaskOfSource(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 1)

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        size = src.size(1)
        mask = torch.triu(torch.full((size, size), float("-inf")), diagonal=1)
        return self.decoder(tgt, src, tgt_mask=mask)  # BUG


class MaskOfSourceMended(MaskOfSource):
    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        size = tgt.size(1)
        mask = torch.triu(torch.full((size, size), float("-inf")), diagonal=1)
        return self.decoder(tgt, src, tgt_mask=mask)


@bug(
    "a causal mask that is not cut to the sequence",
    "x: f32[n, t, 16]",
    where=("t <= 64",),
    n=2,
    t=50,
)
class UncutMask(nn.Module):
    causal: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.qk = nn.Linear(16, 32)
        self.register_buffer("causal", torch.tril(torch.ones(64, 64)).bool())

    def forward(self, x: Tensor) -> Tensor:
        q, k = self.qk(x).split(16, dim=-1)
        scores = q @ k.transpose(1, 2)
        scores = scores.masked_fill(~self.causal, -1e9)  # BUG
        return scores.softmax(-1) @ x


class UncutMaskMended(UncutMask):
    def forward(self, x: Tensor) -> Tensor:
        t = x.size(1)
        q, k = self.qk(x).split(16, dim=-1)
        scores = q @ k.transpose(1, 2)
        scores = scores.masked_fill(~self.causal[:t, :t], -1e9)
        return scores.softmax(-1) @ x


@bug("d_model is not the width of the embedding", "ids: i64[n, t]", n=2, t=12)
class ModelWidth(nn.Module):
    width = 300

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, self.width)
        layer = nn.TransformerEncoderLayer(512, 8, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embed(ids))  # BUG


class ModelWidthMended(ModelWidth):
    width = 512


@bug(
    "keys and values have another width than queries",
    "text: f32[n, t, 32]",
    "image: f32[n, p, 48]",
    n=2,
    t=7,
    p=16,
)
class CrossAttention(nn.Module):
    keys: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            32, 4, batch_first=True, kdim=self.keys, vdim=self.keys
        )

    def forward(self, text: Tensor, image: Tensor) -> Tensor:
        out, _ = self.attention(text, image, image)  # BUG
        return text + out


class CrossAttentionMended(CrossAttention):
    keys = 48


@bug(
    "the letters of einsum name other dimensions",
    "q: f32[n, t, 4, 8]",
    "k: f32[n, s, 4, 8]",
    n=2,
    t=7,
    s=9,
)
class LettersOfEinsum(nn.Module):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("bqhd,bhkd->bhqk", q, k)  # BUG


class LettersOfEinsumMended(LettersOfEinsum):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("bqhd,bkhd->bhqk", q, k)


@bug(
    "scaled_dot_product_attention with a mask of rank 2",
    "q: f32[n, 4, t, 8]",
    "k: f32[n, 4, s, 8]",
    "mask: bool[n, s]",
    n=3,
    t=7,
    s=9,
)
class MaskOfRankTwo(nn.Module):
    def forward(self, q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, attn_mask=mask)  # BUG


class MaskOfRankTwoMended(MaskOfRankTwo):
    def forward(self, q: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, k, attn_mask=mask[:, None, None])


@bug(
    "rotations without the dimension of heads", "x: f32[n, t, 4, 16]", where=("t <= 64",), n=2, t=10
)
class RotationOfHeads(nn.Module):
    cos: Tensor
    sin: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cos", torch.ones(64, 8))
        self.register_buffer("sin", torch.zeros(64, 8))

    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.size(1)], self.sin[: x.size(1)]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)  # BUG


class RotationOfHeadsMended(RotationOfHeads):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        cos, sin = self.cos[: x.size(1), None], self.sin[: x.size(1), None]
        return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


@bug("weights of steps without the dimension of features", "h: f32[n, t, 16]", n=4, t=10)
class WeightsOfSteps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 1)

    def forward(self, h: Tensor) -> Tensor:
        weights = self.score(h).squeeze(-1).softmax(1)
        return (weights * h).sum(1)  # BUG


class WeightsOfStepsMended(WeightsOfSteps):
    def forward(self, h: Tensor) -> Tensor:
        weights = self.score(h).squeeze(-1).softmax(1)
        return (weights.unsqueeze(-1) * h).sum(1)


@bug(
    "attention of a decoder step: bmm of rank 2",
    "state: f32[n, 16]",
    "memory: f32[n, s, 16]",
    n=4,
    s=9,
)
class BatchedProduct(nn.Module):
    def forward(self, state: Tensor, memory: Tensor) -> Tensor:
        scores = torch.bmm(memory, state)  # BUG
        return scores.softmax(1)


class BatchedProductMended(BatchedProduct):
    def forward(self, state: Tensor, memory: Tensor) -> Tensor:
        return torch.bmm(memory, state.unsqueeze(2)).squeeze(2).softmax(1)


@bug(
    "a context vector repeated without its own dimension",
    "steps: f32[n, t, 16]",
    "context: f32[n, 8]",
    n=4,
    t=9,
)
class RepeatedContext(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, 2)

    def forward(self, steps: Tensor, context: Tensor) -> Tensor:
        context = context.expand(-1, steps.size(1), -1)  # BUG
        return self.fc(torch.cat([steps, context], -1))


class RepeatedContextMended(RepeatedContext):
    def forward(self, steps: Tensor, context: Tensor) -> Tensor:
        context = context.unsqueeze(1).expand(-1, steps.size(1), -1)
        return self.fc(torch.cat([steps, context], -1))


@bug(
    "the state after all steps goes to a classifier with its layers",
    "ids: i64[n, t]",
    "y: i64[n]",
    n=4,
    t=9,
)
class StateWithLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(50, 8), nn.GRU(8, 16, batch_first=True)
        self.fc = nn.Linear(16, 3)

    def forward(self, ids: Tensor, y: Tensor) -> Tensor:
        _, h = self.gru(self.embed(ids))
        logits = self.fc(h)
        return F.cross_entropy(logits, y)  # BUG


class StateWithLayersMended(StateWithLayers):
    def forward(self, ids: Tensor, y: Tensor) -> Tensor:
        _, h = self.gru(self.embed(ids))
        return F.cross_entropy(self.fc(h[-1]), y)
