"""The table of shape rules: for each operator one function from shapes to shapes.

A new operator is one entry::

    @rule(torch.nn.functional.pixel_shuffle, torch.nn.PixelShuffle.forward)
    def pixel_shuffle(d, input, upscale_factor):
        *batch, c, h, w = at_least(input, 3, "pixel_shuffle")
        r = upscale_factor
        return Shape((*batch, d.fits(c, r * r, what="..."), h * r, w * r))

`d` is the kind of sizes that the rule runs on (a `Sizes` of `symfx.shape_rules.sizes`). A tensor is
passed as its `Shape`, `x.size(0)` as a size, `x.shape` as a tuple of sizes, any other argument
unchanged. The type checker, the constraint generator and `migrate` all use this table, which
`symfx.shape_rules` fills.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch.fx import Node

from symfx.shape_rules.attributes import is_known
from symfx.shape_rules.errors import GradualError, IllTypedError, OpenSizeError
from symfx.shape_rules.registry import Registry
from symfx.shape_rules.sizes import (
    UNKNOWN,
    Dim,
    Packed,
    Shape,
    Size,
    Sizes,
    Unknown,
    size_text,
)

__all__ = [
    "Rule",
    "also",
    "any_unknown",
    "at_least",
    "axes",
    "axis",
    "exactly",
    "known_rules",
    "lookup",
    "module_rule",
    "refuse_other",
    "rule",
    "rule_of_module",
]

_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Rule:
    """The shape rule of one operator, or of a family of operators that behave alike.

    Args:
        name: the name of the rule's function.
        function: maps a kind of sizes and the operator's arguments to the results.
        of_module: the function takes the module before the arguments.
        takes_unknown: the function has an answer for tensors of unknown rank.
        rank: the only rank that the first tensor can have, if it is fixed.
        in_place: the operator changes its first tensor, which keeps its shape.
    """

    name: str
    function: Callable[..., Any]
    of_module: bool = False
    takes_unknown: bool = False
    rank: int | None = None
    in_place: bool = False
    signature: inspect.Signature = field(init=False, compare=False)
    tensors: tuple[str, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        signature = inspect.signature(self.function)
        object.__setattr__(self, "signature", signature)
        tensors = (p.name for p in signature.parameters.values() if p.annotation == "Shape")
        object.__setattr__(self, "tensors", tuple(tensors))

    def __call__(
        self,
        d: Sizes,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        module: torch.nn.Module | None = None,
    ) -> Any:
        """The shapes of the results.

        The results are `UNKNOWN` if the rule needs a tensor whose shape is unknown or a number that
        is a size, or if it does not foresee the arguments.

        Raises:
            IllTypedError: the operator does not take these shapes.
        """
        bound = self._bound(d, args, kwargs, module)
        if bound is None:
            return UNKNOWN
        if not self.takes_unknown and any_unknown((args, tuple(kwargs.values()))):
            return UNKNOWN
        for name in self.tensors:
            refuse_other(bound.arguments.get(name, UNKNOWN), name)
        try:
            result = self.function(*bound.args, **bound.kwargs)
        except OpenSizeError:
            return UNKNOWN
        _refuse_negative(result, self.name)
        if self.in_place and args and isinstance(args[0], Shape) and isinstance(result, Shape):
            _demand_kept(d, args[0], result)
        return result

    def takes(
        self,
        d: Sizes,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        module: torch.nn.Module | None = None,
    ) -> bool:
        """Whether the rule foresees arguments of this number and these names."""
        return self._bound(d, args, kwargs, module) is not None

    def _bound(
        self,
        d: Sizes,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        module: torch.nn.Module | None,
    ) -> inspect.BoundArguments | None:
        first = (d, module) if self.of_module else (d,)
        options = {name: value for name, value in kwargs.items() if (name, value) != ("out", None)}
        try:
            return self.signature.bind(*first, *args, **options)
        except TypeError:
            return None


def _demand_kept(d: Sizes, tensor: Shape, result: Shape) -> None:
    """Demand that an operator in place has a result of its tensor's shape."""
    if len(result) != len(tensor):
        raise IllTypedError(f"the result {result} cannot be written into {tensor} in place")
    for a, b in zip(tensor, result, strict=True):
        d.equal(a, b, "a result in place has the shape of its tensor")


