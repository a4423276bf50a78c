"""A model and example arguments for it, from the words of a command line."""

from __future__ import annotations

import difflib
import inspect
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symfx.cli.console import print_warning
from symfx.cli.described_inputs import Leaf, arguments_of, leaves_of, mapped
from symfx.cli.loading import load_torch
from symfx.cli.models import load
from symfx.cli.sizes_to_try import chosen_names, example_sizes, shape_of
from symfx.errors import SpecError
from symfx.shape_language import parse_condition, parse_input
from symfx.shape_language.syntax import InputSyntax, IntInput, Name, Size, TensorSyntax
from symfx.shape_language.texts import Text
from symfx.shape_language.words import INTEGER_BITS

if TYPE_CHECKING:
    import torch

    from symfx.tracing import Trace
    from symfx.tracing.stated import Stated

__all__ = [
    "ExampleCall",
    "arrange",
    "example_call",
    "inputs_are_options",
    "make_inputs",
    "traced_call",
]


#: The bytes of one element while it is drawn: a double, and the result.
_BYTES = 16


@dataclass(frozen=True)
class ExampleCall:
    """A model and an example call of it.

    Attributes:
        model: the model.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.
        dynamic: the dynamic dimensions of the arguments, as `symfx.trace` takes them.
        inputs: the inputs as they were described.
        stated: the conditions on their dimensions.
        chosen: the example sizes that the descriptions left open, by name.
    """

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: dict[Any, Any]
    inputs: tuple[InputSyntax, ...]
    stated: tuple[Stated, ...]
    chosen: dict[str, int]


@contextmanager
def inputs_are_options() -> Iterator[None]:
    """Name ``--input`` in an error about what Python calls `dynamic`."""
    try:
        yield
    except SpecError as error:
        if error.where is None or error.where.partition(",")[0] != "dynamic":
            raise
        where = "--input" + error.where.removeprefix("dynamic")
        raise SpecError(error.what, where=where, fix=error.fix) from None


def traced_call(call: ExampleCall, *, strict: bool, pre_dispatch: bool = False) -> Trace:
    """The trace of a call; each pinned dimension is told on stderr, also where it is allowed.

    Args:
        call: the model and its arguments.
        strict: refuse a pinned dimension.
        pre_dispatch: trace above autograd.
    """
    from symfx.tracing import trace

    with inputs_are_options():
        traced = trace(
            call.model,
            call.args,
            call.kwargs,
            dynamic=call.dynamic,
            where=call.stated,
            strict=strict,
            pre_dispatch=pre_dispatch,
        )
    for record in traced.specializations:
        print_warning(
            f"the graph holds for {record.symbol_name} = {record.value} alone",
            str(record.provenance).removeprefix("at "),
        )
    return traced


def example_call(
    target: str,
    init: Sequence[str],
    inputs: Sequence[str],
    seed: int,
    where: Sequence[str] = (),
    train: bool | None = None,
) -> ExampleCall:
    """Load a model, and make the inputs that are described.

    Args:
        target: the model; see `symfx.cli.models.load`.
        init: arguments for building it.
        inputs: descriptions of the inputs; see `symfx.shape_language.parse_input`.
        seed: the seed from which weights and inputs are drawn.
        where: conditions on the dimensions.
        train: whether the model is put in train mode or in eval mode; None for neither.

    Raises:
        SpecError: an input cannot be read, or the model does not take it or has no such mode.
        TargetError: the model cannot be loaded.
    """
    # A mistake in these texts is told before torch is loaded.
    described = [parse_input(text) for text in inputs]
    conditions = [(parse_condition(text, "--where"), Text(text, "--where")) for text in where]
    load_torch()
    import torch

    from symfx.tracing.stated import Stated

    stated = tuple(Stated(*condition) for condition in conditions)
    torch.manual_seed(seed)
    model = load(target, init)
    if train is not None:
        if not isinstance(model, torch.nn.Module):
            raise SpecError(
                f"{target} is not a module, and has no train and eval modes",
                where="--train" if train else "--eval",
                fix="leave this option out",
            )
        model.train(train)
    values, dynamic = make_inputs(described, seed, stated)
    args, kwargs = arrange(model, values)
    by_parameter = _by_parameter(model, dynamic, values)
    return ExampleCall(
        model, args, kwargs, by_parameter, tuple(described), stated, chosen_names(described, stated)
    )


def _by_parameter(
    model: Callable[..., Any], dynamic: dict[str, Any], values: dict[str, Any]
) -> dict[Any, Any]:
    """The dynamic dimensions by parameter name, or by position where the model has no signature."""
    try:
        inspect.signature(getattr(model, "forward", model))
    except (TypeError, ValueError):
        return {i: dynamic[name] for i, name in enumerate(values) if name in dynamic}
    return dict(dynamic)


