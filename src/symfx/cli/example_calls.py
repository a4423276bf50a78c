"""A model and example arguments for it, from the words of a command line."""

from __future__ import annotations

import difflib
import inspect
import itertools
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symfx.cli.console import progress
from symfx.cli.inputs import (
    INTEGER_BITS,
    ConstantSpec,
    DimSpec,
    InputSpec,
    IntSpec,
    TensorSpec,
    parse,
)
from symfx.cli.models import load
from symfx.errors import SpecError

if TYPE_CHECKING:
    import torch

__all__ = ["ExampleCall", "arrange", "example_call", "make_inputs"]


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
        specs: the inputs as they were described.
        chosen: the example sizes that the descriptions left open, by name.
    """

    model: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    dynamic: dict[Any, Any]
    specs: tuple[InputSpec, ...]
    chosen: dict[str, int]


def example_call(target: str, init: Sequence[str], inputs: Sequence[str], seed: int) -> ExampleCall:
    """Load a model, and make the inputs that are described.

    Args:
        target: the model; see `symfx.cli.models.load`.
        init: arguments for building it.
        inputs: descriptions of the inputs; see `symfx.cli.inputs.parse`.
        seed: the seed from which weights and inputs are drawn.

    Raises:
        SpecError: an input cannot be read, or the model does not take it.
        TargetError: the model cannot be loaded.
    """
    specs = [parse(text) for text in inputs]  # a mistake here is told before torch is loaded
    with progress("loading torch"):
        import torch
    torch.manual_seed(seed)
    model = load(target, init)
    values, dynamic = make_inputs(specs, seed)
    args, kwargs = arrange(model, values)
    known = _known_dims(specs)
    chosen = {
        name: size
        for name, size in _example_sizes(specs, known).items()
        if known[name].size is None
    }
    by_parameter = _by_parameter(model, dynamic, values)
    return ExampleCall(model, args, kwargs, by_parameter, tuple(specs), chosen)


def _by_parameter(
    model: Callable[..., Any], dynamic: dict[str, Any], values: dict[str, Any]
) -> dict[Any, Any]:
    """The dynamic dimensions by parameter name, or by position where the model has no signature."""
    try:
        inspect.signature(getattr(model, "forward", model))
    except (TypeError, ValueError):
        return {i: dynamic[name] for i, name in enumerate(values) if name in dynamic}
    return dict(dynamic)


def make_inputs(specs: Sequence[InputSpec], seed: int = 0) -> tuple[dict[str, Any], dict[str, Any]]:
    """Example values of inputs, and their dynamic dimensions.

    A dimension without an example size gets an odd prime that is the size of no other dimension:
    two dimensions have one size only if they have one name.

    Args:
        specs: the inputs.
        seed: the seed from which values are drawn.

    Returns:
        The values by name, and the dynamic dimensions by name, as `symfx.trace` takes them.

    Raises:
        SpecError: an input is described twice, or two descriptions of a dimension differ.

    Example:
        >>> values, dynamic = make_inputs([parse("x: f32[batch, 4]"), parse("n: int=9")])
        >>> values["x"].shape, values["n"]
        (torch.Size([3, 4]), 9)
        >>> dynamic
        {'x': (Dim(name='batch', min=None, max=None), None), 'n': Dim(name='n', min=None, max=None)}
    """
    import torch

    from symfx.symbolic_shapes import Dim

    names = [spec.name for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(
                f"the input {name!r} is described twice", where="--input", fix="describe it once"
            )
    known = _known_dims(specs)
    sizes = _example_sizes(specs, known)
    dims = {name: Dim(name, min=dim.low, max=dim.high) for name, dim in known.items()}
    _refuse_huge(specs, sizes)
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Any] = {}
    dynamic: dict[str, Any] = {}
    for spec in specs:
        if isinstance(spec, ConstantSpec):
            values[spec.name] = spec.value
        elif isinstance(spec, IntSpec):
            values[spec.name] = sizes[spec.name]
            dynamic[spec.name] = dims[spec.name]
        else:
            shape = [sizes[dim.name] if dim.name else dim.size or 0 for dim in spec.dims]
            values[spec.name] = _draw(spec, shape, generator)
            extents = tuple(dims[dim.name] if dim.name else None for dim in spec.dims)
            if any(extents):
                dynamic[spec.name] = extents
    return values, dynamic


def _refuse_huge(specs: Sequence[InputSpec], sizes: Mapping[str, int]) -> None:
    """Refuse inputs that the memory of this machine cannot hold.

    Raises:
        SpecError: the inputs are such.
    """
    needed = 0
    for spec in specs:
        if isinstance(spec, TensorSpec):
            elements = math.prod(
                sizes[dim.name] if dim.name else dim.size or 0 for dim in spec.dims
            )
            needed += elements * _BYTES
            if needed > _memory():
                raise SpecError(
                    f"{spec.name} needs {needed / 2**30:.3g} GiB while it is drawn, and this "
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


def _known_dims(specs: Sequence[InputSpec]) -> dict[str, DimSpec]:
    """Each named dimension as all inputs together describe it."""
    known: dict[str, DimSpec] = {}
    for spec in specs:
        if isinstance(spec, TensorSpec):
            dims = [dim for dim in spec.dims if dim.name]
        elif isinstance(spec, IntSpec):
            dims = [DimSpec(spec.name, spec.value)]
        else:
            dims = []
        for dim in dims:
            name = dim.name or ""
            before = known.get(name, DimSpec(name))
            known[name] = DimSpec(
                name,
                _agreed(name, "example", before.size, dim.size),
                _agreed(name, "smallest size", before.low, dim.low),
                _agreed(name, "largest size", before.high, dim.high),
            )
    return known


def _agreed(name: str, what: str, one: int | None, other: int | None) -> int | None:
    """The one of two numbers that is given; both must be equal if both are given."""
    if one is not None and other is not None and one != other:
        raise SpecError(
            f"the dimension {name!r} has two values for its {what}: {one} and {other}",
            where="--input",
            fix="give one value, or use two names",
        )
    return other if one is None else one


def _example_sizes(specs: Sequence[InputSpec], known: dict[str, DimSpec]) -> dict[str, int]:
    """The example size of each named dimension."""
    taken = {0, 1} | {dim.size for dim in known.values() if dim.size is not None}
    for spec in specs:
        if isinstance(spec, TensorSpec):
            taken.update(dim.size for dim in spec.dims if dim.name is None and dim.size is not None)
    sizes: dict[str, int] = {}
    for name, dim in known.items():
        low = 2 if dim.low is None else dim.low
        if dim.size is not None:
            sizes[name] = dim.size
            continue
        candidates = (n for n in itertools.count(max(low, 3)) if n not in taken)
        size = next(n for n in candidates if _is_odd_prime(n))
        if dim.high is not None and size > dim.high:
            # No such prime is in the range: take a size that is free, or else the largest.
            inside = range(low, dim.high + 1)
            size = next((n for n in inside if n not in taken), max(dim.high, low))
        sizes[name] = size
        taken.add(size)
    return sizes


def _is_odd_prime(n: int) -> bool:
    return n > 2 and all(n % d for d in range(2, int(n**0.5) + 1))


def _draw(spec: TensorSpec, shape: list[int], generator: torch.Generator) -> torch.Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, spec.dtype)
    if spec.dtype in INTEGER_BITS or dtype is torch.bool:
        high = spec.below or 2
        return torch.randint(0, high, shape, generator=generator).to(dtype)
    return torch.randn(
        shape, generator=generator, dtype=torch.complex128 if dtype.is_complex else torch.float64
    ).to(dtype)
