"""Packed sequences and recurrent networks on them, against eager."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

import symfx

randn = torch.randn


def roundtrip(x, lengths, batch_first, **options):
    packed = pack_padded_sequence(x, lengths, batch_first, options.pop("enforce_sorted", True))
    padded, found = pad_packed_sequence(packed, batch_first, **options)
    return packed.data * 2, packed.batch_sizes, padded, found


CASES = {
    "batch first": ([5, 3, 2], True, {}),
    "time first": ([5, 3, 2], False, {}),
    "equal": ([4, 4, 1], True, {}),
    "unsorted": ([2, 5, 3], True, {"enforce_sorted": False}),
    "longer": ([5, 3, 2], True, {"total_length": 7, "padding_value": -1.5}),
    "shorter": ([3, 2, 1], True, {"total_length": 5}),
}


@pytest.mark.parametrize(("lengths", "batch_first", "options"), CASES.values(), ids=CASES.keys())
def test_packing_and_padding(lengths, batch_first, options):
    def model(x):
        return roundtrip(x, lengths, batch_first, **options)

    x = randn(3, 5, 4) if batch_first else randn(5, 3, 4)
    t = symfx.trace(model, x, dynamic=[(None, None, "feature")])
    v = t.verify(shapes=3)
    assert v and len(v.runs) == 4, str(v)
    for ours, theirs in zip(t(x), model(x), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape


def test_the_length_of_the_batch_may_change():
    def model(x):
        return roundtrip(x, [4, 3, 2], True)

    t = symfx.trace(model, randn(3, 6, 4), dynamic=[(None, "time", None)])
    assert t.verify() and t.check(randn(3, 4, 4)) and not t.check(randn(3, 3, 4))


def test_lengths_that_do_not_fit_are_an_error():
    for lengths in ([3, 5, 2], [5, 3], [5, 3, 0], [6, 3, 2]):
        with pytest.raises((symfx.SymfxError, RuntimeError)):
            symfx.trace(lambda x, n=lengths: roundtrip(x, n, True), randn(3, 5, 4))


def test_a_constant_length_beyond_the_input_is_told():
    def f(x):
        return pack_padded_sequence(x, [7, 3, 2], batch_first=True).data

    with pytest.raises(symfx.errors.TracingError, match="a length of 7 for sequences of 6 steps"):
        symfx.trace(f, randn(3, 6, 4))


def test_torchs_functions_are_back_afterwards():
    before = torch._VF._pack_padded_sequence
    symfx.trace(lambda x: roundtrip(x, [5, 3, 2], True), randn(3, 5, 4))
    assert torch._VF._pack_padded_sequence is before


class Packed(nn.Module):
    """A recurrent network on sequences whose lengths are data."""

    def __init__(self, kind, enforce_sorted, **options):
        super().__init__()
        self.network = kind(4, 6, batch_first=True, **options)
        self.enforce_sorted = enforce_sorted

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, True, self.enforce_sorted)
        output, state = self.network(packed)
        whole = {"total_length": x.shape[1], "padding_value": -1.0}
        padded, found = pad_packed_sequence(output, True, **({} if self.enforce_sorted else whole))
        return padded * 2, found, state


OPTIONS = {
    "plain": {},
    "both ways": {"bidirectional": True},
    "layers": {"num_layers": 2, "dropout": 0.5},
    "no bias": {"bias": False},
}


def equal(model, graph, *args):
    ours, theirs = tree_leaves(graph(*args)), tree_leaves(model(*args))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS.keys())
@pytest.mark.parametrize("enforce_sorted", [True, False])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_networks_on_sequences_whose_lengths_are_data(kind, enforce_sorted, options):
    model = Packed(kind, enforce_sorted, **options).eval()
    example = randn(3, 5, 4), torch.tensor([5, 3, 2])
    dynamic = (("batch", "time", None), ("batch",))
    t = symfx.trace(model, example, dynamic=dynamic)
    assert not t.guards
    for lengths in ([5, 3, 2], [6, 6, 2, 1], [9, 1]):
        if not enforce_sorted:
            lengths = lengths[::-1]
        args = randn(len(lengths), 9, 4), torch.tensor(lengths)
        assert t.check(*args)
        with torch.no_grad():
            equal(model, t.graph_module, *args)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_networks_on_sequences_of_constant_lengths(kind):
    network = kind(4, 6, 2, bidirectional=True)

    def model(x):
        output, state = network(pack_padded_sequence(x, [5, 3, 2]))
        return pad_packed_sequence(output), state

    t = symfx.trace(model, randn(5, 3, 4), dynamic=(("time", None, None),))
    assert t.verify()
    equal(model, t.graph_module, randn(8, 3, 4))


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_packed_sequence_as_input(kind):
    model = kind(4, 6)
    t = symfx.trace(model, (pack_padded_sequence(randn(5, 3, 4), [5, 3, 2]),))
    assert t.verify()
    # The steps are data: with as many rows and steps, they may divide otherwise.
    equal(model, t, pack_padded_sequence(randn(5, 3, 4), [5, 4, 1]))


def test_states_that_are_given():
    network = nn.LSTM(4, 6)

    def model(x, lengths, h, c):
        return network(pack_padded_sequence(x, lengths, enforce_sorted=False), (h, c))[1]

    args = randn(5, 3, 4), torch.tensor([2, 5, 3]), randn(1, 3, 6), randn(1, 3, 6)
    state = (None, "batch", None)
    t = symfx.trace(model, args, dynamic=(("time", "batch", None), ("batch",), state, state))
    other = randn(6, 2, 4), torch.tensor([4, 6]), randn(1, 2, 6), randn(1, 2, 6)
    equal(model, t.graph_module, *other)
    with pytest.raises(symfx.SymfxError, match="Expected hidden size"):
        symfx.trace(model, (*args[:2], randn(1, 4, 6), args[3]))


def test_dropout_of_a_packed_network_in_train_mode():
    model = Packed(nn.GRU, True, num_layers=2, dropout=0.5).train()
    args = randn(3, 5, 4), torch.tensor([5, 3, 2])
    t = symfx.trace(model, args)
    torch.manual_seed(0)
    wanted = model(*args)[0]
    torch.manual_seed(0)
    torch.testing.assert_close(t.graph_module(*args)[0], wanted)


def test_the_sizes_of_packed_data_are_data():
    def model(x, lengths):
        packed = pack_padded_sequence(x, lengths)
        return packed.data, packed.batch_sizes

    t = symfx.trace(
        model, (randn(5, 3, 4), torch.tensor([5, 3, 2])), dynamic=(("t", "b", None), ("b",))
    )
    args = randn(7, 4, 4), torch.tensor([6, 6, 2, 1])
    equal(model, t.graph_module, *args)
    rows, steps = t.graph_module.graph.output_node().args[0]
    assert str(rows.meta["val"].shape[0]).startswith("u")
    assert str(steps.meta["val"].shape[0]).startswith("u")
    with pytest.raises(RuntimeError, match="decreasing order"):
        t(randn(5, 3, 4), torch.tensor([2, 3, 5]))
    with pytest.raises(RuntimeError, match="above 0"):
        t(randn(5, 3, 4), torch.tensor([2, 1, 0]))


def test_a_backward_pass_within_the_trace_is_refused():
    network = nn.GRU(4, 6)

    def model(x, lengths):
        y = network(pack_padded_sequence(x, lengths))[0].data.sum()
        return torch.autograd.grad(y, network.weight_ih_l0)[0]

    with pytest.raises(symfx.SymfxError, match="backward"):
        symfx.trace(model, (randn(5, 3, 4), torch.tensor([5, 3, 2])))


def test_torchs_modules_are_back_afterwards():
    before = nn.GRU.forward
    symfx.trace(Packed(nn.GRU, True), (randn(3, 5, 4), torch.tensor([5, 3, 2])))
    assert nn.GRU.forward is before
