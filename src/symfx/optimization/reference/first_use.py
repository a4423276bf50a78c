"""`FirstUse`, the check of `optimize_for_inference`, which runs when the result is first used."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from symfx.errors import OptimizationError
from symfx.optimization.checking import Trials, leaves
from symfx.optimization.graphs.aliases import keeps_no_state
from symfx.optimization.graphs.capture import copy_of
from symfx.optimization.report import Report

__all__ = ["FirstUse"]


class FirstUse:
    """A forward pre-hook that checks a model at its first use, and then removes itself.

    Args:
        original: the model to compare with; a copy of the user's, since it is run.
        report: gets the checks.
    """

    def __init__(self, original: nn.Module, report: Report) -> None:
        self.original, self.report = original, report

    symfx_transparent = True  # the hook changes no value: see `effects.is_plain`

    def watch(self, module: nn.Module) -> None:
        """Check this module, and each copy of it, at its first use."""
        module.register_forward_pre_hook(self, with_kwargs=True)
        if isinstance(module, fx.GraphModule):  # its copies have no hooks otherwise
            module._deepcopy_hooks.append(self.watch)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Check the module on these arguments.

        Raises:
            OptimizationError: the module differs from the original. The hook then stays, and
                raises again at each use.
        """
        tensors = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if not tensors or any(type(t) not in (Tensor, nn.Parameter) for t in tensors):
            return  # a tracer calls the module: there are no numbers to compare yet
        if (
            torch.compiler.is_compiling()
            or torch._C._functorch.peek_interpreter_stack() is not None
        ):
            return
        # The hook is found by identity: this module may be a copy of the one of `watch`.
        for key in [k for k, hook in module._forward_pre_hooks.items() if hook is self]:
            del module._forward_pre_hooks[key]
            module._forward_pre_hooks_with_kwargs.pop(key, None)
        if isinstance(module, fx.GraphModule):
            module._deepcopy_hooks[:] = [h for h in module._deepcopy_hooks if h != self.watch]
        try:
            self.report.checks.clear()
            with torch.no_grad():
                trials = Trials(self.original, args, kwargs)
                trials.check(_copy_if_needed(module), self.report)
        except OptimizationError:
            self.watch(module)
            raise


def _copy_if_needed(module: nn.Module) -> nn.Module:
    """The module, or a copy if a run may change it."""
    graph = isinstance(module, fx.GraphModule) and keeps_no_state(module)
    return module if graph else copy_of(module)
