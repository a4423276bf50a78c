"""The inputs of a trace: fake tensors for real ones, and symbols for the sizes that vary."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, is_fake
from torch.utils import _pytree as pytree

from symfx.dynamic_spec import ParamsSpec, ShapesSpec
from symfx.errors import SpecError, TracingError
from symfx.proxy_tensor.metadata import snapshot_fake
from symfx.proxy_tensor.shape_specs import BoundSpec, InputSymbol, spec_inputs
from symfx.proxy_tensor.static_inputs import StaticInputs
from symfx.shape_language.lowering import condition_term
from symfx.shape_language.syntax import Condition
from symfx.shape_language.texts import Text
from symfx.symbolic_shapes import (
    Dim,
    DimDynamic,
    DimExpression,
    ShapeEnv,
    StatelessSymbolicContext,
)

__all__ = [
    "DynamicShapes",
    "StatedShapes",
    "argument_names",
    "fake_inputs",
    "fake_mode_of",
    "inputs_as_torch_names_them",
    "inputs_of_spec",
    "parameter_defaults",
    "parameter_names",
    "sources_of_real",
]


@dataclass(frozen=True)
class StatedShapes:
    """The dimensions of the inputs that vary, and conditions on them that the user states.

    Attributes:
        entries: an entry for each argument.
        conditions: the conditions, each with the text that it was read from.
    """

    entries: Sequence[Any]
    conditions: Sequence[tuple[Condition, Text]]


DynamicShapes = (
    Sequence[Any] | Mapping[str, Any] | StatedShapes | ShapesSpec | ParamsSpec | BoundSpec | None
)
"""The dimensions of the inputs that vary; see `symfx.proxy_tensor.make_fx`."""

_REAL = (torch.Tensor, torch.nn.Parameter)
_LITERALS = (type(None), bool, int, float, str)
_DIM_SPECS = (Dim, DimExpression, str, bool, int, type(None))


def parameter_names(f: Callable[..., Any], count: int) -> tuple[list[str], bool]:
    """The names of the first positional parameters of a function.

    Args:
        f: a function or a module.
        count: the number of its arguments.

    Returns:
        The names, ``args[0]`` for an argument that ``*args`` takes; and whether each argument
        has a parameter of its own.
    """
    try:
        signature = inspect.signature(f.forward if isinstance(f, torch.nn.Module) else f)
    except (TypeError, ValueError):
        return [f"arg{i}" for i in range(count)], False
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = [f"{parameter.name}[{i}]" for i in range(count - len(names))]
            return names + rest, False
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return (names[:count], True) if len(names) >= count else ([], False)


def argument_names(f: Callable[..., Any], args: Sequence[Any]) -> list[str]:
    """The names of the placeholders: those of the parameters, or ``arg0``, ``arg1`` and so on."""
    names, own_parameters = parameter_names(f, len(args))
    if len(names) != len(args):
        raise TracingError(
            f"the function takes {len(names) or 'fewer'} positional arguments, but got {len(args)}",
            where=getattr(f, "__qualname__", repr(f)),
        )
    plain = own_parameters and hasattr(inspect.unwrap(f), "__code__")
    return names if plain else [f"arg{i}" for i in range(len(args))]


def sources_of_real(
    f: Callable[..., Any], names: Sequence[str], args: Sequence[Any]
) -> dict[str, str]:
    """For the name of each argument that is a real tensor, its name in the environment."""
    sources = parameter_names(f, len(args))[0]
    return {
        name: source
        for name, source, arg in zip(names, sources, args, strict=True)
        if isinstance(arg, torch.Tensor) and not _is_fake(arg)
    }


def _is_fake(tensor: torch.Tensor) -> bool:
    if type(tensor) in _REAL and not (
        torch._is_functional_tensor(tensor)
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    ):
        return False
    return is_fake(tensor)


def parameter_defaults(f: Callable[..., Any]) -> dict[str, Any]:
    """The defaults of a function's parameters that are literals, which a graph's code can hold.

    Args:
        f: a function. The result for a module is empty, because its graph's inputs have other
            names than the parameters.
    """
    if isinstance(f, torch.nn.Module):
        return {}
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {p.name: p.default for p in parameters if isinstance(p.default, _LITERALS)}


def fake_inputs(
    mode: FakeTensorMode,
    names: Sequence[str],
    args: Sequence[Any],
    symbolic: bool,
    dynamic_shapes: DynamicShapes,
) -> tuple[Any, ...]:
    """The arguments with fake tensors for real ones, and in a symbolic trace with symbols.

    Args:
        mode: the mode that makes the fake tensors.
        names: the names of the arguments.
        args: the arguments.
        symbolic: whether sizes and ints become symbols.
        dynamic_shapes: the sizes and ints that do; None for all.

    Raises:
        SpecError: `dynamic_shapes` does not fit the arguments.
    """
    args = _without_values(mode, args)
    if not symbolic:
        return tuple(
            _map_leaves(arg, name, lambda leaf, source: _fake(mode, leaf, source, None))
            for arg, name in zip(args, names, strict=True)
        )
    if dynamic_shapes is None:
        return tuple(
            _map_leaves(arg, name, lambda leaf, source: _symbolic(mode, leaf, source))
            for arg, name in zip(args, names, strict=True)
        )
    entries = dynamic_shapes.entries if isinstance(dynamic_shapes, StatedShapes) else dynamic_shapes
    specs = _by_argument(entries, names)
    static = StaticInputs(mode, args) if is_symfx_env(mode.shape_env) else None
    inputs: list[Any] = []
    for arg, spec, name in zip(args, specs, names, strict=True):
        if spec is not None or static is None:
            inputs.append(_apply(mode, arg, spec, name))
        else:
            static.fake(arg, name, functools.partial(_apply, mode, arg, spec, name), inputs)
    if static is not None:
        static.finish()
    if isinstance(dynamic_shapes, StatedShapes):
        env: Any = mode.shape_env
        for condition, text in dynamic_shapes.conditions:
            term = condition_term(env.table, condition, env.inputs.named, text)
            env.state_condition(term, str(condition))
    return tuple(inputs)


def inputs_as_torch_names_them(
    args: Sequence[Any], symbolic: bool, allow_non_fake_inputs: bool
) -> tuple[Any, ...]:
    """The arguments as torch's make_fx prepares them, with its names for inputs and so symbols.

    torch's code and its tests know the symbols of a trace by name, which comes from the source.

    Args:
        args: the arguments.
        symbolic: whether sizes and ints become symbols.
        allow_non_fake_inputs: whether the mode takes real tensors, where the arguments have none.
    """
    is_new = detect_fake_mode(args) is None
    mode = fake_mode_of(args, symbolic, allow_non_fake_inputs, trace_asserts=False)
    if is_new:
        mode.shape_env.speaks_torch = True  # type: ignore[union-attr]
    count = 0

    def leaf(value: Any) -> Any:
        nonlocal count
        name = f"input{count}"
        count += isinstance(value, torch.Tensor)
        return _symbolic(mode, value, name) if symbolic else _fake(mode, value, name, None)

    return tuple(pytree.tree_map(leaf, list(_without_values(mode, args))))


def inputs_of_spec(
    mode: FakeTensorMode, names: Sequence[str], args: Sequence[Any], spec: BoundSpec
) -> tuple[tuple[Any, ...], list[list[InputSymbol]]]:
    """The arguments with fake tensors for real ones, and unbacked sizes as a spec describes them.

    Args:
        mode: the mode that makes the fake tensors.
        names: the names of the arguments.
        args: the arguments.
        spec: the spec.

    Returns:
        The arguments, and for each of their leaves the unbacked symbols that it binds.
    """
    leaves: list[tuple[str, Any]] = []
    for name, arg in zip(names, _without_values(mode, args), strict=True):
        paths, _ = pytree.tree_flatten_with_path(arg)
        leaves += [(name + pytree.keystr(path), leaf) for path, leaf in paths]
    made, symbols = spec_inputs(
        mode, leaves, spec, lambda leaf, name: _apply(mode, leaf, None, name)
    )
    inputs: tuple[Any, ...] = pytree.tree_unflatten(made, pytree.tree_structure(tuple(args)))
    return inputs, symbols


def _without_values(mode: FakeTensorMode, args: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments, with fake tensors of the mode that do not carry their value.

    ``torch.tensor(5)`` under a fake mode carries its value, so that ``item`` gives 5. As an input
    the tensor may have any value when the graph runs.
    """
    found: dict[int, torch.Tensor] = {}

    def without_value(fake: FakeTensor) -> torch.Tensor:
        if fake.fake_mode is not mode or fake.constant is None:
            return fake
        if id(fake) not in found:
            found[id(fake)] = snapshot_fake(fake).requires_grad_(fake.requires_grad)
        return found[id(fake)]

    return tuple(
        arg if type(arg) in _REAL else pytree.tree_map_only(FakeTensor, without_value, arg)
        for arg in args
    )


