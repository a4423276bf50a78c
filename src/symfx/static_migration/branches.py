"""Branches decided during tracing: ``if x.size(0) > 1`` for a whole class of inputs.

torch.fx cannot trace a program that branches on sizes. `BranchTracer` decides the condition from
the types of the inputs: if it holds for all such inputs, or for none, the trace goes on. A branch
that the types leave open is decided by the plan of a path (`Decisions`); without a plan the error
names the missing fact. An operator inside ``try`` that fails raises, so that the handler is traced.
The same types tell the numbers that Python needs: the bound of a ``range``, the items of
``x.split(4)``.
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
from symfx.shape_rules.element_types import AUTOCAST
from symfx.shape_rules.errors import (
    GradualError,
    IllTypedError,
    OperatorFailsError,
    PinnedSizeError,
)
from symfx.shape_rules.fractions_of_sizes import Fraction
from symfx.shape_rules.graphs import annotation_of, where_of
from symfx.shape_rules.sizes import NO_TENSOR, UNKNOWN, Dim, Pieces, Shape, Size, Unknown
from symfx.shape_rules.table import rule_of_module
from symfx.static_migration.analysis import Interpreter
from symfx.static_migration.conditions import InputType, read_annotation
from symfx.static_migration.decisions import Decision, Decisions, OpenBranch, branch_taken
from symfx.static_migration.mends import Mend
from symfx.static_migration.named_sizes import from_two
from symfx.static_migration.nested_inputs import built, flat_types
from symfx.static_migration.programs import Program, input_parameters, used_namespaces
from symfx.static_migration.solver import Solver
from symfx.static_migration.term_sizes import OpenCondition
from symfx.static_migration.traced_values import NumberSource, TracedValue, tracing_sizes
from symfx.user_code import here, inside_try, is_user_file

__all__ = ["BranchTracer", "eliminate_branches"]

_SQUEEZES = frozenset({"squeeze", "squeeze_", torch.squeeze})


class BranchTracer(RewritingTracer, NumberSource):
    """Traces a program, and decides its branches from the types of its inputs.

    Args:
        inputs: the types of the inputs, by name.
        where: conditions on the named sizes.
        timeout: seconds that z3 may take for each branch.
        all_factories: record each tensor that the program makes, instead of keeping it as a
            constant if no traced value takes part.
        decisions: the outcomes of the branches that the types leave open; such a branch is an
            error without them.
        follow_tries: an operator inside ``try`` that fails raises, for the program to catch.
        mend: a change of the program.
    """

    def __init__(
        self,
        inputs: Mapping[str, InputType] | None = None,
        where: Sequence[str] = (),
        timeout: float = 10.0,
        *,
        all_factories: bool = False,
        decisions: Decisions | None = None,
        follow_tries: bool = True,
        mend: Mend | None = None,
    ) -> None:
        super().__init__()
        self._mend = mend
        self._decisions = decisions
        self._follow_tries = follow_tries
        self.proxy_buffer_attributes = all_factories
        self._all_factories = all_factories
        self._given = dict(inputs or {})
        self._inputs = flat_types(self._given)
        self._where = where
        self._solver = Solver(timeout)
        self._interpreter: Interpreter | None = None
        #: The number of contexts of ``torch.autocast`` around the statement that is traced.
        self.autocasts = 0
        #: The node of the last condition that was decided.
        self.last_condition: Node | None = None
        #: The plan of the path says that an operator inside ``try`` fails.
        self.refused_by_plan = False

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
        if isinstance(root, torch.nn.Module):
            namespaces = [*used_namespaces(root)]
        else:
            namespaces = [root.__globals__] if inspect.isfunction(root) else []
        with tracing_sizes(self, namespaces, all_factories=self._all_factories):
            return super().trace(root, concrete_args)

    def _rewritten(self, root: Any) -> Any:
        rewrite = super()._rewritten
        return root.rewritten(rewrite) if isinstance(root, Program) else rewrite(root)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        """Make the inputs: those of a `Program` are the names that it lists."""
        root = self.root
        if not isinstance(root, Program):
            function, args = super().create_args_for_root(root_fn, is_module, concrete_args)
            return function, [self._in_parts(arg) for arg in args]
        left_out = concrete_args or {}
        inputs = {
            name: self._in_parts(self.create_proxy("placeholder", name, (), {}))
            for name in root.inputs
            if name not in left_out
        }
        return lambda: root.forward(**inputs), []

    def _in_parts(self, value: Any) -> Any:
        """An input as the program takes it: one of several tensors has a node for each of them."""
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

    def path_of_module(self, mod: torch.nn.Module) -> str:
        """The name of a module; a module that is not part of the root becomes part of the copy."""
        try:
            return super().path_of_module(mod)
        except NameError:
            name = f"{type(mod).__name__.lower()}_{len(self.root._modules)}"
            self.root.add_module(name, mod)
            if self.submodule_paths is not None:
                for inner, part in mod.named_modules(prefix=name):
                    self.submodule_paths.setdefault(part, inner)
            return name

    def proxy(self, node: Node) -> TracedValue:
        """The value of a node."""
        return TracedValue(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> Node:
        """Make a node with the user's lines that it comes from, from the first ``forward`` on.

        torch can record these lines itself, but then imports its compiler, which takes two seconds.
        """
        self._settle_rank(*args[:4])
        node = super().create_node(*args, **kwargs)
        if self._mend is not None and self._mend.position == len(self.graph.nodes) - 1:
            self._mend.insert(self.graph, node)
            self._mend = None
        if self.autocasts or torch.is_autocast_enabled("cpu"):
            node.meta[AUTOCAST] = True
        frames = [frame for frame, _ in traceback.walk_stack(sys._getframe(1))]
        forward = itertools.dropwhile(lambda f: f.f_code.co_name != "forward", reversed(frames))
        users = [frame for frame in forward if is_user_file(frame.f_code.co_filename)]
        if users:
            lines = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in users)
            node.stack_trace = "".join(lines.format()).strip()
        calls = node.op.startswith("call_") and node.target is not branch_taken
        if self._follow_tries and calls and any(map(inside_try, users)):
            self._try(node)
        return node

    def _try(self, node: Node) -> None:
        """Raise if the operator of a node fails, or if the plan of the path says so.

        The node is removed then. The operator is tried on terms of its own: the demands of an
        operator that fails are no facts of the path.
        """
        trial = Interpreter(self.root, self._known().inputs, self._where)
        for each in self.graph.nodes:
            try:
                trial.step(each)
            except IllTypedError as error:
                if each is not node:
                    return  # an earlier operator is the one to explain
                self.graph.erase_node(node)
                raise OperatorFailsError(error.what, where=where_of(node)) from error
        if self._decisions is None:
            return
        before = [d.condition for d in trial.sizes.demands if d.node is not node]
        own = [d.condition for d in trial.sizes.demands if d.node is node]
        if not own or all(self._solver.follows(before, condition) for condition in own):
            return
        condition = trial.sizes.table.and_(*(self._possible(each, before) for each in own))
        refuted = trial.sizes.table.not_(condition)
        branch = OpenBranch(str(condition), str(refuted), where_of(node), implicit=True)
        decision = self._decisions.next(branch)
        if decision.truth:
            with self.graph.inserting_before(node):
                self._take(branch.holds, decision)
        else:
            self.graph.erase_node(node)
            self._take(branch.holds, decision)
            self.refused_by_plan = True
            raise OperatorFailsError(f"{condition} does not hold", where=branch.place)

    def _possible(self, condition: Term, known: Sequence[Term]) -> Term:
        """A condition without the alternatives that known conditions refute."""
        if condition.op != "or":
            return condition
        table = condition.table
        left = [p for p in condition.args if not self._solver.follows(known, table.not_(p))]
        return table.or_(*left)

    def _take(self, condition: Any, decision: Decision) -> None:
        """Record a branch that the types leave open."""
        taken = (condition, decision.truth, str(decision))
        self.create_node("call_function", branch_taken, taken, {})

    def _settle_rank(self, kind: str, target: Any, args: Any, kwargs: Any) -> None:
        """Decide whether ``squeeze`` removes a dimension whose size may be 1 or not."""
        named = kind in ("call_function", "call_method")
        if self._decisions is None or not named or target not in _SQUEEZES or not args:
            return
        squeezed = args[0]
        shape = self._evaluate(squeezed) if isinstance(squeezed, Node) else UNKNOWN
        if not isinstance(shape, Shape):
            return
        given = args[1:] or tuple(kwargs.values())
        chosen = [d % len(shape) for d in given if isinstance(d, int) and -len(shape) <= d]
        known = self._known()
        for i, size in enumerate(shape):
            if not isinstance(size, Size) or (given and i not in chosen):
                continue
            larger = known.sizes.term(size) >= 2
            names = {symbol.name for symbol in larger.free_symbols}
            demands = [d.condition for d in known.sizes.demands]
            settled = any(
                self._solver.follows(demands, each) for each in (larger, larger.table.not_(larger))
            )
            if settled or not names <= known.names.terms.keys() or self._decisions.full:
                continue
            is_one = str(known.sizes.term(size).eq(1))
            place = here() or str(target)
            decision = self._decisions.next(OpenBranch(str(larger), is_one, place, implicit=True))
            self._take(str(larger), decision)
            self._evaluate(self.graph._root.prev)  # the sizes now know the condition

    def to_bool(self, obj: Proxy) -> bool:
        """Decide the condition of a branch.

        Raises:
            OpenBranchError: the condition holds for some of the inputs and not for others, or
                does not depend on sizes alone, and no plan decides it.
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
            return self._decide(obj.node, OpenBranch("", "", place, value=obj.node.name))
        demands = [d.condition for d in self._known().sizes.demands]
        table = value.condition.table
        for truth in (True, False):
            conclusion = value.condition if truth else table.not_(value.condition)
            if self._solver.follows(demands, conclusion):
                return truth
        branch = OpenBranch(
            str(from_two(value.condition)),
            str(from_two(table.not_(value.condition))),
            place,
            likely=value.condition.op != "eq",
        )
        return self._decide(obj.node, branch)

    def _decide(self, node: Node, branch: OpenBranch) -> bool:
        """The outcome of an open branch, by the plan of the path."""
        if self._decisions is None:
            raise branch.error()
        decision = self._decisions.next(branch)
        self._take(node, decision)
        return decision.truth

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

    def is_tensor(self, value: Proxy) -> bool:
        """Whether a traced value is known to be a tensor."""
        return isinstance(self._evaluate(value.node), Shape)

    def sample_of(self, value: Proxy) -> Any:
        """A value of the type that the traced value has when the program runs.

        An input of unknown shape counts as a tensor.
        """
        found = self._evaluate(value.node)
        if isinstance(found, Size):
            return 1
        if isinstance(found, OpenCondition):
            return True
        if isinstance(found, Fraction):
            return 0.5
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
    parameters = input_parameters(module)
    for name in types:
        if name not in parameters:
            raise GradualError(
                f"the model has no input {name!r}",
                fix=f"its inputs are {', '.join(parameters) or 'none'}",
            )
    tracer = BranchTracer(types, where, timeout)
    graph = tracer.trace(module)
    return GraphModule(tracer.root, graph, type(module).__name__)
