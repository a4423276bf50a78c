"""Packed sequences: packed and padded by indexing and masks.

torch's operators read the lengths from a tensor, which a graph cannot follow; the fake tensors of
their results have other shapes than the real ones. Lengths that the program writes down are known
while tracing, and with them each step of each sequence has its place. Other lengths make a mask of
the steps that are packed, and the number of these steps depends on data.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import _VF
from torch._subclasses.fake_tensor import unset_fake_temporarily

from symfx.errors import TracingError
from symfx.proxy_tensor import (
    disable_proxy_modes_tracing,
    fetch_object_proxy,
    get_proxy_mode,
)
from symfx.torch_bridge.process_wide import ProcessWide
from symfx.tracing.packed_networks import number_of_sequences, packed_networks, remember_number
from symfx.user_code import here

__all__ = ["traceable_packing"]


@contextlib.contextmanager
def traceable_packing() -> Iterator[None]:
    """A context in which sequences are packed, padded and run through networks as above."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(packed_networks())
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
            return _packed_by_mask(original, input, lengths, batch_first)
        by_step = input.transpose(0, 1) if batch_first else input
        in_order = all(one >= other for one, other in itertools.pairwise(known))
        if not known or known[-1] < 1 or not in_order or by_step.shape[1] != len(known):
            return original(input, lengths, batch_first)  # raises the error that eager raises
        if not by_step.shape[0] >= known[0]:
            raise TracingError(
                f"pack_padded_sequence: a length of {known[0]} for sequences of "
                f"{by_step.shape[0]} steps",
                where=here(),
                fix="give lengths of at most the size of the padded dimension",
            )
        batch_sizes = [sum(n > step for n in known) for step in range(known[0])]
        made = torch.tensor(batch_sizes)
        remember_number(made, len(known))
        return by_step[_places(batch_sizes)], made

    return pack


def _packed_by_mask(
    original: Any, input: torch.Tensor, lengths: torch.Tensor, batch_first: bool
) -> Any:
    """`original` for lengths that only a run knows."""
    by_step = input.transpose(0, 1) if batch_first else input
    if get_proxy_mode() is None or lengths.dim() != 1 or by_step.shape[1] != lengths.shape[0]:
        return original(input, lengths, batch_first)
    torch._assert_async((lengths >= 1).all(), "each length of a packed sequence has to be above 0")
    in_order = (lengths[:-1] >= lengths[1:]).all()
    torch._assert_async(in_order, "lengths have to be in decreasing order, or enforce_sorted=False")
    steps: Any = lengths[0].item()
    torch._check(steps >= 1)  # type: ignore[no-untyped-call]
    torch._check(steps <= by_step.shape[0])  # type: ignore[no-untyped-call]
    counted = torch.arange(by_step.shape[0]).unsqueeze(1)
    is_packed = counted < lengths.to("cpu").unsqueeze(0)
    batch_sizes = is_packed.sum(1).narrow(0, 0, steps)
    remember_number(batch_sizes, by_step.shape[1])
    return by_step[is_packed.to(input.device)], batch_sizes


def _padded_by_mask(
    data: torch.Tensor, batch_sizes: torch.Tensor, padding_value: float, total_length: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The padded sequences by step, and their lengths."""
    number = number_of_sequences(batch_sizes)
    is_packed = torch.arange(number).unsqueeze(0) < batch_sizes.unsqueeze(1)
    steps, rest = batch_sizes.shape[0], data.shape[1:]
    padded = data.new_full((steps, number, *rest), padding_value)
    mask = is_packed.to(data.device).view(steps, number, *[1] * len(rest))
    padded = padded.masked_scatter(mask, data)
    if total_length > 0:
        more = data.new_full((total_length - steps, number, *rest), padding_value)
        padded = torch.cat([padded, more])
    return padded, is_packed.sum(0)


def _padding(original: Any) -> Any:
    def pad(
        data: torch.Tensor,
        batch_sizes: torch.Tensor,
        batch_first: bool,
        padding_value: float,
        total_length: int,
    ) -> Any:
        known = _constant(batch_sizes)
        if known is None:
            padded, found = _padded_by_mask(data, batch_sizes, padding_value, total_length)
            return padded.transpose(0, 1) if batch_first else padded, found
        if not known or 0 < total_length < len(known):
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