def _map_leaves(arg: Any, name: str, leaf: Callable[[Any, str], Any]) -> Any:
    """Apply a function to each leaf of an argument and the leaf's name."""
    with_path, spec = pytree.tree_flatten_with_path(arg)
    return pytree.tree_unflatten(
        [leaf(value, name + pytree.keystr(path)) for path, value in with_path], spec
    )


def _source(name: str) -> Any:
    from torch._dynamo.source import ConstantSource

    # This source prints as the name alone, so that a size prints as "x.size()[0]".
    return ConstantSource(name)


def _fake(mode: FakeTensorMode, leaf: Any, name: str, context: Any) -> Any:
    if isinstance(leaf, FakeTensor) and leaf.fake_mode is mode:
        return leaf
    if isinstance(leaf, torch.Tensor):
        return mode.from_tensor(leaf, source=_source(name), symbolic_context=context)
    return leaf


def _symbolic(mode: FakeTensorMode, leaf: Any, name: str) -> Any:
    """A leaf whose sizes all vary; for an int, the int varies."""
    if type(leaf) is int:
        return _symbolic_int(mode.shape_env, leaf, name, None)
    return _fake(mode, leaf, name, None)


def _symbolic_int(env: Any, value: int, name: str, dim: Dim | DimExpression | None) -> Any:
    if dim is not None:
        env.name_dimension(name, 0, dim)
    symbol = env.create_symbol(value, _source(name), positive=None)
    return env.create_symintnode(symbol, hint=value, source=_source(name))


