"""`OptimizedModel`, the result of `symfx.optimize`, and `load`, which reads one from a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from symfx.errors import OptimizationError
from symfx.optimization.report import Report
from symfx.optimization.runtime.conv_kernels import has_bfloat16
from symfx.optimization.runtime.graph_functions import arrange_arguments
from symfx.optimization.saving import read_graph, write_graph

__all__ = ["NO_BFLOAT16", "Lowered", "OptimizedModel", "load"]

NO_BFLOAT16 = "this CPU has no instructions for bfloat16: computed in float32"


class OptimizedModel(nn.Module):
    """A faster model with the results of another. `symfx.optimize` and `load` make it.

    It is for inference: gradients with respect to its inputs are right, but the folded weights
    are not the parameters of the original.

    Attributes:
        graph_module: the graph that runs; None before the first use of a model that was made
            without example inputs.
        report: the rewrites, the parts left alone with the reasons, the checks and the times.
        dtype: the dtype of convolutions and matrix products, for a model from a file that names
            one for all of them.
    """

    graph_module: fx.GraphModule | None
    report: Report

    def __init__(
        self,
        graph_module: fx.GraphModule | None,
        report: Report,
        make: Callable[[tuple[Any, ...], dict[str, Any]], fx.GraphModule] | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.training = graph_module is not None and graph_module.training
        self.report = report
        self.dtype = dtype
        self._make = make

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The result of the original for these arguments.

        Raises:
            InputMismatchError: an argument is given that the example left at its default.
            OptimizationError: at the first use of a model that was made without example inputs,
                if the optimized model differs from the original.
        """
        if self.graph_module is None:
            if self._make is None:
                raise OptimizationError(
                    "this optimized model has no graph",
                    fix="call symfx.optimize again with the original model",
                )
            self.graph_module = self._make(args, kwargs)
            self._make = None
        if isinstance(args, fx.Proxy):  # torch.fx traces this model
            args, kwargs = self._arranged(args, kwargs), {}
        if self.dtype is None:
            return self.graph_module(*args, **kwargs)
        return Lowered(self.graph_module, self.dtype)(*args, **kwargs)

    def _arranged(self, args: fx.Proxy, kwargs: Any) -> tuple[Any, ...]:
        """The graph's arguments, taken from the proxies of ``*args`` and ``**kwargs``."""
        assert self.graph_module is not None
        parameters = [node for node in self.graph_module.graph.nodes if node.op == "placeholder"]
        names = tuple(str(node.target) for node in parameters)
        defaults = {str(node.target): node.args[0] for node in parameters if node.args}
        values: Any = arrange_arguments(args, kwargs, names, defaults)  # type: ignore[arg-type]
        return tuple(values[index] for index in range(len(names)))

    def save(self, path: str | Path) -> None:
        """Write the model to one file, which `symfx.optimization.load` reads.

        Args:
            path: the file, a safetensors file with the graph as JSON in its header. It contains
                no code.

        Raises:
            OptimizationError: a part of the model cannot be described as data, such as a module
                with hooks, or a module whose class is not torch's.
        """
        if self.graph_module is None:
            raise OptimizationError(
                "this model has not been optimized yet",
                fix="use it once, or give example inputs to symfx.optimize",
            )
        write_graph(self.graph_module, self.dtype, path)


def load(path: str | Path) -> OptimizedModel:
    """Read a model that `OptimizedModel.save` wrote.

    Where this machine's torch lacks an operator that the file names, the model computes the same
    by ordinary operators. The file need not be trusted: nothing in it is run, and this function
    raises no other error than the one below.

    Args:
        path: the file.

    Raises:
        OptimizationError: the file has another format or version, names a function or class that
            symfx does not know, or exceeds the limits of a file. The message says where in the
            file the fault is.

    Example:
        >>> import tempfile, torch, symfx
        >>> from symfx.optimization import load
        >>> fast = symfx.optimize(torch.nn.Linear(4, 3), torch.randn(2, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fast.save(f"{folder}/fast.safetensors")
        ...     again = load(f"{folder}/fast.safetensors")
        >>> x = torch.randn(5, 4)
        >>> torch.equal(again(x), fast(x))
        True
    """
    saved = read_graph(path)
    report = Report(notes=[f"read from {path}, written by symfx {saved.writer}"])
    dtype = saved.dtype
    if dtype is not None and not has_bfloat16():
        report.notes.append(NO_BFLOAT16)
        dtype = None
    return OptimizedModel(saved.module, report, dtype=dtype)


class Lowered(nn.Module):
    """Runs a module's convolutions and matrix products in a lower precision; results are float32.

    Args:
        module: the module.
        dtype: the lower precision.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module, self.dtype = module, dtype

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's results."""
        with torch.autocast("cpu", dtype=self.dtype):
            result = self.module(*args, **kwargs)
        return pytree.tree_map_only(
            Tensor, lambda t: t.float() if t.dtype is self.dtype else t, result
        )
