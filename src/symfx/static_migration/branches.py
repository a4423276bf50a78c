"""Branches decided during tracing: ``if x.size(0) > 1`` for a whole class of inputs.

torch.fx cannot trace a program that branches on sizes. `BranchTracer` decides the condition from
the types of the inputs: if it holds for all such inputs, or for none, the trace goes on; otherwise
the error names the missing fact. The same types tell the numbers that Python needs: the bound of a
``range``, the items of ``x.split(4)``.
"""

from __future__ import annotations

import inspect
import itertools
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node, Proxy

from symfx.algebra import Term
from symfx.rewriter import RewritingTracer
from symfx.shape_rules.errors import GradualError, IllTypedError, PinnedSizeError
from symfx.shape_rules.graphs import annotation_of, where_of
from symfx.shape_rules.sizes import NO_TENSOR, UNKNOWN, Dim, Pieces, Shape, Size, Unknown
from symfx.shape_rules.table import rule_of_module
from symfx.static_migration.analysis import Interpreter
from symfx.static_migration.conditions import InputType, read_annotation
from symfx.static_migration.nested_inputs import built, flat_types
from symfx.static_migration.solver import Solver
from symfx.static_migration.term_sizes import OpenCondition
from symfx.static_migration.traced_values import NumberSource, TracedValue, tracing_sizes
from symfx.user_code import here, is_user_file

__all__ = ["BranchTracer", "eliminate_branches"]


class BranchTracer(RewritingTracer, NumberSource):
    """Traces a program, and decides its branches from the types of its inputs.

    Args:
        inputs: the types of the inputs, by name.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each branch.
        all_factories: record each tensor that the program makes, instead of keeping it as a
            constant if no traced value takes part.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputType] | None = None,
        where: Sequence[str] = (),
        timeout: float = 10.0,
        *,
        all_factories: bool = False,
    ) -> None:
        super().__init__()
        self.proxy_buffer_attributes = all_factories
        self._all_factories = all_factories
        self._given = dict(inputs or {})
        self._inputs = flat_types(self._given)
        self._where = where
        self._solver = Solver(timeout)
        self._interpreter: Interpreter | None = None
        #: The node of the last condition that was decided.
        self.last_condition: Node | None = None

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        """Whether a module becomes one call: torch's own, and those that have a shape rule."""
        return super().is_leaf_module(m, module_qualified_name) or rule_of_module(m) is not None

    def trace(
        self,
        root: Any,
        concrete_args: Any = None,
    ) -> Graph:
        """Trace a program.

        Args:
            root: a module or a function.
            concrete_args: inputs that are constants, as `torch.fx.Tracer.trace` takes them.
        """
        namespaces = _namespaces_of(root)
        with tracing_sizes(self, namespaces, all_factories=self._all_factories):
            return super().trace(root, concrete_args)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Make the inputs; an input of several tensors has a node for each of them."""
        function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
        return function, [self._in_parts(arg) for arg in args]

    def _in_parts(self, value: Any) -> Any:
        name = str(value.node.target) if isinstance(value, Proxy) else ""
        given = self._given.get(name)
        if given is None or not given.is_nested:
            return value

        def part(name: str, type_: InputType) -> Any:
            with self.graph.inserting_before(value.node):
                return self.create_proxy("placeholder", name, (), {})

        parts = built(name, given, part)
        self.graph.erase_node(value.node)
        return parts

    def proxy(self, node: Node) -> TracedValue:
        """The value of a node."""
        return TracedValue(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Make a node with the user's lines that it comes from, from the first ``forward`` on.

        torch can record these lines itself, but then imports its compiler, which takes two seconds.
        """
        node = super().create_node(*args, **kwargs)
        frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(1))]
        forward = itertools.dropwhile(lambda f: f.f_code.co_name != "forward", reversed(frames))
        users = [frame for frame in forward if is_user_file(frame.f_code.co_filename)]
        if users:
            lines = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in users)
            node.stack_trace = "".join(lines.format()).strip()
        return node

    def to_bool(self, obj: Proxy) -> bool:
        """Decide the condition of a branch.

        Raises:
            GradualError: the condition holds for some of the inputs and not for others, or does
                not depend on sizes alone.
        """
        value = self._evaluate(obj.node)
        self.last_condition = obj.node
        if isinstance(value, (int, float)):
            return bool(value)
        if isinstance(value, Size):  # `if x.size(0) % 2:`
            value = self._known().sizes.compare("!=", value, 0)
            if isinstance(value, bool):
                return value
        place = where_of(obj.node)
        if not isinstance(value, OpenCondition):
            raise GradualError(
                f"the program branches on {obj.node.name}, which is not a condition on the sizes "
                "of its inputs",
                where=place,
                fix="say more about the inputs, or branch on sizes",
            )
        demands = [d.condition for d in self._known().sizes.demands]
        table = value.condition.table
        for truth in (True, False):
            conclusion = value.condition if truth else table.not_(value.condition)
            if self._solver.follows(demands, conclusion):
                return truth
        raise GradualError(
            f"{value.condition} holds for some of the inputs and not for others",
            where=place,
            fix=f"say which: where {value.condition}, or where {table.not_(value.condition)}",
        )

    def number_of(self, value: Proxy) -> int:
        """The number that a size is, for all inputs.

        Raises:
            PinnedSizeError: the size differs between inputs.
            GradualError: the value depends on data.
        """
        found = self._evaluate(value.node)
        if isinstance(found, (int, float)):
            return int(found)
        place = here() or where_of(value.node)
        if isinstance(found, Size):
            raise _pinned(self._known().sizes.term(found), place)
        raise GradualError(
            f"the program needs the number {value.node.name}, which depends on data",
            where=place,
            fix="compute it from the sizes of the inputs",
        )

    def length_of(self, value: Proxy) -> int:
        """The number of items of a tuple, or of rows of a tensor, for all inputs.

        Raises:
            PinnedSizeError: the number differs between inputs.
            GradualError: the number depends on data.
        """
        count = self._length(value)
        if isinstance(count, int):
            return count
        place = here() or where_of(value.node)
        if isinstance(count, Size):
            raise _pinned(self._known().sizes.term(count), place)
        raise GradualError(
            f"the program needs the length of {value.node.name}, which is not known",
            where=place,
            fix="give the input its shape",
        )

    def known_length_of(self, value: Proxy) -> int | None:
        """As `length_of`; ``None`` if the length differs between inputs, or is unknown."""
        count = self._length(value)
        return count if isinstance(count, int) else None

    def sample_of(self, value: Proxy) -> Any:
        """A value of the type that the traced value has when the program runs.

        An input of unknown shape counts as a tensor.
        """
        found = self._evaluate(value.node)
        if isinstance(found, Size):
            return 1
        if isinstance(found, OpenCondition):
            return True
        if found is NO_TENSOR or (found is not UNKNOWN and not isinstance(found, Shape)):
            return found
        return torch.empty(0)

    def _length(self, value: Proxy) -> Dim | Unknown:
        found = self._evaluate(value.node)
        if isinstance(found, Pieces):
            return found.number
        if isinstance(found, Shape):
            return found[0] if found else UNKNOWN
        return len(found) if isinstance(found, (tuple, list)) else UNKNOWN

    def _known(self) -> Interpreter:
        if self._interpreter is None:
            for node in self.graph.nodes:
                name = str(node.target).lstrip("*")
                if node.op == "placeholder" and name not in self._inputs:
                    self._inputs[name] = read_annotation(annotation_of(node))
            self._interpreter = Interpreter(self.root, self._inputs, self._where)
        return self._interpreter

    def _evaluate(self, wanted: Node) -> Any:
        interpreter = self._known()
        for node in self.graph.nodes:
            if node not in interpreter.result.values:
                try:
                    interpreter.step(node)
                except IllTypedError as error:
                    raise IllTypedError(error.what, where=where_of(node)) from error
            if node is wanted:
                break
        return interpreter.result.values.get(wanted, UNKNOWN)


