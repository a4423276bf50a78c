"""The results of a migration: the types of a program, or the conflict that makes it ill-typed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch.fx import Graph, Node

from symfx.shape_rules.errors import IllTypedError
from symfx.static_migration.decisions import branch_taken
from symfx.static_migration.printing import code_of
from symfx.user_code import user_line_of_trace

__all__ = ["Conflict", "ExcludedSizes", "FixedName", "Migration"]

#: Lines of the program longer than this do not widen the column of shapes.
_WIDEST_CODE = 60
#: If the paths of a program have more lines than this together, only the first is printed in full.
_MOST_LINES = 80


@dataclass(frozen=True)
class Conflict:
    """The reason why a program is ill-typed.

    Args:
        message: the demand that fails, in words.
        nodes: the smallest set of nodes that contradict each other, in the order of the graph.
        lines: for each of these nodes its source line, and the shape of its value if it is known.
        conditions: the user's conditions that take part in the contradiction.
        example: shapes of the inputs that would work, as close as possible to the user's types;
            ``None`` if z3 finds none.
        hopeless: no sizes of inputs of these ranks would work: the program has to change.
        hint: a change of one line with which the program is well-typed; it may be empty.
    """

    message: str
    nodes: tuple[Node, ...]
    lines: tuple[str, ...]
    conditions: tuple[str, ...] = ()
    example: Mapping[str, tuple[int, ...]] | None = None
    hopeless: bool = False
    hint: str = ""

    def under(self, *conditions: str) -> Conflict:
        """The conflict with further conditions that take part in it."""
        return replace(self, conditions=(*self.conditions, *conditions))

    def __str__(self) -> str:
        parts = [self.message]
        parts += [f"  {line}" for line in self.lines]
        parts += [f"  {condition}" for condition in self.conditions]
        if self.example is not None:
            shapes = ", ".join(f"{name}: {list(shape)}" for name, shape in self.example.items())
            parts.append(f"  this would work: {shapes}")
        elif self.hopeless:
            parts.append("  no sizes of the inputs would work: the program has to change")
        if self.hint:
            parts.append(f"  hint: {self.hint}")
        return "\n".join(parts)


@dataclass(frozen=True)
class FixedName:
    """A named size that the program fixes.

    Args:
        name: the name.
        value: the number that the name is fixed to.
        origin: the lines that fix the name.
        hint: a change of one line with which the name stays free; it may be empty.
    """

    name: str
    value: int
    origin: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.name} is fixed to {self.value} by {self.origin}"


@dataclass(frozen=True)
class ExcludedSizes:
    """A condition of the program that excludes sizes which the user declared.

    Args:
        condition: the condition.
        sizes: a size for each name, for which the condition fails.
        origin: the lines that demand the condition.
        hint: a change of one line with which the condition is not needed; it may be empty.
        fails_at: the line at which the program then fails, if it is another one; it may be empty.
    """

    condition: str
    sizes: Mapping[str, int]
    origin: str
    hint: str = ""
    fails_at: str = ""

    def __str__(self) -> str:
        failing = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        then = f"; then {self.fails_at} fails" if self.fails_at not in ("", self.origin) else ""
        return f"{self.condition} must hold, and fails for {failing}: {self.origin}{then}"


@dataclass
class Migration:
    """The result of `migrate`.

    Attributes:
        verdict: ``"well-typed"``, ``"ill-typed"``, or ``"unknown"`` if z3 ran out of time.
        graph: the graph.
        shapes: the shape of each node's value, as text: ``"[batch, 64, h // 2]"``, ``"Dyn"``.
        inputs: the types of the inputs, as precisely as the program and the user's types fix them.
        conditions: the conditions on the named sizes that must also hold, as text.
        origins: for each condition that a trace of operators relies on, the line that caused it.
        fixed: the names that the program fixes, although the user's conditions do not.
        excluded: the conditions that exclude sizes which the user declared.
        conflict: the conflict of an ill-typed program.
        unknown_operators: nodes whose operator the table lacks, with its name; their type is Dyn.
        example: a size for each name, for which all conditions hold.
        example_shapes: the shapes of the inputs for these sizes.
        example_values: computes the value of each node for these sizes.
        timeout: the time budget of each question to z3, in seconds.
        warnings: operators that broadcast in a way that is rarely meant, each with its line.
        branches: the branches that the types leave open, with the outcomes of this migration.
        paths: one migration for each path, if the types leave a branch open. The migration itself
            then has the graph of the first path, and the conditions that all share. A result that
            differs between the paths is ``Dyn``.
        other_paths: the branches of further paths, which have the same result.
        leading: the numbers of dimensions that ``*dims`` was taken for, and the conditions for each
            of them; the types are those for the first number. Empty without ``*dims``.
        make_types: computes `types`.
    """

    verdict: str
    graph: Graph
    shapes: dict[Node, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    conditions: list[str] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    fixed: list[FixedName] = field(default_factory=list)
    excluded: list[ExcludedSizes] = field(default_factory=list)
    conflict: Conflict | None = None
    unknown_operators: dict[Node, str] = field(default_factory=dict)
    example: Mapping[str, int] = field(default_factory=dict)
    example_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    example_values: Callable[[], dict[Node, Any]] = dict
    timeout: float = 0.0
    warnings: list[str] = field(default_factory=list)
    branches: tuple[str, ...] = ()
    paths: tuple[Migration, ...] = ()
    other_paths: tuple[str, ...] = ()
    leading: Mapping[int, Sequence[str]] = field(default_factory=dict)
    make_types: Callable[[], dict[Node, Any]] = dict

    @cached_property
    def types(self) -> dict[Node, Any]:
        """The shapes as `TensorType`, with numbers, sympy expressions and ``Dyn``.

        They are made when they are first read: the import of sympy takes longer than all the rest.
        """
        return self.make_types()

    def __bool__(self) -> bool:
        return self.verdict == "well-typed"

    def annotate(self) -> None:
        """Write the types into ``node.type``."""
        for node, type_ in self.types.items():
            node.type = type_

    def raise_if_ill_typed(self) -> Migration:
        """Return this migration if the program is not ill-typed.

        Raises:
            IllTypedError: the program is ill-typed; the message is the conflict.
        """
        if self.conflict is not None:
            raise IllTypedError(str(self.conflict))
        return self

    def __str__(self) -> str:
        """The annotated program, or the conflict."""
        if self.paths:
            brief = sum(len(path.shapes) for path in self.paths) > _MOST_LINES
            texts = [str(self.paths[0]), *(path.text(brief=brief) for path in self.paths[1:])]
            heads = ["; ".join(path.branches) for path in self.paths]
            parts = [f"{h}:\n{text}" for h, text in zip(heads, texts, strict=True)]
        else:
            parts = [self.text(brief=False)]
        return "\n".join([*parts, *self._of_leading()])

    def _of_leading(self) -> list[str]:
        """Lines about the numbers of leading dimensions that were tried."""
        if not self.leading:
            return []
        shown = next(iter(self.leading))
        tried = ", ".join(map(str, sorted(self.leading)))
        lines = [f"checked for these numbers of leading dimensions: {tried}; shown for {shown}"]
        for count in sorted(self.leading):
            own = [c for c in self.leading[count] if c not in self.leading[shown]]
            lines += [f"with {count} leading: where {', '.join(own)}"] if own else []
        return lines

    def text(self, *, brief: bool) -> str:
        """The annotated program, or the conflict.

        Args:
            brief: of the program, only the line with the result.
        """
        lines: list[str] = []
        if self.verdict == "unknown":
            lines.append(
                f"unknown: z3 did not decide within {self.timeout:g} s whether all conditions can "
                "hold"
            )
        if self.conflict is not None:
            lines.append(f"ill-typed: {self.conflict}")
        if self.shapes:
            written = [
                (code_of(node), self.shapes[node])
                for node in self.graph.nodes
                if node.target is not branch_taken and (not brief or node.op == "output")
            ]
            width = min(max(len(code) for code, _ in written), _WIDEST_CODE)
            lines += [f"{code:<{width}}  # {shape}" for code, shape in written]
        if self.conditions:
            lines.append(f"where {', '.join(self.conditions)}")
        for condition, origin in self.origins.items():
            lines.append(f"traced for {condition}: {origin}")
        first_place: dict[str, str] = {}
        for node, name in self.unknown_operators.items():
            line = user_line_of_trace(node.stack_trace or "")
            first_place.setdefault(name, line or code_of(node))
        for name in sorted(first_place):
            lines.append(f"no shape rule for {name}: typed Dyn, at {first_place[name]}")
        lines += [f"another path has the same result: {text}" for text in self.other_paths]
        lines += [f"warning: {text}" for text in self.warnings]
        return "\n".join(lines)
