"""Packed sequences whose lengths are constants: packed and padded by indexing.

torch's operators read the lengths from a tensor, which a graph cannot follow; the fake tensors of
their results have other shapes than the real ones. Lengths that the program writes down are known
while tracing, and with them each step of each sequence has its place.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import _VF
from torch._subclasses.fake_tensor import unset_fake_temporarily

from symfx.proxy_tensor import (
    disable_proxy_modes_tracing,
    fetch_object_proxy,
    get_proxy_mode,
)
from symfx.torch_bridge.process_wide import ProcessWide

__all__ = ["static_packing"]


@contextlib.contextmanager
def static_packing() -> Iterator[None]:
    """A context in which sequences of constant lengths are packed and padded by indexing."""
    with contextlib.ExitStack() as stack:
        for name, by_indexing in _BY_INDEXING.items():
            stack.enter_context(_FUNCTIONS[name].set_to(by_indexing))
        yield


def _constant(tensor: torch.Tensor) -> list[int] | None:
    """The elements of a tensor of constants; None where only a run knows them."""
    mode = get_proxy_mode()
    proxy = (
        None if mode is None else getattr(fetch_object_proxy(mode.tracer, tensor), "proxy", None)
    )
    if mode is None or proxy is None:
        return None
    with disable_proxy_modes_tracing(), unset_fake_temporarily():
        value = _literal(proxy.node, mode.tracer.root)
        return None if value is None else [int(n) for n in value.tolist()]


def _literal(node: Any, root: torch.nn.Module) -> Any:
    """The value of a node that is computed from literals of the program alone; None for others.

    A literal is copied when the program makes it; a tensor that the program closes over is not,
    because it may change between two runs.
    """
    if not isinstance(node, torch.fx.Node):
        return node
    if node.op != "call_function" or node.kwargs.get("generator") is not None:
        return None
    if node.target is torch.ops.aten.lift_fresh_copy.default:
        made = node.args[0]
        if isinstance(made, torch.fx.Node) and made.op == "get_attr":
            return getattr(root, str(made.target), None)
        return None
    inputs = [_literal(argument, root) for argument in node.args]
    if any(value is None for value in inputs) or not node.all_input_nodes:
        return None
    return node.target(*inputs, **node.kwargs) if callable(node.target) else None


def _places(batch_sizes: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The step and the sequence of each row of packed data."""
    steps = [step for step, n in enumerate(batch_sizes) for _ in range(n)]
    return torch.tensor(steps), torch.tensor([i for n in batch_sizes for i in range(n)])


def _packing(original: Any) -> Any:
    def pack(input: torch.Tensor, lengths: torch.Tensor, batch_first: bool) -> Any:
        known = _constant(lengths)
        if known is None:
            return original(input, lengths, batch_first)
        by_step = input.transpose(0, 1) if batch_first else input
        in_order = all(one >= other for one, other in itertools.pairwise(known))
        if not known or known[-1] < 1 or not in_order or by_step.shape[1] != len(known):
            return original(input, lengths, batch_first)  # raises the error that eager raises
        torch._check(by_step.shape[0] >= known[0])  # type: ignore[no-untyped-call]
        batch_sizes = [sum(n > step for n in known) for step in range(known[0])]
        return by_step[_places(batch_sizes)], torch.tensor(batch_sizes)

    return pack


def _padding(original: Any) -> Any:
    def pad(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        batch_first: bool,
        padding_value: float,
        total_length: int,
    ) -> Any:
        known = _constant(batch_sizes)
        if known is None or not known or 0 < total_length < len(known):
            return original(data, batch_sizes, batch_first, padding_value, total_length)
        steps = max(len(known), total_length)
        padded = data.new_full((steps, known[0], *data.shape[1:]), padding_value)
        padded = padded.index_put(_places(known), data)
        lengths = [sum(n > i for n in known) for i in range(known[0])]
        return padded.transpose(0, 1) if batch_first else padded, torch.tensor(lengths)

    return pad


_BY_INDEXING = {
    "_pack_padded_sequence": _packing(_VF._pack_padded_sequence),
    "_pad_packed_sequence": _padding(_VF._pad_packed_sequence),
}
# Traces of several threads may run at once.
_FUNCTIONS = {name: ProcessWide(_VF, name) for name in _BY_INDEXING}