def _by_argument(dynamic_shapes: Any, names: Sequence[str]) -> list[Any]:
    if isinstance(dynamic_shapes, Mapping):
        unknown = [str(key) for key in dynamic_shapes if key not in names]
        if unknown:
            raise SpecError(
                f"dynamic_shapes has entries for {', '.join(unknown)}; the arguments are "
                f"{', '.join(names) or 'none'}",
                fix="use the names of the function's parameters",
            )
        return [dynamic_shapes.get(name) for name in names]
    if not isinstance(dynamic_shapes, Sequence) or isinstance(dynamic_shapes, str):
        raise SpecError(
            f"dynamic_shapes is a {type(dynamic_shapes).__name__}",
            fix="give a sequence with an entry for each argument, or a dict by parameter name",
        )
    if len(dynamic_shapes) != len(names):
        raise SpecError(
            f"dynamic_shapes has {len(dynamic_shapes)} entries for {len(names)} arguments",
            fix="give an entry for each positional argument; None for a static argument",
        )
    return list(dynamic_shapes)


def _apply(mode: FakeTensorMode, arg: Any, spec: Any, name: str) -> Any:
    env = mode.shape_env
    if isinstance(arg, torch.Tensor):
        return _fake(mode, arg, name, _context(env, arg, spec, name))
    if type(arg) is int:
        if spec is None or spec is False:
            return arg
        if spec is True:
            return _symbolic_int(env, arg, name, None)
        return _symbolic_int(env, arg, name, _dim(spec, name))
    if spec is None or spec is True:

        def leaf(value: Any, at: str) -> Any:
            return _apply(mode, value, spec if isinstance(value, (torch.Tensor, int)) else None, at)

        if pytree.tree_is_leaf(arg):
            if spec is True:
                raise SpecError(
                    f"{name} is a {type(arg).__name__}, which has no size that could vary",
                    where="dynamic_shapes",
                    fix=f"give None as the entry of {name}",
                )
            return arg
        return _map_leaves(arg, name, leaf)
    if isinstance(arg, (list, tuple)) and isinstance(spec, (list, tuple)):
        if len(arg) != len(spec):
            raise SpecError(f"{name} has {len(arg)} items, dynamic_shapes describes {len(spec)}")
        items = [
            _apply(mode, a, s, f"{name}[{i}]")
            for i, (a, s) in enumerate(zip(arg, spec, strict=True))
        ]
        return type(arg)(*items) if hasattr(arg, "_fields") else type(arg)(items)
    if isinstance(arg, Mapping) and isinstance(spec, Mapping):
        unknown = [str(k) for k in spec if k not in arg]
        if unknown:
            raise SpecError(f"dynamic_shapes describes {', '.join(unknown)}, which {name} lacks")
        entries = {k: _apply(mode, a, spec.get(k), f"{name}[{k!r}]") for k, a in arg.items()}
        leaves, tree = pytree.tree_flatten(arg, is_leaf=lambda x: x is not arg)
        del leaves
        return pytree.tree_unflatten(list(entries.values()), tree)
    raise SpecError(
        f"the entry {spec!r} of dynamic_shapes does not fit {name}, a {type(arg).__name__}",
        fix="give None, or a tree of entries with the structure of the argument",
    )


