"""The values of nodes while tracing (``meta["val"]``) as data, and fake tensors made from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.handover.numbers import NumberReader, NumberWriter
from symfx.handover.tensors import read_device, read_dtype
from symfx.symbolic_shapes import (
    CallMethodKey,
    ConvertIntKey,
    DivideByKey,
    ShapeEnv,
)
from symfx.untrusted import Item

__all__ = ["ValueReader", "describe_bindings", "describe_value"]

_NUMBERS = (bool, int, float, torch.SymInt, torch.SymFloat, torch.SymBool)
_RANK = 64
#: The methods of an output on the way to an unbacked symbol.
_METHODS = {name: name for name in ("size", "stride", "storage_offset", "item")}
#: The most values in one tuple or list.
_MEMBERS = 10_000


def describe_value(value: Any, numbers: NumberWriter) -> Any:
    """The value of a node as data; None for a value of another kind, which a graph does not need.

    Args:
        value: a tensor, a number, or a tuple or list of values.
        numbers: writes the sizes.
    """
    if isinstance(value, torch.Tensor):
        if value.layout is not torch.strided:
            return None
        return {
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [numbers.number(n) for n in value.shape],
            "stride": [numbers.number(n) for n in value.stride()],
            "offset": numbers.number(value.storage_offset()),
            "device": str(value.device),
        }
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [describe_value(member, numbers) for member in value]}
    return {"number": numbers.number(value)} if isinstance(value, _NUMBERS) else None


def describe_bindings(bindings: Any, numbers: NumberWriter) -> list[Any] | None:
    """Where an operator's output has its unbacked symbols, as data.

    None where a step on the way is of a kind that files do not know.
    """
    described = []
    for symbol, path in bindings.items():
        steps = []
        for key in path:
            step = _describe_step(key)
            if step is None:
                return None
            steps.append(step)
        described.append({"symbol": str(symbol), "path": steps})
    return described


def _describe_step(key: Any) -> list[Any] | None:
    if isinstance(key, pytree.SequenceKey):
        return ["index", key.idx]
    if isinstance(key, CallMethodKey):
        return ["call", key.name]
    if isinstance(key, DivideByKey) and type(key.divisor) is int:
        return ["divide", key.divisor]
    return ["convert", 0] if isinstance(key, ConvertIntKey) else None


class ValueReader:
    """Makes the values of nodes.

    Args:
        env: the environment of the trace.
        numbers: reads the sizes.
        checked: whether it is found out at once that there can be each value, or when one is asked
            for the first time.

    Attributes:
        mode: the mode of the fake tensors.
    """

    def __init__(self, env: ShapeEnv, numbers: NumberReader, *, checked: bool = True) -> None:
        self._checked = checked
        self.mode = FakeTensorMode(shape_env=env, allow_non_fake_inputs=True)  # type: ignore[arg-type]
        self._env = env
        self._numbers = numbers

    def read(self, item: Item) -> Callable[[], Any]:
        """A function that makes the value that data describe, anew at each call."""
        if item.value is None:
            return lambda: None
        entries = item.entries()
        for kind, make in (("tuple", tuple), ("list", list)):
            if kind in entries:
                _, members = item.single()
                parts = [self.read(member) for member in members.items(_MEMBERS)]
                return lambda: make(part() for part in parts)
        if "number" in entries:
            _, number = item.single()
            value = self._numbers.number(number)
            if not isinstance(value, float | None):
                value = self._env.wrap(self._numbers.as_term(number))
            return lambda: value
        return self._tensor(item)

    def _tensor(self, item: Item) -> Callable[[], torch.Tensor]:
        fields = item.fields("dtype", "shape", "stride", "offset", "device")
        dtype, device = read_dtype(fields["dtype"]), read_device(fields["device"])
        size, env = self._numbers.size, self._env
        shape = [size(n, env) for n in fields["shape"].items(_RANK)]
        stride = [size(n, env) for n in fields["stride"].items(exactly=len(shape))]
        offset = size(fields["offset"], env)

        def make() -> torch.Tensor:
            with self.mode, env.suppress_guards():
                made = torch.empty_strided(shape, stride, dtype=dtype, device=device)
                if type(offset) is int and offset == 0:
                    return made
                return made.as_strided(shape, stride, offset)

        if self._checked:
            with item.source.guarding("no tensor has these sizes", item.path):
                make()
        return make

    def bindings(self, item: Item) -> dict[Any, Any]:
        """Where an operator's output has its unbacked symbols."""
        bindings: dict[Any, Any] = {}
        for each in item.items(1_000):
            fields = each.fields("symbol", "path")
            by_name = {str(symbol): symbol for symbol in self._env.symbols.by_sympy}
            symbol = fields["symbol"].choice(by_name, "symbol that is called")
            bindings[symbol] = tuple(map(_read_step, fields["path"].items(_RANK)))
        return bindings


def _read_step(item: Item) -> Any:
    kind, value = item.items(exactly=2)
    make = kind.choice(_STEPS, "step on the way to a symbol")
    return make(value)


_STEPS: dict[str, Callable[[Item], Any]] = {
    "index": lambda item: pytree.SequenceKey(item.whole(0, _MEMBERS)),
    "call": lambda item: CallMethodKey(item.choice(_METHODS, "method")),
    "divide": lambda item: DivideByKey(item.whole(1, 1 << 40)),
    "convert": lambda item: ConvertIntKey(),
}
