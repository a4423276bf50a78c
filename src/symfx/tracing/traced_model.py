"""A traced model: its graph, and the conditions on inputs under which the graph holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

import torch
from torch.utils import _pytree as pytree

from symfx.errors import SymfxError
from symfx.symbolic_shapes import ShapeEnv, SymbolInfo
from symfx.symbolic_shapes.checks.pins_of_guards import pins_of_guards
from symfx.tracing.admission import Admission
from symfx.tracing.autocast import Autocast
from symfx.tracing.tables import GuardTable, PinTable

__all__ = ["AbsentModel", "TracedModel", "name_of"]


class AbsentModel:
    """Stands for the model of a trace that was loaded without it.

    Args:
        name: the class of the module that was traced, or the name of the function.
    """

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: Any, **kwargs: Any) -> Never:
        """Refuse the call.

        Raises:
            SymfxError: always.
        """
        raise SymfxError(
            f"the file of this trace has the graph of {self.__name__}, not the model",
            fix="load it with the model: symfx.load(path, model=...)",
        )


class TracedModel:
    """The data of a `symfx.Trace`, which its report and its verification work on.

    Attributes:
        graph_module: the graph.
        model: the model that was traced.
        admission: the conditions on the inputs under which the graph holds.
        shape_env: the symbols and guards.
        grad_enabled: whether autograd was on while tracing.
        autocast: the autocast settings while tracing.
        out_spec: the structure of the model's result.
        flat_output: whether the graph returns the leaves of the result, and not the result.
        state_names: the names that parameters and buffers have in the model, by their names in the
            graph; the other attributes of the graph are constants.
        missing: the parameters and buffers whose values the file of the trace does not have.
        notes: effects of the model that the graph leaves out, a sentence each.
        steps: whether the model calls ``backward()``, so that an optimizer in it may change its
            parameters.
    """

    def __init__(
        self,
        *,
        graph_module: torch.fx.GraphModule,
        model: Callable[..., Any],
        admission: Admission,
        out_spec: pytree.TreeSpec,
        flat_output: bool,
        grad_enabled: bool,
        autocast: Autocast,
        steps: bool,
        notes: tuple[str, ...],
        state_names: Mapping[str, str] | None = None,
        missing: Sequence[str] = (),
    ) -> None:
        self.graph_module = graph_module
        self.model = model
        self.admission = admission
        self.shape_env: ShapeEnv = admission.env
        self.grad_enabled = grad_enabled
        self.autocast = autocast
        self.steps = steps
        self.notes = notes
        self.state_names = dict(state_names or {})
        self.missing = tuple(missing)
        self.out_spec = out_spec
        self.flat_output = flat_output

    @property
    def name(self) -> str:
        """The class of the module that was traced, or the name of the function."""
        return name_of(self.model)

    @property
    def inputs(self) -> dict[str, Any]:
        """The example inputs by the names of the graph's placeholders, in their order."""
        return {leaf.name: leaf.example for leaf in self.admission.layout.leaves}

    @property
    def guards(self) -> GuardTable:
        """The conditions on shapes that the graph relies on, each with the line that caused it.

        A tuple of `symfx.symbolic_shapes.ShapeGuard`, which a notebook shows as a table. None of
        them follows from the others; ``shape_env.guards`` has all that were recorded.
        """
        return self.admission.guards

    @property
    def symbols(self) -> tuple[SymbolInfo, ...]:
        """The symbols of sizes and numbers of the inputs, and those that data gives at run time.

        Each has its sources, its range and its value in the example. A symbol that the program
        pinned to one value is among the `specializations` instead.
        """
        records = [*self.shape_env.specialization_records(), *self.specializations]
        pinned = {record.symbol_name for record in records}
        return tuple(
            info
            for info in self.shape_env.symbol_table()
            if info.name not in pinned
            and (
                info.unbacked
                or any(self._varies(source, info) for source in info.sources)
                or (not info.sources and self.admission.numbers_with(info.term))
            )
        )

    def _varies(self, source: str, info: SymbolInfo) -> bool:
        """Whether a source names a size or the value of an input; strides follow from sizes."""
        number = self.admission.number_at(source)
        if number is not None and number.measure.kind == "item":
            return self._computes_with(info)
        return number is not None and number.measure.kind in ("size", "value")

    def _computes_with(self, item: SymbolInfo) -> bool:
        """Whether the graph or a guard uses the symbol of a number that a tensor holds."""
        if any(item.term in guard.term.free_symbols for guard in self.shape_env.guards):
            return True
        values = (node.meta.get("val") for node in self.graph_module.graph.nodes)
        return any(isinstance(value, torch.SymInt) and str(value) == item.name for value in values)

    @property
    def specializations(self) -> PinTable:
        """The symbols that the program pinned to one value, each with the line that pinned it.

        The graph holds for these values alone. A number that data gives is none of them: the graph
        asserts its value when it runs. A symbol is pinned, too, by guards that leave it one value
        together, such as ``n <= 3`` and ``n % 2 == 0`` of a size from 2.
        """
        env = self.shape_env
        data = {info.name for info in env.symbol_table() if info.unbacked}
        records = [r for r in env.specialization_records() if r.symbol_name not in data]
        known = {record.symbol_name for record in records}
        records += pins_of_guards(env, self.guards, known)
        return PinTable(records)

    def run(self, leaves: Sequence[Any]) -> Any:
        """Run the graph on flat inputs, without a check.

        Returns:
            The result in the structure that the model returns.

        Raises:
            SymfxError: the trace was loaded from a file without weights.
        """
        if self.missing:
            raise SymfxError(
                f"{self.missing[0]} has no values: the file of this trace has no weights",
                fix="load it with the model: symfx.load(path, model=...)",
            )
        result = self.graph_module(*leaves)
        if self.flat_output:
            return pytree.tree_unflatten(result, self.out_spec)
        return result


def name_of(model: Callable[..., Any]) -> str:
    """The class of a module, the name of a function; ``function`` for one without a name."""
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    name = getattr(model, "__name__", type(model).__name__)
    return name if name.isidentifier() else "function"
