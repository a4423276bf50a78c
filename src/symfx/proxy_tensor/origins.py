"""What a trace notes of each node: the lines, the modules and the torch function that made it.

While the program runs, code objects and offsets are noted, which cost next to nothing to find. They
become text when the trace has ended, each line once.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import fx
from torch._ops import OpOverload
from torch.fx import traceback as fx_traceback

from symfx.proxy_tensor.modules import Entered, ModuleStack
from symfx.proxy_tensor.program_calls import CallsOfProgram, calls_of_program
from symfx.torch_bridge.modules import modules_of

__all__ = ["CALLS", "Origin", "OriginLog", "Origins", "write_lines"]

#: The calls that made a node, in its ``meta`` until they are text.
CALLS = "symfx_calls"
#: The frames of `Origins.mark`, of the tracer that calls it, and of what called the tracer.
_OWN_FRAMES = 3
_ORIGIN = (CALLS, "nn_module_stack", "torch_fn", "original_aten")

_T = TypeVar("_T")
#: The calls that made a node, the modules that were running, and ``torch_fn``; None if unknown.
Origin: TypeAlias = tuple[CallsOfProgram | None, dict[str, Any] | None, tuple[str, str] | None]


@dataclass
class OriginLog:
    """What happened in one call of a module, so that an equal call can have the same origins.

    Attributes:
        entered: the submodules that were entered, in order.
        functions: the torch functions that made nodes, in order, each with its ``torch_fn``.
        calls: the calls of the program up to the module.
        stack: the modules that were running at the call.
        last: the torch function that was entered last, and its ``torch_fn``.
        lines, stacks, named: the calls that led to nodes, the modules that were running, and the
            ``torch_fn``, each once.
        nodes: for each node its positions in those.
    """

    calls: CallsOfProgram | None
    stack: dict[str, Any]
    entered: list[Entered] = field(default_factory=list)
    functions: list[tuple[Any, tuple[str, str]]] = field(default_factory=list)
    last: tuple[Any, tuple[str, str] | None] = (None, None)
    lines: list[CallsOfProgram | None] = field(default_factory=list)
    stacks: list[dict[str, Any] | None] = field(default_factory=list)
    named: list[tuple[str, str] | None] = field(default_factory=list)
    nodes: list[tuple[int, int, int]] = field(default_factory=list)

    def of_nodes(self, nodes: list[fx.Node]) -> OriginLog:
        """The log, with the origins of these nodes."""
        metas = [node.meta for node in nodes]
        self.lines, lines = _each_once([meta.get(CALLS) for meta in metas])
        self.stacks, stacks = _each_once([meta.get("nn_module_stack") for meta in metas])
        self.named, named = _each_once([meta.get("torch_fn") for meta in metas])
        self.nodes = list(zip(lines, stacks, named, strict=True))
        return self


def _each_once(values: list[_T]) -> tuple[list[_T], list[int]]:
    """The values, each object once; and the position of each value among them."""
    found = {id(value): value for value in values}
    positions = {key: i for i, key in enumerate(found)}
    return list(found.values()), [positions[id(value)] for value in values]


class Origins:
    """Notes the origin of each node in its ``meta``, under the names that torch.export uses.

    ``stack_trace`` has the lines of the program and of the layers of torch that led to the node;
    ``nn_module_stack`` the modules that were running, outermost first; ``torch_fn`` the torch
    function that was called, and which call of it; ``original_aten`` the operator.

    Args:
        modules: the stack of running modules; None for a program that is no module.
        repeating: the context, of a tracer, in which blocks of the modules are not run again.
    """

    def __init__(
        self,
        modules: ModuleStack | None = None,
        repeating: Callable[
            [Any], contextlib.AbstractContextManager[None]
        ] = contextlib.nullcontext,
    ) -> None:
        self.modules = modules
        self.repeating = repeating
        self._function: Any = None
        self._calls: Counter[Any] = Counter()
        self._torch_fn: tuple[str, str] | None = None
        self.log: OriginLog | None = None
        self._last: CallsOfProgram | None = None

    def enter_function(self, function: Any) -> None:
        """Name the torch function that makes the nodes to come."""
        self._function = function
        self._torch_fn = None

    def mark(self, node: fx.Node) -> None:
        """Note the origin of a new node."""
        meta = node.meta
        earlier = fx_traceback.current_meta
        if CALLS in earlier:
            # A graph that the trace has made is run again node by node: the origins stay.
            meta.update({key: earlier[key] for key in _ORIGIN if key in earlier})
            return
        around = None
        modules = self.modules
        if modules is not None:
            around = modules.called
            meta["nn_module_stack"] = modules.snapshot()
        if self._function is not None:
            if self._torch_fn is None:
                self._torch_fn = self._named(self._function)
            meta["torch_fn"] = self._torch_fn
        if isinstance(node.target, OpOverload):
            meta["original_aten"] = node.target
        # The nodes of one call of an operator share the calls that led to it, and so their text.
        meta[CALLS] = self._last = calls_of_program(around, None, _OWN_FRAMES, self._last)

    def _named(self, function: Any) -> tuple[str, str]:
        """A function, and which of its calls that made nodes this is."""
        self._calls[function] += 1
        name = function.__name__
        named = f"{name}_{self._calls[function]}", f"{type(function).__name__}.{name}"
        if self.log is not None:
            self.log.functions.append((function, named))
        return named

    # -- calls that repeat another ---------------------------------------------------------------

    def is_running(self, module: torch.nn.Module) -> bool:
        """Whether a module is the innermost one that was called."""
        return self.modules is not None and self.modules.innermost is module

    @contextlib.contextmanager
    def logging(self) -> Iterator[OriginLog]:
        """Log what happens inside, in the call of the innermost module."""
        assert self.modules is not None
        self.log = log = OriginLog(self.modules.called, self.modules.snapshot())
        self.modules.entered = log.entered
        try:
            yield log
        finally:
            self.log = self.modules.entered = None
            log.last = self._function, self._torch_fn

    def repeat(self, log: OriginLog, modules: Mapping[int, torch.nn.Module]) -> list[Origin]:
        """The origins of the nodes of a call that repeats another.

        Args:
            log: the other call.
            modules: for the id of each module of the other call that of this call.
        """
        assert self.modules is not None
        stack = self.modules
        calls = {id(log.calls): stack.called}
        keys: dict[str, tuple[str, tuple[str, str]]] = {}
        for entered in log.entered:
            keys[entered.key] = stack.count(modules[id(entered.module)])
            calls[id(entered.calls)] = entered.calls.inside_of(calls[id(entered.calls.around)])
        functions = {id(named): self._named(function) for function, named in log.functions}
        self._function, last = log.last
        self._torch_fn = None if last is None else functions.get(id(last), last)
        outer = log.stack.keys()
        around = stack.snapshot()
        stacks = [
            around
            if running is None or running is log.stack
            else {**around, **dict(keys[key] for key in running if key not in outer)}
            for running in log.stacks
        ]
        lines = [
            None if line is None else line.inside_of(calls.get(id(line.around), line.around))
            for line in log.lines
        ]
        torch_fns = [functions.get(id(named), named) for named in log.named]
        return [(lines[i], stacks[j], torch_fns[k]) for i, j, k in log.nodes]


def write_lines(graph_module: fx.GraphModule) -> None:
    """Put the lines of all nodes of a graph, and of the graphs in it, into words."""
    for module in modules_of(graph_module):
        for node in module.graph.nodes if isinstance(module, fx.GraphModule) else ():
            calls: CallsOfProgram | None = node.meta.pop(CALLS, None)
            if calls is not None and (text := calls.text):
                node.meta["stack_trace"] = text