def refuse_other(value: Any, name: str) -> None:
    """Refuse a value that is no tensor where one tensor is taken, such as the result of an LSTM."""
    if type(value) in (tuple, list) and any(isinstance(part, Shape) for part in value):
        kind, mend = f"a tuple of {len(value)} values", "pick one of them"
    elif isinstance(value, dict):
        kind, mend = f"a dictionary of {', '.join(map(str, value))}", "pick one of them"
    elif isinstance(value, Packed):
        kind, mend = "a PackedSequence", "unpack it with pad_packed_sequence"
    elif value is None:
        kind, mend = "None", "does a function return nothing?"
    else:
        return
    raise IllTypedError(f"{name} is {kind}, and one tensor is taken: {mend}")


def _refuse_negative(result: Any, name: str) -> None:
    """Refuse a result with a negative size: no operator makes one."""
    if isinstance(result, Shape):
        if any(isinstance(size, int) and size < 0 for size in result):
            raise IllTypedError(f"{name} would make a tensor with a negative size: {result}")
    elif type(result) in (tuple, list):
        for part in result:
            _refuse_negative(part, name)


def any_unknown(value: Any) -> bool:
    """Whether a value, or a part of a tuple or a list, is `UNKNOWN`."""
    if isinstance(value, (tuple, list)):
        return any(map(any_unknown, value))
    return isinstance(value, Unknown)


#: The keys are what nodes call: a function, the name of a method, or a class of modules.
_RULES: Registry[Any, Rule] = Registry(
    "a rule", fix="take the operator out of the targets of one of the two rules"
)


def rule(*targets: Any, takes_unknown: bool = False, rank: int | None = None) -> Callable[[_F], _F]:
    """Enter a function into the table, for functions and for methods by their name.

    Args:
        targets: the operators, as nodes call them: ``torch.cat``, ``"view"``.
        takes_unknown: pass tensors of unknown rank to the function, as `UNKNOWN`; otherwise the
            result for such a tensor is `UNKNOWN`.
        rank: the only rank that the first tensor can have.

    Raises:
        DuplicateRuleError: an operator has a rule already.
    """
    return _register(targets, of_module=False, takes_unknown=takes_unknown, rank=rank)


def module_rule(
    *classes: type[torch.nn.Module], takes_unknown: bool = False, rank: int | None = None
) -> Callable[[_F], _F]:
    """Enter a function into the table for classes of modules; it takes the module after `d`."""
    return _register(classes, of_module=True, takes_unknown=takes_unknown, rank=rank)


def _register(targets: tuple[Any, ...], **how: Any) -> Callable[[_F], _F]:
    def register(function: _F) -> _F:
        entry = Rule(function.__name__, function, **how)
        in_place = replace(entry, in_place=True)
        for target in dict.fromkeys(targets):
            chosen = in_place if _keeps_its_tensor(target) else entry
            _RULES.add(target, chosen, function.__name__)
        return function

    return register


#: Operators in place that change the shape of their tensor.
_RESHAPING = frozenset(
    f"{name}_"
    for name in ("transpose", "swapaxes", "swapdims", "t", "squeeze", "unsqueeze", "resize")
) | {"resize_as_", "as_strided_"}


def _keeps_its_tensor(target: Any) -> bool:
    name = target if isinstance(target, str) else str(getattr(target, "__name__", ""))
    if getattr(target, "__module__", "") == "_operator":
        return False  # Python's `or_` ends with an underscore since `or` is a keyword
    return name.endswith("_") and not name.endswith("__") and name not in _RESHAPING


def also(known: Any, *targets: Any) -> None:
    """Enter the rule of an operator for other operators, which take the same arguments."""
    for target in targets:
        _RULES.add(target, _RULES[known], _RULES[known].name)