def _pinned(size: Term, place: str) -> PinnedSizeError:
    names = ", ".join(sorted(symbol.name for symbol in size.free_symbols))
    return PinnedSizeError(
        f"{names} is fixed by this line, which needs the number {size} (for a loop or an index)",
        where=place,
        fix="give the input this size as a number, or write the program without the loop",
    )


def _namespaces_of(root: Any) -> list[dict[str, Any]]:
    """The globals of the functions that a trace runs: those of the user's modules."""
    if not isinstance(root, torch.nn.Module):
        return [root.__globals__] if inspect.isfunction(root) else []
    forwards = (inspect.unwrap(type(module).forward) for module in root.modules())
    return [
        forward.__globals__
        for forward in forwards
        if inspect.isfunction(forward) and is_user_file(forward.__code__.co_filename)
    ]


def eliminate_branches(
    module: torch.nn.Module,
    inputs: Mapping[str, Any] | None = None,
    where: Sequence[str] = (),
    *,
    timeout: float = 10.0,
) -> GraphModule:
    """Trace a program that branches on sizes, for a class of inputs.

    Args:
        module: the program.
        inputs: the types of the inputs, as `migrate` takes them; an annotation counts for an input
            that is not named here.
        where: conditions on the named sizes, such as ``"seq <= 512"``.
        timeout: seconds that z3 may take for each branch.

    Returns:
        The graph of the branches that these inputs take.

    Raises:
        GradualError: a branch depends on the input; the message names the fact that would decide.

    Example::

        eliminate_branches(model, {"x": "[batch, seq, 64]"}, ["seq > 1"])
    """
    types = {name: read_annotation(given) for name, given in (inputs or {}).items()}
    parameters = inspect.signature(module.forward).parameters
    for name in types:
        if name not in parameters:
            raise GradualError(
                f"the program has no input {name}",
                fix=f"its inputs are {', '.join(parameters) or 'none'}",
            )
    tracer = BranchTracer(types, where, timeout)
    graph = tracer.trace(module)
    return GraphModule(tracer.root, graph, type(module).__name__)
