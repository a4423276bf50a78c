"""Recurrent networks over a symbolic number of steps, recorded as one operator each.

torch's decompositions run a network step by step, which makes the number of steps a constant of
the graph. The operators run at any number. Their fake results are made here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor

from symfx.proxy_tensor import slots
from symfx.proxy_tensor.no_backward import refusing_backward
from symfx.torch_bridge.modes import active_proxy_mode, without_proxy_mode

__all__ = ["recurrent_form"]

_aten = torch.ops.aten
_WHOLE: dict[Any, OpOverload[..., Any]] = {
    torch.lstm: _aten.lstm.input,
    torch.gru: _aten.gru.input,
    torch.rnn_tanh: _aten.rnn_tanh.input,
    torch.rnn_relu: _aten.rnn_relu.input,
}


def recurrent_form(function: Callable[..., Any]) -> Callable[..., Any]:
    """The form of a recurrent network that is recorded as one operator.

    Args:
        function: ``torch.lstm``, ``torch.gru``, ``torch.rnn_tanh`` or ``torch.rnn_relu``.

    Returns:
        A function of the same arguments. It returns NotImplemented where the number of steps is
        static, or where the operator would refuse the arguments.
    """
    operator = _WHOLE[function]

    def form(input: Any, *args: Any) -> Any:
        if len(args) != 8 or isinstance(args[2], torch.Tensor) or input.dim() != 3:
            return NotImplemented
        states, weights, _, layers, _, _, both_ways, batch_first = args
        steps, batch = input.shape[int(batch_first)], input.shape[1 - int(batch_first)]
        several = isinstance(states, (list, tuple))
        given = [input, *(states if several else (states,)), *weights]
        mode = active_proxy_mode()
        if (
            not isinstance(steps, torch.SymInt)
            or mode is None
            or any(t.dtype is not input.dtype or t.dim() > 3 for t in given)
            or not all(map(partial(_is_recordable, mode.tracer), given))
        ):
            return NotImplemented
        rows = layers * (2 if both_ways else 1)
        finals = states if several else (states,)
        if any(not _has_shape(s, (rows, batch)) for s in finals) or not (
            bool(steps >= 1) and bool(input.shape[2] == weights[0].shape[1])
        ):
            return NotImplemented  # the operator raises the error
        width = finals[0].shape[-1] * (2 if both_ways else 1)
        with without_proxy_mode():
            output = input.new_empty((steps, batch, width))
            if batch_first:
                output = output.transpose(0, 1)
            results = refusing_backward(
                [output, *(input.new_empty(s.shape) for s in finals)],
                given,
                "a recurrent network over a symbolic number of steps",
                "trace the forward pass alone, or make the number of steps a static dimension",
            )
        arguments = (input, list(states) if several else states, list(weights), *args[2:])
        tracer: Any = mode.tracer
        tracer.record_assertions()
        node = tracer.call(
            operator, tracer.node_args(arguments), {}, operator.overloadpacket.__name__
        )
        slots.track_tensor_tree(results, fx.Proxy(node, tracer), constant=None, tracer=tracer)
        return results

    return form


def _is_recordable(tracer: Any, tensor: torch.Tensor) -> bool:
    """Whether a tensor has a node, or is a real one that becomes a constant of the graph."""
    return type(tensor) in (torch.Tensor, torch.nn.Parameter) or (
        type(tensor) is FakeTensor and slots.has_proxy_slot(tensor, tracer)
    )


def _has_shape(state: torch.Tensor, sizes: Sequence[Any]) -> bool:
    return state.dim() == len(sizes) + 1 and all(
        bool(a == b) for a, b in zip(state.shape, sizes, strict=False)
    )
