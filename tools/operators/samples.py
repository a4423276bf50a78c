"""Samples of an operator as calls that can be traced, in four forms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

__all__ = ["FORMS", "Call", "calls"]


@dataclass
class Call:
    """A sample as a function of its tensors."""

    f: Callable[..., Any]
    tensors: list[torch.Tensor]


def _function(op: Any, sample: Any) -> Callable[..., Any] | None:
    return op


def _in_place(op: Any, sample: Any) -> Callable[..., Any] | None:
    return None if sample.broadcasts_input else op.inplace_variant


def _out(op: Any, sample: Any) -> Callable[..., Any] | None:
    if not op.supports_out:
        return None

    # The tensors to write to are inputs of the graph, made before the trace.
    def f(outs: Any, *args: Any, **kwargs: Any) -> Any:
        return op(*args, **kwargs, out=outs)

    return f


def _gradient(op: Any, sample: Any) -> Callable[..., Any] | None:
    if not op.supports_autograd:
        return None

    def f(*args: Any, **kwargs: Any) -> Any:
        inputs: list[torch.Tensor] = []

        def leaf(t: torch.Tensor) -> torch.Tensor:
            if not (t.is_floating_point() or t.is_complex()):
                return t
            inputs.append(t.detach().requires_grad_())
            return inputs[-1]

        args, kwargs = pytree.tree_map_only(torch.Tensor, leaf, (args, kwargs))
        results = sample.output_process_fn_grad(op(*args, **kwargs))
        outs = [
            t
            for t in pytree.tree_leaves(results)
            if isinstance(t, torch.Tensor) and t.requires_grad
        ]
        seeds = [torch.ones_like(t) for t in outs]
        return outs, torch.autograd.grad(outs, inputs, seeds, allow_unused=True)

    return f


FORMS: dict[str, Callable[[Any, Any], Callable[..., Any] | None]] = {
    "function": _function,
    "in place": _in_place,
    "out=": _out,
    "gradient": _gradient,
}
"""By form, a function from an operator and a sample to the traced function, or to None where the
operator has no such form."""


def calls(op: Any, dtype: torch.dtype, form: str, count: int) -> Iterator[Call]:
    """The first ``count`` samples of an operator, each as a call."""
    torch.manual_seed(0)
    samples = op.sample_inputs("cpu", dtype, requires_grad=form == "gradient")
    for sample in itertools.islice(samples, count):
        given = FORMS[form](op, sample)
        if given is None:
            continue
        args = (sample.input, *sample.args)
        if form == "out=":
            try:
                results = op(*args, **sample.kwargs)
            except Exception:  # noqa: BLE001 - samples that torch itself refuses
                continue
            args = (pytree.tree_map_only(torch.Tensor, torch.zeros_like, results), *args)
        leaves, spec = pytree.tree_flatten((args, sample.kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]

        def f(
            *tensors: Any, given: Any = given, leaves: Any = leaves, places: Any = places,
            spec: Any = spec,
        ) -> Any:  # fmt: skip
            own = list(leaves)
            for i, tensor in zip(places, tensors, strict=True):
                own[i] = tensor
            args, kwargs = pytree.tree_unflatten(own, spec)
            return given(*args, **kwargs)

        yield Call(f, [leaves[i].detach() for i in places])
