"""Recurrent layers and transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.utils import rnn

from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.sizes import UNKNOWN, Dim, Packed, Shape, Sizes
from symfx.shape_rules.table import at_least, exactly, is_size, module_rule, refuse_other, rule
from symfx.shape_rules.weights import weight_shape

__all__: list[str] = []


@rule(rnn.pack_padded_sequence)
def pack(
    d: Sizes,
    input: Shape,
    lengths: Any,
    batch_first: bool = False,
    enforce_sorted: bool = True,
) -> Packed:
    """Pack padded sequences, one length for each."""
    at_least(input, 2, "pack_padded_sequence")
    if isinstance(lengths, Shape):
        batch = input[0] if batch_first else input[1]
        d.equal(
            exactly(lengths, 1, "the lengths")[0], batch, "there is one length for each sequence"
        )
    return Packed(input, batch_first)


@rule(rnn.pad_packed_sequence)
def unpack(
    d: Sizes,
    sequence: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: Any = None,
) -> Any:
    """Pad packed sequences to the longest one, whose length depends on data, or to a length."""
    if not isinstance(sequence, Packed):
        return UNKNOWN
    batch, time = sequence.shape[:2] if sequence.batch_first else sequence.shape[1::-1]
    if is_size(total_length):
        longest: Dim = total_length
    else:
        longest = d.fresh("the longest sequence")
        d.require("<=", longest, time, "no sequence is longer than the padding")
    front = (batch, longest) if batch_first else (longest, batch)
    return (Shape((*front, *sequence.shape[2:])), Shape((batch,)))


@rule(torch._C._nn.pad_sequence, torch.ops.aten.pad_sequence)
def pad(
    d: Sizes,
    sequences: Any,
    batch_first: bool = False,
    padding_value: float = 0.0,
    padding_side: str = "right",
) -> Any:
    """Stack sequences of several lengths, padded to the longest one."""
    if not isinstance(sequences, (tuple, list)):
        return UNKNOWN
    if not all(isinstance(each, Shape) for each in sequences):
        return UNKNOWN
    if not sequences:
        raise IllTypedError("pad_sequence takes at least one sequence")
    first: Shape = sequences[0]
    longest = at_least(first, 1, "pad_sequence")[0]
    for other in sequences[1:]:
        if len(other) != len(first):
            raise IllTypedError(f"pad_sequence takes tensors of one rank, not {first} and {other}")
        longest = d.compute("max", longest, other[0])
        for own, wanted in zip(other[1:], first[1:], strict=True):
            d.stretch(own, wanted, "pad_sequence takes features of one shape")
    number = len(sequences)
    return Shape((*((number, longest) if batch_first else (longest, number)), *first[1:]))


def _sequence(
    d: Sizes, x: Shape, what: str, width: int, batch_first: bool
) -> tuple[Dim | None, Dim]:
    """The batch (or ``None``) and the length of a sequence."""
    if len(x) not in (2, 3):
        raise IllTypedError(f"{what} takes a tensor of rank 3, or 2 without a batch, not {x}")
    d.equal(x[-1], width, f"the last dimension of the input of {what}")
    if len(x) == 2:
        return None, x[0]
    return (x[0], x[1]) if batch_first else (x[1], x[0])


@module_rule(nn.RNN, nn.GRU)
def recurrent_module(d: Sizes, module: Any, input: Any, hx: Any = None) -> Any:
    """The outputs of all steps, and the last state of all layers."""
    outputs, state = _recurrent(d, module, input)
    if isinstance(hx, Shape):
        _agree(d, hx, state, "the first state")
    return (outputs, state)


@module_rule(nn.LSTM)
def lstm_module(d: Sizes, module: nn.LSTM, input: Any, hx: Any = None) -> Any:
    """The outputs of all steps, and the last hidden and cell states of all layers."""
    outputs, state = _recurrent(d, module, input)
    cells = Shape((*state[:-1], module.hidden_size))
    if isinstance(hx, (tuple, list)) and len(hx) == 2:
        for given, wanted in zip(hx, (state, cells), strict=True):
            if isinstance(given, Shape):
                _agree(d, given, wanted, "the first state")
    return (outputs, (state, cells))


def _recurrent(d: Sizes, m: Any, given: Any) -> tuple[Any, Shape]:
    if isinstance(given, Packed):
        batch_first, x = given.batch_first, exactly(given.shape, 3, f"a packed {type(m).__name__}")
    else:
        refuse_other(given, "input")
        batch_first, x = m.batch_first, given
    batch, _ = _sequence(d, x, type(m).__name__, m.input_size, batch_first)
    directions = 2 if m.bidirectional else 1
    width = getattr(m, "proj_size", 0) or m.hidden_size
    layers = m.num_layers * directions
    state = Shape((layers, width)) if batch is None else Shape((layers, batch, width))
    outputs = Shape((*x[:-1], directions * width))
    return (Packed(outputs, batch_first) if isinstance(given, Packed) else outputs), state


def _agree(d: Sizes, given: Shape, wanted: Shape, what: str) -> None:
    if len(given) != len(wanted):
        raise IllTypedError(f"{what} has the shape {wanted}, not {given}")
    for a, b in zip(given, wanted, strict=True):
        d.equal(a, b, f"{what} has the shape {wanted}")


@module_rule(nn.RNNCell, nn.GRUCell)
def cell_module(d: Sizes, module: Any, input: Shape, hx: Any = None) -> Shape:
    """The next state."""
    return _cell(d, module, input, hx)


@module_rule(nn.LSTMCell)
def lstm_cell_module(d: Sizes, module: nn.LSTMCell, input: Shape, hx: Any = None) -> Any:
    """The next hidden and cell states."""
    state = _cell(d, module, input, hx[0] if isinstance(hx, (tuple, list)) and hx else None)
    return (state, state)


def _cell(d: Sizes, m: Any, x: Shape, hx: Any) -> Shape:
    if len(x) not in (1, 2):
        raise IllTypedError(
            f"{type(m).__name__} takes a tensor of rank 2, or 1 without a batch, not {x}"
        )
    width = (weight_shape(m, "weight_ih") or Shape((0, m.input_size)))[1]
    hidden = (weight_shape(m, "weight_hh") or Shape((0, m.hidden_size)))[1]
    d.equal(x[-1], width, f"the last dimension of the input of {type(m).__name__}")
    state = Shape((*x[:-1], hidden))
    if isinstance(hx, Shape):
        _agree(d, hx, state, "the state")
    return state


@module_rule(nn.MultiheadAttention)
def multihead_attention_module(
    d: Sizes,
    module: nn.MultiheadAttention,
    query: Shape,
    key: Shape,
    value: Shape,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Any:
    """The result has the shape of the queries; the weights are one for each query and key."""
    m = module
    batch, targets = _sequence(d, query, "MultiheadAttention", m.embed_dim, m.batch_first)
    key_batch, sources = _sequence(d, key, "MultiheadAttention", m.kdim, m.batch_first)
    value_batch, values = _sequence(d, value, "MultiheadAttention", m.vdim, m.batch_first)
    d.equal(sources, values, "there are as many values as keys")
    if len({len(query), len(key), len(value)}) != 1:
        raise IllTypedError(f"query {query}, key {key} and value {value} must have one rank")
    if batch is not None and key_batch is not None and value_batch is not None:
        d.equal(batch, key_batch, "queries and keys have one batch")
        d.equal(batch, value_batch, "queries and values have one batch")
    if isinstance(key_padding_mask, Shape):
        wanted = (sources,) if batch is None else (batch, sources)
        _agree(d, key_padding_mask, Shape(wanted), "the mask of keys")
    if isinstance(attn_mask, Shape):
        _check_attention_mask(d, attn_mask, batch, m.num_heads, targets, sources)
    if not need_weights:
        return (query, None)
    front = () if batch is None else (batch,)
    heads = () if average_attn_weights else (m.num_heads,)
    return (query, Shape((*front, *heads, targets, sources)))


def _check_attention_mask(
    d: Sizes, mask: Shape, batch: Dim | None, heads: int, targets: Dim, sources: Dim
) -> None:
    """Demand that a mask is queries by keys, with one matrix for all or one for each head."""
    if len(mask) not in (2, 3):
        raise IllTypedError(f"the mask of attention has rank 2 or 3, not {mask}")
    one = (targets, sources)
    each = heads if batch is None else batch * heads
    _agree(d, mask, Shape(one if len(mask) == 2 else (each, *one)), "the mask of attention")


@module_rule(nn.TransformerEncoderLayer)
def encoder_layer_module(
    d: Sizes,
    module: nn.TransformerEncoderLayer,
    src: Shape,
    src_mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: Any = False,
) -> Shape:
    """Keep the shape."""
    return _encoded(
        d, module.self_attn, src, src_mask, src_key_padding_mask, "TransformerEncoderLayer"
    )


def _encoded(d: Sizes, attention: Any, src: Shape, mask: Any, padding: Any, what: str) -> Shape:
    batch, length = _sequence(d, src, what, attention.embed_dim, attention.batch_first)
    if isinstance(mask, Shape):
        _check_attention_mask(d, mask, batch, attention.num_heads, length, length)
    if isinstance(padding, Shape):
        _agree(
            d, padding, Shape((length,) if batch is None else (batch, length)), "the mask of keys"
        )
    return src


@module_rule(nn.TransformerEncoder)
def encoder_module(
    d: Sizes,
    module: nn.TransformerEncoder,
    src: Shape,
    mask: Any = None,
    src_key_padding_mask: Any = None,
    is_causal: Any = None,
) -> Shape:
    """Keep the shape."""
    first: Any = module.layers[0]
    return _encoded(d, first.self_attn, src, mask, src_key_padding_mask, "TransformerEncoder")


@module_rule(nn.TransformerDecoderLayer)
def decoder_layer_module(
    d: Sizes,
    module: nn.TransformerDecoderLayer,
    tgt: Shape,
    memory: Shape,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    *rest: Any,
    **options: Any,
) -> Shape:
    """The shape of the targets."""
    return _decoded(d, module.self_attn, tgt, memory, tgt_mask, memory_mask)


def _decoded(
    d: Sizes, attention: Any, tgt: Shape, memory: Shape, mask: Any, memory_mask: Any
) -> Shape:
    width, first = attention.embed_dim, attention.batch_first
    batch, targets = _sequence(d, tgt, "the decoder", width, first)
    other, sources = _sequence(d, memory, "the decoder's memory", width, first)
    if (batch is None) != (other is None):
        raise IllTypedError(f"targets {tgt} and memory {memory} must both have a batch, or neither")
    if batch is not None and other is not None:
        d.equal(batch, other, "targets and memory have one batch")
    for given, wanted in ((mask, (targets, targets)), (memory_mask, (targets, sources))):
        if isinstance(given, Shape):
            _check_attention_mask(d, given, batch, attention.num_heads, *wanted)
    return tgt


@module_rule(nn.TransformerDecoder)
def decoder_module(
    d: Sizes,
    module: nn.TransformerDecoder,
    tgt: Shape,
    memory: Shape,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    *rest: Any,
    **options: Any,
) -> Shape:
    """The shape of the targets."""
    first: Any = module.layers[0]
    return _decoded(d, first.self_attn, tgt, memory, tgt_mask, memory_mask)


@module_rule(nn.Transformer)
def transformer_module(
    d: Sizes,
    module: nn.Transformer,
    src: Shape,
    tgt: Shape,
    src_mask: Any = None,
    tgt_mask: Any = None,
    memory_mask: Any = None,
    *rest: Any,
    **options: Any,
) -> Shape:
    """The shape of the targets."""
    first: Any = module.encoder.layers[0]
    memory = _encoded(d, first.self_attn, src, src_mask, None, "Transformer")
    return _decoded(d, first.self_attn, tgt, memory, tgt_mask, memory_mask)