def make_inputs(
    inputs: Sequence[InputSyntax],
    seed: int = 0,
    stated: Sequence[Stated] = (),
    sizes: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Example values of inputs, and their dynamic dimensions.

    A dimension without an example size gets an odd prime that is the size of no other dimension,
    so that two dimensions have one size only if they have one name; or a size for which the
    stated conditions hold.

    Args:
        inputs: the inputs.
        seed: the seed from which values are drawn.
        stated: conditions on the dimensions.
        sizes: sizes to take for names, instead of those that are described.

    Returns:
        The values by parameter, and the dynamic dimensions by parameter, as `symfx.trace` takes
        them.

    Raises:
        SpecError: an input is described twice, or two descriptions of a dimension differ.

    Example:
        >>> from symfx.shape_language import parse_input
        >>> inputs = [parse_input("x: f32[batch, 4]"), parse_input("n: int=9")]
        >>> values, dynamic = make_inputs(inputs)
        >>> values["x"].shape, values["n"]
        (torch.Size([3, 4]), 9)
        >>> [str(part) for part in dynamic["x"]], str(dynamic["n"])
        (['batch', '4'], 'n')
    """
    import torch

    described = arguments_of(inputs)
    leaves = [leaf for argument in described.values() for leaf in leaves_of(argument)]
    known = {**example_sizes(leaves, stated), **(sizes or {})}
    _refuse_huge(leaves, known)
    generator = torch.Generator().manual_seed(seed)

    def value(leaf: Leaf) -> Any:
        if isinstance(leaf.type, TensorSyntax):
            return _draw(leaf.type, shape_of(leaf, known), generator)
        return known[leaf.name] if isinstance(leaf.type, IntInput) else leaf.type.value

    def extents(leaf: Leaf) -> Any:
        if isinstance(leaf.type, TensorSyntax):
            return tuple(leaf.type.dims)
        return Size(Name(leaf.name)) if isinstance(leaf.type, IntInput) else None

    values = {name: mapped(argument, value) for name, argument in described.items()}
    dynamic = {name: mapped(argument, extents) for name, argument in described.items()}
    return values, {name: entry for name, entry in dynamic.items() if entry is not None}


def _refuse_huge(leaves: Sequence[Leaf], sizes: Mapping[str, int]) -> None:
    """Refuse inputs that the memory of this machine cannot hold.

    Raises:
        SpecError: the inputs are such.
    """
    needed = 0
    for leaf in leaves:
        if isinstance(leaf.type, TensorSyntax):
            needed += math.prod(shape_of(leaf, sizes)) * _BYTES
            if needed > _memory():
                raise SpecError(
                    f"{leaf.path} needs {needed / 2**30:.3g} GiB while it is drawn, and this "
                    f"machine has {_memory() / 2**30:.3g} GiB",
                    where="--input",
                    fix="give smaller example sizes, such as x: f32[n=8, 4]",
                )


def _memory() -> int:
    """The bytes of memory of this machine; a terabyte where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 1 << 40


def arrange(
    model: Callable[..., Any], values: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments that call a model with these inputs.

    A builtin without a signature gets the inputs by position, in their order.

    Raises:
        SpecError: the model has no parameter of a name, or a required parameter has no input.

    Example:
        >>> arrange(lambda x, scale=1: x * scale, {"scale": 3, "x": 2})
        ((2, 3), {})
    """
    called = getattr(model, "forward", model)
    try:
        signature = inspect.signature(called)
    except (TypeError, ValueError):
        return tuple(values.values()), {}
    kinds = inspect.Parameter
    parameters = signature.parameters
    takes_any = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    plain = {
        name: p
        for name, p in parameters.items()
        if p.kind not in (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    }
    takes = ", ".join(plain)
    for name in values:
        if name not in plain and not takes_any:
            near = difflib.get_close_matches(name, plain, n=1)
            fix = f"did you mean {near[0]}? " if near else ""
            fix += f"its inputs are {takes}" if takes else "it takes no named inputs"
            if inspect.isfunction(model) and model.__name__.isidentifier():
                fix += f"; if {model.__name__} makes the model, write {model.__name__}() as target"
            raise SpecError(
                f"the model has no input {name!r}", where=f"--input, for {signature}", fix=fix
            )
    for name, parameter in plain.items():
        if name not in values and parameter.default is kinds.empty:
            raise SpecError(
                f"the model needs an input {name!r}",
                where=f"the signature {signature}",
                fix=f'describe it: --input "{name}: f32[batch, 64]"',
            )
    bound = inspect.BoundArguments(signature, OrderedDict())
    for name in plain:
        if name in values:
            bound.arguments[name] = values[name]
    others = {name: value for name, value in values.items() if name not in plain}
    return bound.args, {**bound.kwargs, **others}


def _draw(type_: TensorSyntax, shape: Sequence[int], generator: torch.Generator) -> torch.Tensor:
    import torch

    name = type_.dtype or "float32"
    dtype: torch.dtype = getattr(torch, name)
    if name in INTEGER_BITS or dtype is torch.bool:
        high = type_.below or 2
        return torch.randint(0, high, tuple(shape), generator=generator).to(dtype)
    wide = torch.complex128 if dtype.is_complex else torch.float64
    return torch.randn(tuple(shape), generator=generator, dtype=wide).to(dtype)
