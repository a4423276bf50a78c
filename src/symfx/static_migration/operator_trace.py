"""The values and guards of a trace of operators, as the analysis of its graph reads them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.utils._pytree as pytree
from torch.fx import GraphModule, Node

from symfx.algebra import Table, Term, evaluate
from symfx.shape_rules.arguments import arguments_of
from symfx.shape_rules.errors import IllTypedError
from symfx.shape_rules.opaque_sizes import OpaqueSizes
from symfx.shape_rules.sizes import UNKNOWN, Dim, Shape, Size
from symfx.shape_rules.table import Rule
from symfx.static_migration.term_sizes import TermSizes

if TYPE_CHECKING:  # the import takes a second, and most programs are traced without it
    from symfx.symbolic_shapes import ShapeEnv

__all__ = ["OperatorTrace"]

#: The key of an `OperatorTrace` in the meta of its GraphModule.
_KEY = "symfx_operator_trace"


@dataclass(frozen=True)
class OperatorTrace:
    """A trace of operators on example inputs.

    Args:
        env: the environment of the trace, which owns the terms.
        dimensions: the user's text of each dimension that is an expression, by the name of the
            symbol that stands for it.
        example: the size of each symbol in the example.
        structure: the structure of the program's result; ``None`` if it is one tensor.
    """

    env: ShapeEnv
    dimensions: Mapping[str, str]
    example: Mapping[Term, int]
    structure: pytree.TreeSpec | None = None

    @staticmethod
    def of(module: torch.nn.Module) -> OperatorTrace | None:
        """The trace that a graph comes from; ``None`` for a graph of another origin."""
        if not isinstance(module, GraphModule):
            return None
        found: OperatorTrace | None = module.meta.get(_KEY)
        return found

    def attach(self, module: GraphModule) -> None:
        """Make this the trace of a graph."""
        module.meta[_KEY] = self

    @property
    def table(self) -> Table:
        """The table of the trace's terms."""
        return self.env.table

    def guards(self) -> Iterator[tuple[Term, str]]:
        """The conditions that the graph relies on, each with the line that caused it."""
        for guard in self.env.guards:
            frame = guard.provenance.frame
            yield guard.term, str(guard.provenance) if frame is None else frame.with_text

    def ones(self) -> int:
        """The number of guards that hold since a computed size is 1 in the example."""
        return sum(bool(re.search(r"(<=|==) 1$", str(term))) for term, _ in self.guards())

    def value_of(self, node: Node, sizes: TermSizes) -> Any:
        """The value of a node in the trace: its shape, its size, or a tuple of values."""
        return _as_value(node.meta.get("val", UNKNOWN), sizes)

    def result_of(self, values: Any) -> Any:
        """The values of the graph's outputs as the program returns them."""
        return values if self.structure is None else _built(self.structure, iter(values))

    def depends_on_data(self, value: Any) -> bool:
        """Whether a value has a size that the sizes of the inputs do not determine."""
        if isinstance(value, Size):
            return not value.value.free_symbols <= self.example.keys()
        return isinstance(value, tuple) and any(map(self.depends_on_data, value))

    def fits_example(
        self, rule: Rule, node: Node, module: torch.nn.Module | None, sizes: TermSizes
    ) -> bool:
        """Whether a rule gives the traced value of a node, on the sizes of the example."""
        numbers = OpaqueSizes()

        def example_of(used: Node) -> Any:
            return self._example_of(self.value_of(used, sizes), numbers)

        try:
            result = rule(numbers, *arguments_of(node, example_of), module)
        except IllTypedError:
            return False
        return _agree(result, self._example_of(self.value_of(node, sizes), numbers))

    def _example_of(self, value: Any, numbers: OpaqueSizes) -> Any:
        if isinstance(value, Size):
            term: Term = value.value
            known = term.free_symbols <= self.example.keys()
            return int(evaluate(term, self.example)) if known else numbers.fresh("")
        if isinstance(value, Shape):
            return Shape(self._example_of(size, numbers) for size in value)
        if type(value) is tuple:
            return tuple(self._example_of(part, numbers) for part in value)
        return value


def _built(spec: pytree.TreeSpec, values: Iterator[Any]) -> Any:
    """The next values in a structure: dictionaries and tuples."""
    if spec.is_leaf():
        return next(values)
    parts = [_built(child, values) for child in spec.children()]
    if issubclass(spec.type, dict):
        keys = spec.context[1] if spec.type is defaultdict else spec.context
        return dict(zip(keys, parts, strict=True))
    return tuple(parts)


def _agree(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_agree, one, other))
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    return isinstance(one, Size) or isinstance(other, Size) or one is other


def _as_value(value: Any, sizes: TermSizes) -> Any:
    if isinstance(value, torch.Tensor):
        return Shape(_as_size(size, sizes) for size in value.shape)
    if isinstance(value, (tuple, list)):
        return tuple(_as_value(part, sizes) for part in value)
    if isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
        return _as_size(value, sizes)
    return value if value is None else UNKNOWN


def _as_size(size: Any, sizes: TermSizes) -> Dim:
    return sizes.size(size.node.term) if isinstance(size, torch.SymInt) else int(size)