def _context(
    env: Any, tensor: torch.Tensor, spec: Any, name: str
) -> StatelessSymbolicContext | None:
    rank = tensor.dim()
    if spec is None or spec is False:
        per_dimension: list[Any] = [None] * rank
    elif spec is True:
        per_dimension = [True] * rank
    elif isinstance(spec, Mapping):
        wrong = [d for d in spec if type(d) is not int or not -rank <= d < rank]
        if wrong:
            raise SpecError(
                f"{name} has dimensions 0 to {rank - 1}; dynamic_shapes has entries for "
                f"{', '.join(map(repr, wrong))}"
            )
        twice = [d for d in spec if d < 0 and d + rank in spec]
        if twice:
            raise SpecError(
                f"dynamic_shapes describes dimension {twice[0] + rank} of {name} twice, "
                f"also as {twice[0]}",
                fix="describe each dimension once",
            )
        per_dimension = [spec.get(d, spec.get(d - rank)) for d in range(rank)]
    elif isinstance(spec, (list, tuple)):
        if len(spec) != rank:
            raise SpecError(
                f"{name} has {rank} dimensions, dynamic_shapes describes {len(spec)}",
                fix="give one entry for each dimension, or a dict {dimension: entry}",
            )
        per_dimension = list(spec)
    else:
        raise SpecError(
            f"the entry {spec!r} of dynamic_shapes does not fit {name}, a tensor",
            fix="give None, True, a dict {dimension: entry} or a list of entries",
        )
    kinds = []
    for d, entry in enumerate(per_dimension):
        if not isinstance(entry, _DIM_SPECS):
            raise SpecError(
                f"{entry!r} does not describe dimension {d} of {name}",
                fix="give a Dim, a name, True (varies), or None (static)",
            )
        if entry is None or entry is False:
            kinds.append(DimDynamic.STATIC)
        elif entry is True:
            kinds.append(DimDynamic.DUCK)
        elif isinstance(entry, int):
            if entry != tensor.shape[d]:
                raise SpecError(
                    f"dimension {d} of {name} is {tensor.shape[d]}, dynamic_shapes says {entry}"
                )
            kinds.append(DimDynamic.STATIC)
        else:
            env.name_dimension(name, d, _dim(entry, name))
            kinds.append(DimDynamic.DYNAMIC)
    return StatelessSymbolicContext(kinds)


def _dim(entry: Any, name: str) -> Dim | DimExpression:
    if isinstance(entry, Dim) or (isinstance(entry, DimExpression) and entry.sizes):
        return entry
    if isinstance(entry, str):
        return Dim(entry)
    raise SpecError(
        f"{entry!r} does not describe {name}",
        where="dynamic_shapes",
        fix="give a Dim, a name, True (varies), or None (static)",
    )


def is_symfx_env(env: Any) -> bool:
    """Whether an environment is symfx's own."""
    return type(env) is ShapeEnv


@functools.cache  # each patch of torch's settings leaves a variable in the context for good
def _without_access_to_data() -> contextlib.AbstractContextManager[Any]:
    """A context in which new fake modes refuse to give pointers to data."""
    import torch._functorch.config as functorch_config

    patch: contextlib.AbstractContextManager[Any] = functorch_config.patch(
        fake_tensor_allow_unsafe_data_ptr_access=False
    )
    return patch


def fake_mode_of(
    args: Sequence[Any], symbolic: bool, allow_non_fake_inputs: bool, trace_asserts: bool
) -> FakeTensorMode:
    """The fake mode of the arguments, or else the active one, or else a new one.

    Args:
        args: the arguments.
        symbolic: whether sizes are symbolic.
        allow_non_fake_inputs: whether real tensors may meet fake ones.
        trace_asserts: see `symfx.symbolic_shapes.ShapeEnvSettings`.
    """
    mode: FakeTensorMode | None = detect_fake_mode(args)
    if mode is not None:
        if symbolic and mode.shape_env is None:
            raise TracingError(
                "the fake mode of the arguments has no ShapeEnv, so no size can be symbolic in it",
                fix="make it with FakeTensorMode(shape_env=symfx.symbolic_shapes.ShapeEnv())",
            )
        return mode
    with _without_access_to_data():
        return FakeTensorMode(
            allow_fallback_kernels=not symbolic,
            allow_non_fake_inputs=allow_non_fake_inputs,
            shape_env=ShapeEnv(trace_asserts=trace_asserts),  # type: ignore[arg-type]
            static_shapes=not symbolic,
        )
