"""Recurrent networks on packed sequences, recorded as one operator each.

torch's modules read the number of sequences out of a tensor, and torch's decompositions read the
length of each step. The operators need neither: they are recorded whole, and the shapes of their
results are known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.weak import WeakIdKeyDictionary

from symfx.proxy_tensor import disable_proxy_modes_tracing, get_proxy_mode, track_tensor_tree
from symfx.proxy_tensor.no_backward import refusing_backward
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["number_of_sequences", "packed_networks", "remember_number"]

_aten = torch.ops.aten
#: For the batch sizes of packed sequences, the number of sequences.
_numbers: Any = WeakIdKeyDictionary()


def remember_number(batch_sizes: torch.Tensor, number: Any) -> None:
    """Note how many sequences were packed to a tensor of batch sizes."""
    _numbers[batch_sizes] = number


def number_of_sequences(batch_sizes: torch.Tensor) -> Any:
    """How many sequences were packed: as their packing says, else read from the tensor."""
    known = _numbers.get(batch_sizes)
    if known is None:
        known = batch_sizes[0].item()
        torch._check(known >= 1)  # type: ignore[no-untyped-call]
        remember_number(batch_sizes, known)
    return known


def _forward_of(kind: type[nn.RNNBase]) -> Callable[..., Any]:
    original: Any = kind.forward

    def forward(module: Any, input: Any, hx: Any = None) -> Any:
        mode: Any = get_proxy_mode()
        if not isinstance(input, PackedSequence) or mode is None:
            return original(module, input, hx)
        data, batch_sizes, order, back = input
        if data.dim() != 2 or not bool(data.shape[1] == module.input_size):
            return original(module, input, hx)  # raises the error
        rows = module.num_layers * (2 if module.bidirectional else 1)
        number = number_of_sequences(batch_sizes)
        widths = [module.proj_size or module.hidden_size]
        if kind is nn.LSTM:
            widths.append(module.hidden_size)
        states = [data.new_zeros(rows, number, width) for width in widths]
        if hx is not None:
            given = list(hx) if kind is nn.LSTM else [hx]
            for state, wanted in zip(given, states, strict=True):
                if state.dim() != 3 or not all(
                    bool(n == m) for n, m in zip(state.shape, wanted.shape, strict=True)
                ):
                    raise RuntimeError(
                        f"Expected hidden size {tuple(wanted.shape)}, got {tuple(state.shape)}"
                    )
            states = given if order is None else [s.index_select(1, order) for s in given]
        output, *finals = _recorded(mode.tracer, module, data, batch_sizes, states)
        packed = PackedSequence(output, batch_sizes, order, back)
        if back is not None:
            finals = [state.index_select(1, back) for state in finals]
        return packed, (tuple(finals) if kind is nn.LSTM else finals[0])

    return forward


def _recorded(
    tracer: Any, module: Any, data: torch.Tensor, batch_sizes: torch.Tensor, states: list[Any]
) -> tuple[torch.Tensor, ...]:
    """The output and the final states of the operator, which becomes a node of the graph."""
    several = len(states) > 1
    weights = list(module._flat_weights)
    operator = getattr(_aten, module.mode.lower()).data
    options = (module.bias, module.num_layers, module.dropout, module.training)
    arguments = (data, batch_sizes, states if several else states[0], weights, *options)
    width = states[0].shape[-1] * (2 if module.bidirectional else 1)
    with disable_proxy_modes_tracing():
        shapes = [(data.shape[0], width), *(state.shape for state in states)]
        results = tuple(data.new_empty(shape) for shape in shapes)
        results = refusing_backward(
            results,
            [data, *states, *weights],
            "a recurrent network on packed sequences",
            "trace the forward pass alone",
        )
    tracer.record_assertions()
    arguments = tracer.node_args((*arguments, module.bidirectional))
    node = tracer.call(operator, arguments, {}, module.mode.lower())
    track_tensor_tree(results, fx.Proxy(node, tracer), constant=None, tracer=tracer)
    return results


_KINDS = (nn.RNN, nn.GRU, nn.LSTM)
_FORWARDS = [(ProcessWide(kind, "forward"), _forward_of(kind)) for kind in _KINDS]


@contextlib.contextmanager
def packed_networks() -> Iterator[None]:
    """A context in which recurrent networks on packed sequences are recorded whole."""
    with contextlib.ExitStack() as stack:
        for place, forward in _FORWARDS:
            stack.enter_context(place.set_to(forward))
        yield
