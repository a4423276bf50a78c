"""`optimize_for_inference`, with the configuration of passes of torch.fx's function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.fx import Tracer

from symfx.errors import OptimizationError
from symfx.optimization.graphs.capture import capture, check_module, copy_of
from symfx.optimization.graphs.surgery import clean
from symfx.optimization.passes.fold_layers import fold_affine
from symfx.optimization.passes.fuse import lower
from symfx.optimization.passes.inplace import settle_writes
from symfx.optimization.passes.simplify import drop_identities
from symfx.optimization.reference.first_use import FirstUse
from symfx.optimization.reference.mkldnn import MklSubgraph, layout_regions, use_mkl_length
from symfx.optimization.report import Report

__all__ = ["optimize_for_inference"]


def optimize_for_inference(
    model: nn.Module,
    pass_config: Mapping[str, Any] | None = None,
    tracer: type[Tracer] = Tracer,
) -> nn.Module:
    """Make a faster model with the same results, for inference on the CPU.

    Args:
        model: the model, normally in eval mode. It is never changed.
        pass_config: the passes to run; by default all. ``"conv_bn_fuse"``: fold batch
            normalization (True or False). ``"remove_dropout"``: remove inactive dropout (True or
            False). ``"mkldnn_layout_optimize"``: False, or a dictionary whose ``"heuristic"`` is
            called with each `MklSubgraph` that oneDNN could run, and returns whether it should.
        tracer: the class that traces the model.

    Returns:
        a `torch.fx.GraphModule`. It takes any batch and image size that the model takes. At its
        first use, a copy of the model runs too, and OptimizationError is raised if the results
        differ.

    Raises:
        OptimizationError: the configuration is not valid. (It is a `RuntimeError` too.)
        TracingError: the model cannot be copied.
    """
    check_module(model)
    folding, dropping, heuristic = _read(pass_config or {})
    report = Report()
    module = capture(copy_of(model), tracer, report)
    first_use = FirstUse(copy_of(model), report)
    settle_writes(module, report)
    if folding:
        fold_affine(module, report, norms_only=True)
    if dropping:
        drop_identities(module, report)
    module = clean(module)
    if heuristic is None:
        first_use.watch(module)
        return module
    with torch.no_grad():
        regions, origin = layout_regions(module)
        chosen = {
            origin[node]
            for region in regions
            if heuristic(region)
            for node in region.nodes
            if node in origin
        }
        module = lower(module, only=chosen, report=report)
    first_use.watch(module)
    return module


def _read(
    config: Mapping[str, Any],
) -> tuple[bool, bool, Callable[[MklSubgraph], bool] | None]:
    layout = config.get("mkldnn_layout_optimize", {"heuristic": use_mkl_length})
    heuristic: Callable[[MklSubgraph], bool] | None = None
    if layout is not False:
        if not isinstance(layout, Mapping):
            raise OptimizationError(
                f"mkldnn_layout_optimize config is not a dict but {layout!r}",
                where="pass_config",
                fix='write {"mkldnn_layout_optimize": {"heuristic": use_mkl_length}}, or False',
            )
        if "heuristic" not in layout:
            raise OptimizationError(
                "Heuristic not found in mkldnn_layout_optimize config",
                where="pass_config",
                fix='write {"mkldnn_layout_optimize": {"heuristic": use_mkl_length}}',
            )
        heuristic = layout["heuristic"]
    return (
        bool(config.get("conv_bn_fuse", True)),
        bool(config.get("remove_dropout", True)),
        heuristic,
    )
