"""Inputs of a trace under a spec of `symfx.dynamic_spec`: unbacked sizes, and their assumptions.

A dimension that the spec describes becomes an unbacked symbol; every other dimension is static.
Bounds, derived sizes and assumptions become runtime assertions, which the graph checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as pytree

from symfx.algebra import Term
from symfx.dynamic_spec import DictSpec, IntVar, ObjectSpec, SeqSpec, TensorSpec
from symfx.errors import SpecError, describe
from symfx.symbolic_shapes import CallMethodKey, DimDynamic, StatelessSymbolicContext
from symfx.torch_bridge.shape_specs import (
    entries_of_mapping,
    entries_of_sequence,
    parameters_of,
)

__all__ = [
    "BoundSpec",
    "InputSymbol",
    "ParameterEntries",
    "bind",
    "leaf_entries",
    "spec_inputs",
]


@dataclass(frozen=True)
class BoundSpec:
    """A spec, matched with the leaves of a call's arguments.

    Attributes:
        leaves: for each leaf its entry: a `TensorSpec`, an `IntVar`, an expression of those, an
            int, or None for a static leaf.
        assumptions: the assumptions of the spec.
    """

    leaves: tuple[Any, ...]
    assumptions: tuple[torch.SymBool, ...]


class InputSymbol(NamedTuple):
    """An unbacked symbol that an input binds.

    Attributes:
        term: the symbol.
        dim: the dimension of the input whose size it is; None for the value of an int.
    """

    term: Term
    dim: int | None

    @property
    def binding(self) -> tuple[Any, ...]:
        """The path from the input to the symbol, as in ``unbacked_bindings``."""
        return () if self.dim is None else (CallMethodKey("size"), pytree.SequenceKey(self.dim))


class ParameterEntries:
    """The entries of a spec by parameter.

    Args:
        spec: a `symfx.dynamic_spec.ShapesSpec`.
    """

    def __init__(self, spec: Any) -> None:
        self._named, self._star, self._keywords = parameters_of(spec)
        self.assumptions: tuple[torch.SymBool, ...] = tuple(spec.assumptions)
        self._unused = {*self._named, *self._keywords}

    def named(self, name: str) -> Any:
        """The entry of a parameter, or of a member of ``**kwargs``."""
        self._unused.discard(name)
        return self._named.get(name, self._keywords.get(name))

    def star(self, index: int) -> Any:
        """The entry of a member of ``*args``."""
        return self._star[index] if index < len(self._star) else None

    def refuse_unused(self, names: Iterable[str]) -> None:
        """Check that each entry belongs to an argument.

        Args:
            names: the names of the arguments.

        Raises:
            SpecError: an entry belongs to none.
        """
        if self._unused:
            raise SpecError(
                f"the spec has entries for {', '.join(sorted(self._unused))}; the arguments are "
                f"{', '.join(names) or 'none'}",
                where="dynamic_shapes",
                fix="use the names of parameters that the call passes",
            )


def bind(spec: Any, names: Sequence[str], args: Sequence[Any]) -> BoundSpec:
    """Match a spec with positional arguments.

    Args:
        spec: a `symfx.dynamic_spec.ShapesSpec`.
        names: the names of the arguments; ``args[0]`` is a member of ``*args``.
        args: the arguments.

    Raises:
        SpecError: the spec does not fit the arguments.
    """
    entries = ParameterEntries(spec)
    named = [name for name in names if not name.endswith("]")]
    leaves: list[Any] = []
    for i, (name, value) in enumerate(zip(names, args, strict=True)):
        entry = entries.named(name) if i < len(named) else entries.star(i - len(named))
        leaves += leaf_entries(name, value, entry)
    entries.refuse_unused(names)
    return BoundSpec(tuple(leaves), entries.assumptions)


def leaf_entries(path: str, value: Any, entry: Any) -> list[Any]:
    """The entry of each leaf of an argument.

    Args:
        path: the Python that reads the value from the parameters.
        value: the argument, or a part of it.
        entry: its entry in the spec.

    Raises:
        SpecError: the entry does not fit the value.
    """
    if entry is None:
        return [None] * len(pytree.tree_leaves(value))
    if isinstance(entry, (SeqSpec, DictSpec, ObjectSpec)):
        return _entries_in_container(path, value, entry)
    if isinstance(entry, TensorSpec):
        if not isinstance(value, torch.Tensor):
            raise _misfit(path, value, "a TensorSpec", "give a TensorSpec to a tensor")
        if len(entry) != value.dim():
            raise SpecError(
                f"{path} has {value.dim()} dimensions, and its TensorSpec has {len(entry)}",
                where="dynamic_shapes",
                fix="give one entry for each dimension; None is static",
            )
        for d, size in enumerate(entry):
            if _is_plain(size) and size != value.shape[d]:
                raise SpecError(
                    f"dimension {d} of {path} is {value.shape[d]}, and the spec says {size}",
                    where="dynamic_shapes",
                    fix="a number is a static size: give the size of the example, or None",
                )
        return [entry]
    if _is_plain(entry) or isinstance(entry, torch.SymInt):
        if type(value) is not int:
            raise _misfit(path, value, describe(entry), "give an IntVar to an int")
        if _is_plain(entry) and entry != value:
            raise SpecError(
                f"{path} is {value}, and the spec says {entry}",
                where="dynamic_shapes",
                fix="a number is a static value: give the value of the example, or None",
            )
        return [entry]
    raise _misfit(path, value, describe(entry), "give a TensorSpec, an IntVar, an int or None")


def _is_plain(entry: Any) -> bool:
    return type(entry) is int


def _misfit(path: str, value: Any, entry: str, fix: str) -> SpecError:
    return SpecError(
        f"{path} is {describe(value)}, and its entry in the spec is {entry}",
        where="dynamic_shapes",
        fix=fix,
    )


def _entries_in_container(path: str, value: Any, spec: Any) -> list[Any]:
    """The entries of the leaves of a container, from a `SeqSpec`, `DictSpec` or `ObjectSpec`."""
    wanted: Mapping[Any, Any]
    expected: tuple[type, ...]
    if isinstance(spec, SeqSpec):
        wanted, expected = dict(enumerate(entries_of_sequence(spec))), (list, tuple)
    elif isinstance(spec, DictSpec):
        wanted, expected = entries_of_mapping(spec), (dict,)
    else:
        wanted, expected = entries_of_mapping(spec), (object,)
    if not isinstance(value, expected) or pytree.tree_is_leaf(value):
        raise _misfit(
            path, value, f"a {type(spec).__name__}", "give the entry the structure of the argument"
        )
    children, _ = pytree.tree_flatten_with_path(value, is_leaf=lambda part: part is not value)
    # A named tuple has attributes for keys, but is a sequence.
    by_position = isinstance(spec, SeqSpec)
    found: list[Any] = []
    used: set[Any] = set()
    for i, (keys, child) in enumerate(children):
        key = i if by_position else getattr(keys[0], "key", getattr(keys[0], "name", None))
        used.add(key)
        found += leaf_entries(path + pytree.keystr(keys), child, wanted.get(key))
    missing = [str(key) for key in wanted if key not in used]
    if missing:
        raise SpecError(
            f"the spec has entries for {', '.join(missing)}, which {path} lacks",
            where="dynamic_shapes",
            fix="describe parts that the argument has",
        )
    return found


# -- inputs ----------------------------------------------------------------------------------------


def spec_inputs(
    mode: FakeTensorMode,
    leaves: Sequence[tuple[str, Any]],
    spec: BoundSpec,
    static: Callable[[Any, str], Any],
) -> tuple[list[Any], list[list[InputSymbol]]]:
    """The leaves of a call's arguments, with unbacked sizes as a spec describes them.

    Args:
        mode: the mode that makes the fake tensors.
        leaves: for each leaf its name and value.
        spec: the spec.
        static: makes the input for a leaf without an entry, from its value and name.

    Returns:
        The inputs, and for each input the symbols that it binds.

    Raises:
        SpecError: an expression of the spec uses a variable that no input has by itself.
    """
    from torch._dynamo.source import ConstantSource

    env: Any = mode.shape_env
    variables = _Variables(env)
    for assumption in spec.assumptions:
        variables.require(assumption.node.expr)
    inputs: list[Any] = []
    symbols: list[list[InputSymbol]] = []
    # The symbols are bound by inputs, not by an operator's output.
    with env.ignore_fresh_unbacked_symbols():
        for (name, value), entry in zip(leaves, spec.leaves, strict=True):
            own: list[InputSymbol] = []
            symbols.append(own)
            if isinstance(entry, TensorSpec) and any(isinstance(e, torch.SymInt) for e in entry):
                if isinstance(value, FakeTensor):
                    raise SpecError(
                        f"{name} is a fake tensor, whose sizes a spec cannot change",
                        where="dynamic_shapes",
                        fix="pass a real tensor as the example",
                    )
                kinds = [
                    DimDynamic.UNBACKED if isinstance(e, torch.SymInt) else DimDynamic.STATIC
                    for e in entry
                ]
                context: Any = StatelessSymbolicContext(kinds)
                fake = mode.from_tensor(
                    value, source=ConstantSource(name), symbolic_context=context
                )
                sizes: list[Any] = list(fake.shape)
                varying = [d for d, size in enumerate(entry) if isinstance(size, torch.SymInt)]
                # Before a condition makes a symbol equal to other terms.
                own += [InputSymbol(sizes[d].node.term, d) for d in varying]
                for d, size in enumerate(entry):
                    if isinstance(size, torch.SymInt):
                        variables.define(size, sizes[d])
                inputs.append(fake)
            elif isinstance(entry, torch.SymInt):
                made = env.create_unbacked_symint(source=ConstantSource(name))
                own.append(InputSymbol(made.node.term, None))
                variables.define(entry, made)
                inputs.append(made)
            else:
                inputs.append(static(value, name))
    variables.refuse_undefined()
    return inputs, symbols


class _Variables:
    """The variables of a spec, and the conditions that wait for them.

    Args:
        env: the environment of the trace.
    """

    def __init__(self, env: Any) -> None:
        self._env = env
        # A variable of the spec to the first symbol of the trace that has its value.
        self._symbols: dict[sympy.Symbol, sympy.Expr] = {}
        self._waiting: list[sympy.Basic] = []

    def define(self, entry: torch.SymInt, size: torch.SymInt) -> None:
        """Give a size, or the value of an int, the entry that describes it."""
        symbol = size.node.expr
        if not isinstance(entry, IntVar):
            self.require(sympy.Eq(symbol, entry.node.expr))
            return
        if entry.optimization_hint is not None:
            self._env.var_to_hint_override[symbol] = entry.optimization_hint
        first = self._symbols.setdefault(entry.sympy_sym, symbol)
        if first is not symbol:
            self.require(sympy.Eq(symbol, first))
            return
        if entry.min is not None:
            self.require(sympy.Ge(symbol, entry.min))
        if entry.max is not None:
            self.require(sympy.Le(symbol, entry.max))
        waiting, self._waiting = self._waiting, []
        for condition in waiting:
            self.require(condition)

    def require(self, condition: sympy.Basic) -> None:
        """Assert a condition, once all of its variables have symbols."""
        if any(map(_is_variable, condition.free_symbols - self._symbols.keys())):
            self._waiting.append(condition)
            return
        self._env.guard_or_defer_runtime_assert(
            condition.xreplace(self._symbols), "a condition of the spec of dynamic shapes"
        )

    def refuse_undefined(self) -> None:
        """Check that each variable of a condition is the entry of a dimension or an int.

        Raises:
            SpecError: a variable is not.
        """
        missing = {
            str(symbol).partition("#")[0]
            for condition in self._waiting
            for symbol in condition.free_symbols - self._symbols.keys()
            if _is_variable(symbol)
        }
        if missing:
            raise SpecError(
                f"the spec uses {', '.join(sorted(missing))} in an expression, and no dimension "
                "or int has it as its own entry",
                where="dynamic_shapes",
                fix="give the variable itself as the entry of a dimension or an int",
            )


def _is_variable(symbol: sympy.Basic) -> bool:
    """Whether a sympy symbol is a variable of a spec; torch writes those as ``name#0``."""
    return "#" in str(symbol)