def known_rules() -> Mapping[Any, Rule]:
    """The rules by operator."""
    return _RULES


def lookup(node: Node, root: torch.nn.Module | None) -> tuple[Rule | None, torch.nn.Module | None]:
    """The rule for the operator that a node calls, and the module that the node calls, if any.

    A module is looked up by `rule_of_module`.
    """
    if node.op == "call_module":
        if root is None:
            raise GradualError(
                f"the module {node.target} cannot be looked up without the module that contains it",
                where=f"node {node.name}",
            )
        module = root.get_submodule(str(node.target))
        return rule_of_module(module), module
    target = node.target
    if target is getattr and not is_known(str(node.args[1])):
        return None, None
    found = _RULES.get(target)
    if found is None and isinstance(target, torch._ops.OpOverload):
        found = _RULES.get(target.overloadpacket)
    return found, None


def rule_of_module(module: torch.nn.Module) -> Rule | None:
    """The rule for a layer: that of its class, or of a base class with the same ``forward``.

    A subclass with another ``forward`` is another operator. A lazy layer has the rule of the class
    that it becomes.
    """
    for cls in (*type(module).__mro__, getattr(module, "cls_to_become", None)):
        if cls in _RULES and getattr(cls, "forward", None) is type(module).forward:
            return _RULES[cls]
    return None


def operator_name(node: Node, module: torch.nn.Module | None) -> str:
    """The name of the operator that a node calls, or of the class of the module."""
    if module is not None:
        return type(module).__qualname__
    if node.target is getattr:
        return f"the attribute {node.args[1]}"
    return node._pretty_print_target(node.target)


# -- common parts of rules ----------------------------------------------------------------------


def exactly(x: Shape, rank: int, what: str) -> Shape:
    """Return a shape that has this rank.

    Raises:
        IllTypedError: the shape has another rank.
    """
    if len(x) != rank:
        raise IllTypedError(f"{what} takes a tensor of rank {rank}, not of rank {len(x)}: {x}")
    return x


def at_least(x: Shape, rank: int, what: str) -> Shape:
    """Return a shape that has this rank or a higher one.

    Raises:
        IllTypedError: the shape has a lower rank.
    """
    if len(x) < rank:
        raise IllTypedError(
            f"{what} takes a tensor of rank {rank} or more, not of rank {len(x)}: {x}"
        )
    return x


def axis(index: Any, rank: int, what: str, *, scalar: bool = False) -> int:
    """The index of a dimension, counted from the front.

    Args:
        index: the index that the program gives.
        rank: the rank of the tensor.
        what: the operator, for the message.
        scalar: treat a tensor of rank 0 as if it had one dimension.

    Raises:
        IllTypedError: the tensor has no such dimension.
    """
    if isinstance(index, Size):
        raise OpenSizeError(f"{what} gets {size_text(index)} as the number of a dimension")
    if isinstance(index, bool) or not isinstance(index, int):
        raise IllTypedError(f"{what} takes the number of a dimension, not {index!r}")
    count = max(rank, 1) if scalar else rank
    if not -count <= index < count:
        raise IllTypedError(f"{what} names dimension {index} of a tensor of rank {rank}")
    return index % count


def axes(given: Any, rank: int, what: str) -> list[int]:
    """The indices of one or several dimensions, counted from the front; ``None`` means none.

    A tensor of rank 0 is treated as if it had one dimension.

    Raises:
        IllTypedError: the tensor has no such dimension, or one is named twice.
    """
    if given is None:
        return []
    several = given if isinstance(given, (tuple, list)) else (given,)
    found = [axis(index, rank, what, scalar=True) for index in several]
    if len({*found}) != len(found):
        raise IllTypedError(f"{what} names one dimension twice: {tuple(several)} of rank {rank}")
    return found


def is_size(value: Any) -> bool:
    """Whether a value is one size."""
    return isinstance(value, Dim) and not isinstance(value, bool)
