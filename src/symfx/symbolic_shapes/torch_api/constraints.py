"""Constraints, which promise something about the sizes of inputs, and `Specialization`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sympy

from symfx.errors import SymfxError
from symfx.torch_bridge.identity import (
    TorchConstraint,
    TorchEqualityConstraint,
    TorchRelaxedUnspecConstraint,
    TorchSpecialization,
    TorchStrictMinMaxConstraint,
)
from symfx.torch_bridge.twins import Twin

if TYPE_CHECKING:
    from torch._guards import Source

__all__ = ["Constraint", "EqualityConstraint", "RelaxedUnspecConstraint", "Specialization",
           "StrictMinMaxConstraint"]  # fmt: skip

_Function = Callable[[sympy.Expr], sympy.Expr]


@dataclass(frozen=True)
class Constraint(metaclass=Twin, of=TorchConstraint):
    """A promise about inputs.

    Attributes:
        warn_only: whether a broken promise is only logged.
    """

    warn_only: bool


@dataclass(frozen=True)
class StrictMinMaxConstraint(Constraint, of=TorchStrictMinMaxConstraint):
    """A size lies in a range, and the program must work for every size in it.

    A guard on the size that does not follow from the range breaks the promise.

    Attributes:
        warn_only: whether a broken promise is only logged.
        vr: the range, a ``torch.utils._sympy.value_ranges.ValueRanges``, ends included.
    """

    vr: Any

    def render(self, source: Source) -> str:
        """The promise about a source, in words."""
        return f"{self.vr.lower} <= {source.name} <= {self.vr.upper}"


@dataclass(frozen=True)
class RelaxedUnspecConstraint(Constraint, of=TorchRelaxedUnspecConstraint):
    """A size stays symbolic: guards may narrow it, but not down to one value.

    Attributes:
        warn_only: whether a broken promise is only logged.
    """

    def render(self, source: Source) -> str:
        """The promise about a source, in words."""
        return f"RelaxedUnspecConstraint({source.name})"


@dataclass(frozen=True)
class EqualityConstraint(Constraint, of=TorchEqualityConstraint):
    """Which sizes of the inputs are equal to each other, or are computed from each other.

    Attributes:
        warn_only: whether a broken promise is only logged.
        source_pairs: pairs of sizes that are equal.
        derived_equalities: triples ``(size, root, function)``: the size is the function of the
            root, which is another size or a symbol of its own.
        phantom_symbols: the roots that are symbols which no input has.
        relaxed_sources: sizes that may equal any other.
    """

    source_pairs: Sequence[tuple[Source, Source]]
    derived_equalities: Sequence[tuple[Source, Source | sympy.Symbol, _Function]]
    phantom_symbols: Sequence[sympy.Symbol]
    relaxed_sources: set[Source]
    _class_of: dict[Source, Source] = field(init=False, repr=False, compare=False)
    _value_of: dict[Source, sympy.Expr] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Each source maps straight to one member of its class; classes are small.
        class_of: dict[Source, Source] = {}
        object.__setattr__(self, "_class_of", class_of)
        object.__setattr__(self, "_value_of", {})
        for left, right in self.source_pairs:
            old, new = self._head(left), self._head(right)
            class_of[left] = old
            class_of[right] = new
            if old != new:
                for member, head in class_of.items():
                    if head == old:
                        class_of[member] = new
        for source, root, function in self.derived_equalities:
            value = root if isinstance(root, sympy.Basic) else self._value(root)
            self._value_of[self._head(source)] = function(value)

    def _head(self, source: Source) -> Source:
        return self._class_of.get(source, source)

    def _value(self, source: Source) -> sympy.Expr:
        """A size in terms of the sizes without an equality."""
        head = self._head(source)
        value = self._value_of.get(head)
        return sympy.Symbol(head.name) if value is None else value

    def is_equal(self, source1: Source, source2: Source) -> bool:
        """Whether two sizes were stated to be equal, directly, in steps, or by computation."""
        heads = {self._head(source1), self._head(source2)}
        if len(heads) == 1 or heads & self.relaxed_sources:
            return True
        return bool(self._value(source1) == self._value(source2))

    def is_derived(self, src: Source, symbol_src: Source, fn: _Function) -> bool:
        """Whether a size was stated to be the function `fn` of another one."""
        return bool(self._value(src) == fn(self._value(symbol_src)))


@dataclass(frozen=True)
class Specialization(metaclass=Twin, of=TorchSpecialization):
    """A case of a size that is worth a variant of the program of its own.

    Attributes:
        source: the size in question.
        check_fn: whether a given size is such a case.
    """

    source: Any
    check_fn: Callable[[Any], Any]

    def __post_init__(self) -> None:
        if not callable(self.check_fn):
            raise SymfxError(
                f"{self.check_fn!r} cannot decide whether a size is a special case",
                fix="give a function of one size, such as lambda n: n % 16 == 0",
            )
