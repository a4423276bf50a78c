"""Optimizing the parts of modules that are kept whole.

A module whose own forward cannot be traced still calls other modules. Each of them that can be
captured runs as an optimized graph instead, where it is called as in the example. The part keeps
its class, attributes and parameters, because the code around it may read them.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.errors import SymfxError
from symfx.optimization.checking import Trials, agree
from symfx.optimization.graphs.aliases import keeps_no_state
from symfx.optimization.graphs.arguments import Arguments, bind_arguments
from symfx.optimization.graphs.assumptions import runs_again
from symfx.optimization.graphs.capture import capture, copy_of
from symfx.optimization.graphs.effects import effect_of, is_plain
from symfx.optimization.graphs.whole_models import call_of_model, is_whole, model_of
from symfx.optimization.recorded_calls import RecordedCall, record_calls
from symfx.optimization.report import Report
from symfx.optimization.runtime.assumed import OtherAnswerError
from symfx.optimization.runtime.graph_functions import same_constant
from symfx.optimization.runtime.leaf_calls import Effect
from symfx.optimization.runtime.packed_layer import PackedLayer
from symfx.work import counted

__all__ = ["Rewrites", "Runner", "has_parts", "optimize_parts", "restore_idle_parts", "runners"]

#: The passes over the captured graph of a part; the arguments are those of the part's call.
Rewrites = Callable[[fx.GraphModule, Arguments, Report], fx.GraphModule]

_RUNNER = "_symfx_part"


class Part(nn.Module):
    """The base of the classes of optimized parts, beside the part's own class.

    The optimized graph runs where the call is like that of the example; elsewhere, and in train
    mode, the part's own forward does. The graph is no child of the part, because the part's own
    forward may run its children, as that of `torch.nn.Sequential` does.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the part."""
        runner: Runner | None = vars(self).get(_RUNNER)
        if runner is None or self.training or not runner.takes(args, kwargs):
            own: Any = super().forward
            return own(*args, **kwargs)
        try:
            return runner.module(*args, **kwargs)
        except OtherAnswerError:
            own = super().forward
            return own(*args, **kwargs)

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Any:
        """The modules of the part, and those of its graph."""
        memo = set() if memo is None else memo
        yield from super().named_modules(memo, prefix, remove_duplicate)
        if (runner := vars(self).get(_RUNNER)) is not None:
            yield from runner.named_modules(memo, f"{prefix}.{_RUNNER}", remove_duplicate)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if (runner := vars(self).get(_RUNNER)) is not None:
            runner._apply(fn, recurse)
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        vars(self)[_RUNNER] = None  # the graph holds weights that are computed from the old ones
        super()._load_from_state_dict(*args, **kwargs)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made by `_class_of`, and has no name that pickle could look up.
        state: Any = super().__reduce_ex__(protocol)
        return _new_part, (type(self).__bases__[1],), state[2]


class Runner(nn.Module):
    """The optimized graph of a part, and the calls that it takes.

    Args:
        module: the graph, or the one module that it calls.
        call: the part's call in the example.
    """

    def __init__(self, module: nn.Module, call: RecordedCall) -> None:
        super().__init__()
        self.module = module
        self._args = tuple(map(_like, call.args))
        self._kwargs = {name: _like(value) for name, value in call.kwargs.items()}

    def takes(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
        """Whether the part is called as in the example: with equal constants and the same types."""
        return (
            len(args) == len(self._args)
            and kwargs.keys() == self._kwargs.keys()
            and all(_fits(value, like) for value, like in zip(args, self._args, strict=True))
            and all(_fits(value, self._kwargs[name]) for name, value in kwargs.items())
        )


def _like(value: Any) -> tuple[type, Any]:
    """The type of an argument, and its value if it is a constant of the graph."""
    constant = value is None or isinstance(value, bool | str)
    return (Tensor if isinstance(value, Tensor) else type(value)), value if constant else None


def _fits(value: Any, like: tuple[type, Any]) -> bool:
    kind, constant = like
    if kind is Tensor:
        return isinstance(value, Tensor)
    return type(value) is kind and (constant is None or same_constant(value, constant))


_CLASSES: dict[type, type[nn.Module]] = {}


def _class_of(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of optimized parts of a class."""
    if kind not in _CLASSES:
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        _CLASSES[kind] = type(kind.__name__, (Part, kind), names)
    return _CLASSES[kind]


def _new_part(kind: type[nn.Module]) -> nn.Module:
    made: nn.Module = object.__new__(_class_of(kind))
    return made


def kept_whole(module: fx.GraphModule) -> Iterator[tuple[str, nn.Module]]:
    """The modules that a graph calls, of unknown effect and without hooks, by path."""
    modules = dict(module.named_modules())
    for node in module.graph.nodes:
        if node.op == "call_module" and effect_of(node, modules) is Effect.UNKNOWN:
            called = modules[str(node.target)]
            if not type(called).__module__.startswith("torch.nn.modules."):
                yield str(node.target), called


def has_parts(module: fx.GraphModule) -> bool:
    """Whether a graph calls modules that are kept whole and have submodules."""
    return any(next(called.children(), None) is not None for _, called in kept_whole(module))


