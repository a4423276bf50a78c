"""The inputs of a question: tensors, and shapes as text, such as ``f32[3, 7]``, in their place."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from symfx.errors import SpecError
from symfx.shape_language import parse_input, parse_type
from symfx.shape_language.syntax import (
    Constant,
    IntInput,
    Name,
    Number,
    Size,
    TensorSyntax,
    TypeSyntax,
)
from symfx.tracing.arguments import Leaf
from symfx.tracing.traced_model import TracedModel

__all__ = ["read_call"]

_LABEL = "why_not(...)"
#: A tensor of one number with its value.
_VALUED = re.compile(r"(?P<type>.*\])\s*=\s*(?P<value>[+-]?\d{1,18})\s*")
_NAMED = re.compile(r"\s*[A-Za-z_][\w.\[\]'\"]*\s*:")


def read_call(trace: TracedModel, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The flat inputs of a call, in which a text may stand for a tensor or an int.

    Args:
        trace: the trace.
        args: the positional arguments of the call; or texts with the names of all inputs, such as
            ``"x: f32[3, 7]"``.
        kwargs: the keyword arguments.

    Raises:
        InputMismatchError: the arguments have another structure than those of the trace.
        SpecError: a text describes no input.
    """
    layout = trace.admission.layout
    if args and not kwargs and all(isinstance(a, str) and _NAMED.match(a) for a in args):
        return _by_name(trace, args)
    leaves = layout.flatten(args, kwargs)
    return [
        _read(trace, leaf, value)
        if isinstance(value, str) and not isinstance(leaf.example, str)
        else value
        for leaf, value in zip(layout.leaves, leaves, strict=True)
    ]


def _split(text: str) -> tuple[str, int | None]:
    """A text without its value at the end: ``i64[] = 5`` is a tensor of one number, which is 5."""
    valued = _VALUED.fullmatch(text)
    return (valued["type"], int(valued["value"])) if valued else (text, None)


def _read(trace: TracedModel, leaf: Leaf, text: str) -> Any:
    """An input from its text."""
    described, value = _split(text)
    return _made(trace, leaf, parse_type(described, _LABEL), text, value)


def _by_name(trace: TracedModel, texts: Sequence[str]) -> list[Any]:
    leaves = trace.admission.layout.leaves
    made: dict[Leaf, Any] = {}
    names = ", ".join(leaf.path for leaf in leaves)
    for text in texts:
        described, value = _split(text)
        read = parse_input(described, _LABEL)
        path = read.name + "".join(f"[{step!r}]" for step in read.path)
        leaf = next((leaf for leaf in leaves if path in (leaf.path, leaf.name)), None)
        if leaf is None:
            raise SpecError(
                f"{path} is no input of the trace", where=_LABEL, fix=f"its inputs are {names}"
            )
        if leaf in made:
            raise SpecError(f"{path} is described twice", where=_LABEL, fix="describe it once")
        made[leaf] = _made(trace, leaf, read.type, text, value)
    for leaf in leaves:
        if leaf not in made and isinstance(leaf.example, torch.Tensor):
            raise SpecError(
                f"the trace needs an input {leaf.path}",
                where=_LABEL,
                fix=f"describe it too; its inputs are {names}",
            )
    return [made.get(leaf, leaf.example) for leaf in leaves]


def _made(
    trace: TracedModel, leaf: Leaf, type_: TypeSyntax, text: str, value: int | None = None
) -> Any:
    """An input of a type: a tensor without elements, an int or a constant."""
    if isinstance(type_, Constant):
        return type_.value
    if isinstance(type_, IntInput) and type_.value is not None:
        return type_.value
    if not isinstance(type_, TensorSyntax):
        raise SpecError(
            f"{text!r} does not say what {leaf.path} is",
            where=_LABEL,
            fix="write a shape such as f32[3, 7] for a tensor, and int=5 for an int; describe each "
            "part of a dict or a list",
        )
    shape = [_size(trace, dim, text) for dim in type_.dims]
    example = leaf.example if isinstance(leaf.example, torch.Tensor) else None
    dtype = getattr(torch, type_.dtype) if type_.dtype else getattr(example, "dtype", torch.float32)
    device = example.device if example is not None else torch.device("cpu")
    if value is not None:
        if any(n != 1 for n in shape):
            raise SpecError(
                f"{text!r} gives one value to a tensor of several numbers",
                where=_LABEL,
                fix="write a value for a tensor of one number alone, such as i64[] = 5",
            )
        return torch.full(shape, value, dtype=dtype, device=device)
    if all(n == 1 for n in shape):
        # A program may read such a tensor as a number: it has the value of the example.
        if example is not None and example.numel() == 1 and not example.is_meta:
            return example.detach().reshape(shape).to(dtype)
        return torch.zeros(shape, dtype=dtype, device=device)
    # Without memory: a shape may be larger than this machine.
    with FakeTensorMode():
        return torch.empty_strided(shape, _strides(shape, example), dtype=dtype, device=device)


def _strides(shape: Sequence[int], example: torch.Tensor | None) -> list[int]:
    """Dense strides, with the dimensions in the order in which the example has them in memory."""
    order = list(range(len(shape)))
    if example is not None and example.dim() == len(shape) and example.layout is torch.strided:
        steps = example.stride()
        order.sort(key=lambda dim: -steps[dim])
    strides, step = [0] * len(shape), 1
    for dim in reversed(order):
        strides[dim] = step
        step *= max(shape[dim], 1)
    return strides


def _size(trace: TracedModel, dim: object, text: str) -> int:
    """A dimension as a number: a number, ``seq=7``, or a name, which has the example's value."""
    if isinstance(dim, Size):
        if dim.example is not None:
            return dim.example
        if isinstance(dim.value, Number):
            return dim.value.value
        if isinstance(dim.value, Name):
            for info in trace.shape_env.symbol_table():
                if info.name == dim.value.name and isinstance(info.hint, int):
                    return info.hint
    raise SpecError(
        f"{dim} in {text!r} is no size",
        where=_LABEL,
        fix="write a number, such as f32[3, 7], or the name of a dimension for its size in the "
        "example",
    )
