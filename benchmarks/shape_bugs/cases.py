"""A shape bug as a case: the wrong program, its mended version, and inputs by name and by size."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

__all__ = ["Case", "all_cases", "bug"]

_M = TypeVar("_M", bound=type[nn.Module])
#: The comment of the lines that a message about the bug may name.
_MARK = "# BUG"


@dataclass(frozen=True)
class _Written:
    kind: str
    inputs: tuple[str, ...]
    where: tuple[str, ...]
    sizes: dict[str, int]
    silent: bool
    wrong: type[nn.Module]


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
        wrong: the wrong program.
        mended: the program without the bug.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    where: tuple[str, ...]
    sizes: dict[str, int]
    silent: bool
    wrong: type[nn.Module]
    mended: type[nn.Module]

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
        source, first = inspect.getsourcelines(self.wrong)
        path = inspect.getsourcefile(self.wrong) or ""
        file = path.rpartition("/")[2]
        return [f"{file}:{first + i}" for i, line in enumerate(source) if _MARK in line]


def bug(
    kind: str,
    *inputs: str,
    where: tuple[str, ...] = (),
    silent: bool = False,
    **sizes: int,
) -> Callable[[_M], _M]:
    """Enter a wrong program. Its mended version is the class of its name with ``Mended`` behind.

    Args:
        kind: the bug in words.
        inputs: the inputs, as the command line takes them.
        where: conditions on the names of sizes.
        silent: the wrong program runs in eager.
        sizes: a size for each name, for which the wrong program fails.
    """

    def enter(wrong: _M) -> _M:
        _cases[wrong.__name__] = _Written(kind, inputs, where, sizes, silent, wrong)
        return wrong

    return enter


def all_cases() -> list[Case]:
    """All cases, in the order of the files."""
    found = []
    for name, written in _cases.items():
        home = inspect.getmodule(written.wrong)
        mended = getattr(home, f"{name}Mended")
        found.append(Case(name, mended=mended, **vars(written)))
    return found
