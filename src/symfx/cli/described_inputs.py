"""Inputs as a command line describes them, put together: ``batch.ids`` is a part of ``batch``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from symfx.errors import SpecError
from symfx.shape_language.syntax import (
    AnyTensor,
    Constant,
    InputSyntax,
    IntInput,
    Leading,
    Name,
    Parts,
    Size,
    TensorSyntax,
    TypeSyntax,
    Unknown,
)

__all__ = ["Leaf", "arguments_of", "leaves_of", "mapped"]

#: The dimensions that ``*dims`` stands for in an example.
_LEADING = 2


@dataclass(frozen=True)
class Leaf:
    """A tensor, a number or a constant among the inputs.

    Attributes:
        path: the Python that reads it from the parameters: ``batch['ids']``.
        type: its type; its dimensions all have sizes.
    """

    path: str
    type: TensorSyntax | IntInput | Constant

    @property
    def name(self) -> str:
        """The path as an identifier, which is the name of a dynamic int."""
        return re.sub(r"\W+", "_", self.path).strip("_")


#: A leaf, or the members of a dict, a tuple or a list.
Argument: TypeAlias = Any


def arguments_of(
    inputs: Sequence[InputSyntax],
    leaf_of: Callable[[str, TypeSyntax], Any] | None = None,
    option: str = "--input",
) -> dict[str, Argument]:
    """The arguments that inputs describe, by parameter.

    Args:
        inputs: the inputs.
        leaf_of: makes a leaf from its path and its type; by default, a `Leaf`.
        option: the option that describes the inputs, for errors.

    Raises:
        SpecError: an input is described twice, a list has gaps, or a dimension has no size.

    Example:
        >>> from symfx.shape_language import parse_input
        >>> found = arguments_of([parse_input("d.ids: i64[b]"), parse_input("d.n: int")])
        >>> {key: leaf.path for key, leaf in found["d"].items()}
        {'ids': "d['ids']", 'n': "d['n']"}
    """
    trees: dict[str, Any] = {}
    for given in inputs:
        steps: tuple[str | int, ...] = (given.name, *given.path)
        at: Any = trees
        for i, step in enumerate(steps):
            shown = _shown(steps[: i + 1])
            if isinstance(at, TypeSyntaxes):
                raise SpecError(
                    f"the input {_shown(steps[:i])!r} is described twice: as {at} and by its parts",
                    where=option,
                    fix="describe it once",
                )
            if at and type(step) is not type(next(iter(at))):
                raise SpecError(
                    f"{_shown(steps[:i])} is described both as a list and as a dict",
                    where=option,
                    fix="use numbers for all members (a list) or names for all members (a dict)",
                )
            if i == len(steps) - 1:
                if step in at:
                    raise SpecError(
                        f"the input {shown!r} is described twice",
                        where=option,
                        fix="describe it once",
                    )
                at[step] = given.type
            else:
                at = at.setdefault(step, {})
    make = leaf_of or (lambda path, type_: Leaf(path, _sized(path, type_)))
    return {name: _argument(name, tree, make) for name, tree in trees.items()}


TypeSyntaxes = (TensorSyntax, AnyTensor, IntInput, Constant, Parts)


def _shown(steps: Sequence[str | int]) -> str:
    first, *rest = steps
    return f"{first}" + "".join(f"[{step!r}]" for step in rest)


def _argument(path: str, tree: Any, make: Callable[[str, TypeSyntax], Any]) -> Argument:
    """An argument from the types of its parts."""
    if isinstance(tree, Parts):
        members = {key: _argument(f"{path}[{key!r}]", part, make) for key, part in tree.members}
        return {str(k): m for k, m in members.items()} if tree.by_key else tuple(members.values())
    if isinstance(tree, TypeSyntaxes):
        return make(path, tree)
    if all(isinstance(key, int) for key in tree):
        missing = [i for i in range(len(tree)) if i not in tree]
        if missing:
            raise SpecError(
                f"{path}[{max(tree)}] is described, but {path}[{missing[0]}] is not",
                where="--input",
                fix="describe the members of a list from [0] on",
            )
        return [_argument(f"{path}[{i}]", tree[i], make) for i in range(len(tree))]
    return {key: _argument(f"{path}[{key!r}]", part, make) for key, part in tree.items()}


def _sized(path: str, type_: TypeSyntax) -> TensorSyntax | IntInput | Constant:
    """A type whose dimensions all have sizes, so that an example can be drawn.

    Raises:
        SpecError: a size is missing.
    """
    if isinstance(type_, AnyTensor):
        raise SpecError(
            f"{path} has no type, so symfx cannot make an example of it",
            where="--input",
            fix=f'write the type, such as "{path}: f32[batch, 64]"',
        )
    if not isinstance(type_, TensorSyntax):
        assert not isinstance(type_, Parts)
        return type_
    dims: list[Any] = []
    for dim in type_.dims:
        if isinstance(dim, Leading) and dim.name is not None:
            dims += [Size(Name(f"{dim.name}_{i}")) for i in range(_LEADING)]
        elif isinstance(dim, (Leading, Unknown)):
            raise SpecError(
                f"{path} has a dimension {dim}, so symfx cannot make an example of it",
                where="--input",
                fix="give it a name or a number; *dims is any number of leading dimensions",
            )
        else:
            dims.append(dim)
    return TensorSyntax(type_.dtype, tuple(dims), type_.below)


def leaves_of(argument: Argument) -> Iterator[Leaf]:
    """The leaves of an argument, in order."""
    if isinstance(argument, Leaf):
        yield argument
        return
    for member in argument.values() if isinstance(argument, Mapping) else argument:
        yield from leaves_of(member)


def mapped(argument: Argument, function: Callable[[Leaf], Any]) -> Any:
    """An argument with a function of each leaf in the leaf's place."""
    if isinstance(argument, Leaf):
        return function(argument)
    if isinstance(argument, Mapping):
        return {key: mapped(member, function) for key, member in argument.items()}
    return type(argument)(mapped(member, function) for member in argument)
