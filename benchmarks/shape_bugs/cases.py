"""A shape bug as a case: the wrong program, its mended version, and inputs by name and by size."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

__all__ = ["Case", "Program", "all_cases", "bug", "instance"]

#: A program: the class of a model, or a function.
Program = type[nn.Module] | Callable[..., Tensor]
_P = TypeVar("_P", type[nn.Module], Callable[..., Tensor])
#: The comment of the lines that a message about the bug may name.
_MARK = "# BUG"


@dataclass(frozen=True)
class _Written:
    kind: str
    inputs: tuple[str, ...]
    where: tuple[str, ...]
    sizes: dict[str, int]
    silent: bool
    at: Any
    wrong: Program


#: The wrong programs, by name.
_cases: dict[str, _Written] = {}


@dataclass(frozen=True)
class Case:
    """A shape bug.

    Args:
        name: the name of the wrong program.
        kind: the bug in words.
        inputs: the inputs, with names of sizes, as the command line takes them.
        where: the conditions on the names.
        sizes: a size for each name, for which the wrong program fails.
        silent: the wrong program runs in eager, and its result has another shape than meant.
        at: the class or function with the line of the bug; the wrong program by default.
        wrong: the wrong program.
        mended: the program without the bug.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    where: tuple[str, ...]
    sizes: dict[str, int]
    silent: bool
    at: Any
    wrong: Program
    mended: Program

    def sized_inputs(self) -> tuple[str, ...]:
        """The inputs with numbers for the names."""
        return tuple(self._with_sizes(text) for text in self.inputs)

    def _with_sizes(self, text: str) -> str:
        name, colon, type_ = text.partition(":")
        start = type_.index("[")
        for size, number in self.sizes.items():
            type_ = type_[:start] + re.sub(rf"\b{size}\b", str(number), type_[start:])
        return name + colon + type_

    def lines(self) -> list[str]:
        """The lines of the bug, as ``file.py:12``."""
        source, first = inspect.getsourcelines(self.at or self.wrong)
        path = inspect.getsourcefile(self.at or self.wrong) or ""
        file = path.rpartition("/")[2]
        return [f"{file}:{first + i}" for i, line in enumerate(source) if _MARK in line]


def instance(program: Program) -> Any:
    """The model of a class, in eval mode, or the function itself."""
    return program().eval() if isinstance(program, type) else program


def bug(
    kind: str,
    *inputs: str,
    where: tuple[str, ...] = (),
    silent: bool = False,
    at: Any = None,
    **sizes: int,
) -> Callable[[_P], _P]:
    """Enter a wrong program.

    Its mended version is the class of its name with ``Mended`` behind, or the function of its name
    with ``_mended`` behind.

    Args:
        kind: the bug in words.
        inputs: the inputs, as the command line takes them.
        where: conditions on the names of sizes.
        silent: the wrong program runs in eager.
        at: the class or function with the line of the bug, where it is not the program itself.
        sizes: a size for each name, for which the wrong program fails.
    """

    def enter(wrong: _P) -> _P:
        _cases[wrong.__name__] = _Written(kind, inputs, where, sizes, silent, at, wrong)
        return wrong

    return enter


def all_cases() -> list[Case]:
    """All cases, in the order of the files."""
    found = []
    for name, written in _cases.items():
        home = inspect.getmodule(written.wrong)
        mended = getattr(
            home, f"{name}Mended" if isinstance(written.wrong, type) else f"{name}_mended"
        )
        found.append(Case(name, mended=mended, **vars(written)))
    return found