def optimize_parts(
    module: fx.GraphModule,
    trials: Trials,
    tracer: type[fx.Tracer],
    rewrite: Rewrites,
    report: Report,
) -> int:
    """Optimize the submodules of the modules that a graph keeps whole.

    Args:
        module: the graph. Its modules that are kept whole are changed: pass a copy.
        trials: the runs of the model.
        tracer: the class that traces.
        rewrite: the passes over the graph of each part.
        report: gets the rewrites of the parts.

    Returns:
        the number of parts that are optimized.
    """
    work = _Work(module, trials, tracer, rewrite, report)
    for path, called in counted(list(kept_whole(module))):
        work.visit(path, called)
    return work.done


class _Work:
    """The optimization of the parts of one model; see `optimize_parts`."""

    def __init__(
        self,
        module: fx.GraphModule,
        trials: Trials,
        tracer: type[fx.Tracer],
        rewrite: Rewrites,
        report: Report,
    ) -> None:
        self.module, self.trials, self.tracer = module, trials, tracer
        self.rewrite, self.report = rewrite, report
        self.done = 0
        self._seen: set[nn.Module] = set()

    @functools.cached_property
    def calls(self) -> Mapping[str, RecordedCall]:
        """The calls of the submodules in the example."""
        recorded = self.module if self.trials.changes_nothing else copy_of(self.module)
        return record_calls(recorded, self.trials.args, self.trials.kwargs)

    def descend(self, path: str, owner: nn.Module) -> None:
        """Optimize the submodules of a module that is kept whole."""
        for name, child in counted(list(owner.named_children())):
            if child in self._seen:
                continue
            self.visit(f"{path}.{name}", child)

    def visit(self, path: str, part: nn.Module) -> None:
        """Optimize a module, or else the submodules of it."""
        self._seen.add(part)
        if not self._optimize(path, part):
            self.descend(path, part)

    def _optimize(self, path: str, part: nn.Module) -> bool:
        """Optimize a part, if it can be captured; return whether it was captured."""
        if not is_plain(part) or isinstance(part, fx.GraphModule | Part):
            return False
        found = self._capture(path, part)
        if found is None:
            return False
        captured, call, report = found
        arguments = bind_arguments(part, call.args, call.kwargs)
        inner = [(f"{path}.{name}", module) for name, module in kept_whole(captured)]
        if inner:
            _ = self.calls  # they are recorded before the part changes
        graph = self.rewrite(captured, arguments, report)
        gains = any(isinstance(module, PackedLayer) for module in graph.modules()) or any(
            rewrite.what.startswith(("folded", "rms_norm", "layer_norm"))
            for rewrite in report.rewrites
        )
        if gains:
            self._install(path, part, graph, call, report)
        for below, module in counted(inner):
            if module not in self._seen:
                self.visit(below, module)
        return True

    def _capture(
        self, path: str, part: nn.Module
    ) -> tuple[fx.GraphModule, RecordedCall, Report] | None:
        """A graph that returns the results of the part, with the part's call in the example."""
        report, model = Report(), self.trials.part
        if model is not None and path == model_of(self.module)[0]:
            args, kwargs = call_of_model(self.module, self.trials.args, self.trials.kwargs)
            report.extend(model.report)
            graph = fx.GraphModule(part, copy.deepcopy(model.graph), type(part).__name__)
            return graph, RecordedCall(args, kwargs, torch.random.get_rng_state()), report
        call = self.calls.get(path)
        if call is None:
            return None
        try:
            arguments = bind_arguments(part, call.args, call.kwargs)
            captured = capture(part, self.tracer, report, arguments, assumes=True)
            if not runs_again(captured):
                report = Report()
                captured = capture(part, self.tracer, report, arguments)
        except SymfxError:
            return None
        if is_whole(captured):
            return None
        with call.same_draws():
            runnable = captured if keeps_no_state(captured) else copy_of(captured)
            if not agree(runnable, call.args, call.kwargs, call.result):
                return None
        return captured, call, report

    def _install(
        self, path: str, part: nn.Module, graph: fx.GraphModule, call: RecordedCall, report: Report
    ) -> None:
        module = _only_call(graph) or graph
        kind = type(part)
        try:
            part.__class__ = _class_of(kind)
        except TypeError:
            return  # a class whose instances cannot change theirs
        vars(part)[_RUNNER] = Runner(module, call)
        self.done += 1
        shown = path.removeprefix("call.").removeprefix("whole.")
        self.report.add_part(shown, report)


def _only_call(graph: fx.GraphModule) -> nn.Module | None:
    """The module of a graph that is one call with the graph's arguments; None for others."""
    *arguments, call, output = graph.graph.nodes
    plain = (
        call.op == "call_module"
        and all(node.op == "placeholder" for node in arguments)
        and call.args == tuple(arguments)
        and not call.kwargs
        and output.args == (call,)
    )
    return graph.get_submodule(str(call.target)) if plain else None


def runners(module: nn.Module) -> list[Runner]:
    """The optimized graphs of the parts of a model."""
    found = [vars(part).get(_RUNNER) for part in module.modules() if isinstance(part, Part)]
    return [runner for runner in found if runner is not None]


def restore_idle_parts(module: nn.Module) -> None:
    """Let the parts run their own forward that are a layer for which no faster way was found."""
    for part in list(module.modules()):
        if isinstance(part, Part):
            runner = vars(part)[_RUNNER]
            layer = getattr(runner, "module", None)
            alone = isinstance(layer, PackedLayer) and layer.post.name == "none"
            if alone and not getattr(layer, "ways", None) and isinstance(part, nn.Linear):
                del vars(part)[_RUNNER]
                part.__class__ = type(part).__bases__[1]
