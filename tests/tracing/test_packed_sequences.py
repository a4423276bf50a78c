"""Packed sequences of constant lengths, against eager."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

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


def test_torchs_functions_are_back_afterwards():
    before = torch._VF._pack_padded_sequence
    symfx.trace(lambda x: roundtrip(x, [5, 3, 2], True), randn(3, 5, 4))
    assert torch._VF._pack_padded_sequence is before
